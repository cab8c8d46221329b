//! Request heads (RFC 9112 §2–§3).

use std::mem::MaybeUninit;

use super::{
    fields::{Options, gather, read_connection},
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
    let gathered = gather(window, parsed.headers, rules, fields)?;
    let host = check_host(base, version, target, gathered.hosts)?;
    let body = framing::request_body(version, gathered.codings, gathered.lengths)?;
    let said = match gathered.has_connection {
        true => read_connection(window, fields)?,
        false => Options::default(),
    };

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
fn check_host(base: usize, version: Version, target: Target, hosts: Values<'_>) -> Result<Span, BadHead> {
    let host = match hosts {
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
