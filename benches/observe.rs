//! What observing a request costs its shard.

use std::{path::PathBuf, sync::Arc, time::Duration};

use coregate::observe::{
    Finished, Metrics, Outcome, Protocol, Why,
    access::Record,
    event::Level,
    format::Format,
    writer::{Settings, Target, Writer},
};
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

/// Counting one request: with one route, and with as many as have numbers of their own.
#[divan::bench(args = [1, 1000], sample_count = 200, sample_size = 10_000)]
fn request(bencher: Bencher<'_, '_>, routes: u32) {
    let mut metrics = Metrics::new();
    let mut turn = 0_u32;
    bencher.bench_local(|| {
        turn = turn.wrapping_add(1);
        metrics.request(black_box(&Finished {
            route: 1 + turn % routes,
            service: 1,
            status: 200,
            why: Why::Ok,
            protocol: Protocol::Http11,
            duration_us: u64::from(turn % 1000),
            added_us: u64::from(turn % 30),
            bytes_in: 0,
            bytes_out: 1024,
        }));
    });
}

#[divan::bench(sample_count = 200, sample_size = 10_000)]
fn attempt(bencher: Bencher<'_, '_>) {
    let mut metrics = Metrics::new();
    bencher.bench_local(|| metrics.attempt(black_box(3), Outcome::Ok));
}

/// Queueing 1,000 access records, so that a microsecond here is a nanosecond a record. Before each turn the log
/// thread has time to write what is there, to /dev/null and on another core.
#[divan::bench(args = ["off", "combined", "json"], sample_count = 30, sample_size = 1)]
#[expect(clippy::disallowed_methods, reason = "no shard runs here")]
fn record(bencher: Bencher<'_, '_>, format: &str) {
    let target = Target::File(PathBuf::from("/dev/null"));
    let format = match format {
        "combined" => Some(Format::Combined),
        "json" => Some(Format::Json),
        _ => None,
    };
    let settings = Settings {
        access: format.map(|format| (target.clone(), format)),
        events: Target::Stderr,
        level: Level::Info,
    };
    let (writer, mut logs) = Writer::start(&settings, 1, Arc::default()).expect("/dev/null opens");
    let mut time_us = 1_795_374_000_000_000;
    let drained = || std::thread::sleep(Duration::from_millis(60));
    bencher.with_inputs(drained).bench_local_values(|()| {
        for _ in 0..1000 {
            time_us += 20;
            logs[0].write(black_box(&record_at(time_us)));
        }
    });
    drop(writer);
}

fn record_at(time_us: u64) -> Record<'static> {
    Record {
        time_us,
        peer: Some(([192, 0, 2, 7], 4711).into()),
        method: b"GET",
        target: b"/api/users/4711?fields=name,mail",
        protocol: Protocol::Http11,
        host: Some(b"api.example.com"),
        referer: Some(b"https://www.example.com/users"),
        user: None,
        user_agent: Some(b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        request_id: b"0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
        status: 200,
        body_bytes: 1024,
        sent_bytes: 1280,
        route: 1,
        service: 1,
        endpoint: 1,
        upstream_status: 200,
        duration_us: 700,
        upstream_us: Some(600),
        added_us: 20,
        attempts: 1,
        why: Why::Ok,
    }
}
