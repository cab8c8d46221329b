//! A route key's text → [`Pattern`].

use std::{fmt, net::Ipv6Addr, ops::Range, sync::Arc};

use super::{
    SEGMENTS_MAX, VARIABLES_MAX,
    pattern::{End, Host, Pattern, Segment},
};

/// Names that mean something else in a template.
const RESERVED: [&str; 5] = ["path", "jwt", "query", "header", "cookie"];

/// Why a text is no route key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadPattern {
    /// The bytes of the text that are wrong.
    pub at: Range<usize>,
    /// What is wrong with them and the likely remedy, for people.
    pub what: String,
}

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for BadPattern {}

impl Pattern {
    /// Parses `[METHOD ][HOST]/PATH`.
    ///
    /// Literals are compared byte for byte with normalised request paths, so a literal that no normalised path can
    /// have is an error that shows the spelling to use.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        let path_at = text.find('/').ok_or_else(|| no_path(text))?;
        let (method, host_at) = match text[..path_at].find(' ') {
            Some(space) => (Some(method(text, 0..space)?), space + 1),
            None => (None, 0),
        };
        if text[host_at..path_at].ends_with(':') && text[path_at..].starts_with("//") {
            let start = path_at + 2;
            let what = format!("a route key has no scheme: write `{}`", &text[start..]);
            return bad(host_at..start, what);
        }
        let host = host(text, host_at..path_at)?;
        let (segments, end) = path(text, path_at)?;

        let literal_end = text[path_at..].find('{').map_or(text.len(), |at| path_at + at);
        let pattern =
            Self { text: Arc::from(text), method, host, segments, end, literal: (path_at, literal_end) };
        check_names(&pattern, path_at)?;
        Ok(pattern)
    }
}

fn bad<T>(at: Range<usize>, what: impl Into<String>) -> Result<T, BadPattern> {
    Err(BadPattern { at, what: what.into() })
}

fn no_path(text: &str) -> BadPattern {
    let what = if text.is_empty() || text.contains(' ') {
        "a route key is `[METHOD ][HOST]/PATH`; the path is missing".to_owned()
    } else {
        format!("the path is missing: for everything on this host write `{text}/`")
    };
    BadPattern { at: 0..text.len(), what }
}

/// A token (RFC 9110 §5.6.2) in upper case: methods are compared byte for byte (RFC 9110 §9.1).
fn method(text: &str, at: Range<usize>) -> Result<Arc<str>, BadPattern> {
    let method = &text[at.clone()];
    if method.is_empty() {
        return bad(0..1, "a route key starts with a method, a host or `/`, not with a space");
    }
    if matches!(method.to_ascii_uppercase().as_str(), "*" | "ANY" | "ALL") {
        return bad(at, "leave the method out to match every method");
    }
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !method.bytes().all(is_token) {
        return bad(at, format!("`{method}` is not a method"));
    }
    if method.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return bad(at, format!("methods are in upper case: `{}`", method.to_ascii_uppercase()));
    }
    Ok(Arc::from(method))
}

fn host(text: &str, at: Range<usize>) -> Result<Host, BadPattern> {
    let written = &text[at.clone()];
    if written.is_empty() {
        return Ok(Host::Any);
    }
    if let Some(space) = written.find(' ') {
        let space = at.start + space;
        return bad(
            space..space + 1,
            "one space separates the method from the host or path, and there is no other",
        );
    }
    if written == "*" {
        return bad(at, "leave the host out to match every host");
    }
    if written.starts_with('[') {
        return ipv6_host(written, at);
    }
    if let Some(colon) = written.find(':') {
        let colon = at.start + colon;
        return bad(colon..at.end, "a route's host has no port; bind the route to a listener with `on`");
    }

    let host = written.to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    let (wildcard, name) = match host.strip_prefix("*.") {
        Some(name) => (true, name),
        None => (false, host),
    };
    if name.contains('*') {
        return bad(at, "`*` stands for whole labels at the front only, as in `*.example.com`");
    }
    if !name.is_ascii() {
        return bad(at, "a host is written in ASCII, other scripts in Punycode (`xn--…`)");
    }
    if name.len() > 253 {
        return bad(at, "a host has at most 253 characters");
    }
    for label in name.split('.') {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if label.is_empty() || label.len() > 63 || !label.bytes().all(allowed) {
            return bad(
                at,
                format!(
                    "`{written}` is not a host: labels are 1 to 63 letters, digits, `-` and `_` between dots"
                ),
            );
        }
    }
    Ok(if wildcard { Host::Under(Arc::from(host)) } else { Host::Exact(Arc::from(host)) })
}

fn ipv6_host(written: &str, at: Range<usize>) -> Result<Host, BadPattern> {
    let Some((address, after)) = written[1..].split_once(']') else {
        return bad(at, "`]` is missing after the address");
    };
    if after.starts_with(':') {
        let colon = at.end - after.len();
        return bad(colon..at.end, "a route's host has no port; bind the route to a listener with `on`");
    }
    match address.parse::<Ipv6Addr>() {
        Ok(address) if after.is_empty() => Ok(Host::Exact(Arc::from(format!("[{address}]")))),
        _ => bad(at, format!("`{written}` is not an IPv6 address in brackets")),
    }
}

fn path(text: &str, path_at: usize) -> Result<(Vec<Segment>, End), BadPattern> {
    let mut segments = Vec::new();
    let mut start = path_at + 1;
    loop {
        let end = text[start..].find('/').map_or(text.len(), |at| start + at);
        let is_last = end == text.len();
        let written = &text[start..end];
        let at = start..end;
        if written.is_empty() {
            if is_last {
                return Ok((segments, End::Rest(None)));
            }
            return bad(start - 1..end + 1, "slashes are merged before a path is matched: write one");
        }
        match piece(written, at.clone())? {
            Piece::Segment(_) if segments.len() == SEGMENTS_MAX => {
                return bad(at, format!("a pattern has at most {SEGMENTS_MAX} segments"));
            }
            Piece::Segment(segment) => segments.push(segment),
            Piece::End(end) if is_last => return Ok((segments, end)),
            Piece::End(_) => return bad(at, format!("`{written}` can only stand at the end")),
        }
        if is_last {
            return Ok((segments, End::Bare));
        }
        start = end + 1;
    }
}

enum Piece {
    Segment(Segment),
    End(End),
}

/// What one non-empty segment means; `at` is its place in the key.
fn piece(written: &str, at: Range<usize>) -> Result<Piece, BadPattern> {
    if !written.contains(['{', '}']) {
        literal(written, at)?;
        return Ok(Piece::Segment(Segment::Literal(Arc::from(written))));
    }
    let Some(inner) = written.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) else {
        return bad(at, "a variable is a whole segment, as in `/users/{id}`");
    };
    if inner == "$" {
        return Ok(Piece::End(End::Slash));
    }
    let (name, is_rest) = match inner.strip_suffix("...") {
        Some("") => return bad(at, "`{...}` has no name: write `{rest...}`, or end the path with `/`"),
        Some(name) => (name, true),
        None => (inner, false),
    };
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if !starts_well || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return bad(at, format!("`{name}` is not a name: letters, digits and `_`, not a digit first"));
    }
    if RESERVED.contains(&name) {
        return bad(at, format!("`{{{name}}}` means something else in templates; take another name"));
    }
    let name = Arc::from(name);
    Ok(if is_rest { Piece::End(End::Rest(Some(name))) } else { Piece::Segment(Segment::Variable(name)) })
}

/// Refuses a literal that no normalised path has (RFC 3986 §6.2.2), or that means something to other routers.
fn literal(written: &str, at: Range<usize>) -> Result<(), BadPattern> {
    if written == "." || written == ".." {
        return bad(at, "dot segments are removed before a path is matched");
    }
    if written == "*" || written == "**" {
        return bad(
            at,
            "`*` is no wildcard in a path: write `{name}` for one segment, or end the path with `/`",
        );
    }
    if let Some(name) = written.strip_prefix(':') {
        return bad(at, format!("a variable is written `{{{name}}}`"));
    }

    for (offset, character) in written.char_indices() {
        let place = at.start + offset..at.start + offset + character.len_utf8();
        match character {
            '%' => escape(&written[offset..], place.start)?,
            '?' => return bad(place.start..at.end, "a route key has no query"),
            '#' => return bad(place.start..at.end, "a route key has no fragment"),
            '\\' => return bad(place, "`\\` is refused in paths"),
            '!'..='~' => {}
            _ => {
                let mut bytes = [0; 4];
                let encoded = character.encode_utf8(&mut bytes).bytes();
                let encoded = encoded.map(|byte| format!("%{byte:02X}")).collect::<String>();
                return bad(place, format!("in a path this is written `{encoded}`"));
            }
        }
    }
    Ok(())
}

/// Checks the escape at the start of `rest`, which stands at byte `start` of the key.
fn escape(rest: &str, start: usize) -> Result<(), BadPattern> {
    let digits = rest.get(1..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let Some(digits) = digits else {
        return bad(start..start + 1, "two hexadecimal digits follow `%`; a percent sign itself is `%25`");
    };
    let at = start..start + 3;
    let byte = u8::from_str_radix(digits, 16).expect("two hexadecimal digits fit into a byte");
    match byte {
        0 => bad(at, "NUL is refused in paths"),
        // RFC 3986 §2.3
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            bad(at, format!("this escape is decoded before a path is matched: write `{}`", char::from(byte)))
        }
        _ if digits.bytes().any(|digit| digit.is_ascii_lowercase()) => {
            bad(at, format!("escapes are compared in upper case: write `%{}`", digits.to_ascii_uppercase()))
        }
        _ => Ok(()),
    }
}

fn check_names(pattern: &Pattern, path_at: usize) -> Result<(), BadPattern> {
    let names: Vec<&str> = pattern.variables().collect();
    let whole = path_at..pattern.text.len();
    if names.len() > VARIABLES_MAX {
        return bad(whole, format!("a pattern has at most {VARIABLES_MAX} variables"));
    }
    for (index, name) in names.iter().enumerate() {
        if names[..index].contains(name) {
            return bad(whole, format!("two variables are called `{name}`"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::route::{Pattern, pattern};

    /// Checks method, host, literal prefix and variables.
    #[track_caller]
    fn check(key: &str, method: &str, host: &str, literal: &str, variables: &[&str]) {
        let pattern = pattern(key);
        assert_eq!(pattern.text(), key);
        assert_eq!(pattern.method().unwrap_or(""), method, "{key}");
        assert_eq!(pattern.host().unwrap_or(""), host, "{key}");
        assert_eq!(pattern.literal_prefix(), literal, "{key}");
        assert_eq!(pattern.variables().collect::<Vec<_>>(), variables, "{key}");
    }

    #[test]
    fn a_key_is_a_method_a_host_and_a_path() {
        check("/", "", "", "/", &[]);
        check("/ping", "", "", "/ping", &[]);
        check("GET /users/{id}", "GET", "", "/users/", &["id"]);
        check("api.example.com/", "", "api.example.com", "/", &[]);
        check("GET api.example.com/home/{id}", "GET", "api.example.com", "/home/", &["id"]);
        check("PROPFIND *.Example.com./", "PROPFIND", "*.example.com", "/", &[]);
        check("X-Y my_host/", "X-Y", "my_host", "/", &[]);
        check("[::0:1]/x", "", "[::1]", "/x", &[]);
        check("127.0.0.1/", "", "127.0.0.1", "/", &[]);
        check("/old/{p...}", "", "", "/old/", &["p"]);
        check("/{a}/b/{_c9}/{rest...}", "", "", "/", &["a", "_c9", "rest"]);
        check("/end/{$}", "", "", "/end/", &[]);
        check("/a%2Fb/%C3%A9/x:y/~u/a*/$a,b;c=d", "", "", "/a%2Fb/%C3%A9/x:y/~u/a*/$a,b;c=d", &[]);
    }

    /// Checks which bytes of `key` an error points at, and words of its text.
    #[track_caller]
    fn check_refused(key: &str, at: &str, what: &str) {
        let error = Pattern::parse(key).expect_err(key);
        assert_eq!(&key[error.at.clone()], at, "{key}: {error}");
        assert!(error.what.contains(what), "{key}: {error}");
    }

    #[test]
    fn a_key_without_a_path_is_refused() {
        check_refused("", "", "the path is missing");
        check_refused("example.com", "example.com", "write `example.com/`");
        check_refused("GET ", "GET ", "the path is missing");
        check_refused("http://example.com/x", "http://", "write `example.com/x`");
    }

    #[test]
    fn a_method_is_a_token_in_upper_case() {
        check_refused("get /", "get", "`GET`");
        check_refused(" /", " ", "not with a space");
        check_refused("G@T /", "G@T", "not a method");
        check_refused("ANY /", "ANY", "leave the method out");
        check_refused("* /", "*", "leave the method out");
        check_refused("GET  /", " ", "one space");
        check_refused("GET a.test /", " ", "one space");
    }

    #[test]
    fn a_host_is_a_name_without_a_port() {
        check_refused("a.test:80/", ":80", "`on`");
        check_refused("GET [::1]:80/", ":80", "`on`");
        check_refused("[::1/", "[::1", "`]`");
        check_refused("[::g]/", "[::g]", "IPv6");
        check_refused("[::1]x/", "[::1]x", "IPv6");
        check_refused("*/", "*", "leave the host out");
        check_refused("a.*.test/", "a.*.test", "`*.example.com`");
        check_refused("*x.test/", "*x.test", "`*.example.com`");
        check_refused("a..test/", "a..test", "not a host");
        check_refused("*./", "*.", "`*.example.com`");
        check_refused(".test/", ".test", "not a host");
        check_refused("a b.test/", "a", "upper case");
        check_refused("münchen.test/", "münchen.test", "Punycode");
        check_refused(&format!("{}.test/", "a".repeat(64)), &format!("{}.test", "a".repeat(64)), "63");
        check_refused(&format!("{}test/", "a.".repeat(126)), &format!("{}test", "a.".repeat(126)), "253");
    }

    #[test]
    fn a_variable_is_a_whole_segment_with_a_name_of_its_own() {
        check_refused("/x-{id}", "x-{id}", "whole segment");
        check_refused("/{id}.json", "{id}.json", "whole segment");
        check_refused("/{id", "{id", "whole segment");
        check_refused("/id}", "id}", "whole segment");
        check_refused("/{}", "{}", "not a name");
        check_refused("/{a}{b}", "{a}{b}", "not a name");
        check_refused("/{9}", "{9}", "not a name");
        check_refused("/{a-b}", "{a-b}", "not a name");
        check_refused("/{...}", "{...}", "no name");
        check_refused("/{rest...}/x", "{rest...}", "at the end");
        check_refused("/{rest...}/", "{rest...}", "at the end");
        check_refused("/{$}/x", "{$}", "at the end");
        check_refused("/{jwt}", "{jwt}", "another name");
        check_refused("/a/{x}/{x}", "/a/{x}/{x}", "two variables");
        check_refused("GET /{x}/{x...}", "/{x}/{x...}", "two variables");
    }

    #[test]
    fn a_literal_is_spelled_as_in_a_normalised_path() {
        check_refused("/a/../b", "..", "dot segments");
        check_refused("/.", ".", "dot segments");
        check_refused("//a", "//", "write one");
        check_refused("/a//", "//", "write one");
        check_refused("/%61dmin", "%61", "write `a`");
        check_refused("/a%2e", "%2e", "write `.`");
        check_refused("/a%3a", "%3a", "write `%3A`");
        check_refused("/a%00", "%00", "NUL");
        check_refused("/a%", "%", "`%25`");
        check_refused("/a%4", "%", "`%25`");
        check_refused("/a%é", "%", "`%25`");
        check_refused("/a b", " ", "`%20`");
        check_refused("/café", "é", "`%C3%A9`");
        check_refused("/a\\b", "\\", "refused");
        check_refused("/a?b=c", "?b=c", "query");
        check_refused("/a#b", "#b", "fragment");
    }

    #[test]
    fn wildcards_of_other_routers_are_refused() {
        check_refused("/static/*", "*", "end the path with `/`");
        check_refused("/static/**", "**", "end the path with `/`");
        check_refused("/users/:id", ":id", "`{id}`");
    }

    #[test]
    fn segments_and_variables_are_bounded() {
        let variables = |count: usize| (0..count).map(|n| format!("/{{v{n}}}")).collect::<String>();
        assert!(Pattern::parse(&variables(16)).is_ok());
        assert!(Pattern::parse(&variables(17)).unwrap_err().what.contains("16 variables"));
        assert!(Pattern::parse(&"/a".repeat(64)).is_ok());
        assert!(Pattern::parse(&format!("{}/{{$}}", "/a".repeat(64))).is_ok());
        assert!(Pattern::parse(&format!("{}/{{r...}}", "/a".repeat(64))).is_ok());
        assert!(Pattern::parse(&"/a".repeat(65)).unwrap_err().what.contains("64 segments"));
    }
}
