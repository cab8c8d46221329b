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
