//! What requests and responses have in common: turning parsed lines into [`Field`]s and reading `Connection`.

use super::{
    framing::Values,
    head::{BadHead, CONNECTION_OPTIONS_MAX, Field, Rules, Span},
    headers,
    known::{Known, classify_in},
};

/// What the fields of one head say that the head itself needs.
#[derive(Default)]
pub(super) struct Gathered<'b> {
    pub(super) codings: Values<'b>,
    pub(super) lengths: Values<'b>,
    pub(super) hosts: Values<'b>,
    pub(super) upgrades: Values<'b>,
    pub(super) expect_continue: bool,
    pub(super) connections: Values<'b>,
}

/// Fills `fields` from what `httparse` found in `window`, and checks what it does not: line ends and lengths.
///
/// `gathered` is an argument because returning it beside an error costs 10 ns in copies.
pub(super) fn gather<'b>(
    window: &'b [u8],
    parsed: &[httparse::Header<'b>],
    rules: &Rules,
    fields: &mut Vec<Field>,
    gathered: &mut Gathered<'b>,
) -> Result<(), BadHead> {
    let base = window.as_ptr().addr();
    fields.reserve(parsed.len());

    for line in parsed {
        let name = Span::within(base, line.name.as_bytes());
        let value = Span::within(base, line.value);
        check_line(window, name, value, rules)?;

        let known = classify_in(window, name);
        #[expect(clippy::wildcard_enum_match_arm, reason = "most fields say nothing about their head")]
        match known {
            Known::Host => gathered.hosts.add(line.value),
            Known::ContentLength => gathered.lengths.add(line.value),
            Known::TransferEncoding => gathered.codings.add(line.value),
            Known::Upgrade => gathered.upgrades.add(line.value),
            Known::Connection => gathered.connections.add(line.value),
            Known::Expect => gathered.expect_continue |= line.value.eq_ignore_ascii_case(b"100-continue"),
            _ => {}
        }
        fields.push(Field { name, value, known, hop: known.is_hop() });
    }
    Ok(())
}

/// `httparse` takes a bare LF for a line end and knows no line length.
#[inline]
fn check_line(window: &[u8], name: Span, value: Span, rules: &Rules) -> Result<(), BadHead> {
    let mut end = value.end();
    while matches!(window.get(end), Some(b' ' | b'\t')) {
        end += 1;
    }
    if window.get(end) != Some(&b'\r') && !rules.lenient {
        return Err(BadHead::BareLf);
    }
    if end - usize::from(name.start) > rules.line_bytes_max {
        return Err(BadHead::LineTooLong);
    }
    Ok(())
}

/// What `Connection` says about the connection itself.
#[derive(Default)]
pub(super) struct Options {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
    pub(super) upgrade: bool,
}

/// Reads every `Connection` field and marks the fields it names as hop-by-hop (RFC 9110 §7.6.1).
///
/// An option that names a field we know removes nothing: either that field is hop-by-hop anyway, or it is meant for
/// the recipient and the option is invalid ("MUST NOT send a connection option corresponding to a field that is
/// intended for all recipients"). Obeying it would let a client strip `Authorization` or `X-Forwarded-For` that a
/// proxy before us added.
#[inline]
pub(super) fn read_connection(
    connections: &Values<'_>,
    window: &[u8],
    fields: &mut [Field],
) -> Result<Options, BadHead> {
    let nothing = Options::default();
    match *connections {
        Values::None => Ok(nothing),
        // Nearly all there are.
        Values::One(value) if value.eq_ignore_ascii_case(b"keep-alive") => {
            Ok(Options { keep_alive: true, ..nothing })
        }
        Values::One(value) if value.eq_ignore_ascii_case(b"close") => Ok(Options { close: true, ..nothing }),
        Values::One(_) | Values::Several => read_options(window, fields),
    }
}

fn read_options(window: &[u8], fields: &mut [Field]) -> Result<Options, BadHead> {
    let mut said = Options::default();
    let mut others = 0;
    for index in 0..fields.len() {
        if fields[index].known != Known::Connection {
            continue;
        }
        for option in headers::list(fields[index].value.of(window)) {
            if option.eq_ignore_ascii_case(b"close") {
                said.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                said.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                said.upgrade = true;
            } else {
                // Each costs a walk over all fields.
                others += 1;
                if others > CONNECTION_OPTIONS_MAX {
                    return Err(BadHead::TooManyOptions);
                }
                mark(window, fields, option);
            }
        }
    }
    Ok(said)
}

fn mark(window: &[u8], fields: &mut [Field], name: &[u8]) {
    for field in fields.iter_mut().filter(|field| field.known == Known::Other) {
        field.hop |= field.name.of(window).eq_ignore_ascii_case(name);
    }
}
