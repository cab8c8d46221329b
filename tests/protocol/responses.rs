//! RFC 9112 §4 to §8, for what a service sends: the same doubts are 502, and what breaks off stays broken.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::Pair;
use crate::harness::{Reply, ReplyError, Upstream, ok, pause, wait_until};

#[track_caller]
fn check(raw: impl AsRef<[u8]>, status: u16) -> Reply {
    let raw = raw.as_ref();
    let reply = Pair::with(Upstream::replying_once(raw)).get();
    assert_eq!(reply.status, status, "{:?}", String::from_utf8_lossy(&raw[..raw.len().min(100)]));
    reply
}

#[test]
fn doubtful_framing_is_502() {
    for framing in [
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: +2",
        "Content-Length: 2, 3",
        "Content-Length: -2",
        "Content-Length:",
        "Content-Length: 18446744073709551616",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: \x0bchunked",
    ] {
        check(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n0\r\n\r\n"), 502);
    }
    check("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 502);
}

#[test]
fn garbage_is_502() {
    for garbage in [
        "garbage\r\n\r\n",
        "\0\0\0\0",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX(: 1\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\n X: 1\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0",
        "{\"not\":\"http\"}",
    ] {
        check(garbage, 502);
    }
}

#[test]
fn rfc9112_5_1_space_before_a_colon_is_removed() {
    let reply = check("HTTP/1.1 200 OK\r\nX-A : 1\r\nContent-Length: 2\r\n\r\nhi", 200);
    assert_eq!((reply.header("x-a"), reply.text()), (Some("1"), "hi"));
}

#[test]
fn rfc9112_5_2_a_folded_line_becomes_one_line() {
    let reply = check("HTTP/1.1 200 OK\r\nX-A: 1\r\n  2\r\n\t3\r\nContent-Length: 2\r\n\r\nhi", 200);
    let words: Vec<_> = reply.header("x-a").expect("it is there").split_whitespace().collect();
    assert_eq!((words.as_slice(), reply.text()), (&["1", "2", "3"][..], "hi"));
}

#[test]
fn a_reason_may_be_empty_or_long() {
    for (line, reason) in [("200 ", ""), ("200", ""), ("200 Very Good Indeed", "Very Good Indeed")] {
        let reply = check(format!("HTTP/1.1 {line}\r\nContent-Length: 2\r\n\r\nhi"), 200);
        assert!(reply.reason == reason || reply.reason == "OK", "{:?}", reply.reason);
    }
}

#[test]
fn case_order_and_repetition_of_headers_are_kept() {
    let reply = check(
        "HTTP/1.1 200 OK\r\nset-cookie: a=1\r\nX-A: 1\r\nSet-Cookie: b=2\r\nx-empty:\r\nContent-Length: 2\r\nX-Last: z\r\n\r\nhi",
        200,
    );
    let mine = ["set-cookie", "x-a", "x-empty", "x-last"];
    let seen: Vec<_> = reply
        .headers
        .iter()
        .filter(|(name, _)| mine.contains(&name.to_ascii_lowercase().as_str()))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(seen, ["set-cookie=a=1", "X-A=1", "Set-Cookie=b=2", "x-empty=", "X-Last=z"]);
}

#[test]
fn rfc9112_6_3_a_body_may_end_with_the_connection() {
    let reply = check("HTTP/1.1 200 OK\r\n\r\nuntil the end", 200);
    assert_eq!(reply.text(), "until the end");
    let reply = check("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end", 200);
    assert_eq!((reply.text(), reply.version.as_str()), ("until the end", "HTTP/1.1"));
}

#[test]
fn a_body_that_ends_with_the_upstream_connection_does_not_end_the_clients() {
    let pair = Pair::with(Upstream::replying_once("HTTP/1.1 200 OK\r\n\r\nuntil the end"));
    let mut client = pair.gateway.client();
    for _ in 0..3 {
        assert_eq!(client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().text(), "until the end");
    }
}

#[test]
fn a_body_that_breaks_off_is_seen_as_broken() {
    let long = "x".repeat(200_000);
    for raw in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhello".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 200001\r\n\r\n{long}"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n30d40\r\n{long}\r\n"),
    ] {
        let pair = Pair::with(Upstream::replying_once(&raw));
        let mut client = pair.gateway.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        match client.try_reply() {
            // The head may still be ours to replace when the break comes with it.
            Ok(reply) => assert_eq!(reply.status, 502, "{:?}", &raw[..raw.len().min(90)]),
            Err(ReplyError::Broken(reply)) => {
                assert_eq!(reply.status, 200);
                client.expect_closed();
            }
            Err(error) => panic!("{:?}: {error}", &raw[..raw.len().min(90)]),
        }
    }
}

#[test]
fn a_body_that_is_reset_is_seen_as_broken() {
    let pair = Pair::with(Upstream::start(|peer| {
        peer.request();
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{}", "x".repeat(100_000)));
        peer.reset();
    }));
    let mut client = pair.gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    match client.try_reply() {
        Ok(reply) => assert_eq!(reply.status, 502),
        Err(ReplyError::Broken(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_body_that_breaks_off_for_an_http_1_0_client_ends_without_a_false_length() {
    let pair = Pair::with(Upstream::replying_once(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ));
    let mut client = pair.gateway.client();
    client.send("GET / HTTP/1.0\r\n\r\n");
    // HTTP/1.0 has no way to tell a broken body from a whole one but a reset or a missing length.
    if let Ok(reply) = client.try_reply() {
        assert!(!reply.headers.has("content-length") || reply.status == 502, "{reply:?}");
    }
}

#[test]
fn bytes_after_a_body_never_reach_anybody() {
    let pair = Pair::with(Upstream::replying(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi{}",
        ok("smuggled")
    )));
    let mut client = pair.gateway.client();
    for _ in 0..4 {
        assert_eq!(client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").reply().text(), "hi");
    }
    for _ in 0..4 {
        assert_eq!(pair.get().text(), "hi");
    }
    assert_eq!(pair.upstream.connections(), 8, "a connection with bytes left over is not used again");
}

#[test]
fn bytes_that_come_between_two_requests_never_reach_anybody() {
    let sent = Arc::new(AtomicUsize::new(0));
    let sending = Arc::clone(&sent);
    let pair = Pair::with(Upstream::start(move |peer| {
        while peer.request().is_some() {
            peer.send(ok("hi"));
            pause(Duration::from_millis(5));
            peer.send(ok("smuggled"));
            sending.fetch_add(1, Ordering::SeqCst);
        }
    }));
    for number in 1..=5 {
        assert_eq!(pair.get().text(), "hi");
        wait_until("the bytes to be sent", || sent.load(Ordering::SeqCst) == number);
    }
}

#[test]
fn a_response_is_not_read_for_the_next_client_when_its_own_is_gone() {
    let pair = Pair::with(Upstream::start(|peer| {
        while let Some(request) = peer.request() {
            pause(Duration::from_millis(20));
            peer.send(ok(&request.target));
        }
    }));
    for number in 0..5 {
        pair.gateway.client().send(format!("GET /gone/{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let target = format!("/stays/{number}");
        assert_eq!(pair.gateway.get(&target).text(), target);
    }
}

#[test]
fn a_response_head_that_arrives_byte_by_byte_is_the_same() {
    let pair = Pair::with(Upstream::start(|peer| {
        while peer.request().is_some() {
            peer.drip("HTTP/1.1 200 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n");
        }
    }));
    let reply = pair.get();
    assert_eq!((reply.text(), reply.header("x-a")), ("hi", Some("1")));
}

#[test]
fn a_response_head_over_the_limit_is_502() {
    let long = "x".repeat(9_000);
    check(format!("HTTP/1.1 200 OK\r\nX: {long}\r\nContent-Length: 0\r\n\r\n"), 502);
    check(format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "X: 1\r\n".repeat(101)), 502);
    check(
        format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "X-Long: 1234567890\r\n".repeat(3_000)),
        502,
    );
}

#[test]
fn a_response_split_at_any_byte_is_the_same_response() {
    let raw = "HTTP/1.1 200 OK\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n3;x=y\r\nyou\r\n0\r\nX-T: 2\r\n\r\n";
    let pair = Pair::with(Upstream::start(move |peer| {
        while let Some(request) = peer.request() {
            let cut: usize = request.target[1..].parse().expect("the test asks for a number");
            peer.send(&raw[..cut]);
            pause(Duration::from_millis(3));
            peer.send(&raw[cut..]);
        }
    }));
    let mut client = pair.gateway.client();
    for cut in 1..raw.len() {
        let reply = client.send(format!("GET /{cut} HTTP/1.1\r\nHost: a\r\n\r\n")).reply();
        assert_eq!((reply.text(), reply.header("x-a")), ("hiyou", Some("1")), "cut at {cut}");
    }
}
