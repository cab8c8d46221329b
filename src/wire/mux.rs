//! One HTTP/2 connection, shared by its exchanges.
//!
//! Two tasks drive it: one reads and feeds the machine ([`Mux::feed`]), one writes what was appended meanwhile ([`Mux::write_on`]):
//! all that the exchanges say in one turn of the loop leaves in one send. An exchange only appends and waits.

use std::{cell::RefCell, rc::Rc, time::Duration};

use super::exchange::{Exchange, Gone, Incoming};
use crate::{
    http::{
        BadHead, Field, RequestHead, ResponseHead,
        h2::{self, BadMessage, Code, Event, Message, Received},
    },
    runtime::{Buffer, Buffers, Gate, StreamHandle, Timers, Writer},
};

/// Unsent bytes beyond which exchanges wait with their data, and a peer's frames are not answered.
const UNSENT_MAX: usize = 192 * 1024;
/// Room for a usual head, or some replies.
const HEAD_ROOM: usize = 2048;
/// Room for what stands beside a frame's data.
const FRAME_ROOM: usize = 64;

/// One HTTP/2 connection.
pub struct Mux {
    inner: RefCell<Inner>,
    /// Rung when there is something to write.
    bell: Gate<()>,
    /// Rung when everything has been written.
    flushed: Gate<()>,
    pub timers: Rc<Timers>,
    pub buffers: Rc<Buffers>,
    handle: StreamHandle,
    is_server: bool,
}

struct Inner {
    machine: h2::Connection,
    out: Buffer,
    /// Where the next head or trailer section is put.
    message: Message,
    /// What `message.bytes` was taken from.
    shell: Buffer,
    /// By slot.
    exchanges: Vec<Option<Rc<Exchange>>>,
    /// Nothing more is read: exchanges get no more.
    is_broken: bool,
    /// Everything that is to be said has been appended.
    is_closing: bool,
}

/// What was received that somebody has to act upon.
pub enum Arrival {
    /// A request, whose head lies in `buffer`.
    Request { exchange: Incoming, head: RequestHead, buffer: Buffer, fields: Vec<Field>, is_extended: bool },
    /// A request whose head exceeds the rules.
    TooLarge { exchange: Incoming, why: BadHead },
    /// A request that is none. Its stream has been reset.
    Malformed(BadMessage),
    /// The peer takes no new exchanges.
    Leaving,
    /// An answer to a ping.
    Pong,
}

/// What there is to write.
enum Unsent {
    Bytes(Buffer),
    Nothing,
    /// Nor will there be.
    Over,
}

/// How far received bytes were dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fed {
    All,
    /// Replies wait to be written first: [`Mux::flushed`], then go on.
    Flush,
}

impl Mux {
    /// `bounds` are what the peer may do. The side's first frames are ready to be written.
    pub fn server(
        bounds: h2::Bounds,
        handle: StreamHandle,
        timers: &Rc<Timers>,
        buffers: &Rc<Buffers>,
    ) -> Rc<Self> {
        Self::new(true, |out| h2::Connection::server(bounds, out), handle, timers, buffers)
    }

    pub fn client(
        bounds: h2::Bounds,
        handle: StreamHandle,
        timers: &Rc<Timers>,
        buffers: &Rc<Buffers>,
    ) -> Rc<Self> {
        Self::new(false, |out| h2::Connection::client(bounds, out), handle, timers, buffers)
    }

    fn new(
        is_server: bool,
        machine: impl FnOnce(&mut Vec<u8>) -> h2::Connection,
        handle: StreamHandle,
        timers: &Rc<Timers>,
        buffers: &Rc<Buffers>,
    ) -> Rc<Self> {
        let mut out = buffers.small();
        let machine = machine(out.start_writing());
        Rc::new(Self {
            inner: RefCell::new(Inner {
                machine,
                out,
                message: Message::default(),
                shell: Buffer::default(),
                exchanges: Vec::new(),
                is_broken: false,
                is_closing: false,
            }),
            bell: Gate::default(),
            flushed: Gate::default(),
            timers: Rc::clone(timers),
            buffers: Rc::clone(buffers),
            handle,
            is_server,
        })
    }

    /// Deals with `bytes[*at..]`. `arrived` gets what is not for an exchange under way. `Err` ends the connection: GOAWAY is ready.
    pub fn feed(
        self: &Rc<Self>,
        bytes: &[u8],
        at: &mut usize,
        mut arrived: impl FnMut(Arrival),
    ) -> Result<Fed, h2::Fault> {
        let now_us = self.timers.clock.recent_us();
        let result = loop {
            let mut inner = self.inner.borrow_mut();
            let Inner { machine, out, message, shell, .. } = &mut *inner;
            if message.bytes.capacity() == 0 {
                *shell = self.buffers.small();
                message.bytes = std::mem::take(shell.start_writing());
            }
            out.make_room(HEAD_ROOM, &self.buffers);
            let event = match machine.receive(bytes, at, message, now_us, out.vec()) {
                Ok(Received::Event(event)) => event,
                Ok(Received::Starved) => break Ok(Fed::All),
                Ok(Received::Flush) => break Ok(Fed::Flush),
                Err(fault) => break Err(fault),
            };
            let arrival = inner.take_in(event, bytes, self);
            drop(inner);
            if let Some(arrival) = arrival {
                arrived(arrival);
            }
        };
        self.turn();
        result
    }

    /// Lets go of memory that only messages need.
    pub fn rest(&self) {
        let Inner { message, shell, .. } = &mut *self.inner.borrow_mut();
        *shell.vec() = std::mem::take(&mut message.bytes);
        message.fields = Vec::new();
        self.buffers.give_back(std::mem::take(shell));
    }

    /// Writes what is appended until [`Mux::close`], or until the peer does not take it for `patience`. False when not all was taken.
    pub async fn write_on(&self, writer: &mut Writer, patience: Duration) -> bool {
        loop {
            let mut full = match self.unsent() {
                Unsent::Bytes(full) => full,
                Unsent::Nothing => {
                    self.bell.take().await;
                    continue;
                }
                Unsent::Over => return true,
            };
            let written = writer.write_all(&mut full, patience).await;
            self.timers.clock.now_us();
            self.buffers.give_back(full);
            if written.is_err() {
                self.break_off();
                return false;
            }
            self.inner.borrow_mut().machine.sent();
            self.flushed.put(());
            self.turn();
        }
    }

    fn unsent(&self) -> Unsent {
        let mut inner = self.inner.borrow_mut();
        let out = std::mem::take(&mut inner.out);
        if !out.is_empty() {
            return Unsent::Bytes(out);
        }
        self.buffers.give_back(out);
        if inner.is_closing { Unsent::Over } else { Unsent::Nothing }
    }

    /// Waits until everything appended so far has been written.
    pub async fn flushed(&self) {
        while !self.inner.borrow().out.is_empty() && !self.inner.borrow().is_broken {
            self.flushed.take().await;
        }
    }

    /// Rings for the writer if there is something to write, and for the exchange whose turn it is.
    pub(super) fn turn(&self) {
        let mut inner = self.inner.borrow_mut();
        if inner.out.len() < UNSENT_MAX
            && let Some(stream) = inner.machine.next_sender()
            && let Some(exchange) = inner.exchange(stream)
        {
            exchange.may_send();
        }
        if !inner.out.is_empty() || inner.is_closing {
            self.bell.put(());
        }
    }

    /// Nothing more is read or written: every exchange learns of it.
    pub fn break_off(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.is_broken = true;
        inner.is_closing = true;
        inner.out.clear();
        let exchanges = std::mem::take(&mut inner.exchanges);
        drop(inner);
        for exchange in exchanges.into_iter().flatten() {
            exchange.break_off();
        }
        self.handle.end();
        self.flushed.put(());
        self.bell.put(());
    }

    /// Nothing more is read: exchanges that still wait for something learn of it. What they say is still written.
    pub fn stop_reading(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.is_broken = true;
        let exchanges: Vec<_> = inner.exchanges.drain(..).flatten().collect();
        drop(inner);
        for exchange in exchanges {
            exchange.break_off();
        }
        self.flushed.put(());
    }

    /// [`Mux::write_on`] ends once all is written.
    pub fn close(&self) {
        self.inner.borrow_mut().is_closing = true;
        self.bell.put(());
    }

    /// Begins to leave: exchanges under way go on to their end, new ones are refused.
    pub fn drain(&self) {
        let Inner { machine, out, .. } = &mut *self.inner.borrow_mut();
        out.make_room(HEAD_ROOM, &self.buffers);
        machine.drain(out.vec());
        self.bell.put(());
    }

    /// Says that the connection ends.
    pub fn go_away(&self, code: Code) {
        let Inner { machine, out, .. } = &mut *self.inner.borrow_mut();
        out.make_room(HEAD_ROOM, &self.buffers);
        machine.go_away(code, out.vec());
        self.bell.put(());
    }

    /// Asks the peer for a sign of life.
    pub fn ping(&self, payload: u64) {
        self.with(|machine, out| machine.ping(payload, out));
    }

    /// Whether the connection is leaving and nothing is under way.
    pub fn is_finished(&self) -> bool {
        self.inner.borrow().machine.is_finished()
    }

    pub fn is_broken(&self) -> bool {
        self.inner.borrow().is_broken
    }

    /// Exchanges under way.
    pub fn exchanges(&self) -> usize {
        self.inner.borrow().machine.streams()
    }

    /// Requests that could be begun now.
    pub fn room(&self) -> usize {
        let inner = self.inner.borrow();
        if inner.is_broken { 0 } else { inner.machine.room() }
    }

    pub fn handle(&self) -> &StreamHandle {
        &self.handle
    }

    /// Runs `f` with the machine and the bytes to be written, and has them written.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut h2::Connection, &mut Vec<u8>) -> T) -> T {
        let mut inner = self.inner.borrow_mut();
        let Inner { machine, out, .. } = &mut *inner;
        out.make_room(HEAD_ROOM, &self.buffers);
        let result = f(machine, out.vec());
        if inner.is_broken && inner.is_closing {
            inner.out.clear();
        }
        if !inner.out.is_empty() {
            self.bell.put(());
        }
        result
    }

    /// Appends as much of `data` as may go now; returns how much. `None` = the exchange is over.
    pub(super) fn send(&self, stream: h2::Stream, data: &[u8], ends: bool) -> Option<usize> {
        let mut inner = self.inner.borrow_mut();
        let Inner { machine, out, is_broken, .. } = &mut *inner;
        if *is_broken {
            return None;
        }
        if out.len() >= UNSENT_MAX {
            machine.stand_in_line(stream);
            return Some(0);
        }
        out.make_room(data.len().min(h2::FRAME_BYTES_MAX) + FRAME_ROOM, &self.buffers);
        let count = machine.send_data(stream, data, ends, out.vec()).ok();
        if !out.is_empty() {
            self.bell.put(());
        }
        count
    }

    pub(super) fn register(&self, exchange: &Rc<Exchange>) {
        self.inner.borrow_mut().register(exchange);
    }

    /// The exchange's owner is done with it. `is_sent` = our message is complete.
    pub(super) fn forget(&self, stream: h2::Stream, is_sent: bool) {
        // A client that has its whole reply may stop sending (RFC 9113 §8.1).
        let code = if self.is_server && is_sent { Code::NoError } else { Code::Cancel };
        self.with(|machine, out| {
            machine.leave_line(stream);
            machine.reset(stream, code, out);
        });
        let mut inner = self.inner.borrow_mut();
        if inner.exchange(stream).is_some() {
            inner.exchanges[usize::from(stream.slot)] = None;
        }
        drop(inner);
        self.turn();
    }
}

impl Inner {
    fn exchange(&self, stream: h2::Stream) -> Option<&Rc<Exchange>> {
        let exchange = self.exchanges.get(usize::from(stream.slot))?.as_ref()?;
        (exchange.stream() == stream).then_some(exchange)
    }

    fn register(&mut self, exchange: &Rc<Exchange>) {
        let slot = usize::from(exchange.stream().slot);
        if self.exchanges.len() <= slot {
            self.exchanges.resize_with(slot + 1, || None);
        }
        self.exchanges[slot] = Some(Rc::clone(exchange));
    }

    /// The head in `message`: its buffer and its fields.
    fn take_head(&mut self) -> (Buffer, Vec<Field>) {
        let mut buffer = std::mem::take(&mut self.shell);
        *buffer.vec() = std::mem::take(&mut self.message.bytes);
        (buffer, std::mem::take(&mut self.message.fields))
    }

    /// A copy of the section in `message`, which is rarely there.
    fn take_section(&mut self) -> Message {
        let bytes = self.message.bytes.split_off(Buffer::HEADROOM);
        Message { bytes, fields: self.message.fields.clone() }
    }

    fn take_in(&mut self, event: Event, bytes: &[u8], mux: &Rc<Mux>) -> Option<Arrival> {
        match event {
            Event::Request { stream, head, extended, ends } => {
                let exchange = Exchange::new(stream, mux, ends);
                self.register(&exchange);
                let (buffer, fields) = self.take_head();
                let exchange = Incoming::new(exchange);
                return Some(Arrival::Request { exchange, head, buffer, fields, is_extended: extended });
            }
            Event::TooLarge { stream, why, ends } => {
                let exchange = Exchange::new(stream, mux, ends);
                self.register(&exchange);
                self.message.bytes.truncate(Buffer::HEADROOM);
                return Some(Arrival::TooLarge { exchange: Incoming::new(exchange), why });
            }
            Event::Response { stream, head, ends } => {
                let (buffer, fields) = self.take_head();
                if let Some(exchange) = self.exchange(stream) {
                    exchange.answered(Answer { head, buffer, fields }, ends);
                }
            }
            Event::Data { stream, place, ends } => match self.exchange(stream) {
                Some(exchange) => exchange.receive(&bytes[place], ends),
                None => self.machine.release(stream, place.len(), self.out.vec()),
            },
            Event::Trailers { stream } => {
                let section = self.take_section();
                if let Some(exchange) = self.exchange(stream) {
                    exchange.trailed(section);
                }
            }
            Event::Malformed { stream, why } => {
                self.message.bytes.truncate(Buffer::HEADROOM);
                match self.exchange(stream) {
                    Some(exchange) => exchange.end_with(Gone::Malformed),
                    None => return Some(Arrival::Malformed(why)),
                }
            }
            Event::Reset { stream, untouched, .. } => {
                if let Some(exchange) = self.exchange(stream) {
                    exchange.end_with(if untouched { Gone::Untouched } else { Gone::Reset });
                }
            }
            Event::WindowOpened | Event::Settings => {}
            Event::Pong { .. } => return Some(Arrival::Pong),
            Event::GoAway { .. } => return Some(Arrival::Leaving),
        }
        None
    }
}

/// A response head as it came, with its buffer.
pub struct Answer {
    pub head: ResponseHead,
    pub buffer: Buffer,
    pub fields: Vec<Field>,
}
