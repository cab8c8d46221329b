//! Response heads (RFC 9112 §4), as services send them.

use std::mem::MaybeUninit;

use super::{
    fields::{Gathered, gather, read_connection},
    framing::{self, BodyLength, Trust, Values},
    head::{BadHead, Field, HEADERS_MAX, Method, ResponseHead, Rules, Span, Version},
    scan,
};

const HEADERS_USUAL: usize = 64;

/// Bytes of `HTTP/1.1 200`.
const STATUS_END: usize = 12;

/// Parses the response head at the start of `bytes`; `Ok(None)` asks for more of them. `fields` and `scanned` are as
/// for `parse_request`.
///
/// What RFC 9112 §5 tells a proxy to repair is repaired: a folded line becomes one line (CR and LF are overwritten with
/// SP in `bytes`), and space before a colon is left out of the name. All other doubt is an error.
pub fn parse_response(
    bytes: &mut [u8],
    scanned: &mut usize,
    request_method: Method,
    rules: &Rules,
    fields: &mut Vec<Field>,
) -> Result<Option<ResponseHead>, BadHead> {
    fields.clear();
    if matches!(bytes.first(), None | Some(b'\r' | b'\n')) {
        return if bytes.is_empty() { Ok(None) } else { Err(BadHead::Malformed) };
    }
    let window_len = scan::window_len(bytes.len(), 0, rules);
    let window = &mut bytes[..window_len];

    let before = *scanned;
    if before > 0 && scan::find_end(window, 0, scanned, rules)?.is_none() {
        check_room(window, before, rules)?;
        return Ok(None);
    }
    let config = httparse::ParserConfig::default();
    let head = match parse(window, &config, request_method, rules, fields) {
        // Perhaps a folded line or a space before a colon. They can be repaired once the head is there.
        Err(BadHead::BadFieldName) => {
            *scanned = 0;
            match scan::find_end(window, 0, scanned, rules)? {
                Some(end) => parse_repaired(&mut window[..end], request_method, rules, fields)?,
                None => None,
            }
        }
        other => other?,
    };
    if head.is_some() {
        *scanned = 0;
    } else {
        scan::find_end(window, 0, scanned, rules)?;
        check_room(window, before, rules)?;
    }
    Ok(head)
}

fn check_room(window: &[u8], before: usize, rules: &Rules) -> Result<(), BadHead> {
    scan::check_room(window, 0, before, rules).map_err(|why| {
        // A response has no target; its first line is a line.
        if why == BadHead::TargetTooLong { BadHead::LineTooLong } else { why }
    })
}

#[cold]
fn parse_repaired(
    head: &mut [u8],
    request_method: Method,
    rules: &Rules,
    fields: &mut Vec<Field>,
) -> Result<Option<ResponseHead>, BadHead> {
    unfold(head);
    let mut config = httparse::ParserConfig::default();
    config.allow_spaces_after_header_name_in_responses(true);
    fields.clear();
    parse(head, &config, request_method, rules, fields)
}

/// Overwrites the line end before each continuation line with spaces (RFC 9112 §5.2). The first line of a head cannot
/// be continued.
fn unfold(head: &mut [u8]) {
    let mut first = true;
    for at in 1..head.len().saturating_sub(1) {
        if head[at] != b'\n' {
            continue;
        }
        if matches!(head[at + 1], b' ' | b'\t') && !first {
            head[at] = b' ';
            if head[at - 1] == b'\r' {
                head[at - 1] = b' ';
            }
        }
        first = false;
    }
}

fn parse(
    window: &[u8],
    config: &httparse::ParserConfig,
    request_method: Method,
    rules: &Rules,
    fields: &mut Vec<Field>,
) -> Result<Option<ResponseHead>, BadHead> {
    match parse_up_to::<HEADERS_USUAL>(window, config, request_method, rules, fields) {
        Err(BadHead::TooManyHeaders) if rules.headers_max > HEADERS_USUAL => {
            parse_long(window, config, request_method, rules, fields)
        }
        other => other,
    }
}

#[cold]
#[inline(never)]
fn parse_long(
    window: &[u8],
    config: &httparse::ParserConfig,
    request_method: Method,
    rules: &Rules,
    fields: &mut Vec<Field>,
) -> Result<Option<ResponseHead>, BadHead> {
    parse_up_to::<HEADERS_MAX>(window, config, request_method, rules, fields)
}

#[inline]
fn parse_up_to<const N: usize>(
    window: &[u8],
    config: &httparse::ParserConfig,
    request_method: Method,
    rules: &Rules,
    fields: &mut Vec<Field>,
) -> Result<Option<ResponseHead>, BadHead> {
    let mut room = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; N];
    let room = &mut room[..N.min(rules.headers_max)];
    let mut parsed = httparse::Response::new(&mut []);
    let len = match config.parse_response_with_uninit_headers(&mut parsed, window, room) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(explain(error, window)),
    };
    let (Some(minor), Some(status @ 100..)) = (parsed.version, parsed.code) else {
        return Err(BadHead::BadStatus);
    };
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    let reason = find_reason(window, rules)?;
    if !rules.lenient && !window[..len].ends_with(b"\r\n") {
        return Err(BadHead::BareLf);
    }

    let mut gathered = Gathered::default();
    gather(window, parsed.headers, rules, fields, &mut gathered)?;
    let (body, trust) =
        framing::response_body(request_method, status, version, gathered.codings, gathered.lengths)?;
    let said = read_connection(&gathered.connections, window, fields)?;

    let http11 = version == Version::Http11;
    Ok(Some(ResponseHead {
        status,
        reason,
        version,
        body,
        keep_alive: !said.close
            && (http11 || said.keep_alive)
            && trust == Trust::Sound
            && body != BodyLength::UntilClose,
        upgrade: http11 && said.upgrade && gathered.upgrades != Values::None,
        len,
    }))
}

/// What follows the status on its line. `httparse` keeps none that has bytes past ASCII.
fn find_reason(window: &[u8], rules: &Rules) -> Result<Span, BadHead> {
    let rest = &window[STATUS_END..];
    let line = &rest[..memchr::memchr(b'\n', rest).unwrap_or(rest.len())];
    let line = match line.strip_suffix(b"\r") {
        Some(line) => line,
        None if rules.lenient => line,
        None => return Err(BadHead::BareLf),
    };
    if line.len() > rules.line_bytes_max {
        return Err(BadHead::LineTooLong);
    }
    Ok(match line {
        [] => Span::new(STATUS_END, 0),
        [_, reason @ ..] => Span::new(STATUS_END + 1, reason.len()),
    })
}

#[cold]
fn explain(error: httparse::Error, head: &[u8]) -> BadHead {
    match error {
        httparse::Error::TooManyHeaders => BadHead::TooManyHeaders,
        httparse::Error::HeaderName => BadHead::BadFieldName,
        httparse::Error::Version if head.starts_with(b"HTTP/") => BadHead::UnsupportedVersion,
        httparse::Error::Version => BadHead::Malformed,
        _ if scan::has_bare_cr(head) => BadHead::BareCr,
        httparse::Error::HeaderValue => BadHead::BadFieldValue,
        httparse::Error::Status => BadHead::BadStatus,
        httparse::Error::NewLine | httparse::Error::Token => BadHead::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{BadFraming, invariants};
    use proptest::prelude::*;

    const RULES: Rules =
        Rules { head_bytes_max: 4096, line_bytes_max: 1024, headers_max: 70, lenient: false };

    struct Parsed {
        head: ResponseHead,
        fields: Vec<Field>,
        bytes: Vec<u8>,
    }

    impl Parsed {
        fn text(&self, span: Span) -> String {
            String::from_utf8_lossy(span.of(&self.bytes)).into_owned()
        }

        fn fields(&self) -> Vec<(String, String)> {
            self.fields.iter().map(|field| (self.text(field.name), self.text(field.value))).collect()
        }
    }

    fn parse_with(bytes: &[u8], method: Method, rules: &Rules) -> Result<Parsed, BadHead> {
        invariants::response_head(bytes);
        let (mut fields, mut bytes) = (Vec::new(), bytes.to_vec());
        let head =
            parse_response(&mut bytes, &mut 0, method, rules, &mut fields)?.expect("the head is whole");
        Ok(Parsed { head, fields, bytes })
    }

    fn response(text: &str) -> Parsed {
        parse_with(text.as_bytes(), Method::Get, &RULES).unwrap_or_else(|why| panic!("{text:?}: {why}"))
    }

    fn check_refused(text: &str, expected: BadHead) {
        let found = parse_with(text.as_bytes(), Method::Get, &RULES).map(|parsed| parsed.head);
        assert_eq!(found, Err(expected), "{text:?}");
    }

    #[test]
    fn a_head_says_what_was_sent() {
        let text = "HTTP/1.1 404 Not Found\r\nServer: x\r\nContent-Length: 3\r\n\r\nabc";
        let parsed = response(text);
        let head = parsed.head;
        assert_eq!((head.status, parsed.text(head.reason).as_str()), (404, "Not Found"));
        assert_eq!((head.version, head.keep_alive, head.upgrade), (Version::Http11, true, false));
        assert_eq!((head.body, head.len), (BodyLength::Exact(3), text.len() - 3));
        assert_eq!(
            parsed.fields(),
            [("Server", "x"), ("Content-Length", "3")].map(|(n, v)| (n.into(), v.into()))
        );
    }

    // RFC 9112 §4

    #[test]
    fn a_reason_may_be_missing_empty_or_not_ascii() {
        for (line, reason) in [
            ("HTTP/1.1 200", ""),
            ("HTTP/1.1 200 ", ""),
            ("HTTP/1.1 200 Völlig ok", "Völlig ok"),
            ("HTTP/1.1 999 a\tb", "a\tb"),
        ] {
            let parsed = response(&format!("{line}\r\nContent-Length: 0\r\n\r\n"));
            assert_eq!(parsed.text(parsed.head.reason), reason, "{line}");
        }
    }

    #[test]
    fn what_is_not_a_status_line_is_refused() {
        for line in [
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1 099 x",
            "HTTP/1.1 2x0",
            "HTTP/1.1  200",
            "HTTP/1.1 -12",
            "HTTP/1.1 200\tOK",
        ] {
            check_refused(&format!("{line}\r\n\r\n"), BadHead::BadStatus);
        }
        for line in ["HTTP/2.0 200 OK", "HTTP/1.2 200 OK", "HTTP/0.9 200 OK"] {
            check_refused(&format!("{line}\r\n\r\n"), BadHead::UnsupportedVersion);
        }
        for line in ["ICY 200 OK", "<html><body>", "http/1.1 200 OK", "", "\0\0\0\0\0\0\0\0\0"] {
            check_refused(&format!("{line}\r\n\r\n"), BadHead::Malformed);
        }
    }

    // RFC 9112 §5.1, §5.2

    #[test]
    fn space_before_a_colon_is_left_out() {
        let parsed = response("HTTP/1.1 200 OK\r\nContent-Length : 3\r\nA \t: b\r\n\r\nabc");
        assert_eq!(parsed.head.body, BodyLength::Exact(3));
        assert_eq!(parsed.fields(), [("Content-Length", "3"), ("A", "b")].map(|(n, v)| (n.into(), v.into())));
    }

    #[test]
    fn a_folded_line_becomes_one() {
        let parsed = response(
            "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\td\r\nE:\r\n f\r\nG: h\r\n \r\nContent-Length: 0\r\n\r\n i\r\n j",
        );
        let fields = parsed.fields();
        assert_eq!(fields[0], ("A".into(), "b   c  \td".into()));
        assert_eq!(fields[1], ("E".into(), "f".into()));
        assert_eq!(fields[2], ("G".into(), "h".into()));
        assert!(parsed.bytes.ends_with(b"\r\n\r\n i\r\n j"), "the body is left alone");
    }

    #[test]
    fn folding_hides_no_framing() {
        check_refused(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n 6\r\n\r\n",
            BadHead::BadFraming(BadFraming::BadLength),
        );
        check_refused(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked,\r\n gzip\r\n\r\n",
            BadHead::BadFraming(BadFraming::UnknownCoding),
        );
        let folded = response("HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n chunked\r\n\r\n");
        assert_eq!(folded.head.body, BodyLength::Chunked);
        let hidden = response("HTTP/1.1 200 OK\r\nA: b\r\n Content-Length: 5\r\nContent-Length: 6\r\n\r\n");
        assert_eq!(hidden.head.body, BodyLength::Exact(6));
        let close = response("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: a,\r\n close\r\n\r\n");
        assert!(!close.head.keep_alive);
    }

    #[test]
    fn the_first_line_cannot_be_folded() {
        check_refused("HTTP/1.1 200 OK\r\n A: b\r\n\r\n", BadHead::BadFieldName);
        check_refused("HTTP/1.1 200 OK\r\n \r\n\r\n", BadHead::BadFieldName);
    }

    #[test]
    fn doubt_that_the_rfc_does_not_repair_is_refused() {
        check_refused("HTTP/1.1 200 OK\nA: b\r\n\r\n", BadHead::BareLf);
        check_refused("HTTP/1.1 200 OK\r\nA: b\n\r\n", BadHead::BareLf);
        check_refused("HTTP/1.1 200 OK\r\nA: b\n c\r\n\r\n", BadHead::BareLf);
        check_refused("HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", BadHead::BareCr);
        check_refused("HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n", BadHead::BadFieldValue);
        check_refused("HTTP/1.1 200 OK\r\nA b: c\r\n\r\n", BadHead::BadFieldName);
        check_refused("HTTP/1.1 200 OK\r\nA\r\n\r\n", BadHead::BadFieldName);
        check_refused("HTTP/1.1 200 OK\r\n: c\r\n\r\n", BadHead::BadFieldName);
        check_refused("\r\nHTTP/1.1 200 OK\r\n\r\n", BadHead::Malformed);
        let lenient = Rules { lenient: true, ..RULES };
        assert!(parse_with(b"HTTP/1.1 200 OK\nA: b\n c\n\n", Method::Get, &lenient).is_ok());
    }

    // RFC 9112 §6, §9.3

    #[test]
    fn doubtful_framing_is_refused() {
        for (lines, why) in [
            ("Content-Length: 4\r\nTransfer-Encoding: chunked", BadFraming::LengthAndCoding),
            ("Content-Length: 4\r\nContent-Length: 4", BadFraming::SeveralLengths),
            ("Content-Length: 4, 4", BadFraming::BadLength),
            ("Transfer-Encoding: gzip, chunked", BadFraming::UnknownCoding),
        ] {
            check_refused(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n"), BadHead::BadFraming(why));
        }
        check_refused(
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            BadHead::BadFraming(BadFraming::CodingInHttp10),
        );
    }

    fn check_keep_alive(text: &str, expected: bool) {
        assert_eq!(response(text).head.keep_alive, expected, "{text:?}");
    }

    #[test]
    fn the_connection_stays_only_when_the_body_has_an_end_of_its_own() {
        check_keep_alive("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true);
        check_keep_alive("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true);
        check_keep_alive("HTTP/1.1 304 Not Modified\r\n\r\n", true);
        check_keep_alive("HTTP/1.1 200 OK\r\n\r\n", false);
        check_keep_alive("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false);
        check_keep_alive("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false);
        check_keep_alive("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", true);
        check_keep_alive("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", false);
    }

    #[test]
    fn a_response_to_head_has_no_body() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        let parsed = parse_with(text, Method::Head, &RULES).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!((parsed.head.body, parsed.head.keep_alive), (BodyLength::Exact(0), true));
    }

    #[test]
    fn an_upgrade_is_named_twice() {
        let upgrade = |fields: &str| response(&format!("HTTP/1.1 101 x\r\n{fields}\r\n")).head.upgrade;
        assert!(upgrade("Connection: Upgrade\r\nUpgrade: websocket\r\n"));
        assert!(!upgrade("Upgrade: websocket\r\n"));
        assert!(!upgrade("Connection: upgrade\r\n"));
    }

    #[test]
    fn what_is_too_long_is_refused() {
        check_refused(&format!("HTTP/1.1 200 {}\r\n\r\n", "x".repeat(1024)), BadHead::LineTooLong);
        check_refused(&format!("HTTP/1.1 200 {}", "x".repeat(1100)), BadHead::LineTooLong);
        check_refused(&format!("HTTP/1.1 200 x\r\nA: {}\r\n\r\n", "x".repeat(1022)), BadHead::LineTooLong);
        check_refused(&format!("HTTP/1.1 200 x\r\n{}\r\n", "A: b\r\n".repeat(71)), BadHead::TooManyHeaders);
        check_refused(
            &format!("HTTP/1.1 200 x\r\nA: b\r\n{}\r\n\r\n", " c\r\n".repeat(2000)),
            BadHead::HeadTooLong,
        );
    }

    proptest! {
        #[test]
        fn a_head_says_the_same_however_it_is_cut(
            lines in proptest::collection::vec(
                prop_oneof![
                    Just("A: b"), Just("Connection: close, x"), Just("X: y"), Just("Content-Length: 3"), Just("Transfer-Encoding: chunked"),
                    Just(" folded"), Just("\t"), Just("A : b"), Just(""), Just("\r"), Just("\n"), Just("\0"), Just("A:\t \t"),
                ],
                0..8,
            ),
            first in prop_oneof![Just("HTTP/1.1 200 OK\r\n"), Just("HTTP/1.0 204\r\n"), Just("")],
            lf in prop_oneof![9 => Just("\r\n"), 1 => Just("\n")],
        ) {
            let text = first.to_owned() + &lines.join(lf) + lf + lf;
            invariants::response_head(text.as_bytes());
        }

        #[test]
        fn any_bytes_are_a_head_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            invariants::response_head(&[b"HTTP/1.1 200 OK\r\nA: b\r\n", &bytes[..], b"\r\n\r\n"].concat());
            invariants::response_head(&bytes);
        }
    }
}
