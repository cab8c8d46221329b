//! A value of the kind a key wants, or a problem that says which kind that is.

use std::{fmt::Display, ops::RangeInclusive, time::Duration};

use super::units;
use crate::config::{
    keys::{self, Keys},
    problem::Problems,
    raw::{Entry, Node, Table, Text, Value, Word},
};

/// A table whose keys are all known.
pub(super) struct Fields<'a> {
    table: &'a Table,
    keys: &'static Keys,
}

impl<'a> Fields<'a> {
    /// Reports the keys that are not.
    pub(super) fn new(table: &'a Table, keys: &'static Keys, problems: &mut Problems) -> Self {
        for entry in &table.entries {
            if !keys.contains(entry.key.as_str()) {
                unknown_key(entry.key.word(), keys, problems);
            }
        }
        Self { table, keys }
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Entry> {
        debug_assert!(self.keys.contains(key), "{key} is missing from the keys of {}", self.keys.table);
        self.table.get(key)
    }

    /// The value of `key` read by `read`, or `default` if it is not written or wrong.
    pub(super) fn or<T>(&self, key: &str, default: T, read: impl FnOnce(&'a Entry) -> Option<T>) -> T {
        self.get(key).and_then(read).unwrap_or(default)
    }
}

pub(super) fn unknown_key(key: Word<'_>, keys: &Keys, problems: &mut Problems) {
    let problem = problems.error(format!("unknown key `{}` in {}", key.shown(), keys.table));
    match keys.suggestion(key.as_str()) {
        Some(meant) => problem.at(key.at(), did_you_mean(meant)),
        None => problem.at(key.at(), "").help(format!("known are {}", list(keys.names()))),
    };
}

pub(super) fn did_you_mean(name: &str) -> String {
    format!("did you mean `{name}`?")
}

/// Says that `wrong` is none of `names`, with the one that was probably meant, or all if they are few.
pub(super) fn unknown_name<'a>(
    title: String,
    wrong: Word<'_>,
    names: impl Iterator<Item = &'a str> + Clone,
    problems: &mut Problems,
) {
    const LISTED_MAX: usize = 8;
    let problem = problems.error(title);
    match keys::closest(wrong.as_str(), names.clone()) {
        Some(meant) => problem.at(wrong.at(), did_you_mean(meant)),
        None if (1..=LISTED_MAX).contains(&names.clone().count()) => {
            problem.at(wrong.at(), format!("known: {}", list(names)))
        }
        None => problem.at(wrong.at(), ""),
    };
}

pub(super) fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

pub(super) fn wrong_kind(key: &str, wanted: &str, node: &Node, problems: &mut Problems) {
    problems.error(format!("`{key}` must be {wanted}, not {}", node.value.kind())).at(node.at, "");
}

pub(super) fn string<'a>(entry: &'a Entry, problems: &mut Problems) -> Option<Word<'a>> {
    string_for(entry, "a string", problems)
}

/// A string that means something more special, which `wanted` names.
pub(super) fn string_for<'a>(entry: &'a Entry, wanted: &str, problems: &mut Problems) -> Option<Word<'a>> {
    let Value::String(text) = &entry.node.value else {
        wrong_kind(entry.key.as_str(), wanted, &entry.node, problems);
        return None;
    };
    Some(text.word())
}

/// One string, or a list of them.
pub(in crate::config) fn strings<'a>(entry: &'a Entry, problems: &mut Problems) -> Vec<Word<'a>> {
    let key = entry.key.as_str();
    if !matches!(entry.node.value, Value::String(_) | Value::List(_)) {
        wrong_kind(key, "a string or a list of strings", &entry.node, problems);
        return Vec::new();
    }
    let words = entry.node.items().iter().filter_map(|item| {
        if item.as_text().is_none() {
            let title = format!("`{key}` must be a list of strings, not of {}", item.value.kind());
            problems.error(title).at(item.at, "");
        }
        item.as_text().map(Text::word)
    });
    words.collect()
}

pub(super) fn table<'a>(entry: &'a Entry, problems: &mut Problems) -> Option<&'a Table> {
    let Value::Table(table) = &entry.node.value else {
        wrong_kind(entry.key.as_str(), "a table", &entry.node, problems);
        return None;
    };
    Some(table)
}

pub(super) fn boolean(entry: &Entry, problems: &mut Problems) -> Option<bool> {
    let Value::Bool(value) = entry.node.value else {
        wrong_kind(entry.key.as_str(), "true or false", &entry.node, problems);
        return None;
    };
    Some(value)
}

pub(super) fn integer(entry: &Entry, range: RangeInclusive<u32>, problems: &mut Problems) -> Option<u32> {
    let Value::Integer(value) = entry.node.value else {
        wrong_kind(entry.key.as_str(), "an integer", &entry.node, problems);
        return None;
    };
    let within = u32::try_from(value).ok().filter(|value| range.contains(value));
    if within.is_none() {
        out_of_range(entry.key.as_str(), &value, &range, problems).at(entry.node.at, "");
    }
    within
}

/// One of a few words.
pub(super) fn one_of<T: Copy>(
    entry: &Entry,
    choices: &[(&'static str, T)],
    problems: &mut Problems,
) -> Option<T> {
    let word = string(entry, problems)?;
    let found = choices.iter().find(|(name, _)| *name == word.as_str());
    if found.is_none() {
        let title = format!("`{}` cannot be `{}`", entry.key.as_str(), word.shown());
        unknown_name(title, word, choices.iter().map(|(name, _)| *name), problems);
    }
    found.map(|&(_, value)| value)
}

pub(super) fn duration(
    entry: &Entry,
    range: RangeInclusive<Duration>,
    problems: &mut Problems,
) -> Option<Duration> {
    let word = string_for(entry, "a duration such as \"2s\"", problems)?;
    duration_in(entry.key.as_str(), word, range, problems)
}

pub(super) fn duration_in(
    key: &str,
    word: Word<'_>,
    range: RangeInclusive<Duration>,
    problems: &mut Problems,
) -> Option<Duration> {
    let Some(value) = units::duration(word.as_str()) else {
        let title = format!("`{key}`: `{}` is not a duration", word.shown());
        problems.error(title).at(word.at(), units::duration_remedy(&word.shown()));
        return None;
    };
    if !range.contains(&value) {
        let shown = units::show_duration(*range.start())..=units::show_duration(*range.end());
        out_of_range(key, &word.shown(), &shown, problems).at(word.at(), "");
        return None;
    }
    Some(value)
}

pub(super) fn size(entry: &Entry, range: RangeInclusive<u64>, problems: &mut Problems) -> Option<u64> {
    let key = entry.key.as_str();
    let (value, shown) = match &entry.node.value {
        Value::Integer(value) => (u64::try_from(*value).ok(), value.to_string()),
        Value::String(text) => (units::size(text.as_str()), text.word().shown()),
        Value::Float(_) | Value::Bool(_) | Value::List(_) | Value::Table(_) => {
            wrong_kind(key, "a size such as \"1MiB\"", &entry.node, problems);
            return None;
        }
    };
    let Some(value) = value else {
        let remedy = units::size_remedy(&shown);
        problems.error(format!("`{key}`: `{shown}` is not a size")).at(entry.node.at, remedy);
        return None;
    };
    if !range.contains(&value) {
        let shown_range = units::show_size(*range.start())..=units::show_size(*range.end());
        out_of_range(key, &shown, &shown_range, problems).at(entry.node.at, "");
        return None;
    }
    Some(value)
}

pub(super) fn percent(entry: &Entry, problems: &mut Problems) -> Option<u32> {
    let word = string_for(entry, "a share such as \"20%\"", problems)?;
    let value = units::percent(word.as_str());
    if value.is_none() {
        let title = format!("`{}`: `{}` is not a share", entry.key.as_str(), word.shown());
        problems.error(title).at(word.at(), units::PERCENT_FORMS);
    }
    value
}

pub(super) fn out_of_range<'p, T: Display>(
    key: &str,
    value: &dyn Display,
    range: &RangeInclusive<T>,
    problems: &'p mut Problems,
) -> &'p mut crate::config::problem::Problem {
    problems.error(format!("`{key}`: {value} is not within {} and {}", range.start(), range.end()))
}
