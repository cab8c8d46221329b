//! Request targets (RFC 9112 §3.2) and the syntax of Host.

use super::head::{BadHead, Method, Span, Target};

/// The target's form. `httparse` has made sure that it has no control bytes and no spaces.
///
/// Bytes past ASCII are refused (RFC 3986 has none), and so is a fragment, which a client must not send
/// (RFC 9110 §7.1).
#[inline(always)]
pub(super) fn parse(method: Method, text: Span, window: &[u8]) -> Result<Target, BadHead> {
    let bytes = text.of(window);
    if !bytes.is_ascii() || memchr::memchr(b'#', bytes).is_some() {
        return Err(BadHead::BadTarget);
    }
    if bytes.first() == Some(&b'/') && method != Method::Connect {
        let (path, query, has_query) = split_query(text, bytes);
        return Ok(Target::Origin { path, query, has_query });
    }
    parse_other(method, text, bytes)
}

/// The forms that are not a path.
#[cold]
fn parse_other(method: Method, text: Span, bytes: &[u8]) -> Result<Target, BadHead> {
    match (bytes, method) {
        (_, Method::Connect) => match split_authority(bytes) {
            Some((_, port)) if port.len() > 1 => Ok(Target::Authority),
            _ => Err(BadHead::BadTarget),
        },
        (b"*", Method::Options) => Ok(Target::Asterisk),
        _ => absolute(text, bytes),
    }
}

#[inline]
fn split_query(text: Span, bytes: &[u8]) -> (Span, Span, bool) {
    let start = usize::from(text.start);
    match memchr::memchr(b'?', bytes) {
        None => (text, Span::new(text.end(), 0), false),
        Some(at) => (Span::new(start, at), Span::new(start + at + 1, bytes.len() - at - 1), true),
    }
}

/// `http://authority[/path][?query]` (RFC 9112 §3.2.2). User information is refused (RFC 9110 §4.2.4).
fn absolute(text: Span, bytes: &[u8]) -> Result<Target, BadHead> {
    let (scheme_len, https) = match bytes {
        [scheme @ .., _] if starts_with(scheme, b"http://") => (7, false),
        [scheme @ .., _] if starts_with(scheme, b"https://") => (8, true),
        _ => return Err(BadHead::BadTarget),
    };
    let rest = &bytes[scheme_len..];
    let len = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
    if !authority_is_valid(&rest[..len]) {
        return Err(BadHead::BadTarget);
    }

    let start = usize::from(text.start) + scheme_len;
    let after = Span::new(start + len, rest.len() - len);
    let (path, query, has_query) = split_query(after, &rest[len..]);
    Ok(Target::Absolute { authority: Span::new(start, len), path, query, has_query, https })
}

fn starts_with(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Whether `text` is `host[:port]` as a Host field may have it (RFC 9110 §7.2), for names that can exist.
///
/// Narrower than RFC 3986: a name has letters, digits and `-._~`; percent-encoding and sub-delimiters (among them the
/// comma that would join two hosts) are refused. An IP literal is an IPv6 address. The port is at most 65535 and may
/// be empty.
pub fn authority_is_valid(text: &[u8]) -> bool {
    split_authority(text).is_some()
}

/// Host, and port with its colon (or nothing).
fn split_authority(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let host_len = match text {
        [b'[', inner @ ..] => {
            let len = memchr::memchr(b']', inner)?;
            let address = str::from_utf8(&inner[..len]).ok()?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            len + 2
        }
        _ => text.iter().position(|byte| !NAME_BYTES[usize::from(*byte)]).unwrap_or(text.len()),
    };
    let (host, port) = text.split_at(host_len);
    (!host.is_empty() && port_is_valid(port)).then_some((host, port))
}

/// RFC 3986's `unreserved`.
static NAME_BYTES: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = 0u8;
    while byte < 128 {
        bytes[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
        byte += 1;
    }
    bytes
};

fn port_is_valid(text: &[u8]) -> bool {
    match text {
        [] | [b':'] => true,
        [b':', digits @ ..] => {
            digits.iter().all(u8::is_ascii_digit)
                && digits.len() <= 5
                && digits.iter().fold(0, |port, digit| port * 10 + u32::from(digit - b'0')) <= 65535
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `form` is what [`show`] makes of the target.
    fn check(method: Method, text: &str, expected: Result<&str, BadHead>) {
        let span = Span::new(0, text.len());
        let found = parse(method, span, text.as_bytes()).map(|target| show(target, text));
        assert_eq!(found.as_deref().map_err(|e| *e), expected, "{method:?} {text}");
    }

    fn show(target: Target, text: &str) -> String {
        let text = |span: Span| str::from_utf8(span.of(text.as_bytes())).unwrap().to_owned();
        let query = |has: bool, query: Span| if has { format!(" ?{}", text(query)) } else { text(query) };
        match target {
            Target::Origin { path, query: q, has_query } => text(path) + &query(has_query, q),
            Target::Absolute { authority, path, query: q, has_query, https } => {
                let scheme = if https { "https" } else { "http" };
                format!("{scheme} {} {}{}", text(authority), text(path), query(has_query, q))
            }
            Target::Authority => "authority".to_owned(),
            Target::Asterisk => "*".to_owned(),
        }
    }

    #[test]
    fn origin_form_is_path_and_query() {
        check(Method::Get, "/", Ok("/"));
        check(Method::Get, "/a/b.c", Ok("/a/b.c"));
        check(Method::Get, "/a?", Ok("/a ?"));
        check(Method::Get, "/a?b=c?d", Ok("/a ?b=c?d"));
        check(Method::Options, "/", Ok("/"));
        check(Method::Get, "//host/a", Ok("//host/a"));
    }

    #[test]
    fn absolute_form_has_an_authority() {
        check(Method::Get, "http://example.com/a?b", Ok("http example.com /a ?b"));
        check(Method::Get, "HTTPS://[::1]:8443/", Ok("https [::1]:8443 /"));
        check(Method::Get, "http://a", Ok("http a "));
        check(Method::Get, "http://a?b", Ok("http a  ?b"));
        for text in [
            "http://",
            "http:///a",
            "http:/a",
            "ftp://a/",
            "http://u@a/",
            "http://u:p@a/",
            "http://a:b/",
            "http:a",
        ] {
            check(Method::Get, text, Err(BadHead::BadTarget));
        }
    }

    #[test]
    fn asterisk_is_for_options_and_authority_for_connect() {
        check(Method::Options, "*", Ok("*"));
        check(Method::Get, "*", Err(BadHead::BadTarget));
        check(Method::Connect, "a:443", Ok("authority"));
        check(Method::Connect, "[::1]:443", Ok("authority"));
        for text in ["a", "a:", "/", "http://a:443/", "a:443/b", "u@a:443", ":443", "*"] {
            check(Method::Connect, text, Err(BadHead::BadTarget));
        }
        check(Method::Get, "a:443", Err(BadHead::BadTarget));
        check(Method::Get, "a", Err(BadHead::BadTarget));
    }

    #[test]
    fn fragments_and_bytes_past_ascii_are_refused() {
        for text in ["/a#b", "/a?b#c", "/#", "/ä", "/?ä", "http://a/#"] {
            check(Method::Get, text, Err(BadHead::BadTarget));
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_a_port() {
        for text in [
            "a",
            "a.b-c_d~",
            "example.com:80",
            "1.2.3.4",
            "1.2.3.4:65535",
            "[::1]",
            "[1::ffff:1.2.3.4]:1",
            "a:",
            "a.",
        ] {
            assert!(authority_is_valid(text.as_bytes()), "{text}");
        }
        for text in [
            "",
            ":",
            ":80",
            "a b",
            "a,b",
            "a/b",
            "a\\b",
            "a@b",
            "a:b",
            "a:80:80",
            "a:65536",
            "a:000080",
            "a?b",
            "[::1",
            "::1",
            "[::1]a",
            "[]",
            "[v1.a]",
            "[1::2%25eth0]",
            "a%2eb",
            "ä",
            "a;b",
            "a\tb",
            "a'b",
            "[::1]:",
            "\"a\"",
        ] {
            assert_eq!(authority_is_valid(text.as_bytes()), text == "[::1]:", "{text}");
        }
    }
}
