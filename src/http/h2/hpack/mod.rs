//! Header compression (RFC 7541).

mod decode;
mod encode;
mod huffman;
mod statics;
mod table;

pub(super) use decode::{Decoded, Decoder};
pub(super) use encode::Encoder;

use crate::http::{Known, classify, headers::is_token_byte};

/// Bytes of our decoder's dynamic table: the initial value of SETTINGS_HEADER_TABLE_SIZE (RFC 9113 §6.5.2).
pub(super) const TABLE_BYTES: usize = 4096;

/// What a field's name says. Found once for an entry of a table, not at each use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pseudo(Pseudo),
    Field(Known),
    /// No token in lower case (RFC 9113 §8.2.1), or a pseudo-header that nobody knows.
    BadName,
    UnknownPseudo,
}

/// RFC 9113 §8.3, RFC 8441 §4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pseudo {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Status,
}

impl Kind {
    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            [b':', rest @ ..] => match rest {
                b"method" => Self::Pseudo(Pseudo::Method),
                b"scheme" => Self::Pseudo(Pseudo::Scheme),
                b"authority" => Self::Pseudo(Pseudo::Authority),
                b"path" => Self::Pseudo(Pseudo::Path),
                b"protocol" => Self::Pseudo(Pseudo::Protocol),
                b"status" => Self::Pseudo(Pseudo::Status),
                _ => Self::UnknownPseudo,
            },
            [] => Self::BadName,
            _ if name.iter().all(|byte| is_token_byte(*byte) && !byte.is_ascii_uppercase()) => {
                Self::Field(classify(name))
            }
            _ => Self::BadName,
        }
    }
}

/// Whether a value may stand in a message: no control byte but HTAB, no white space at an end (RFC 9113 §8.2.1).
fn is_clean(value: &[u8]) -> bool {
    let space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !has_control(value) && !space(value.first()) && !space(value.last())
}

/// Whether there is a control byte but HTAB.
#[inline]
pub(super) fn has_control(value: &[u8]) -> bool {
    // Without a way out of the loop, it is done with wide registers.
    value.iter().fold(false, |found, byte| found | (*byte < b' ' && *byte != b'\t') | (*byte == 127))
}
