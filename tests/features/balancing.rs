//! Which endpoint a request goes to, and what happens when all have as many as they may.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use crate::harness::{Client, Gateway, Upstream, now, ok, pause, wait_until};

fn gateway(shards: usize, table: &str) -> Gateway {
    Gateway::start(format!("shards = {shards}\n[services.s]\n{table}\n[routes]\n\"/\" = \"s\"\n"))
}

fn get(client: &mut Client, headers: &str) -> String {
    let reply = client.send(format!("GET / HTTP/1.1\r\nHost: x\r\n{headers}\r\n")).reply();
    if reply.status == 200 { reply.text().to_owned() } else { format!("({})", reply.status) }
}

fn who(gateway: &Gateway, count: usize) -> String {
    let mut client = gateway.client();
    (0..count).map(|_| get(&mut client, "")).collect()
}

/// An upstream that answers each request after `hold`, and the most it had at once.
fn busy(name: &'static str, hold: Duration) -> (Upstream, Arc<AtomicUsize>) {
    let most = Arc::new(AtomicUsize::new(0));
    let (present, seen) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&most));
    let upstream = Upstream::start(move |peer| {
        while peer.request().is_some() {
            seen.fetch_max(present.fetch_add(1, SeqCst) + 1, SeqCst);
            pause(hold);
            present.fetch_sub(1, SeqCst);
            peer.send(ok(name));
        }
    });
    (upstream, most)
}

/// An upstream that answers `/` at once and holds everything else until the test ends.
fn holding(name: &'static str) -> Upstream {
    Upstream::start(move |peer| {
        while let Some(request) = peer.request() {
            if request.target != "/" {
                return peer.hang();
            }
            peer.send(ok(name));
        }
    })
}

fn hold(gateway: &Gateway, upstream: &Upstream, path: &str) -> Client {
    let before = upstream.lines().len();
    let mut client = gateway.client();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"));
    wait_until("the request to be there", || upstream.lines().len() > before);
    client
}

#[test]
fn least_conn_avoids_who_is_busy_and_takes_turns_else() {
    let (a, b) = (holding("a"), holding("b"));
    let gateway =
        gateway(1, &format!("servers = [\"http://{a}\", \"http://{b}\"]\nbalance = \"least_conn\""));
    assert_eq!(who(&gateway, 4), "abab");
    let held = hold(&gateway, &a, "/held");
    assert_eq!(who(&gateway, 4), "bbbb");
    drop(held);
}

#[test]
fn least_time_avoids_who_is_slow() {
    let (slow, _) = busy("s", Duration::from_millis(200));
    let fast = Upstream::saying("f");
    let gateway =
        gateway(1, &format!("servers = [\"http://{slow}\", \"http://{fast}\"]\nbalance = \"least_time\""));
    let order = who(&gateway, 20);
    assert_eq!(order.matches('s').count(), 1, "{order}");
}

#[test]
fn least_time_does_not_take_a_fast_failure_for_speed() {
    let (bad, b) = (Upstream::resetting(), Upstream::saying("b"));
    let gateway = gateway(
        1,
        &format!("servers = [\"http://{bad} max_fails=0\", \"http://{b}\"]\nbalance = \"least_time\""),
    );
    assert_eq!(who(&gateway, 10), "bbbbbbbbbb");
    assert!(bad.lines().len() <= 2, "{:?}", bad.lines());
}

#[test]
fn the_first_is_used_until_it_has_max_conns() {
    let (a, b) = (holding("a"), holding("b"));
    let gateway =
        gateway(1, &format!("servers = [\"http://{a} max_conns=1\", \"http://{b}\"]\nbalance = \"first\""));
    assert_eq!(who(&gateway, 3), "aaa");
    let held = hold(&gateway, &a, "/held");
    assert_eq!(who(&gateway, 3), "bbb");
    held.reset();
}

#[test]
fn a_hash_keeps_a_value_at_its_server_until_that_is_gone() {
    let upstreams: Vec<_> = ["a", "b", "c"].map(Upstream::saying).into_iter().collect();
    let table = |upstreams: &[&Upstream]| {
        let servers: Vec<_> = upstreams.iter().map(|upstream| format!("\"http://{upstream}\"")).collect();
        let service = format!("servers = [{}]\nhash = \"{{header.x-user}}\"", servers.join(","));
        format!("shards = 2\n[services.s]\n{service}\n[routes]\n\"/\" = \"s\"\n")
    };
    let all: Vec<_> = upstreams.iter().collect();
    let gateway = Gateway::start(table(&all));
    let places = |gateway: &Gateway| -> Vec<String> {
        (0..30).map(|user| get(&mut gateway.client(), &format!("X-User: u{user}\r\n"))).collect()
    };
    let before = places(&gateway);
    assert_eq!(places(&gateway), before, "every shard decides alike");
    for name in ["a", "b", "c"] {
        assert!(before.iter().any(|place| place == name), "{before:?}");
    }

    // Without one of them, and with the others in another order, nobody else moves.
    gateway.reload(table(&[&upstreams[2], &upstreams[0]])).expect("a good configuration");
    for (before, after) in before.iter().zip(places(&gateway)) {
        assert!(*before == after || before == "b", "{before} became {after}");
    }
    // Who has no value is spread.
    let order = who(&gateway, 40);
    assert!(order.contains('a') && order.contains('c'), "{order}");
}

#[test]
fn clients_of_one_address_stay_together() {
    let (a, b, c) = (Upstream::saying("a"), Upstream::saying("b"), Upstream::saying("c"));
    let gateway = gateway(
        2,
        &format!("servers = [\"http://{a}\", \"http://{b}\", \"http://{c}\"]\nbalance = \"ip_hash\""),
    );
    let first = who(&gateway, 1);
    assert_eq!((0..8).map(|_| who(&gateway, 2)).collect::<String>(), first.repeat(16));
}

#[test]
fn max_conns_is_exact_over_all_shards() {
    let (upstream, most) = busy("x", Duration::from_millis(2));
    let gateway =
        gateway(4, &format!("servers = [\"http://{upstream} max_conns=3\"]\nqueue = \"100 wait 10s\""));
    let address = gateway.address();
    thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                for _ in 0..20 {
                    assert_eq!(get(&mut client, ""), "x");
                }
            });
        }
    });
    assert_eq!(most.load(SeqCst), 3);
    assert!(gateway.counter("coregate_requests_queued_total") > 0);
    assert_eq!(upstream.lines().len(), 480);
}

#[test]
fn without_a_queue_who_finds_no_place_gets_503_at_once() {
    let a = holding("a");
    let gateway = gateway(2, &format!("servers = [\"http://{a} max_conns=1\"]"));
    let held = hold(&gateway, &a, "/held");
    let mut client = gateway.client();
    for _ in 0..3 {
        // The connection is kept: the request was fine.
        let reply = client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").reply();
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    }
    assert!(gateway.log_line("service_full").contains("gateway"));
    held.reset();
    wait_until("the place to be free", || who(&gateway, 1) == "a");
}

#[test]
fn a_full_server_passes_requests_to_the_next_and_to_the_backup() {
    let (a, b, c) = (holding("a"), holding("b"), holding("c"));
    let gateway = gateway(
        1,
        &format!(
            "servers = [\"http://{a} max_conns=1\", \"http://{b} max_conns=1\", \"http://{c} backup\"]\nbalance = \"round_robin\""
        ),
    );
    let _first = hold(&gateway, &a, "/held");
    assert_eq!(who(&gateway, 3), "bbb");
    let _second = hold(&gateway, &b, "/held");
    assert_eq!(who(&gateway, 3), "ccc");
}

#[test]
fn a_request_waits_for_a_place_and_gets_it_when_one_is_free() {
    let a = holding("a");
    let gateway = gateway(2, &format!("servers = [\"http://{a} max_conns=1\"]\nqueue = \"10 wait 10s\""));
    let held = hold(&gateway, &a, "/held");
    let mut waiting: Vec<_> = (0..6).map(|_| gateway.client()).collect();
    for client in &mut waiting {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    wait_until("all to wait", || gateway.counter("coregate_requests_queued_total") == 6);
    assert_eq!(a.lines().len(), 1);
    held.reset();
    for client in &mut waiting {
        assert_eq!(client.reply().text(), "a");
    }
}

#[test]
fn a_queue_has_a_length_and_a_patience() {
    let a = holding("a");
    let gateway = gateway(2, &format!("servers = [\"http://{a} max_conns=1\"]\nqueue = \"2 wait 300ms\""));
    let held = hold(&gateway, &a, "/held");
    let begun = now();
    let mut waiting: Vec<_> = (0..2).map(|_| gateway.client()).collect();
    for client in &mut waiting {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    wait_until("both to wait", || gateway.counter("coregate_requests_queued_total") == 2);
    if begun.elapsed() < Duration::from_millis(200) {
        assert_eq!(who(&gateway, 1), "(503)", "the queue is full");
        assert!(begun.elapsed() < Duration::from_millis(300), "and says so at once");
    }
    for client in &mut waiting {
        let reply = client.reply();
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")));
    }
    assert!(begun.elapsed() >= Duration::from_millis(300));
    // Nobody who gave up is still counted.
    held.reset();
    wait_until("the place to be free", || who(&gateway, 1) == "a");
}

#[test]
fn who_waits_survives_a_reload_and_a_dead_endpoint() {
    let a = holding("a");
    let table = |more: &str| {
        format!(
            "shards = 2\n[services.s]\nservers = [\"http://{a} max_conns=1\"{more}]\nqueue = \"10 wait 10s\"\n[routes]\n\"/\" = \"s\"\n"
        )
    };
    let gateway = Gateway::start(table(""));
    let held = hold(&gateway, &a, "/held");
    let mut waiting = gateway.client();
    waiting.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_until("it to wait", || gateway.counter("coregate_requests_queued_total") == 1);
    let dead = Upstream::refusing();
    gateway.reload(table(&format!(", \"http://{dead} max_conns=1\""))).expect("a good configuration");
    held.reset();
    assert_eq!(waiting.reply().text(), "a");
    // The places of the dead one are given back with every attempt.
    let mut client = gateway.client();
    for _ in 0..10 {
        assert_eq!(get(&mut client, ""), "a");
    }
}

#[test]
fn a_gateway_that_stops_does_not_wait_for_those_in_a_queue() {
    let a = holding("a");
    let gateway = gateway(1, &format!("servers = [\"http://{a} max_conns=1\"]\nqueue = \"10 wait 1h\""));
    let _held = hold(&gateway, &a, "/held");
    let mut waiting = gateway.client();
    waiting.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_until("it to wait", || gateway.counter("coregate_requests_queued_total") == 1);
    let begun = now();
    drop(gateway);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_timeout_is_retried_only_where_it_is_listed() {
    for (on, expected) in [("\"timeout\"", "bb"), ("\"connect\"", "b(504)")] {
        let (silent, b) = (Upstream::hanging(), Upstream::saying("b"));
        let gateway = Gateway::start(format!(
            "shards = 1\n[services.s]\nservers = [\"http://{silent} max_fails=0\", \"http://{b}\"]\nbalance = \"round_robin\"\n\
             [routes]\n\"/\" = {{ to = \"s\", timeout = \"200ms\", retry = {{ on = [{on}], budget = \"100%\" }} }}\n"
        ));
        let mut replies: Vec<_> = (0..2).map(|_| who(&gateway, 1)).collect();
        replies.sort_by(|one, other| other.cmp(one));
        assert_eq!(replies.concat(), expected, "{on}");
    }
}

#[test]
fn a_post_is_repeated_only_where_that_is_asked_for() {
    for (on, expected) in [("\"reset\", \"non_idempotent\"", [200, 200]), ("\"reset\"", [200, 502])] {
        let (broken, b) = (Upstream::resetting(), Upstream::saying("b"));
        let gateway = Gateway::start(format!(
            "shards = 1\n[services.s]\nservers = [\"http://{broken} max_fails=0\", \"http://{b}\"]\nbalance = \"round_robin\"\n\
             [routes]\n\"/\" = {{ to = \"s\", retry = {{ on = [{on}] }} }}\n"
        ));
        let post = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
        let mut statuses = [0; 2].map(|_| gateway.send(post).status);
        statuses.sort_unstable();
        assert_eq!(statuses, expected, "{on}");
        assert!(b.requests().iter().all(|request| request.body == b"hi"));
    }
}

#[test]
fn retries_stay_within_their_budget() {
    let (bad, b) =
        (Upstream::replying("HTTP/1.1 503 X\r\nContent-Length: 1\r\n\r\nx"), Upstream::saying("b"));
    let gateway = Gateway::start(format!(
        "shards = 1\n[services.s]\nservers = [\"http://{bad} max_fails=0\", \"http://{b}\"]\nbalance = \"round_robin\"\n\
         [routes]\n\"/\" = {{ to = \"s\", retry = {{ on = [\"503\"], budget = \"0%\" }} }}\n"
    ));
    let begun = now();
    let order = who(&gateway, 400);
    let retried = gateway.counter("coregate_retries_total");
    // Three a second, and what was saved up before the first request.
    let bound = 100 + 3 * (begun.elapsed().as_secs() + 2);
    assert!(retried <= bound, "{retried} of at most {bound}");
    if retried < 150 {
        assert!(order.contains("(503)"), "{retried}");
        assert!(gateway.counter("coregate_retries_refused_total") > 0);
    }
}
