//! Frames on the wire (RFC 9113 §4, §6).

use super::FRAME_HEADER_BYTES;

/// Why a stream or a connection ends (RFC 9113 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Code {
    NoError = 0,
    ProtocolError = 1,
    InternalError = 2,
    FlowControlError = 3,
    SettingsTimeout = 4,
    StreamClosed = 5,
    FrameSizeError = 6,
    RefusedStream = 7,
    Cancel = 8,
    CompressionError = 9,
    ConnectError = 10,
    EnhanceYourCalm = 11,
    InadequateSecurity = 12,
    Http11Required = 13,
}

impl Code {
    /// An unknown code means nothing special (RFC 9113 §7): it reads as `InternalError`.
    pub const fn of(number: u32) -> Self {
        match number {
            0 => Self::NoError,
            1 => Self::ProtocolError,
            3 => Self::FlowControlError,
            4 => Self::SettingsTimeout,
            5 => Self::StreamClosed,
            6 => Self::FrameSizeError,
            7 => Self::RefusedStream,
            8 => Self::Cancel,
            9 => Self::CompressionError,
            10 => Self::ConnectError,
            11 => Self::EnhanceYourCalm,
            12 => Self::InadequateSecurity,
            13 => Self::Http11Required,
            _ => Self::InternalError,
        }
    }
}

/// A frame's type (RFC 9113 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    Priority,
    RstStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    /// To be ignored (§4.1).
    Unknown,
}

impl Kind {
    const fn of(number: u8) -> Self {
        match number {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::RstStream,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            _ => Self::Unknown,
        }
    }
}

/// Flags; which of them mean something depends on the type.
pub(super) mod flag {
    pub(in crate::http::h2) const END_STREAM: u8 = 0x1;
    pub(in crate::http::h2) const ACK: u8 = 0x1;
    pub(in crate::http::h2) const END_HEADERS: u8 = 0x4;
    pub(in crate::http::h2) const PADDED: u8 = 0x8;
    pub(in crate::http::h2) const PRIORITY: u8 = 0x20;
}

/// A frame's header (RFC 9113 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Bytes of the payload.
    pub(super) len: usize,
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Header {
    #[inline]
    pub(super) fn read(bytes: &[u8; FRAME_HEADER_BYTES]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = *bytes;
        Self {
            len: u32::from_be_bytes([0, a, b, c]) as usize,
            kind: Kind::of(kind),
            flags,
            stream: u32::from_be_bytes(stream) & STREAM_MAX,
        }
    }

    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// The largest stream identifier, window and window increment.
pub(super) const STREAM_MAX: u32 = 0x7fff_ffff;

/// A frame's header as it is sent.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "frames that are sent are at most FRAME_BYTES_MAX long")]
pub(super) const fn header_bytes(len: usize, kind: Kind, flags: u8, stream: u32) -> [u8; FRAME_HEADER_BYTES] {
    let [_, a, b, c] = (len as u32).to_be_bytes();
    let [d, e, f, g] = stream.to_be_bytes();
    [a, b, c, kind as u8, flags, d, e, f, g]
}

/// Appends a frame's header.
#[inline]
pub(super) fn header(out: &mut Vec<u8>, len: usize, kind: Kind, flags: u8, stream: u32) {
    out.extend_from_slice(&header_bytes(len, kind, flags, stream));
}

/// Names of settings (RFC 9113 §6.5.2, RFC 8441 §3).
pub(super) mod setting {
    pub(in crate::http::h2) const HEADER_TABLE_SIZE: u16 = 1;
    pub(in crate::http::h2) const ENABLE_PUSH: u16 = 2;
    pub(in crate::http::h2) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(in crate::http::h2) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(in crate::http::h2) const MAX_FRAME_SIZE: u16 = 5;
    pub(in crate::http::h2) const MAX_HEADER_LIST_SIZE: u16 = 6;
    pub(in crate::http::h2) const ENABLE_CONNECT_PROTOCOL: u16 = 8;
}

/// Appends a SETTINGS frame.
pub(super) fn settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    header(out, settings.len() * 6, Kind::Settings, 0, 0);
    for (name, value) in settings {
        out.extend_from_slice(&name.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(super) fn settings_ack(out: &mut Vec<u8>) {
    header(out, 0, Kind::Settings, flag::ACK, 0);
}

pub(super) fn ping(out: &mut Vec<u8>, flags: u8, payload: [u8; 8]) {
    header(out, 8, Kind::Ping, flags, 0);
    out.extend_from_slice(&payload);
}

pub(super) fn rst_stream(out: &mut Vec<u8>, stream: u32, code: Code) {
    header(out, 4, Kind::RstStream, 0, stream);
    out.extend_from_slice(&(code as u32).to_be_bytes());
}

pub(super) fn window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    header(out, 4, Kind::WindowUpdate, 0, stream);
    out.extend_from_slice(&increment.to_be_bytes());
}

pub(super) fn go_away(out: &mut Vec<u8>, last: u32, code: Code) {
    header(out, 8, Kind::GoAway, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&(code as u32).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_as_it_is_written() {
        for (kind, number) in [
            (Kind::Data, 0),
            (Kind::Headers, 1),
            (Kind::RstStream, 3),
            (Kind::Settings, 4),
            (Kind::Ping, 6),
            (Kind::GoAway, 7),
            (Kind::WindowUpdate, 8),
            (Kind::Continuation, 9),
        ] {
            let mut out = Vec::new();
            header(&mut out, 0x4321, kind, 0x25, STREAM_MAX);
            assert_eq!(out, [0, 0x43, 0x21, number, 0x25, 0x7f, 0xff, 0xff, 0xff]);
            let read = Header::read(out.first_chunk().expect("nine bytes"));
            assert_eq!(read, Header { len: 0x4321, kind, flags: 0x25, stream: STREAM_MAX });
        }
    }

    #[test]
    fn the_reserved_bit_is_ignored_and_unknown_types_are_known_as_such() {
        let read = Header::read(&[0xff, 0, 1, 0xab, 0, 0x80, 0, 0, 3]);
        assert_eq!(read, Header { len: 0xff_0001, kind: Kind::Unknown, flags: 0, stream: 3 });
    }

    #[test]
    fn codes_keep_their_numbers() {
        for number in 0..14 {
            assert_eq!(Code::of(number) as u32, number);
        }
        assert_eq!(Code::of(99), Code::InternalError);
    }
}
