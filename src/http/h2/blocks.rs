//! Header blocks that are received: requests, responses, trailers (RFC 9113 §4.3, §5.1.1, §6.2, §6.10, §8.1).

use super::{
    BadMessage, Code, Connection, Event, Fault, Stream,
    connection::{Leaving, Role},
    frame::{Header, flag},
    message::{Builder, Refusal, Section},
    receive::Turn,
    streams::{Past, Side},
};
use crate::http::{BodyLength, Method};

/// A header block that is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) stream: u32,
    ends: bool,
    /// CONTINUATION frames so far.
    frames: u32,
}

/// DESIGN §15.
const CONTINUATIONS_MAX: u32 = 8;
/// Twice what a head may have when decoded. What is larger cannot become acceptable but by waste.
const BLOCK_BYTES_MAX: usize = 64 * 1024;

impl Connection {
    pub(super) fn headers(
        &mut self,
        header: Header,
        payload: &[u8],
        turn: &mut Turn<'_>,
    ) -> Result<Option<Event>, Fault> {
        let mut fragment = payload;
        // RFC 9113 §6.2
        if header.has(flag::PADDED) {
            let (padding, rest) = fragment.split_first().ok_or(Fault::FrameSize)?;
            let len = rest.len().checked_sub(usize::from(*padding)).ok_or(Fault::Padding)?;
            fragment = &rest[..len];
        }
        if header.has(flag::PRIORITY) {
            fragment = fragment.get(5..).ok_or(Fault::FrameSize)?;
        }
        let block = Block { stream: header.stream, ends: header.has(flag::END_STREAM), frames: 0 };
        if header.has(flag::END_HEADERS) {
            return self.header_block(block, fragment, turn);
        }
        self.block_bytes.clear();
        self.block_bytes.extend_from_slice(fragment);
        self.block = Some(block);
        Ok(None)
    }

    pub(super) fn continuation(
        &mut self,
        fragment: &[u8],
        is_last: bool,
        turn: &mut Turn<'_>,
    ) -> Result<Option<Event>, Fault> {
        let Some(mut block) = self.block else { return Err(Fault::Misplaced) };
        block.frames += 1;
        let too_much = self.block_bytes.len() + fragment.len() > BLOCK_BYTES_MAX;
        if fragment.is_empty() || block.frames > CONTINUATIONS_MAX || too_much {
            return Err(Fault::ContinuationFlood);
        }
        self.block_bytes.extend_from_slice(fragment);
        self.block = Some(block);
        if !is_last {
            return Ok(None);
        }
        self.block = None;
        let bytes = std::mem::take(&mut self.block_bytes);
        self.header_block(block, &bytes, turn)
    }

    /// A whole header block: a request, a response, or trailers.
    fn header_block(
        &mut self,
        block: Block,
        bytes: &[u8],
        turn: &mut Turn<'_>,
    ) -> Result<Option<Event>, Fault> {
        if let Some(stream) = self.streams.find(block.stream) {
            let remote = self.streams.peek(stream).map_or(Side::Ended, |exchange| exchange.remote);
            return match (self.role, remote) {
                (_, Side::Ended) => Err(Fault::StreamClosed),
                (Role::Client, Side::Head) => self.response(stream, block.ends, bytes, turn),
                (Role::Server, Side::Head) | (_, Side::Body) => {
                    self.trailers_came(stream, block.ends, bytes, turn)
                }
            };
        }
        match self.role {
            Role::Server => self.new_request(block, bytes, turn),
            Role::Client if self.is_idle(block.stream) => Err(Fault::StreamId),
            Role::Client => {
                self.discard(bytes)?;
                match self.history.find(block.stream) {
                    Some(Past::Ended) => Err(Fault::StreamClosed),
                    Some(Past::Dropped) | None => {
                        self.floods.idle(Fault::UnknownFlood, turn.now_us).map(|()| None)
                    }
                }
            }
        }
    }

    /// Reads a block for its effect on the table only.
    fn discard(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.decoder.decode(bytes, |_| {}).map_err(|_| Fault::Compression)
    }

    /// Reads a block and lets `finish` make a head of it.
    fn read<T>(
        &mut self,
        section: Section,
        bytes: &[u8],
        turn: &mut Turn<'_>,
        finish: impl FnOnce(Builder<'_>) -> Result<T, Refusal>,
    ) -> Result<Result<T, Refusal>, Fault> {
        let mut builder = Builder::new(turn.message, &mut self.cookies, section, &self.bounds.rules);
        self.decoder.decode(bytes, |field| builder.field(field)).map_err(|_| Fault::Compression)?;
        Ok(finish(builder))
    }

    fn new_request(
        &mut self,
        block: Block,
        bytes: &[u8],
        turn: &mut Turn<'_>,
    ) -> Result<Option<Event>, Fault> {
        let id = block.stream;
        // RFC 9113 §5.1.1
        if id.is_multiple_of(2) {
            return Err(Fault::StreamId);
        }
        if id <= self.seen {
            return match self.history.find(id) {
                Some(Past::Dropped) => self.discard(bytes).map(|()| None),
                Some(Past::Ended) => Err(Fault::StreamClosed),
                None => Err(Fault::StreamId),
            };
        }
        self.seen = id;
        if self.leaving == Leaving::Last {
            self.history.add(id, Past::Dropped);
            return self.discard(bytes).map(|()| None);
        }
        self.served = id;
        self.floods.opened();
        self.floods.progress();
        if self.streams.len() >= self.bounds.streams_max as usize {
            self.discard(bytes)?;
            self.history.add(id, Past::Dropped);
            self.refused += 1;
            return self.provoked(id, Code::RefusedStream, turn).map(|()| None);
        }

        let may_extend = self.bounds.extended_connect;
        let request =
            self.read(Section::Request, bytes, turn, |builder| builder.request(block.ends, may_extend))?;
        let remote = if block.ends { Side::Ended } else { Side::Body };
        let mut exchange = self.exchange(Side::Head, remote);
        match request {
            Ok((head, extended)) => {
                exchange.expected = match head.body {
                    BodyLength::Exact(length) if !extended => Some(length),
                    BodyLength::Exact(_) | BodyLength::Chunked | BodyLength::UntilClose => None,
                };
                exchange.method = head.method;
                let stream = self.streams.add(id, exchange);
                Ok(Some(Event::Request { stream, head, extended, ends: block.ends }))
            }
            Err(Refusal::TooLarge(why)) => {
                let stream = self.streams.add(id, exchange);
                Ok(Some(Event::TooLarge { stream, why, ends: block.ends }))
            }
            Err(Refusal::Malformed(why)) => {
                self.malformed(Stream { id, slot: u16::MAX }, why, Code::ProtocolError, turn)
            }
        }
    }

    fn response(
        &mut self,
        stream: Stream,
        ends: bool,
        bytes: &[u8],
        turn: &mut Turn<'_>,
    ) -> Result<Option<Event>, Fault> {
        self.floods.progress();
        let method = self.streams.exchange(stream).map(|exchange| exchange.method).unwrap_or(Method::Get);
        let response = self.read(Section::Response, bytes, turn, |builder| builder.response(method, ends))?;
        match response {
            Ok(head) => {
                if let Some(exchange) = self.streams.exchange(stream)
                    && head.status >= 200
                {
                    exchange.remote = Side::Body;
                    exchange.expected = match head.body {
                        BodyLength::Exact(length) => Some(length),
                        BodyLength::Chunked | BodyLength::UntilClose => None,
                    };
                }
                if ends {
                    self.end_remote(stream, turn.out);
                }
                Ok(Some(Event::Response { stream, head, ends }))
            }
            Err(Refusal::TooLarge(_)) => {
                self.malformed(stream, BadMessage::TooLarge, Code::ProtocolError, turn)
            }
            Err(Refusal::Malformed(why)) => self.malformed(stream, why, Code::ProtocolError, turn),
        }
    }

    fn trailers_came(
        &mut self,
        stream: Stream,
        ends: bool,
        bytes: &[u8],
        turn: &mut Turn<'_>,
    ) -> Result<Option<Event>, Fault> {
        let trailers = self.read(Section::Trailers, bytes, turn, |builder| builder.trailers())?;
        let short = self.streams.peek(stream).is_some_and(|e| e.expected.is_some_and(|left| left > 0));
        let bad = match trailers {
            // RFC 9113 §8.1: a header block in the middle is no trailer section.
            Ok(()) | Err(_) if !ends => BadMessage::Order,
            Err(Refusal::Malformed(why)) => why,
            Err(Refusal::TooLarge(_)) => BadMessage::TooLarge,
            Ok(()) if short => BadMessage::LengthMismatch,
            Ok(()) => {
                self.end_remote(stream, turn.out);
                return Ok(Some(Event::Trailers { stream }));
            }
        };
        self.malformed(stream, bad, Code::ProtocolError, turn)
    }
}
