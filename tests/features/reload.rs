//! A new configuration while requests are served: all of it or nothing, and nobody notices.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
};

use crate::harness::{Client, Gateway, Upstream, ok, wait_until};

fn fixed(body: &str) -> String {
    format!("[routes]\n\"/\" = {{ status = 200, body = \"{body}\" }}\n")
}

/// Waits for every shard to have taken the configuration up: connections are spread over them.
fn all_say(gateway: &Gateway, body: &str) {
    wait_until("every shard to say the new thing", || {
        (0..20).all(|_| gateway.get("/").body == body.as_bytes())
    });
}

#[test]
fn a_reload_replaces_the_routes() {
    let gateway = Gateway::start(fixed("old"));
    assert_eq!(gateway.get("/").text(), "old");
    gateway.reload(fixed("new")).expect("the file is good");
    all_say(&gateway, "new");
}

#[test]
fn an_open_connection_sees_the_new_routes_with_its_next_request() {
    let gateway = Gateway::start(fixed("old"));
    let mut client = gateway.client();
    assert_eq!(client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").reply().text(), "old");
    gateway.reload(fixed("new")).expect("the file is good");
    wait_until("the new routes", || client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").reply().body == b"new");
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let gateway = Gateway::start(fixed("old"));
    for (bad, named) in [
        ("[routes]\n\"/\" = { sattus = 200 }\n", "sattus"),
        ("[routes]\n\"/\" = \"nobody\"\n", "nobody"),
        ("[routes\n", "config.toml"),
        ("[routes]\n\"/a/{x}/c\" = { status = 200 }\n\"/a/b/{y}\" = { status = 200 }\n", "/a/b/{y}"),
    ] {
        let error = gateway.reload(bad).expect_err("the file is bad");
        assert!(error.contains(named), "{error}");
        assert_eq!(gateway.get("/").text(), "old");
    }
    gateway.reload(fixed("new")).expect("a good file after bad ones");
    all_say(&gateway, "new");
}

#[test]
fn services_that_change_places_with_their_routes_are_a_change() {
    let (one, two) = (Upstream::saying("one"), Upstream::saying("two"));
    let config = |first: (&str, &Upstream), second: (&str, &Upstream), at_root: &str, other: &str| {
        format!(
            "[services]\n{} = \"http://{}\"\n{} = \"http://{}\"\n[routes]\n\"/\" = \"{at_root}\"\n\"/other/\" = \"{other}\"\n",
            first.0, first.1, second.0, second.1
        )
    };
    let gateway = Gateway::start(config(("one", &one), ("two", &two), "one", "two"));
    assert_eq!(gateway.get("/").text(), "one");
    gateway.reload(config(("two", &two), ("one", &one), "two", "one")).expect("the file is good");
    all_say(&gateway, "two");
}

#[test]
fn a_file_that_changes_is_read_without_being_told() {
    let gateway = Gateway::watching(fixed("old"));
    gateway.rewrite(fixed("new"));
    all_say(&gateway, "new");
}

#[test]
fn a_request_in_flight_keeps_what_it_began_with() {
    let (held, new) = (Upstream::saying("unused"), Upstream::saying("new"));
    drop(held);
    let go = std::sync::Arc::new(AtomicBool::new(false));
    let waiting = std::sync::Arc::clone(&go);
    let old = Upstream::start(move |peer| {
        while peer.request().is_some() {
            wait_until("the reload to be done", || waiting.load(Ordering::SeqCst));
            peer.send(ok("old"));
        }
    });
    let gateway = Gateway::start(format!("[routes]\n\"/\" = \"http://{old}\"\n"));
    let mut client = gateway.client();
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_until("the request to arrive", || !old.lines().is_empty());
    gateway.reload(format!("[routes]\n\"/\" = \"http://{new}\"\n")).expect("the file is good");
    all_say(&gateway, "new");
    go.store(true, Ordering::SeqCst);
    assert_eq!(client.reply().text(), "old");
    assert_eq!(client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").reply().text(), "new");
}

#[test]
fn connections_to_a_service_that_did_not_change_are_kept() {
    let upstream = Upstream::saying("ok");
    let toml = |path: &str| {
        format!("shards = 1\n[services]\ns = \"http://{upstream}\"\n[routes]\n\"{path}\" = \"s\"\n")
    };
    let gateway = Gateway::start(toml("/"));
    assert_eq!(gateway.get("/").status, 200);
    for path in ["/a/", "/b/", "/c/"] {
        gateway.reload(toml(path)).expect("the file is good");
        wait_until("the new route", || gateway.get(&format!("{path}x")).status == 200);
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn no_request_fails_while_configurations_come_and_go() {
    const REQUESTS: usize = 20_000;
    let upstream = Upstream::saying("ok");
    let toml = |number: usize| {
        format!(
            "[services]\ns = \"http://{upstream}\"\n[routes]\n\"/\" = \"s\"\n\"/{number}\" = {{ status = 200 }}\n"
        )
    };
    let gateway = Gateway::start(toml(0));
    let (address, done) = (gateway.address(), AtomicUsize::new(0));
    let mut reloads = 0;
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                while done.fetch_add(1, Ordering::SeqCst) < REQUESTS {
                    let reply = client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").reply();
                    assert_eq!((reply.status, reply.text()), (200, "ok"));
                    if reply.header("connection") == Some("close") {
                        client = Client::connect(address);
                    }
                }
            });
        }
        while done.load(Ordering::SeqCst) < REQUESTS {
            reloads += 1;
            gateway.reload(toml(reloads)).expect("the file is good");
        }
    });
    assert!(reloads >= 5, "{reloads} reloads within {REQUESTS} requests");
}
