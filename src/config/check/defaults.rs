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
    retry.on_status.clear();
    let nodes = match &entry.node.value {
        Value::List(list) => list.iter().collect(),
        _ => vec![&entry.node],
    };
    for node in nodes {
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
                let remark = "connect, reset, timeout, or a status from 400 to 599";
                problems.error("`on` names failures that are retried").at(node.at, remark);
            }
        }
    }
    retry.on_status.sort_unstable();
}
