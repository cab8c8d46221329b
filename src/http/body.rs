//! Bodies: what is data in the bytes that arrive, and where the message ends.

use std::{fmt, ops::Range};

use super::{chunked::Chunked, framing::BodyLength};

/// Room for the longest [`chunk_header`]: 16 digits and CRLF.
pub const CHUNK_HEADER_MAX: usize = 18;
/// Ends a chunked body that has no trailers.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Finds the data of one body in the bytes of a connection, piece by piece.
#[derive(Clone, Debug)]
pub struct Decoder(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Exact { left: u64 },
    Chunked(Chunked),
    UntilClose { ended: bool },
}

/// What [`Decoder::decode`] found.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Decoded {
    /// Where the data lies in the bytes given; empty when there was none.
    pub data: Range<usize>,
    /// How many of the bytes given are done with. `data` and `trailers` lie within.
    pub consumed: usize,
    /// The body ends here: what follows `consumed` belongs to the next message.
    pub finished: bool,
    /// The whole trailer section with its final CRLF, with the last piece of a chunked body. Two bytes = no trailers.
    pub trailers: Option<Range<usize>>,
}

/// Why a body cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadBody {
    /// Not one to sixteen hexadecimal digits.
    BadChunkSize,
    /// Not as RFC 9112 §7.1.1 has it.
    BadExtension,
    ExtensionsTooLong,
    /// A chunk's data is not followed by CRLF.
    BadChunkEnd,
    BadTrailers,
    TrailersTooLong,
    /// The connection ended first.
    Truncated,
}

impl Decoder {
    pub const fn new(length: BodyLength) -> Self {
        Self(match length {
            BodyLength::Exact(left) => Kind::Exact { left },
            BodyLength::Chunked => Kind::Chunked(Chunked::new()),
            BodyLength::UntilClose => Kind::UntilClose { ended: false },
        })
    }

    /// Finds the data in `bytes`, which follow what was consumed before. Never looks past the body's end.
    ///
    /// Data of several chunks is moved together within `bytes`, so that it is one range; that of one chunk stays where
    /// it is. Everything is consumed but a trailer section that is not complete: give those bytes again, with more
    /// behind them. It has at most [`TRAILER_BYTES_MAX`](super::chunked::TRAILER_BYTES_MAX) bytes. A decoder that has
    /// failed fails again.
    #[inline]
    pub fn decode(&mut self, bytes: &mut [u8]) -> Result<Decoded, BadBody> {
        match &mut self.0 {
            Kind::Exact { left } => {
                let len = usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= len as u64;
                Ok(Decoded { data: 0..len, consumed: len, finished: *left == 0, trailers: None })
            }
            Kind::Chunked(chunked) => chunked.decode(bytes),
            Kind::UntilClose { ended } => {
                Ok(Decoded { data: 0..bytes.len(), consumed: bytes.len(), finished: *ended, trailers: None })
            }
        }
    }

    /// What the end of the stream means: the end of a body that lasts until close, nothing after a finished one,
    /// and `Truncated` for any other.
    pub fn end_of_stream(&mut self) -> Result<(), BadBody> {
        if let Kind::UntilClose { ended } = &mut self.0 {
            *ended = true;
        }
        if self.is_finished() { Ok(()) } else { Err(BadBody::Truncated) }
    }

    pub fn is_finished(&self) -> bool {
        match &self.0 {
            Kind::Exact { left } => *left == 0,
            Kind::Chunked(chunked) => chunked.is_finished(),
            Kind::UntilClose { ended } => *ended,
        }
    }

    /// Data bytes known to be still to come: of the body, or of the current chunk. A body with more of them than is acceptable can
    /// be refused before they are sent.
    pub fn announced(&self) -> u64 {
        match &self.0 {
            Kind::Exact { left } => *left,
            Kind::Chunked(chunked) => chunked.announced(),
            Kind::UntilClose { .. } => 0,
        }
    }

    /// Data bytes still to come, where the head said how many there are.
    pub fn remaining(&self) -> Option<u64> {
        match &self.0 {
            Kind::Exact { left } => Some(*left),
            Kind::Chunked(_) | Kind::UntilClose { .. } => None,
        }
    }
}

/// Writes the line before a chunk of `len` data bytes (`1f4\r\n`) at the *end* of `out`, and returns its length: the
/// header is `out[CHUNK_HEADER_MAX - length..]`. CRLF must follow the data. A `len` of 0 would end the body:
/// [`LAST_CHUNK`] is for that.
pub fn chunk_header(len: usize, out: &mut [u8; CHUNK_HEADER_MAX]) -> usize {
    debug_assert!(len > 0, "a chunk of no bytes ends the body");
    let mut start = CHUNK_HEADER_MAX - 2;
    out[start..].copy_from_slice(b"\r\n");
    let mut rest = len;
    loop {
        start -= 1;
        out[start] = b"0123456789abcdef"[rest % 16];
        rest /= 16;
        if rest == 0 {
            return CHUNK_HEADER_MAX - start;
        }
    }
}

impl fmt::Display for BadBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadChunkSize => "a chunk size is malformed",
            Self::BadExtension => "a chunk extension is malformed",
            Self::ExtensionsTooLong => "chunk extensions are too long",
            Self::BadChunkEnd => "a chunk is longer than its size",
            Self::BadTrailers => "the trailer section is malformed",
            Self::TrailersTooLong => "the trailer section is too long",
            Self::Truncated => "the body ended early",
        })
    }
}

impl std::error::Error for BadBody {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_body_ends_by_itself() {
        let mut decoder = Decoder::new(BodyLength::Exact(5));
        let mut bytes = *b"abcGET";
        let part = decoder.decode(&mut bytes[..3]);
        assert_eq!(part, Ok(Decoded { data: 0..3, consumed: 3, finished: false, trailers: None }));
        assert_eq!((decoder.remaining(), decoder.end_of_stream()), (Some(2), Err(BadBody::Truncated)));
        let rest = decoder.decode(&mut bytes);
        assert_eq!(rest, Ok(Decoded { data: 0..2, consumed: 2, finished: true, trailers: None }));
        assert_eq!((decoder.is_finished(), decoder.end_of_stream()), (true, Ok(())));
        let after = decoder.decode(&mut bytes);
        assert_eq!(after, Ok(Decoded { data: 0..0, consumed: 0, finished: true, trailers: None }));
    }

    #[test]
    fn no_body_is_finished_from_the_start() {
        assert!(Decoder::new(BodyLength::Exact(0)).is_finished());
        assert!(!Decoder::new(BodyLength::Exact(u64::MAX)).is_finished());
        assert!(!Decoder::new(BodyLength::Chunked).is_finished());
    }

    #[test]
    fn a_body_until_close_ends_with_the_stream_only() {
        let mut decoder = Decoder::new(BodyLength::UntilClose);
        let part = decoder.decode(&mut b"abc".to_vec());
        assert_eq!(part, Ok(Decoded { data: 0..3, consumed: 3, finished: false, trailers: None }));
        assert!(!decoder.is_finished());
        assert_eq!((decoder.end_of_stream(), decoder.is_finished()), (Ok(()), true));
    }

    #[test]
    fn a_chunk_header_is_at_the_end_of_its_room() {
        for (len, expected) in [
            (1, "1\r\n"),
            (15, "f\r\n"),
            (16, "10\r\n"),
            (0x1f4, "1f4\r\n"),
            (usize::MAX, "ffffffffffffffff\r\n"),
        ] {
            let mut out = [0; CHUNK_HEADER_MAX];
            let count = chunk_header(len, &mut out);
            assert_eq!(str::from_utf8(&out[CHUNK_HEADER_MAX - count..]), Ok(expected));
        }
    }
}
