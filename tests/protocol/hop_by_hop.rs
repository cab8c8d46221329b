//! RFC 9110 §7.6.1: what concerns one connection stays on it.

use super::Pair;
use crate::harness::Upstream;

const HOP_BY_HOP: [&str; 6] =
    ["keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "http2-settings", "te"];

#[test]
fn hop_by_hop_headers_of_a_request_are_removed() {
    let request = Pair::new().passes(concat!(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: X-One, keep-alive ,x-TWO\r\nKeep-Alive: timeout=5\r\n",
        "Proxy-Connection: keep-alive\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\nTE: gzip\r\nX-One: 4\r\n\r\n",
    ));
    for name in HOP_BY_HOP.iter().chain(&["x-one", "x-two"]) {
        assert!(!request.headers.has(name), "{name}: {:?}", request.headers);
    }
    assert_eq!(request.header("x-three"), Some("3"));
    assert!(request.header("connection").is_none_or(|value| value.eq_ignore_ascii_case("keep-alive")));
}

#[test]
fn hop_by_hop_headers_of_a_response_are_removed() {
    let pair = Pair::with(Upstream::replying(concat!(
        "HTTP/1.1 200 OK\r\nConnection: X-One\r\nConnection: keep-alive,X-Two\r\nKeep-Alive: timeout=5\r\n",
        "Proxy-Connection: keep-alive\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\nContent-Length: 2\r\n\r\nhi",
    )));
    let reply = pair.get();
    for name in ["keep-alive", "proxy-connection", "x-one", "x-two", "upgrade"] {
        assert!(!reply.headers.has(name), "{name}: {:?}", reply.headers);
    }
    assert_eq!((reply.header("x-three"), reply.text()), (Some("3"), "hi"));
}

#[test]
fn naming_an_end_to_end_header_in_connection_does_not_harm_the_message() {
    let pair = Pair::new();
    let request = pair.passes(concat!(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: host, content-length, x-forwarded-for\r\n",
        "Content-Length: 2\r\n\r\nhi",
    ));
    assert_eq!((request.header("host"), request.body.as_slice()), (Some("a"), &b"hi"[..]));
    assert_eq!(request.header("x-forwarded-for"), Some("127.0.0.1"));

    let pair = Pair::with(Upstream::replying(
        "HTTP/1.1 200 OK\r\nConnection: content-length\r\nContent-Length: 2\r\n\r\nhi",
    ));
    assert_eq!(pair.get().text(), "hi");
}

#[test]
fn an_upgrade_that_the_route_does_not_list_is_removed() {
    let pair = Pair::new();
    for upgrade in ["h2c", "TLS/1.0", "foo"] {
        let request = pair.passes(&format!(
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
        ));
        assert!(!request.headers.has("upgrade") && !request.headers.has("http2-settings"), "{upgrade}");
    }
}

#[test]
fn te_trailers_may_pass_and_nothing_else_of_te() {
    let pair = Pair::new();
    for te in ["trailers", "trailers, deflate;q=0.5", "deflate", "gzip;q=0.1"] {
        let request =
            pair.passes(&format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: TE\r\nTE: {te}\r\n\r\n"));
        assert!(
            request.header("te").is_none_or(|value| value == "trailers"),
            "{te}: {:?}",
            request.header("te")
        );
    }
}

#[test]
fn via_is_off_by_default_and_a_clients_own_is_kept() {
    let pair = Pair::new();
    assert!(!pair.passes("GET / HTTP/1.1\r\nHost: a\r\n\r\n").headers.has("via"));
    let request = pair.passes("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 other\r\n\r\n");
    assert_eq!(request.header("via"), Some("1.1 other"));
    assert!(!pair.get().headers.has("via"));
}
