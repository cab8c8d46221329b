//! What becomes of a document when a part of it fails: what the client sees, what is logged, what is counted.

use std::time::Duration;

use crate::harness::{Gateway, Upstream, now, ok, pause};

/// `/home/{id}` with the part `good`, which says 1, and `bad`, which asks `upstream`.
fn with_bad(upstream: &Upstream, keys: &str, bad: &str, good: &Upstream) -> Gateway {
    Gateway::start(format!(
        "shards = 1\n[services]\ng = \"http://{good}\"\nb = {{ servers = [\"http://{upstream} max_fails=0\"], connect = \"200ms\" }}\n\
         [routes.\"/home/{{id}}\"]\nerrors = \"body\"\nretry = false\n{keys}\n[routes.\"/home/{{id}}\".parts]\n\
         good = \"g/\"\nbad = {{ to = \"b\", path = \"/x\"{bad} }}\n"
    ))
}

/// The bad part fails with `code`; the good one is shown all the same.
#[track_caller]
fn check(upstream: &Upstream, bad: &str, code: &str) -> Gateway {
    let good = Upstream::saying("1");
    let gateway = with_bad(upstream, "timeout = \"20s\"", bad, &good);
    let reply = gateway.get("/home/7");
    assert_eq!((reply.status, reply.header("Gateway-Completed")), (200, Some("false")), "{}", reply.text());
    let text = reply.text();
    assert!(text.starts_with("{\"good\":1,\"errors\":[{\"message\":\"part bad failed: "), "{text}");
    assert!(text.contains("\"path\":[\"bad\"]") && text.contains(&format!("\"code\":\"{code}\"")), "{text}");
    let timing = reply.header("Server-Timing").unwrap_or_default().to_owned();
    assert!(timing.contains("good;dur=") && timing.contains(&format!(";desc=\"{code}\"")), "{timing}");
    let counted = |part: &str, outcome: &str| {
        gateway.counter(&format!("coregate_part_requests_total{{part=\"{part}\",outcome=\"{outcome}\"}}"))
    };
    assert_eq!((counted("bad", code), counted("good", "ok")), (1, 1));
    gateway
}

fn json(status: &str, body: &str) -> Upstream {
    Upstream::replying(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
}

#[test]
fn a_part_that_is_not_reached_is_left_out() {
    check(&Upstream::refusing(), "", "connect");
    check(&Upstream::unreachable(), "", "connect");
    check(&Upstream::closing(), "", "reset");
    check(&Upstream::resetting(), "", "reset");
}

#[test]
fn a_part_that_breaks_off_is_left_out() {
    check(&Upstream::replying_once("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"a\":"), "", "reset");
    let endless =
        Upstream::replying_once("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n");
    check(&endless, "", "reset");
    check(&Upstream::replying("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"), "", "bad");
    check(&Upstream::replying("hello\r\n\r\n"), "", "bad");
}

#[test]
fn a_part_that_is_too_slow_is_left_out_in_time() {
    for slow in [
        Upstream::hanging(),
        Upstream::start(|peer| {
            peer.request();
            peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1").hang();
        }),
        Upstream::start(|peer| {
            peer.request();
            peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n1\r\n").hang();
        }),
    ] {
        let before = now();
        check(&slow, ", timeout = \"150ms\"", "timeout");
        assert!(before.elapsed() < Duration::from_secs(10), "the route's timeout is 20 s");
        slow.expect_all_ended();
    }
}

#[test]
fn an_answer_that_is_no_json_is_left_out() {
    let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>";
    check(&Upstream::replying(page), "", "not_json");
    for body in ["{\"a\":}", "{} {}", "01", "{\"a\":1", "\u{feff}{}", "[1,]", "\"\\ud800\""] {
        check(&Upstream::saying(body), "", "not_json");
    }
    check(&Upstream::saying(&"[".repeat(1000)), "", "not_json");
    check(&Upstream::saying("[1]"), ", at = \".\"", "not_json");
}

#[test]
fn a_status_that_is_no_success_is_a_failure_whatever_comes_with_it() {
    check(&json("500 X", "{\"a\":1}"), "", "5xx");
    check(&json("404 X", "{\"a\":1}"), "", "4xx");
    check(&Upstream::replying("HTTP/1.1 302 X\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"), "", "redirect");
    check(&Upstream::replying("HTTP/1.1 304 X\r\n\r\n"), "", "redirect");
}

#[test]
fn an_answer_that_is_too_large_is_left_out_unread() {
    check(&Upstream::saying(&format!("[{}1]", "1,".repeat(1000))), ", max_body = \"1KiB\"", "too_large");
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n1";
    check(&Upstream::replying_once(chunked), ", max_body = \"1KiB\"", "too_large");
    let long = format!("HTTP/1.1 200 OK\r\n\r\n[{}1]", "1,".repeat(1000));
    check(&Upstream::replying_once(long), ", max_body = \"1KiB\"", "too_large");
}

#[test]
fn a_compressed_answer_is_read_all_the_same() {
    // `{"a":1}` by gzip.
    let gzip: &[u8] = &[
        0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xab, 0x56, 0x4a, 0x54, 0xb2, 0x32, 0xac, 5, 0, 0xaf, 0xac, 0x1b,
        0x56, 7, 0, 0, 0,
    ];
    let reply = |encoding: &str, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let good = Upstream::saying("1");
    let upstream = Upstream::replying(reply("gzip", gzip));
    let gateway = with_bad(&upstream, "", "", &good);
    assert_eq!(gateway.get("/home/7").text(), "{\"good\":1,\"bad\":{\"a\":1}}");
    check(&Upstream::replying(reply("gzip", b"not gzip")), "", "bad");
    check(&Upstream::replying(reply("br", b"{}")), "", "bad");
}

#[test]
fn a_default_stands_in_and_the_client_is_told() {
    let (good, bad) = (Upstream::saying("1"), json("503 X", ""));
    let gateway = with_bad(&bad, "", ", default = [1.5, { a = true }]", &good);
    let reply = gateway.get("/home/7");
    assert!(
        reply.text().starts_with("{\"good\":1,\"bad\":[1.5,{\"a\":true}],\"errors\":["),
        "{}",
        reply.text()
    );
    assert!(reply.text().contains("\"instead\":\"default\""), "{}", reply.text());
    assert_eq!(reply.header("Gateway-Completed"), Some("false"));
    assert_eq!(gateway.counter("coregate_part_stand_ins_total{by=\"default\"}"), 1);
}

#[test]
fn a_required_part_decides() {
    let good = Upstream::saying("1");
    let required =
        |upstream: &Upstream, keys: &str| with_bad(upstream, keys, ", required = true", &good).get("/home/7");

    let denied =
        Upstream::replying("HTTP/1.1 404 X\r\nContent-Type: application/x\r\nContent-Length: 4\r\n\r\nnone");
    let reply = required(&denied, "");
    assert_eq!(
        (reply.status, reply.text(), reply.header("Content-Type")),
        (404, "none", Some("application/x"))
    );
    assert_eq!(reply.header("Gateway-Completed"), Some("false"));

    let reply = required(&json("500 X", "secret"), "");
    assert_eq!((reply.status, reply.header("Content-Type")), (502, Some("application/problem+json")));
    assert!(!reply.text().contains("secret"));
    assert_eq!(required(&Upstream::refusing(), "").status, 502);
    assert_eq!(required(&Upstream::hanging(), "timeout = \"100ms\"").status, 504);
    assert_eq!(required(&Upstream::saying("<"), "").status, 502);
}

#[test]
fn a_required_part_that_fails_ends_the_others() {
    let slow = Upstream::hanging();
    let gateway = with_bad(&json("500 X", ""), "timeout = \"30s\"", ", required = true", &slow);
    let before = now();
    assert_eq!(gateway.get("/home/7").status, 502);
    assert!(before.elapsed() < Duration::from_secs(15));
    slow.expect_all_ended();
    assert_eq!(gateway.counter("coregate_part_requests_total{part=\"good\",outcome=\"cancelled\"}"), 1);
}

#[test]
fn when_all_parts_fail_there_is_no_document() {
    let (one, two) = (json("503 X", ""), Upstream::hanging());
    assert_eq!(with_bad(&one, "", "", &one).get("/home/7").status, 502);
    let gateway = with_bad(&two, "timeout = \"100ms\"", "", &two);
    let reply = gateway.get("/home/7");
    assert_eq!((reply.status, reply.header("Content-Type")), (504, Some("application/problem+json")));
    assert!(gateway.log_line("504").contains("part_timeout"));
}

#[test]
fn a_client_that_leaves_ends_the_parts() {
    let (one, two) = (Upstream::hanging(), Upstream::hanging());
    let gateway = with_bad(&one, "timeout = \"60s\"", "", &two);
    let mut client = gateway.client();
    client.send("GET /home/7 HTTP/1.1\r\nHost: x\r\n\r\n");
    crate::harness::wait_until("both parts to be asked", || one.connections() + two.connections() == 2);
    client.reset();
    one.expect_all_ended();
    two.expect_all_ended();
}

#[test]
fn a_stale_answer_stands_in_for_the_same_asker_only() {
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.request() {
            let who = request.header("Authorization").unwrap_or("nobody").to_owned();
            if who.starts_with("again") || request.header("X-Fail").is_some() {
                peer.send("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n");
            } else {
                peer.send(ok(&format!("\"{who}\"")));
            }
        }
    });
    let good = Upstream::saying("1");
    let gateway = with_bad(&upstream, "", ", stale = \"10m\", headers = { X-Fail = false }", &good);
    let ask = |who: &str| {
        gateway
            .send(format!("GET /home/7 HTTP/1.1\r\nHost: x\r\nAuthorization: {who}\r\n\r\n"))
            .text()
            .to_owned()
    };
    assert_eq!(ask("ada"), "{\"good\":1,\"bad\":\"ada\"}");
    assert!(!ask("again").contains("ada"), "another's answer must not stand in");
    pause(Duration::from_millis(1));
    drop(upstream);
    assert!(ask("ada").starts_with("{\"good\":1,\"bad\":\"ada\",\"errors\":["));
    let bob = ask("bob");
    assert!(!bob.contains("ada") && bob.contains("\"bad\""), "{bob}");
    assert_eq!(gateway.counter("coregate_part_stand_ins_total{by=\"stale\"}"), 1);
}

#[test]
fn names_with_escapes_duplicates_and_many_members_are_merged_right() {
    let many: Vec<_> = (0..10_000).map(|index| format!("\"k{index}\":{index}")).collect();
    let (one, two) = (
        Upstream::saying(&format!("{{{}}}", many.join(","))),
        Upstream::saying(r#"{"\u006b1":"x","z":1,"z":2}"#),
    );
    let gateway = Gateway::start(format!(
        "shards = 1\n[routes.\"/\".parts]\none = {{ to = \"http://{one}\", at = \".\" }}\ntwo = {{ to = \"http://{two}\", at = \".\" }}\n"
    ));
    let reply = gateway.get("/");
    let text = reply.text();
    assert!(text.starts_with(r#"{"k0":0,"k1":"x","k2":2,"#), "{}", &text[..60]);
    assert!(text.ends_with(r#""k9999":9999,"z":2}"#), "{}", &text[text.len() - 60..]);
}
