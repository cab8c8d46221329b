//! What a peer can do wrong: each has a name, a code and a sentence.

use std::fmt;

use super::frame::Code;

/// Why a connection ends. Its GOAWAY is in `out`. Each is worth a counter of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The first bytes are not the preface, or the first frame is not SETTINGS (RFC 9113 §3.4).
    Preface,
    /// Longer than [`super::FRAME_BYTES_MAX`], or not of the size its type has.
    FrameSize,
    /// A frame where it must not be: on the wrong stream, in the middle of a header block, on an idle stream.
    Misplaced,
    /// A stream identifier that is not new, or not the peer's to use (RFC 9113 §5.1.1).
    StreamId,
    /// DATA or a header block on a stream the peer has ended.
    StreamClosed,
    /// Bytes beyond a window, or a window beyond 2^31-1 (RFC 9113 §6.9).
    FlowControl,
    /// A window update of nothing for the connection (RFC 9113 §6.9).
    ZeroUpdate,
    /// A setting's value is not allowed (RFC 9113 §6.5.2).
    BadSetting,
    /// HPACK that cannot be decoded.
    Compression,
    /// PUSH_PROMISE, which we do not allow.
    Push,
    /// Padding that is longer than its frame.
    Padding,
    /// More than 8 CONTINUATION frames, an empty one, or a header block over 64 KiB.
    ContinuationFlood,
    /// Streams that end by reset, their own or provoked ones: over half of those opened, and faster than the bucket refills.
    ResetFlood,
    /// SETTINGS, PING, PRIORITY, WINDOW_UPDATE, unknown and empty frames faster than the bucket refills: the last of them.
    SettingsFlood,
    PingFlood,
    PriorityFlood,
    WindowUpdateFlood,
    UnknownFlood,
    EmptyDataFlood,
}

impl Fault {
    /// Every fault, for tables of counters.
    pub const ALL: [Self; 19] = [
        Self::Preface,
        Self::FrameSize,
        Self::Misplaced,
        Self::StreamId,
        Self::StreamClosed,
        Self::FlowControl,
        Self::ZeroUpdate,
        Self::BadSetting,
        Self::Compression,
        Self::Push,
        Self::Padding,
        Self::ContinuationFlood,
        Self::ResetFlood,
        Self::SettingsFlood,
        Self::PingFlood,
        Self::PriorityFlood,
        Self::WindowUpdateFlood,
        Self::UnknownFlood,
        Self::EmptyDataFlood,
    ];

    /// One word, for labels and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Preface => "preface",
            Self::FrameSize => "frame_size",
            Self::Misplaced => "misplaced_frame",
            Self::StreamId => "stream_id",
            Self::StreamClosed => "stream_closed",
            Self::FlowControl => "flow_control",
            Self::ZeroUpdate => "zero_update",
            Self::BadSetting => "bad_setting",
            Self::Compression => "compression",
            Self::Push => "push",
            Self::Padding => "padding",
            Self::ContinuationFlood => "continuation_flood",
            Self::ResetFlood => "reset_flood",
            Self::SettingsFlood => "settings_flood",
            Self::PingFlood => "ping_flood",
            Self::PriorityFlood => "priority_flood",
            Self::WindowUpdateFlood => "window_update_flood",
            Self::UnknownFlood => "unknown_flood",
            Self::EmptyDataFlood => "empty_data_flood",
        }
    }

    /// What GOAWAY says.
    pub const fn code(self) -> Code {
        match self {
            Self::Preface
            | Self::Misplaced
            | Self::StreamId
            | Self::BadSetting
            | Self::ZeroUpdate
            | Self::Push
            | Self::Padding => Code::ProtocolError,
            Self::FrameSize => Code::FrameSizeError,
            Self::StreamClosed => Code::StreamClosed,
            Self::FlowControl => Code::FlowControlError,
            Self::Compression => Code::CompressionError,
            Self::ContinuationFlood
            | Self::ResetFlood
            | Self::SettingsFlood
            | Self::PingFlood
            | Self::PriorityFlood
            | Self::WindowUpdateFlood
            | Self::UnknownFlood
            | Self::EmptyDataFlood => Code::EnhanceYourCalm,
        }
    }
}

/// Which rule of RFC 9113 §8 a message broke. Its stream is reset with PROTOCOL_ERROR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BadMessage {
    /// Upper case, or not a token.
    FieldName,
    /// NUL, CR, LF or another control byte, or white space at an end (§8.2.1).
    FieldValue,
    /// Connection, Keep-Alive, Proxy-Connection, Transfer-Encoding or Upgrade (§8.2.2).
    ConnectionField,
    /// TE says something but `trailers`.
    Te,
    /// An unknown pseudo-header, one of the other kind of message, one in trailers.
    UnknownPseudo,
    /// A pseudo-header twice.
    TwoPseudo,
    /// A pseudo-header behind a field.
    LatePseudo,
    /// A pseudo-header that must be there is not.
    MissingPseudo,
    Method,
    /// Neither `http` nor `https`.
    Scheme,
    /// Not in origin form (or `*` with OPTIONS): empty, with a space, with a fragment.
    Path,
    Authority,
    /// Host differs from `:authority`, or is there twice.
    Host,
    Status,
    /// Content-Length is not a number, or there are two.
    Length,
    /// DATA disagrees with Content-Length (§8.1.1).
    LengthMismatch,
    /// Trailers that do not end the stream, a second response, data before a head.
    Order,
    /// A window update of nothing, or beyond 2^31-1 (§6.9).
    Window,
    /// Larger than the rules allow, where nobody can be told (responses, trailers).
    TooLarge,
}

impl fmt::Display for BadMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FieldName => "a field name is not a token in lower case",
            Self::FieldValue => "a field value has a control character, or white space at an end",
            Self::ConnectionField => "a field belongs to HTTP/1.1 connections",
            Self::Te => "TE says something but `trailers`",
            Self::UnknownPseudo => "a pseudo-header is unknown here",
            Self::TwoPseudo => "a pseudo-header is there twice",
            Self::LatePseudo => "a pseudo-header follows a field",
            Self::MissingPseudo => "a pseudo-header is missing",
            Self::Method => "the method is not a token of at most 32 bytes",
            Self::Scheme => "the scheme is neither http nor https",
            Self::Path => "the path is malformed or does not go with the method",
            Self::Authority => "the authority is malformed",
            Self::Host => "Host differs from the authority",
            Self::Status => "the status is not a number from 100 to 999",
            Self::Length => "Content-Length is not one number",
            Self::LengthMismatch => "the body's length is not Content-Length",
            Self::Order => "a frame comes where the message has no place for it",
            Self::Window => "a window update is zero or too much",
            Self::TooLarge => "the fields are too large, or too many",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_own_word() {
        for (at, fault) in Fault::ALL.into_iter().enumerate() {
            assert_eq!(fault as usize, at, "in order, none missing");
            assert!(!Fault::ALL[..at].iter().any(|other| other.as_str() == fault.as_str()));
        }
        assert_eq!(Fault::ALL.len() - 1, Fault::EmptyDataFlood as usize);
    }
}
