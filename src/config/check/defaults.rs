//! `[defaults]`: what routes and services inherit, and the bounds of connections.

use std::{ops::RangeInclusive, time::Duration};

use super::{
    read::{self, Fields},
    service::KEEPALIVE_MAX,
};
use crate::{
    config::{
        Retry, keys,
        problem::Problems,
        raw::{Entry, Value},
    },
    limits::Limits,
};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

const TRIES_MAX: u32 = 10;
const HANDSHAKES_MAX: u32 = 1_000_000;
const BODY_BYTES_MAX: u64 = 1 << 50;

/// What a route or service has where it says nothing itself.
pub(super) struct Defaults {
    pub timeout: Duration,
    pub max_body: u64,
    pub retry: Retry,
    pub connect: Duration,
    pub keepalive: usize,
    pub limits: Limits,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            max_body: 1 << 20,
            retry: Retry {
                on_connect: true,
                on_reset: true,
                on_timeout: false,
                non_idempotent: false,
                on_status: Vec::new(),
                tries: 2,
                budget_percent: 20,
            },
            connect: Duration::from_secs(2),
            keepalive: 64,
            limits: Limits::default(),
        }
    }
}

impl Defaults {
    pub(super) fn read(entry: Option<&Entry>, problems: &mut Problems) -> Self {
        let Self {
            timeout: timeout_,
            max_body: max_body_,
            retry: retry_,
            connect: connect_,
            keepalive: keep,
            limits,
        } = Self::default();
        let Some(table) = entry.and_then(|entry| read::table(entry, problems)) else {
            return Self::default();
        };
        let fields = Fields::new(table, &keys::DEFAULTS, problems);
        Self {
            timeout: fields.or("timeout", timeout_, |entry| timeout(entry, problems)),
            max_body: fields.or("max_body", max_body_, |entry| max_body(entry, problems)),
            retry: fields.or("retry", retry_.clone(), |entry| retry(entry, &retry_, problems)),
            connect: fields.or("connect", connect_, |entry| connect(entry, problems)),
            keepalive: fields.or("keepalive", keep, |entry| keepalive(entry, problems)),
            limits: self::limits(&fields, limits, problems),
        }
    }
}

fn limits(fields: &Fields<'_>, default: Limits, problems: &mut Problems) -> Limits {
    let mut bytes = |key: &str, default: usize, range: RangeInclusive<u64>| {
        let value = |entry| read::size(entry, range, problems).and_then(|value| usize::try_from(value).ok());
        fields.or(key, default, value)
    };
    let head_bytes_max = bytes("max_head", default.head_bytes_max, 1 << 10..=1 << 20);
    let line_bytes_max = bytes("max_line", default.line_bytes_max, 1 << 8..=1 << 20);
    if let Some(entry) = fields.get("max_line").or_else(|| fields.get("max_head"))
        && line_bytes_max > head_bytes_max
    {
        let title =
            format!("`max_line` ({line_bytes_max} bytes) is larger than `max_head` ({head_bytes_max})");
        problems.error(title).at(entry.node.at, "a line is part of a head");
    }
    let mut time = |key: &str, default: Duration, range: RangeInclusive<Duration>| {
        fields.or(key, default, |entry| read::duration(entry, range, problems))
    };
    Limits {
        head_bytes_max,
        line_bytes_max,
        head_timeout: time("client_header_timeout", default.head_timeout, SECOND..=HOUR),
        idle_timeout: time("keepalive_timeout", default.idle_timeout, SECOND..=DAY),
        body_timeout: time("client_body_timeout", default.body_timeout, SECOND..=HOUR),
        tunnel_idle: time("tunnel_idle", default.tunnel_idle, SECOND..=30 * DAY),
        drain: time("drain", default.drain, Duration::ZERO..=DAY),
        headers_max: fields.or("max_headers", default.headers_max, |entry| count(entry, 1..=1000, problems)),
        body_rate_min: fields
            .or("min_body_rate", default.body_rate_min, |entry| read::size(entry, 0..=1 << 30, problems)),
        connections_max: fields
            .or("max_connections", default.connections_max, |entry| connections(entry, problems)),
        handshakes_per_turn: fields.or("handshakes_per_turn", default.handshakes_per_turn, |entry| {
            read::integer(entry, 1..=HANDSHAKES_MAX, problems)
        }),
    }
}

fn connections(entry: &Entry, problems: &mut Problems) -> Option<Option<usize>> {
    if matches!(&entry.node.value, Value::String(text) if text.as_str() == "auto") {
        return Some(None);
    }
    if !matches!(entry.node.value, Value::Integer(_)) {
        read::wrong_kind(entry.key.as_str(), "\"auto\" or a number", &entry.node, problems);
        return None;
    }
    count(entry, 1..=100_000_000, problems).map(Some)
}

fn count(entry: &Entry, range: RangeInclusive<u32>, problems: &mut Problems) -> Option<usize> {
    read::integer(entry, range, problems).and_then(|value| usize::try_from(value).ok())
}

pub(super) fn timeout(entry: &Entry, problems: &mut Problems) -> Option<Duration> {
    read::duration(entry, MILLISECOND..=DAY, problems)
}

pub(super) fn connect(entry: &Entry, problems: &mut Problems) -> Option<Duration> {
    read::duration(entry, MILLISECOND..=HOUR, problems)
}

pub(super) fn keepalive(entry: &Entry, problems: &mut Problems) -> Option<usize> {
    count(entry, 0..=KEEPALIVE_MAX, problems)
}

/// A size, or `false` for no bound. 0 is a bound: no body at all.
pub(super) fn max_body(entry: &Entry, problems: &mut Problems) -> Option<u64> {
    if matches!(entry.node.value, Value::Bool(false)) {
        return Some(u64::MAX);
    }
    read::size(entry, 0..=BODY_BYTES_MAX, problems)
}

/// `retry`: a table over what is inherited, or `false`.
pub(super) fn retry(entry: &Entry, inherited: &Retry, problems: &mut Problems) -> Option<Retry> {
    if matches!(entry.node.value, Value::Bool(false)) {
        return Some(Retry { tries: 1, ..inherited.clone() });
    }
    let Value::Table(table) = &entry.node.value else {
        read::wrong_kind("retry", "a table or false", &entry.node, problems);
        return None;
    };
    let fields = Fields::new(table, &keys::RETRY, problems);
    let mut retry = inherited.clone();
    if let Some(entry) = fields.get("on") {
        retry_on(entry, &mut retry, problems);
    }
    retry.tries = fields.or("tries", retry.tries, |entry| read::integer(entry, 1..=TRIES_MAX, problems));
    retry.budget_percent = fields.or("budget", retry.budget_percent, |entry| read::percent(entry, problems));
    Some(retry)
}

fn retry_on(entry: &Entry, retry: &mut Retry, problems: &mut Problems) {
    (retry.on_connect, retry.on_reset, retry.on_timeout) = (false, false, false);
    retry.non_idempotent = false;
    retry.on_status.clear();
    for node in entry.node.items() {
        let status = match &node.value {
            Value::Integer(status) => u16::try_from(*status).ok(),
            Value::String(text) => match text.as_str() {
                "connect" => {
                    retry.on_connect = true;
                    continue;
                }
                "reset" => {
                    retry.on_reset = true;
                    continue;
                }
                "non_idempotent" => {
                    retry.non_idempotent = true;
                    continue;
                }
                "timeout" => {
                    retry.on_timeout = true;
                    continue;
                }
                other => other.parse().ok(),
            },
            Value::Float(_) | Value::Bool(_) | Value::List(_) | Value::Table(_) => None,
        };
        match status.filter(|status| (400..=599).contains(status)) {
            Some(status) if !retry.on_status.contains(&status) => retry.on_status.push(status),
            Some(_) => {}
            None => {
                let shown = match &node.value {
                    Value::String(text) => format!("`{}`", text.word().shown()),
                    Value::Integer(value) => value.to_string(),
                    Value::Float(_) | Value::Bool(_) | Value::List(_) | Value::Table(_) => {
                        node.value.kind().into()
                    }
                };
                let remark = "connect, reset, timeout, non_idempotent, or a status from 400 to 599";
                problems.error(format!("{shown} is no failure to retry on")).at(node.at, remark);
            }
        }
    }
    retry.on_status.sort_unstable();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::testing::{check_problems, good};

    fn text(defaults: &str) -> String {
        format!("listen = ':80'\n[routes]\n'/' = 'http://a'\n[defaults]\n{defaults}\n")
    }

    #[track_caller]
    fn check_wrong(defaults: &str, expected: &[&str]) {
        check_problems(&text(defaults), expected);
    }

    #[test]
    fn routes_inherit() {
        let route = |defaults: &str| good(&text(defaults)).routes.remove(0);
        let plain = route("");
        assert_eq!((plain.timeout, plain.max_body), (Duration::from_secs(30), 1 << 20));
        assert_eq!(plain.retry, Defaults::default().retry);

        let changed =
            route("timeout = '1m'\nmax_body = false\nretry = { on = [503, '502', 'timeout', 503] }");
        assert_eq!((changed.timeout, changed.max_body), (Duration::from_secs(60), u64::MAX));
        let expected = Retry {
            on_connect: false,
            on_reset: false,
            on_timeout: true,
            non_idempotent: false,
            on_status: vec![502, 503],
            tries: 2,
            budget_percent: 20,
        };
        assert_eq!(changed.retry, expected);
        assert_eq!(route("retry = false").retry.tries, 1);
    }

    #[test]
    fn every_bound_has_its_key() {
        let limits = good(&text(
            "max_head = '16KiB'\nmax_line = 4096\nmax_headers = 50\nclient_header_timeout = '1s'\n\
             keepalive_timeout = '2s'\nclient_body_timeout = '3s'\nmin_body_rate = 10\ntunnel_idle = '4s'\n\
             drain = '5s'\nmax_connections = 6\nhandshakes_per_turn = 7",
        ))
        .limits;
        let expected = Limits {
            head_bytes_max: 16_384,
            line_bytes_max: 4096,
            headers_max: 50,
            head_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(2),
            body_timeout: Duration::from_secs(3),
            body_rate_min: 10,
            tunnel_idle: Duration::from_secs(4),
            drain: Duration::from_secs(5),
            connections_max: Some(6),
            handshakes_per_turn: 7,
        };
        assert_eq!(limits, expected);
        assert_eq!(good(&text("max_connections = 'auto'")).limits, Limits::default());
    }

    #[test]
    fn a_wrong_value_is_an_error() {
        let check = |line: &str, expected: &str| check_wrong(line, &[expected]);
        let durations = "[write a number and ms, s, m, h or d: 400ms, 2s, 30d]";
        check("timeout = '10x'", &format!("10x -> `timeout`: `10x` is not a duration {durations}"));
        check("timeout = '10'", "10 -> `timeout`: `10` is not a duration [the unit is missing: 10s]");
        check("timeout = 10", "10 -> `timeout` must be a duration such as \"2s\", not an integer");
        check("timeout = '0s'", "0s -> `timeout`: 0s is not within 1ms and 1d");
        check("connect = '2h'", "2h -> `connect`: 2h is not within 1ms and 1h");
        check("max_body = '10m'", "'10m' -> `max_body`: `10m` is not a size [write 10MiB]");
        let sizes = "[write bytes, or a number and kB, MB, GB, KiB, MiB or GiB: 64KiB]";
        check("max_body = '1TiB'", &format!("'1TiB' -> `max_body`: `1TiB` is not a size {sizes}"));
        check("max_body = -1", &format!("-1 -> `max_body`: `-1` is not a size {sizes}"));
        check("handshakes_per_turn = 0", "0 -> `handshakes_per_turn`: 0 is not within 1 and 1000000");
        check("max_body = true", "true -> `max_body` must be a size such as \"1MiB\", not a boolean");
        check("max_head = 1", "1 -> `max_head`: 1 is not within 1KiB and 1MiB");
        check("max_headers = 0", "0 -> `max_headers`: 0 is not within 1 and 1000");
        check("max_headers = 1.5", "1.5 -> `max_headers` must be an integer, not a number with a fraction");
        check(
            "max_connections = 'all'",
            "'all' -> `max_connections` must be \"auto\" or a number, not a string",
        );
        check(
            "max_line = '64KiB'",
            "'64KiB' -> `max_line` (65536 bytes) is larger than `max_head` (32768) [a line is part of a head]",
        );
        check(
            "time_out = '1s'",
            "time_out -> unknown key `time_out` in [defaults] [did you mean `timeout`?]",
        );
    }

    #[test]
    fn a_wrong_retry_is_an_error() {
        let check = |retry: &str, expected: &str| check_wrong(&format!("retry = {retry}"), &[expected]);
        let on = "[connect, reset, timeout, non_idempotent, or a status from 400 to 599]";
        check("true", "true -> `retry` must be a table or false, not a boolean");
        check("{ on = 'conect' }", &format!("'conect' -> `conect` is no failure to retry on {on}"));
        check("{ on = [200] }", &format!("200 -> 200 is no failure to retry on {on}"));
        check("{ tries = 0 }", "0 -> `tries`: 0 is not within 1 and 10");
        check(
            "{ budget = '20' }",
            "20 -> `budget`: `20` is not a share [write a whole number from 0 to 100 and %: 20%]",
        );
        check("{ budget = 20 }", "20 -> `budget` must be a share such as \"20%\", not an integer");
        check("{ try = 3 }", "try -> unknown key `try` in `retry` [known are on, tries, budget]");
    }
}
