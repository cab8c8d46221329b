//! Text with `{variables}`: parsed once, rendered into a buffer.
//!
//! `{id}` is a variable of the route's pattern; `{query.q}`, `{header.x-a}` and `{cookie.c}` are parts of the request,
//! `{jwt.sub}` is a claim of its token.
//! `{{` is a brace. A brace before a quote, a closing brace, white space and then one of these, or the end is one
//! too, so that JSON can be written as it is.

mod claim;
mod escape;

use std::{ops::Range, sync::Arc};

pub use claim::ClaimName;
pub use escape::Escape;

use crate::{http::headers::is_token, json::Path};

pub mod log;

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// No two literals follow one another; at least one part.
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Literal(Arc<str>),
    Variable(Variable),
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// Index into the variables of the route's pattern.
    Path(usize),
    /// A parameter of the query, by its decoded name.
    Query(Arc<str>),
    /// A request header, in lower case.
    Header(Arc<str>),
    Cookie(Arc<str>),
    /// A claim of the token.
    Jwt(ClaimName),
    /// A place in the answer of a part of an aggregate: `{user.name}`.
    Part(Of, Path),
}

/// Whose answer a value is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// Index into the route's parts.
    Part(usize),
    /// What a part is repeated for: `{each.id}`.
    Each,
    /// The list a part is called once for: `{batch}`.
    Batch,
}

/// What is wrong with a template, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadTemplate {
    /// Bytes of the text.
    pub at: Range<usize>,
    pub what: String,
    /// The remedy, or empty.
    pub remedy: &'static str,
}

impl Template {
    /// Parses a text; `known` gives the index of a variable of the pattern.
    pub fn parse(text: &str, known: &dyn Fn(&str) -> Option<usize>) -> Result<Self, BadTemplate> {
        Self::parse_in_part(text, known, &|_| None)
    }

    /// The same for a template within a part of an aggregate; `answer` says whose answer a name means.
    pub fn parse_in_part(
        text: &str,
        known: &dyn Fn(&str) -> Option<usize>,
        answer: &dyn Fn(&str) -> Option<Of>,
    ) -> Result<Self, BadTemplate> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut at = 0;
        while let Some(open) = text[at..].find('{').map(|found| at + found) {
            literal.push_str(&text[at..open]);
            let rest = &text[open + 1..];
            if is_literal(rest) {
                literal.push('{');
                at = open + 1 + usize::from(rest.starts_with('{'));
                continue;
            }
            let Some(length) = rest.find('}') else {
                return Err(BadTemplate {
                    at: open..text.len(),
                    what: "a variable without its `}`".into(),
                    remedy: "write `{{` for a brace",
                });
            };
            let name = open + 1..open + 1 + length;
            let variable = match of_answer(&text[name.clone()], answer) {
                Some(variable) => variable,
                None => variable(&text[name.clone()], known),
            };
            let variable =
                variable.map_err(|(what, remedy)| BadTemplate { at: name.clone(), what, remedy })?;
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal).into()));
            }
            parts.push(Part::Variable(variable));
            at = name.end + 1;
        }
        literal.push_str(&text[at..]);
        if !literal.is_empty() || parts.is_empty() {
            parts.push(Part::Literal(literal.into()));
        }
        Ok(Self { parts: parts.into() })
    }

    /// A template without variables.
    pub fn literal(text: &str) -> Self {
        Self { parts: Box::new([Part::Literal(text.into())]) }
    }

    /// A template that is one variable.
    pub fn of(variable: Variable) -> Self {
        Self { parts: Box::new([Part::Variable(variable)]) }
    }

    /// Several templates one behind the other.
    pub fn concat(templates: Vec<Self>) -> Self {
        let mut parts: Vec<Part> = Vec::new();
        for part in templates.into_iter().flat_map(|template| template.parts.into_vec()) {
            match (parts.last_mut(), &part) {
                (Some(Part::Literal(before)), Part::Literal(text)) => {
                    *before = format!("{before}{text}").into()
                }
                _ => parts.push(part),
            }
        }
        if parts.is_empty() { Self::literal("") } else { Self { parts: parts.into() } }
    }

    /// The variables in it, in order.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(_) => None,
            Part::Variable(variable) => Some(variable),
        })
    }

    /// The text, if no request changes it.
    pub fn as_literal(&self) -> Option<&str> {
        match &*self.parts {
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// Literals and variables in order, for a caller that escapes by context.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Appends the text to `out`; `lookup` appends a variable's value, escaped as its context asks for.
    pub fn render(&self, out: &mut Vec<u8>, mut lookup: impl FnMut(&Variable, &mut Vec<u8>)) {
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text.as_bytes()),
                Part::Variable(variable) => lookup(variable, out),
            }
        }
    }
}

/// Whether the brace before `rest` is a character like any other.
fn is_literal(rest: &str) -> bool {
    match rest.chars().next() {
        None | Some('{' | '}') => true,
        Some(_) => matches!(rest.trim_start().chars().next(), None | Some('"' | '}')),
    }
}

/// `name.a[0].b`, where `name` is a part's.
fn of_answer(
    text: &str,
    answer: &dyn Fn(&str) -> Option<Of>,
) -> Option<Result<Variable, (String, &'static str)>> {
    let end = text.find(['.', '[']).unwrap_or(text.len());
    let of = answer(&text[..end])?;
    let rest = &text[end..];
    let path = Path::parse(rest.strip_prefix('.').filter(|rest| !rest.is_empty()).unwrap_or(rest));
    let remedy = "write {part.name}, {part.list[0].name} or {part.list[*].name}";
    Some(path.map(|path| Variable::Part(of, path)).map_err(|bad| (format!("`{text}`: {bad}"), remedy)))
}

fn variable(name: &str, known: &dyn Fn(&str) -> Option<usize>) -> Result<Variable, (String, &'static str)> {
    if let Some(index) = known(name) {
        return Ok(Variable::Path(index));
    }
    let unknown = || (format!("unknown variable `{name}`"), "");
    let (kind, key) = name.split_once('.').ok_or_else(unknown)?;
    match kind {
        "query" if !key.is_empty() => Ok(Variable::Query(key.into())),
        "header" if is_token(key.as_bytes()) => Ok(Variable::Header(key.to_ascii_lowercase().into())),
        // A cookie's name is a token, too (RFC 6265 §4.1.1).
        "cookie" if is_token(key.as_bytes()) => Ok(Variable::Cookie(key.into())),
        "jwt" if !key.is_empty() => Ok(Variable::Jwt(ClaimName::new(key))),
        "query" | "header" | "cookie" | "jwt" => Err((
            format!("`{key}` is no name of a {kind} value"),
            "write {query.q}, {header.x-user}, {cookie.id}, {jwt.sub}",
        )),
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Template, BadTemplate> {
        Template::parse(text, &|name| ["id", "rest"].iter().position(|known| *known == name))
    }

    /// Values: `<id>` for `{id}`, `<q:NAME>` for `{query.NAME}` and so on.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let mut out = Vec::new();
        parse(text).unwrap().render(&mut out, |variable, out| {
            let value = match variable {
                Variable::Path(index) => format!("<{index}>"),
                Variable::Query(name) => format!("<q:{name}>"),
                Variable::Header(name) => format!("<h:{name}>"),
                Variable::Cookie(name) => format!("<c:{name}>"),
                Variable::Part(of, path) => format!("<{of:?}:{}>", path.steps().len()),
                Variable::Jwt(name) => format!("<j:{}>", name.text()),
            };
            out.extend_from_slice(value.as_bytes());
        });
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[track_caller]
    fn check_bad(text: &str, at: Range<usize>, what: &str) {
        let bad = parse(text).unwrap_err();
        assert_eq!((bad.at, &*bad.what), (at, what));
    }

    #[test]
    fn variables_are_put_in_place() {
        check("/users/{id}/{rest}?q={query.q}", "/users/<0>/<1>?q=<q:q>");
        check("{header.X-A}{cookie.c}", "<h:x-a><c:c>");
        check("{query.a b[]}", "<q:a b[]>");
        check("{jwt.https://example.com/tenant}", "<j:https://example.com/tenant>");
        check("{id}", "<0>");
        check("", "");
    }

    #[test]
    fn a_part_is_known_by_what_stands_before_its_path() {
        let parse = |text: &str| {
            let answer = |name: &str| (name == "user").then_some(Of::Part(3));
            Template::parse_in_part(text, &|name| (name == "id").then_some(0), &answer)
        };
        let part = |path: &str| {
            Ok(Template {
                parts: [Part::Variable(Variable::Part(Of::Part(3), Path::parse(path).unwrap()))].into(),
            })
        };
        assert_eq!(parse("{user.a.b}"), part("a.b"));
        assert_eq!(parse("{user[0].a}"), part("[0].a"));
        assert_eq!(parse("{user.a[*].b}"), part("a[*].b"));
        assert_eq!(parse("{user}"), part(""));
        assert_eq!(parse("{id}").unwrap().parts(), [Part::Variable(Variable::Path(0))]);
        assert_eq!(parse("{user.}").unwrap_err().what, "`user.`: a path does not begin with `.`");
        assert_eq!(parse("{users.a}").unwrap_err().what, "unknown variable `users.a`");
    }

    #[test]
    fn a_doubled_brace_is_one() {
        check("{{id}", "{id}");
        check("a{{{id}}", "a{<0>}");
    }

    #[test]
    fn json_is_written_as_it_is() {
        for text in ["{}", r#"{"a":{"b":[{}]}}"#, "{ }", "{\n  \"a\": 1\n}", "{", "a }} b"] {
            check(text, text);
        }
        check(r#"{"id":"{id}"}"#, r#"{"id":"<0>"}"#);
    }

    #[test]
    fn what_is_no_variable_is_an_error() {
        check_bad("/a/{idd}", 4..7, "unknown variable `idd`");
        check_bad("{ id }", 1..5, "unknown variable ` id `");
        check_bad("{jwt.}", 1..5, "`` is no name of a jwt value");
        check_bad("{query.}", 1..7, "`` is no name of a query value");
        check_bad("{header.a b}", 1..11, "`a b` is no name of a header value");
        check_bad("x{id", 1..4, "a variable without its `}`");
    }

    #[test]
    fn a_text_without_variables_is_literal() {
        assert_eq!(parse("/a{{b").unwrap().as_literal(), Some("/a{b"));
        assert_eq!(parse("").unwrap().as_literal(), Some(""));
        assert_eq!(parse("/{id}").unwrap().as_literal(), None);
    }
}
