//! What clients send to `/login`, `/refresh` and `/logout`: JSON or a form.

use std::borrow::Cow;

use serde_json::Value;

use super::Refusal;

/// The members of a body, however it was written.
pub(super) struct Form(Vec<(String, String)>);

/// Members that are read; there may be others.
const MEMBERS_MAX: usize = 64;

impl Form {
    /// Reads a body. An empty one has no members, whatever its type.
    pub(super) fn read(content_type: Option<&str>, body: &[u8]) -> Result<Self, Refusal> {
        if body.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let media = content_type.unwrap_or("").split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        match media.as_str() {
            "application/json" => Self::json(body),
            "application/x-www-form-urlencoded" => Self::urlencoded(body),
            _ => Err(Refusal::UnknownType),
        }
    }

    fn json(body: &[u8]) -> Result<Self, Refusal> {
        let Ok(Value::Object(members)) = serde_json::from_slice(body) else {
            return Err(Refusal::Malformed("The body is not a JSON object."));
        };
        let text = |value: Value| match value {
            Value::String(text) => Some(text),
            Value::Bool(value) => Some(value.to_string()),
            Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
        };
        let members = members.into_iter().filter_map(|(name, value)| Some((name, text(value)?)));
        Ok(Self(members.take(MEMBERS_MAX).collect()))
    }

    fn urlencoded(body: &[u8]) -> Result<Self, Refusal> {
        let malformed = Refusal::Malformed("The form is not UTF-8.");
        let members = body.split(|byte| *byte == b'&').take(MEMBERS_MAX).map(|pair| {
            let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &b""[..]),
            };
            let text = |part| String::from_utf8(decoded(part).into_owned()).map_err(|_| malformed);
            Ok((text(name)?, text(value)?))
        });
        members.collect::<Result<_, _>>().map(Self)
    }

    /// The first member of this name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// A member that must be there and not be empty.
    pub(super) fn need(&self, name: &str, missing: &'static str) -> Result<&str, Refusal> {
        self.get(name).filter(|value| !value.is_empty()).ok_or(Refusal::Malformed(missing))
    }
}

/// URL Standard §5.1: `+` is a space, `%41` an A, and `%` alone itself.
fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        let hex = |at: usize| tail.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        let (decoded, used) = match (byte, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                (u8::try_from(high * 16 + low).expect("two hexadecimal digits are a byte"), 3)
            }
            (b'+', ..) => (b' ', 1),
            _ => (*byte, 1),
        };
        out.push(decoded);
        rest = &rest[used..];
    }
    Cow::Owned(out)
}

/// Whether a client wants the bare token: `text/plain` before anything else it takes.
pub(super) fn wants_text(accept: Option<&str>) -> bool {
    let first = accept.unwrap_or("").split(',').next().unwrap_or("");
    first.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("text/plain")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(content_type: &str, body: &str, expected: Result<&[(&str, &str)], Refusal>) {
        let read = Form::read(Some(content_type), body.as_bytes()).map(|form| form.0);
        let expected = expected.map(|members| {
            members.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
        });
        assert_eq!(read, expected, "{body}");
    }

    #[test]
    fn a_form_and_json_say_the_same() {
        check(
            "application/json; charset=utf-8",
            r#"{"a":"b c","d":true,"e":1}"#,
            Ok(&[("a", "b c"), ("d", "true")]),
        );
        check("Application/X-WWW-Form-URLEncoded", "a=b+c&d=true", Ok(&[("a", "b c"), ("d", "true")]));
        check(
            "application/x-www-form-urlencoded",
            "a=%C3%BC%26&b&=c",
            Ok(&[("a", "ü&"), ("b", ""), ("", "c")]),
        );
        check("text/plain", "", Ok(&[]));
    }

    #[test]
    fn what_is_neither_is_refused() {
        check("text/plain", "a=b", Err(Refusal::UnknownType));
        check("application/json", "[]", Err(Refusal::Malformed("The body is not a JSON object.")));
        check("application/json", "{", Err(Refusal::Malformed("The body is not a JSON object.")));
        check(
            "application/x-www-form-urlencoded",
            "a=%ff",
            Err(Refusal::Malformed("The form is not UTF-8.")),
        );
    }

    #[test]
    fn the_bare_token_is_for_who_asks_for_text() {
        for (accept, expected) in [
            ("text/plain", true),
            ("text/plain;q=0.9, application/json", true),
            ("application/json, text/plain", false),
            ("*/*", false),
            ("", false),
        ] {
            assert_eq!(wants_text(Some(accept)), expected, "{accept}");
        }
    }
}
