//! Steps through a value that was checked: what lies where, without building anything.
//!
//! On bytes that are not JSON these return places within the body that mean nothing, or end early.

use super::members::{Span, is_space};

/// A member as it lies in the body; the key is between the quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Span,
    pub value: Span,
}

/// The members of the object at `object`, in order.
pub fn entries(body: &[u8], object: Span) -> impl Iterator<Item = Entry> {
    let mut at = inside(body, object, b'{');
    std::iter::from_fn(move || {
        let start = skip_space(body, at?);
        let key_end = string_end(body, start)?;
        let colon = skip_space(body, key_end);
        let value = value(body, skip_space(body, colon + 1))?;
        at = after_comma(body, value);
        Some(Entry { key: Span::new(start + 1, key_end - 1), value })
    })
}

/// The elements of the array at `array`, in order.
pub fn elements(body: &[u8], array: Span) -> impl Iterator<Item = Span> {
    let mut at = inside(body, array, b'[');
    std::iter::from_fn(move || {
        let value = value(body, skip_space(body, at?))?;
        at = after_comma(body, value);
        Some(value)
    })
}

/// After the opening bracket. `None` if the first byte is another one.
fn inside(body: &[u8], container: Span, bracket: u8) -> Option<usize> {
    (container.of(body).first() == Some(&bracket)).then_some(container.start as usize + 1)
}

fn after_comma(body: &[u8], value: Span) -> Option<usize> {
    let at = skip_space(body, value.end as usize);
    (body.get(at) == Some(&b',')).then_some(at + 1)
}

fn skip_space(body: &[u8], at: usize) -> usize {
    let rest = body.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|&&byte| is_space(byte)).count()
}

/// The value that begins at `start`.
fn value(body: &[u8], start: usize) -> Option<Span> {
    let end = match body.get(start)? {
        b'"' => string_end(body, start)?,
        b'{' | b'[' => container_end(body, start)?,
        b',' | b':' | b'}' | b']' => return None,
        _ => {
            let is_end = |byte: &u8| matches!(byte, b',' | b'}' | b']') || is_space(*byte);
            body[start..].iter().position(is_end).map_or(body.len(), |length| start + length)
        }
    };
    Some(Span::new(start, end))
}

/// After the closing quote of the string that begins at `start`.
fn string_end(body: &[u8], start: usize) -> Option<usize> {
    if body.get(start) != Some(&b'"') {
        return None;
    }
    let mut at = start + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', body.get(at..)?)?;
        if body[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// After the bracket that closes the container that begins at `start`.
fn container_end(body: &[u8], start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = start;
    loop {
        match body.get(at)? {
            b'"' => {
                at = string_end(body, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}
