//! RFC 9110 §7.8 and RFC 6455: an upgrade turns the connection into a tunnel of bytes.

use std::time::Duration;

use super::Pair;
use crate::harness::{Gateway, Upstream, pause};

const HANDSHAKE: &str = concat!(
    "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
);
const SWITCHING: &str = concat!(
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
);

/// An upstream that switches and then sends back whatever comes.
fn echoing() -> Upstream {
    Upstream::start(|peer| {
        peer.request();
        peer.send(SWITCHING);
        loop {
            let bytes = peer.read();
            if bytes.is_empty() {
                return;
            }
            peer.send(bytes);
        }
    })
}

#[test]
fn a_websocket_becomes_a_tunnel() {
    let pair = Pair::with(echoing());
    let mut client = pair.gateway.client();
    let reply = client.send(HANDSHAKE).reply();
    assert_eq!((reply.status, reply.header("upgrade")), (101, Some("websocket")));
    assert_eq!(reply.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let connection = reply.header("connection").map(str::to_ascii_lowercase);
    assert_eq!(connection.as_deref(), Some("upgrade"));
    for text in ["\x00\u{ff}one", "GET /smuggled HTTP/1.1\r\n\r\n", "three"] {
        client.send(text);
        assert_eq!(client.read(text.len()), text.as_bytes());
    }
    let request = pair.upstream.request();
    assert_eq!(request.header("upgrade"), Some("websocket"));
    assert_eq!(request.header("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
}

#[test]
fn bytes_sent_with_the_handshake_are_not_lost() {
    let pair = Pair::with(Upstream::start(|peer| {
        peer.request();
        peer.send(format!("{SWITCHING}hello"));
        let early = peer.read_exactly(5);
        peer.send(early);
        peer.hang();
    }));
    let mut client = pair.gateway.client();
    assert_eq!(client.send(format!("{HANDSHAKE}early")).reply().status, 101);
    assert_eq!(client.read(10), b"helloearly");
}

#[test]
fn a_tunnel_carries_much_both_ways_at_once() {
    let pair = Pair::with(echoing());
    let mut client = pair.gateway.client();
    assert_eq!(client.send(HANDSHAKE).reply().status, 101);
    let sent: Vec<u8> = (0..2_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let received = std::thread::scope(|scope| {
        let mut stream = client.stream().try_clone().expect("a descriptor is left");
        let sent = &sent;
        scope.spawn(move || std::io::Write::write_all(&mut stream, sent).expect("the tunnel takes it"));
        client.read(sent.len())
    });
    assert!(received == sent);
}

#[test]
fn either_side_may_close_its_half_of_a_tunnel() {
    let pair = Pair::with(Upstream::start(|peer| {
        peer.request();
        peer.send(SWITCHING);
        let mut all = Vec::new();
        loop {
            let bytes = peer.read();
            if bytes.is_empty() {
                break;
            }
            all.extend(bytes);
        }
        peer.send("after your end: ").send(all);
    }));
    let mut client = pair.gateway.client();
    assert_eq!(client.send(HANDSHAKE).reply().status, 101);
    client.send("my last word").half_close();
    assert_eq!(client.read_to_end(), b"after your end: my last word");
}

#[test]
fn a_tunnel_ends_when_the_client_is_gone() {
    let pair = Pair::with(echoing());
    let mut client = pair.gateway.client();
    assert_eq!(client.send(HANDSHAKE).reply().status, 101);
    client.reset();
    pair.upstream.expect_all_ended();
}

#[test]
fn a_tunnel_ends_when_the_upstream_is_gone() {
    let pair = Pair::with(Upstream::start(|peer| {
        peer.request();
        peer.send(SWITCHING);
        peer.read();
        peer.reset();
    }));
    let mut client = pair.gateway.client();
    assert_eq!(client.send(HANDSHAKE).reply().status, 101);
    client.send("x");
    client.expect_closed();
}

#[test]
fn an_idle_tunnel_is_closed() {
    let upstream = echoing();
    let gateway = Gateway::start(format!(
        "[defaults]\ntunnel_idle = \"1s\"\n[routes]\n\"/\" = \"http://{upstream}\"\n"
    ));
    let mut client = gateway.client();
    assert_eq!(client.send(HANDSHAKE).reply().status, 101);
    // What moves is not idle.
    for _ in 0..10 {
        client.send("x");
        assert_eq!(client.read(1), b"x");
        pause(Duration::from_millis(200));
    }
    client.expect_closed();
    upstream.expect_all_ended();
}

#[test]
fn a_refused_upgrade_is_an_ordinary_response() {
    let pair = Pair::with(Upstream::replying("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno"));
    let mut client = pair.gateway.client();
    for _ in 0..2 {
        let reply = client.send(HANDSHAKE).reply();
        assert_eq!((reply.status, reply.text()), (426, "no"));
    }
}

#[test]
fn a_route_may_list_other_upgrades() {
    let upstream = Upstream::start(|peer| {
        let request = peer.request().expect("the gateway asks");
        assert_eq!(request.header("upgrade"), Some("echo"));
        peer.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
        let bytes = peer.read();
        peer.send(bytes);
    });
    let gateway =
        Gateway::start(format!("[routes]\n\"/\" = {{ to = \"http://{upstream}\", upgrade = [\"echo\"] }}\n"));
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    assert_eq!(client.reply().status, 101);
    client.send("echo");
    assert_eq!(client.read(4), b"echo");
}

#[test]
fn a_switch_to_something_else_than_asked_for_is_502() {
    let pair = Pair::with(Upstream::replying(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n",
    ));
    let mut client = pair.gateway.client();
    assert_eq!(client.send(HANDSHAKE).reply().status, 502);
}
