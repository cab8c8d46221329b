//! What is received, frame by frame (RFC 9113 §4–§6).

use super::{
    BadMessage, Code, Connection, Event, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, Fault, Message, PREFACE,
    REPLIES_MAX, Received, Stream,
    connection::{LEAVING_PING, Leaving, Role},
    frame::{self, Header, Kind, STREAM_MAX, flag, setting},
    message::{Builder, Refusal, Section},
    streams::{Past, Side, Waiting},
};
use crate::http::BodyLength;

/// Where the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// To the preface, of which so much has come.
    Preface(usize),
    /// To a frame's header.
    Frame,
    /// To DATA: `left` bytes of it, then padding.
    Data { stream: Stream, left: usize, padding: usize, ends: bool },
    /// To a payload that is gathered, since the frame was not whole.
    Payload(Header),
    /// To what nobody reads.
    Skip(usize),
}

/// A header block that is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    stream: u32,
    ends: bool,
    /// CONTINUATION frames so far.
    frames: u32,
}

/// DESIGN §15.
const CONTINUATIONS_MAX: u32 = 8;
/// Twice what a head may have when decoded. What is larger cannot become acceptable but by waste.
const BLOCK_BYTES_MAX: usize = 64 * 1024;
/// What is kept of a buffer for frames that come in pieces.
const PARTIAL_BYTES: usize = 4 * 1024;

/// What one turn of receiving works with.
struct Turn<'t> {
    message: &'t mut Message,
    now_us: u64,
    out: &'t mut Vec<u8>,
}

impl Connection {
    /// Takes what was received from `bytes[*at..]`, up to the next event, and moves `at`.
    ///
    /// To be called with the same bytes until they are [`Received::Starved`]. The owner's buffer need not hold a whole frame: 17 bytes
    /// are enough. `message` is filled when the event is a head or trailers. After a fault everything fails with the same one.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        at: &mut usize,
        message: &mut Message,
        now_us: u64,
        out: &mut Vec<u8>,
    ) -> Result<Received, Fault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let mut turn = Turn { message, now_us, out };
        let received = self.advance(bytes, at, &mut turn);
        if let Err(fault) = received {
            frame::go_away(turn.out, self.served, fault.code());
            self.fault = Some(fault);
        }
        received
    }

    fn advance(&mut self, bytes: &[u8], at: &mut usize, turn: &mut Turn<'_>) -> Result<Received, Fault> {
        loop {
            if self.losing
                && let Some(event) = self.lose(turn)
            {
                return Ok(Received::Event(event));
            }
            if self.replies >= REPLIES_MAX {
                return Ok(Received::Flush);
            }
            let rest = &bytes[*at..];
            let event = match self.reading {
                Reading::Frame => {
                    let Some(header) = rest.first_chunk() else { return Ok(Received::Starved) };
                    let header = Header::read(header);
                    self.check_header(&header)?;
                    let Some(used) = self.enough(&header, &rest[FRAME_HEADER_BYTES..]) else {
                        return Ok(Received::Starved);
                    };
                    let payload = &rest[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + used];
                    *at += FRAME_HEADER_BYTES + used;
                    self.frame(header, payload, turn)?
                }
                Reading::Data { stream, left, padding, ends } => {
                    if rest.is_empty() {
                        return Ok(Received::Starved);
                    }
                    let count = left.min(rest.len());
                    let place = *at..*at + count;
                    *at += count;
                    let left = left - count;
                    self.reading = match left {
                        0 => skip(padding),
                        _ => Reading::Data { stream, left, padding, ends },
                    };
                    self.data(stream, place, ends && left == 0, turn)
                }
                Reading::Payload(header) => {
                    let missing = header.len - self.partial.len();
                    let count = missing.min(rest.len());
                    self.partial.extend_from_slice(&rest[..count]);
                    *at += count;
                    if count < missing {
                        return Ok(Received::Starved);
                    }
                    let mut partial = std::mem::take(&mut self.partial);
                    let event = self.frame(header, &partial, turn)?;
                    partial.clear();
                    partial.shrink_to(PARTIAL_BYTES);
                    self.partial = partial;
                    event
                }
                Reading::Skip(count) => {
                    let skipped = count.min(rest.len());
                    *at += skipped;
                    self.reading = skip(count - skipped);
                    if skipped < count {
                        return Ok(Received::Starved);
                    }
                    None
                }
                Reading::Preface(came) => {
                    let count = rest.len().min(PREFACE.len() - came);
                    if rest[..count] != PREFACE[came..came + count] {
                        return Err(Fault::Preface);
                    }
                    *at += count;
                    if came + count < PREFACE.len() {
                        self.reading = Reading::Preface(came + count);
                        return Ok(Received::Starved);
                    }
                    self.reading = Reading::Frame;
                    None
                }
            };
            if let Some(event) = event {
                return Ok(Received::Event(event));
            }
        }
    }

    /// What a frame's header alone says against it. Asked again when the frame was not whole: nothing is counted here.
    fn check_header(&self, header: &Header) -> Result<(), Fault> {
        if header.len > FRAME_BYTES_MAX {
            return Err(Fault::FrameSize);
        }
        if !self.peer.known && (header.kind != Kind::Settings || header.has(flag::ACK)) {
            return Err(Fault::Preface); // RFC 9113 §3.4
        }
        // RFC 9113 §4.3, §6.10: nothing comes between the frames of a header block.
        match self.block {
            Some(block) if header.kind != Kind::Continuation || header.stream != block.stream => {
                Err(Fault::Misplaced)
            }
            None if header.kind == Kind::Continuation => Err(Fault::Misplaced),
            Some(_) | None => self.check_shape(header),
        }
    }

    /// Length and stream, by type (RFC 9113 §6).
    fn check_shape(&self, header: &Header) -> Result<(), Fault> {
        let on_stream = header.stream != 0;
        let (right_size, right_stream) = match header.kind {
            Kind::Data | Kind::Headers | Kind::Continuation => (true, on_stream),
            Kind::Priority => (header.len == 5, on_stream),
            Kind::RstStream => (header.len == 4, on_stream && !self.is_idle(header.stream)),
            Kind::Settings if header.has(flag::ACK) => (header.len == 0, !on_stream),
            Kind::Settings => (header.len.is_multiple_of(6), !on_stream),
            Kind::PushPromise => return Err(Fault::Push),
            Kind::Ping => (header.len == 8, !on_stream),
            Kind::GoAway => (header.len >= 8, !on_stream),
            Kind::WindowUpdate => (header.len == 4, !on_stream || !self.is_idle(header.stream)),
            Kind::Unknown => (true, true),
        };
        match (right_size, right_stream) {
            (false, _) => Err(Fault::FrameSize),
            (true, false) => Err(Fault::Misplaced),
            (true, true) => Ok(()),
        }
    }

    /// How many bytes of the payload are looked at together with the header; `None` until those are here.
    fn enough(&self, header: &Header, rest: &[u8]) -> Option<usize> {
        let wanted = match header.kind {
            Kind::Data => usize::from(header.has(flag::PADDED)).min(header.len),
            Kind::Unknown => 0,
            Kind::GoAway => 8,
            Kind::Priority | Kind::RstStream | Kind::Ping | Kind::WindowUpdate => header.len,
            // As a whole, or gathered.
            Kind::Headers | Kind::Continuation | Kind::Settings | Kind::PushPromise => {
                if rest.len() >= header.len { header.len } else { 0 }
            }
        };
        (rest.len() >= wanted).then_some(wanted)
    }

    /// Whether this stream has not begun (RFC 9113 §5.1).
    fn is_idle(&self, id: u32) -> bool {
        let odd = id % 2 == 1;
        match self.role {
            Role::Server => !odd || id > self.seen,
            Role::Client => !odd || id >= self.next,
        }
    }

    /// One frame; of DATA and what is skipped, its beginning.
    fn frame(&mut self, header: Header, payload: &[u8], turn: &mut Turn<'_>) -> Result<Option<Event>, Fault> {
        self.reading = Reading::Frame;
        match header.kind {
            Kind::Data => self.begin_data(header, payload, turn),
            Kind::Headers | Kind::Continuation | Kind::Settings | Kind::PushPromise
                if payload.len() < header.len =>
            {
                self.reading = Reading::Payload(header);
                Ok(None)
            }
            Kind::Headers => self.headers(header, payload, turn),
            Kind::Continuation => self.continuation(payload, header.has(flag::END_HEADERS), turn),
            Kind::Settings => self.settings(header, payload, turn),
            Kind::PushPromise => Err(Fault::Push),
            Kind::Priority => {
                // RFC 9113 §5.3: a scheme nobody uses any more.
                self.floods.idle(Fault::PriorityFlood, turn.now_us).map(|()| None)
            }
            Kind::RstStream => self.rst_stream(header.stream, number(payload), turn),
            Kind::Ping => self.pinged(header, payload, turn),
            Kind::GoAway => {
                self.reading = skip(header.len - payload.len());
                self.go_away_came(payload, turn)
            }
            Kind::WindowUpdate => self.window_update(header.stream, number(payload) & STREAM_MAX, turn),
            Kind::Unknown => {
                self.reading = skip(header.len);
                self.floods.idle(Fault::UnknownFlood, turn.now_us).map(|()| None)
            }
        }
    }

    fn begin_data(
        &mut self,
        header: Header,
        payload: &[u8],
        turn: &mut Turn<'_>,
    ) -> Result<Option<Event>, Fault> {
        let ends = header.has(flag::END_STREAM);
        let padding = payload.first().map_or(0, |padding| usize::from(*padding));
        // RFC 9113 §6.1
        if header.has(flag::PADDED) && (payload.is_empty() || payload.len() + padding > header.len) {
            return Err(Fault::Padding);
        }
        let left = header.len - payload.len() - padding;
        let all = i64::try_from(header.len).expect("at most a frame");
        self.receive_window -= all;
        if self.receive_window < 0 {
            return Err(Fault::FlowControl);
        }
        if left == 0 && !ends {
            self.floods.idle(Fault::EmptyDataFlood, turn.now_us)?;
        } else {
            self.floods.progress();
        }

        let all = u32::try_from(header.len).expect("at most a frame");
        let Some(stream) = self.streams.find(header.stream) else {
            self.unexpected(header.stream, turn)?;
            self.give_back_to_all(all, turn.out);
            self.reading = skip(left + padding);
            return Ok(None);
        };
        let exchange = self.streams.exchange(stream).expect("it was just found");
        let announced = match exchange.remote {
            Side::Ended => return Err(Fault::StreamClosed),
            Side::Head => Err(BadMessage::Order),
            Side::Body => count_down(&mut exchange.expected, left, ends),
        };
        exchange.receive_window -= i64::from(all);
        if exchange.receive_window < 0 {
            return Err(Fault::FlowControl);
        }
        if let Err(why) = announced {
            self.reading = skip(left + padding);
            let event = self.malformed(stream, why, Code::ProtocolError, turn);
            self.give_back_to_all(all, turn.out);
            return event;
        }
        // Padding has gone nowhere.
        let overhead = payload.len() + padding;
        if overhead > 0 {
            let overhead = u32::try_from(overhead).expect("at most 256");
            self.give_back(stream, overhead, turn.out);
            if !self.holds_for_all() {
                self.give_back_to_all(overhead, turn.out);
            }
        }
        if left > 0 {
            self.reading = Reading::Data { stream, left, padding, ends };
            return Ok(None);
        }
        self.reading = skip(padding);
        if !ends {
            return Ok(None);
        }
        self.end_remote(stream, turn.out);
        Ok(Some(Event::Data { stream, place: 0..0, ends: true }))
    }

    /// Some bytes of DATA.
    fn data(
        &mut self,
        stream: Stream,
        place: std::ops::Range<usize>,
        ends: bool,
        turn: &mut Turn<'_>,
    ) -> Option<Event> {
        let count = u32::try_from(place.len()).expect("at most a frame");
        let Some(exchange) = self.streams.exchange(stream) else {
            // It went while its frame was coming.
            self.give_back_to_all(count, turn.out);
            return None;
        };
        exchange.held += count;
        if !self.holds_for_all() {
            self.give_back_to_all(count, turn.out);
        }
        if ends {
            self.end_remote(stream, turn.out);
        }
        Some(Event::Data { stream, place, ends })
    }

    /// A frame for a stream that is not under way. What was on its way when we ended it is ignored.
    fn unexpected(&mut self, id: u32, turn: &mut Turn<'_>) -> Result<(), Fault> {
        if self.is_idle(id) {
            return Err(Fault::Misplaced);
        }
        match self.history.find(id) {
            Some(Past::Dropped) => Ok(()),
            Some(Past::Ended) => Err(Fault::StreamClosed),
            None => self.provoked(id, Code::StreamClosed, turn),
        }
    }

    /// Ends a stream for something the peer did.
    fn provoked(&mut self, id: u32, code: Code, turn: &mut Turn<'_>) -> Result<(), Fault> {
        frame::rst_stream(turn.out, id, code);
        self.replies += 1;
        match self.role {
            Role::Server => self.floods.reset(turn.now_us),
            Role::Client => Ok(()),
        }
    }

    /// Ends a stream whose message is malformed.
    fn malformed(
        &mut self,
        stream: Stream,
        why: BadMessage,
        code: Code,
        turn: &mut Turn<'_>,
    ) -> Result<Option<Event>, Fault> {
        self.provoked(stream.id, code, turn)?;
        if self.streams.peek(stream).is_some() {
            self.remove(stream, Past::Dropped, turn.out);
        } else {
            self.history.add(stream.id, Past::Dropped);
        }
        Ok(Some(Event::Malformed { stream, why }))
    }

    fn headers(
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

    fn continuation(
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
        let method =
            self.streams.exchange(stream).map(|exchange| exchange.method).unwrap_or(crate::http::Method::Get);
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

    fn rst_stream(&mut self, id: u32, code: u32, turn: &mut Turn<'_>) -> Result<Option<Event>, Fault> {
        let Some(stream) = self.streams.find(id) else {
            return self.floods.idle(Fault::ResetFlood, turn.now_us).map(|()| None);
        };
        if self.role == Role::Server {
            self.floods.reset(turn.now_us)?;
        }
        self.remove(stream, Past::Ended, turn.out);
        let code = Code::of(code);
        Ok(Some(Event::Reset { stream, code, untouched: code == Code::RefusedStream }))
    }

    fn settings(
        &mut self,
        header: Header,
        payload: &[u8],
        turn: &mut Turn<'_>,
    ) -> Result<Option<Event>, Fault> {
        self.floods.idle(Fault::SettingsFlood, turn.now_us)?;
        if header.has(flag::ACK) {
            self.acknowledged = true;
            return Ok(None);
        }
        self.peer.known = true;
        let mut window = self.peer.stream_window;
        // The last value of each counts, so that a frame with thousands of them costs no more than its bytes.
        let (pairs, _) = payload.as_chunks::<6>();
        for [a, b, value @ ..] in pairs {
            let value = u32::from_be_bytes(*value);
            match u16::from_be_bytes([*a, *b]) {
                setting::HEADER_TABLE_SIZE => self.encoder.resize(value as usize),
                setting::ENABLE_PUSH if value > 1 || (value == 1 && self.role == Role::Client) => {
                    return Err(Fault::BadSetting);
                }
                setting::MAX_CONCURRENT_STREAMS => self.peer.streams_max = value,
                setting::INITIAL_WINDOW_SIZE if value > STREAM_MAX => return Err(Fault::FlowControl),
                setting::INITIAL_WINDOW_SIZE => window = value,
                // We send none larger than the least it may be.
                setting::MAX_FRAME_SIZE if !(1 << 14..1 << 24).contains(&value) => {
                    return Err(Fault::BadSetting);
                }
                setting::ENABLE_CONNECT_PROTOCOL if value > 1 => return Err(Fault::BadSetting),
                setting::ENABLE_CONNECT_PROTOCOL => self.peer.extended_connect = value == 1,
                _ => {}
            }
        }
        self.resize_windows(window)?;
        frame::settings_ack(turn.out);
        self.replies += 1;
        Ok(Some(Event::Settings))
    }

    /// RFC 9113 §6.9.2.
    fn resize_windows(&mut self, window: u32) -> Result<(), Fault> {
        let more = i64::from(window) - i64::from(std::mem::replace(&mut self.peer.stream_window, window));
        if more == 0 {
            return Ok(());
        }
        for (stream, exchange) in self.streams.all() {
            exchange.send_window += more;
            if exchange.send_window > i64::from(STREAM_MAX) {
                return Err(Fault::FlowControl);
            }
            if exchange.waiting == Waiting::Window && exchange.send_window > 0 {
                exchange.waiting = Waiting::Line;
                self.line.push_back(stream);
            }
        }
        Ok(())
    }

    fn pinged(
        &mut self,
        header: Header,
        payload: &[u8],
        turn: &mut Turn<'_>,
    ) -> Result<Option<Event>, Fault> {
        self.floods.idle(Fault::PingFlood, turn.now_us)?;
        let payload: [u8; 8] = payload.try_into().map_err(|_| Fault::FrameSize)?;
        if !header.has(flag::ACK) {
            frame::ping(turn.out, flag::ACK, payload);
            self.replies += 1;
            return Ok(None);
        }
        if payload == LEAVING_PING && self.leaving == Leaving::Announced {
            self.go_away(Code::NoError, turn.out);
            return Ok(None);
        }
        Ok(Some(Event::Pong { payload: u64::from_be_bytes(payload) }))
    }

    fn go_away_came(&mut self, payload: &[u8], turn: &mut Turn<'_>) -> Result<Option<Event>, Fault> {
        self.floods.idle(Fault::UnknownFlood, turn.now_us)?;
        let last = number(payload) & STREAM_MAX;
        // It may only become less (RFC 9113 §6.8).
        let last = self.peer_last.map_or(last, |before| before.min(last));
        self.peer_last = Some(last);
        self.losing = self.role == Role::Client;
        Ok(Some(Event::GoAway { last, code: Code::of(number(&payload[4..])) }))
    }

    /// One of the requests that the peer's GOAWAY leaves out.
    fn lose(&mut self, turn: &mut Turn<'_>) -> Option<Event> {
        let last = self.peer_last.unwrap_or(STREAM_MAX);
        let lost = self.streams.all().map(|(stream, _)| stream).find(|stream| stream.id > last);
        let Some(stream) = lost else {
            self.losing = false;
            return None;
        };
        self.remove(stream, Past::Dropped, turn.out);
        Some(Event::Reset { stream, code: Code::RefusedStream, untouched: true })
    }

    fn window_update(&mut self, id: u32, more: u32, turn: &mut Turn<'_>) -> Result<Option<Event>, Fault> {
        self.floods.idle(Fault::WindowUpdateFlood, turn.now_us)?;
        if id == 0 {
            if more == 0 {
                return Err(Fault::ZeroUpdate);
            }
            let before = self.send_window;
            self.send_window += i64::from(more);
            if self.send_window > i64::from(STREAM_MAX) {
                return Err(Fault::FlowControl);
            }
            return Ok((before <= 0 && !self.line.is_empty()).then_some(Event::WindowOpened));
        }
        // It may have been on its way when the stream ended.
        let Some(stream) = self.streams.find(id) else { return Ok(None) };
        let exchange = self.streams.exchange(stream).expect("it was just found");
        exchange.send_window += i64::from(more);
        if more == 0 || exchange.send_window > i64::from(STREAM_MAX) {
            let code = if more == 0 { Code::ProtocolError } else { Code::FlowControlError };
            return self.malformed(stream, BadMessage::Window, code, turn);
        }
        if exchange.waiting != Waiting::Window || exchange.send_window <= 0 {
            return Ok(None);
        }
        self.stand_in_line(stream);
        Ok(Some(Event::WindowOpened))
    }
}

/// Takes `count` bytes off what a body still has to bring; none may be missing when it `ends` (RFC 9113 §8.1.1).
fn count_down(expected: &mut Option<u64>, count: usize, ends: bool) -> Result<(), BadMessage> {
    let Some(before) = *expected else { return Ok(()) };
    let left = before.checked_sub(count as u64).ok_or(BadMessage::LengthMismatch)?;
    *expected = Some(left);
    if ends && left > 0 { Err(BadMessage::LengthMismatch) } else { Ok(()) }
}

fn skip(count: usize) -> Reading {
    if count == 0 { Reading::Frame } else { Reading::Skip(count) }
}

/// The first four bytes.
fn number(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}
