//! Bodies as APIs send them, and how the benches here measure: CPU time, the best of many short rounds.
#![allow(dead_code, reason = "each bench uses a part of it")]

use std::time::Duration;

/// A page of orders of about `bytes` bytes: eight members, most of it in one of them; compact, with some escapes and
/// some text beyond ASCII. `name` makes the members of one page differ from those of another.
pub(crate) fn orders(name: &str, bytes: usize) -> String {
    let mut body = format!(
        r#"{{"{name}_id":4812,"status":"open","{name}_page":{{"number":1,"size":50,"next":null}},"currency":"EUR","{name}":["#
    );
    let mut id = 10_000_u64;
    while body.len() + 160 < bytes {
        if !body.ends_with('[') {
            body.push(',');
        }
        let (cents, stars, express) = (id * 7 % 100, id % 5, id.is_multiple_of(3));
        let note =
            ["", r#"leave at the \"blue\" door"#, "Grüße aus Köln", "fragile; handle with care, please"]
                [usize::try_from(id % 4).unwrap_or(0)];
        body += &format!(
            r#"{{"id":{id},"sku":"SKU-{}-{stars}","title":"Coffee grinder, steel","price":{}.{cents:02},"quantity":{},"tags":["kitchen","sale"],"express":{express},"rating":{{"stars":{stars}.5,"count":{}}},"note":"{note}","updated_at":"2025-03-{:02}T10:24:{:02}Z"}}"#,
            id * 31,
            id % 300,
            id % 4 + 1,
            id % 900,
            id % 28 + 1,
            id % 60,
        );
        id += 1;
    }
    body + &format!(r#"],"total":{id},"{name}_ratio":-1.25e3,"generated_at":"2025-03-01T10:24:59Z"}}"#)
}

/// The same with white space, as a service prints it for people.
pub(crate) fn pretty(body: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(body).expect("a body made here");
    serde_json::to_string_pretty(&value).expect("a value is JSON")
}

/// Seconds of CPU time that one call of `work` takes: the least of 10 rounds of 5 ms or more.
pub(crate) fn seconds(mut work: impl FnMut()) -> f64 {
    let mut round = |calls: u32| {
        let before = cpu_time();
        for _ in 0..calls {
            work();
        }
        cpu_time() - before
    };
    let mut calls = 1;
    while round(calls) < Duration::from_millis(5) {
        calls *= 2;
    }
    let best = (0..10).map(|_| round(calls)).min().unwrap_or_default();
    best.as_secs_f64() / f64::from(calls)
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}
