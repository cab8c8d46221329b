//! A request body with values in it.
//!
//! A JSON body is JSON whose strings are templates. One that is nothing but a value of an answer, `"{user.id}"`, becomes that
//! value with its type; in any other the values are text.

use super::values::Values;
use crate::{
    json::{self, write},
    template::{BadTemplate, Escape, Part, Template, Variable},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyTemplate {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// As it is.
    Text(Vec<u8>),
    /// A value with its type.
    Value(Variable),
    /// Between quotes.
    String(Template),
    /// Values escaped so.
    Escaped(Template, Escape),
}

/// Why a text is no template of a JSON body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadBody {
    /// It is no JSON, even before values are put in.
    Json(json::BadJson),
    Template(BadTemplate),
}

impl BodyTemplate {
    /// A text that is JSON; `parse` makes a template of each of its strings.
    pub fn json(text: &str, parse: &dyn Fn(&str) -> Result<Template, BadTemplate>) -> Result<Self, BadBody> {
        json::check(text.as_bytes()).map_err(BadBody::Json)?;
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text.as_bytes();
        while let Some(open) = memchr::memchr(b'"', rest) {
            literal.extend_from_slice(&rest[..open]);
            let inside = &rest[open + 1..];
            let written = &inside[..string_len(inside)];
            rest = &inside[written.len() + 1..];
            let mut plain = Vec::with_capacity(written.len());
            write::unescape(written, &mut plain);
            let template = parse(&String::from_utf8_lossy(&plain)).map_err(BadBody::Template)?;
            if let Some(text) = template.as_literal() {
                write::string(text, &mut literal);
                continue;
            }
            pieces.push(Piece::Text(std::mem::take(&mut literal)));
            let is_name = rest.trim_ascii_start().first() == Some(&b':');
            pieces.push(match template.parts() {
                [Part::Variable(variable @ Variable::Part(..))] if !is_name => Piece::Value(variable.clone()),
                _ => Piece::String(template),
            });
        }
        literal.extend_from_slice(rest);
        pieces.push(Piece::Text(literal));
        Ok(Self { pieces })
    }

    /// Any other text.
    pub fn text(template: Template, escape: Escape) -> Self {
        Self { pieces: vec![Piece::Escaped(template, escape)] }
    }

    /// Appends the body. False where an answer has not what it asks for.
    pub fn render(&self, values: &Values<'_>, out: &mut Vec<u8>) -> bool {
        self.pieces.iter().all(|piece| match piece {
            Piece::Text(text) => {
                out.extend_from_slice(text);
                true
            }
            Piece::Value(Variable::Part(of, path)) => values.json(*of, path, out),
            Piece::Value(variable) => {
                values.client.append(variable, Escape::Json, out);
                true
            }
            Piece::String(template) => {
                out.push(b'"');
                let mut escaped = true;
                for part in template.parts() {
                    escaped &= match part {
                        Part::Literal(text) => {
                            write::escape(text, out);
                            true
                        }
                        Part::Variable(variable) => {
                            let alone = Template::of(variable.clone());
                            values.text(&alone, Escape::Json, out)
                        }
                    };
                }
                out.push(b'"');
                escaped
            }
            Piece::Escaped(template, escape) => values.text(template, *escape, out),
        })
    }

    /// The variables in it.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.pieces.iter().flat_map(|piece| {
            let (single, template) = match piece {
                Piece::Text(_) => (None, None),
                Piece::Value(variable) => (Some(variable), None),
                Piece::String(template) | Piece::Escaped(template, _) => (None, Some(template)),
            };
            single.into_iter().chain(template.into_iter().flat_map(Template::variables))
        })
    }
}

/// Bytes before the closing quote.
fn string_len(inside: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = inside.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if inside[at] == b'"' {
            return at;
        }
        at += 2;
    }
    inside.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::{
        super::values::testing::{Fixed, One, template},
        *,
    };

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let body = BodyTemplate::json(text, &|text| Ok(template(text))).expect("a body");
        let values = Values { client: &Fixed, answers: &One(r#"{"id":7,"n":"a\"b","l":[1,{}]}"#) };
        let mut out = Vec::new();
        let is_there = body.render(&values, &mut out);
        assert_eq!(is_there.then(|| String::from_utf8(out).expect("UTF-8")).as_deref(), expected, "{text}");
    }

    #[test]
    fn a_string_that_is_a_value_has_its_type() {
        check(r#"{"a":"{user.id}","b":"{user.l}","c":1e400}"#, Some(r#"{"a":7,"b":[1,{}],"c":1e400}"#));
        check(r#"["{user.n}"]"#, Some(r#"["a\"b"]"#));
    }

    #[test]
    fn in_any_other_string_values_are_text() {
        check(r#"{"a":"n {user.id}","b":"{id}"}"#, Some(r#"{"a":"n 7","b":"c/1"}"#));
        check(r#"{"x\"{user.n}":"é\n"}"#, Some("{\"x\\\"a\\\"b\":\"é\\n\"}"));
        check(r#"{"{user.id}":1}"#, Some(r#"{"7":1}"#));
    }

    #[test]
    fn without_variables_a_body_is_itself() {
        check(r#"{ "a" : [ true , "\u0041" ] }"#, Some(r#"{ "a" : [ true , "A" ] }"#));
    }

    #[test]
    fn a_missing_value_is_no_body() {
        check(r#"{"a":"{user.x}"}"#, None);
        check(r#"{"a":"b {gone.x}"}"#, None);
    }

    #[test]
    fn a_text_that_is_no_json_is_refused() {
        let json = |text| BodyTemplate::json(text, &|text| Ok(template(text)));
        assert!(matches!(json(r#"{"a":{user.id}}"#), Err(BadBody::Json(_))));
        assert!(matches!(json(""), Err(BadBody::Json(_))));
    }
}
