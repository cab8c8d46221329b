//! Formats of the access log: text with nginx's `$variables` (`log_format`, ngx_http_log_module).

use std::fmt;

/// The variables a format may name. nginx's come first, then ours.
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
    "host",
    "http_host",
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

/// A piece of a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    Text(&'a str),
    /// One of [`VARIABLES`].
    Variable(&'static str),
}

/// Why a format is refused, and where: bytes of the format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadFormat<'a> {
    /// A variable that does not exist; `at` is that of its `$`.
    Unknown { name: &'a str, at: usize },
    /// A `$` without a name, or `${` without `}`. nginx has no way to write a plain `$` either.
    NoName { at: usize },
}

/// The pieces of `$name` and `${name}` text, in order.
pub fn parse(format: &str) -> Result<Vec<Piece<'_>>, BadFormat<'_>> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(dollar) = format[at..].find('$').map(|found| at + found) {
        if dollar > at {
            pieces.push(Piece::Text(&format[at..dollar]));
        }
        let rest = &format[dollar + 1..];
        let (name, length) = match rest.strip_prefix('{') {
            Some(braced) => {
                let end = braced.find('}').ok_or(BadFormat::NoName { at: dollar })?;
                (&braced[..end], end + 2)
            }
            None => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                (&rest[..end], end)
            }
        };
        if name.is_empty() {
            return Err(BadFormat::NoName { at: dollar });
        }
        let known = VARIABLES.into_iter().find(|&known| known == name);
        pieces.push(Piece::Variable(known.ok_or(BadFormat::Unknown { name, at: dollar })?));
        at = dollar + 1 + length;
    }
    if at < format.len() {
        pieces.push(Piece::Text(&format[at..]));
    }
    Ok(pieces)
}

impl fmt::Display for BadFormat<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name, .. } => write!(f, "unknown variable `${name}`"),
            Self::NoName { .. } => f.write_str("`$` without the name of a variable"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Piece::*, *};

    fn check(format: &str, expected: Result<&[Piece<'_>], BadFormat<'_>>) {
        assert_eq!(parse(format).as_deref(), expected.as_ref().copied(), "{format}");
    }

    #[test]
    fn text_and_variables_alternate() {
        check("", Ok(&[]));
        check("plain", Ok(&[Text("plain")]));
        check("$status", Ok(&[Variable("status")]));
        check(
            "\"$request\" $status!",
            Ok(&[Text("\""), Variable("request"), Text("\" "), Variable("status"), Text("!")]),
        );
        check("$msec$why", Ok(&[Variable("msec"), Variable("why")]));
    }

    #[test]
    fn braces_end_a_name() {
        check("${request_time}s", Ok(&[Variable("request_time"), Text("s")]));
    }

    #[test]
    fn the_longest_name_counts() {
        check("$request_timer", Err(BadFormat::Unknown { name: "request_timer", at: 0 }));
        check("é $nope", Err(BadFormat::Unknown { name: "nope", at: 3 }));
    }

    #[test]
    fn a_dollar_needs_a_name() {
        for format in ["a $", "a $ b", "a ${}", "a ${status"] {
            check(format, Err(BadFormat::NoName { at: 2 }));
        }
    }
}
