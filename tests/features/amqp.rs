//! Services behind a broker: requests become messages, replies become responses.

use std::{io::Read as _, time::Duration};

use lapin::types::AMQPValue;

use crate::harness::{
    Client, Gateway, Reply,
    rabbit::{Answer, Rabbit, timed},
    wait_until,
};

/// A gateway with a route `/` to `queue` on the shared broker; `more` are keys of the service.
fn gateway(queue: &str, more: &str) -> Gateway {
    let url = Rabbit::shared().url();
    let gateway = Gateway::start(format!(
        "[services]\nq = {{ servers = '{url}', key = '{queue}'{more} }}\n\
         [routes]\n'/api/' = {{ to = 'q', strip = '/api', timeout = '3s' }}\n'/ping' = {{ body = 'pong' }}\n"
    ));
    is_connected(&gateway);
    gateway
}

/// Waits until calls are no longer refused for want of a broker.
#[track_caller]
fn is_connected(gateway: &Gateway) {
    wait_until("the broker to be reached", || !matches!(gateway.get("/api/connected").status, 503));
}

fn post(gateway: &Gateway, path: &str, headers: &str, body: &str) -> Reply {
    gateway.send(format!(
        "POST {path} HTTP/1.1\r\nHost: shop\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

#[test]
fn a_request_is_a_message_and_its_reply_the_response() {
    let worker = Rabbit::shared().worker("echo", |message| Answer::json(message.data.clone()));
    let gateway = gateway("echo", ", headers = ['X-Tenant']");
    let headers = "Content-Type: application/json\r\nX-Tenant: a\r\nX-Other: b\r\nX-Request-Id: req-1\r\n";
    let reply = post(&gateway, "/api/stock/7?colour=red%20x", headers, "{\"n\": 1e400}");
    assert_eq!((reply.status, reply.text()), (200, "{\"n\": 1e400}"));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("x-request-id"), Some("req-1"));

    let mut seen = worker.seen();
    while seen.message_id.as_deref() != Some("req-1") {
        seen = worker.seen(); // Those that found out whether the broker is there.
    }
    assert_eq!(seen.body, b"{\"n\": 1e400}");
    let check = |name: &str, expected: Option<&str>| assert_eq!(seen.header(name), expected, "{name}");
    check("method", Some("POST"));
    check("path", Some("/stock/7"));
    check("query", Some("colour=red%20x"));
    check("x-tenant", Some("a"));
    check("x-other", None);
    check("x-forwarded-for", Some("127.0.0.1"));
    check("x-forwarded-host", Some("shop"));
    assert_eq!(
        (seen.content_type.as_deref(), seen.message_id.as_deref()),
        (Some("application/json"), Some("req-1"))
    );
    let left: u64 = seen.expiration.expect("a call expires").parse().expect("milliseconds");
    assert!((1..=3000).contains(&left), "{left}");
    assert!(!seen.persistent);
    let line = gateway.log_line("/api/stock/7");
    assert!(line.contains("\"service\":\"q\"") && line.contains("\"ok\""), "{line}");
}

#[test]
fn chunked_and_binary_bodies_arrive_whole() {
    let _worker = Rabbit::shared()
        .worker("binary", |message| vec![Answer { body: message.data.clone(), ..Answer::default() }]);
    let gateway = gateway("binary", "");
    let mut client = gateway.client();
    client.send("POST /api/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\0b\r\n");
    client.send(b"2\r\n\xff\xfe\r\n0\r\n\r\n");
    let reply = client.reply();
    assert_eq!((reply.status, &reply.body[..]), (200, &b"a\0b\xff\xfe"[..]));
    assert_eq!(reply.header("content-type"), Some("application/octet-stream"));

    // A client that waits to be told, on the same connection.
    let body = "x".repeat(100_000);
    client.send(format!(
        "POST /api/ HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    ));
    let mut told = [0; 25];
    client.stream().read_exact(&mut told).expect("the gateway says that it waits");
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send(&body);
    assert_eq!(client.reply().body.len(), body.len());

    let too_large = format!("POST /api/ HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 2 << 20);
    assert_eq!(gateway.send(too_large).status, 413);
}

#[test]
fn a_reply_says_its_status_and_headers() {
    let _worker = Rabbit::shared().worker("headers", |message| {
        let path =
            message.properties.headers().as_ref().and_then(|headers| headers.inner().get("path").cloned());
        let path = match path {
            Some(AMQPValue::LongString(text)) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
            _ => String::new(),
        };
        let answer = Answer::json("{}").pop().expect("one");
        vec![match &*path {
            "/missing" => answer.with("status", AMQPValue::LongInt(404)),
            "/made" => answer
                .with("status", AMQPValue::LongString("201".into()))
                .with("Location", AMQPValue::LongString("/made/1".into()))
                .with("x-table", AMQPValue::FieldTable(lapin::types::FieldTable::default()))
                .with("x-evil", AMQPValue::LongString("a\r\nSet-Cookie: b=c".into())),
            "/failed" => answer.with("error", AMQPValue::LongString("no stock".into())),
            "/odd" => answer.with("status", AMQPValue::LongInt(42)),
            _ => answer,
        }]
    });
    let gateway = gateway("headers", ", max_reply = 100");
    let check = |path: &str, status: u16| {
        let reply = gateway.get(&format!("/api/{path}"));
        assert_eq!(reply.status, status, "{path}");
        reply
    };
    check("missing", 404);
    let made = check("made", 201);
    assert_eq!(made.header("location"), Some("/made/1"));
    assert_eq!(
        (made.header("x-table"), made.header("set-cookie"), made.header("status")),
        (None, None, None)
    );
    assert_eq!(check("failed", 502).header("content-type"), Some("application/problem+json"));
    assert!(gateway.log_line("/api/failed").contains("\"upstream_failed\""));
    check("odd", 502);
}

#[test]
fn what_cannot_be_routed_is_502_at_once() {
    let gateway = gateway("nobody.listens", "");
    let (reply, took) = timed(|| gateway.get("/api/x"));
    assert_eq!(reply.status, 502);
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(gateway.log_line("/api/x").contains("\"unroutable\""));

    // An exchange that is not there ends the channel; the next one works.
    let _worker = Rabbit::shared().worker("there", |_| Answer::json("1"));
    let exchange = self::gateway("there", ", exchange = '{query.x}'");
    wait_until("the channel to be open again", || exchange.get("/api/").status == 200);
    assert_eq!(exchange.get("/api/?x=missing").status, 502);
    wait_until("the channel to be open again", || exchange.get("/api/").status == 200);
}

#[test]
fn one_who_never_answers_is_504_on_time_and_one_who_answers_twice_or_late_disturbs_nobody() {
    let _worker = Rabbit::shared().worker("odd", |message| match &message.data[..] {
        b"never" => Vec::new(),
        b"twice" => [Answer::json("1"), Answer::json("2")].into_iter().flatten().collect(),
        _ => Answer::json("3"),
    });
    let gateway = gateway("odd", "");
    let (reply, took) = timed(|| post(&gateway, "/api/", "", "never"));
    assert_eq!(reply.status, 504);
    assert!((Duration::from_millis(2900)..Duration::from_secs(8)).contains(&took), "{took:?}");
    for _ in 0..3 {
        assert_eq!(post(&gateway, "/api/", "", "twice").text(), "1");
        assert_eq!(post(&gateway, "/api/", "", "once").text(), "3");
    }
}

#[test]
fn many_calls_at_once_get_each_its_own_answer() {
    let _worker = Rabbit::shared().worker("many", |message| Answer::json(message.data.clone()));
    for reply in ["direct", "queue"] {
        let gateway = gateway("many", &format!(", reply = '{reply}'"));
        let mut clients: Vec<Client> = (0..50).map(|_| gateway.client()).collect();
        for round in 0..5 {
            for (number, client) in clients.iter_mut().enumerate() {
                let body = format!("{round}.{number}");
                client.send(format!(
                    "POST /api/ HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ));
            }
            for (number, client) in clients.iter_mut().enumerate() {
                assert_eq!(client.reply().text(), format!("{round}.{number}"), "{reply}");
            }
        }
    }
}

#[test]
fn a_message_without_a_reply_is_202_once_the_broker_has_it() {
    let worker = Rabbit::shared().worker("events", |_| Vec::new());
    let gateway = gateway("events", ", reply = 'none'");
    let reply = post(&gateway, "/api/paid", "", "{}");
    assert_eq!((reply.status, reply.body.len()), (202, 0));
    let seen = worker.seen();
    // The broker was asked for with a GET.
    let seen = if seen.body.is_empty() { worker.seen() } else { seen };
    assert!(seen.persistent && seen.expiration.is_none());

    let nobody = self::gateway("nobody.takes.events", ", reply = 'none'");
    assert_eq!(post(&nobody, "/api/", "", "{}").status, 502);
}

#[test]
fn a_broker_that_is_away_is_503_at_once() {
    let gateway = Gateway::start(
        "[services]\nq = 'amqp://127.0.0.1:1/q'\n[routes]\n'/api/' = 'q'\n'/ping' = { body = 'pong' }\n",
    );
    let (reply, took) = timed(|| gateway.get("/api/"));
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")));
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(gateway.log_line("/api/").contains("\"broker_down\""));
    assert_eq!(gateway.get("/ping").text(), "pong");
}

#[test]
fn wrong_credentials_and_virtual_hosts_are_named_and_secret() {
    let port = Rabbit::shared().port();
    for (url, expected) in [
        (format!("amqp://guest:se%63ret@127.0.0.1:{port}/q"), "user `guest` or its password is wrong"),
        (format!("amqp://127.0.0.1:{port}/nowhere/q"), "virtual host `nowhere`"),
    ] {
        let gateway = Gateway::start(format!("[services]\nq = '{url}'\n[routes]\n'/' = 'q'\n"));
        assert_eq!(gateway.get("/").status, 503);
        let events =
            || std::fs::read_to_string(gateway.log_path().with_file_name("events.log")).unwrap_or_default();
        wait_until(expected, || events().contains(expected));
        assert!(!events().contains("secret") && !events().contains("se%63ret"));
    }
}

#[test]
fn calls_are_bounded() {
    let _worker = Rabbit::shared().worker("slow", |_| Vec::new());
    let gateway = gateway("slow", ", in_flight = 2");
    // The one that found out whether the broker is there may still be under way.
    wait_until("room", || gateway.counter("coregate_requests_in_flight") <= 1);
    let mut clients: Vec<Client> = (0..6).map(|_| gateway.client()).collect();
    for client in &mut clients {
        client.send("GET /api/ HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let statuses: Vec<u16> = clients.iter_mut().map(|client| client.reply().status).collect();
    assert!(statuses.iter().filter(|status| **status == 503).count() >= 4, "{statuses:?}");
    assert!(statuses.iter().all(|status| [503, 504].contains(status)), "{statuses:?}");
}

#[test]
fn a_restart_of_the_broker_answers_every_call_once() {
    let mut rabbit = Rabbit::start();
    let gateway = Gateway::start(format!(
        "[services]\nq = '{}/work'\n[routes]\n'/api/' = {{ to = 'q', timeout = '5s' }}\n",
        rabbit.url()
    ));
    {
        let _worker = rabbit.worker("work", |message| Answer::json(message.data.clone()));
        is_connected(&gateway);
        let mut clients: Vec<Client> = (0..40).map(|_| gateway.client()).collect();
        let send = |clients: &mut [Client], number: usize| {
            clients[number].send("POST /api/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
        };
        for number in 0..40 {
            send(&mut clients, number);
        }
        for number in 0..20 {
            assert_eq!(clients[number].reply().status, 200);
            send(&mut clients, number);
        }
        rabbit.kill();
        for client in &mut clients {
            let status = client.reply().status;
            assert!([200, 502, 503].contains(&status), "{status}");
        }
        assert_eq!(gateway.get("/api/x").status, 503);
    }
    rabbit.restart();
    let _worker = rabbit.worker("work", |message| Answer::json(message.data.clone()));
    wait_until("the broker to be found again", || gateway.get("/api/").status == 200);
}

#[test]
fn a_reload_keeps_what_did_not_change() {
    let url = Rabbit::shared().url();
    let _worker = Rabbit::shared().worker("kept", |_| Answer::json("1"));
    let config = |key: &str, rest: &str| {
        format!("[services]\nq = {{ servers = '{url}', key = '{key}' }}\n[routes]\n'/api/' = 'q'\n{rest}")
    };
    let gateway = Gateway::start(config("kept", ""));
    is_connected(&gateway);
    gateway.reload(config("kept", "'/ping' = { body = 'pong' }\n")).expect("a good configuration");
    assert_eq!(gateway.get("/api/").status, 200, "the connection was not given up");
    gateway.reload(config("changed", "")).expect("a good configuration");
    wait_until("the new key to be used", || gateway.get("/api/").status == 502);
    gateway.reload("[routes]\n'/api/' = { body = 'gone' }\n").expect("a good configuration");
    assert_eq!(gateway.get("/api/").text(), "gone");
}
