//! Values as text in a log line: escapes and numbers.

use std::io::Write;

/// Whether no format escapes any of it. Looks at every byte, so that the compiler can look at 16 at once.
fn is_plain(bytes: &[u8]) -> bool {
    let is_odd = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (byte >= 0x7F);
    !bytes.iter().fold(false, |odd, &byte| odd | is_odd(byte))
}

/// As nginx's `escape=default`: `"`, `\`, controls and everything from 0x7F as `\xXX`; `-` for what is not there.
pub(super) fn escaped(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let Some(bytes) = bytes else { return out.push(b'-') };
    if is_plain(bytes) {
        return out.extend_from_slice(bytes);
    }
    let mut rest = bytes;
    while let Some(plain) = rest.iter().position(|byte| matches!(byte, ..0x20 | b'"' | b'\\' | 0x7F..)) {
        out.extend_from_slice(&rest[..plain]);
        let byte = usize::from(rest[plain]);
        out.extend_from_slice(&[b'\\', b'x', DIGITS[byte >> 4], DIGITS[byte & 15]]);
        rest = &rest[plain + 1..];
    }
    out.extend_from_slice(rest);
}

/// A JSON string (RFC 8259 §7), or `null`. Bytes that are not UTF-8 become U+FFFD, since JSON text is UTF-8 (§8.1).
pub(super) fn json_string(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(bytes) = bytes else { return out.extend_from_slice(b"null") };
    out.push(b'"');
    if is_plain(bytes) {
        out.extend_from_slice(bytes);
        return out.push(b'"');
    }
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid().as_bytes();
        while let Some(plain) = rest.iter().position(|byte| matches!(byte, ..0x20 | b'"' | b'\\')) {
            out.extend_from_slice(&rest[..plain]);
            match rest[plain] {
                byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
                byte => write!(out, "\\u{byte:04x}").expect("a Vec takes all"),
            }
            rest = &rest[plain + 1..];
        }
        out.extend_from_slice(rest);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
    out.push(b'"');
}

pub(super) fn number(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(value % 10).expect("a digit");
        value /= 10;
        if value == 0 {
            return out.extend_from_slice(&digits[start..]);
        }
    }
}

/// Always three digits, as nginx.
pub(super) fn status(status: u16, out: &mut Vec<u8>) {
    if status < 100 {
        out.extend_from_slice(if status < 10 { b"00" } else { b"0" });
    }
    number(u64::from(status), out);
}

/// Seconds with three decimals, nginx's resolution.
pub(super) fn milliseconds(time_us: u64, out: &mut Vec<u8>) {
    number(time_us / 1_000_000, out);
    fraction(time_us, out);
}

/// `.123`
pub(super) fn fraction(time_us: u64, out: &mut Vec<u8>) {
    out.push(b'.');
    status(u16::try_from(time_us / 1000 % 1000).expect("below 1000"), out);
}

/// Seconds with six decimals.
pub(super) fn microseconds(time_us: u64, out: &mut Vec<u8>) {
    milliseconds(time_us, out);
    status(u16::try_from(time_us % 1000).expect("below 1000"), out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(write: impl Fn(&mut Vec<u8>), expected: &str) {
        let mut out = Vec::new();
        write(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn numbers_have_the_digits_nginx_gives_them() {
        check(|out| number(0, out), "0");
        check(|out| number(u64::MAX, out), "18446744073709551615");
        check(|out| status(0, out), "000");
        check(|out| status(99, out), "099");
        check(|out| status(404, out), "404");
        check(|out| milliseconds(1_001_999, out), "1.001");
        check(|out| microseconds(1_000_009, out), "1.000009");
    }

    #[test]
    fn every_byte_nginx_escapes_is_escaped() {
        for byte in 0..=255_u8 {
            let odd = !matches!(byte, 0x20..0x7F) || byte == b'"' || byte == b'\\';
            let expected = if odd { format!("a\\x{byte:02X}") } else { format!("a{}", char::from(byte)) };
            check(|out| escaped(Some(&[b'a', byte]), out), &expected);
        }
        check(|out| escaped(None, out), "-");
    }

    #[test]
    fn a_json_string_reads_back_as_it_was() {
        for text in ["", "plain", "\"\\/\u{8}\n\u{1f}\u{7f}", "ä€😀", "\u{2028}"] {
            let mut out = Vec::new();
            json_string(Some(text.as_bytes()), &mut out);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
        check(|out| json_string(Some(b"a\xFFb\xC3"), out), "\"a\u{FFFD}b\u{FFFD}\"");
        check(|out| json_string(None, out), "null");
    }
}
