//! `[log]`: where records go and how they look.

use std::{path::PathBuf, sync::Arc};

use super::read::{self, Fields};
use crate::config::{
    Access, Events, Format, Level, Log, Piece, Sink, keys,
    problem::Problems,
    raw::{Entry, Value, Word},
};

/// The variables a format may have, without their `$`: nginx's, then ours.
pub const VARIABLES: [&str; 29] = [
    "remote_addr",
    "remote_port",
    "remote_user",
    "time_local",
    "time_iso8601",
    "msec",
    "request",
    "request_method",
    "request_uri",
    "server_protocol",
    "status",
    "body_bytes_sent",
    "bytes_sent",
    "http_referer",
    "http_user_agent",
    "http_host",
    "host",
    "request_id",
    "request_time",
    "upstream_addr",
    "upstream_status",
    "upstream_response_time",
    "route",
    "service",
    "endpoint",
    "why",
    "side",
    "added_time",
    "attempts",
];

const LEVELS: [(&str, Level); 4] =
    [("error", Level::Error), ("warn", Level::Warn), ("info", Level::Info), ("debug", Level::Debug)];

pub(super) fn log(entry: Option<&Entry>, problems: &mut Problems) -> Log {
    let mut log = Log {
        access: Some(Access { to: Sink::Stdout, format: Format::Combined }),
        events: Events { to: Sink::Stderr, level: Level::Info },
    };
    let Some(table) = entry.and_then(|entry| read::table(entry, problems)) else { return log };
    let fields = Fields::new(table, &keys::LOG, problems);
    if let Some(entry) = fields.get("access") {
        log.access = access(entry, problems);
    }
    if let Some(entry) = fields.get("events") {
        log.events = events(entry, log.events, problems);
    }
    log
}

fn access(entry: &Entry, problems: &mut Problems) -> Option<Access> {
    let mut access = Access { to: Sink::Stdout, format: Format::Combined };
    match &entry.node.value {
        Value::Bool(false) => return None,
        Value::String(text) => access.to = sink(text.word(), problems).unwrap_or(access.to),
        Value::Table(table) => {
            let fields = Fields::new(table, &keys::ACCESS, problems);
            access.to = fields.or("to", access.to, |entry| sink(read::string(entry, problems)?, problems));
            access.format =
                fields.or("format", access.format, |entry| format(read::string(entry, problems)?, problems));
        }
        Value::Bool(true) => {}
        Value::Integer(_) | Value::Float(_) | Value::List(_) => {
            read::wrong_kind("access", "a table, a place or false", &entry.node, problems);
        }
    }
    Some(access)
}

fn events(entry: &Entry, default: Events, problems: &mut Problems) -> Events {
    match &entry.node.value {
        Value::String(text) => Events { to: sink(text.word(), problems).unwrap_or(default.to), ..default },
        Value::Table(table) => {
            let fields = Fields::new(table, &keys::EVENTS, problems);
            Events {
                to: fields.or("to", default.to, |entry| sink(read::string(entry, problems)?, problems)),
                level: fields.or("level", default.level, |entry| read::one_of(entry, &LEVELS, problems)),
            }
        }
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::List(_) => {
            read::wrong_kind("events", "a table or a place", &entry.node, problems);
            default
        }
    }
}

/// `stdout`, `stderr`, or a path, which is known by its slash.
fn sink(word: Word<'_>, problems: &mut Problems) -> Option<Sink> {
    match word.as_str() {
        "stdout" => Some(Sink::Stdout),
        "stderr" => Some(Sink::Stderr),
        path if path.contains('/') && !path.ends_with('/') && !path.contains("://") => {
            Some(Sink::File(PathBuf::from(path)))
        }
        "json" | "combined" => {
            let title = format!("`{}` is a format, not a place", word.shown());
            let remark = format!("write {{ to = \"stdout\", format = \"{}\" }}", word.shown());
            problems.error(title).at(word.at(), remark);
            None
        }
        _ => {
            let title = format!("`{}` is no place for a log", word.shown());
            problems.error(title).at(word.at(), "stdout, stderr, or a path with a slash: ./access.log");
            None
        }
    }
}

fn format(word: Word<'_>, problems: &mut Problems) -> Option<Format> {
    match word.as_str() {
        "combined" => return Some(Format::Combined),
        "json" => return Some(Format::Json),
        text if !text.contains('$') => {
            let title = format!("`{}` is no format", word.shown());
            problems.error(title).at(word.at(), "combined, json, or a text with nginx's $variables");
            return None;
        }
        _ => {}
    }
    pieces(word, problems).map(Format::Template)
}

/// The text between variables and the variables, `$name` or `${name}`. There is no escape for a dollar sign, as in
/// nginx.
fn pieces(word: Word<'_>, problems: &mut Problems) -> Option<Arc<[Piece]>> {
    let text = word.as_str();
    let mut pieces = Vec::new();
    let mut fits = true;
    let mut at = 0;
    while let Some(dollar) = text[at..].find('$').map(|found| at + found) {
        if dollar > at {
            pieces.push(Piece::Text(text[at..dollar].into()));
        }
        let braced = text[dollar + 1..].starts_with('{');
        let start = dollar + 1 + usize::from(braced);
        let rest = &text[start..];
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let name = &rest[..length];
        let closed = !braced || rest[length..].starts_with('}');
        at = start + length + usize::from(braced && closed);
        if VARIABLES.contains(&name) && closed {
            pieces.push(Piece::Variable(name.into()));
        } else {
            let title = format!("unknown variable `{}` in a log format", word.slice(dollar..at).shown());
            let wrong = word.slice(start..start + length);
            read::unknown_name(title, wrong, VARIABLES.into_iter(), problems);
            fits = false;
        }
    }
    if at < text.len() {
        pieces.push(Piece::Text(text[at..].into()));
    }
    fits.then(|| pieces.into())
}
