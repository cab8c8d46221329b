//! Response heads (RFC 9112 §4), as services send them.

use std::mem::MaybeUninit;

use super::{
    fields::{Options, gather, read_connection},
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
    scan::check_room(window, 0, before, rules).map_err(|why| match why {
        BadHead::TargetTooLong => BadHead::LineTooLong,
        other => other,
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

    let gathered = gather(window, parsed.headers, rules, fields)?;
    let (body, trust) =
        framing::response_body(request_method, status, version, gathered.codings, gathered.lengths)?;
    let said = match gathered.has_connection {
        true => read_connection(window, fields)?,
        false => Options::default(),
    };

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
