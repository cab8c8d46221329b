//! From a reply message to a response.

use super::Fault;
use crate::http::{Known, classify, headers, reply::Made};

/// Fields that are ours to write.
const OURS: [&str; 4] = ["content-length", "content-type", "date", "x-request-id"];

/// What a reply message says besides its body.
#[derive(Debug, Default)]
pub struct Properties {
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub headers: Vec<(String, Value)>,
}

/// A header's value, as far as HTTP can carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(Vec<u8>),
    Number(i64),
    /// A table, an array, nothing.
    Other,
}

/// Makes a response of a reply. Headers that HTTP cannot carry are left out: tables, control bytes, names that are no token, and
/// those that belong to a connection or to its framing.
pub fn reply(properties: Properties, body: Vec<u8>, bytes_max: u64) -> Result<Made, Fault> {
    if body.len() as u64 > bytes_max {
        return Err(Fault::BadReply);
    }
    let status = properties.headers.iter().find(|(name, _)| name == "status").map(|(_, value)| status(value));
    let failed = properties.headers.iter().any(|(name, value)| name == "error" && *value != Value::Other);
    let status = match (status, failed) {
        (Some(None), _) => return Err(Fault::BadReply),
        (Some(Some(status)), true) if status >= 400 => status,
        (_, true) => return Err(Fault::Failed),
        (Some(Some(status)), false) => status,
        (None, false) => 200,
    };
    let mut fields = Vec::new();
    for (name, value) in properties.headers {
        let value = match value {
            Value::Text(text) => text,
            Value::Number(number) => number.to_string().into_bytes(),
            Value::Other => continue,
        };
        let known = classify(name.as_bytes());
        let fits = headers::is_token(name.as_bytes())
            && headers::is_field_value(&value)
            && headers::trim_ows(&value).len() == value.len();
        let ours = known.is_hop()
            || known == Known::Trailer
            || OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours));
        if fits && !ours && !["status", "error"].contains(&&*name) {
            fields.push((name, value));
        }
    }
    if let Some(coding) = properties.content_encoding.filter(|text| headers::is_token(text.as_bytes())) {
        fields.push(("Content-Encoding".to_owned(), coding.into_bytes()));
    }
    let content_type = properties.content_type.filter(|text| headers::is_field_value(text.as_bytes()));
    let default = if body.is_empty() { "" } else { "application/octet-stream" };
    Ok(Made { status, content_type: content_type.unwrap_or_else(|| default.to_owned()), fields, body })
}

fn status(value: &Value) -> Option<u16> {
    let number = match value {
        Value::Number(number) => u16::try_from(*number).ok(),
        Value::Text(text) => str::from_utf8(text).ok().and_then(|text| text.parse().ok()),
        Value::Other => None,
    };
    number.filter(|status| (200..=599).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Value {
        Value::Text(value.as_bytes().to_vec())
    }

    type Expected<'a> = Result<(u16, &'a [(&'a str, &'a str)]), Fault>;

    fn check(headers: &[(&str, Value)], expected: Expected<'_>) {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let found = reply(Properties { headers, ..Properties::default() }, b"{}".to_vec(), 100);
        let found = found.map(|reply| {
            let field = |(name, value): (String, Vec<u8>)| (name, String::from_utf8(value).expect("text"));
            (reply.status, reply.fields.into_iter().map(field).collect::<Vec<_>>())
        });
        let expected = expected.map(|(status, fields)| {
            let field = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            (status, fields.iter().map(field).collect::<Vec<_>>())
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_status_is_a_header() {
        check(&[], Ok((200, &[])));
        check(&[("status", Value::Number(201))], Ok((201, &[])));
        check(&[("status", text("404"))], Ok((404, &[])));
        for bad in [Value::Number(99), Value::Number(101), Value::Number(1000), text("ok"), Value::Other] {
            check(&[("status", bad)], Err(Fault::BadReply));
        }
    }

    #[test]
    fn an_error_is_a_failure() {
        check(&[("error", text("no stock"))], Err(Fault::Failed));
        check(&[("error", text("no stock")), ("status", Value::Number(200))], Err(Fault::Failed));
        check(&[("error", text("no stock")), ("status", Value::Number(409))], Ok((409, &[])));
    }

    #[test]
    fn headers_that_http_can_carry_come_back() {
        check(
            &[
                ("X-Count", Value::Number(-3)),
                ("x-name", text("ä")),
                ("x-table", Value::Other),
                ("x bad", text("a")),
                ("x-split", text("a\r\nSet-Cookie: b=c")),
                ("Transfer-Encoding", text("chunked")),
                ("content-length", text("5")),
                ("Connection", text("close")),
            ],
            Ok((200, &[("X-Count", "-3"), ("x-name", "ä")])),
        );
    }

    #[test]
    fn a_reply_has_a_bound_and_a_type() {
        let made = |content_type: Option<&str>, body: &[u8]| {
            let content_type = content_type.map(str::to_owned);
            reply(Properties { content_type, ..Properties::default() }, body.to_vec(), 4)
        };
        assert_eq!(made(None, b"12345"), Err(Fault::BadReply));
        assert_eq!(
            made(None, b"1234").map(|reply| reply.content_type),
            Ok("application/octet-stream".to_owned())
        );
        assert_eq!(made(None, b"").map(|reply| reply.content_type), Ok(String::new()));
        assert_eq!(
            made(Some("text/plain"), b"a").map(|reply| reply.content_type),
            Ok("text/plain".to_owned())
        );
        assert_eq!(made(Some("a\nb"), b"").map(|reply| reply.content_type), Ok(String::new()));
    }
}
