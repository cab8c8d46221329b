//! What is received, frame by frame (RFC 9113 §4–§6).

use super::{
    BadMessage, Code, Connection, Event, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, Fault, Message, PREFACE,
    REPLIES_MAX, Received, Stream,
    connection::Role,
    frame::{self, Header, Kind, STREAM_MAX, flag},
    streams::{Past, Side},
};

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

/// What is kept of a buffer for frames that come in pieces.
const PARTIAL_BYTES: usize = 4 * 1024;

/// What one turn of receiving works with.
pub(super) struct Turn<'t> {
    pub(super) message: &'t mut Message,
    pub(super) now_us: u64,
    pub(super) out: &'t mut Vec<u8>,
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
    pub(super) fn is_idle(&self, id: u32) -> bool {
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
    pub(super) fn provoked(&mut self, id: u32, code: Code, turn: &mut Turn<'_>) -> Result<(), Fault> {
        frame::rst_stream(turn.out, id, code);
        self.replies += 1;
        match self.role {
            Role::Server => self.floods.reset(turn.now_us),
            Role::Client => Ok(()),
        }
    }

    /// Ends a stream whose message is malformed.
    pub(super) fn malformed(
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
}

/// Takes `count` bytes off what a body still has to bring; none may be missing when it `ends` (RFC 9113 §8.1.1).
fn count_down(expected: &mut Option<u64>, count: usize, ends: bool) -> Result<(), BadMessage> {
    let Some(before) = *expected else { return Ok(()) };
    let left = before.checked_sub(count as u64).ok_or(BadMessage::LengthMismatch)?;
    *expected = Some(left);
    if ends && left > 0 { Err(BadMessage::LengthMismatch) } else { Ok(()) }
}

pub(super) fn skip(count: usize) -> Reading {
    if count == 0 { Reading::Frame } else { Reading::Skip(count) }
}

/// The first four bytes.
pub(super) fn number(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}
