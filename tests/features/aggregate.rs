//! Several services, one document.

use crate::harness::{Gateway, Upstream, ok};

/// A route `/home/{id}` with these parts; `{A}`, `{B}`, `{C}` are the upstreams.
fn gateway(keys: &str, parts: &str, upstreams: &[&Upstream]) -> Gateway {
    let mut parts = parts.to_owned();
    let mut services = String::new();
    for (name, upstream) in ["a", "b", "c", "d"].iter().zip(upstreams) {
        services += &format!("{name} = \"http://{upstream}\"\n");
        parts = parts.replace(&format!("{{{}}}", name.to_uppercase()), &upstream.to_string());
    }
    Gateway::start(format!(
        "shards = 1\n[services]\n{services}\n[routes.\"/home/{{id}}\"]\n{keys}\n[routes.\"/home/{{id}}\".parts]\n{parts}\n"
    ))
}

#[track_caller]
fn check(keys: &str, parts: &str, upstreams: &[&Upstream], expected: &str) -> Gateway {
    let gateway = gateway(keys, parts, upstreams);
    let reply = gateway.get("/home/7");
    assert_eq!((reply.status, reply.text()), (200, expected));
    assert_eq!(reply.header("Content-Type"), Some("application/json"));
    assert_eq!(reply.header("Gateway-Completed"), Some("true"));
    gateway
}

#[test]
fn answers_go_under_their_names_in_the_order_of_the_configuration() {
    let user = Upstream::saying(" {\"id\": 12345678901234567890, \"n\": 1e400} ");
    let orders = Upstream::saying("[ ]");
    let gateway = check(
        "",
        "user = \"a/users/{id}?full=1\"\norders = { to = \"b\", path = \"/orders\", query = { user = \"{id}\", n = 3 } }",
        &[&user, &orders],
        "{\"user\":{\"id\": 12345678901234567890, \"n\": 1e400},\"orders\":[ ]}",
    );
    assert_eq!(user.lines(), ["GET /users/7?full=1"]);
    assert_eq!(orders.lines(), ["GET /orders?user=7&n=3"]);
    for _ in 0..3 {
        assert_eq!(gateway.get("/home/a%2Fb").status, 400);
        assert_eq!(gateway.get("/home/x%20y").status, 200);
    }
    assert_eq!(orders.lines().last().map(String::as_str), Some("GET /orders?user=x%20y&n=3"));
    assert_eq!(user.connections(), 1, "connections are kept");
}

#[test]
fn an_answer_starts_what_waits_for_it() {
    let user = Upstream::saying(r#"{"id":7,"cart":{"id":"c/1"},"friends":[{"id":1},{"id":2}]}"#);
    let other = Upstream::saying("true");
    check(
        "",
        "cart = \"b/carts/{user.cart.id}\"\nuser = { to = \"a\", path = \"/u\", at = false }\nfriends = \"b/f?ids={user.friends[*].id}\"",
        &[&user, &other],
        "{\"cart\":true,\"friends\":true}",
    );
    let mut lines = other.lines();
    lines.sort();
    assert_eq!(lines, ["GET /carts/c%2F1", "GET /f?ids=1,2"]);
}

#[test]
fn answers_at_the_root_are_merged() {
    let (one, two) = (Upstream::saying(r#"{"a":1,"b":2}"#), Upstream::saying(r#"{"b":3,"c":4}"#));
    let parts = "x = { to = \"a\", at = \".\" }\ny = { to = \"b\", at = \".\" }";
    check("", parts, &[&one, &two], r#"{"a":1,"b":3,"c":4}"#);
    check("conflict = \"first\"", parts, &[&one, &two], r#"{"a":1,"b":2,"c":4}"#);
    check("conflict = \"array\"", parts, &[&one, &two], r#"{"a":1,"b":[2,3],"c":4}"#);
    let gateway = gateway("conflict = \"error\"", parts, &[&one, &two]);
    assert_eq!(gateway.get("/home/7").status, 502);
}

#[test]
fn a_head_request_gets_the_head() {
    let one = Upstream::saying("{}");
    let gateway = gateway("", "x = \"a/\"", &[&one]);
    let reply = gateway.client().send("HEAD /home/7 HTTP/1.1\r\nHost: x\r\n\r\n").reply_to("HEAD");
    assert_eq!((reply.status, reply.header("Content-Length"), reply.text()), (200, Some("8"), ""));
}

#[test]
fn a_body_in_chunks_or_without_a_length_is_an_answer() {
    let chunked = Upstream::replying(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n2\r\n\":\r\n4\r\n[1,2\r\n2\r\n]}\r\n0\r\n\r\n",
    );
    let closing = Upstream::replying_once("HTTP/1.1 200 OK\r\n\r\n{\"b\":2}");
    let dripping = Upstream::start(|peer| {
        while peer.request().is_some() {
            peer.drip("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n\"0123\r\n1\r\n\"\r\n0\r\nX: y\r\n\r\n");
        }
    });
    let gateway = check(
        "",
        "x = \"a/\"\ny = \"b/\"\nz = \"c/\"",
        &[&chunked, &closing, &dripping],
        r#"{"x":{"a":[1,2]},"y":{"b":2},"z":"0123"}"#,
    );
    assert_eq!(gateway.get("/home/7").status, 200);
    assert_eq!((chunked.connections(), dripping.connections()), (1, 1));
}

#[test]
fn large_answers_are_passed_on_whole() {
    let body = |size: usize| format!("[{}1]", "1234567,".repeat(size / 8));
    let (small, large, huge) = (body(20_000), body(300_000), body(2_000_000));
    let upstreams = [Upstream::saying(&small), Upstream::saying(&large), Upstream::saying(&huge)];
    let chunked: String = huge.as_bytes().chunks(70_000).fold(String::new(), |out, chunk| {
        out + &format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk))
    });
    let chunked = Upstream::replying(format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}0\r\n\r\n"
    ));
    let [a, b, c] = &upstreams;
    let gateway = gateway("", "a = \"a/\"\nb = \"b/\"\nc = \"c/\"\nd = \"d/\"", &[a, b, c, &chunked]);
    for _ in 0..3 {
        let reply = gateway.get("/home/7");
        let expected = format!("{{\"a\":{small},\"b\":{large},\"c\":{huge},\"d\":{huge}}}");
        assert!(
            reply.status == 200 && reply.text() == expected,
            "{} {} bytes",
            reply.status,
            reply.body.len()
        );
    }
}

#[test]
fn header_fields_of_the_client_go_to_every_part_but_for_those_about_its_own_exchange() {
    let (one, two) = (Upstream::saying("1"), Upstream::saying("2"));
    let gateway = gateway(
        "",
        "x = \"a/\"\ny = { to = \"b\", headers = { X-Id = \"n{id}\", cookie = false, Accept = \"text/json\" } }",
        &[&one, &two],
    );
    let reply = gateway.send(
        "GET /home/7 HTTP/1.1\r\nHost: h\r\nCookie: c=1\r\nAuthorization: a\r\nIf-None-Match: *\r\nRange: bytes=0-1\r\n\
         Accept-Encoding: gzip\r\nAccept: text/html\r\nX-Id: theirs\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n",
    );
    assert_eq!(reply.status, 200);
    let (one, two) = (one.request(), two.request());
    let of = |request: &crate::harness::Request, name: &str| request.header(name).map(str::to_owned);
    for name in ["If-None-Match", "Range", "X-Hop"] {
        assert_eq!((of(&one, name), of(&two, name)), (None, None), "{name}");
    }
    assert_eq!((one.header("Cookie"), two.header("Cookie")), (Some("c=1"), None));
    assert_eq!((one.header("X-Id"), two.header("X-Id")), (Some("theirs"), Some("n7")));
    assert_eq!((one.header("Accept"), two.header("Accept")), (Some("application/json"), Some("text/json")));
    assert_eq!((one.header("Accept-Encoding"), one.header("Authorization")), (Some("identity"), Some("a")));
    assert_eq!(one.header("X-Forwarded-For"), Some("127.0.0.1"));
    assert_eq!(one.header("X-Request-Id"), two.header("X-Request-Id"));
}

#[test]
fn a_part_may_write() {
    let user = Upstream::saying(r#"{"id":7,"tags":["a"]}"#);
    let cart = Upstream::saying("null");
    check(
        "",
        "user = \"a/\"\ncart = { to = \"b\", method = \"POST\", body = { user = \"{user.id}\", text = \"u {user.id}\", tags = \"{user.tags}\", n = 1.5 } }",
        &[&user, &cart],
        r#"{"user":{"id":7,"tags":["a"]},"cart":null}"#,
    );
    let request = cart.request();
    assert_eq!(String::from_utf8_lossy(&request.body), r#"{"user":7,"text":"u 7","tags":["a"],"n":1.5}"#);
    assert_eq!(request.header("Content-Type"), Some("application/json"));
}

#[test]
fn identical_reads_in_one_request_are_sent_once() {
    let one = Upstream::saying(r#"{"a":1,"b":2}"#);
    check(
        "",
        "x = { to = \"a\", path = \"/s\", pick = \"a\" }\ny = { to = \"a\", path = \"/s\", pick = \"b\" }\nz = \"a/t\"",
        &[&one],
        r#"{"x":1,"y":2,"z":{"a":1,"b":2}}"#,
    );
    let mut lines = one.lines();
    lines.sort();
    assert_eq!(lines, ["GET /s", "GET /t"]);
}

#[test]
fn no_body_is_null() {
    let nothing = Upstream::replying("HTTP/1.1 204 No Content\r\n\r\n");
    let empty = Upstream::replying(ok(""));
    check(
        "",
        "x = \"a/\"\ny = \"b/\"\nz = { to = \"a\", path = \"/z\", at = \".\" }",
        &[&nothing, &empty],
        r#"{"x":null,"y":null}"#,
    );
}
