//! Tokens on routes: who is let in, what clients are told, what services are told.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::harness::{
    Gateway, Reply, Upstream,
    issuer::{SECRET, token, token_with},
    now_unix, ok,
};

/// An issuer `test` by a secret, with `more` in its table.
fn auth(more: &str) -> String {
    format!("[auth.main]\nissuer = \"test\"\naudience = false\nsecret = \"{SECRET}\"\n{more}\n")
}

fn get(gateway: &Gateway, path: &str, headers: &str) -> Reply {
    gateway.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n"))
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// A service that says nothing, and a gateway with one route to it, `/`, with `route` in its table.
fn setting(more: &str, route: &str) -> (Upstream, Gateway) {
    let service = Upstream::replying(ok("hello"));
    let routes = format!("[routes]\n\"/\" = {{ to = \"http://{service}\", {route} }}\n");
    let gateway = Gateway::start(format!("shards = 1\n{}{routes}", auth(more)));
    (service, gateway)
}

#[test]
fn a_request_without_a_good_token_is_told_what_is_wanted() {
    let (service, gateway) = setting("", "auth = \"main\"");
    let check = |headers: &str, status: u16, why: &str, challenge: &str| {
        let reply = get(&gateway, "/", headers);
        assert_eq!((reply.status, reply.header("WWW-Authenticate")), (status, Some(challenge)), "{headers}");
        assert_eq!(reply.header("Content-Type"), Some("application/problem+json"));
        let sample = format!("coregate_auth_rejects_total{{auth=\"main\",reason=\"{why}\"}}");
        assert!(gateway.counter(&sample) >= 1, "{sample}");
        gateway.log_line(&format!("\"why\":\"{why}\""));
    };
    let wrong =
        |text: &str| format!("Bearer realm=\"main\", error=\"invalid_token\", error_description=\"{text}\"");
    let missing = "Bearer realm=\"main\"";
    check("", 401, "token_missing", missing);
    check("Authorization: Basic YTpi\r\n", 401, "token_missing", missing);
    check(&bearer("x"), 401, "jwt_malformed", &wrong("The token is not a signed JWT in compact form"));
    let late = token_with(&format!(r#""iss":"test","exp":{}"#, now_unix() - 60));
    check(&bearer(&late), 401, "jwt_expired", &wrong("The token has expired"));
    let other = token("").replace("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "eyJhbGciOiJub25lIn0");
    check(&bearer(&other), 401, "jwt_algorithm", &wrong("The token's algorithm is not accepted"));
    let mut forged = token("");
    forged.replace_range(forged.len() - 4.., "AAAA");
    check(&bearer(&forged), 401, "jwt_signature", &wrong("The token's signature is wrong"));
    let twice = format!("{}{}", bearer(&token("")), bearer(&token("")));
    let two = "Bearer realm=\"main\", error=\"invalid_request\", error_description=\"The request has more than one token\"";
    check(&twice, 400, "jwt_malformed", two);
    assert_eq!(service.lines(), [""; 0], "nothing of this reached the service");

    assert_eq!(get(&gateway, "/", &bearer(&token(""))).status, 200);
    let log = gateway.log().join("\n");
    assert!(!log.contains("eyJ"), "a token in the log: {log}");
}

#[test]
fn roles_scopes_and_claims_decide() {
    let rules = [
        ("/all/", r#"roles = ["user", "editor"]"#),
        ("/any/", r#"any_role = ["admin", "editor"]"#),
        ("/scope/", r#"scopes = ["read", "write"]"#),
        ("/claim/", "claims = { tenant = [\"acme\", \"umbrella\"], paid = true }"),
    ];
    let routes: String = rules
        .iter()
        .map(|(path, rule)| {
            format!("\"{path}\" = {{ status = 200, body = \"in\", auth = \"main\", {rule} }}\n")
        })
        .collect();
    let gateway = Gateway::start(format!("{}[routes]\n{routes}", auth("")));
    let check = |path: &str, claims: &str, expected: u16| {
        let reply = get(&gateway, path, &bearer(&token(claims)));
        assert_eq!(reply.status, expected, "{path} {claims}");
        if expected == 403 {
            let challenge = reply.header("WWW-Authenticate").expect("a challenge");
            assert!(challenge.contains("error=\"insufficient_scope\""), "{challenge}");
        }
    };
    check("/all/", r#","roles":["editor","user","x"]"#, 200);
    check("/all/", r#","roles":["user"]"#, 403);
    check("/all/", "", 403);
    check("/any/", r#","roles":"editor"#.replace("editor", "editor\"").as_str(), 200);
    check("/any/", r#","roles":["user"]"#, 403);
    check("/scope/", r#","scope":"write read""#, 200);
    check("/scope/", r#","scope":"write""#, 403);
    check("/claim/", r#","tenant":"acme","paid":true"#, 200);
    check("/claim/", r#","tenant":"acme","paid":"true""#, 403);
    check("/claim/", r#","tenant":"ac""#, 403);
    assert_eq!(get(&gateway, "/all/", "").status, 401);
}

#[test]
fn services_learn_who_asks_and_believe_nobody_else() {
    let more = "headers = { X-User = \"sub\", X-Roles = \"roles\", X-Tenant = \"org.tenant\" }\nidentity = \"header\"";
    let service = Upstream::replying(ok("hello"));
    let gateway = Gateway::start(format!(
        "shards = 1\n{}[routes]\n\"/\" = {{ to = \"http://{service}\", auth = \"main\", optional = true }}\n\
         \"/open/\" = {{ to = \"http://{service}\" }}\n",
        auth(more)
    ));
    let forged = "X-User: root\r\nx_user: root\r\nX_Roles: admin\r\nX-Identity: e30\r\nX-Tenant: t\r\nX-Other: kept\r\n";
    for path in ["/open/", "/"] {
        assert_eq!(get(&gateway, path, forged).status, 200);
        let request = service.request();
        for name in ["X-User", "X_User", "X-Roles", "X_Roles", "X-Identity", "X-Tenant"] {
            assert_eq!(request.header(name), None, "{path} {name}");
        }
        assert_eq!(request.header("X-Other"), Some("kept"));
        service.forget();
    }
    let claims = r#","sub":"alice","roles":["a","b,c"],"org":{"tenant":"t\r\nX-Evil: 1"}"#;
    let token = token(claims);
    let connection = format!("Connection: X-User, X-Identity\r\n{forged}{}", bearer(&token));
    assert_eq!(get(&gateway, "/", &connection).status, 200);
    let request = service.request();
    assert_eq!(request.headers.all("X-User"), ["alice"]);
    assert_eq!(request.headers.all("X-Roles"), ["a,b%2Cc"]);
    assert_eq!(request.headers.all("X-Tenant"), ["t%0D%0AX-Evil: 1"]);
    assert_eq!(request.header("X-Evil"), None);
    let identity =
        URL_SAFE_NO_PAD.decode(request.header("X-Identity").expect("all claims")).expect("base64url");
    assert!(String::from_utf8(identity).expect("JSON").contains(claims));
    assert_eq!(request.header("Authorization"), Some(&*format!("Bearer {token}")), "passed on");
    gateway.log_line("\"user\":\"alice\"");

    // A wrong token is wrong, also where none is wanted.
    assert_eq!(get(&gateway, "/", &bearer("x")).status, 401);
}

#[test]
fn a_token_is_looked_for_where_the_issuer_says_and_stripped_if_it_says_so() {
    let from = "from = [\"header:Authorization\", \"cookie:session\", \"header:X-Token\"]\ntoken = \"strip\"";
    let (service, gateway) = setting(from, "auth = \"main\"");
    let token = token("");
    let check = |headers: &str, left: &[(&str, Option<&str>)]| {
        assert_eq!(get(&gateway, "/", headers).status, 200, "{headers}");
        let request = service.request();
        for (name, value) in left {
            assert_eq!(request.header(name), *value, "{headers}");
        }
        service.forget();
    };
    check(
        &format!("X-A: 1\r\n{}X-B: 2\r\n", bearer(&token)),
        &[("Authorization", None), ("X-A", Some("1")), ("X-B", Some("2"))],
    );
    check(&format!("Cookie: a=1; session={token}; b=2\r\n"), &[("Cookie", Some("a=1; b=2"))]);
    check(&format!("Cookie: session={token}\r\n"), &[("Cookie", None)]);
    check(&format!("X-Token: {token}\r\n"), &[("X-Token", None)]);
    check(
        &format!("x-token: Bearer {token}\r\nAuthorization: Basic YTpi\r\n"),
        &[("X-Token", None), ("Authorization", Some("Basic YTpi"))],
    );
}

#[test]
fn claims_go_into_templates() {
    let service = Upstream::replying(ok("hello"));
    let gateway = Gateway::start(format!(
        "{}[routes]\n\"/me\" = {{ to = \"http://{service}\", auth = \"main\", rewrite = \"/users/{{jwt.sub}}?t={{jwt.org.tenant}}&r={{jwt.roles}}\" }}\n\
         \"/hi\" = {{ body = \"hi {{jwt.sub}}\", auth = \"main\", optional = true }}\n",
        auth("")
    ));
    let headers = bearer(&token(r#","sub":"a/b?c","org":{"tenant":"x&y=1"},"roles":["r1","r2"]"#));
    assert_eq!(get(&gateway, "/me", &headers).status, 200);
    assert_eq!(service.request().line(), "GET /users/a%2Fb%3Fc?t=x%26y%3D1&r=r1,r2");
    assert_eq!(get(&gateway, "/hi", &headers).text(), "hi a/b?c");
    assert_eq!(get(&gateway, "/hi", "").text(), "hi ");
}

#[test]
fn a_prefix_without_its_slash_is_protected_too() {
    let gateway = Gateway::start(format!(
        "{}[routes]\n\"/admin/\" = {{ body = \"in\", auth = \"main\" }}\n\"/\" = {{ body = \"open\" }}\n",
        auth("")
    ));
    assert_eq!(gateway.get("/admin").status, 401);
    assert_eq!(get(&gateway, "/admin", &bearer(&token(""))).status, 308);
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn a_connection_outlives_a_refusal() {
    let (_service, gateway) = setting("", "auth = \"main\"");
    let mut client = gateway.client();
    for _ in 0..3 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(client.reply().status, 401);
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", bearer(&token(""))));
        assert_eq!(client.reply().status, 200);
    }
}

#[test]
fn a_token_that_was_seen_is_known_until_the_terms_change() {
    let text = |more: &str, role: &str| {
        format!(
            "shards = 1\n{}[routes]\n\"/\" = {{ body = \"in\", auth = \"main\", roles = [\"{role}\"] }}\n",
            auth(more)
        )
    };
    let gateway = Gateway::start(text("", "a"));
    let known = || gateway.counter("coregate_auth_tokens_known_total");
    let verified = || gateway.counter("coregate_auth_tokens_verified_total");
    let headers = bearer(&token(r#","roles":["a"],"groups":["b"]"#));
    for _ in 0..5 {
        assert_eq!(get(&gateway, "/", &headers).status, 200);
    }
    assert_eq!((known(), verified()), (4, 1));
    assert_eq!(gateway.counter("coregate_auth_tokens"), 1);

    // Another rule of the route does not make it unknown, another term of the issuer does.
    gateway.reload(text("", "b")).expect("a good configuration");
    assert_eq!(get(&gateway, "/", &headers).status, 403);
    assert_eq!((known(), verified()), (5, 1));
    gateway.reload(text("roles_claim = \"groups\"", "b")).expect("a good configuration");
    assert_eq!(get(&gateway, "/", &headers).status, 200);
    assert_eq!((known(), verified()), (5, 2));
    gateway.reload(text("", "b").replace(SECRET, &SECRET.replace('0', "1"))).expect("a good configuration");
    assert_eq!(get(&gateway, "/", &headers).status, 401);
}
