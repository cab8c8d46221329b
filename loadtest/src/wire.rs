//! Where an HTTP/1.1 message starts and ends, for both sides of the load tester.
//!
//! Just enough of RFC 9112 to count messages and to notice a broken one. It trusts its peer more than a gateway may:
//! the peer is the server under test or our own generator.

use memchr::memchr;

/// Bytes a head may take before it counts as malformed.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;

/// The message is not HTTP/1.1 as we understand it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// What a complete head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the head, with its empty line.
    pub bytes: usize,
    /// The status of a response, 0 for a request.
    pub status: u16,
    pub body: Body,
    /// The sender closes the connection after this message.
    pub close: bool,
}

/// What is still to come of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    Bytes(u64),
    Chunks(Chunks),
    UntilClose,
}

impl Body {
    /// Takes what belongs to the body from the start of `bytes`; returns how many bytes that is. What follows belongs
    /// to the next message. `content` sees the content in pieces, without the framing.
    pub fn take(&mut self, bytes: &[u8], mut content: impl FnMut(&[u8])) -> Result<usize, Malformed> {
        match self {
            Self::Bytes(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                content(&bytes[..taken]);
                Ok(taken)
            }
            Self::Chunks(chunks) => chunks.take(bytes, content),
            Self::UntilClose => {
                content(bytes);
                Ok(bytes.len())
            }
        }
    }

    /// Whether nothing more is to come.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Bytes(left) => *left == 0,
            Self::Chunks(chunks) => chunks.step == Step::Done,
            Self::UntilClose => false,
        }
    }
}

/// A place inside a chunked body (RFC 9112 §7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunks {
    step: Step,
    /// Bytes left of this chunk's data, or its size as far as it was read.
    left: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The first digit of a size: there must be one.
    Start,
    Size,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    End,
    Done,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { step: Step::Start, left: 0 }
    }
}

impl Chunks {
    fn take(&mut self, bytes: &[u8], mut content: impl FnMut(&[u8])) -> Result<usize, Malformed> {
        let mut at = 0;
        while at < bytes.len() && self.step != Step::Done {
            let byte = bytes[at];
            match (self.step, byte) {
                (Step::Size, b'\r') => self.step = Step::SizeEnd,
                (Step::Size, b';' | b' ') => self.step = Step::Extension,
                (Step::Start | Step::Size, _) => {
                    let digit = char::from(byte).to_digit(16).ok_or(Malformed)?;
                    self.left = self.left.checked_mul(16).ok_or(Malformed)? + u64::from(digit);
                    self.step = Step::Size;
                }
                (Step::Extension, b'\r') => self.step = Step::SizeEnd,
                (Step::Extension | Step::Trailer, b'\n') => return Err(Malformed),
                (Step::Extension, _) => {}
                (Step::SizeEnd, b'\n') if self.left == 0 => self.step = Step::TrailerStart,
                (Step::SizeEnd, b'\n') => self.step = Step::Data,
                (Step::Data, _) => {
                    let taken = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    self.left -= taken as u64;
                    content(&bytes[at..at + taken]);
                    at += taken;
                    if self.left == 0 {
                        self.step = Step::DataCr;
                    }
                    continue;
                }
                (Step::DataCr, b'\r') => self.step = Step::DataLf,
                (Step::DataLf, b'\n') => self.step = Step::Start,
                (Step::TrailerStart, b'\r') => self.step = Step::End,
                (Step::Trailer, b'\r') => {
                    // The line's LF leads back to the start of the next trailer line.
                    self.step = Step::SizeEnd;
                    self.left = 0;
                }
                (Step::TrailerStart | Step::Trailer, _) => self.step = Step::Trailer,
                (Step::End, b'\n') => self.step = Step::Done,
                (Step::SizeEnd | Step::DataCr | Step::DataLf | Step::End | Step::Done, _) => {
                    return Err(Malformed);
                }
            }
            at += 1;
        }
        Ok(at)
    }
}

/// The head of a response at the start of `bytes`; `None` while it is incomplete.
///
/// `to_head`: it answers a HEAD request and so has no body (RFC 9112 §6.3 rule 1).
pub fn response(bytes: &[u8], to_head: bool) -> Result<Option<Head>, Malformed> {
    let Some(fields) = fields(bytes)? else { return Ok(None) };
    // The shortest: `HTTP/1.1 200` and two line ends.
    if fields.end < 16 || !bytes.starts_with(b"HTTP/1.") {
        return Err(Malformed);
    }
    let mut status = 0;
    for &digit in &bytes[9..12] {
        if !digit.is_ascii_digit() {
            return Err(Malformed);
        }
        status = status * 10 + u16::from(digit - b'0');
    }
    let bodiless = to_head || matches!(status, 100..=199 | 204 | 304);
    let body = match fields.body {
        _ if bodiless => Body::Bytes(0),
        Some(body) => body,
        None => Body::UntilClose,
    };
    let close = fields.close || bytes[7] == b'0' || body == Body::UntilClose;
    Ok(Some(Head { bytes: fields.end, status, body, close }))
}

/// The head of a request at the start of `bytes`; `None` while it is incomplete.
pub fn request(bytes: &[u8]) -> Result<Option<Head>, Malformed> {
    let Some(fields) = fields(bytes)? else { return Ok(None) };
    let body = fields.body.unwrap_or(Body::Bytes(0));
    Ok(Some(Head { bytes: fields.end, status: 0, body, close: fields.close }))
}

/// What a head says besides its first line.
struct Fields {
    /// Bytes of the head, with its empty line.
    end: usize,
    body: Option<Body>,
    close: bool,
}

/// Reads the headers that matter here, and finds the end of the head, in one pass over its lines.
fn fields(bytes: &[u8]) -> Result<Option<Fields>, Malformed> {
    let mut found = Fields { end: 0, body: None, close: false };
    let Some(first) = memchr(b'\n', bytes) else { return too_long(bytes) };
    let mut at = first + 1;
    while let Some(length) = memchr(b'\n', &bytes[at..]) {
        let line = &bytes[at..at + length];
        at += length + 1;
        // The first letter decides for most lines.
        match line.first() {
            Some(b'\r') if length == 1 => {
                found.end = at;
                return Ok(Some(found));
            }
            Some(b'C' | b'c') => {
                if let Some(value) = value(line, b"content-length:") {
                    found.body.get_or_insert(Body::Bytes(number(value)?));
                } else if let Some(value) = value(line, b"connection:") {
                    found.close |= value.eq_ignore_ascii_case(b"close");
                }
            }
            Some(b'T' | b't') => {
                if value(line, b"transfer-encoding:")
                    .is_some_and(|value| value.eq_ignore_ascii_case(b"chunked"))
                {
                    found.body = Some(Body::Chunks(Chunks::default()));
                }
            }
            None => return Err(Malformed),
            Some(_) => {}
        }
    }
    too_long(bytes)
}

fn too_long(bytes: &[u8]) -> Result<Option<Fields>, Malformed> {
    if bytes.len() > HEAD_BYTES_MAX { Err(Malformed) } else { Ok(None) }
}

/// The value of `line` when its name, with the colon, is `name` (in lower case).
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then(|| rest.trim_ascii())
}

fn number(text: &[u8]) -> Result<u64, Malformed> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return Err(Malformed);
    }
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `message` in pieces of `piece` bytes; the status and content length, or how it broke.
    fn read(message: &[u8], piece: usize) -> Result<(u16, u64), Malformed> {
        let mut shown = 0;
        let head = loop {
            shown = (shown + piece).min(message.len());
            if let Some(head) = response(&message[..shown], false)? {
                break head;
            }
            assert!(shown < message.len(), "the head never ended");
        };
        let mut body = head.body;
        let mut length = 0;
        for part in message[head.bytes..].chunks(piece) {
            assert_eq!(
                body.take(part, |content| length += content.len() as u64)?,
                part.len(),
                "nothing follows the body"
            );
        }
        assert!(body.is_done());
        Ok((head.status, length))
    }

    fn check(message: &str, expected: Result<(u16, u64), Malformed>) {
        for piece in [1, 2, 3, 7, 1000] {
            assert_eq!(read(message.as_bytes(), piece), expected, "in pieces of {piece}: {message:?}");
        }
    }

    #[test]
    fn a_body_ends_where_its_head_says() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Ok((200, 5)));
        check("HTTP/1.1 404 Not Found\r\ncontent-length:0\r\n\r\n", Ok((404, 0)));
        check("HTTP/1.1 204 No Content\r\n\r\n", Ok((204, 0)));
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0a;x=y\r\n0123456789\r\n0\r\n\r\n",
            Ok((200, 13)),
        );
        check(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\nZ: w\r\n\r\n",
            Ok((200, 1)),
        );
    }

    #[test]
    fn what_is_not_http_is_malformed() {
        check("HTTP/2 200 OK and more\r\n\r\n", Err(Malformed));
        check("HTTP/1.1 2x0 OK\r\n\r\n", Err(Malformed));
        check("HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\nhello", Err(Malformed));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", Err(Malformed));
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc", Err(Malformed));
    }

    #[test]
    fn a_request_without_a_length_has_no_body() {
        let head = request(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET").unwrap().unwrap();
        assert_eq!((head.bytes, head.body), (27, Body::Bytes(0)));
    }
}
