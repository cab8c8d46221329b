//! However a request or a connection ends, nothing of it is left: no count, no buffer, no wait.

use std::{
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixListener,
    sync::mpsc,
    thread,
    time::Duration,
};

use crate::harness::{Directory, Gateway, Upstream, now, ok, pause, wait_until};

/// Waits until the gauges are what they are without clients.
#[track_caller]
pub fn expect_nothing_left(gateway: &Gateway) {
    let busy = || {
        let upstream = gateway.counter("coregate_upstream_connections");
        let idle = gateway.counter("coregate_upstream_connections_idle");
        [
            gateway.counter("coregate_connections"),
            gateway.counter("coregate_requests_in_flight"),
            upstream.saturating_sub(idle),
            // A kept connection reads ahead, into a buffer of its own.
            gateway.counter("coregate_buffer_bytes").saturating_sub(idle * 256 * 1024),
        ]
    };
    wait_until("connections, requests and buffers to be gone", || busy() == [0; 4]);
}

#[test]
fn nothing_is_left_of_what_failed() {
    let dead = [
        Upstream::refusing(),
        Upstream::closing(),
        Upstream::resetting(),
        Upstream::hanging(),
        Upstream::unreachable(),
        Upstream::replying_once("garbage\r\n\r\n"),
        Upstream::replying_once("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"),
        Upstream::replying_once("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        Upstream::replying_once("HTTP/1.1 200 OK\r\n\r\nuntil close"),
        Upstream::replying(ok("more than announced") + "x"),
        Upstream::start(|peer| {
            // An early answer to a body that nobody reads.
            peer.request_head();
            peer.send("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n");
        }),
        Upstream::start(|peer| {
            peer.request();
            peer.send("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello");
            peer.hang();
        }),
        Upstream::start(|peer| {
            peer.request();
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 50000000\r\n\r\n");
            let block = vec![b'x'; 1 << 16];
            while peer.try_send(&block) {}
        }),
    ];
    let mut toml =
        String::from("[defaults]\ntimeout = \"300ms\"\nclient_body_timeout = \"1s\"\n[services]\n");
    for (number, upstream) in dead.iter().enumerate() {
        toml += &format!("s{number} = {{ servers = [\"http://{upstream}\"], connect = \"200ms\" }}\n");
    }
    toml += "[routes]\n\"/fixed\" = { status = 200, body = \"x\" }\n";
    for number in 0..dead.len() {
        toml += &format!("\"/{number}\" = \"s{number}\"\n");
    }
    let gateway = Gateway::start(toml);
    let bodies = [
        "Content-Length: 3\r\n\r\nabc".to_owned(),
        format!("Content-Length: 200000\r\n\r\n{}", "x".repeat(200_000)),
        format!("Content-Length: 200000\r\n\r\n{}", "x".repeat(70_000)),
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n".to_owned(),
        "Content-Length: 200000\r\nExpect: 100-continue\r\n\r\n".to_owned(),
        "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned(),
        "\r\n".to_owned(),
    ];
    let mut clients = Vec::new();
    for target in
        (0..dead.len()).map(|number| number.to_string()).chain(["fixed".to_owned(), "none".to_owned()])
    {
        for (number, body) in bodies.iter().enumerate() {
            let method = if number < 7 { "POST" } else { "GET" };
            let mut client = gateway.client();
            client.try_send(format!("{method} /{target} HTTP/1.1\r\nHost: x\r\n{body}"));
            clients.push(client);
        }
    }
    let half_a_head = gateway.client().send("GET / HT").stream().try_clone();
    // Some go away at once, some with a reset, some wait for what comes.
    for (number, mut client) in clients.into_iter().enumerate() {
        match number % 3 {
            0 => drop(client),
            1 => client.reset(),
            _ => {
                client.patience(Duration::from_millis(50));
                drop(client.try_reply());
            }
        }
    }
    drop(half_a_head);
    expect_nothing_left(&gateway);
    assert_eq!(gateway.get("/fixed").text(), "x");
}

/// A gateway with a request in every kind of wait, when it is stopped.
fn stopped_in_the_middle(driver: &str) {
    let (hanging, unreachable) = (Upstream::hanging(), Upstream::unreachable());
    let endless = Upstream::start(|peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\n\r\n");
        while peer.try_send([b'x'; 1 << 16]) {}
    });
    let tunnel = Upstream::start(|peer| {
        peer.request();
        peer.send("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        peer.hang();
    });
    let gateway = Gateway::start(format!(
        "driver = \"{driver}\"\n[services]\nu = {{ servers = [\"http://{unreachable}\"], connect = \"30s\" }}\n[routes]\n\"/hanging\" = \"http://{hanging}\"\n\"/unreachable\" = \"u\"\n\"/endless\" = \"http://{endless}\"\n\"/tunnel\" = \"http://{tunnel}\"\n\"/fixed\" = {{ status = 200 }}\n"
    ));
    let clients: Vec<_> = [
        "",
        "GET /half HT",
        "GET /hanging HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /unreachable HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /tunnel HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "GET /fixed HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /fixed HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST /hanging HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf",
        "POST /hanging HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\npart",
        "POST /hanging HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
        "POST /fixed HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf",
    ]
    .map(|bytes| {
        let mut client = gateway.client();
        client.send(bytes);
        client
    })
    .into();
    wait_until("every request to be served", || gateway.counter("coregate_requests_in_flight") >= 8);
    let start = now();
    drop(gateway);
    assert!(start.elapsed() < Duration::from_millis(1_500), "{:?} on {driver}", start.elapsed());
    drop(clients);
}

/// RUNTIME §1.3, 5: a runtime that ends has nothing in the kernel's hands, and does not wait for the world.
#[test]
fn a_gateway_stops_at_once_whatever_it_waits_for() {
    stopped_in_the_middle(&crate::harness::driver());
    stopped_in_the_middle("epoll");
}

#[test]
fn a_head_that_stops_after_a_streamed_body_is_504() {
    let upstream = Upstream::start(|peer| {
        peer.request();
        peer.send("HTTP/1.1 102 Processing\r\n\r\n");
        pause(Duration::from_millis(50));
        peer.send("HTTP/1.1 200 OK\r\nX-A: 1\r\n").hang();
    });
    let gateway =
        Gateway::start(format!("[routes]\n\"/\" = {{ to = \"http://{upstream}\", timeout = \"400ms\" }}\n"));
    let start = now();
    let reply =
        gateway.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n");
    assert_eq!(reply.status, 504);
    assert!(start.elapsed() >= Duration::from_millis(400), "{:?}", start.elapsed());
}

#[test]
fn a_quiet_response_outlives_the_time_for_its_head_when_the_body_ends_after_it() {
    let upstream = Upstream::start(|peer| {
        let head = peer.request_head().expect("a request");
        assert_eq!(head.method, "POST");
        peer.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n");
        peer.read_exactly(b"1\r\na\r\n0\r\n\r\n".len());
        pause(Duration::from_millis(900));
        peer.send("data: 2\n\n");
    });
    let gateway = Gateway::start(format!(
        "[routes]\n\"/\" = {{ to = \"http://{upstream}\", timeout = \"400ms\", stream = true }}\n"
    ));
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut seen = String::new();
    while !seen.contains("data: 1") {
        seen += &String::from_utf8_lossy(&client.read(1));
    }
    client.send("1\r\na\r\n0\r\n\r\n");
    while !seen.ends_with("0\r\n\r\n") {
        seen += &String::from_utf8_lossy(&client.read(1));
    }
    assert!(seen.contains("data: 2"), "{seen}");
}

/// Only on a Unix socket does a service refuse the rest of a body and then answer.
#[test]
fn the_rest_of_a_body_that_a_service_refuses_is_not_the_next_request() {
    let directory = Directory::new();
    let path = directory.path().join("s.sock");
    let listener = UnixListener::bind(&path).expect("a free path");
    let (send_more, told) = mpsc::channel();
    let service = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the gateway connects");
        let mut bytes = [0; 1024];
        stream.read_exact(&mut bytes).expect("there is a body");
        stream.shutdown(Shutdown::Read).expect("it is connected");
        send_more.send(()).expect("the test waits");
        pause(Duration::from_millis(300));
        stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n").expect("it is connected");
        // The next request comes on a connection of its own.
        let (mut stream, _) = listener.accept().expect("the gateway connects");
        let mut line = [0; 20];
        stream.read_exact(&mut line).expect("there is a request");
        stream.write_all(ok("next").as_bytes()).expect("it is connected");
        String::from_utf8_lossy(&line).into_owned()
    });
    let gateway = Gateway::start(format!("[routes]\n\"/\" = \"unix:{}\"\n", path.display()));
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n").send([b'x'; 50_000]);
    told.recv().expect("the service reads");
    client.send([b'y'; 20_000]);
    assert_eq!(client.reply().status, 413);
    client.send("GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1_000).split_at(30_000).0);
    client.send("GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.reply().text(), "next");
    assert_eq!(service.join().expect("it ends"), "GET /next HTTP/1.1\r\n");
}

#[test]
fn a_reply_that_ends_with_its_connection_is_broken_when_the_upload_ends_it() {
    let upstream = Upstream::start(|peer| {
        peer.request_head();
        peer.send("HTTP/1.1 200 OK\r\n\r\npart of it").hang();
    });
    let gateway =
        Gateway::start(format!("[routes]\n\"/\" = {{ to = \"http://{upstream}\", stream = true }}\n"));
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut seen = String::new();
    while !seen.ends_with("part of it\r\n") {
        seen += &String::from_utf8_lossy(&client.read(1));
    }
    client.send("malformed\r\n");
    let rest = client.read_to_end();
    assert!(!rest.ends_with(b"0\r\n\r\n"), "the shorter body looks whole");
}

#[test]
fn a_204_has_no_length() {
    let upstream = Upstream::replying("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n");
    let gateway = Gateway::start(format!("[routes]\n\"/\" = \"http://{upstream}\"\n"));
    let reply = gateway.get("/");
    assert_eq!((reply.status, reply.header("content-length")), (204, None));
}
