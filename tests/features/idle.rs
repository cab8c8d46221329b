//! Connections that rest: what they cost, and how long they may.

use std::{fs, time::Duration};

use crate::harness::{Coregate, Gateway, now, pause, wait_until};

const COUNT: usize = 1_000;

#[test]
fn connections_that_rest_hold_no_buffer() {
    let gateway = Gateway::start("[routes]\n\"/\" = { status = 200, body = \"ok\" }\n");
    let mut clients: Vec<_> = (0..100).map(|_| gateway.client()).collect();
    for client in &mut clients {
        assert_eq!(client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").reply().text(), "ok");
    }
    assert_eq!(gateway.counter("coregate_connections"), 100);
    wait_until("the buffers to come back", || gateway.counter("coregate_buffer_bytes") == 0);
    assert_eq!(gateway.counter("coregate_connections"), 100);
    // And get one again when they go on.
    for client in &mut clients {
        assert_eq!(client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").reply().text(), "ok");
    }
}

fn memory_kib(id: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{id}/status")).expect("the process runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("Linux says it");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number of kB")
}

#[test]
fn a_thousand_idle_connections_cost_little_memory() {
    let coregate = Coregate::serving("shards = 1\n[routes]\n\"/\" = { status = 200, body = \"x\" }\n", &[]);
    let get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    for _ in 0..100 {
        assert_eq!(coregate.client().send(get).reply().status, 200);
    }
    let before = memory_kib(coregate.id());
    let mut clients = Vec::new();
    for _ in 0..COUNT {
        let mut client = coregate.client();
        assert_eq!(client.send(get).reply().status, 200);
        clients.push(client);
    }
    let grown = || memory_kib(coregate.id()).saturating_sub(before);
    // Their buffers go into the stock after a second, and from there back to the system bit by bit. What is left is the
    // connections' tasks, and what the allocator and the log keep.
    wait_until("the memory to be given back", || grown() < 16 * COUNT);
}

#[test]
fn a_new_connection_has_its_whole_time() {
    let gateway = Gateway::start(
        "shards = 1\n[defaults]\nclient_header_timeout = \"1s\"\n[routes]\n\"/\" = { status = 200 }\n",
    );
    for number in 0..4 {
        // Whatever the shard last looked at the clock for, it was a while ago.
        pause(Duration::from_millis(600 + 70 * number));
        let start = now();
        gateway.client().expect_closed();
        assert!(start.elapsed() >= Duration::from_millis(990), "{:?}", start.elapsed());
    }
}
