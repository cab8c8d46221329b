//! Services that fail: what the client is told, and what the log says.

use std::time::Duration;

use crate::harness::{Gateway, ReplyError, Upstream, now};

fn before(upstream: &Upstream) -> Gateway {
    Gateway::start(format!("[routes]\n\"/\" = {{ to = \"http://{upstream}\", timeout = \"400ms\" }}\n"))
}

/// A GET is answered with `status`, and the log says `why`.
#[track_caller]
fn check(upstream: &Upstream, status: u16, why: &str) {
    let gateway = before(upstream);
    let mut client = gateway.client();
    for round in 0..2 {
        client.send(format!("GET /{round} HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert_eq!(client.reply().status, status, "{why}");
    }
    let line = gateway.log_line("\"/1\"");
    assert!(line.contains(&format!("\"{why}\"")), "{why}: {line}");
}

#[test]
fn a_refused_connection_is_502() {
    check(&Upstream::refusing(), 502, "connect_refused");
}

#[test]
fn a_close_before_the_head_is_502() {
    check(&Upstream::closing(), 502, "upstream_reset");
}

#[test]
fn a_reset_before_the_head_is_502() {
    check(&Upstream::resetting(), 502, "upstream_reset");
}

#[test]
fn half_a_head_is_502() {
    for half in ["HTTP/1.1 200 OK\r\nContent-Le", "HTTP/1.1 2", "H"] {
        let gateway = before(&Upstream::replying_once(half));
        assert_eq!(gateway.get("/").status, 502, "{half}");
    }
}

#[test]
fn garbage_is_502() {
    check(&Upstream::replying_once("I am no HTTP server\r\n\r\n"), 502, "upstream_bad_response");
}

#[test]
fn a_service_that_says_nothing_is_504() {
    let upstream = Upstream::hanging();
    let start = now();
    check(&upstream, 504, "upstream_timeout");
    assert!(start.elapsed() >= Duration::from_millis(780), "{:?}", start.elapsed());
    upstream.expect_all_ended();
}

#[test]
fn a_service_that_starts_a_head_and_stops_is_504() {
    let upstream = Upstream::start(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nX-A: 1\r\n").hang();
    });
    check(&upstream, 504, "upstream_timeout");
}

#[test]
fn informational_responses_do_not_prolong_the_timeout() {
    let upstream = Upstream::start(|peer| {
        peer.request();
        for _ in 0..8 {
            peer.send("HTTP/1.1 102 Processing\r\n\r\n");
            crate::harness::pause(Duration::from_millis(100));
        }
        peer.hang();
    });
    assert_eq!(before(&upstream).get("/").status, 504);
}

#[test]
fn a_post_that_times_out_is_not_sent_twice() {
    let (first, second) = (Upstream::hanging(), Upstream::hanging());
    let gateway = Gateway::start(format!(
        "[services.s]\nservers = [\"http://{first}\", \"http://{second}\"]\n[routes]\n\"/\" = {{ to = \"s\", timeout = \"300ms\", retry = {{ on = [\"connect\", \"reset\", \"timeout\"] }} }}\n"
    ));
    let reply = gateway.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!((reply.status, first.lines().len() + second.lines().len()), (504, 1));
}

#[test]
fn a_response_body_that_stops_is_seen_as_broken() {
    let upstream = Upstream::start(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").hang();
    });
    let gateway = Gateway::start(format!(
        "[defaults]\nclient_body_timeout = \"1s\"\n[routes]\n\"/\" = \"http://{upstream}\"\n"
    ));
    let mut client = gateway.client();
    let reply = client.send("GET /s HTTP/1.1\r\nHost: x\r\n\r\n").broken_reply();
    assert_eq!((reply.status, reply.body.as_slice()), (200, &b"hello"[..]));
    let line = gateway.log_line("\"/s\"");
    assert!(line.contains("\"upstream_stalled\""), "{line}");
}

#[test]
fn a_response_body_that_breaks_off_is_in_the_log() {
    let upstream = Upstream::start(|peer| {
        peer.request();
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{}", "x".repeat(100_000)));
    });
    let gateway = before(&upstream);
    let mut client = gateway.client();
    match client.send("GET /t HTTP/1.1\r\nHost: x\r\n\r\n").try_reply() {
        Err(ReplyError::Broken(reply)) => assert_eq!((reply.status, reply.body.len()), (200, 100_000)),
        other => panic!("{other:?}"),
    }
    let line = gateway.log_line("\"/t\"");
    assert!(line.contains("\"upstream_truncated\""), "{line}");
}

#[test]
fn an_event_stream_may_rest() {
    let upstream = Upstream::start(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
        crate::harness::pause(Duration::from_millis(2_500));
        peer.send("data: 2\n\n");
    });
    let gateway = Gateway::start(format!(
        "[defaults]\nclient_body_timeout = \"1s\"\n[routes]\n\"/\" = \"http://{upstream}\"\n"
    ));
    assert_eq!(gateway.get("/").text(), "data: 1\n\ndata: 2\n\n");
}

#[test]
fn a_client_that_goes_away_is_in_the_log() {
    let upstream = Upstream::hanging();
    let gateway = before(&upstream);
    let mut client = gateway.client();
    client.send("GET /gone HTTP/1.1\r\nHost: x\r\n\r\n");
    crate::harness::wait_until("the request to arrive", || !upstream.lines().is_empty());
    client.reset();
    let line = gateway.log_line("\"/gone\"");
    assert!(line.contains("\"client_closed\""), "{line}");
}

#[test]
fn a_request_that_comes_back_to_its_listener_is_508() {
    let gateway = Gateway::start("[routes]\n\"/\" = { status = 200, body = \"x\" }\n");
    let own = gateway.address();
    gateway.reload(format!("[routes]\n\"/\" = \"http://{own}\"\n")).expect("nothing is wrong with the file");
    crate::harness::wait_until("the loop to be seen", || gateway.get("/").status == 508);
}
