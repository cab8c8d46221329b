//! Where a body ends. The only place that decides it.

use std::fmt;

use super::head::{Method, Version};

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// Bytes; 0 = no body.
    Exact(u64),
    Chunked,
    /// The end of the connection ends it (responses only).
    UntilClose,
}

/// All the values of one framing field. More than one is an error whatever they are, so none is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Values<'b> {
    #[default]
    None,
    One(&'b [u8]),
    Several,
}

impl<'b> Values<'b> {
    pub fn add(&mut self, value: &'b [u8]) {
        *self = match self {
            Self::None => Self::One(value),
            Self::One(_) | Self::Several => Self::Several,
        };
    }
}

/// Why nobody can say for sure where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadFraming {
    /// `Content-Length` beside `Transfer-Encoding`.
    LengthAndCoding,
    /// Not digits only, or past `u64::MAX`. A list (`5, 5`) is not a length.
    BadLength,
    /// `Content-Length` more than once, equal or not.
    SeveralLengths,
    CodingInHttp10,
    /// Anything but one `chunked`.
    UnknownCoding,
    /// A 1xx response that announces a body.
    BodyInInterim,
}

impl fmt::Display for BadFraming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LengthAndCoding => "Content-Length and Transfer-Encoding are both there",
            Self::BadLength => "Content-Length is not a number",
            Self::SeveralLengths => "there is more than one Content-Length",
            Self::CodingInHttp10 => "HTTP/1.0 has no Transfer-Encoding",
            Self::UnknownCoding => "Transfer-Encoding is not just `chunked`",
            Self::BodyInInterim => "an informational response announces a body",
        })
    }
}

/// Finds where a request body ends (RFC 9112 §6.3).
///
/// The RFC lets a server guess in some of these cases. A gateway that guesses differently from its upstream lets
/// requests be smuggled, so here every doubt is an error.
pub fn request_body(
    version: Version,
    codings: Values<'_>,
    lengths: Values<'_>,
) -> Result<BodyLength, BadFraming> {
    announced(version, codings, lengths).map(|length| length.unwrap_or(BodyLength::Exact(0))) // rule 7
}

/// Finds where a response body ends (RFC 9112 §6.3), and whether what was announced agrees with it.
///
/// A 204 that announces a body has none (rule 1), yet its sender may send one: after [`Trust::Doubtful`] the
/// connection must not carry another response. Every other doubt is an error, as for requests.
pub fn response_body(
    request_method: Method,
    status: u16,
    version: Version,
    codings: Values<'_>,
    lengths: Values<'_>,
) -> Result<(BodyLength, Trust), BadFraming> {
    let announced = announced(version, codings, lengths)?;
    let announces_bytes = !matches!(announced, None | Some(BodyLength::Exact(0)));

    match (request_method, status) {
        (_, 100..=199) if announces_bytes => Err(BadFraming::BodyInInterim),
        (_, 100..=199) => Ok((BodyLength::Exact(0), Trust::Sound)), // rule 1
        (_, 204) if announces_bytes => Ok((BodyLength::Exact(0), Trust::Doubtful)),
        (Method::Head, _) | (_, 204 | 304) => Ok((BodyLength::Exact(0), Trust::Sound)), // rule 1
        (Method::Connect, 200..=299) => Ok((BodyLength::Exact(0), Trust::Sound)), // rule 2: a tunnel follows
        _ => Ok((announced.unwrap_or(BodyLength::UntilClose), Trust::Sound)),     // rule 8
    }
}

/// Whether the connection's next message starts where this one ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    Sound,
    Doubtful,
}

fn announced(
    version: Version,
    codings: Values<'_>,
    lengths: Values<'_>,
) -> Result<Option<BodyLength>, BadFraming> {
    match (codings, lengths) {
        (Values::None, Values::None) => Ok(None),
        (Values::None, Values::One(length)) => parse_length(length).map(|n| Some(BodyLength::Exact(n))), // rule 6
        (Values::None, Values::Several) => Err(BadFraming::SeveralLengths), // rule 5
        (_, Values::One(_) | Values::Several) => Err(BadFraming::LengthAndCoding), // rule 3
        (_, Values::None) if version == Version::Http10 => Err(BadFraming::CodingInHttp10), // §6.1
        (Values::One(coding), Values::None) if coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Some(BodyLength::Chunked)) // rule 4
        }
        (Values::One(_) | Values::Several, Values::None) => Err(BadFraming::UnknownCoding),
    }
}

/// `1*DIGIT` (RFC 9110 §8.6).
fn parse_length(text: &[u8]) -> Result<u64, BadFraming> {
    if text.is_empty() {
        return Err(BadFraming::BadLength);
    }
    text.iter()
        .try_fold(0u64, |length, digit| {
            let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
            length.checked_mul(10)?.checked_add(digit)
        })
        .ok_or(BadFraming::BadLength)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `fields` as lines of `te: value` and `cl: value`.
    fn values(fields: &str) -> (Values<'_>, Values<'_>) {
        let (mut codings, mut lengths) = (Values::None, Values::None);
        for line in fields.lines() {
            match line.split_once(": ").unwrap() {
                ("te", value) => codings.add(value.as_bytes()),
                (_, value) => lengths.add(value.as_bytes()),
            }
        }
        (codings, lengths)
    }

    fn check(fields: &str, expected: Result<BodyLength, BadFraming>) {
        let (codings, lengths) = values(fields);
        assert_eq!(request_body(Version::Http11, codings, lengths), expected, "request: {fields:?}");

        let response = response_body(Method::Get, 200, Version::Http11, codings, lengths);
        let expected = match (fields, expected) {
            ("", _) => Ok(BodyLength::UntilClose),
            (_, expected) => expected,
        };
        assert_eq!(response, expected.map(|length| (length, Trust::Sound)), "response: {fields:?}");
    }

    fn check_response(
        method: Method,
        status: u16,
        fields: &str,
        expected: Result<(BodyLength, Trust), BadFraming>,
    ) {
        let (codings, lengths) = values(fields);
        let found = response_body(method, status, Version::Http11, codings, lengths);
        assert_eq!(found, expected, "{method:?} {status} {fields:?}");
    }

    #[test]
    fn without_fields_a_request_has_no_body_and_a_response_lasts_until_close() {
        check("", Ok(BodyLength::Exact(0)));
    }

    #[test]
    fn one_length_or_one_chunked_frames_a_body() {
        check("cl: 0", Ok(BodyLength::Exact(0)));
        check("cl: 42", Ok(BodyLength::Exact(42)));
        check("cl: 007", Ok(BodyLength::Exact(7)));
        check("cl: 18446744073709551615", Ok(BodyLength::Exact(u64::MAX)));
        check("te: chunked", Ok(BodyLength::Chunked));
        check("te: CHUNKED", Ok(BodyLength::Chunked));
    }

    #[test]
    fn length_and_coding_together_are_refused() {
        check("cl: 4\nte: chunked", Err(BadFraming::LengthAndCoding));
        check("te: identity\ncl: 4", Err(BadFraming::LengthAndCoding));
        check("te: chunked\nte: chunked\ncl: 4\ncl: 4", Err(BadFraming::LengthAndCoding));
    }

    #[test]
    fn only_digits_are_a_length() {
        for text in
            ["+4", "-4", "4,4", "4, 4", "0x4", "4 4", "4.0", "4;", "", "18446744073709551616", "\u{664}"]
        {
            check(&format!("cl: {text}"), Err(BadFraming::BadLength));
        }
    }

    #[test]
    fn two_lengths_are_refused_even_if_equal() {
        check("cl: 4\ncl: 4", Err(BadFraming::SeveralLengths));
        check("cl: 4\ncl: 5", Err(BadFraming::SeveralLengths));
    }

    #[test]
    fn any_coding_but_one_chunked_is_refused() {
        for text in [
            "te: gzip",
            "te: identity",
            "te: gzip, chunked",
            "te: chunked, gzip",
            "te: chunked, chunked",
            "te: chunked;a=b",
            "te: \"chunked\"",
            "te: chunked,",
            "te: ,chunked",
            "te: xchunked",
            "te: chunke",
            "te: ",
            "te: identity\nte: chunked",
            "te: chunked\nte: gzip",
            "te: chunked\nte: chunked",
        ] {
            check(text, Err(BadFraming::UnknownCoding));
        }
    }

    #[test]
    fn a_coding_in_http_1_0_is_refused() {
        let (codings, lengths) = values("te: chunked");
        assert_eq!(request_body(Version::Http10, codings, lengths), Err(BadFraming::CodingInHttp10));
        assert_eq!(
            response_body(Method::Get, 200, Version::Http10, codings, lengths),
            Err(BadFraming::CodingInHttp10)
        );
    }

    #[test]
    fn responses_without_a_body_have_none_whatever_they_announce() {
        let none = Ok((BodyLength::Exact(0), Trust::Sound));
        for (method, status, fields) in [
            (Method::Head, 200, "cl: 42"),
            (Method::Head, 200, "te: chunked"),
            (Method::Head, 200, ""),
            (Method::Get, 304, "cl: 42"),
            (Method::Get, 304, "te: chunked"),
            (Method::Get, 204, ""),
            (Method::Get, 204, "cl: 0"),
            (Method::Get, 100, ""),
            (Method::Get, 101, ""),
            (Method::Get, 103, "cl: 0"),
            (Method::Connect, 200, "cl: 42"),
        ] {
            check_response(method, status, fields, none);
        }
        check_response(Method::Connect, 407, "cl: 42", Ok((BodyLength::Exact(42), Trust::Sound)));
    }

    #[test]
    fn a_204_that_announces_a_body_spoils_its_connection() {
        let doubtful = Ok((BodyLength::Exact(0), Trust::Doubtful));
        check_response(Method::Get, 204, "cl: 5", doubtful);
        check_response(Method::Head, 204, "te: chunked", doubtful);
    }

    #[test]
    fn an_interim_response_that_announces_a_body_is_refused() {
        check_response(Method::Get, 100, "cl: 5", Err(BadFraming::BodyInInterim));
        check_response(Method::Get, 101, "te: chunked", Err(BadFraming::BodyInInterim));
    }

    #[test]
    fn doubt_is_refused_also_where_there_is_no_body() {
        check_response(Method::Head, 200, "cl: 4\nte: chunked", Err(BadFraming::LengthAndCoding));
        check_response(Method::Get, 304, "cl: 4\ncl: 4", Err(BadFraming::SeveralLengths));
    }
}
