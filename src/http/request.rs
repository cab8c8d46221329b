//! Request heads (RFC 9112 §2–§3).

use std::mem::MaybeUninit;

use super::{
    fields::{Gathered, gather, read_connection},
    framing::{self, Values},
    head::{
        BadHead, Field, HEADERS_MAX, METHOD_BYTES_MAX, Method, RequestHead, Rules, Span, Target, Version,
    },
    scan, target,
};

/// Fields that fit the first try's place on the stack; more take a second try with more room.
const HEADERS_USUAL: usize = 64;

/// Parses the request head at the start of `bytes`; `Ok(None)` asks for more of them.
///
/// `fields` is cleared and filled. `scanned` is 0 for a new head and afterwards the caller's to keep while the same
/// head grows; it is 0 again when a head is returned. With it, a head costs one parse of its first piece, one search
/// of each byte and one parse of the whole, however it is cut.
pub fn parse_request(
    bytes: &[u8],
    scanned: &mut usize,
    rules: &Rules,
    fields: &mut Vec<Field>,
) -> Result<Option<RequestHead>, BadHead> {
    fields.clear();
    let Some(start) = scan::skip_empty_lines(bytes, rules)? else { return Ok(None) };
    let window = scan::window(bytes, start, rules);

    // A head mostly comes whole: parse before looking for its end. Later pieces are only searched.
    let before = *scanned;
    if before > 0 && scan::find_end(window, start, scanned, rules)?.is_none() {
        scan::check_room(window, start, before, rules)?;
        return Ok(None);
    }
    let head = match parse_up_to::<HEADERS_USUAL>(window, start, rules, fields) {
        Err(BadHead::TooManyHeaders) if rules.headers_max > HEADERS_USUAL => {
            parse_long(window, start, rules, fields)?
        }
        other => other?,
    };
    if head.is_some() {
        *scanned = 0;
    } else {
        scan::find_end(window, start, scanned, rules)?;
        scan::check_room(window, start, before, rules)?;
    }
    Ok(head)
}

#[cold]
#[inline(never)]
fn parse_long(
    window: &[u8],
    start: usize,
    rules: &Rules,
    fields: &mut Vec<Field>,
) -> Result<Option<RequestHead>, BadHead> {
    parse_up_to::<HEADERS_MAX>(window, start, rules, fields)
}

#[inline]
fn parse_up_to<const N: usize>(
    window: &[u8],
    start: usize,
    rules: &Rules,
    fields: &mut Vec<Field>,
) -> Result<Option<RequestHead>, BadHead> {
    let mut room = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; N];
    let room = &mut room[..N.min(rules.headers_max)];
    let mut parsed = httparse::Request::new(&mut []);
    let len = match parsed.parse_with_uninit_headers(&window[start..], room) {
        Ok(httparse::Status::Complete(len)) => start + len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(explain(error, &parsed, &window[start..])),
    };
    let (Some(method_text), Some(target_text), Some(minor)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(BadHead::Malformed);
    };

    let base = window.as_ptr().addr();
    let method = Method::of(method_text.as_bytes());
    let method_text = Span::within(base, method_text.as_bytes());
    let target_text = Span::within(base, target_text.as_bytes());
    let version = if minor == 0 { Version::Http10 } else { Version::Http11 };
    if usize::from(method_text.len) > METHOD_BYTES_MAX {
        return Err(BadHead::BadMethod);
    }
    if usize::from(target_text.len) > rules.line_bytes_max {
        return Err(BadHead::TargetTooLong);
    }
    let line_end = target_text.end() + " HTTP/1.1".len();
    if !rules.lenient && (window.get(line_end) != Some(&b'\r') || !window[..len].ends_with(b"\r\n")) {
        return Err(BadHead::BareLf);
    }

    let target = target::parse(method, target_text, window)?;
    let mut gathered = Gathered::default();
    gather(window, parsed.headers, rules, fields, &mut gathered)?;
    let host = check_host(base, version, target, &gathered.hosts)?;
    let body = framing::request_body(version, gathered.codings, gathered.lengths)?;
    let said = read_connection(&gathered.connections, window, fields)?;

    let http11 = version == Version::Http11;
    Ok(Some(RequestHead {
        method,
        method_text,
        target,
        target_text,
        version,
        host,
        body,
        keep_alive: !said.close && (http11 || said.keep_alive),
        expect_continue: http11 && gathered.expect_continue,
        upgrade: match gathered.upgrades {
            Values::One(value) if http11 && said.upgrade => Some(Span::within(base, value)),
            Values::None | Values::One(_) | Values::Several => None,
        },
        len,
    }))
}

/// The host the request is for (RFC 9112 §3.2, §3.2.2). A bad or missing Host is an error even where an absolute-form
/// target replaces it.
#[inline]
fn check_host(base: usize, version: Version, target: Target, hosts: &Values<'_>) -> Result<Span, BadHead> {
    let host = match *hosts {
        Values::None if version == Version::Http10 => Span::default(),
        Values::None => return Err(BadHead::MissingHost),
        Values::Several => return Err(BadHead::TwoHosts),
        Values::One(text) if target::authority_is_valid(text) => Span::within(base, text),
        Values::One(_) => return Err(BadHead::BadHost),
    };
    Ok(match target {
        Target::Absolute { authority, .. } => authority,
        Target::Origin { .. } | Target::Authority | Target::Asterisk => host,
    })
}

#[cold]
fn explain(error: httparse::Error, parsed: &httparse::Request<'_, '_>, head: &[u8]) -> BadHead {
    match error {
        httparse::Error::TooManyHeaders => BadHead::TooManyHeaders,
        httparse::Error::HeaderName => BadHead::BadFieldName,
        httparse::Error::Token => match parsed.method {
            None => BadHead::BadMethod,
            Some(method) if is_http09(&head[method.len() + 1..]) => BadHead::UnsupportedVersion,
            Some(_) => BadHead::BadTarget,
        },
        httparse::Error::Version => match (parsed.method, parsed.path) {
            (Some(method), Some(path)) if names_version(&head[method.len() + path.len() + 2..]) => {
                BadHead::UnsupportedVersion
            }
            _ => BadHead::Malformed,
        },
        _ if scan::has_bare_cr(head) => BadHead::BareCr,
        httparse::Error::HeaderValue => BadHead::BadFieldValue,
        httparse::Error::NewLine | httparse::Error::Status => BadHead::Malformed,
    }
}

/// `/path` and the end of the line.
fn is_http09(rest: &[u8]) -> bool {
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.len() < rest.len()
        && line.starts_with(b"/")
        && line.trim_ascii_end().iter().all(u8::is_ascii_graphic)
}

fn names_version(rest: &[u8]) -> bool {
    rest.starts_with(b"HTTP/") && rest.get(5).is_some_and(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{BadFraming, BodyLength, head::CONNECTION_OPTIONS_MAX, invariants};
    use proptest::prelude::*;

    const RULES: Rules =
        Rules { head_bytes_max: 4096, line_bytes_max: 1024, headers_max: 70, lenient: false };
    const LENIENT: Rules = Rules { lenient: true, ..RULES };

    struct Parsed {
        head: RequestHead,
        fields: Vec<Field>,
        bytes: Vec<u8>,
    }

    impl Parsed {
        fn text(&self, span: Span) -> &str {
            str::from_utf8(span.of(&self.bytes)).unwrap()
        }

        /// Names of the fields that may be forwarded.
        fn forwarded(&self) -> Vec<&str> {
            self.fields.iter().filter(|field| !field.hop).map(|field| self.text(field.name)).collect()
        }
    }

    fn parse_with(bytes: &[u8], rules: &Rules) -> Result<Parsed, BadHead> {
        invariants::request_head(bytes);
        let mut fields = Vec::new();
        let head = parse_request(bytes, &mut 0, rules, &mut fields)?.expect("the head is whole");
        Ok(Parsed { head, fields, bytes: bytes.to_vec() })
    }

    /// Parses `GET / HTTP/1.1`, a Host and the lines of `fields`.
    fn with_fields(fields: &str) -> Result<Parsed, BadHead> {
        parse_with(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes(), &RULES)
    }

    fn check_refused(bytes: impl AsRef<[u8]>, expected: BadHead) {
        let bytes = bytes.as_ref();
        let found = parse_with(bytes, &RULES).map(|parsed| parsed.head);
        assert_eq!(found, Err(expected), "{}", bytes.escape_ascii());
    }

    fn check_field_refused(line: &str, expected: BadHead) {
        check_refused(format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n"), expected);
        check_refused(format!("GET / HTTP/1.1\r\n{line}\r\nHost: a\r\n\r\n"), expected);
    }

    #[test]
    fn a_head_says_what_was_sent() {
        let text = "POST /a/b?c=d HTTP/1.1\r\nhost: example.com:80\r\nX-A:\t b c \t\r\nContent-Length: 3\r\nEmpty:\r\n\r\nabcGET";
        let parsed = parse_with(text.as_bytes(), &RULES).unwrap_or_else(|why| panic!("{why}"));
        let head = parsed.head;
        assert_eq!((head.method, parsed.text(head.method_text)), (Method::Post, "POST"));
        assert_eq!(parsed.text(head.target_text), "/a/b?c=d");
        assert_eq!(head.version, Version::Http11);
        assert_eq!(parsed.text(head.host), "example.com:80");
        assert_eq!(head.body, BodyLength::Exact(3));
        assert_eq!(head.len, text.len() - "abcGET".len());
        let fields: Vec<_> =
            parsed.fields.iter().map(|f| (parsed.text(f.name), parsed.text(f.value))).collect();
        assert_eq!(
            fields,
            [("host", "example.com:80"), ("X-A", "b c"), ("Content-Length", "3"), ("Empty", "")]
        );
        let Target::Origin { path, query, has_query: true } = head.target else { panic!("{head:?}") };
        assert_eq!((parsed.text(path), parsed.text(query)), ("/a/b", "c=d"));
    }

    #[test]
    fn a_head_that_is_not_whole_asks_for_more() {
        let text = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for end in 0..text.len() {
            assert_eq!(parse_request(&text[..end], &mut 0, &RULES, &mut Vec::new()), Ok(None), "{end}");
        }
    }

    // RFC 9112 §2.2

    #[test]
    fn empty_lines_before_a_request_are_ignored_but_not_for_ever() {
        let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let parsed =
            parse_with(format!("\r\n\r\n{request}").as_bytes(), &RULES).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!((parsed.head.len, parsed.text(parsed.head.host)), (request.len() + 4, "a"));
        check_refused("\r\n".repeat(5) + request, BadHead::Malformed);
        check_refused(format!("\n{request}"), BadHead::BareLf);
        check_refused(format!("\r{request}"), BadHead::BareCr);
        check_refused(format!(" {request}"), BadHead::BadMethod);
    }

    #[test]
    fn a_bare_lf_ends_a_line_only_when_lenient() {
        for text in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a \t\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nB:\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET / HTTP/1.1\nHost: a\n\n",
            "\nGET / HTTP/1.1\nHost: a\n\n",
        ] {
            check_refused(text, BadHead::BareLf);
            let parsed =
                parse_with(text.as_bytes(), &LENIENT).unwrap_or_else(|why| panic!("{text:?}: {why}"));
            assert_eq!((parsed.head.len, parsed.text(parsed.head.host)), (text.len(), "a"), "{text:?}");
        }
    }

    #[test]
    fn a_bare_lf_is_refused_at_once_and_a_lenient_head_ends_at_its_own_empty_line() {
        let mut scanned = 0;
        let mut fields = Vec::new();
        assert_eq!(parse_request(b"GET / HTTP/1.1", &mut scanned, &RULES, &mut fields), Ok(None));
        assert_eq!(
            parse_request(b"GET / HTTP/1.1\n", &mut scanned, &RULES, &mut fields),
            Err(BadHead::BareLf)
        );

        // The head another codec swallowed the second request with (it looked for CRLF CRLF only).
        let text = b"GET /1 HTTP/1.1\nHost: a\n\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
        let parsed = parse_with(text, &LENIENT).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(parsed.text(parsed.head.target_text), "/1");
        assert!(text[parsed.head.len..].starts_with(b"GET /2 "));
    }

    #[test]
    fn a_bare_cr_is_refused_also_when_lenient() {
        for text in [
            "GET / HTTP/1.1\rHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nB: \r\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\rX\r\n\r\n",
        ] {
            check_refused(text, BadHead::BareCr);
            assert!(
                parse_with(text.as_bytes(), &LENIENT).is_err_and(|why| why == BadHead::BareCr),
                "{text:?}"
            );
        }
    }

    // RFC 9112 §2.3, §3

    #[test]
    fn versions_other_than_1_0_and_1_1_are_not_understood() {
        for line in [
            "GET / HTTP/2.0",
            "GET / HTTP/1.2",
            "GET / HTTP/0.9",
            "GET / HTTP/3",
            "GET / HTTP/2",
            "PRI * HTTP/2.0",
            "GET /",
        ] {
            check_refused(format!("{line}\r\n\r\n"), BadHead::UnsupportedVersion);
        }
        check_refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BadHead::UnsupportedVersion);
        for line in [
            "GET / http/1.1",
            "GET / HTP/1.1",
            "GET / HTTP/1.1 ",
            "GET / HTTP/1.11",
            "GET /  HTTP/1.1",
            "GET / \tHTTP/1.1",
            "GET / HTTP /1.1",
        ] {
            check_refused(format!("{line}\r\nHost: a\r\n\r\n"), BadHead::Malformed);
        }
    }

    #[test]
    fn a_method_is_a_short_token() {
        for method in ["PURGE", "get", "M-SEARCH", &"X".repeat(32)] {
            let parsed = parse_with(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), &RULES);
            let parsed = parsed.unwrap_or_else(|why| panic!("{method}: {why}"));
            assert_eq!((parsed.head.method, parsed.text(parsed.head.method_text)), (Method::Other, method));
        }
        for method in ["", "G(T", "GET\t", "G\0T", "\u{16}\u{3}\u{1}", "Gät", "GET:", &"X".repeat(33)] {
            check_refused(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"), BadHead::BadMethod);
        }
    }

    #[test]
    fn a_target_is_visible_ascii_without_a_fragment() {
        for target in ["/a\tb", "/\0", "/\u{7f}", "/a#b", "/ä", "a", "", "*", "http://", "\u{b}"] {
            check_refused(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), BadHead::BadTarget);
        }
        check_refused(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", BadHead::BadTarget);
    }

    /// `httparse` looks at several bytes at once; each byte is tried at each place in such a group.
    #[test]
    fn no_byte_slips_through_wherever_it_stands() {
        for byte in 0..=255u8 {
            for (before, after) in (0..40).map(|before| (before, 40 - before)) {
                let text = [vec![b'x'; before], vec![byte], vec![b'x'; after]].concat();
                let head = |target: &[u8], name: &[u8], value: &[u8]| {
                    [b"GET /", target, b" HTTP/1.1\r\nHost: a\r\nN", name, b": v", value, b"v\r\n\r\n"]
                        .concat()
                };
                let accepted =
                    |bytes: Vec<u8>| parse_request(&bytes, &mut 0, &RULES, &mut Vec::new()).is_ok();
                assert_eq!(
                    accepted(head(&text, b"", b"")),
                    byte.is_ascii_graphic() && byte != b'#',
                    "target {byte}"
                );
                let in_name = crate::http::headers::is_token(&[byte]) || byte == b':';
                assert_eq!(accepted(head(b"", &text, b"")), in_name, "name {byte}");
                assert_eq!(
                    accepted(head(b"", b"", &text)),
                    crate::http::headers::is_field_value(&[byte]),
                    "value {byte}"
                );
            }
        }
    }

    // RFC 9112 §3.2

    #[test]
    fn http_1_1_has_exactly_one_valid_host() {
        check_refused("GET / HTTP/1.1\r\n\r\n", BadHead::MissingHost);
        check_refused("GET http://a/ HTTP/1.1\r\n\r\n", BadHead::MissingHost);
        check_field_refused("Host: a", BadHead::TwoHosts);
        check_field_refused("hOST: b", BadHead::TwoHosts);
        for host in ["", "a b", "a, b", "a/b", "u@a", "a:b", "a:99999", "ä", "[::1"] {
            check_refused(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), BadHead::BadHost);
            check_refused(format!("GET http://c/ HTTP/1.0\r\nHost: {host}\r\n\r\n"), BadHead::BadHost);
        }
    }

    #[test]
    fn http_1_0_may_lack_host_but_not_have_two() {
        let parsed = parse_with(b"GET / HTTP/1.0\r\n\r\n", &RULES).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!((parsed.head.version, parsed.head.host), (Version::Http10, Span::default()));
        check_refused("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", BadHead::TwoHosts);
    }

    #[test]
    fn the_authority_of_an_absolute_target_replaces_host() {
        let parsed = parse_with(b"GET http://b:81/x?y HTTP/1.1\r\nHost: a\r\n\r\n", &RULES);
        let parsed = parsed.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(parsed.text(parsed.head.host), "b:81");
        let parsed = parse_with(b"CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n", &RULES);
        let parsed = parsed.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!((parsed.head.method, parsed.head.target), (Method::Connect, Target::Authority));
        let parsed = parse_with(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", &RULES);
        assert_eq!(parsed.unwrap_or_else(|why| panic!("{why}")).head.target, Target::Asterisk);
    }

    // RFC 9112 §5

    #[test]
    fn malformed_field_names_are_refused() {
        for line in [
            "A : b",
            "A\t: b",
            " A: b",
            "\tA: b",
            "A",
            ": b",
            "A b: c",
            "A(: b",
            "Ä: b",
            "A\0: b",
            "A\u{b}: b",
        ] {
            check_field_refused(line, BadHead::BadFieldName);
        }
        check_field_refused("A: b\r\n c", BadHead::BadFieldName); // obs-fold
        check_field_refused("A: b\r\n\t", BadHead::BadFieldName);
        check_field_refused("A:\r\n chunked", BadHead::BadFieldName);
    }

    #[test]
    fn control_bytes_in_field_values_are_refused() {
        for line in ["A: \0", "A: b\0c", "A: \u{b}", "A: \u{1b}[2J", "A: \u{7f}", "A: \u{8}"] {
            check_field_refused(line, BadHead::BadFieldValue);
        }
        assert!(with_fields("A: ä\r\nB: a\tb\r\n").is_ok(), "obs-text and HTAB are allowed");
    }

    // RFC 9112 §6

    #[test]
    fn doubtful_framing_is_refused() {
        for (lines, why) in [
            ("Content-Length: 4\r\nTransfer-Encoding: chunked", BadFraming::LengthAndCoding),
            ("Transfer-Encoding: chunked\r\ncontent-length: 0", BadFraming::LengthAndCoding),
            ("Content-Length: 4\r\nContent-Length: 4", BadFraming::SeveralLengths),
            ("Content-Length: 5, 5", BadFraming::BadLength),
            ("Content-Length: +5", BadFraming::BadLength),
            ("Content-Length:", BadFraming::BadLength),
            ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", BadFraming::UnknownCoding),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip", BadFraming::UnknownCoding),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", BadFraming::UnknownCoding),
            ("Transfer-Encoding: chunked, identity", BadFraming::UnknownCoding),
            ("Transfer-Encoding: xchunked", BadFraming::UnknownCoding),
            ("Transfer-Encoding:", BadFraming::UnknownCoding),
        ] {
            check_field_refused(lines, BadHead::BadFraming(why));
        }
        let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        check_refused(old, BadHead::BadFraming(BadFraming::CodingInHttp10));
        // A name that only looks like one does not frame anything, and one that cannot be a name is refused.
        assert_eq!(
            with_fields("Transfer_Encoding: chunked\r\n").map(|p| p.head.body),
            Ok(BodyLength::Exact(0))
        );
        check_field_refused("Transfer-Encoding : chunked", BadHead::BadFieldName);
        check_field_refused("Transfer-Encoding: \u{b}chunked", BadHead::BadFieldValue);
    }

    #[test]
    fn chunked_and_lengths_frame_a_body() {
        assert_eq!(
            with_fields("Transfer-Encoding:Chunked \r\n").map(|p| p.head.body),
            Ok(BodyLength::Chunked)
        );
        assert_eq!(with_fields("Content-Length: 10\r\n").map(|p| p.head.body), Ok(BodyLength::Exact(10)));
    }

    // RFC 9112 §9.3, RFC 9110 §7.6.1

    fn check_keep_alive(version: &str, fields: &str, expected: bool) {
        let text = format!("GET / {version}\r\nHost: a\r\n{fields}\r\n");
        let found = parse_with(text.as_bytes(), &RULES).map(|parsed| parsed.head.keep_alive);
        assert_eq!(found, Ok(expected), "{version} {fields:?}");
    }

    #[test]
    fn version_and_connection_say_whether_the_connection_stays() {
        check_keep_alive("HTTP/1.1", "", true);
        check_keep_alive("HTTP/1.1", "Connection: Close\r\n", false);
        check_keep_alive("HTTP/1.1", "Connection: keep-alive, close\r\n", false);
        check_keep_alive("HTTP/1.1", "Connection: x\r\nConnection: ,close,\r\n", false);
        check_keep_alive("HTTP/1.1", "Connection: closed\r\n", true);
        check_keep_alive("HTTP/1.0", "", false);
        check_keep_alive("HTTP/1.0", "Connection: Keep-Alive\r\n", true);
        check_keep_alive("HTTP/1.0", "Connection: close, keep-alive\r\n", false);
        check_keep_alive("HTTP/1.0", "Keep-Alive: timeout=5\r\n", false);
    }

    fn check_forwarded(fields: &str, expected: &[&str]) {
        let parsed = with_fields(fields).unwrap_or_else(|why| panic!("{fields:?}: {why}"));
        assert_eq!(parsed.forwarded()[1..], *expected, "{fields:?}");
    }

    #[test]
    fn hop_by_hop_fields_and_those_named_by_connection_are_not_forwarded() {
        check_forwarded(
            "Connection: upgrade, X-A\r\nKeep-Alive: 5\r\nProxy-Connection: a\r\nTE: trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\nx-a: 1\r\nX-B: 2\r\nTrailer: c\r\n",
            &["X-B", "Trailer"],
        );
        check_forwarded("A: 1\r\nB: 2\r\nConnection: a\r\nConnection: \t, b ,\r\nAb: 3\r\n", &["Ab"]);
        check_forwarded("Transfer-Encoding: chunked\r\n", &[]);
    }

    #[test]
    fn connection_cannot_remove_what_is_meant_for_the_service() {
        check_forwarded(
            "Connection: close, Host, Authorization, Cookie, X-Forwarded-For, Content-Length, X-Own\r\nAuthorization: a\r\nCookie: b\r\nX-Forwarded-For: c\r\nContent-Length: 0\r\nX-Own: d\r\n",
            &["Authorization", "Cookie", "X-Forwarded-For", "Content-Length"],
        );
    }

    #[test]
    fn connection_may_name_only_so_many_fields() {
        let named = |count| format!("Connection: {}\r\n", vec!["abc"; count].join(","));
        check_forwarded(&named(CONNECTION_OPTIONS_MAX), &[]);
        assert_eq!(
            with_fields(&named(CONNECTION_OPTIONS_MAX + 1)).map(|p| p.head),
            Err(BadHead::TooManyOptions)
        );
    }

    #[test]
    fn upgrade_counts_when_connection_names_it_in_http_1_1() {
        let upgrade =
            |fields: &str| with_fields(fields).map(|p| p.head.upgrade.map(|span| p.text(span).to_owned()));
        assert_eq!(
            upgrade("Connection: Upgrade\r\nUpgrade: websocket\r\n"),
            Ok(Some("websocket".to_owned()))
        );
        assert_eq!(upgrade("Upgrade: websocket\r\n"), Ok(None));
        assert_eq!(upgrade("Connection: upgrade\r\n"), Ok(None));
        assert_eq!(upgrade("Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n"), Ok(None));
        let old = parse_with(b"GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", &RULES);
        assert_eq!(old.map(|parsed| parsed.head.upgrade), Ok(None));
    }

    #[test]
    fn expect_100_continue_counts_in_http_1_1() {
        assert_eq!(with_fields("Expect: 100-Continue\r\n").map(|p| p.head.expect_continue), Ok(true));
        assert_eq!(with_fields("Expect: else\r\n").map(|p| p.head.expect_continue), Ok(false));
        let old = parse_with(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", &RULES);
        assert_eq!(old.map(|parsed| parsed.head.expect_continue), Ok(false));
    }

    // Bounds

    #[test]
    fn what_is_too_long_is_refused_by_its_own_name() {
        let target = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(len - 1));
        assert!(parse_with(target(1024).as_bytes(), &RULES).is_ok());
        check_refused(target(1025), BadHead::TargetTooLong);
        check_refused(target(5000), BadHead::TargetTooLong);
        check_refused(format!("GET /{}", "x".repeat(1100)), BadHead::TargetTooLong);

        let line = |len: usize| format!("A: {}\r\n", "x".repeat(len - 3));
        assert!(with_fields(&line(1024)).is_ok());
        assert_eq!(with_fields(&line(1025)).map(|p| p.head), Err(BadHead::LineTooLong));

        assert_eq!(with_fields(&line(1000).repeat(5)).map(|p| p.head), Err(BadHead::HeadTooLong));
        assert!(with_fields(&"A: b\r\n".repeat(69)).is_ok());
        assert_eq!(with_fields(&"A: b\r\n".repeat(70)).map(|p| p.head), Err(BadHead::TooManyHeaders));
    }

    #[test]
    fn a_head_may_fill_its_bound_to_the_last_byte() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n";
        let exact = Rules { head_bytes_max: 27, ..RULES };
        assert!(parse_request(text, &mut 0, &exact, &mut Vec::new()).is_ok_and(|head| head.is_some()));
        let short = Rules { head_bytes_max: 26, ..RULES };
        assert_eq!(parse_request(text, &mut 0, &short, &mut Vec::new()), Err(BadHead::HeadTooLong));
    }

    #[test]
    fn a_name_of_70_000_bytes_is_only_too_long() {
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{}: b\r\n\r\n", "x".repeat(70_000));
        let rules = Rules {
            head_bytes_max: usize::MAX,
            line_bytes_max: usize::MAX,
            headers_max: usize::MAX,
            lenient: false,
        };
        assert_eq!(
            parse_request(bytes.as_bytes(), &mut 0, &rules, &mut Vec::new()),
            Err(BadHead::HeadTooLong)
        );
    }

    proptest! {
        #[test]
        fn a_head_says_the_same_however_it_is_cut(
            lines in proptest::collection::vec(
                prop_oneof![
                    Just("GET / HTTP/1.1"), Just("GET /a?b HTTP/1.0"), Just("OPTIONS * HTTP/1.1"), Just("Host: a"), Just("Host: b"),
                    Just("Connection: close, x"), Just("X: y"), Just("Content-Length: 3"), Just("Transfer-Encoding: chunked"),
                    Just(" folded"), Just("A : b"), Just(""), Just("\r"), Just("\n"), Just("\0"), Just("A:\t \t"),
                ],
                0..8,
            ),
            first in prop_oneof![Just("GET / HTTP/1.1\r\nHost: a\r\n"), Just("")],
            lf in prop_oneof![9 => Just("\r\n"), 1 => Just("\n")],
        ) {
            let text = first.to_owned() + &lines.join(lf) + lf + lf;
            invariants::request_head(text.as_bytes());
        }

        #[test]
        fn any_bytes_are_a_head_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            invariants::request_head(&[b"GET / HTTP/1.1\r\nHost: a\r\n", &bytes[..], b"\r\n\r\n"].concat());
            invariants::request_head(&bytes);
        }
    }
}
