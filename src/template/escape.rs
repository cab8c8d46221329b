//! Values from a request, written so that they cannot change the meaning of what surrounds them.

/// The surroundings of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// As it is: the value was checked for this place before, or is a body of plain text.
    None,
    /// Within one segment of a path: `/`, `?`, `#` and all that is no `pchar` (RFC 3986 §3.3) are percent-encoded,
    /// and so is a segment that would be `.` or `..` of itself.
    PathSegment,
    /// Within one value of a query: `&`, `=`, `+`, `#` too are percent-encoded.
    Query,
    /// Within a header field: bytes that would end it become spaces (RFC 9110 §5.5).
    HeaderValue,
    /// Within a JSON string (RFC 8259 §7). Bytes that are not UTF-8 become U+FFFD.
    Json,
}

impl Escape {
    /// Appends `value` to `out`.
    pub fn append(self, value: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::None => out.extend_from_slice(value),
            Self::PathSegment if value == b"." => out.extend_from_slice(b"%2E"),
            Self::PathSegment if value == b".." => out.extend_from_slice(b"%2E%2E"),
            Self::PathSegment => {
                percent(value, |byte| is_unreserved(byte) || b"!$&'()*+,;=:@".contains(&byte), out)
            }
            Self::Query => percent(value, |byte| is_unreserved(byte) || b"!$'()*,;:@/?".contains(&byte), out),
            Self::HeaderValue => out.extend(value.iter().map(|&byte| match byte {
                b'\t' => byte,
                0..0x20 | 0x7f => b' ',
                _ => byte,
            })),
            Self::Json => json(value, out),
        }
    }

    /// The same for a value that is percent-encoded already, such as a piece of the path: its escapes stay.
    pub fn append_encoded(self, value: &[u8], out: &mut Vec<u8>) {
        if !matches!(self, Self::PathSegment | Self::Query) {
            return self.append(value, out);
        }
        let mut rest = value;
        while let Some(at) = memchr::memchr(b'%', rest) {
            // A piece between escapes is no whole segment, so a lone dot in it means nothing.
            if at > 0 {
                self.append_piece(&rest[..at], value.len(), out);
            }
            let hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
            if hex(rest.get(at + 1)) && hex(rest.get(at + 2)) {
                out.extend_from_slice(&rest[at..at + 3]);
                rest = &rest[at + 3..];
            } else {
                out.extend_from_slice(b"%25");
                rest = &rest[at + 1..];
            }
        }
        self.append_piece(rest, value.len(), out);
    }

    fn append_piece(self, piece: &[u8], whole: usize, out: &mut Vec<u8>) {
        if piece.len() < whole && piece.iter().all(|&byte| byte == b'.') {
            out.extend_from_slice(piece);
        } else {
            self.append(piece, out);
        }
    }
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn percent(value: &[u8], stays: impl Fn(u8) -> bool, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in value {
        if stays(byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

fn json(value: &[u8], out: &mut Vec<u8>) {
    for chunk in value.utf8_chunks() {
        for &byte in chunk.valid().as_bytes() {
            match byte {
                b'"' => out.extend_from_slice(br#"\""#),
                b'\\' => out.extend_from_slice(br"\\"),
                b'\n' => out.extend_from_slice(br"\n"),
                b'\r' => out.extend_from_slice(br"\r"),
                b'\t' => out.extend_from_slice(br"\t"),
                0..0x20 => {
                    out.extend_from_slice(br"\u00");
                    out.extend_from_slice(&[b'0' + (byte >> 4), b"0123456789abcdef"[usize::from(byte & 15)]]);
                }
                _ => out.push(byte),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(escape: Escape, value: &[u8], expected: &str) {
        let mut out = Vec::new();
        escape.append(value, &mut out);
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }

    #[test]
    fn a_value_stays_within_its_path_segment() {
        check(Escape::PathSegment, b"a/b?c#d e%", "a%2Fb%3Fc%23d%20e%25");
        check(Escape::PathSegment, b"\r\n\0\x7f\xff\\", "%0D%0A%00%7F%FF%5C");
        check(Escape::PathSegment, b"a-b._~!$&'()*+,;=:@", "a-b._~!$&'()*+,;=:@");
        check(Escape::PathSegment, b"..", "%2E%2E");
        check(Escape::PathSegment, b".", "%2E");
        check(Escape::PathSegment, b"..a", "..a");
    }

    #[test]
    fn a_value_stays_within_its_query_value() {
        check(Escape::Query, b"a&b=c+d#e f%", "a%26b%3Dc%2Bd%23e%20f%25");
        check(Escape::Query, b"\r\n", "%0D%0A");
    }

    #[test]
    fn a_value_ends_no_header() {
        check(Escape::HeaderValue, b"a\r\nSet-Cookie: x\0\ty", "a  Set-Cookie: x \ty");
    }

    #[test]
    fn a_value_ends_no_json_string() {
        check(Escape::Json, b"\"\\\n\r\t\x01\x1f/", r#"\"\\\n\r\t\u0001\u001f/"#);
        check(Escape::Json, "aé".as_bytes(), "aé");
        check(Escape::Json, b"a\xffb", "a\u{fffd}b");
    }

    #[test]
    fn escapes_of_an_encoded_value_stay() {
        let check = |value: &[u8], expected: &str| {
            let mut out = Vec::new();
            Escape::PathSegment.append_encoded(value, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), expected);
        };
        check(b"a%2Fb/c", "a%2Fb%2Fc");
        check(b"100%", "100%25");
        check(b"%zz%4", "%25zz%254");
        check(b"..", "%2E%2E");
        check(b"a%20..", "a%20..");
    }
}
