//! Connections are spread evenly between the shards, wherever the kernel put them.

use std::sync::Arc;

use crate::harness::{Authority, Client, Gateway, TlsClient, driver, wait_until};

const SHARDS: usize = 4;

fn gateway(driver: &str, more: &str) -> Gateway {
    Gateway::start(format!(
        "shards = {SHARDS}\ndriver = {driver:?}\n{more}\n[routes]\n\"/\" = {{ status = 200, body = \"x\" }}\n"
    ))
}

/// Open client connections by shard, as `/metrics` has them.
fn counts(gateway: &Gateway) -> Vec<u64> {
    (0..SHARDS).map(|shard| gateway.counter(&format!("coregate_connections{{shard=\"{shard}\"}}"))).collect()
}

/// Opens `count` connections that stay, once and again, and compares what the shards have.
#[track_caller]
fn check_even<C>(gateway: &Gateway, runs: usize, count: usize, mut connect: impl FnMut() -> C) {
    for run in 0..runs {
        let connections: Vec<_> = (0..count).map(|_| connect()).collect();
        let counts = counts(gateway);
        assert_eq!(counts.iter().sum::<u64>(), count as u64, "run {run}: {counts:?}");
        let (most, least) =
            counts.iter().fold((0, u64::MAX), |(most, least), &count| (most.max(count), least.min(count)));
        assert!(most - least <= 2, "run {run}: {counts:?}");
        drop(connections);
        wait_until("the connections to end", || gateway.counter("coregate_connections") == 0);
    }
}

fn served(mut client: Client) -> Client {
    assert_eq!(client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").reply().text(), "x");
    client
}

#[test]
fn long_lived_connections_are_even_in_every_run() {
    for driver in [&driver(), "epoll"] {
        let gateway = gateway(driver, "");
        check_even(&gateway, 20, 40, || served(gateway.client()));
        assert!(gateway.counter("coregate_connections_handed_over_total") > 0);
        assert_eq!(gateway.counter("coregate_accept_errors_total"), 0);
    }
}

#[test]
fn a_connection_that_was_handed_over_is_served_to_its_end() {
    let gateway = gateway(&driver(), "");
    let mut clients: Vec<_> = (0..60).map(|_| gateway.client()).collect();
    for round in 0..3 {
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        }
        for client in &mut clients {
            assert_eq!(client.reply().status, 200, "round {round}");
        }
    }
    drop(clients);
    wait_until("the connections to end", || counts(&gateway) == [0; SHARDS]);
    assert_eq!(gateway.counter("coregate_connections_closed_total"), 60);
}

#[test]
fn unix_sockets_are_spread_as_well() {
    let directory = crate::harness::Directory::new();
    let path = directory.path().join("s.sock");
    let gateway = gateway(&driver(), &format!("listen = \"unix:{}\"", path.display()));
    check_even(&gateway, 3, 40, || {
        use std::io::{Read, Write};
        let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("the gateway listens");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("the gateway reads");
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("the gateway answers");
        assert_eq!(&status, b"HTTP/1.1 200");
        stream
    });
}

#[test]
fn a_handshake_is_made_where_the_connection_went() {
    let authority = Authority::new("test");
    let tls =
        format!("listen = \"https://127.0.0.1:0\"\ntls = {{ {} }}", authority.site("site", &["a.example"]));
    let gateway = gateway(&driver(), &tls);
    let config = Arc::new(authority.trust());
    check_even(&gateway, 2, 40, || {
        let mut client = TlsClient::connect(gateway.address(), "a.example", &config).expect("TLS is spoken");
        assert_eq!(client.get("/").text(), "x");
        client
    });
}

#[test]
fn a_shard_without_room_hands_over_before_it_refuses() {
    // Ten for each shard: chance would fill one of them long before the others.
    let gateway = gateway(&driver(), "defaults = { max_connections = 40 }");
    check_even(&gateway, 5, 40, || served(gateway.client()));
    assert_eq!(gateway.counter("coregate_connections_refused_total"), 0);

    let full: Vec<_> = (0..40).map(|_| served(gateway.client())).collect();
    let mut refused = gateway.client();
    assert_eq!(refused.try_send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").reply().status, 503);
    drop(full);
}
