//! Paths into JSON: `a.b[0].c`, `items[*].sku`, `["a.b"].c`.

use std::fmt;

use super::{
    members::Span,
    walk::{elements, entries},
    write,
};

/// Steps of one path.
const STEPS_MAX: usize = 32;

/// A parsed path. Without steps it means the whole value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path {
    steps: Box<[Step]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A member, by its name without escapes.
    Member(Box<str>),
    /// An element, from 0.
    Element(u32),
    /// All elements.
    Each,
}

/// Why a text is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPath {
    /// The byte of the text.
    pub at: usize,
    pub what: &'static str,
}

impl fmt::Display for BadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl std::error::Error for BadPath {}

impl Path {
    /// Parses a text; the empty one is the path without steps.
    ///
    /// A name ends at `.` or `[`; one that has these in it, or is empty, is written as a JSON string in brackets.
    pub fn parse(text: &str) -> Result<Self, BadPath> {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let at = text.len() - rest.len();
            let bad = |what| BadPath { at, what };
            if steps.len() == STEPS_MAX {
                return Err(bad("more than 32 steps"));
            }
            let step;
            if let Some(inside) = rest.strip_prefix('[') {
                (step, rest) = bracket(inside).map_err(bad)?;
            } else {
                let name = match rest.strip_prefix('.') {
                    Some(_) if steps.is_empty() => return Err(bad("a path does not begin with `.`")),
                    Some(name) => name,
                    None if steps.is_empty() => rest,
                    None => return Err(bad("`.` or `[` is missing")),
                };
                let end = name.find(['.', '[']).unwrap_or(name.len());
                if end == 0 {
                    return Err(bad("a name is missing"));
                }
                step = Step::Member(name[..end].into());
                rest = &name[end..];
            }
            steps.push(step);
        }
        Ok(Self { steps: steps.into() })
    }

    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Whether it can lead to more than one place: `[*]`.
    pub fn is_many(&self) -> bool {
        self.steps.contains(&Step::Each)
    }

    /// Appends where the path leads to in the value at `value` of a checked body, in order.
    ///
    /// A name that comes more than once in an object means the last one, as for most readers.
    pub fn find(&self, body: &[u8], value: Span, found: &mut Vec<Span>) {
        follow(&self.steps, body, value, found);
    }

    /// The first place.
    pub fn first(&self, body: &[u8], value: Span) -> Option<Span> {
        first(&self.steps, body, value)
    }
}

fn first(steps: &[Step], body: &[u8], value: Span) -> Option<Span> {
    match steps.split_first() {
        None => Some(value),
        Some((Step::Each, rest)) => elements(body, value).find_map(|element| first(rest, body, element)),
        Some((step, rest)) => first(rest, body, single(step, body, value)?),
    }
}

fn follow(steps: &[Step], body: &[u8], value: Span, found: &mut Vec<Span>) {
    match steps.split_first() {
        None => found.push(value),
        Some((Step::Each, rest)) => {
            for element in elements(body, value) {
                follow(rest, body, element, found);
            }
        }
        Some((step, rest)) => {
            if let Some(value) = single(step, body, value) {
                follow(rest, body, value, found);
            }
        }
    }
}

fn single(step: &Step, body: &[u8], value: Span) -> Option<Span> {
    match step {
        Step::Member(name) => entries(body, value)
            .filter(|entry| write::is_name(entry.key.of(body), name.as_bytes()))
            .last()
            .map(|entry| entry.value),
        Step::Element(index) => elements(body, value).nth(*index as usize),
        Step::Each => None,
    }
}

/// The step after a `[`, and what follows its `]`.
fn bracket(inside: &str) -> Result<(Step, &str), &'static str> {
    if inside.starts_with('"') {
        let document = string_prefix(inside).ok_or("the string has no end")?;
        let written = &inside.as_bytes()[..document];
        super::check(written).map_err(|_| "this is no JSON string")?;
        let mut name = Vec::new();
        write::unescape(&written[1..document - 1], &mut name);
        let name = String::from_utf8(name).map_err(|_| "this is no JSON string")?;
        let rest = inside[document..].strip_prefix(']').ok_or("`]` is missing")?;
        return Ok((Step::Member(name.into()), rest));
    }
    let (index, rest) = inside.split_once(']').ok_or("`]` is missing")?;
    if index == "*" {
        return Ok((Step::Each, rest));
    }
    let is_index =
        index.bytes().all(|byte| byte.is_ascii_digit()) && (index == "0" || !index.starts_with('0'));
    let index = index.parse().ok().filter(|_| is_index);
    let index = index.ok_or("neither an index, nor `*`, nor a string in quotes")?;
    Ok((Step::Element(index), rest))
}

/// The length of the string that `text` begins with.
fn string_prefix(text: &str) -> Option<usize> {
    let mut escaped = false;
    let close = text.bytes().skip(1).position(|byte| {
        let is_end = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        is_end
    })?;
    Some(close + 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::check as scan;

    const BODY: &str = r#"
        {"a": {"b": [{"c": 1}, {"c": [2, 3]}, 4, []]}, "x.y": 5, "\u0061a": "s", "": 6, "a\"": 7, "b": 1, "b": 2, "t": "]}\""}
    "#;

    #[track_caller]
    fn check(path: &str, body: &str, expected: &[&str]) {
        let value = scan(body.as_bytes()).expect("JSON").span;
        let path = Path::parse(path).expect("a path");
        let mut found = Vec::new();
        path.find(body.as_bytes(), value, &mut found);
        let texts: Vec<_> =
            found.iter().map(|span| String::from_utf8_lossy(span.of(body.as_bytes()))).collect();
        assert_eq!(texts, expected);
        assert_eq!(path.first(body.as_bytes(), value), found.first().copied());
    }

    #[track_caller]
    fn check_bad(path: &str, at: usize) {
        assert_eq!(Path::parse(path).expect_err(path).at, at, "{path}");
    }

    #[test]
    fn a_path_leads_to_a_place() {
        check("a.b[0].c", BODY, &["1"]);
        check("a.b[1].c[1]", BODY, &["3"]);
        check("a.b[3]", BODY, &["[]"]);
        check("t", BODY, &[r#""]}\"""#]);
        check("", " 1 ", &["1"]);
        check("[1]", "[1, [ ] ]", &["[ ]"]);
    }

    #[test]
    fn a_star_leads_to_every_element_that_has_the_rest() {
        check("a.b[*].c", BODY, &["1", "[2, 3]"]);
        check("a.b[*].c[*]", BODY, &["2", "3"]);
        check("[*].sku", r#"[{"sku":"x"},{},3,{"sku":null}]"#, &[r#""x""#, "null"]);
        check("[*]", "[]", &[]);
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        for path in ["c", "a.c", "a.b[4]", "a.b[0].c.d", "a.b.c", "a[0]", "t.x", "a[*]", "[0]"] {
            check(path, BODY, &[]);
        }
        check("a", "{}", &[]);
        check("a", "1", &[]);
    }

    #[test]
    fn names_are_compared_without_escapes_and_the_last_one_counts() {
        check("aa", BODY, &["\"s\""]);
        check("b", BODY, &["2"]);
        check(r#"["\u0061a"]"#, BODY, &["\"s\""]);
    }

    #[test]
    fn names_with_dots_are_written_as_strings() {
        check(r#"["x.y"]"#, BODY, &["5"]);
        check(r#"[""]"#, BODY, &["6"]);
        check(r#"["a\""]"#, BODY, &["7"]);
        check(r#"["a"]["b"][2]"#, BODY, &["4"]);
    }

    #[test]
    fn other_texts_are_no_paths() {
        for (path, at) in [
            (".", 0),
            (".a", 0),
            ("a.", 1),
            ("a..b", 1),
            ("a[", 1),
            ("a[]", 1),
            ("a[x]", 1),
            ("a[01]", 1),
            ("a[-1]", 1),
            ("a[1", 1),
            ("a[1]b", 4),
            ("a[99999999999]", 1),
            (r#"["a]"#, 0),
            (r#"["a"b]"#, 0),
            (r#"["\x"]"#, 0),
            ("a[**]", 1),
        ] {
            check_bad(path, at);
        }
        check_bad(&["a"; 33].join("."), 63);
    }
}
