//! What the gateway adds to a request and to a reply.

use crate::harness::{Gateway, Request, Upstream};

#[track_caller]
fn sent(top: &str, route: &str, headers: &str) -> Request {
    let upstream = Upstream::saying("ok");
    let gateway =
        Gateway::start(format!("{top}\n[routes]\n\"/\" = {{ to = \"http://{upstream}\"{route} }}\n"));
    let reply = gateway.send(format!("GET / HTTP/1.1\r\nHost: api.example.com:8080\r\n{headers}\r\n"));
    assert_eq!(reply.status, 200);
    upstream.request()
}

#[test]
fn the_client_and_what_it_asked_for_are_passed_on() {
    let request = sent("", "", "");
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.header("x-forwarded-proto"), Some("http"));
    assert_eq!(request.header("x-forwarded-host"), Some("api.example.com:8080"));
    assert_eq!(request.header("host"), Some("api.example.com:8080"));
}

#[test]
fn what_a_stranger_says_about_itself_is_not_believed() {
    let lies = concat!(
        "X-Forwarded-For: 9.9.9.9\r\nx-forwarded-for: 8.8.8.8\r\nX-Forwarded-Proto: https\r\n",
        "X-Forwarded-Host: evil.example\r\nX-Real-IP: 9.9.9.9\r\nForwarded: for=9.9.9.9\r\n",
    );
    let request = sent("", "", lies);
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.header("x-forwarded-proto"), Some("http"));
    assert_eq!(request.header("x-forwarded-host"), Some("api.example.com:8080"));
    let request = sent("trusted_proxies = [\"10.0.0.0/8\"]", "", lies);
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn what_a_trusted_proxy_says_is_kept() {
    let said =
        "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: www.example.com\r\n";
    let request = sent("trusted_proxies = [\"127.0.0.0/8\"]", "", said);
    assert_eq!(request.header("x-forwarded-for"), Some("9.9.9.9, 127.0.0.1"));
    assert_eq!(request.header("x-forwarded-proto"), Some("https"));
    assert_eq!(request.header("x-forwarded-host"), Some("www.example.com"));
    let request = sent("trusted_proxies = [\"127.0.0.1\"]", "", "");
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.header("x-forwarded-proto"), Some("http"));
}

#[test]
fn a_header_spelled_with_underscores_does_not_stand_in_for_ours() {
    let request = sent("", "", "X_Forwarded_For: 9.9.9.9\r\nX_Forwarded_Proto: https\r\n");
    assert!(
        !request.headers.has("x_forwarded_for") && !request.headers.has("x_forwarded_proto"),
        "{:?}",
        request.headers
    );
}

#[test]
fn the_service_may_be_sent_its_own_name() {
    let upstream = Upstream::saying("ok");
    let gateway =
        Gateway::start(format!("[routes]\n\"/\" = {{ to = \"http://{upstream}\", host = \"upstream\" }}\n"));
    assert_eq!(gateway.get("/").status, 200);
    let request = upstream.request();
    assert_eq!(request.header("host"), Some(upstream.to_string().as_str()));
    assert_eq!(request.header("x-forwarded-host"), Some("test"));
}

#[test]
fn a_request_id_is_made_passed_on_and_echoed() {
    let upstream = Upstream::saying("ok");
    let gateway = Gateway::start(format!("[routes]\n\"/\" = \"http://{upstream}\"\n"));
    let mut seen = Vec::new();
    for _ in 0..3 {
        upstream.forget();
        let reply = gateway.get("/");
        let id = reply.header("x-request-id").expect("every reply has one").to_owned();
        assert_eq!(upstream.request().header("x-request-id"), Some(id.as_str()));
        assert_eq!((id.len(), id.matches('-').count(), id.as_bytes()[14]), (36, 4, b'7'), "a UUIDv7: {id}");
        assert!(!seen.contains(&id));
        seen.push(id);
    }
    for id in &seen {
        let made = u64::from_str_radix(&[&id[..8], &id[9..13]].concat(), 16).expect("hexadecimal digits");
        let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_millis();
        assert!(now.abs_diff(u128::from(made)) < 60_000, "a UUIDv7 begins with its time: {id}");
    }
}

#[test]
fn a_request_id_that_came_is_kept_when_it_is_plain() {
    let request = sent("", "", "X-Request-Id: abc-123\r\n");
    assert_eq!(request.header("x-request-id"), Some("abc-123"));
    let request = sent("", "", &format!("X-Request-Id: {}\r\n", "a".repeat(5_000)));
    assert!(
        request.header("x-request-id").is_some_and(|id| id.len() <= 256),
        "an id of any length is a way to fill logs"
    );
}

#[test]
fn a_reply_of_the_gateway_itself_has_a_request_id() {
    let gateway = Gateway::start("[routes]\n\"/a\" = { status = 200, body = \"x\" }\n");
    assert!(gateway.get("/a").headers.has("x-request-id"));
    let reply = gateway.send("GET /none HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\n\r\n");
    assert_eq!((reply.status, reply.header("x-request-id")), (404, Some("mine")));
}

#[test]
fn a_reply_says_no_more_than_the_service_did() {
    let upstream = Upstream::replying(
        "HTTP/1.1 200 OK\r\nServer: mine\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 2\r\n\r\nhi",
    );
    let gateway = Gateway::start(format!("[routes]\n\"/\" = \"http://{upstream}\"\n"));
    let reply = gateway.get("/");
    assert_eq!(reply.header("server"), Some("mine"));
    assert_eq!(reply.header("date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    assert!(!reply.headers.has("via"));
}

#[test]
fn a_reply_of_our_own_has_a_date() {
    let gateway = Gateway::start("[routes]\n\"/a\" = { status = 200, body = \"x\" }\n");
    for path in ["/a", "/none"] {
        let date = gateway.get(path).header("date").map(str::to_owned).expect("RFC 9110 §6.6.1");
        assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
    }
}
