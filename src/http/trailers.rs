//! Trailer sections (RFC 9110 §6.5).

use super::{
    fields::{Gathered, gather},
    head::{BadHead, Field, Rules},
    known::Known,
};

use super::chunked::TRAILERS_MAX;

/// Names that start like this are about content, conditions or the route of the message: not for trailers.
const FORBIDDEN_PREFIXES: [&[u8]; 4] = [b"content-", b"if-", b"x-forwarded-", b"proxy-"];

/// Reads a trailer section as `Decoder::decode` returned it into `fields`, which it clears.
///
/// A field that is not allowed there (RFC 9110 §6.5.1: framing, routing, authentication, request modifiers, content)
/// is marked `hop`: it must not be forwarded, nor merged into the head. All fields we know are of that kind.
pub fn parse_trailers(section: &[u8], rules: &Rules, fields: &mut Vec<Field>) -> Result<(), BadHead> {
    fields.clear();
    let mut room = [httparse::EMPTY_HEADER; TRAILERS_MAX];
    let room_len = TRAILERS_MAX.min(rules.headers_max);
    let lines = match httparse::parse_headers(section, &mut room[..room_len]) {
        Ok(httparse::Status::Complete((len, lines))) if len == section.len() => lines,
        Err(httparse::Error::TooManyHeaders) => return Err(BadHead::TooManyHeaders),
        Err(httparse::Error::HeaderValue) => return Err(BadHead::BadFieldValue),
        Err(httparse::Error::HeaderName) => return Err(BadHead::BadFieldName),
        Ok(_) | Err(_) => return Err(BadHead::Malformed),
    };
    if !section.ends_with(b"\r\n") {
        return Err(BadHead::BareLf);
    }
    gather(section, lines, &Rules { lenient: false, ..*rules }, fields, &mut Gathered::default())?;
    for field in fields {
        field.hop = field.known != Known::Other || is_forbidden(field.name.of(section));
    }
    Ok(())
}

pub(super) fn is_forbidden(name: &[u8]) -> bool {
    FORBIDDEN_PREFIXES
        .iter()
        .any(|prefix| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { head_bytes_max: 1000, line_bytes_max: 100, headers_max: 3, lenient: true };

    /// `expected` are the names that may be forwarded.
    fn check(section: &str, expected: Result<&[&str], BadHead>) {
        let mut fields = Vec::new();
        let found = parse_trailers(section.as_bytes(), &RULES, &mut fields).map(|()| {
            let allowed = fields.iter().filter(|field| !field.hop);
            allowed
                .map(|field| str::from_utf8(field.name.of(section.as_bytes())).unwrap())
                .collect::<Vec<_>>()
        });
        assert_eq!(found.as_deref().map_err(|e| *e), expected, "{section:?}");
    }

    #[test]
    fn unknown_fields_are_trailers() {
        check("\r\n", Ok(&[]));
        check("grpc-status: 0\r\nServer-Timing: a\r\n\r\n", Ok(&["grpc-status", "Server-Timing"]));
    }

    #[test]
    fn framing_routing_and_authentication_are_not_for_trailers() {
        for name in [
            "Transfer-Encoding",
            "content-length",
            "Host",
            "Connection",
            "Authorization",
            "Set-Cookie",
            "Content-Type",
            "Content-MD5",
            "Trailer",
            "X-Forwarded-For",
            "X-Forwarded-User",
            "Proxy-X",
            "If-Foo",
            "TE",
            "Cache-Control",
        ] {
            check(&format!("{name}: 1\r\na: b\r\n\r\n"), Ok(&["a"]));
        }
    }

    #[test]
    fn a_malformed_section_is_refused_also_when_heads_are_lenient() {
        check("a: b\n\r\n", Err(BadHead::BareLf));
        check("a: b\r\n\n", Err(BadHead::BareLf));
        check("a b: c\r\n\r\n", Err(BadHead::BadFieldName));
        check("a : c\r\n\r\n", Err(BadHead::BadFieldName));
        check(" a: c\r\n\r\n", Err(BadHead::BadFieldName));
        check("a: \0\r\n\r\n", Err(BadHead::BadFieldValue));
        check("a: b\r\n\r\nc: d\r\n\r\n", Err(BadHead::Malformed));
        check("a: 1\r\na: 2\r\na: 3\r\na: 4\r\n\r\n", Err(BadHead::TooManyHeaders));
        check(&format!("a: {}\r\n\r\n", "x".repeat(100)), Err(BadHead::LineTooLong));
    }
}
