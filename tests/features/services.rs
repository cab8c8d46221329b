//! Endpoints: which one is asked, when another one is, and how connections to them are kept.

use std::time::Duration;

use crate::harness::{Gateway, Upstream, ok, pause, wait_until};

/// One shard, so that the order of picks is one order.
fn service(table: &str) -> Gateway {
    Gateway::start(format!("shards = 1\n[services.s]\n{table}\n[routes]\n\"/\" = \"s\"\n"))
}

fn who(gateway: &Gateway, count: usize) -> String {
    (0..count)
        .map(|_| {
            let reply = gateway.get("/");
            if reply.status == 200 { reply.text().to_owned() } else { format!("({})", reply.status) }
        })
        .collect()
}

#[test]
fn round_robin_takes_turns() {
    let (a, b, c) = (Upstream::saying("a"), Upstream::saying("b"), Upstream::saying("c"));
    let gateway = service(&format!(
        "servers = [\"http://{a}\", \"http://{b}\", \"http://{c}\"]\nbalance = \"round_robin\""
    ));
    let order = who(&gateway, 9);
    assert!("abcabcabcabc".contains(&order), "{order}");
}

#[test]
fn round_robin_is_smooth_over_weights() {
    let (a, b) = (Upstream::saying("a"), Upstream::saying("b"));
    let gateway =
        service(&format!("servers = [\"http://{a} weight=3\", \"http://{b}\"]\nbalance = \"round_robin\""));
    let order = who(&gateway, 16);
    assert_eq!(
        (order.matches('a').count(), order.contains("bb"), order.contains("aaaa")),
        (12, false, false),
        "{order}"
    );
}

#[test]
fn random_uses_every_endpoint_and_respects_weights() {
    let (a, b) = (Upstream::saying("a"), Upstream::saying("b"));
    let gateway = service(&format!("servers = [\"http://{a} weight=9\", \"http://{b}\"]"));
    let order = who(&gateway, 200);
    let count = order.matches('b').count();
    // Two choices of two endpoints: how often b is taken depends on the weights and on load, but it is never starved.
    assert!((1..100).contains(&count), "{count} of 200");
}

#[test]
fn a_down_endpoint_is_never_asked() {
    let (a, b) = (Upstream::saying("a"), Upstream::saying("b"));
    let gateway =
        service(&format!("servers = [\"http://{a} down\", \"http://{b}\"]\nbalance = \"round_robin\""));
    assert_eq!(who(&gateway, 6), "bbbbbb");
    assert_eq!(a.connections(), 0);
}

#[test]
fn a_backup_is_asked_only_when_no_other_is_left() {
    let (a, b) = (Upstream::saying("a"), Upstream::saying("b"));
    let gateway =
        service(&format!("servers = [\"http://{a}\", \"http://{b} backup\"]\nbalance = \"round_robin\""));
    assert_eq!(who(&gateway, 4), "aaaa");
    let refusing = Upstream::refusing();
    let gateway = service(&format!(
        "servers = [\"http://{refusing}\", \"http://{b} backup\"]\nbalance = \"round_robin\""
    ));
    assert_eq!(who(&gateway, 4), "bbbb");
}

#[test]
fn a_service_without_a_usable_endpoint_is_503() {
    let a = Upstream::saying("a");
    let gateway = service(&format!("servers = [\"http://{a} down\"]"));
    assert_eq!(gateway.get("/").status, 503);
}

#[test]
fn a_refused_connection_is_retried_at_the_next_endpoint() {
    let (refusing, b) = (Upstream::refusing(), Upstream::saying("b"));
    let gateway =
        service(&format!("servers = [\"http://{refusing}\", \"http://{b}\"]\nbalance = \"round_robin\""));
    assert_eq!(who(&gateway, 10), "bbbbbbbbbb");
    // Nothing was sent, so that even a POST may be tried again.
    let reply = gateway.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(
        (reply.status, b.requests().last().map(|request| request.body.clone())),
        (200, Some(b"hi".to_vec()))
    );
}

#[test]
fn a_connection_that_is_not_made_in_time_is_retried_at_the_next_endpoint() {
    let (silent, b) = (Upstream::unreachable(), Upstream::saying("b"));
    let gateway = service(&format!(
        "servers = [\"http://{silent}\", \"http://{b}\"]\nbalance = \"round_robin\"\nconnect = \"150ms\""
    ));
    assert_eq!(who(&gateway, 3), "bbb");
}

#[test]
fn a_connection_that_is_not_made_in_time_is_504_or_502_when_no_other_is_left() {
    let silent = Upstream::unreachable();
    let gateway = service(&format!("servers = [\"http://{silent}\"]\nconnect = \"150ms\""));
    let status = gateway.get("/").status;
    assert!([502, 504].contains(&status), "{status}");
}

#[test]
fn a_get_that_was_reset_is_retried_and_a_post_is_not() {
    for breaking in [Upstream::resetting as fn() -> Upstream, Upstream::closing] {
        let (broken, b) = (breaking(), Upstream::saying("b"));
        let gateway = service(&format!(
            "servers = [\"http://{broken} max_fails=0\", \"http://{b} max_fails=0\"]\nbalance = \"round_robin\""
        ));
        assert_eq!(who(&gateway, 4), "bbbb");
        let mut statuses: Vec<_> = (0..2)
            .map(|_| gateway.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi").status)
            .collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 502], "a POST whose bytes were sent may have been done");
        let posts = |upstream: &Upstream| upstream.lines().iter().filter(|line| *line == "POST /").count();
        assert_eq!((posts(&broken), posts(&b)), (1, 1));
    }
}

#[test]
fn an_idempotent_body_is_sent_again_whole() {
    let (broken, b) = (Upstream::resetting(), Upstream::saying("b"));
    let gateway =
        service(&format!("servers = [\"http://{broken}\", \"http://{b}\"]\nbalance = \"round_robin\""));
    for body in ["hello".to_owned(), "x".repeat(60_000)] {
        b.forget();
        for _ in 0..2 {
            let raw = format!("PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            assert_eq!(gateway.send(raw).status, 200);
        }
        assert!(b.requests().iter().all(|request| request.body == body.as_bytes()));
        assert_eq!(b.requests().len(), 2);
    }
}

#[test]
fn a_listed_status_is_retried_and_the_last_answer_is_kept() {
    let (bad, b) =
        (Upstream::replying("HTTP/1.1 503 X\r\nContent-Length: 3\r\n\r\nbad"), Upstream::saying("b"));
    let gateway = Gateway::start(format!(
        "shards = 1\n[services.s]\nservers = [\"http://{bad} max_fails=0\", \"http://{b}\"]\nbalance = \"round_robin\"\n\
         [services.t]\nservers = [\"http://{bad} max_fails=0\"]\n\
         [routes]\n\"/s\" = {{ to = \"s\", retry = {{ on = [\"503\"], tries = 2, budget = \"100%\" }} }}\n\"/t\" = {{ to = \"t\", retry = {{ on = [\"503\"], tries = 2, budget = \"100%\" }} }}\n"
    ));
    for _ in 0..4 {
        assert_eq!(gateway.get("/s").text(), "b");
    }
    let reply = gateway.get("/t");
    assert_eq!((reply.status, reply.text()), (503, "bad"), "no other endpoint is left");
}

#[test]
fn no_more_attempts_are_made_than_the_route_allows() {
    let broken: Vec<_> = (0..4).map(|_| Upstream::resetting()).collect();
    let servers: Vec<_> =
        broken.iter().map(|upstream| format!("\"http://{upstream} max_fails=0\"")).collect();
    for (retry, attempts) in [("{ on = [\"reset\"], tries = 3, budget = \"100%\" }", 3), ("false", 1)] {
        let gateway = Gateway::start(format!(
            "shards = 1\n[services.s]\nservers = [{}]\nbalance = \"round_robin\"\n[routes]\n\"/\" = {{ to = \"s\", retry = {retry} }}\n",
            servers.join(",")
        ));
        broken.iter().for_each(Upstream::forget);
        assert_eq!(gateway.get("/").status, 502);
        assert_eq!(broken.iter().map(|upstream| upstream.lines().len()).sum::<usize>(), attempts, "{retry}");
    }
}

#[test]
fn an_endpoint_that_fails_is_left_alone_for_a_while() {
    let (broken, b) = (Upstream::resetting(), Upstream::saying("b"));
    let gateway = service(&format!(
        "servers = [\"http://{broken} max_fails=2 fail_timeout=60s\", \"http://{b}\"]\nbalance = \"round_robin\""
    ));
    assert_eq!(who(&gateway, 12), "bbbbbbbbbbbb");
    assert_eq!(broken.lines().len(), 2);
}

#[test]
fn an_endpoint_comes_back_when_its_time_is_over() {
    let turn = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let well = std::sync::Arc::clone(&turn);
    let a = Upstream::start(move |peer| {
        while peer.request().is_some() {
            if !well.load(std::sync::atomic::Ordering::SeqCst) {
                return peer.reset();
            }
            peer.send(ok("a"));
        }
    });
    let b = Upstream::saying("b");
    let gateway = service(&format!(
        "servers = [\"http://{a} max_fails=1 fail_timeout=1s\", \"http://{b}\"]\nbalance = \"round_robin\""
    ));
    assert_eq!(who(&gateway, 4), "bbbb");
    turn.store(true, std::sync::atomic::Ordering::SeqCst);
    wait_until("the endpoint to come back", || who(&gateway, 2).contains('a'));
}

#[test]
fn the_last_endpoint_stays() {
    let broken = Upstream::resetting();
    let gateway = service(&format!("servers = [\"http://{broken} max_fails=1 fail_timeout=60s\"]"));
    for _ in 0..5 {
        assert_eq!(gateway.get("/").status, 502);
    }
    assert!(broken.lines().len() >= 5, "it is still asked: {}", broken.lines().len());
}

#[test]
fn connections_to_an_endpoint_are_kept_and_reused() {
    let a = Upstream::saying("a");
    let gateway = service(&format!("servers = [\"http://{a}\"]"));
    assert_eq!(who(&gateway, 30), "a".repeat(30));
    assert_eq!(a.connections(), 1);
    assert!(a.requests().iter().all(|request| request.header("connection") != Some("close")));
}

#[test]
fn without_keepalive_every_request_has_its_own_connection() {
    let a = Upstream::saying("a");
    let gateway = service(&format!("servers = [\"http://{a}\"]\nkeepalive = 0"));
    assert_eq!(who(&gateway, 3), "aaa");
    assert_eq!(a.connections(), 3);
    a.expect_all_ended();
}

#[test]
fn a_kept_connection_that_was_closed_meanwhile_is_never_an_error() {
    let a = Upstream::replying_once(ok("a"));
    let gateway = service(&format!("servers = [\"http://{a}\"]"));
    for _ in 0..20 {
        // Once the upstream has closed, once perhaps before it did, and for requests that may not be repeated, too.
        assert_eq!(gateway.get("/").status, 200);
        a.expect_all_ended();
        let reply = gateway.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(reply.status, 200);
        a.expect_all_ended();
    }
    assert_eq!(a.lines().len(), 40);
}

#[test]
fn a_kept_connection_that_closes_as_it_is_used_is_retried_once() {
    // The second request of every connection is read and answered with a close, as when both sides act at once.
    let a = Upstream::start(|peer| {
        peer.request();
        peer.send(ok("a"));
        peer.request();
    });
    let gateway = service(&format!("servers = [\"http://{a} max_fails=0\"]"));
    assert_eq!(who(&gateway, 6), "aaaaaa");
}

#[test]
fn as_many_requests_as_there_are_clients_go_at_once() {
    let a = Upstream::start(|peer| {
        while peer.request().is_some() {
            pause(Duration::from_millis(100));
            peer.send(ok("a"));
        }
    });
    let gateway = service(&format!("servers = [\"http://{a}\"]"));
    let mut clients: Vec<_> = (0..20).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    for client in &mut clients {
        assert_eq!(client.reply().text(), "a");
    }
    assert_eq!(a.connections(), 20);
}

#[test]
fn a_name_is_resolved() {
    let a = Upstream::saying("a");
    let gateway = service(&format!("servers = [\"http://localhost:{}\"]", a.address().port()));
    wait_until("the name to resolve", || gateway.get("/").status == 200);
}
