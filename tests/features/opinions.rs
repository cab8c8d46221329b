//! Real programs on the other side: nginx as a backend and as a second opinion, wrk as a load.

use crate::harness::{Client, Gateway, Nginx, Reply, Wrk};

#[test]
fn files_of_an_nginx_come_through_whole() {
    let nginx = Nginx::start("", "");
    let gateway = Gateway::start(format!("[routes]\n\"/\" = \"http://{nginx}\"\n"));
    for size in [0_u32, 1, 1_000, 65_536, 1_000_000, 5_000_000] {
        let content: Vec<u8> =
            (0..size).map(|number| number.to_le_bytes()[0].wrapping_add(number.to_le_bytes()[2])).collect();
        nginx.file("file", &content);
        let reply = gateway.get("/file");
        assert_eq!(reply.status, 200);
        assert!(reply.body == content, "{size} bytes");
    }
    assert_eq!(gateway.get("/missing").status, 404);
}

#[test]
fn ranges_and_conditions_are_the_backends_business() {
    let nginx = Nginx::start("", "");
    nginx.file("file", "0123456789");
    let gateway = Gateway::start(format!("[routes]\n\"/\" = \"http://{nginx}\"\n"));
    let reply = gateway.send("GET /file HTTP/1.1\r\nHost: x\r\nRange: bytes=2-4\r\n\r\n");
    assert_eq!(
        (reply.status, reply.text(), reply.header("content-range")),
        (206, "234", Some("bytes 2-4/10"))
    );
    let tag = gateway.get("/file").header("etag").expect("nginx tags files").to_owned();
    let reply = gateway.send(format!("GET /file HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}\r\n\r\n"));
    assert_eq!((reply.status, reply.body.len()), (304, 0));
}

/// What is the same however the two proxies spell it.
fn essence(reply: &Reply) -> (u16, Vec<u8>, Option<String>) {
    (reply.status, reply.body.clone(), reply.header("content-type").map(str::to_owned))
}

#[test]
fn a_plain_request_means_the_same_to_nginx() {
    let backend = Nginx::start(
        "",
        "location / { return 200 \"$request_method $request_uri $http_host $http_x_a $content_length\"; default_type text/plain; }\n\
         location /204 { return 204; } location /301 { return 301 http://elsewhere/; } location /500 { return 500 oops; }",
    );
    let ours = Gateway::start(format!("[routes]\n\"/\" = \"http://{backend}\"\n"));
    let theirs = Nginx::start(
        "",
        &format!(
            "location / {{ proxy_pass http://{backend}; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header Host $http_host; proxy_redirect off; }}"
        ),
    );
    for raw in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a/b?c=d HTTP/1.1\r\nHost: a.example:8080\r\nX-A: 1\r\n\r\n",
        "GET /a/../b//c/./d HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "DELETE /p HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /204 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /301 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /500 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://b/x HTTP/1.1\r\nHost: b\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        let mut reply = ours.send(raw);
        let other = Client::connect(theirs.address()).send(raw).reply();
        // nginx sends dots and doubled slashes on as they came; we send what was matched.
        if raw.contains("..") {
            assert!(reply.text().starts_with("GET /b/c/d "), "{}", reply.text());
            reply.body = other.body.clone();
        }
        assert_eq!(essence(&reply), essence(&other), "{raw:?}");
    }
}

#[test]
fn what_nginx_refuses_is_refused() {
    let backend = Nginx::start("", "location / { return 200 ok; }");
    let ours = Gateway::start(format!("[routes]\n\"/\" = \"http://{backend}\"\n"));
    let theirs =
        Nginx::start("", &format!("location / {{ proxy_pass http://{backend}; proxy_http_version 1.1; }}"));
    for raw in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /../../x%00 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX Y: 1\r\n\r\n",
    ] {
        let other = Client::connect(theirs.address()).send(raw).reply();
        assert!(other.status >= 400, "nginx takes {raw:?}");
        assert!(ours.send(raw).status >= 400, "{raw:?}");
    }
}

#[test]
fn a_load_is_served_without_an_error() {
    let nginx = Nginx::start("", "location / { return 200 hello; }");
    let gateway = Gateway::start(format!("[routes]\n\"/\" = \"http://{nginx}\"\n"));
    let report = Wrk::run(&format!("http://{}/", gateway.address()), 32, 2);
    assert!(report.requests > 100 && report.refused == 0 && report.broken == 0, "{report:?}");
}
