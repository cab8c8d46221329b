//! Every bound on what a client may send, and what happens beyond it (DESIGN §15).

use std::time::Duration;

use crate::harness::{Gateway, Upstream, now, pause};

fn gateway(defaults: &str, route: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::saying("ok");
    let gateway = Gateway::start(format!(
        "[defaults]\n{defaults}\n[routes]\n\"/\" = {{ to = \"http://{upstream}\"{route} }}\n"
    ));
    (gateway, upstream)
}

#[track_caller]
fn refused(gateway: &Gateway, raw: &str, status: u16) {
    let mut client = gateway.client();
    client.try_send(raw);
    assert_eq!(client.reply().status, status, "{:?}…", &raw[..raw.len().min(60)]);
    client.expect_closed();
}

#[test]
fn a_target_over_the_limit_is_414() {
    let (gateway, upstream) = gateway("", "");
    refused(&gateway, &format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(9_000)), 414);
    refused(&gateway, &format!("GET /{}", "a".repeat(100_000)), 414);
    assert_eq!(upstream.lines(), Vec::<String>::new());
    assert_eq!(gateway.get(&format!("/{}", "a".repeat(8_000))).status, 200);
}

#[test]
fn a_head_over_the_limit_is_431() {
    let (gateway, upstream) = gateway("", "");
    let start = "GET / HTTP/1.1\r\nHost: x\r\n";
    refused(&gateway, &format!("{start}X: {}\r\n\r\n", "a".repeat(9_000)), 431);
    refused(&gateway, &format!("{start}X: {}", "a".repeat(100_000)), 431);
    refused(&gateway, &format!("{start}{}\r\n", "X: 1\r\n".repeat(101)), 431);
    refused(&gateway, &format!("{start}{}\r\n", format!("X: {}\r\n", "a".repeat(1_000)).repeat(40)), 431);
    refused(&gateway, &format!("{start}{}: 1\r\n\r\n", "a".repeat(70_000)), 431);
    assert_eq!(upstream.lines(), Vec::<String>::new());
    let most = format!("{start}{}\r\n", format!("X: {}\r\n", "a".repeat(300)).repeat(90));
    assert_eq!(gateway.send(most).status, 200);
}

#[test]
fn the_limits_of_a_head_may_be_changed() {
    let (gateway, _upstream) = gateway("max_line = \"1KiB\"\nmax_head = \"2KiB\"\nmax_headers = 10", "");
    refused(&gateway, &format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(1_100)), 414);
    refused(&gateway, &format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(1_100)), 431);
    refused(&gateway, &format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: 1\r\n".repeat(11)), 431);
    assert_eq!(gateway.get("/").status, 200);
}

#[test]
fn a_body_over_max_body_is_413() {
    let (gateway, upstream) = gateway("", ", max_body = \"100KiB\"");
    let head = "POST / HTTP/1.1\r\nHost: x\r\n";
    // Known from its length, nothing is read.
    let mut client = gateway.client();
    client.send(format!("{head}Content-Length: 102401\r\n\r\n"));
    assert_eq!(client.reply().status, 413);
    assert_eq!(upstream.connections(), 0);
    // Known only when it has come.
    let mut client = gateway.client();
    client.try_send(format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n19001\r\n{}\r\n0\r\n\r\n",
        "a".repeat(0x19001)
    ));
    assert_eq!(client.reply().status, 413);
    client.expect_closed();
    let mut client = gateway.client();
    client.try_send(format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
    for _ in 0..30 {
        client.try_send(format!("1000\r\n{}\r\n", "a".repeat(0x1000)));
    }
    assert_eq!(client.reply().status, 413);
    client.expect_closed();
    assert_eq!(upstream.lines(), Vec::<String>::new());
    // Exactly as much is allowed.
    let body = "a".repeat(102_400);
    assert_eq!(gateway.send(format!("{head}Content-Length: 102400\r\n\r\n{body}")).status, 200);
    assert_eq!(
        gateway.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n19000\r\n{body}\r\n0\r\n\r\n")).status,
        200
    );
}

#[test]
fn a_body_announced_as_endless_is_413() {
    let (gateway, upstream) = gateway("", "");
    refused(&gateway, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551615\r\n\r\n", 413);
    let chunk = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc";
    refused(&gateway, chunk, 413);
    assert_eq!(upstream.lines(), Vec::<String>::new());
}

/// `raw` gets `status` after about `expected`, not at once and not much later.
#[track_caller]
fn timed_out(gateway: &Gateway, raw: &str, status: u16, expected: Duration) {
    let start = now();
    let mut client = gateway.client();
    client.send(raw);
    let reply = client.reply();
    let took = start.elapsed();
    assert_eq!(reply.status, status);
    assert!(took >= expected && took < expected + Duration::from_secs(4), "after {took:?}");
    client.expect_closed();
}

#[test]
fn a_slow_head_is_408() {
    let (gateway, upstream) = gateway("client_header_timeout = \"1s\"", "");
    timed_out(&gateway, "GET / HTT", 408, Duration::from_millis(950));
    timed_out(&gateway, "GET / HTTP/1.1\r\nHost: x\r\n", 408, Duration::from_millis(950));
    // Each byte comes in time, the head as a whole does not.
    let mut client = gateway.client();
    let start = now();
    for byte in "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".bytes() {
        if start.elapsed() > Duration::from_secs(4) {
            break;
        }
        client.try_send([byte]);
        pause(Duration::from_millis(40));
    }
    assert_eq!(client.reply().status, 408);
    assert_eq!(upstream.lines(), Vec::<String>::new());
}

#[test]
fn a_connection_without_a_byte_is_closed() {
    let (gateway, _upstream) = gateway("client_header_timeout = \"1s\"", "");
    gateway.client().expect_closed();
}

#[test]
fn an_idle_connection_is_closed_between_requests() {
    let (gateway, _upstream) = gateway("keepalive_timeout = \"1s\"", "");
    let mut client = gateway.client();
    for _ in 0..3 {
        assert_eq!(client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").reply().status, 200);
        pause(Duration::from_millis(200));
    }
    client.expect_closed();
}

#[test]
fn a_slow_body_is_408() {
    let (gateway, upstream) = gateway("client_body_timeout = \"1s\"", "");
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n";
    timed_out(&gateway, head, 408, Duration::from_millis(950));
    timed_out(&gateway, &format!("{head}hello"), 408, Duration::from_millis(950));
    let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel";
    timed_out(&gateway, chunked, 408, Duration::from_millis(950));
    // One too large to be gathered is on its way already.
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n").send(vec![b'x'; 300_000]);
    assert_eq!(client.reply().status, 408);
    client.expect_closed();
    upstream.expect_all_ended();
    assert_eq!(upstream.lines(), Vec::<String>::new());
}

#[test]
fn a_body_that_trickles_is_408() {
    let (gateway, _upstream) = gateway("client_body_timeout = \"1s\"\nmin_body_rate = \"1KiB\"", "");
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n");
    let start = now();
    while start.elapsed() < Duration::from_secs(4) {
        client.try_send("x");
        pause(Duration::from_millis(50));
    }
    assert_eq!(client.reply().status, 408);
}

#[test]
fn a_stream_may_rest() {
    let upstream = Upstream::saying("ok");
    let gateway = Gateway::start(format!(
        "[defaults]\nclient_body_timeout = \"1s\"\n[routes]\n\"/\" = {{ to = \"http://{upstream}\", stream = true }}\n"
    ));
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello");
    pause(Duration::from_millis(2_500));
    assert_eq!(client.send("world").reply().status, 200);
    assert_eq!(upstream.request().body, b"helloworld");
}

#[test]
fn connections_over_the_limit_are_refused_and_later_ones_served() {
    let upstream = Upstream::saying("ok");
    let gateway = Gateway::start(format!(
        "shards = 1\n[defaults]\nmax_connections = 4\n[routes]\n\"/\" = \"http://{upstream}\"\n"
    ));
    let mut clients: Vec<_> = (0..4).map(|_| gateway.client()).collect();
    for client in &mut clients {
        assert_eq!(client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").reply().status, 200);
    }
    let mut one_more = gateway.client();
    one_more.try_send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    // Refused with 503 or reset: never served, never left waiting.
    match one_more.try_reply() {
        Ok(reply) => assert_eq!(reply.status, 503),
        Err(crate::harness::ReplyError::Closed) => {}
        Err(error) => panic!("{error}"),
    }
    assert_eq!(clients[0].send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").reply().status, 200);
    clients.clear();
    crate::harness::wait_until("a place to be free", || {
        let mut client = gateway.client();
        client.try_send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        client.try_reply().is_ok_and(|reply| reply.status == 200)
    });
}
