//! Host names of services: looked up at a name server that runs, followed as their records say.

use std::{net::Ipv4Addr, time::Duration};

use crate::harness::{Gateway, Names, Peer, Upstream, driver, now, ok, pause, wait_until};

/// The same port at 127.0.0.1, .2 and so on: servers that differ in their address only, and say which they are.
fn servers<const COUNT: usize>() -> [Upstream; COUNT] {
    let mut port = 0;
    [0; COUNT].map({
        let mut last = 0;
        move |_| {
            last += 1;
            let upstream = Upstream::start_at((Ipv4Addr::new(127, 0, 0, last), port), say_who);
            port = upstream.address().port();
            upstream
        }
    })
}

/// Answers with the address that was asked; `/slow` after a while.
fn say_who(peer: &mut Peer) {
    while let Some(request) = peer.request() {
        if request.target == "/slow" {
            pause(Duration::from_secs(3));
        }
        let who = peer.local().ip().to_string();
        peer.send(ok(&who));
    }
}

fn config(names: &Names, port: u16, more: &str) -> String {
    format!(
        "shards = 1\ndriver = {:?}\nresolver = \"{names}\"\n[services.s]\nservers = [\"http://app.test:{port}\"]\nbalance = \"round_robin\"\n\
         {more}[routes]\n\"/\" = \"s\"\n",
        driver()
    )
}

fn who(gateway: &Gateway) -> String {
    let reply = gateway.get("/");
    if reply.status == 200 { reply.text().to_owned() } else { reply.status.to_string() }
}

/// Who answers `count` requests, each once.
fn all(gateway: &Gateway, count: usize) -> Vec<String> {
    let mut all: Vec<_> = (0..count).map(|_| who(gateway)).collect();
    all.sort();
    all.dedup();
    all
}

#[test]
fn every_address_of_a_name_is_a_server() {
    let [a, _b] = servers();
    let names = Names::start("127.0.0.1 app.test\n127.0.0.2 app.test\n127.0.0.3 other.test\n");
    let gateway = Gateway::start(config(&names, a.address().port(), ""));
    assert_eq!(all(&gateway, 8), ["127.0.0.1", "127.0.0.2"]);
}

#[test]
fn a_name_is_followed_and_old_addresses_are_drained() {
    let [a, b, c] = servers();
    let names = Names::start("127.0.0.1 app.test\n127.0.0.2 app.test\n");
    let gateway = Gateway::start(config(&names, a.address().port(), ""));
    assert_eq!(all(&gateway, 8), ["127.0.0.1", "127.0.0.2"]);
    let to_b = b.connections();
    // A request that takes a while at the server that leaves.
    let mut slow = gateway.client();
    let before = a.lines().len();
    slow.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    let mut slow_at_b = gateway.client();
    slow_at_b.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_until("both to be there", || {
        a.lines().len() > before && b.lines().iter().any(|line| line == "GET /slow")
    });

    names.change("127.0.0.2 app.test\n127.0.0.3 app.test\n");
    let begun = now();
    wait_until("the new server to be used and the old not", || {
        all(&gateway, 4) == ["127.0.0.2", "127.0.0.3"]
    });
    assert!(begun.elapsed() < Duration::from_secs(5), "a record of one second: {:?}", begun.elapsed());
    assert_eq!(slow.reply().text(), "127.0.0.1", "what was under way is finished");
    assert_eq!(slow_at_b.reply().text(), "127.0.0.2");
    // Idle connections to the old address are closed, those to the one that stays are used on.
    a.expect_all_ended();
    assert!(b.connections() <= to_b + 2, "{} after {to_b}", b.connections());
    assert_eq!(c.lines().iter().filter(|line| *line == "GET /slow").count(), 0);
}

#[test]
fn a_name_that_does_not_exist_is_not_fatal_and_is_found_later() {
    let [a] = servers();
    let names = Names::start("127.0.0.9 other.test\n");
    let gateway = Gateway::start(config(&names, a.address().port(), ""));
    assert_eq!(who(&gateway), "503");
    names.change("127.0.0.1 app.test\n");
    wait_until("the name to be found", || who(&gateway) == "127.0.0.1");
}

#[test]
fn a_name_server_that_is_gone_changes_nothing() {
    let [a, _b] = servers();
    let mut names = Names::start("127.0.0.1 app.test\n");
    let gateway = Gateway::start(config(&names, a.address().port(), ""));
    assert_eq!(who(&gateway), "127.0.0.1");
    names.stop();
    wait_until("the failure to be noticed", || gateway.events().contains("app.test keeps its addresses"));
    assert_eq!(who(&gateway), "127.0.0.1");
    // Nor does a reload meanwhile.
    let changed = config(&names, a.address().port(), "keepalive = 7\n");
    gateway.reload(&changed).expect("a good configuration");
    assert_eq!(who(&gateway), "127.0.0.1");

    names.run();
    names.change("127.0.0.2 app.test\n");
    wait_until("the new address", || who(&gateway) == "127.0.0.2");
}

#[test]
fn a_name_that_exists_no_more_keeps_its_addresses() {
    let [a] = servers();
    let names = Names::start("127.0.0.1 app.test\n");
    let gateway = Gateway::start(config(&names, a.address().port(), ""));
    names.change("127.0.0.1 other.test\n");
    wait_until("that to be noticed", || {
        gateway.events().contains("app.test keeps its addresses: no such name")
    });
    assert_eq!(who(&gateway), "127.0.0.1");
}

#[test]
fn a_gateway_starts_without_a_name_server() {
    let [a] = servers();
    let mut names = Names::start("127.0.0.1 app.test\n");
    names.stop();
    let gateway = Gateway::start(config(&names, a.address().port(), ""));
    assert_eq!(who(&gateway), "503");
    names.run();
    wait_until("the name to be found", || who(&gateway) == "127.0.0.1");
}

#[test]
fn a_reload_brings_other_names_and_other_name_servers() {
    let [a, _b] = servers();
    let port = a.address().port();
    let (one, other) =
        (Names::start("127.0.0.1 app.test\n127.0.0.2 web.test\n"), Names::start("127.0.0.2 app.test\n"));
    let gateway = Gateway::start(config(&one, port, ""));
    assert_eq!(who(&gateway), "127.0.0.1");
    gateway.reload(config(&one, port, "").replace("app.test", "web.test")).expect("a good configuration");
    assert_eq!(who(&gateway), "127.0.0.2");
    gateway.reload(config(&one, port, "")).expect("a good configuration");
    assert_eq!(who(&gateway), "127.0.0.1");
    gateway.reload(config(&other, port, "")).expect("a good configuration");
    assert_eq!(who(&gateway), "127.0.0.2");
    let asked = other.questions("app.test");
    wait_until("the name to be followed there", || other.questions("app.test") > asked);
}

#[test]
fn a_health_of_an_address_that_stays_is_kept() {
    // Nobody listens at 127.0.0.3: it is out after its first failure, and stays so when another address comes.
    let [a, _b] = servers();
    let names = Names::start("127.0.0.1 app.test\n127.0.0.3 app.test\n");
    let port = a.address().port();
    let text = config(&names, port, "")
        .replace(&format!(":{port}\""), &format!(":{port} max_fails=1 fail_timeout=1h\""));
    let gateway = Gateway::start(text);
    assert_eq!(all(&gateway, 4), ["127.0.0.1"]);
    let refused = || gateway.counter("coregate_upstream_attempts_total{outcome=\"connect\"}");
    assert_eq!(refused(), 1);
    names.change("127.0.0.1 app.test\n127.0.0.2 app.test\n127.0.0.3 app.test\n");
    wait_until("the new server to be used", || all(&gateway, 4) == ["127.0.0.1", "127.0.0.2"]);
    assert_eq!(refused(), 1);
}

#[test]
fn an_answer_that_is_too_long_for_a_datagram_is_asked_for_again() {
    let everywhere = Upstream::start_at((Ipv4Addr::UNSPECIFIED, 0), say_who);
    let hosts: String = (1..=120).map(|last| format!("127.0.1.{last} app.test\n")).collect();
    let names = Names::start(&hosts);
    let gateway = Gateway::start(config(&names, everywhere.address().port(), ""));
    assert_eq!(all(&gateway, 120).len(), 120);
}

#[test]
fn hosts_of_this_machine_come_first() {
    let [a] = servers();
    let names = Names::start("127.0.0.9 localhost\n");
    let text = config(&names, a.address().port(), "")
        .replace("app.test", "localhost")
        .replace("\"\n[services", " ipv6=off\"\n[services");
    let gateway = Gateway::start(text);
    assert_eq!(who(&gateway), "127.0.0.1");
}
