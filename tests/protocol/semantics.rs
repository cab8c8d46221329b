//! RFC 9110: HEAD, bodiless statuses, `Expect`, informational responses.

use std::time::Duration;

use super::Pair;
use crate::harness::{Peer, Upstream, ok};

#[test]
fn rfc9110_9_3_2_a_reply_to_head_has_the_length_and_no_body() {
    for framing in ["Content-Length: 1000", "Transfer-Encoding: chunked", "X-None: 1"] {
        let pair = Pair::with(Upstream::replying(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n")));
        let mut client = pair.gateway.client();
        for _ in 0..3 {
            let reply = client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").reply_to("HEAD");
            assert_eq!(reply.status, 200, "{framing}");
            let length = framing.strip_prefix("Content-Length: ");
            assert_eq!(reply.header("content-length"), length, "{framing}");
        }
        client.expect_silence(Duration::from_millis(10));
        assert_eq!(pair.upstream.requests()[0].method, "HEAD");
    }
}

#[test]
fn rfc9110_9_3_2_an_error_reply_to_head_has_no_body() {
    let pair = Pair::with(Upstream::refusing());
    let mut client = pair.gateway.client();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.reply_to("HEAD").status, 502);
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(client.reply_to("HEAD").status, 502);
    client.expect_closed();
}

#[test]
fn rfc9110_15_3_5_replies_without_content_do_not_wait_for_one() {
    for (status, framing) in [
        (204, "X-None: 1"),
        (304, "X-None: 1"),
        (304, "Content-Length: 1000"),
        (304, "Transfer-Encoding: chunked"),
    ] {
        let pair = Pair::with(Upstream::replying(format!("HTTP/1.1 {status} X\r\n{framing}\r\n\r\n")));
        let mut client = pair.gateway.client();
        for _ in 0..3 {
            let reply = client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply();
            assert_eq!(reply.status, status, "{framing}");
            assert!(!reply.headers.has("transfer-encoding"), "{status} {framing}");
            assert!(status != 204 || !reply.headers.has("content-length"), "{status} {framing}");
        }
        client.expect_silence(Duration::from_millis(10));
        assert_eq!(pair.upstream.connections(), 1, "{status} {framing}");
    }
}

#[test]
fn bytes_after_a_reply_without_content_never_reach_anybody() {
    for head in ["HTTP/1.1 204 X\r\n\r\n", "HTTP/1.1 304 X\r\nContent-Length: 8\r\n\r\n"] {
        let pair = Pair::with(Upstream::replying(format!("{head}smuggled")));
        let mut client = pair.gateway.client();
        for _ in 0..3 {
            assert!([204, 304].contains(&client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().status));
        }
        client.expect_silence(Duration::from_millis(10));
    }
}

/// A client that waits for 100 before its body is answered by a service that plays `script`.
#[track_caller]
fn waits_for_100(script: impl Fn(&mut Peer) + Send + Sync + 'static) {
    let pair = Pair::with(Upstream::start(script));
    let mut client = pair.gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.informational(), 100);
    let reply = client.send("hello").reply();
    assert_eq!((reply.status, reply.text(), reply.informational.len()), (200, "hello", 0));
}

#[test]
fn rfc9110_10_1_1_a_client_that_waits_for_100_gets_it_and_is_answered() {
    waits_for_100(|peer| {
        let request = peer.request_head().expect("the gateway asks");
        // Whether the gateway passes the expectation on or meets it itself, the client sees one 100.
        if request.headers.has("expect") {
            peer.send("HTTP/1.1 100 Continue\r\n\r\n");
        }
        let body = peer.read_exactly(5);
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").send(body);
    });
}

#[test]
fn rfc9110_10_1_1_a_service_that_knows_no_100_does_not_keep_the_client_waiting() {
    waits_for_100(|peer| {
        peer.request_head();
        let body = peer.read_exactly(5);
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").send(body);
    });
}

#[test]
fn rfc9110_10_1_1_a_client_that_does_not_wait_is_answered() {
    let pair = Pair::new();
    let mut client = pair.gateway.client();
    for _ in 0..3 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(client.reply().text(), "ok");
    }
    assert!(pair.upstream.requests().iter().all(|request| request.body == b"hello"));
}

#[test]
fn rfc9110_10_1_1_a_refusal_comes_instead_of_100() {
    let pair = Pair::new();
    let mut client = pair.gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n");
    let reply = client.reply();
    assert_eq!((reply.status, reply.informational.len()), (413, 0));
    assert_eq!(pair.upstream.lines(), Vec::<String>::new());
}

#[test]
fn rfc9110_10_1_1_another_expectation_is_417_or_ignored() {
    let pair = Pair::new();
    let status = pair.gateway.send("GET / HTTP/1.1\r\nHost: a\r\nExpect: miracles\r\n\r\n").status;
    assert!([200, 417].contains(&status), "{status}");
}

#[test]
fn rfc9110_10_1_1_an_http_1_0_client_is_never_sent_100() {
    let pair = Pair::new();
    let mut client = pair.gateway.client();
    client.send("POST / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    let reply = client.reply();
    assert_eq!((reply.text(), reply.informational.len()), ("ok", 0));
}

#[test]
fn rfc9110_15_2_informational_responses_do_not_replace_the_final_one() {
    for first in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 102 Processing\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n",
    ] {
        let pair = Pair::with(Upstream::replying(format!("{first}{}", ok("final"))));
        let mut client = pair.gateway.client();
        for _ in 0..3 {
            assert_eq!(client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().text(), "final", "{first:?}");
        }
        // Were one left over, it would be the next client's answer.
        assert_eq!(pair.get().text(), "final");
    }
}

#[test]
fn early_hints_reach_an_http_1_1_client_and_no_http_1_0_client() {
    let pair = Pair::with(Upstream::replying(format!(
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n{}",
        ok("final")
    )));
    let reply = pair.get();
    assert_eq!(reply.informational.len(), 1, "{reply:?}");
    assert_eq!(reply.informational[0].1.one("link"), Some("</a.css>"));
    let reply = pair.gateway.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!((reply.text(), reply.informational.len()), ("final", 0));
}

#[test]
fn a_storm_of_informational_responses_is_502() {
    let pair = Pair::with(Upstream::replying(format!(
        "{}{}",
        "HTTP/1.1 100 Continue\r\n\r\n".repeat(50),
        ok("final")
    )));
    assert_eq!(pair.get().status, 502);
    let endless = Pair::with(Upstream::start(|peer| {
        peer.request();
        while peer.try_send("HTTP/1.1 103 Early Hints\r\nX: 1\r\n\r\n") {}
    }));
    assert_eq!(endless.get().status, 502);
}

#[test]
fn a_101_that_nobody_asked_for_is_502() {
    let pair = Pair::with(Upstream::replying(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    ));
    assert_eq!(pair.get().status, 502);
}

#[test]
fn any_status_with_a_body_passes_as_it_is() {
    for status in [200, 201, 206, 299, 301, 302, 400, 404, 418, 429, 451, 499, 500, 501, 503, 599] {
        let pair =
            Pair::with(Upstream::replying(format!("HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\nhi")));
        // A POST is not retried when its answer is bad.
        let reply = pair.gateway.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        assert_eq!((reply.status, reply.text()), (status, "hi"));
    }
}
