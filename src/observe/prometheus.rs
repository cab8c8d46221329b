//! Metrics in Prometheus' text format 0.0.4.

use std::fmt::{Display, Write};

use super::{
    Ended, Gauges, Names, Outcome, PartOutcome, Protocol, StandIn, Totals,
    process::Process,
    totals::{BUCKETS_US, Times},
    writer::Dropped,
};

/// For the `Content-Type` of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page of metrics being written.
#[derive(Default)]
pub struct Page {
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Page {
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a family. Its samples follow, all of them, before the next family begins.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        let mut opening = '{';
        for (label, text) in labels {
            self.text.push(opening);
            self.text.push_str(label);
            self.text.push_str("=\"");
            for character in text.chars() {
                match character {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
            opening = ',';
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        self.put(format_args!(" {value}\n"));
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    pub fn finish(self) -> String {
        self.text
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("a String takes all");
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], times: &Times) {
        let bucket = format!("{name}_bucket");
        let mut labels = labels.to_vec();
        let mut count = 0;
        for (index, &bound_us) in BUCKETS_US.iter().enumerate() {
            count += times.counts[index];
            labels.push(("le", BOUNDS[index]));
            debug_assert_eq!(seconds(bound_us), BOUNDS[index]);
            self.sample(&bucket, &labels, count);
            labels.pop();
        }
        count += times.counts[BUCKETS_US.len()];
        labels.push(("le", "+Inf"));
        self.sample(&bucket, &labels, count);
        labels.pop();
        self.sample(&format!("{name}_sum"), &labels, seconds(times.sum_us));
        self.sample(&format!("{name}_count"), &labels, count);
    }
}

/// [`BUCKETS_US`] in seconds.
const BOUNDS: [&str; BUCKETS_US.len()] = [
    "0.00001", "0.000025", "0.00005", "0.0001", "0.00025", "0.0005", "0.001", "0.0025", "0.005", "0.01",
    "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "60",
];

/// Seconds, exactly, without trailing zeros.
fn seconds(time_us: u64) -> String {
    let text = format!("{}.{:06}", time_us / 1_000_000, time_us % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What shards counted.
pub fn write_totals(page: &mut Page, totals: &Totals, names: &Names) {
    let route_name = |number| names.route_text(number).unwrap_or("other");

    page.family(
        "coregate_requests_total",
        Kind::Counter,
        "Requests that have ended, by route and how they ended.",
    );
    for (&number, route) in &totals.routes {
        for (ending, count) in &route.endings {
            let status = ending.status.to_string();
            let mut labels = vec![("route", route_name(number))];
            labels.extend(names.service_text(ending.service).map(|service| ("service", service)));
            labels.push(("status", if ending.status == 0 { "none" } else { &status }));
            labels.push(("why", ending.why.word()));
            labels.push(("side", ending.why.side().word()));
            page.sample("coregate_requests_total", &labels, count);
        }
    }
    for (name, help, times) in [
        (
            "coregate_request_duration_seconds",
            "From the first byte of a request to the last of its reply.",
            Part::Duration,
        ),
        (
            "coregate_added_latency_seconds",
            "The part of a request's duration spent in the gateway itself.",
            Part::Added,
        ),
    ] {
        page.family(name, Kind::Histogram, help);
        for (&number, route) in &totals.routes {
            let times = match times {
                Part::Duration => &route.duration,
                Part::Added => &route.added,
            };
            page.histogram(name, &[("route", route_name(number))], times);
        }
    }
    page.family("coregate_request_body_bytes_total", Kind::Counter, "Body bytes received from clients.");
    for (&number, route) in &totals.routes {
        page.sample("coregate_request_body_bytes_total", &[("route", route_name(number))], route.bytes_in);
    }
    page.family("coregate_reply_body_bytes_total", Kind::Counter, "Body bytes sent to clients.");
    for (&number, route) in &totals.routes {
        page.sample("coregate_reply_body_bytes_total", &[("route", route_name(number))], route.bytes_out);
    }
    page.family(
        "coregate_protocol_requests_total",
        Kind::Counter,
        "Requests that have ended, by HTTP version.",
    );
    for protocol in Protocol::ALL {
        let count = totals.protocols[protocol as usize];
        page.sample("coregate_protocol_requests_total", &[("protocol", protocol.text())], count);
    }
    page.family("coregate_connections_closed_total", Kind::Counter, "Client connections that ended, by why.");
    for ended in Ended::ALL {
        let count = totals.ended[ended as usize];
        page.sample("coregate_connections_closed_total", &[("why", ended.word())], count);
    }
    page.family(
        "coregate_upstream_attempts_total",
        Kind::Counter,
        "Attempts at an endpoint, by how they ended.",
    );
    for (number, outcomes) in totals.endpoints.iter().enumerate() {
        let number = u32::try_from(number).unwrap_or(0);
        let (service, endpoint) = names.endpoint_text(number).unwrap_or(("other", "other"));
        for outcome in Outcome::ALL {
            let count = outcomes[outcome as usize];
            if count > 0 {
                let labels = [("service", service), ("endpoint", endpoint), ("outcome", outcome.word())];
                page.sample("coregate_upstream_attempts_total", &labels, count);
            }
        }
    }
    write_parts(page, totals, names);
    page.family(
        "coregate_auth_rejects_total",
        Kind::Counter,
        "Requests denied for their token, or for having none.",
    );
    for ((auth, why), count) in &totals.denied {
        let labels = [("auth", names.auth_text(*auth).unwrap_or("other")), ("reason", why.word())];
        page.sample("coregate_auth_rejects_total", &labels, count);
    }
    write_counters(page, totals);
}

/// The parts of aggregates.
fn write_parts(page: &mut Page, totals: &Totals, names: &Names) {
    let parts = || {
        totals.parts.iter().enumerate().filter_map(|(number, part)| {
            let number = u32::try_from(number).unwrap_or(0);
            let is_used = part.outcomes.iter().any(|count| *count > 0);
            is_used.then(|| (names.part_text(number).unwrap_or(("other", "other")), part))
        })
    };
    let requests = "coregate_part_requests_total";
    page.family(requests, Kind::Counter, "Parts of aggregates, by how they ended.");
    for ((route, name), part) in parts() {
        for outcome in PartOutcome::ALL {
            let count = part.outcomes[outcome as usize];
            if count > 0 {
                page.sample(
                    requests,
                    &[("route", route), ("part", name), ("outcome", outcome.word())],
                    count,
                );
            }
        }
    }
    let stand_ins = "coregate_part_stand_ins_total";
    page.family(stand_ins, Kind::Counter, "Failed parts in whose place something else was shown.");
    for ((route, name), part) in parts() {
        for stand_in in StandIn::ALL {
            let count = part.stand_ins[stand_in as usize];
            if count > 0 {
                page.sample(stand_ins, &[("route", route), ("part", name), ("by", stand_in.word())], count);
            }
        }
    }
    let duration = "coregate_part_duration_seconds";
    page.family(duration, Kind::Histogram, "From when a part could be asked to its end.");
    for ((route, name), part) in parts() {
        let times = Times { counts: part.times, sum_us: part.sum_us };
        page.histogram(duration, &[("route", route), ("part", name)], &times);
    }
}

#[derive(Clone, Copy)]
enum Part {
    Duration,
    Added,
}

fn write_counters(page: &mut Page, totals: &Totals) {
    let counters = &totals.counters;
    for (name, help, count) in [
        ("connections_opened", "Client connections accepted.", counters.connections_opened),
        (
            "connections_refused",
            "Client connections turned away for lack of room.",
            counters.connections_refused,
        ),
        (
            "connections_handed_over",
            "Client connections handed over to a shard with fewer.",
            counters.connections_handed_over,
        ),
        ("accept_errors", "Failed accept calls.", counters.accept_errors),
        ("panics", "Connections ended by a panic.", counters.panics),
        ("upstream_connections_opened", "Upstream connections established.", counters.upstream_opened),
        (
            "upstream_connections_reused",
            "Requests that found an idle upstream connection.",
            counters.upstream_reused,
        ),
        (
            "upstream_connections_stale",
            "Idle upstream connections found closed when they were wanted.",
            counters.upstream_stale,
        ),
        (
            "requests_queued",
            "Requests that waited for a server to have fewer than `max_conns`.",
            counters.queued,
        ),
        ("retries", "Attempts after the first.", counters.retries),
        ("retries_refused", "Retries not made because the budget was used up.", counters.retries_refused),
        ("tunnels", "Upgraded connections.", counters.tunnels),
        ("tls_handshakes", "TLS handshakes with clients that were completed.", counters.tls_handshakes),
        ("tls_resumed", "TLS handshakes with clients that a ticket resumed.", counters.tls_resumed),
        (
            "part_moved_bytes",
            "Bytes of parts' answers that were moved between buffers on their way in.",
            counters.part_bytes_moved,
        ),
        ("tls_handshakes_failed", "TLS handshakes with clients that failed.", counters.tls_failed),
        ("auth_tokens_known", "Tokens that were known already.", counters.tokens_known),
        ("auth_tokens_verified", "Tokens whose signature was checked, and good.", counters.tokens_verified),
    ] {
        page.single(&format!("coregate_{name}_total"), Kind::Counter, help, count);
    }
}

/// What shards are doing now: one entry for each shard, `None` for one that does not answer.
pub fn write_gauges(page: &mut Page, shards: &[Option<Gauges>]) {
    let silent = shards.iter().filter(|shard| shard.is_none()).count();
    page.single("coregate_shards", Kind::Gauge, "Shards.", shards.len());
    page.single(
        "coregate_shards_unresponsive",
        Kind::Gauge,
        "Shards that did not answer within a second.",
        silent,
    );
    type Family = (&'static str, &'static str, fn(&Gauges) -> u64);
    let families: [Family; 9] = [
        ("coregate_connections", "Client connections open.", |gauges| gauges.connections),
        ("coregate_requests_in_flight", "Requests being served.", |gauges| gauges.requests_in_flight),
        ("coregate_upstream_connections", "Upstream connections open.", |gauges| gauges.upstream_open),
        ("coregate_upstream_connections_idle", "Upstream connections without a request.", |gauges| {
            gauges.upstream_idle
        }),
        ("coregate_buffer_bytes", "Bytes of the buffers that connections hold.", |gauges| {
            gauges.buffer_bytes
        }),
        ("coregate_buffer_stock_bytes", "Bytes of the buffers kept for connections.", |gauges| {
            gauges.buffer_stock_bytes
        }),
        ("coregate_auth_tokens", "Verified tokens that are kept.", |gauges| gauges.tokens),
        ("coregate_auth_token_bytes", "Bytes of verified tokens that are kept.", |gauges| gauges.token_bytes),
        ("coregate_shard_snapshot_version", "Version of the snapshot a shard reads.", |gauges| {
            gauges.snapshot_version
        }),
    ];
    for (name, help, value) in families {
        page.family(name, Kind::Gauge, help);
        for (index, gauges) in shards.iter().enumerate() {
            if let Some(gauges) = gauges {
                page.sample(name, &[("shard", &index.to_string())], value(gauges));
            }
        }
    }
}

/// The process and what its logs lost.
pub fn write_process(page: &mut Page, process: &Process, dropped: Dropped) {
    page.family("coregate_build_info", Kind::Gauge, "The version that runs.");
    page.sample("coregate_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);

    page.family(
        "coregate_log_dropped_total",
        Kind::Counter,
        "Log lines dropped because their reader is too slow.",
    );
    page.sample("coregate_log_dropped_total", &[("log", "access")], dropped.access);
    page.sample("coregate_log_dropped_total", &[("log", "events")], dropped.events);
    let help = "Bytes of log lines that could not be written.";
    page.single("coregate_log_lost_bytes_total", Kind::Counter, help, dropped.sink_bytes);

    // The names every Prometheus client library uses, without a prefix.
    let help = "User and system CPU time.";
    page.single("process_cpu_seconds_total", Kind::Counter, help, process.cpu_seconds);
    page.family("coregate_cpu_seconds_total", Kind::Counter, "CPU time by mode.");
    page.sample("coregate_cpu_seconds_total", &[("mode", "user")], process.user_seconds);
    page.sample("coregate_cpu_seconds_total", &[("mode", "system")], process.system_seconds);
    let help = "Resident memory.";
    page.single("process_resident_memory_bytes", Kind::Gauge, help, process.resident_bytes);
    page.single("process_virtual_memory_bytes", Kind::Gauge, "Virtual memory.", process.virtual_bytes);
    page.single("process_open_fds", Kind::Gauge, "Open descriptors.", process.open_fds);
    let limit = process.max_fds.map_or_else(|| "+Inf".to_owned(), |limit| limit.to_string());
    page.single("process_max_fds", Kind::Gauge, "Descriptors the process may open.", limit);
    page.single("process_threads", Kind::Gauge, "Threads.", process.threads);
    let help = "When the process started, in seconds since 1970.";
    page.single("process_start_time_seconds", Kind::Gauge, help, process.start_seconds);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Finished, Metrics, Why};

    #[test]
    fn bounds_are_the_buckets_in_seconds() {
        assert_eq!(BUCKETS_US.map(seconds), BOUNDS.map(str::to_owned));
        assert_eq!(seconds(0), "0");
        assert_eq!(seconds(100_000_000), "100");
    }

    #[test]
    fn label_values_are_escaped() {
        let mut page = Page::new();
        page.sample("a", &[("route", "GET /\"x\\y\"\nz"), ("b", "")], 1);
        assert_eq!(page.finish(), "a{route=\"GET /\\\"x\\\\y\\\"\\nz\",b=\"\"} 1\n");
    }

    /// The page for one shard that served these.
    fn page(requests: &[(u32, u16, Why, u64)]) -> String {
        let mut names = Names::default();
        names.route("GET /a");
        let service = names.service("users");
        names.endpoint(service, "http://10.0.0.1:3000");
        let mut metrics = Metrics::new();
        for &(route, status, why, duration_us) in requests {
            metrics.request(&Finished {
                route,
                service: route,
                status,
                why,
                protocol: Protocol::Http11,
                duration_us,
                added_us: 20,
                bytes_in: 3,
                bytes_out: 5,
            });
        }
        metrics.attempt(1, Outcome::Timeout);
        let mut totals = Totals::default();
        totals.merge(&metrics);
        let mut page = Page::new();
        write_totals(&mut page, &totals, &names);
        write_gauges(&mut page, &[Some(Gauges { connections: 7, ..Gauges::default() }), None]);
        write_process(&mut page, &Process::default(), Dropped { access: 4, ..Dropped::default() });
        page.finish()
    }

    #[test]
    fn a_page_tells_routes_endpoints_and_shards_apart() {
        let page = page(&[
            (1, 200, Why::Ok, 700),
            (1, 504, Why::UpstreamTimeout, 90_000_000),
            (0, 404, Why::NoRoute, 9),
        ]);
        for line in [
            r#"coregate_requests_total{route="GET /a",service="users",status="200",why="ok",side="-"} 1"#,
            r#"coregate_requests_total{route="GET /a",service="users",status="504",why="upstream_timeout",side="upstream"} 1"#,
            r#"coregate_requests_total{route="other",status="404",why="no_route",side="client"} 1"#,
            r#"coregate_request_duration_seconds_bucket{route="GET /a",le="0.0005"} 0"#,
            r#"coregate_request_duration_seconds_bucket{route="GET /a",le="0.001"} 1"#,
            r#"coregate_request_duration_seconds_bucket{route="GET /a",le="60"} 1"#,
            r#"coregate_request_duration_seconds_bucket{route="GET /a",le="+Inf"} 2"#,
            r#"coregate_request_duration_seconds_sum{route="GET /a"} 90.0007"#,
            r#"coregate_request_duration_seconds_count{route="GET /a"} 2"#,
            r#"coregate_added_latency_seconds_bucket{route="other",le="0.000025"} 1"#,
            r#"coregate_reply_body_bytes_total{route="GET /a"} 10"#,
            r#"coregate_upstream_attempts_total{service="users",endpoint="http://10.0.0.1:3000",outcome="timeout"} 1"#,
            r#"coregate_connections{shard="0"} 7"#,
            "coregate_shards_unresponsive 1",
            r#"coregate_log_dropped_total{log="access"} 4"#,
        ] {
            assert!(page.lines().any(|found| found == line), "no {line} in\n{page}");
        }
    }

    /// The format's own rules: a family is announced once, before its samples, and they stay together.
    #[test]
    fn every_sample_follows_its_own_announcement() {
        let page = page(&[(1, 200, Why::Ok, 700)]);
        let mut announced: Vec<&str> = Vec::new();
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(!announced.contains(&name), "{name} twice");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
                announced.push(name);
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                let family = announced.last().unwrap();
                let suffix = name.strip_prefix(family);
                assert!(matches!(suffix, Some("" | "_bucket" | "_sum" | "_count")), "{name} under {family}");
                let value = line.rsplit(' ').next().unwrap();
                assert!(value == "+Inf" || value.parse::<f64>().is_ok(), "{line}");
            }
        }
        assert!(announced.len() > 30);
    }
}
