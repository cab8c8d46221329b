//! `[log]`: where records go and how they look.

use std::path::PathBuf;

use super::read::{self, Fields};
use crate::{
    config::{
        Access, Events, Format, Level, Log, Piece, Sink, keys,
        problem::Problems,
        raw::{Entry, Value, Word},
    },
    template::log,
};

const LEVELS: [(&str, Level); 4] =
    [("error", Level::Error), ("warn", Level::Warn), ("info", Level::Info), ("debug", Level::Debug)];

pub(super) fn read(entry: Option<&Entry>, problems: &mut Problems) -> Log {
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
    let pieces = log::parse(word.as_str()).map_err(|bad| bad_format(word, &bad, problems)).ok()?;
    let pieces = pieces.into_iter().map(|piece| match piece {
        log::Piece::Text(text) => Piece::Text(text.into()),
        log::Piece::Variable(name) => Piece::Variable(name),
    });
    Some(Format::Template(pieces.collect()))
}

fn bad_format(word: Word<'_>, bad: &log::BadFormat<'_>, problems: &mut Problems) {
    match *bad {
        log::BadFormat::Unknown { name, at } => {
            let start = at + word.as_str()[at..].find(name).unwrap_or(0);
            let wrong = word.slice(start..start + name.len());
            let title = format!("unknown variable `${}` in a log format", wrong.shown());
            read::unknown_name(title, wrong, log::VARIABLES.into_iter(), problems);
        }
        log::BadFormat::NoName { at } => {
            let place = word.slice(at..at + 1).at();
            problems.error("a `$` without the name of a variable in a log format").at(place, "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::testing::{check_problems, good};

    fn text(log: &str) -> String {
        format!("listen = ':80'\n[routes]\n'/' = 'http://a'\n[log]\n{log}\n")
    }

    #[track_caller]
    fn check(log: &str, expected: Option<(Sink, Format)>) {
        let expected = expected.map(|(to, format)| Access { to, format });
        assert_eq!(good(&text(log)).log.access, expected);
    }

    #[track_caller]
    fn check_wrong(log: &str, expected: &str) {
        check_problems(&text(log), &[expected]);
    }

    #[test]
    fn the_access_log_has_many_forms() {
        check("", Some((Sink::Stdout, Format::Combined)));
        check("access = false", None);
        check("access = './a.log'", Some((Sink::File("./a.log".into()), Format::Combined)));
        check("access = { to = 'stderr', format = 'json' }", Some((Sink::Stderr, Format::Json)));
        let pieces = [
            Piece::Text("a ".into()),
            Piece::Variable("status"),
            Piece::Variable("why"),
            Piece::Text("s".into()),
        ];
        check("access.format = 'a $status$${why}s'", Some((Sink::Stdout, Format::Template(pieces.into()))));
    }

    #[test]
    fn events_have_a_place_and_a_level() {
        let events = |log: &str| good(&text(log)).log.events;
        assert_eq!(events(""), Events { to: Sink::Stderr, level: Level::Info });
        assert_eq!(events("events = 'stdout'"), Events { to: Sink::Stdout, level: Level::Info });
        let expected = Events { to: Sink::File("/a".into()), level: Level::Debug };
        assert_eq!(events("events = { to = '/a', level = 'debug' }"), expected);
    }

    #[test]
    fn a_wrong_value_is_an_error() {
        check_wrong("access = 3", "3 -> `access` must be a table, a place or false, not an integer");
        check_wrong(
            "access = 'json'",
            "json -> `json` is a format, not a place [write { to = \"stdout\", format = \"json\" }]",
        );
        check_wrong(
            "access = 'a.log'",
            "a.log -> `a.log` is no place for a log [stdout, stderr, or a path with a slash: ./access.log]",
        );
        check_wrong(
            "access.format = 'jsn'",
            "jsn -> `jsn` is no format [combined, json, or a text with nginx's $variables]",
        );
        check_wrong(
            "access.format = '$stauts'",
            "stauts -> unknown variable `$stauts` in a log format [did you mean `status`?]",
        );
        check_wrong("access.format = 'a $ b'", "$ -> a `$` without the name of a variable in a log format");
        check_wrong(
            "access.format = 'x $${status'",
            "$${ -> a `$` without the name of a variable in a log format",
        );
        check_wrong("events = true", "true -> `events` must be a table or a place, not a boolean");
        check_wrong(
            "events.level = 'trace'",
            "trace -> `level` cannot be `trace` [known: error, warn, info, debug]",
        );
        check_wrong("stream = 'x'", "stream -> unknown key `stream` in [log] [known are access, events]");
    }
}
