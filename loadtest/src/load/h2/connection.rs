//! One HTTP/2 connection of the generator (RFC 9113): many requests at once, each on a stream of its own.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags};

use super::hpack::{Blocks, Decoder};
use crate::load::socket;
use crate::load::tls::{Session, Shake};
use crate::load::{Expect, Failed};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of a frame's head (RFC 9113 §4.1).
const HEAD: usize = 9;

/// The largest frame either side sends here: the default (§6.5.2).
const FRAME_MAX: usize = 16_384;

/// What the server may send before it hears from us: as much as there can be. A window that is never empty costs nobody
/// anything, and what is measured is the server.
const WINDOW: u32 = (1 << 31) - 1;

/// The window of a connection before any update (§6.9.2).
const WINDOW_FIRST: u32 = 65_535;

/// Field blocks longer than this, over several frames, are malformed here.
const BLOCK_MAX: usize = 64 * 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// Flags; ACK shares its bit with END_STREAM.
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

const HEADER_TABLE_SIZE: u16 = 1;
const ENABLE_PUSH: u16 = 2;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;

const CANCEL: u32 = 8;

/// A connection and what is under way on it.
pub(super) struct Connection {
    socket: Option<OwnedFd>,
    tls: Option<Box<Session>>,
    pub(super) stage: Stage,
    pub(super) slots: Vec<Slot>,
    /// Frames to be sent; in clear text, where TLS has not taken them yet.
    out: Vec<u8>,
    sent: usize,
    /// The start of a frame whose end has not come yet.
    held: Vec<u8>,
    /// A field block whose end has not come yet, and its stream.
    block: Option<(u32, bool, Vec<u8>)>,
    next_id: u32,
    decoder: Decoder,
    /// The server's table has what our requests have in common.
    is_warm: bool,
    /// Bytes of bodies that the server still takes, on the connection and on a new stream.
    window: i64,
    stream_window: i64,
    streams_max: usize,
    /// Bytes of bodies that came since the server was last told.
    received: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// No socket, and nobody has tried to get one since.
    Closed,
    /// Until the server's settings are here.
    Connecting,
    Open,
    /// The server takes no further requests; those under way go on.
    Leaving,
}

/// A place for one request at a time.
pub(super) struct Slot {
    pub(super) state: State,
    /// Which of the plan's requests is under way.
    pub(super) request: usize,
    /// When it should have been sent.
    pub(super) due: Instant,
    id: u32,
    /// What is sent of its body, and what the server still takes of it.
    body_sent: usize,
    window: i64,
    status: u16,
    body_bytes: u64,
    /// The content so far is the beginning of the expected one.
    same: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing is asked of it until the connection stands (again).
    Resting,
    /// A request waits for the connection.
    Waiting,
    /// Ready for a request.
    Idle,
    /// A request is under way.
    Busy,
}

/// What a read brought.
pub(super) enum Event {
    /// The TLS handshake is done.
    Shaken { resumed: bool },
    /// Requests can be sent.
    Open,
    /// A request has had its end.
    Done { slot: usize, outcome: Result<(), Failed> },
}

/// The frame under way.
struct Frame<'a> {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: &'a [u8],
}

impl Connection {
    pub(super) fn new(streams: usize, now: Instant) -> Self {
        let slot = || Slot {
            state: State::Resting,
            request: 0,
            due: now,
            id: 0,
            body_sent: 0,
            window: 0,
            status: 0,
            body_bytes: 0,
            same: true,
        };
        Self {
            socket: None,
            tls: None,
            stage: Stage::Closed,
            slots: (0..streams).map(|_| slot()).collect(),
            out: Vec::new(),
            sent: 0,
            held: Vec::new(),
            block: None,
            next_id: 1,
            decoder: Decoder::default(),
            is_warm: false,
            window: i64::from(WINDOW_FIRST),
            stream_window: i64::from(WINDOW_FIRST),
            streams_max: usize::MAX,
            received: 0,
        }
    }

    /// Starts to connect, and to watch the socket under `token`. Requests of slots that wait are kept.
    pub(super) fn connect(
        &mut self,
        to: SocketAddr,
        epoll: &OwnedFd,
        token: u64,
        tls: Option<Session>,
    ) -> Result<(), Errno> {
        self.socket = Some(socket::connect(to, epoll, token)?);
        self.tls = tls.map(Box::new);
        self.stage = Stage::Connecting;
        (self.sent, self.next_id, self.received) = (0, 1, 0);
        (self.held, self.block, self.decoder, self.is_warm) = (Vec::new(), None, Decoder::default(), false);
        (self.window, self.stream_window) = (i64::from(WINDOW_FIRST), i64::from(WINDOW_FIRST));
        self.out.clear();
        self.out.extend_from_slice(PREFACE);
        head(&mut self.out, SETTINGS, 0, 0, 12);
        setting(&mut self.out, ENABLE_PUSH, 0);
        setting(&mut self.out, INITIAL_WINDOW_SIZE, WINDOW);
        window_update(&mut self.out, 0, WINDOW - WINDOW_FIRST);
        Ok(())
    }

    pub(super) const fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Drops the socket. What was under way stays in the slots, for its owner to count.
    pub(super) fn close(&mut self) {
        self.socket = None;
        self.tls = None;
        self.stage = Stage::Closed;
    }

    /// Whether nothing is under way.
    pub(super) fn is_quiet(&self) -> bool {
        self.slots.iter().all(|slot| matches!(slot.state, State::Resting | State::Idle))
    }

    /// Puts the request of a slot into the frames to be sent.
    pub(super) fn begin(&mut self, slot: usize, blocks: &Blocks, body: &[u8]) {
        let block = if self.is_warm { &blocks.later } else { &blocks.first };
        let id = self.next_id;
        self.next_id += 2;
        self.is_warm = true;
        let end = if body.is_empty() { END_STREAM } else { 0 };
        let mut parts = block.chunks(FRAME_MAX);
        let first = parts.next().unwrap_or_default();
        let last = |parts: &std::slice::Chunks<'_, u8>| if parts.len() == 0 { END_HEADERS } else { 0 };
        head(&mut self.out, HEADERS, end | last(&parts), id, first.len());
        self.out.extend_from_slice(first);
        while let Some(part) = parts.next() {
            head(&mut self.out, CONTINUATION, last(&parts), id, part.len());
            self.out.extend_from_slice(part);
        }
        let window = self.stream_window;
        let slot = &mut self.slots[slot];
        slot.state = State::Busy;
        (slot.id, slot.window, slot.body_sent) = (id, window, 0);
        (slot.status, slot.body_bytes, slot.same) = (0, 0, true);
        slot.send_body(body, &mut self.window, &mut self.out);
    }

    /// Gives up on a slot's request: the server is told, and what still comes is ignored.
    pub(super) fn cancel(&mut self, slot: usize) {
        let slot = &mut self.slots[slot];
        if slot.state == State::Busy && self.socket.is_some() {
            head(&mut self.out, RST_STREAM, 0, slot.id, 4);
            self.out.extend_from_slice(&CANCEL.to_be_bytes());
        }
        slot.state = State::Resting;
    }

    /// Sends frames, as far as the socket takes them.
    pub(super) fn flush(&mut self) -> Result<(), Failed> {
        let Some(socket) = &self.socket else { return Ok(()) };
        if let Some(session) = &mut self.tls {
            if session.is_ready() && !self.out.is_empty() {
                session.write(&self.out)?;
                self.out.clear();
            }
            return session.flush(socket);
        }
        while self.sent < self.out.len() {
            match net::send(socket, &self.out[self.sent..], SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(_) => return Err(Failed::Closed),
            }
        }
        self.out.clear();
        self.sent = 0;
        Ok(())
    }

    /// Reads what has come into `buffer` (its content is of no interest between calls) and follows it. `bytes` grows by what was
    /// read, `events` by what happened. `body` is that of requests.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        body: &[u8],
        expect: &Expect,
        bytes: &mut u64,
        events: &mut Vec<Event>,
    ) -> Result<(), Failed> {
        if let (Stage::Connecting, Some(socket), Some(session)) = (self.stage, &self.socket, &mut self.tls)
            && !session.is_ready()
        {
            match session.shake(socket)? {
                Shake::Under => return Ok(()),
                Shake::Done { resumed } if session.speaks(b"h2") => events.push(Event::Shaken { resumed }),
                Shake::Done { .. } => return Err(Failed::Tls),
            }
        }
        loop {
            let Some(count) = self.read(buffer)? else { return Ok(()) };
            if count == 0 {
                return Err(Failed::Closed);
            }
            *bytes += count as u64;
            self.follow(&buffer[..count], body, expect, events)?;
            if count < buffer.len() && self.tls.is_none() {
                return Ok(());
            }
        }
    }

    /// Bytes that came, 0 at the end; `None` when there are none yet.
    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, Failed> {
        let Some(socket) = &self.socket else { return Err(Failed::Closed) };
        if let Some(session) = &mut self.tls {
            return session.read(socket, buffer);
        }
        loop {
            match net::recv(socket, &mut *buffer, RecvFlags::empty()) {
                Ok((_, count)) => return Ok(Some(count)),
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(_) => return Err(Failed::Closed),
            }
        }
    }

    /// Takes `bytes` as the next part of what the server sends.
    fn follow(
        &mut self,
        bytes: &[u8],
        body: &[u8],
        expect: &Expect,
        events: &mut Vec<Event>,
    ) -> Result<(), Failed> {
        let mut joined = std::mem::take(&mut self.held);
        let mut rest = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined
        };
        while let Some((head, behind)) = rest.split_first_chunk::<HEAD>() {
            let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
            if length > FRAME_MAX {
                return Err(Failed::Malformed);
            }
            let Some((payload, behind)) = behind.split_at_checked(length) else { break };
            let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
            self.take(&Frame { kind: head[3], flags: head[4], stream, payload }, body, expect, events)?;
            rest = behind;
        }
        self.held = rest.to_vec();
        Ok(())
    }

    fn take(
        &mut self,
        frame: &Frame<'_>,
        body: &[u8],
        expect: &Expect,
        events: &mut Vec<Event>,
    ) -> Result<(), Failed> {
        if self.block.is_some() && frame.kind != CONTINUATION {
            return Err(Failed::Malformed); // §6.10
        }
        match frame.kind {
            DATA => {
                let content = frame.content(false)?;
                self.credit(frame.payload.len());
                if let Some(slot) = self.slot_of(frame.stream) {
                    self.slots[slot].take(content, expect);
                    self.end_of_stream(frame, slot, expect, events);
                }
            }
            HEADERS => {
                let end_stream = frame.flags & END_STREAM != 0;
                let part = frame.content(frame.flags & PRIORITY != 0)?;
                self.block = Some((frame.stream, end_stream, part.to_vec()));
                self.end_of_block(frame, expect, events)?;
            }
            CONTINUATION => {
                let Some((stream, _, block)) = &mut self.block else { return Err(Failed::Malformed) };
                if *stream != frame.stream || block.len() + frame.payload.len() > BLOCK_MAX {
                    return Err(Failed::Malformed);
                }
                block.extend_from_slice(frame.payload);
                self.end_of_block(frame, expect, events)?;
            }
            RST_STREAM => {
                if let Some(slot) = self.slot_of(frame.stream) {
                    self.slots[slot].state = State::Idle;
                    events.push(Event::Done { slot, outcome: Err(Failed::Closed) });
                }
            }
            SETTINGS if frame.flags & ACK == 0 => {
                self.settings(frame.payload)?;
                if self.stage == Stage::Connecting {
                    self.stage = Stage::Open;
                    events.push(Event::Open);
                }
                self.send_bodies(body);
            }
            PING if frame.flags & ACK == 0 => {
                head(&mut self.out, PING, ACK, 0, frame.payload.len());
                self.out.extend_from_slice(frame.payload);
            }
            GOAWAY => {
                self.stage = Stage::Leaving;
                let last = frame.number(0)? & WINDOW;
                for (slot, place) in self.slots.iter_mut().enumerate() {
                    if place.state == State::Busy && place.id > last {
                        place.state = State::Idle;
                        events.push(Event::Done { slot, outcome: Err(Failed::Closed) });
                    }
                }
            }
            WINDOW_UPDATE => {
                let more = i64::from(frame.number(0)? & WINDOW);
                if frame.stream == 0 {
                    self.window += more;
                } else if let Some(slot) = self.slot_of(frame.stream) {
                    self.slots[slot].window += more;
                }
                self.send_bodies(body);
            }
            PUSH_PROMISE => return Err(Failed::Malformed), // We said no.
            _ => {}                                        // §4.1: unknown ones are ignored.
        }
        Ok(())
    }

    fn settings(&mut self, mut payload: &[u8]) -> Result<(), Failed> {
        while let Some(([a, b, c, d, e, f], rest)) = payload.split_first_chunk::<6>() {
            let value = u32::from_be_bytes([*c, *d, *e, *f]);
            match u16::from_be_bytes([*a, *b]) {
                // Less than we count on; no server here does that.
                HEADER_TABLE_SIZE if (value as usize) < super::hpack::TABLE_BYTES => {
                    return Err(Failed::Malformed);
                }
                MAX_CONCURRENT_STREAMS => self.streams_max = value as usize,
                INITIAL_WINDOW_SIZE => {
                    let more = i64::from(value) - self.stream_window;
                    self.stream_window += more;
                    self.slots.iter_mut().for_each(|slot| slot.window += more);
                }
                _ => {}
            }
            payload = rest;
        }
        head(&mut self.out, SETTINGS, ACK, 0, 0);
        Ok(())
    }

    /// Slots that may be used at once, as the server has it.
    pub(super) fn usable(&self) -> usize {
        self.streams_max.min(self.slots.len())
    }

    fn slot_of(&self, stream: u32) -> Option<usize> {
        self.slots.iter().position(|slot| slot.id == stream && slot.state == State::Busy)
    }

    fn end_of_block(
        &mut self,
        frame: &Frame<'_>,
        expect: &Expect,
        events: &mut Vec<Event>,
    ) -> Result<(), Failed> {
        if frame.flags & END_HEADERS == 0 {
            return Ok(());
        }
        let Some((stream, end_stream, block)) = self.block.take() else { return Ok(()) };
        // Blocks of streams that nobody waits for any more change the table all the same.
        let status = self.decoder.status(&block).map_err(|_| Failed::Malformed)?;
        let Some(slot) = self.slot_of(stream) else { return Ok(()) };
        if let Some(status) = status {
            self.slots[slot].status = status;
        }
        if end_stream {
            self.finish(slot, expect, events);
        }
        Ok(())
    }

    fn end_of_stream(&mut self, frame: &Frame<'_>, slot: usize, expect: &Expect, events: &mut Vec<Event>) {
        if frame.flags & END_STREAM != 0 {
            self.finish(slot, expect, events);
        }
    }

    fn finish(&mut self, slot: usize, expect: &Expect, events: &mut Vec<Event>) {
        let place = &mut self.slots[slot];
        place.state = State::Idle;
        let outcome = expect.check(place.status, place.body_bytes, place.same);
        events.push(Event::Done { slot, outcome });
    }

    /// Lets the server send as much again, once it is much.
    fn credit(&mut self, bytes: usize) {
        self.received += u32::try_from(bytes).expect("a frame is small");
        if self.received > WINDOW / 2 {
            window_update(&mut self.out, 0, self.received);
            self.received = 0;
        }
    }

    fn send_bodies(&mut self, body: &[u8]) {
        for slot in self.slots.iter_mut().filter(|slot| slot.state == State::Busy) {
            slot.send_body(body, &mut self.window, &mut self.out);
        }
    }
}

impl Slot {
    /// Puts as much of its body into frames as the windows allow.
    fn send_body(&mut self, body: &[u8], window: &mut i64, out: &mut Vec<u8>) {
        while self.body_sent < body.len() {
            let room = usize::try_from((*window).min(self.window)).unwrap_or(0);
            let part = (body.len() - self.body_sent).min(room).min(FRAME_MAX);
            if part == 0 {
                return;
            }
            let end = self.body_sent + part;
            head(out, DATA, if end == body.len() { END_STREAM } else { 0 }, self.id, part);
            out.extend_from_slice(&body[self.body_sent..end]);
            self.body_sent = end;
            let part = i64::try_from(part).expect("a frame is small");
            (*window, self.window) = (*window - part, self.window - part);
        }
    }

    fn take(&mut self, content: &[u8], expect: &Expect) {
        if let Some(expected) = &expect.body {
            let at = usize::try_from(self.body_bytes).unwrap_or(usize::MAX);
            self.same &= expected.get(at..).is_some_and(|rest| rest.starts_with(content));
        }
        self.body_bytes += content.len() as u64;
    }
}

impl<'a> Frame<'a> {
    /// The payload without padding and priority.
    fn content(&self, has_priority: bool) -> Result<&'a [u8], Failed> {
        let mut content = self.payload;
        if self.flags & PADDED != 0 {
            let (padding, rest) = content.split_first().ok_or(Failed::Malformed)?;
            let end = rest.len().checked_sub(usize::from(*padding)).ok_or(Failed::Malformed)?;
            content = &rest[..end];
        }
        if has_priority {
            content = content.get(5..).ok_or(Failed::Malformed)?;
        }
        Ok(content)
    }

    /// Four bytes of the payload as a number.
    fn number(&self, at: usize) -> Result<u32, Failed> {
        let bytes = self.payload.get(at..at + 4).ok_or(Failed::Malformed)?;
        Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }
}

/// A frame's head; its payload follows.
fn head(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, length: usize) {
    let length = u32::try_from(length).expect("a frame is small").to_be_bytes();
    out.extend_from_slice(&[length[1], length[2], length[3], kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

fn setting(out: &mut Vec<u8>, name: u16, value: u32) {
    out.extend_from_slice(&name.to_be_bytes());
    out.extend_from_slice(&value.to_be_bytes());
}

fn window_update(out: &mut Vec<u8>, stream: u32, more: u32) {
    head(out, WINDOW_UPDATE, 0, stream, 4);
    out.extend_from_slice(&more.to_be_bytes());
}
