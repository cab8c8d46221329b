//! Users log in, call, refresh and log out; nobody else does.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use coregate::{
    config::issuing::Database,
    control::accounts::store::{self, User},
};
use serde_json::Value;

use crate::harness::{Client, Coregate, Directory, Gateway, Postgres, Reply, wait_until};

/// Routes that want a token, and an issuer whose passwords cost little.
fn site(state: &Directory, database: &str, more: &str) -> String {
    let state = state.path().display();
    format!(
        "state = \"{state}\"\n[auth.local]\nissuer = \"https://gate.test/\"\naudience = \"api\"\ndatabase = \"{database}\"\npoll = \"100ms\"\n\
         {more}\n\
         [routes]\n\"/open\" = {{ body = \"open\" }}\n\"/private\" = {{ body = \"hello {{jwt.sub}}\", auth = \"local\" }}\n\
         \"/admin\" = {{ body = \"admin\", auth = \"local\", roles = [\"admin\"] }}\n"
    )
}

const CHEAP: &str = "passwords = { memory = \"8KiB\", passes = 1 }\nthrottle = \"1000/min per account\"";

/// A gateway with SQLite and the user `ann`, whose password is `correct horse`.
fn with_ann(more: &str) -> (Gateway, Directory) {
    let state = Directory::new();
    let text = site(&state, "sqlite:users.db", more);
    let gateway = Gateway::start(&text);
    add(&state, &text, "ann", "correct horse", &["admin"]);
    (gateway, state)
}

/// `coregate ARGUMENTS` with a configuration, and `input` on its standard input.
fn coregate(state: &Directory, text: &str, arguments: &[&str], input: &str) -> Output {
    let config = state.write("cli.toml", format!("listen = \":1\"\nadmin = false\n{text}"));
    let mut child = Command::new("timeout")
        .args(["--signal", "KILL", "20"])
        .arg(Coregate::binary())
        .args(arguments)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("coreutils are part of every Debian");
    // One that does not read it may have ended.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

#[track_caller]
fn run(state: &Directory, text: &str, arguments: &[&str], input: &str) -> String {
    let output = coregate(state, text, arguments, input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

#[track_caller]
fn add(state: &Directory, text: &str, name: &str, password: &str, roles: &[&str]) {
    let mut arguments = vec!["user", "add", name];
    roles.iter().for_each(|role| arguments.extend(["--role", *role]));
    run(state, text, &arguments, &format!("{password}\n"));
}

fn post(gateway: &Gateway, path: &str, headers: &str, body: &str) -> Reply {
    gateway.send(format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    ))
}

const JSON: &str = "Content-Type: application/json\r\n";

fn login(gateway: &Gateway, name: &str, password: &str) -> Reply {
    let body = serde_json::json!({ "username": name, "password": password });
    post(gateway, "/login", JSON, &body.to_string())
}

/// The tokens in a reply.
#[track_caller]
fn tokens(reply: &Reply) -> (String, String) {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let document: Value = serde_json::from_str(reply.text()).expect("JSON");
    assert_eq!((&document["token_type"], &document["expires_in"]), (&"Bearer".into(), &900.into()));
    let text = |name: &str| document[name].as_str().unwrap_or_default().to_owned();
    (text("access_token"), text("refresh_token"))
}

#[track_caller]
fn enter(gateway: &Gateway) -> (String, String) {
    tokens(&login(gateway, "ann", "correct horse"))
}

fn refresh(gateway: &Gateway, token: &str) -> Reply {
    post(gateway, "/refresh", JSON, &format!("{{\"refresh_token\":\"{token}\"}}"))
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// The status of a call with a token, the same on every shard: connections are spread over them.
#[track_caller]
fn call(gateway: &Gateway, token: &str) -> u16 {
    let request = format!("GET /private HTTP/1.1\r\nHost: test\r\n{}\r\n", bearer(token));
    let statuses: Vec<u16> = (0..8).map(|_| gateway.send(&request).status).collect();
    assert!(statuses.iter().all(|status| *status == statuses[0]), "{statuses:?}");
    statuses[0]
}

#[test]
fn a_user_logs_in_calls_and_logs_out() {
    let (gateway, _state) = with_ann(CHEAP);
    assert_eq!(gateway.get("/private").status, 401);
    let reply = login(&gateway, "ann", "correct horse");
    assert_eq!(reply.header("Cache-Control"), Some("no-store"));
    let (access, refresh_token) = tokens(&reply);
    let request = format!("GET /admin HTTP/1.1\r\nHost: test\r\n{}\r\n", bearer(&access));
    assert_eq!(gateway.send(request).text(), "admin");
    assert_eq!(call(&gateway, &access), 200);

    let out = post(&gateway, "/logout", &bearer(&access), "");
    assert_eq!(out.status, 204, "{}", out.text());
    assert_eq!(call(&gateway, &access), 401);
    assert_eq!(refresh(&gateway, &refresh_token).status, 401, "its family has ended");
    assert_eq!(call(&gateway, &enter(&gateway).0), 200, "and may come back");
}

#[test]
fn a_refresh_token_is_good_once_and_a_copy_ends_the_session() {
    let (gateway, _state) = with_ann(CHEAP);
    let (first, one) = enter(&gateway);
    let (bystander, _) = enter(&gateway);
    let (second, two) = tokens(&refresh(&gateway, &one));
    let (third, _) = tokens(&refresh(&gateway, &two));
    assert_eq!([&first, &second, &third].map(|token| call(&gateway, token)), [200; 3]);

    let reused = refresh(&gateway, &one);
    assert_eq!((reused.status, reused.header("Content-Type")), (401, Some("application/problem+json")));
    assert_eq!([&first, &second, &third].map(|token| call(&gateway, token)), [401; 3]);
    assert_eq!(call(&gateway, &bystander), 200);
    assert_eq!(gateway.counter("coregate_accounts_total{action=\"refresh\",result=\"reused\"}"), 1);
    assert!(!gateway.log().join("\n").contains(&one), "no token in the log");
}

#[test]
fn log_out_everywhere_ends_every_session_and_no_other_users() {
    let (gateway, state) = with_ann(CHEAP);
    add(&state, &site(&state, "sqlite:users.db", CHEAP), "bob", "another horse", &[]);
    let (one, _) = enter(&gateway);
    let (two, refresh_token) = enter(&gateway);
    let (bob, _) = tokens(&login(&gateway, "bob", "another horse"));
    let headers = format!("{JSON}{}", bearer(&one));
    assert_eq!(post(&gateway, "/logout", &headers, "{\"everywhere\":true}").status, 204);
    assert_eq!([&one, &two, &bob].map(|token| call(&gateway, token)), [401, 401, 200]);
    assert_eq!(refresh(&gateway, &refresh_token).status, 401);
    // At once, in the same second perhaps.
    assert_eq!(call(&gateway, &enter(&gateway).0), 200);
}

#[test]
fn a_login_is_json_or_a_form_and_its_answer_json_or_the_bare_token() {
    let (gateway, _state) = with_ann(CHEAP);
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    let body = "username=ann&password=correct+horse";
    tokens(&post(&gateway, "/login", form, body));
    let bare = post(&gateway, "/login", &format!("{form}Accept: text/plain\r\n"), body);
    assert_eq!(bare.header("Content-Type"), Some("text/plain; charset=utf-8"));
    assert_eq!(call(&gateway, bare.text()), 200);
    let chunked = format!(
        "POST /login HTTP/1.1\r\nHost: test\r\n{form}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    tokens(&gateway.send(chunked));

    let check = |headers: &str, body: &str, expected: u16| {
        let reply = post(&gateway, "/login", headers, body);
        assert_eq!(reply.status, expected, "{body}: {}", reply.text());
    };
    check("Content-Type: text/plain\r\n", body, 415);
    check(JSON, "{", 400);
    check(JSON, "{\"username\":\"ann\"}", 400);
    check(JSON, &format!("{{\"username\":\"ann\",\"x\":\"{}\"}}", "y".repeat(20_000)), 413);
    assert_eq!(gateway.get("/login").status, 405);
}

#[test]
fn who_has_no_password_gets_no_token_and_learns_nothing() {
    let (gateway, state) = with_ann(CHEAP);
    let text = site(&state, "sqlite:users.db", CHEAP);
    let wrong = login(&gateway, "ann", "wrong horse");
    assert_eq!((wrong.status, wrong.header("WWW-Authenticate")), (401, Some("Bearer")));
    let (token, _) = enter(&gateway);
    run(&state, &text, &["user", "disable", "ann"], "");
    wait_until("the session of a disabled user to end", || call_once(&gateway, &token) == 401);
    let without_id = |reply: &Reply| reply.text().split("\"request_id\"").next().map(str::to_owned);
    for name in ["ann", "nobody", "ann' --"] {
        let reply = login(&gateway, name, "correct horse");
        assert_eq!((reply.status, without_id(&reply)), (401, without_id(&wrong)), "{name}");
    }
    run(&state, &text, &["user", "enable", "ann"], "");
    run(&state, &text, &["user", "passwd", "ann"], "a new horse\n");
    assert_eq!(login(&gateway, "ann", "correct horse").status, 401);
    assert_eq!(login(&gateway, "ann", "a new horse").status, 200);
    assert_eq!(run(&state, &text, &["user", "list"], ""), "ann  admin\n");
    let line = gateway.log_line("login_refused");
    assert!(line.contains("\"status\":401") && !line.contains("horse"), "{line}");
}

fn call_once(gateway: &Gateway, token: &str) -> u16 {
    gateway.send(format!("GET /private HTTP/1.1\r\nHost: test\r\n{}\r\n", bearer(token))).status
}

#[test]
fn who_guesses_has_to_wait() {
    let cheap =
        "passwords = { memory = \"8KiB\", passes = 1 }\nthrottle = \"3/min per account, 5/min per ip\"";
    let (gateway, _state) = with_ann(cheap);
    for _ in 0..3 {
        assert_eq!(login(&gateway, "ann", "guess guess").status, 401);
    }
    let reply = login(&gateway, "ann", "correct horse");
    let seconds: u32 = reply.header("Retry-After").and_then(|text| text.parse().ok()).unwrap_or_default();
    assert!(reply.status == 429 && (1..=60).contains(&seconds), "{} {seconds}", reply.status);
    let unknown = [login(&gateway, "x", "guess guess").status, login(&gateway, "y", "guess guess").status];
    assert_eq!(unknown, [401; 2]);
    assert_eq!(login(&gateway, "z", "guess guess").status, 429, "the address has to wait, too");
}

#[test]
fn logins_beyond_the_queue_are_refused_at_once() {
    let dear = "passwords = { memory = \"64MiB\", passes = 3, threads = 1, queue = 1 }\nthrottle = false";
    let (gateway, _state) = with_ann(dear);
    let body = r#"{"username":"ann","password":"correct horse"}"#;
    let head = format!("POST /login HTTP/1.1\r\nHost: test\r\n{JSON}Content-Length: {}\r\n\r\n", body.len());
    let mut clients: Vec<Client> = (0..12).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send(format!("{head}{body}"));
    }
    let statuses: Vec<u16> = clients.iter_mut().map(|client| client.reply().status).collect();
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&200) && statuses.contains(&429), "{statuses:?}");
    assert_eq!(gateway.get("/open").status, 200);
}

#[test]
fn a_hash_of_another_program_is_replaced_at_the_first_login() {
    let (gateway, state) = with_ann(CHEAP);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let database = Database::Sqlite(state.path().join("users.db"));
    let store = runtime.block_on(store::open(&database, "i")).expect("it can be opened");
    let user = User {
        name: "old".to_owned(),
        password: "$2a$10$XajjQvNhvvRt5GSeFk1xFeyqRrsxkhBkUiQeg0dt.wU1qD4aFDcga".to_owned(),
        roles: Vec::new(),
        disabled: false,
        created: 0,
    };
    assert_eq!(runtime.block_on(store.add(user)), Ok(true));
    let hash = || runtime.block_on(store.user("old")).ok().flatten().map(|user| user.password);
    assert_eq!(login(&gateway, "old", "wrong").status, 401);
    assert!(hash().is_some_and(|hash| hash.starts_with("$2a$")));
    assert_eq!(login(&gateway, "old", "allmine").status, 200);
    assert!(hash().is_some_and(|hash| hash.starts_with("$argon2id$v=19$m=8,t=1,p=1$")));
    assert_eq!(login(&gateway, "old", "allmine").status, 200);
}

#[test]
fn keys_are_published_and_rotated_while_tokens_of_the_old_one_stay_good() {
    let (gateway, state) = with_ann(CHEAP);
    let text = site(&state, "sqlite:users.db", CHEAP);
    let kids = || -> Vec<String> {
        let reply = gateway.get("/.well-known/jwks.json");
        assert_eq!(reply.header("Cache-Control"), Some("public, max-age=300"));
        let set: Value = serde_json::from_str(reply.text()).expect("JSON");
        let keys = set["keys"].as_array().expect("a JWK Set");
        assert!(keys.iter().all(|key| key["kty"] == "OKP" && key.get("d").is_none()), "{set}");
        keys.iter().filter_map(|key| Some(key["kid"].as_str()?.to_owned())).collect()
    };
    let metadata = gateway.get("/.well-known/openid-configuration");
    let document: Value = serde_json::from_str(metadata.text()).expect("JSON");
    assert_eq!(document["jwks_uri"], "https://gate.test/.well-known/jwks.json");
    assert_eq!(document["login_endpoint"], "https://gate.test/login");

    let before = kids();
    let (old, _) = enter(&gateway);
    run(&state, &text, &["keys", "rotate", "--now"], "");
    wait_until("the new key to be published", || kids().len() == 2);
    let (new, _) = enter(&gateway);
    let header = |token: &str| token.split('.').next().map(str::to_owned);
    assert_ne!(header(&old), header(&new));
    assert_eq!([&old, &new].map(|token| call(&gateway, token)), [200; 2]);
    assert_eq!(kids()[0], before[0]);

    let minted = run(&state, &text, &["token", "mint", "--sub", "robot", "--role", "admin"], "");
    assert_eq!(call(&gateway, minted.trim()), 200);
    let out = post(&gateway, "/logout", &bearer(minted.trim()), "");
    assert_eq!(
        (out.status, call(&gateway, minted.trim())),
        (204, 401),
        "one without a session can be revoked"
    );
    let listed = run(&state, &text, &["keys", "list"], "");
    assert_eq!(listed.lines().count(), 2, "{listed}");
}

#[test]
fn a_forged_token_ends_nobodys_session() {
    let (gateway, _state) = with_ann(CHEAP);
    let (token, _) = enter(&gateway);
    let (message, signature) = token.rsplit_once('.').expect("three parts");
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{message}.{other}{}", &signature[1..]);
    for headers in [bearer(&forged), bearer("x.y.z"), bearer(""), String::new()] {
        assert_eq!(post(&gateway, "/logout", &headers, "").status, 401, "{headers}");
    }
    assert_eq!(call(&gateway, &token), 200);
}

/// Two gateways that share a database and keys, and what is left of it after a restart.
#[track_caller]
fn check_shared(database: &str) {
    let state = Directory::new();
    let text = site(&state, database, CHEAP);
    let (here, there) = (Gateway::start(&text), Gateway::start(&text));
    add(&state, &text, "ann", "correct horse", &[]);
    let (one, _) = enter(&here);
    let (two, refresh_token) = enter(&there);
    assert_eq!([call(&there, &one), call(&here, &two)], [200; 2]);

    assert_eq!(post(&here, "/logout", &bearer(&one), "").status, 204);
    assert_eq!(call(&here, &one), 401, "at once");
    wait_until("the other gateway to refuse it", || call_once(&there, &one) == 401);
    assert_eq!(call(&there, &one), 401);
    tokens(&refresh(&here, &refresh_token));

    drop((here, there));
    let again = Gateway::start(&text);
    assert_eq!([call(&again, &one), call(&again, &two)], [401, 200]);
}

#[test]
fn a_log_out_reaches_other_gateways_and_outlives_restarts() {
    check_shared("sqlite:users.db");
}

#[test]
fn a_log_out_reaches_other_gateways_over_postgresql() {
    let postgres = Postgres::start();
    check_shared(postgres.url());
}

#[test]
fn the_first_user_gets_a_password_that_is_shown_once() {
    let state = Directory::new();
    let first = format!("{CHEAP}\nfirst_user = {{ name = \"demo\", roles = [\"admin\"] }}");
    let text = site(&state, "sqlite:users.db", &first);
    let password = |text: &str| {
        let line = text.lines().find(|line| line.contains("user `demo` was made"))?;
        line.rsplit(' ').next().map(str::to_owned)
    };
    let mut coregate = Coregate::serving(&text, &[]);
    let shown = coregate.wait_for("the password", password);
    let body = format!("username=demo&password={shown}");
    let request = format!(
        "POST /login HTTP/1.1\r\nHost: test\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let login = |client: &mut Client| client.send(&request).reply().status;
    assert_eq!(login(&mut coregate.client()), 200);
    drop(coregate);
    let again = Coregate::serving(&text, &[]);
    assert_eq!(password(&again.printed()), None);
    assert_eq!(login(&mut again.client()), 200);
}

#[test]
fn without_its_database_a_gateway_serves_the_rest() {
    let state = Directory::new();
    let gateway = Gateway::start(site(&state, "postgres://nobody@127.0.0.1:1/x", CHEAP));
    assert_eq!(gateway.get("/open").status, 200);
    let reply = login(&gateway, "ann", "correct horse");
    assert_eq!((reply.status, reply.header("Retry-After")), (503, Some("5")));
    assert_eq!(gateway.get("/.well-known/jwks.json").status, 200);
}
