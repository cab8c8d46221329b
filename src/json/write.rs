//! Strings with and without their escapes (RFC 8259 §7).

/// Appends `text` as it is written between quotes: `"`, `\` and control characters are escaped, nothing else.
pub fn escape(text: &str, out: &mut Vec<u8>) {
    for &byte in text.as_bytes() {
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x00..=0x1f => {
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(DIGITS[usize::from(byte >> 4)]);
                out.push(DIGITS[usize::from(byte & 15)]);
                continue;
            }
            _ => {
                out.push(byte);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
    }
}

/// Appends `"text"`.
pub fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escape(text, out);
    out.push(b'"');
}

/// Appends `"name":`.
pub fn key(name: &str, out: &mut Vec<u8>) {
    string(name, out);
    out.push(b':');
}

/// Appends what the inside of a string stands for, in UTF-8. `written` is from a body that was checked; elsewhere,
/// what is no escape is left as it is.
pub fn unescape(written: &[u8], out: &mut Vec<u8>) {
    let mut rest = written;
    while let Some(found) = memchr::memchr(b'\\', rest) {
        out.extend_from_slice(&rest[..found]);
        let (char, length) = escaped_char(&rest[found..]);
        out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
        rest = &rest[found + length..];
    }
    out.extend_from_slice(rest);
}

/// Whether two names stand for the same text, whatever their escapes.
pub fn same_name(a: &[u8], b: &[u8]) -> bool {
    a == b || ((has_escapes(a) || has_escapes(b)) && unescaped(a).eq(unescaped(b)))
}

/// Whether a written name stands for `plain`.
pub fn is_name(written: &[u8], plain: &[u8]) -> bool {
    if has_escapes(written) { unescaped(written).eq(plain.iter().copied()) } else { written == plain }
}

/// Whether a written name has to be unescaped before it is compared. Names are short: a plain loop beats `memchr`.
pub fn has_escapes(written: &[u8]) -> bool {
    written.iter().fold(false, |any, &byte| any | (byte == b'\\'))
}

/// The bytes of [`unescape`], one by one.
fn unescaped(mut rest: &[u8]) -> impl Iterator<Item = u8> {
    let mut room = [0; 4];
    let mut left = 0..0;
    std::iter::from_fn(move || {
        if let Some(index) = left.next() {
            return Some(room[index]);
        }
        let (&first, after) = rest.split_first()?;
        if first != b'\\' {
            rest = after;
            return Some(first);
        }
        let (char, length) = escaped_char(rest);
        rest = &rest[length..];
        left = 1..char.encode_utf8(&mut room).len();
        Some(room[0])
    })
}

/// The character of the escape that `written` begins with, and the bytes it takes.
fn escaped_char(written: &[u8]) -> (char, usize) {
    let simple = match written.get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(&same @ (b'"' | b'\\' | b'/')) => char::from(same),
        Some(b'u') => return unicode_char(written).unwrap_or(('\\', 1)),
        Some(_) | None => return ('\\', 1),
    };
    (simple, 2)
}

fn unicode_char(written: &[u8]) -> Option<(char, usize)> {
    let high = code_unit(written)?;
    if let Some(char) = char::from_u32(high) {
        return Some((char, 6));
    }
    let low = code_unit(written.get(6..)?)?;
    if !(0xd800..0xdc00).contains(&high) || !(0xdc00..0xe000).contains(&low) {
        return None;
    }
    let code = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
    Some((char::from_u32(code)?, 12))
}

/// The number of a `\uXXXX` that `written` begins with.
pub(super) fn code_unit(written: &[u8]) -> Option<u32> {
    let digits = written.strip_prefix(b"\\u")?.get(..4)?;
    digits.iter().try_fold(0, |all, &digit| Some(all * 16 + char::from(digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `text` is written so, and read back.
    #[track_caller]
    fn check(text: &str, expected: &str) {
        let mut written = Vec::new();
        escape(text, &mut written);
        assert_eq!(String::from_utf8_lossy(&written), expected);
        let mut read = Vec::new();
        unescape(&written, &mut read);
        assert_eq!(read, text.as_bytes());
        assert!(is_name(&written, text.as_bytes()));
        assert_eq!(serde_json::to_string(text).ok(), Some(format!("\"{expected}\"")));
    }

    #[track_caller]
    fn check_unescaped(written: &str, expected: &str) {
        let mut read = Vec::new();
        unescape(written.as_bytes(), &mut read);
        assert_eq!(read, expected.as_bytes());
        assert!(is_name(written.as_bytes(), expected.as_bytes()));
        assert!(same_name(written.as_bytes(), written.as_bytes()));
    }

    #[test]
    fn only_what_must_be_escaped_is() {
        check("a/b'<é€😀\u{7f}>", "a/b'<é€😀\u{7f}>");
        check("\"\\", r#"\"\\"#);
        check("\u{8}\u{c}\n\r\t", r"\b\f\n\r\t");
        check("\0\u{1}\u{1f}", r"\u0000\u0001\u001f");
        check("", "");
    }

    #[test]
    fn every_escape_is_undone() {
        check_unescaped(r#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{c}\n\r\t");
        check_unescaped(r"\u0061\u00E9\u20ac\uD83D\uDE00x", "aé€😀x");
    }

    #[test]
    fn names_are_compared_without_their_escapes() {
        assert!(same_name(br"\u0061\/", b"a/"));
        assert!(same_name(br"\ud83d\ude00", "😀".as_bytes()));
        assert!(same_name(br"\u0061", br"\u0061"));
        assert!(!same_name(br"\u0061", b"b"));
        assert!(!same_name(br"\\u0061", b"a"));
        assert!(!same_name(br"\u0061", b"ab"));
        assert!(!is_name(br"a\n", b"an"));
    }

    #[test]
    fn what_is_no_escape_stays_as_it_is() {
        for written in [r"\", r"\x", r"\u12", r"\ud800", r"\udc00", r"\ud800A"] {
            check_unescaped(written, written);
        }
    }
}
