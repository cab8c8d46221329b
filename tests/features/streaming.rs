//! Bodies pass through: as they come, as fast as the slower side takes them, and never all at once in memory.

use std::{
    fs,
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use crate::harness::{Coregate, Gateway, Upstream, pause, wait_until};

const MIB: usize = 1 << 20;

/// The most memory the process ever had, in KiB.
fn memory_peak_kib(id: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("Linux says it");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of kB")
}

#[test]
fn a_large_response_passes_without_sitting_in_memory() {
    let upstream = Upstream::start(|peer| {
        peer.request();
        peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 100 * MIB));
        let block = vec![b'x'; MIB];
        for _ in 0..100 {
            peer.send(&block);
        }
    });
    let coregate = Coregate::serving(&format!("[routes]\n\"/\" = \"http://{upstream}\"\n"), &[]);
    let before = memory_peak_kib(coregate.id());
    let mut client = coregate.client();
    client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    // A client that does not read for a while is the hard case.
    pause(Duration::from_millis(300));
    let mut count = 0;
    let mut block = vec![0; MIB];
    loop {
        match client.stream().read(&mut block).expect("the gateway goes on") {
            0 => break,
            read => count += read,
        }
    }
    assert!(count > 100 * MIB && count < 100 * MIB + 2_000, "{count}");
    let grown = memory_peak_kib(coregate.id()) - before;
    assert!(grown < 16 * 1024, "{grown} KiB more");
}

#[test]
fn a_large_request_passes_without_sitting_in_memory() {
    let upstream = Upstream::start(|peer| {
        peer.request_head();
        pause(Duration::from_millis(300));
        let mut count = 0;
        while count < 100 * MIB {
            match peer.read().len() {
                0 => return,
                read => count += read,
            }
        }
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let coregate = Coregate::serving(
        &format!("[routes]\n\"/\" = {{ to = \"http://{upstream}\", max_body = \"1GiB\" }}\n"),
        &[],
    );
    let before = memory_peak_kib(coregate.id());
    let mut client = coregate.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 100 * MIB));
    let block = vec![b'x'; MIB];
    for _ in 0..100 {
        client.send(&block);
    }
    assert_eq!(client.reply().text(), "ok");
    let grown = memory_peak_kib(coregate.id()) - before;
    assert!(grown < 16 * 1024, "{grown} KiB more");
}

#[test]
fn a_client_that_does_not_read_stops_the_upstream() {
    let taken = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&taken);
    let upstream = Upstream::start(move |peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let block = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
        while peer.try_send(&block) {
            counting.fetch_add(block.len(), Ordering::SeqCst);
        }
    });
    let gateway = Gateway::start(format!("[routes]\n\"/\" = \"http://{upstream}\"\n"));
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    // It stops when sockets and one window are full. Their sizes are the kernel's, so watch for standstill.
    let mut last = usize::MAX;
    wait_until("the upstream to be stopped", || {
        pause(Duration::from_millis(100));
        let now = taken.load(Ordering::SeqCst);
        std::mem::replace(&mut last, now) == now && now > 0
    });
    assert!(last < 32 * MIB, "{last}");
    client.reset();
    upstream.expect_all_ended();
}

#[test]
fn an_upstream_that_does_not_read_stops_the_client() {
    let done = Arc::new(AtomicBool::new(false));
    let is_done = Arc::clone(&done);
    let upstream = Upstream::start(move |peer| {
        peer.request_head();
        wait_until("the test to be done", || is_done.load(Ordering::SeqCst));
    });
    let gateway =
        Gateway::start(format!("[routes]\n\"/\" = {{ to = \"http://{upstream}\", max_body = false }}\n"));
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n");
    client.stream().set_write_timeout(Some(Duration::from_millis(500))).expect("a TCP socket");
    let (block, mut count) = (vec![b'x'; MIB], 0);
    while let Ok(written) = client.stream().write(&block) {
        count += written;
        assert!(count < 64 * MIB, "the gateway takes more than anybody reads");
    }
    done.store(true, Ordering::SeqCst);
}

#[test]
fn parts_of_a_response_arrive_as_they_are_sent() {
    let (go, next) = mpsc::channel::<()>();
    #[expect(clippy::disallowed_types, reason = "a script may run on several threads")]
    let next = std::sync::Mutex::new(next);
    let upstream = Upstream::start(move |peer| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for part in ["5\r\nfirst\r\n", "6\r\nsecond\r\n", "0\r\n\r\n"] {
            peer.send(part);
            let _ = next.lock().expect("nobody panics with it").recv_timeout(Duration::from_secs(5));
        }
    });
    let gateway = Gateway::start(format!("[routes]\n\"/\" = \"http://{upstream}\"\n"));
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    // Each part is asked for only after the one before it was seen.
    let mut seen = String::new();
    for part in ["first", "second"] {
        while !seen.contains(part) {
            seen += &String::from_utf8_lossy(&client.read(1));
        }
        go.send(()).expect("the upstream waits");
    }
    go.send(()).expect("the upstream waits");
    while !seen.ends_with("0\r\n\r\n") {
        seen += &String::from_utf8_lossy(&client.read(1));
    }
}

#[test]
fn parts_of_a_request_arrive_as_they_are_sent_when_the_route_streams() {
    let (arrived, parts) = mpsc::channel();
    let upstream = Upstream::start(move |peer| {
        peer.request_head();
        let mut all = Vec::new();
        while !all.ends_with(b"0\r\n\r\n") {
            let bytes = peer.read();
            if bytes.is_empty() {
                return;
            }
            all.extend(bytes);
            drop(arrived.send(String::from_utf8_lossy(&all).into_owned()));
        }
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let gateway =
        Gateway::start(format!("[routes]\n\"/\" = {{ to = \"http://{upstream}\", stream = true }}\n"));
    let mut client = gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for part in ["first", "second"] {
        client.send(format!("{:x}\r\n{part}\r\n", part.len()));
        while !parts.recv_timeout(Duration::from_secs(5)).expect("the part arrives alone").contains(part) {}
    }
    assert_eq!(client.send("0\r\n\r\n").reply().text(), "ok");
}

#[test]
fn both_directions_flow_at_once() {
    let upstream = Upstream::start(|peer| {
        peer.request_head();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n");
        let mut count = 0;
        while count < 3_000_000 {
            let bytes = peer.read();
            if bytes.is_empty() {
                return;
            }
            count += bytes.len();
            peer.send(bytes);
        }
    });
    let gateway = Gateway::start(format!(
        "[routes]\n\"/\" = {{ to = \"http://{upstream}\", stream = true, max_body = \"10MiB\" }}\n"
    ));
    let mut client = gateway.client();
    let body: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n");
    let reply = thread::scope(|scope| {
        let mut stream = client.stream().try_clone().expect("a descriptor is left");
        let body = &body;
        scope.spawn(move || stream.write_all(body).expect("the gateway takes it"));
        client.reply()
    });
    assert!(reply.body == body);
}

#[test]
fn bodies_of_every_size_are_whole() {
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.request() {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
            peer.send(head).send(&request.body);
        }
    });
    let gateway = Gateway::start(format!("[routes]\n\"/\" = \"http://{upstream}\"\n"));
    let mut client = gateway.client();
    for size in [
        0, 1, 2, 1_000, 4_095, 4_096, 4_097, 8_191, 8_192, 16_383, 16_384, 16_385, 32_768, 65_535, 65_536,
        65_537, 200_000, 1_048_576,
    ] {
        let body: Vec<u8> =
            (0..size).map(|number: u32| number.to_le_bytes()[0] ^ number.to_le_bytes()[1]).collect();
        client
            .send(format!("POST /{size} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n"))
            .send(&body);
        assert!(client.reply().body == body, "{size} by length");
        client.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
        for part in body.chunks(7_001) {
            client.send(format!("{:x}\r\n", part.len())).send(part).send("\r\n");
        }
        assert!(client.send("0\r\n\r\n").reply().body == body, "{size} in chunks");
    }
}
