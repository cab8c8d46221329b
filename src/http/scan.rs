//! How much of a head has arrived. Linear in the bytes, however they are cut.

use super::head::{BadHead, EMPTY_LINES_MAX, HEAD_BYTES_MAX, METHOD_BYTES_MAX, Rules};

/// Bytes of a request line besides the target: method, two spaces, version, CRLF.
const REQUEST_LINE_REST_MAX: usize = METHOD_BYTES_MAX + 2 + 8 + 2;

/// The offset of the first line, after the empty lines a client may have sent before it (RFC 9112 §2.2).
/// `None` = nothing but those so far.
#[inline]
pub(super) fn skip_empty_lines(bytes: &[u8], rules: &Rules) -> Result<Option<usize>, BadHead> {
    let mut start = 0;
    for _ in 0..=EMPTY_LINES_MAX {
        match bytes.get(start..).unwrap_or_default() {
            [] | [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] => start += 2,
            [b'\r', ..] => return Err(BadHead::BareCr),
            [b'\n', ..] if rules.lenient => start += 1,
            [b'\n', ..] => return Err(BadHead::BareLf),
            [..] => return Ok(Some(start)),
        }
    }
    Err(BadHead::Malformed)
}

/// The part of `bytes` a head that starts at `start` may take up.
#[inline]
pub(super) fn window<'b>(bytes: &'b [u8], start: usize, rules: &Rules) -> &'b [u8] {
    &bytes[..window_len(bytes.len(), start, rules)]
}

#[inline]
pub(super) fn window_len(len: usize, start: usize, rules: &Rules) -> usize {
    len.min(start.saturating_add(rules.head_bytes_max)).min(HEAD_BYTES_MAX)
}

/// Looks for the head's empty line in what came since `scanned`, which it moves on.
///
/// Returns the offset after the empty line. Fails at a bare LF unless `lenient`, so that a client that never sends
/// CRLF gets its answer at once and not when its time is up.
pub(super) fn find_end(
    window: &[u8],
    start: usize,
    scanned: &mut usize,
    rules: &Rules,
) -> Result<Option<usize>, BadHead> {
    let from = (*scanned).clamp(start, window.len());
    *scanned = window.len();
    for found in memchr::memchr_iter(b'\n', &window[from..]) {
        let lf = from + found;
        let line = &window[start..lf];
        let line = match line.strip_suffix(b"\r") {
            Some(line) => line,
            None if rules.lenient => line,
            None => return Err(BadHead::BareLf),
        };
        if line.last().is_none_or(|&before| before == b'\n') {
            *scanned = lf + 1;
            return Ok(Some(lf + 1));
        }
    }
    Ok(None)
}

/// Fails when an unfinished head is too long to become an acceptable one. `before` is how far it was looked at when
/// less of it was there.
pub(super) fn check_room(window: &[u8], start: usize, before: usize, rules: &Rules) -> Result<(), BadHead> {
    // Looked at only when the bytes pass this mark: a client that sends byte by byte does not make us search the line
    // again each time.
    let line_limit = rules.line_bytes_max.saturating_add(start + REQUEST_LINE_REST_MAX);
    if before < line_limit && line_limit <= window.len() && first_line_is_open(&window[start..line_limit]) {
        return Err(BadHead::TargetTooLong);
    }
    if window.len() == window_len(usize::MAX, start, rules) {
        let open = first_line_is_open(&window[start..]);
        return Err(if open { BadHead::TargetTooLong } else { BadHead::HeadTooLong });
    }
    Ok(())
}

fn first_line_is_open(bytes: &[u8]) -> bool {
    memchr::memchr(b'\n', bytes).is_none()
}

/// Whether the first control byte that has no place in a head is a CR: tells a bare CR from other bad bytes.
#[cold]
pub(super) fn has_bare_cr(head: &[u8]) -> bool {
    let mut rest = head.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        match byte {
            b'\r' if rest.peek() == Some(&b'\n') => {}
            b'\r' => return true,
            b'\t' | b'\n' => {}
            0..=31 | 127 => return false,
            _ => {}
        }
    }
    false
}
