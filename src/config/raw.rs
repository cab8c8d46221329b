//! What is written, as a tree of values that know where they stand.
//!
//! The tree knows nothing of TOML: rows of a database become the same nodes and go through the same check.

use std::{fmt, ops::Range};

/// Index of a text in [`super::source::Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceId(pub u32);

/// A range of bytes in a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub source: SourceId,
    pub start: u32,
    pub end: u32,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Node {
    pub value: Value,
    pub at: Place,
}

impl Node {
    /// The items of a list, or this value as the only one: a list of one may be written without its brackets.
    pub fn items(&self) -> &[Self] {
        if let Value::List(list) = &self.value { list } else { std::slice::from_ref(self) }
    }

    pub fn as_text(&self) -> Option<&Text> {
        if let Value::String(text) = &self.value { Some(text) } else { None }
    }

    pub fn as_table(&self) -> Option<&Table> {
        if let Value::Table(table) = &self.value { Some(table) } else { None }
    }
}

#[derive(Clone, Debug)]
pub enum Value {
    String(Text),
    Integer(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Node>),
    Table(Table),
}

impl Value {
    /// The kind of value with its article, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::Float(_) => "a number with a fraction",
            Self::Bool(_) => "a boolean",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// A table's entries in the order they are written; no key occurs twice.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub entries: Vec<Entry>,
}

impl Table {
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key.as_str() == key)
    }
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub key: Text,
    pub node: Node,
}

/// A string. It remembers which bytes `${…}` put there, so that a message can point into it and never shows them.
#[derive(Clone, PartialEq, Eq)]
pub struct Text {
    value: String,
    at: Place,
    /// Where the value's first byte stands in the source; `None` if escapes keep the two from lying side by side.
    start: Option<u32>,
    resolved: Vec<Resolved>,
}

/// Bytes of a [`Text`] that replaced a `${…}`.
#[derive(Clone, PartialEq, Eq)]
struct Resolved {
    range: Range<usize>,
    /// The `${…}` as written; its length is what it takes in the source.
    written: Box<str>,
}

impl Text {
    /// A string that stands at `at`, its first byte at `start` if it is written there byte for byte.
    pub fn new(value: String, at: Place, start: Option<u32>) -> Self {
        Self { value, at, start, resolved: Vec::new() }
    }

    /// The value, with everything resolved. Never to be shown: see [`Word::shown`].
    pub fn as_str(&self) -> &str {
        &self.value
    }

    pub fn at(&self) -> Place {
        self.at
    }

    pub fn word(&self) -> Word<'_> {
        Word { text: self, start: 0, end: self.value.len() }
    }

    /// The same text with `pieces` put in place of ranges of it; they are in order and do not overlap.
    pub(super) fn replaced(&self, pieces: Vec<(Range<usize>, String)>) -> Self {
        let mut value = String::with_capacity(self.value.len());
        let mut resolved = Vec::with_capacity(pieces.len());
        let mut copied = 0;
        for (range, replacement) in pieces {
            value.push_str(&self.value[copied..range.start]);
            let start = value.len();
            value.push_str(&replacement);
            let written = self.value[range.clone()].into();
            resolved.push(Resolved { range: start..value.len(), written });
            copied = range.end;
        }
        value.push_str(&self.value[copied..]);
        Self { value, at: self.at, start: self.start, resolved }
    }

    /// The place of `range`; inside of what a `${…}` put there, the place of the whole `${…}`.
    fn place(&self, range: &Range<usize>) -> Place {
        let Some(first) = self.start.filter(|_| !self.value.is_empty()) else { return self.at };
        let start = self.written_offset(range.start, Side::Start);
        let end = self.written_offset(range.end, Side::End).max(start);
        let absolute = |offset: usize| first.saturating_add(u32::try_from(offset).unwrap_or(u32::MAX));
        Place { source: self.at.source, start: absolute(start), end: absolute(end) }
    }

    /// Where `offset` of the value is in the text as written.
    fn written_offset(&self, offset: usize, side: Side) -> usize {
        let mut before = 0; // bytes of the value and of the written text that lie behind us
        let mut before_written = 0;
        for Resolved { range, written } in &self.resolved {
            if offset <= range.start {
                break;
            }
            let here = before_written + (range.start - before);
            if offset < range.end || (offset == range.end && side == Side::End) {
                return if side == Side::Start { here } else { here + written.len() };
            }
            before = range.end;
            before_written = here + written.len();
        }
        before_written + (offset - before)
    }

    /// The text of `range` with every `${…}` as written.
    fn shown(&self, range: &Range<usize>) -> String {
        let mut out = String::new();
        let mut copied = range.start;
        for Resolved { range: inside, written } in &self.resolved {
            let within = inside.start >= range.start && inside.end <= range.end;
            let overlaps = inside.start < range.end && inside.end > range.start;
            if within || overlaps {
                out.push_str(&self.value[copied..inside.start.max(copied)]);
                out.push_str(written);
                copied = inside.end.clamp(copied, range.end);
            }
        }
        out.push_str(&self.value[copied..range.end]);
        out
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.word().shown(), f)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Start,
    End,
}

/// A part of a [`Text`], which knows its own place.
#[derive(Clone, Copy)]
pub struct Word<'a> {
    text: &'a Text,
    start: usize,
    end: usize,
}

impl<'a> Word<'a> {
    /// The value, with everything resolved. Never to be shown: see [`Word::shown`].
    pub fn as_str(self) -> &'a str {
        &self.text.value[self.start..self.end]
    }

    /// The same for messages and logs: every `${…}` as written.
    pub fn shown(self) -> String {
        self.text.shown(&(self.start..self.end))
    }

    /// Whether no `${…}` has a part in it, so that it may be shown.
    pub fn is_as_written(self) -> bool {
        self.text.resolved.iter().all(|piece| piece.range.end <= self.start || piece.range.start >= self.end)
    }

    pub fn at(self) -> Place {
        self.text.place(&(self.start..self.end))
    }

    /// The part of this word at `range`, in bytes, which must lie on character boundaries within it.
    pub fn slice(self, range: Range<usize>) -> Self {
        Self { text: self.text, start: self.start + range.start, end: self.start + range.end }
    }

    /// The value with `{{` for each brace that a `${…}` brought; `None` if none did.
    pub(super) fn braces_escaped(self) -> Option<String> {
        let brought =
            |at: usize| self.text.resolved.iter().any(|piece| piece.range.contains(&(self.start + at)));
        let value = self.as_str();
        if !value.match_indices('{').any(|(at, _)| brought(at)) {
            return None;
        }
        let mut out = String::new();
        for (at, c) in value.char_indices() {
            out.push(c);
            if c == '{' && brought(at) {
                out.push('{');
            }
        }
        Some(out)
    }

    pub fn strip_prefix(self, prefix: &str) -> Option<Self> {
        let rest = self.as_str().strip_prefix(prefix)?;
        Some(Self { start: self.end - rest.len(), ..self })
    }

    /// What stands before and behind the first `separator`.
    pub fn split_once(self, separator: char) -> Option<(Self, Self)> {
        let (before, behind) = self.as_str().split_once(separator)?;
        Some((
            Self { end: self.start + before.len(), ..self },
            Self { start: self.end - behind.len(), ..self },
        ))
    }

    /// The parts between white space.
    pub fn words(self) -> impl Iterator<Item = Self> {
        let whole = self.as_str();
        whole.split_whitespace().map(move |part| {
            let start = part.as_ptr().addr() - whole.as_ptr().addr();
            self.slice(start..start + part.len())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a ${X} b`, written from byte 10 on, with X standing for `value`.
    fn text(value: &str) -> Text {
        let at = Place { source: SourceId(0), start: 9, end: 19 };
        Text::new("a ${X} b".into(), at, Some(10)).replaced(vec![(2..6, value.into())])
    }

    #[track_caller]
    fn check(value: &str, words: &[(&str, u32, u32)]) {
        let text = text(value);
        let found: Vec<_> =
            text.word().words().map(|word| (word.shown(), word.at().start, word.at().end)).collect();
        let expected: Vec<_> =
            words.iter().map(|&(shown, start, end)| (shown.to_owned(), start, end)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_word_points_to_where_it_is_written() {
        for value in ["secret", "s", "tops"] {
            check(value, &[("a", 10, 11), ("${X}", 12, 16), ("b", 17, 18)]);
        }
        check("", &[("a", 10, 11), ("b", 17, 18)]);
    }

    #[test]
    fn a_part_of_a_secret_is_shown_as_the_whole_reference() {
        check("top secret", &[("a", 10, 11), ("${X}", 12, 16), ("${X}", 12, 16), ("b", 17, 18)]);
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", text("hunter2")), r#""a ${X} b""#);
    }
}
