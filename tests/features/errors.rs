//! What an error looks like: for programs, for people, and what it never says.

use crate::harness::{Gateway, Reply, Upstream};

fn error(accept: &str) -> Reply {
    let gateway = Gateway::start("[routes]\n\"/a\" = { status = 200, body = \"x\" }\n");
    let accept = if accept.is_empty() { String::new() } else { format!("Accept: {accept}\r\n") };
    gateway.send(format!("GET /none HTTP/1.1\r\nHost: x\r\n{accept}\r\n"))
}

#[test]
fn programs_get_a_problem_document() {
    for accept in [
        "",
        "*/*",
        "application/json",
        "application/problem+json",
        "text/plain",
        "application/json, text/html;q=0.5",
    ] {
        let reply = error(accept);
        assert_eq!(reply.status, 404);
        assert_eq!(reply.header("content-type"), Some("application/problem+json"), "{accept}");
        let problem: serde_json::Value = serde_json::from_slice(&reply.body).expect("it is JSON");
        assert_eq!(problem["status"], 404);
        assert!(problem["title"].as_str().is_some_and(|title| !title.is_empty()), "{problem}");
        assert!(
            reply.text().contains(reply.header("x-request-id").expect("every reply has one")),
            "{problem}"
        );
    }
}

#[test]
fn browsers_get_a_page() {
    for accept in
        ["text/html", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"]
    {
        let reply = error(accept);
        assert!(reply.header("content-type").is_some_and(|kind| kind.starts_with("text/html")), "{reply:?}");
        assert!(reply.text().contains("404") && reply.text().contains("<"), "{}", reply.text());
        assert!(reply.text().contains(reply.header("x-request-id").expect("every reply has one")));
    }
}

#[test]
fn nothing_of_a_request_is_markup_in_its_error() {
    let gateway = Gateway::start("[routes]\n\"/a\" = { status = 200, body = \"x\" }\n");
    let reply = gateway.send(concat!(
        "GET /<script>alert(1)</script>?<b> HTTP/1.1\r\nHost: x\r\n",
        "X-Request-Id: <script>alert(2)</script>\r\nAccept: text/html\r\n\r\n",
    ));
    assert!([400, 404].contains(&reply.status));
    assert!(!reply.text().contains("<script"), "{}", reply.text());
    let reply = gateway
        .send("GET /none HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\"b\\c\r\nAccept: application/json\r\n\r\n");
    drop(serde_json::from_slice::<serde_json::Value>(&reply.body).expect("it is JSON whatever the id"));
}

#[test]
fn an_error_never_names_an_internal_address() {
    for upstream in [Upstream::refusing(), Upstream::resetting(), Upstream::replying_once("garbage\r\n\r\n")]
    {
        let gateway = Gateway::start(format!(
            "[services]\nsecret = \"http://{upstream}\"\n[routes]\n\"/\" = \"secret\"\n"
        ));
        for accept in ["application/json", "text/html"] {
            let reply = gateway.send(format!("GET / HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n"));
            assert_eq!(reply.status, 502);
            let whole = format!("{:?} {}", reply.headers, reply.text());
            assert!(
                !whole.contains(&upstream.address().port().to_string()) && !whole.contains("secret"),
                "{whole}"
            );
        }
    }
}

#[test]
fn an_error_is_not_stored_by_caches() {
    let upstream = Upstream::refusing();
    let gateway = Gateway::start(format!("[routes]\n\"/\" = \"http://{upstream}\"\n"));
    let reply = gateway.get("/");
    assert_eq!(reply.header("content-length"), Some(reply.body.len().to_string().as_str()));
    assert!(!reply.headers.has("transfer-encoding"));
}
