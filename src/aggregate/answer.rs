//! A service's answer to one call: checked, and in one piece.

use std::io::Read;

use flate2::read::{DeflateDecoder, GzDecoder, ZlibDecoder};

use super::{fault::PartFault, room::Room};
use crate::{
    http::{Field, Known},
    json::{self, Document, Kind, Members, Span},
    runtime::Buffer,
    upstream::NoBody,
};

pub(super) struct Answer {
    pub body: Bytes,
    pub document: Document,
    /// The members of the document, where the root will want them.
    pub members: Option<Members>,
    /// There was no body: `null`, which is nothing where members are wanted.
    pub is_empty: bool,
}

/// Where a body lies.
pub(super) enum Bytes {
    /// As it was received.
    Buffer(Buffer),
    Own(Vec<u8>),
}

impl Bytes {
    pub(super) fn get(&self) -> &[u8] {
        match self {
            Self::Buffer(buffer) => buffer.unread(),
            Self::Own(bytes) => bytes,
        }
    }
}

/// How a body is encoded (RFC 9110 §8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Deflate,
    Unknown,
}

/// What the head of a response says about its encoding.
pub(super) fn encoding(fields: &[Field], bytes: &[u8]) -> Encoding {
    let mut encoding = Encoding::Identity;
    for field in fields.iter().filter(|field| field.known == Known::ContentEncoding) {
        for name in crate::http::headers::list(field.value.of(bytes)) {
            encoding = match (encoding, name) {
                (encoding, name) if name.eq_ignore_ascii_case(b"identity") => encoding,
                (Encoding::Identity, name)
                    if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") =>
                {
                    Encoding::Gzip
                }
                (Encoding::Identity, name) if name.eq_ignore_ascii_case(b"deflate") => Encoding::Deflate,
                _ => Encoding::Unknown,
            };
        }
    }
    encoding
}

impl Answer {
    /// Checks a body. `for_root` notes its members.
    pub(super) fn new(
        body: Buffer,
        encoding: Encoding,
        bytes_max: usize,
        for_root: bool,
        room: &Room,
    ) -> Result<Self, (PartFault, Buffer)> {
        let decoded = match encoding {
            _ if body.is_empty() => Ok(None),
            Encoding::Identity => Ok(None),
            Encoding::Gzip => decode(GzDecoder::new(body.unread()), bytes_max).map(Some),
            // RFC 9110 §8.4.1.2: meant is zlib, sent is sometimes bare deflate.
            Encoding::Deflate => decode(ZlibDecoder::new(body.unread()), bytes_max)
                .or_else(|_| decode(DeflateDecoder::new(body.unread()), bytes_max))
                .map(Some),
            Encoding::Unknown => Err(PartFault::Encoding),
        };
        match decoded {
            Ok(Some(bytes)) => Self::checked(Bytes::Own(bytes), for_root, room).map_err(|why| (why, body)),
            Ok(None) => {
                Self::checked(Bytes::Buffer(body), for_root, room).map_err(|why| (why, Buffer::default()))
            }
            Err(why) => Err((why, body)),
        }
    }

    /// `null`.
    fn empty() -> Self {
        let document = Document { kind: Kind::Null, span: Span { start: 0, end: 4 } };
        Self { body: Bytes::Own(b"null".to_vec()), document, members: None, is_empty: true }
    }

    fn checked(body: Bytes, for_root: bool, room: &Room) -> Result<Self, PartFault> {
        if body.get().is_empty() {
            return Ok(Self::empty());
        }
        if !for_root {
            let document = json::check(body.get()).map_err(PartFault::Json)?;
            return Ok(Self { body, document, members: None, is_empty: false });
        }
        let mut members = room.members();
        match json::scan(body.get(), &mut members) {
            Ok(document) => Ok(Self { body, document, members: Some(members), is_empty: false }),
            Err(bad) => {
                room.give_back(members);
                Err(PartFault::Json(bad))
            }
        }
    }
}

fn decode(decoder: impl Read, bytes_max: usize) -> Result<Vec<u8>, PartFault> {
    let mut out = Vec::new();
    let bound = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(bound).read_to_end(&mut out).map_err(|_| PartFault::Encoding)?;
    if out.len() > bytes_max { Err(PartFault::Body(NoBody::TooLarge)) } else { Ok(out) }
}
