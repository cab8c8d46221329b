//! What an operator sees: the access log, metrics, health.

use serde_json::Value;

use crate::harness::{Gateway, Upstream, wait_until};

fn record(gateway: &Gateway, part: &str) -> Value {
    let line = gateway.log_line(part);
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn a_json_record_says_what_happened() {
    let upstream = Upstream::saying("hello");
    let gateway = Gateway::start(format!(
        "[services]\nusers = \"http://{upstream}\"\n[routes]\n\"/u/{{id}}\" = \"users\"\n"
    ));
    let reply = gateway
        .send("GET /u/7?x=1 HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: \"quoted\" \\ agent\r\n\r\n");
    let record = record(&gateway, "/u/7");
    let text = record.to_string();
    for part in [
        "GET",
        "/u/7?x=1",
        "api.example.com",
        "users",
        "/u/{id}",
        "127.0.0.1",
        reply.header("x-request-id").unwrap_or("?"),
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!((&record["status"], &record["why"]), (&Value::from(200), &Value::from("ok")));
    assert!(
        record.as_object().is_some_and(|all| all.values().any(|value| value == "\"quoted\" \\ agent")),
        "{text}"
    );
}

#[test]
fn every_request_is_logged_once_with_its_reason() {
    let gateway = Gateway::start("[routes]\n\"GET /a\" = { status = 200, body = \"x\" }\n");
    for (raw, part, why, side) in [
        ("GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n", "/nowhere", "no_route", "client"),
        ("PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "PUT", "method_not_allowed", "client"),
        ("GET /bad HTTP/1.1\r\nHost: x\r\nBad : 1\r\n\r\n", "/bad", "bad_request", "client"),
        ("GET /two HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "/two", "bad_request", "client"),
    ] {
        drop(gateway.send(raw));
        let text = record(&gateway, part).to_string();
        assert!(text.contains(&format!("\"{why}\"")) && text.contains(side), "{text}");
    }
    drop(gateway.get("/a?last"));
    drop(gateway.log_line("/a?last"));
    assert_eq!(gateway.log().len(), 5, "{:#?}", gateway.log());
}

#[test]
fn nothing_a_client_sends_makes_a_line_of_its_own() {
    let gateway = Gateway::start("[routes]\n\"/\" = { status = 200, body = \"x\" }\n");
    drop(gateway.send("GET /%0a%0d HTTP/1.1\r\nHost: x\r\nUser-Agent: a\tb\u{85}\u{2028}\u{1f600}\r\n\r\n"));
    drop(gateway.send(b"GET /second HTTP/1.1\r\nHost: x\r\nUser-Agent: \xff\xfe\r\n\r\n"));
    drop(gateway.log_line("/second"));
    assert_eq!(gateway.log().len(), 2);
    for line in gateway.log() {
        drop(serde_json::from_str::<Value>(&line).unwrap_or_else(|error| panic!("{error}: {line}")));
    }
}

#[test]
fn combined_is_what_nginx_writes() {
    let directory = crate::harness::Directory::new();
    let path = directory.path().join("combined.log");
    // One shard: two write in no order.
    let gateway = Gateway::start(format!(
        "shards = 1\nlog = {{ access = {{ to = \"{}\", format = \"combined\" }} }}\n[routes]\n\"/\" = {{ status = 200, body = \"hello\" }}\n",
        path.display()
    ));
    drop(
        gateway.send("GET /a?b HTTP/1.1\r\nHost: x\r\nReferer: http://r/\r\nUser-Agent: test \"1\"\r\n\r\n"),
    );
    drop(gateway.send("GET / HTTP/1.0\r\n\r\n"));
    let mut lines = Vec::new();
    wait_until("two lines", || {
        lines = std::fs::read_to_string(&path).unwrap_or_default().lines().map(str::to_owned).collect();
        lines.len() >= 2
    });
    for (line, rest) in lines.iter().zip([
        r#""GET /a?b HTTP/1.1" 200 5 "http://r/" "test \x221\x22""#,
        r#""GET / HTTP/1.0" 200 5 "-" "-""#,
    ]) {
        let (start, end) = line.split_once("] ").expect("combined has a time");
        assert!(
            start.starts_with("127.0.0.1 - - [")
                && start.len() == "127.0.0.1 - - [10/Oct/2000:13:55:36 -0700".len(),
            "{line}"
        );
        assert_eq!(end, rest);
    }
}

#[test]
fn a_template_is_filled_in() {
    let directory = crate::harness::Directory::new();
    let path = directory.path().join("mine.log");
    let gateway = Gateway::start(format!(
        "log = {{ access = {{ to = \"{}\", format = \"$request_method|$status|$http_user_agent|$body_bytes_sent\" }} }}\n[routes]\n\"/\" = {{ status = 200, body = \"hello\" }}\n",
        path.display()
    ));
    drop(gateway.send("GET /a HTTP/1.1\r\nHost: x\r\nUser-Agent: me\r\n\r\n"));
    let mut text = String::new();
    wait_until("a line", || {
        text = std::fs::read_to_string(&path).unwrap_or_default();
        text.ends_with('\n')
    });
    assert_eq!(text, "GET|200|me|5\n");
}

#[test]
fn without_an_access_log_nothing_is_written() {
    let gateway =
        Gateway::start("log = { access = false }\n[routes]\n\"/\" = { status = 200, body = \"hello\" }\n");
    assert_eq!(gateway.get("/").status, 200);
    assert_eq!(gateway.log(), Vec::<String>::new());
}

#[test]
fn requests_are_counted_by_route_and_status() {
    let upstream = Upstream::saying("ok");
    let gateway = Gateway::start(format!(
        "[services]\nusers = \"http://{upstream}\"\n[routes]\n\"/u/{{id}}\" = \"users\"\n\"/ping\" = {{ status = 200, body = \"x\" }}\n"
    ));
    for number in 0..5 {
        drop(gateway.get(&format!("/u/{number}")));
    }
    drop(gateway.get("/ping"));
    drop(gateway.get("/none"));
    let requests = |labels: &str| gateway.counter(&format!("coregate_requests_total{labels}"));
    wait_until("all to be counted", || requests("") == 7);
    assert_eq!(requests("{route=\"/u/{id}\"}"), 5, "{}", gateway.admin_get("/metrics").text());
    assert_eq!(requests("{route=\"/ping\"}"), 1);
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let gateway = Gateway::start(
        "[routes]\n\"/a\\\"b\" = { status = 200, body = \"x\" }\n\"/\" = { status = 200, body = \"x\" }\n",
    );
    drop(gateway.get("/a"));
    let reply = gateway.admin_get("/metrics");
    assert_eq!(reply.status, 200);
    assert!(
        reply.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")),
        "{:?}",
        reply.headers
    );
    let mut series = std::collections::HashSet::new();
    for line in reply.text().lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(name.starts_with("coregate_") || name.starts_with("process_"), "{line}");
        assert!(series.insert(name.to_owned()), "twice: {line}");
    }
    for family in reply.text().lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = family.split_once(' ').expect("a kind");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{family}");
    }
}

#[test]
fn health_and_readiness_are_answered_on_the_admin_port_only() {
    let gateway = Gateway::start("[routes]\n\"/a\" = { status = 200, body = \"x\" }\n");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(gateway.admin_get(path).status, 200, "{path}");
        assert_eq!(gateway.get(path).status, 404, "{path}");
    }
    assert_eq!(gateway.get("/metrics").status, 404);
}
