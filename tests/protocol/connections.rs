//! RFC 9112 §9: how long a connection lasts, and in which order it is answered.

use std::time::Duration;

use super::Pair;
use crate::harness::{Upstream, ok, pause, wait_until};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn rfc9112_9_3_a_connection_lasts_by_default() {
    let pair = Pair::new();
    let mut client = pair.gateway.client();
    for _ in 0..10 {
        let reply = client.send(GET).reply();
        assert_eq!((reply.status, reply.text()), (200, "ok"));
        assert_ne!(reply.header("connection"), Some("close"));
    }
}

#[test]
fn rfc9112_9_6_close_is_honoured_and_announced() {
    let pair = Pair::new();
    for connection in ["close", "Close", "keep-alive, close", "x, close ,y"] {
        let mut client = pair.gateway.client();
        let reply =
            client.send(format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\n\r\n")).reply();
        assert_eq!((reply.status, reply.header("connection")), (200, Some("close")), "{connection}");
        client.expect_closed();
    }
}

#[test]
fn rfc9112_9_6_what_follows_a_close_is_not_read() {
    let pair = Pair::new();
    let mut client = pair.gateway.client();
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.reply().status, 200);
    client.expect_closed();
    assert_eq!(pair.upstream.lines(), ["GET /1"]);
}

#[test]
fn rfc9112_9_3_http_1_0_closes_unless_it_asks_to_stay() {
    let pair = Pair::new();
    let mut client = pair.gateway.client();
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(client.reply().text(), "ok");
    client.expect_closed();

    let mut client = pair.gateway.client();
    for _ in 0..3 {
        let reply = client.send("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").reply();
        let connection = reply.header("connection").map(str::to_ascii_lowercase);
        assert_eq!((reply.text(), connection.as_deref()), ("ok", Some("keep-alive")));
    }
}

#[test]
fn an_http_1_0_client_is_never_sent_chunks() {
    let pair = Pair::with(Upstream::replying(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    ));
    for connection in ["close", "keep-alive"] {
        let mut client = pair.gateway.client();
        let raw = format!("GET / HTTP/1.0\r\nHost: a\r\nConnection: {connection}\r\n\r\n");
        let reply = client.send(raw).reply();
        assert_eq!((reply.text(), reply.header("transfer-encoding")), ("hi", None));
    }
}

#[test]
fn rfc9112_9_3_2_pipelined_requests_are_answered_in_order() {
    let pair = Pair::with(Upstream::start(|peer| {
        while let Some(request) = peer.request() {
            // Were they sent on at the same time, the first would come back last.
            if request.target == "/0" {
                pause(Duration::from_millis(30));
            }
            peer.send(ok(&request.target));
        }
    }));
    let mut client = pair.gateway.client();
    let all: String = (0..20).map(|number| format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    client.send(all);
    for number in 0..20 {
        assert_eq!(client.reply().text(), format!("/{number}"));
    }
    client.expect_silence(Duration::from_millis(20));
}

#[test]
fn pipelined_bodies_stay_with_their_requests() {
    let pair = Pair::new();
    let mut client = pair.gateway.client();
    client.send(concat!(
        "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none",
        "POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n",
        "GET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
    ));
    for _ in 0..3 {
        assert_eq!(client.reply().status, 200);
    }
    let seen: Vec<_> =
        pair.upstream.requests().iter().map(|request| (request.line(), request.body.clone())).collect();
    assert_eq!(
        seen,
        [("POST /1".into(), b"one".to_vec()), ("POST /2".into(), b"two".to_vec()), ("GET /3".into(), vec![])]
    );
}

#[test]
fn a_pipelined_request_cut_in_its_head_is_answered_when_it_is_whole() {
    let pair = Pair::new();
    let mut client = pair.gateway.client();
    let two = format!("{GET}{GET}");
    client.send_split(two.as_bytes(), &[GET.len() + 7, GET.len() + 20]);
    assert_eq!((client.reply().text(), client.reply().text()), ("ok", "ok"));
}

#[test]
fn a_client_that_closed_its_side_is_still_answered() {
    let pair = Pair::with(Upstream::start(|peer| {
        while peer.request().is_some() {
            pause(Duration::from_millis(30));
            peer.send(ok("late"));
        }
    }));
    let mut client = pair.gateway.client();
    client.send(format!("{GET}{GET}")).half_close();
    assert_eq!((client.reply().text(), client.reply().text()), ("late", "late"));
    client.expect_closed();
}

#[test]
fn a_client_that_is_gone_ends_its_request() {
    let pair = Pair::with(Upstream::hanging());
    let mut client = pair.gateway.client();
    client.send(GET);
    wait_until("the request to arrive", || !pair.upstream.lines().is_empty());
    client.reset();
    pair.upstream.expect_all_ended();
}

#[test]
fn a_connection_that_never_says_anything_costs_nothing_when_it_goes() {
    let pair = Pair::new();
    for _ in 0..20 {
        pair.gateway.client().expect_silence(Duration::from_millis(1));
        pair.gateway.client().reset();
    }
    assert_eq!(pair.get().status, 200);
    assert_eq!(pair.upstream.lines().len(), 1);
}

#[test]
fn a_close_by_the_upstream_is_not_passed_on() {
    let pair = Pair::with(Upstream::replying_once(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
    ));
    let mut client = pair.gateway.client();
    for _ in 0..3 {
        let reply = client.send(GET).reply();
        assert_eq!((reply.text(), reply.header("connection")), ("hi", None));
    }
    assert_eq!(pair.upstream.connections(), 3);
}

#[test]
fn an_http_1_0_backend_is_served_to_an_http_1_1_client() {
    let pair = Pair::with(Upstream::replying_once("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi"));
    let mut client = pair.gateway.client();
    for _ in 0..3 {
        let reply = client.send(GET).reply();
        assert_eq!((reply.version.as_str(), reply.text()), ("HTTP/1.1", "hi"));
    }
}

#[test]
fn an_early_response_with_a_body_still_coming_is_whole_and_closes() {
    let pair = Pair::with(Upstream::start(|peer| {
        peer.request_head();
        peer.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\nConnection: close\r\n\r\nearly");
        peer.half_close();
        peer.hang();
    }));
    let mut client = pair.gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n").send(vec![b'x'; 100_000]);
    let reply = client.reply();
    assert_eq!((reply.status, reply.text()), (403, "early"));
    // Either the rest of the body is taken and thrown away, or the connection ends; it is never read as a request.
    client.try_send(vec![b'x'; 800_000]).try_send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    match client.try_reply() {
        Ok(reply) => assert_eq!(reply.status, 403),
        Err(crate::harness::ReplyError::Closed) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn an_error_before_the_body_is_read_does_not_desynchronise() {
    let pair = Pair::new();
    let mut client = pair.gateway.client();
    // `/a%2Fb` is refused by its path; the body must not be taken for a request, whether or not the connection stays.
    client.try_send(format!("POST /a%2Fb HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{GET}", GET.len()));
    assert_eq!(client.reply().status, 400);
    client.try_send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    match client.try_reply() {
        Ok(reply) => assert_eq!(reply.text(), "ok"),
        Err(crate::harness::ReplyError::Closed) => {}
        Err(error) => panic!("{error}"),
    }
    assert!(!pair.upstream.lines().contains(&"GET /".to_owned()), "{:?}", pair.upstream.lines());
}
