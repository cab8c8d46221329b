//! What a proxy in front says about its connections.

use std::{net::TcpStream, sync::Arc};

use crate::harness::{Authority, Client, Gateway, TlsClient, Upstream};

const V1: &str = "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n";
const REQUEST: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

fn gateway(upstream: &Upstream, trusted: &str) -> Gateway {
    Gateway::start(format!(
        "listen = \"127.0.0.1:0 proxy_protocol\"\ntrusted_proxies = {trusted}\n[routes]\n\"/\" = \"http://{upstream}\"\n"
    ))
}

/// From where the service heard that the last request came.
#[track_caller]
fn heard(upstream: &Upstream) -> String {
    let request = upstream.requests().pop().expect("it was asked");
    request.header("x-forwarded-for").expect("every request has it").to_owned()
}

#[test]
fn the_client_is_who_the_proxy_says() {
    let upstream = Upstream::saying("ok");
    let gateway = gateway(&upstream, "\"127.0.0.0/8\"");
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\xc0\0\x02\x01\0\x50\0\x50";
    for (header, from) in [
        (V1.as_bytes(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 4711 443\r\n", "2001:db8::7"),
        (v2, "192.0.2.8"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    ] {
        let mut client = gateway.client();
        client.send(header).send(REQUEST);
        assert_eq!(client.reply().status, 200);
        assert_eq!(heard(&upstream), from);
        // The second request of the connection is from the same client.
        assert_eq!(client.send(REQUEST).reply().status, 200);
        assert_eq!(heard(&upstream), from);
    }
    let mut slow = gateway.client();
    let whole = [v2, REQUEST.as_bytes()].concat();
    slow.send_split(&whole, &[1, 5, 13, 16, 20, 30]);
    assert_eq!(slow.reply().status, 200);
    assert_eq!(heard(&upstream), "192.0.2.8");
}

#[test]
fn what_a_client_behind_it_claims_is_not_believed() {
    let upstream = Upstream::saying("ok");
    let gateway = gateway(&upstream, "\"127.0.0.0/8\"");
    let mut client = gateway.client();
    client.send(V1).send("GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.9.9.9\r\n\r\n");
    assert_eq!(client.reply().status, 200);
    assert_eq!(heard(&upstream), "192.0.2.7");
}

#[test]
fn a_proxy_that_sends_no_header_is_not_talked_to() {
    let upstream = Upstream::saying("ok");
    let gateway = gateway(&upstream, "\"127.0.0.0/8\"");
    for nonsense in [REQUEST, "PROXY TCP4 192.0.2.7\r\n", "PROXY TCP9 a b c d\r\n"] {
        let mut client = gateway.client();
        client.try_send(nonsense).expect_closed();
    }
    assert!(upstream.requests().is_empty());
}

#[test]
fn a_stranger_cannot_send_a_header() {
    let upstream = Upstream::saying("ok");
    let gateway = gateway(&upstream, "\"10.0.0.0/8\"");
    assert_eq!(gateway.send(V1).status, 400);
    assert_eq!(gateway.send(REQUEST).status, 200);
    assert_eq!(heard(&upstream), "127.0.0.1");
}

#[test]
fn the_header_comes_before_tls() {
    let authority = Authority::new("test");
    let upstream = Upstream::saying("ok");
    let gateway = Gateway::start(format!(
        "listen = \"https://127.0.0.1:0 proxy_protocol\"\ntrusted_proxies = \"127.0.0.1\"\ntls = {{ {} }}\n\
         [routes]\n\"/\" = \"http://{upstream}\"\n",
        authority.site("site", &["a.example"])
    ));
    let config = Arc::new(authority.trust());
    for _ in 0..2 {
        let mut client = Client::connect(gateway.address());
        client.send(V1);
        let socket: TcpStream = client.stream().try_clone().expect("a socket");
        let mut client = TlsClient::over(socket, "a.example", &config).expect("TLS");
        assert_eq!(client.get("/").text(), "ok");
        assert_eq!(heard(&upstream), "192.0.2.7");
    }
    assert!(TlsClient::connect(gateway.address(), "a.example", &config).is_err());
}

#[test]
fn believing_everybody_is_an_error() {
    let text = "listen = \"127.0.0.1:0 proxy_protocol\"\n[routes]\n\"/\" = { status = 200 }\n";
    let Err(error) = Gateway::try_start(text) else { panic!("anybody could claim to be anybody") };
    assert!(error.contains("trusted_proxies"), "{error}");
}
