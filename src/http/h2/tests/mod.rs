//! Conversations in raw frames.

mod client;
mod flow;
mod frames;
mod limits;
mod messages;
mod oracle;

use super::*;
use crate::http::BodyLength;

/// A frame as bytes.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, len @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;

pub(super) fn data(stream: u32, flags: u8, text: &str) -> Vec<u8> {
    frame(0, flags, stream, text.as_bytes())
}

/// A whole header block of `name: value` lines, without any compression.
pub(super) fn headers(stream: u32, flags: u8, lines: &str) -> Vec<u8> {
    frame(1, flags | END_HEADERS, stream, &block(lines))
}

pub(super) fn block(lines: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for line in lines.split('\n').filter(|line| !line.is_empty()) {
        let colon = 1 + line.bytes().skip(1).position(|byte| byte == b':').expect("a line has a colon");
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        let value = value.strip_prefix(' ').unwrap_or(value);
        block.push(0);
        for text in [name, value] {
            match text.len() {
                len @ ..127 => block.push(u8::try_from(len).unwrap()),
                len => {
                    let mut rest = len - 127;
                    block.push(127);
                    while rest >= 128 {
                        block.push(0x80 | u8::try_from(rest % 128).unwrap());
                        rest /= 128;
                    }
                    block.push(u8::try_from(rest).unwrap());
                }
            }
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

pub(super) fn rst_stream(stream: u32, code: u32) -> Vec<u8> {
    frame(3, 0, stream, &code.to_be_bytes())
}

pub(super) fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<_> = pairs
        .iter()
        .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(4, 0, 0, &payload)
}

pub(super) fn window_update(stream: u32, more: u32) -> Vec<u8> {
    frame(8, 0, stream, &more.to_be_bytes())
}

pub(super) const GET: &str = ":method: GET\n:scheme: https\n:path: /\n:authority: a";
pub(super) const POST: &str = ":method: POST\n:scheme: https\n:path: /\n:authority: a";

/// One side, to which the test plays the other.
pub(super) struct Side {
    pub(super) connection: Connection,
    pub(super) out: Vec<u8>,
    pub(super) message: Message,
    pub(super) now_us: u64,
    /// What has come on streams, in words.
    pub(super) told: Vec<String>,
    /// The handles of what has begun.
    pub(super) streams: Vec<Stream>,
    pending: Vec<u8>,
    decoder: hpack::Decoder,
}

impl Side {
    /// A server that has exchanged settings with its client.
    pub(super) fn server(bounds: Bounds) -> Self {
        let mut out = Vec::new();
        let connection = Connection::server(bounds, &mut out);
        let mut side = Self::new(connection);
        side.feed(&[&PREFACE[..], &settings(&[]), &frame(4, ACK, 0, b"")].concat());
        side.forget();
        side
    }

    pub(super) fn client(bounds: Bounds) -> Self {
        let mut out = Vec::new();
        let connection = Connection::client(bounds, &mut out);
        let mut side = Self::new(connection);
        side.feed(&[settings(&[]), frame(4, ACK, 0, b"")].concat());
        side.forget();
        side
    }

    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            out: Vec::new(),
            message: Message::default(),
            now_us: 0,
            told: Vec::new(),
            streams: Vec::new(),
            pending: Vec::new(),
            decoder: hpack::Decoder::new(),
        }
    }

    pub(super) fn forget(&mut self) {
        self.told.clear();
        self.said();
        self.connection.sent();
    }

    /// Gives bytes, all at once; what they mean is told.
    #[track_caller]
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if let Err(fault) = self.give(bytes) {
            panic!("{fault:?} after {:?}", self.told);
        }
        assert_eq!(self.pending, b"", "all of it was taken");
    }

    /// Gives bytes that may be pieces of frames.
    pub(super) fn give(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.pending.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.pending);
        let mut at = 0;
        loop {
            let mut message = Message::default();
            let received =
                self.connection.receive(&bytes, &mut at, &mut message, self.now_us, &mut self.out)?;
            match received {
                Received::Event(event) => {
                    if !message.bytes.is_empty() {
                        self.message = message;
                    }
                    self.tell(event, &bytes);
                }
                Received::Flush => self.connection.sent(),
                Received::Starved => break,
            }
        }
        assert!(bytes.len() - at <= 16, "what is left is the beginning of a small frame");
        self.pending = bytes[at..].to_vec();
        Ok(())
    }

    /// Bytes that end the connection with this fault and its GOAWAY.
    #[track_caller]
    pub(super) fn refuses(&mut self, bytes: &[u8], fault: Fault) {
        self.forget();
        assert_eq!(self.give(bytes), Err(fault), "{:?}", self.told);
        let code = fault.code();
        let said = self.said();
        let last = said.last().map(String::as_str).unwrap_or_default();
        assert!(last.starts_with("GOAWAY") && last.ends_with(&format!(" {code:?}")), "{said:?}");
        let again = self.connection.receive(b"x", &mut 0, &mut Message::default(), 0, &mut self.out);
        assert_eq!(again, Err(fault), "and it stays ended");
    }

    fn tell(&mut self, event: Event, bytes: &[u8]) {
        let end = |ends| if ends { " end" } else { "" };
        let told = match event {
            Event::Request { stream, head, extended, ends } => {
                self.streams.push(stream);
                let text = |span: crate::http::Span| {
                    String::from_utf8_lossy(span.of(&self.message.bytes)).into_owned()
                };
                let length = match head.body {
                    BodyLength::Exact(length) => length.to_string(),
                    BodyLength::Chunked => "?".to_owned(),
                    BodyLength::UntilClose => unreachable!("requests have an end"),
                };
                format!(
                    "{} {} {} at {} length {length}{}{}",
                    stream.id,
                    text(head.method_text),
                    text(head.target_text),
                    text(head.host),
                    if extended { " extended" } else { "" },
                    end(ends)
                )
            }
            Event::Response { stream, head, ends } => {
                format!("{} {} {:?}{}", stream.id, head.status, head.body, end(ends))
            }
            Event::Data { stream, place, ends } => {
                let text = String::from_utf8_lossy(&bytes[place]);
                format!("{} {text:?}{}", stream.id, end(ends))
            }
            Event::Trailers { stream } => format!("{} trailers {}", stream.id, self.fields().join(", ")),
            Event::TooLarge { stream, why, .. } => {
                self.streams.push(stream);
                format!("{} too large {why:?}", stream.id)
            }
            Event::Malformed { stream, why } => format!("{} malformed {why:?}", stream.id),
            Event::Reset { stream, code, untouched } => {
                format!("{} reset {code:?}{}", stream.id, if untouched { " untouched" } else { "" })
            }
            Event::WindowOpened => "window".to_owned(),
            Event::Settings => "settings".to_owned(),
            Event::Pong { payload } => format!("pong {payload:x}"),
            Event::GoAway { last, code } => format!("goaway {last} {code:?}"),
        };
        self.told.push(told);
    }

    /// The fields of the last head, as `name: value`; `!` marks those that are not forwarded.
    pub(super) fn fields(&self) -> Vec<String> {
        let bytes = &self.message.bytes;
        let text = |span: crate::http::Span| String::from_utf8_lossy(span.of(bytes)).into_owned();
        let show = |field: &Field| {
            format!("{}{}: {}", if field.hop { "!" } else { "" }, text(field.name), text(field.value))
        };
        self.message.fields.iter().map(show).collect()
    }

    /// The frames that were sent since the last time, in words.
    pub(super) fn said(&mut self) -> Vec<String> {
        let out = std::mem::take(&mut self.out);
        let mut rest = out.strip_prefix(&PREFACE[..]).unwrap_or(&out);
        let mut said = Vec::new();
        while let Some((header, after)) = rest.split_first_chunk::<9>() {
            let header = frame::Header::read(header);
            let (payload, after) = after.split_at(header.len);
            rest = after;
            let number = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
            let stream = header.stream;
            let end = if header.has(END_STREAM) { " end" } else { "" };
            said.push(match header.kind {
                frame::Kind::Data => format!("DATA {stream} {}{end}", payload.len()),
                frame::Kind::Headers => {
                    let mut fields = Vec::new();
                    let read = self.decoder.decode(payload, |field| {
                        let text = |text| String::from_utf8_lossy(text).into_owned();
                        fields.push(format!("{}: {}", text(field.name), text(field.value)));
                    });
                    assert!(read.is_ok() || !header.has(END_HEADERS));
                    format!("HEADERS {stream} {}{end}", fields.join(", "))
                }
                frame::Kind::RstStream => format!("RST_STREAM {stream} {:?}", Code::of(number(0))),
                frame::Kind::Settings if header.has(ACK) => "SETTINGS ack".to_owned(),
                frame::Kind::Settings => "SETTINGS".to_owned(),
                frame::Kind::Ping if header.has(ACK) => format!("PING ack {:x}", number(4)),
                frame::Kind::Ping => "PING".to_owned(),
                frame::Kind::GoAway => format!("GOAWAY {} {:?}", number(0), Code::of(number(4))),
                frame::Kind::WindowUpdate => format!("WINDOW_UPDATE {stream} {}", number(0)),
                kind @ (frame::Kind::Priority
                | frame::Kind::PushPromise
                | frame::Kind::Continuation
                | frame::Kind::Unknown) => format!("{kind:?} {stream} {}", payload.len()),
            });
        }
        assert_eq!(rest, b"", "whole frames only");
        said
    }

    #[track_caller]
    pub(super) fn expect(&mut self, told: &[&str], said: &[&str]) {
        assert_eq!(std::mem::take(&mut self.told), told);
        assert_eq!(self.said(), said);
    }
}

/// A server that gets `bytes` tells and says this.
#[track_caller]
pub(super) fn check(bytes: &[u8], told: &[&str], said: &[&str]) {
    let mut server = Side::server(Bounds::default());
    server.feed(bytes);
    server.expect(told, said);
    // The same in the smallest pieces, but for data, which comes as it came.
    let mut server = Side::server(Bounds::default());
    for byte in bytes.chunks(1) {
        assert_eq!(server.give(byte), Ok(()));
    }
    if !told.iter().any(|told| told.contains('"')) {
        server.expect(told, said);
    }
}
