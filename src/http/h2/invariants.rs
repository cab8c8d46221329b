//! What must hold for any bytes whatever that a peer sends.

use super::{
    Bounds, Connection, Event, Fault, Message, PREFACE, Received, RequestLine, Stream,
    frame::{self, Header, Kind},
    hpack::{Decoder, Encoder},
};
use crate::http::{Known, classify, headers};

/// A connection says the same of its peer's bytes however they are cut, holds no more than it may, and sends whole frames.
///
/// The first byte chooses the role; the others follow the peer's preface and settings. A client has three requests under way.
pub fn connection(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let is_server = first % 2 == 0;
    let whole = Talk::new(is_server).hear(bytes, bytes.len().max(1));
    for size in [1, 2, 7, 10, 100] {
        assert_eq!(whole, Talk::new(is_server).hear(bytes, size), "in pieces of {size}");
    }
}

/// A block that can be decoded says the same when its fields are encoded again, also a second and a third time.
pub fn block(bytes: &[u8]) {
    let mut fields = Vec::new();
    let decoded =
        Decoder::new().decode(bytes, |field| fields.push((field.name.to_vec(), field.value.to_vec())));
    if decoded.is_err()
        || fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > 1 << 20
    {
        return;
    }
    fields.iter_mut().for_each(|(name, _)| name.make_ascii_lowercase());
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    for _ in 0..3 {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        for (name, value) in &fields {
            encoder.field(name, classify(name), value, &mut out);
        }
        let mut again = Vec::new();
        let decoded = decoder.decode(&out, |field| again.push((field.name.to_vec(), field.value.to_vec())));
        assert!(decoded.is_ok() && again == fields);
    }
}

/// What was told of one stream: heads as they lie, then data, merged.
#[derive(Debug, Default, PartialEq, Eq)]
struct Story {
    heads: Vec<Vec<u8>>,
    data: Vec<u8>,
    ends: Vec<String>,
}

struct Talk {
    connection: Connection,
    out: Vec<u8>,
    stories: Vec<(u32, Story)>,
}

/// The stories of all streams, and how the connection ended.
type Heard = (Vec<(u32, Story)>, Option<Fault>);

impl Talk {
    fn new(is_server: bool) -> Self {
        let bounds = Bounds { streams_max: 4, stream_window: 1000, ..Bounds::default() };
        let mut out = Vec::new();
        let mut connection = if is_server {
            Connection::server(bounds, &mut out)
        } else {
            Connection::client(bounds, &mut out)
        };
        let mut hello = if is_server { PREFACE.to_vec() } else { Vec::new() };
        frame::settings(&mut hello, &[]);
        frame::settings_ack(&mut hello);
        let (mut at, mut message) = (0, Message::default());
        while connection.receive(&hello, &mut at, &mut message, 0, &mut out) != Ok(Received::Starved) {}
        for (method, ends) in [(&b"GET"[..], true), (b"POST", false), (b"HEAD", true)] {
            let line = RequestLine { method, scheme: b"https", authority: b"a", path: b"/", protocol: None };
            if let Ok((_, mut head)) = connection.request(&line, ends, &mut out) {
                head.field(b"x-a", b"b");
            }
        }
        out.clear();
        Self { connection, out, stories: Vec::new() }
    }

    /// Receives `bytes` in pieces of this size.
    fn hear(mut self, bytes: &[u8], size: usize) -> Heard {
        let mut held = Vec::new();
        let mut message = Message::default();
        for piece in bytes.chunks(size) {
            held.extend_from_slice(piece);
            let mut at = 0;
            loop {
                message.bytes.clear();
                match self.connection.receive(&held, &mut at, &mut message, 0, &mut self.out) {
                    Ok(Received::Event(event)) => self.event(event, &held, &message),
                    Ok(Received::Flush) => self.connection.sent(),
                    Ok(Received::Starved) => break,
                    Err(fault) => {
                        self.check();
                        return (self.stories, Some(fault));
                    }
                }
            }
            self.check();
            held.drain(..at);
            assert!(held.len() <= 16, "what is left is the beginning of a small frame");
        }
        (self.stories, None)
    }

    fn story(&mut self, stream: Stream) -> &mut Story {
        let at = self.stories.iter().position(|(id, _)| *id == stream.id).unwrap_or_else(|| {
            self.stories.push((stream.id, Story::default()));
            self.stories.len() - 1
        });
        &mut self.stories[at].1
    }

    fn event(&mut self, event: Event, bytes: &[u8], message: &Message) {
        match event {
            Event::Request { stream, head, ends, .. } => {
                assert_eq!(head.len, message.bytes.len());
                assert!(headers::is_token(head.method_text.of(&message.bytes)));
                assert!(head.target_text.of(&message.bytes).iter().all(u8::is_ascii_graphic));
                self.head(stream, message, ends);
                // Some are answered at once, some later, some never.
                if stream.id % 8 < 3 {
                    assert!(self.connection.respond(stream, 200, stream.id % 16 == 1, &mut self.out).is_ok());
                }
                if stream.id % 8 == 1 {
                    _ = self.connection.send_data(stream, &[0; 100], false, &mut self.out);
                }
            }
            Event::Response { stream, head, ends } => {
                assert!((100..1000).contains(&head.status));
                self.head(stream, message, ends);
            }
            Event::Trailers { stream } => self.head(stream, message, true),
            Event::Data { stream, place, ends } => {
                self.connection.release(stream, place.len(), &mut self.out);
                let story = self.story(stream);
                story.data.extend_from_slice(&bytes[place]);
                if ends {
                    story.ends.push("end".to_owned());
                }
            }
            Event::TooLarge { stream, .. }
            | Event::Malformed { stream, .. }
            | Event::Reset { stream, .. } => {
                self.story(stream).ends.push(format!("{event:?}"));
            }
            Event::WindowOpened => {
                if let Some(stream) = self.connection.next_sender() {
                    assert!(self.connection.send_data(stream, b"x", false, &mut self.out) == Ok(1));
                }
            }
            Event::Settings | Event::Pong { .. } | Event::GoAway { .. } => {}
        }
    }

    fn head(&mut self, stream: Stream, message: &Message, ends: bool) {
        assert!(message.bytes.len() <= 64 * 1024);
        for field in &message.fields {
            let name = field.name.of(&message.bytes);
            assert!(headers::is_token(name) && !name.iter().any(u8::is_ascii_uppercase));
            assert!(headers::is_field_value(field.value.of(&message.bytes)));
            assert_eq!(field.known, classify(name));
            assert!(!matches!(field.known, Known::Connection | Known::TransferEncoding | Known::Upgrade));
        }
        let story = self.story(stream);
        story.heads.push(message.bytes.clone());
        if ends {
            story.ends.push("end".to_owned());
        }
    }

    /// What was sent is whole frames; the state is within its bounds.
    fn check(&mut self) {
        assert!(self.connection.streams() <= self.connection.slots());
        let mut rest = &self.out[..];
        while let Some((header, after)) = rest.split_first_chunk() {
            let header = Header::read(header);
            assert!(header.kind != Kind::Unknown && header.len <= after.len());
            rest = &after[header.len..];
        }
        assert!(rest.is_empty());
        self.out.clear();
    }
}
