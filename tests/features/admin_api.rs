//! The admin port: what everybody may read there, and what needs the token or the socket.

use std::{fs, io::Write, os::unix::net::UnixStream};

use crate::harness::{Client, Directory, Gateway, Reply};

const SITE: &str = "[auth.local]\nissuer = \"https://gate.test/\"\naudience = \"api\"\ndatabase = \"sqlite:users.db\"\n\
    passwords = { memory = \"8KiB\", passes = 1 }\n[routes]\n\"/\" = { body = \"me\", auth = \"local\" }\n";

fn gateway(state: &Directory) -> Gateway {
    Gateway::start(format!("state = {:?}\n{SITE}", state.path()))
}

fn ask(gateway: &Gateway, line: &str, headers: &str, body: &str) -> Reply {
    let length = body.len();
    let request =
        format!("{line} HTTP/1.1\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    Client::connect(gateway.admin()).send(request).reply()
}

fn login(gateway: &Gateway, password: &str) -> u16 {
    let body = format!("username=ann&password={password}");
    let head = "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length:";
    gateway.send(format!("{head} {}\r\n\r\n{body}", body.len())).status
}

#[test]
fn a_page_of_somebody_else_gets_nothing_and_monitoring_everything() {
    let state = Directory::new();
    let gateway = gateway(&state);
    let check = |path: &str, host: &str, expected: u16| {
        let reply = ask(&gateway, &format!("GET {path}"), &format!("Host: {host}\r\n"), "");
        assert_eq!(reply.status, expected, "{path} {host}");
    };
    for host in ["localhost:9180", "127.0.0.1", "[::1]:9180", "gate.internal"] {
        check("/metrics", host, 200);
        check("/healthz", host, 200);
    }
    check("/", "localhost", 200);
    check("/", "rebound.example.com", 421);
    check("/api/v1/users", "rebound.example.com", 421);
    check("/api/v1/users", "localhost", 401);
}

#[test]
fn who_has_the_token_or_the_socket_manages_users() {
    let state = Directory::new();
    let gateway = gateway(&state);
    let token = fs::read_to_string(state.path().join("admin.token")).expect("it is made at the start");
    let headers = format!("Host: localhost\r\nAuthorization: Bearer {}\r\n", token.trim());
    let api = |line: &str, body: &str| ask(&gateway, line, &headers, body);

    let user = r#"{"name":"ann","password":"correct-horse","roles":["admin"]}"#;
    assert_eq!(api("POST /api/v1/users", user).status, 201);
    assert_eq!(api("POST /api/v1/users", user).status, 409);
    assert_eq!(api("POST /api/v1/users", r#"{"name":"bob","password":"short"}"#).status, 400);
    assert_eq!(login(&gateway, "correct-horse"), 200);
    let shown = api("GET /api/v1/users/ann", "");
    assert!(
        shown.text().starts_with(r#"{"created":"#) && !shown.text().contains("argon2"),
        "{}",
        shown.text()
    );

    assert_eq!(api("PATCH /api/v1/users/ann", r#"{"disabled":true}"#).status, 204);
    assert_eq!(login(&gateway, "correct-horse"), 401);
    assert_eq!(
        api("PATCH /api/v1/users/ann", r#"{"disabled":false,"password":"another-horse"}"#).status,
        204
    );
    assert_eq!(login(&gateway, "another-horse"), 200);
    assert_eq!(api("PATCH /api/v1/users/bob", r#"{"disabled":true}"#).status, 404);
    assert_eq!(api("POST /api/v1/users/ann/logout", "").status, 204);

    let wrong = ask(&gateway, "GET /api/v1/users", "Host: localhost\r\nAuthorization: Bearer x\r\n", "");
    assert_eq!((wrong.status, wrong.header("WWW-Authenticate")), (401, Some("Bearer")));

    let mut socket = UnixStream::connect(state.path().join("admin.sock")).expect("it is made at the start");
    socket.write_all(b"GET /api/v1/users HTTP/1.0\r\n\r\n").expect("it is connected");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut socket, &mut text).expect("an answer");
    assert!(text.starts_with("HTTP/1.0 200") && text.contains(r#""name":"ann""#), "{text}");
}
