//! One exchange of an HTTP/2 connection: a request and its response, as a half to read and a half to write.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::VecDeque,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use super::{
    Handle,
    mux::{Answer, Mux},
};
use crate::{
    clock::Tick,
    http::{
        Field,
        h2::{Code, HeadWriter, Message, RequestLine, Stream},
    },
    runtime::{Alarm, Buffer, Buffers, Idle, IoFault},
};

/// What the connection's tasks and the owner of the exchange know of it.
pub(super) struct Exchange {
    stream: Stream,
    mux: Rc<Mux>,
    state: RefCell<State>,
    reading: OnceCell<Alarm>,
    writing: OnceCell<Alarm>,
    /// Ended from this side, by [`Handle::end`].
    was_ended: Cell<bool>,
    /// Halves that are in use.
    halves: Cell<u8>,
}

#[derive(Default)]
struct State {
    /// Data that nobody has read yet. Without memory when there is none.
    received: Buffer,
    /// Response heads that nobody has read yet.
    answers: VecDeque<Answer>,
    trailers: Option<Message>,
    /// The peer has sent all.
    has_ended: bool,
    gone: Option<Gone>,
    released: bool,
    /// Our side of the message is complete.
    is_sent: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    partner: Option<Handle>,
}

/// How an exchange ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// The peer did nothing with the request: even a POST may be sent again (RFC 9113 §8.7).
    Untouched,
    Reset,
    /// What it sent is no message.
    Malformed,
}

impl Exchange {
    pub(super) fn new(stream: Stream, mux: &Rc<Mux>, has_ended: bool) -> Rc<Self> {
        Rc::new(Self {
            stream,
            mux: Rc::clone(mux),
            state: RefCell::new(State { has_ended, ..State::default() }),
            reading: OnceCell::new(),
            writing: OnceCell::new(),
            was_ended: Cell::new(false),
            halves: Cell::new(0),
        })
    }

    pub(super) fn stream(&self) -> Stream {
        self.stream
    }

    /// It is this exchange's turn to send.
    pub(super) fn may_send(&self) {
        wake(&mut self.state.borrow_mut().writer);
    }

    pub(super) fn answered(&self, answer: Answer, ends: bool) {
        let mut state = self.state.borrow_mut();
        state.answers.push_back(answer);
        state.has_ended |= ends;
        wake(&mut state.reader);
    }

    pub(super) fn receive(&self, bytes: &[u8], ends: bool) {
        let mut state = self.state.borrow_mut();
        if !bytes.is_empty() {
            if state.received.capacity() == 0 {
                state.received = self.mux.buffers.small();
            }
            state.received.extend(bytes);
        }
        state.has_ended |= ends;
        wake(&mut state.reader);
    }

    pub(super) fn trailed(&self, section: Message) {
        let mut state = self.state.borrow_mut();
        state.trailers = Some(section);
        state.has_ended = true;
        wake(&mut state.reader);
    }

    /// The connection has ended.
    pub(super) fn break_off(&self) {
        self.end_with(Gone::Reset);
    }

    /// What is done on behalf of this exchange ends as well.
    pub(super) fn end_with(&self, gone: Gone) {
        let partner = {
            let mut state = self.state.borrow_mut();
            state.gone.get_or_insert(gone);
            wake(&mut state.reader);
            wake(&mut state.writer);
            state.partner.take()
        };
        if let Some(partner) = partner {
            partner.end();
        }
    }

    /// Ends the exchange from this side.
    pub(super) fn end(&self) {
        self.was_ended.set(true);
        self.mux.with(|machine, out| machine.reset(self.stream, Code::Cancel, out));
        self.end_with(Gone::Reset);
    }

    pub(super) fn was_ended(&self) -> bool {
        self.was_ended.get()
    }

    pub(super) fn expect_until(&self, until: Tick) {
        if let Some(alarm) = self.reading.get() {
            alarm.expect_until(until);
        }
    }

    pub(super) fn release(&self) {
        let mut state = self.state.borrow_mut();
        state.released = true;
        wake(&mut state.reader);
    }

    fn alarm<'a>(&self, cell: &'a OnceCell<Alarm>) -> &'a Alarm {
        cell.get_or_init(|| Alarm::new(&self.mux.timers))
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn broken() -> IoFault {
    IoFault::Broken(std::io::ErrorKind::ConnectionReset.into())
}

/// The half of an exchange that is read.
pub struct Incoming(Rc<Exchange>);

/// The half of an exchange that is written. When both halves are gone, so is the exchange.
pub struct Outgoing(Rc<Exchange>);

impl Incoming {
    pub(super) fn new(exchange: Rc<Exchange>) -> Self {
        exchange.halves.set(exchange.halves.get() + 1);
        Self(exchange)
    }

    /// The other half. To be asked for once.
    pub fn outgoing(&self) -> Outgoing {
        self.0.halves.set(self.0.halves.get() + 1);
        Outgoing(Rc::clone(&self.0))
    }

    /// Reads what has arrived behind the unread bytes of `buffer`; 0 is the end of the message's data. What is read may be sent again
    /// by the peer: its windows open as bytes go on, not as they come.
    pub async fn read(&mut self, buffer: &mut Buffer, until: Tick) -> Result<usize, IoFault> {
        match self.wait(buffer, until).await? {
            Idle::Bytes(count) => Ok(count),
            Idle::Quiet => Err(broken()),
        }
    }

    /// Like [`Incoming::read`], but gives up when it is released.
    pub(super) async fn wait(&mut self, buffer: &mut Buffer, until: Tick) -> Result<Idle, IoFault> {
        if let Some(done) = self.take(buffer) {
            return done;
        }
        let exchange = &*self.0;
        let waited = exchange.alarm(&exchange.reading).within(until, |cx| {
            let mut state = exchange.state.borrow_mut();
            if state.received.is_empty() && !state.has_ended && state.gone.is_none() && !state.released {
                state.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        });
        match waited.await {
            Some(()) => self.take(buffer).unwrap_or(Ok(Idle::Quiet)),
            None => Err(IoFault::TooSlow),
        }
    }

    fn take(&mut self, buffer: &mut Buffer) -> Option<Result<Idle, IoFault>> {
        let exchange = &self.0;
        let mux = &exchange.mux;
        let mut state = exchange.state.borrow_mut();
        if state.received.is_empty() {
            // What came whole is whole, whatever happened to the connection since.
            return if state.has_ended {
                Some(Ok(Idle::Bytes(0)))
            } else if state.gone.is_some() {
                Some(Err(broken()))
            } else if std::mem::take(&mut state.released) {
                Some(Ok(Idle::Quiet))
            } else {
                None
            };
        }
        let count = state.received.len();
        if buffer.is_empty() {
            mux.buffers.give_back(std::mem::replace(buffer, std::mem::take(&mut state.received)));
        } else {
            buffer.extend(state.received.unread());
            mux.buffers.give_back(std::mem::take(&mut state.received));
        }
        drop(state);
        mux.with(|machine, out| machine.release(exchange.stream, count, out));
        Some(Ok(Idle::Bytes(count)))
    }

    /// Puts what has come behind the unread bytes of `buffer`, without waiting.
    pub fn take_now(&mut self, buffer: &mut Buffer) {
        let exchange = &self.0;
        let mut state = exchange.state.borrow_mut();
        let count = state.received.len();
        if count == 0 {
            return;
        }
        buffer.extend(state.received.unread());
        let received = std::mem::take(&mut state.received);
        drop(state);
        exchange.mux.buffers.give_back(received);
        exchange.mux.with(|machine, out| machine.release(exchange.stream, count, out));
    }

    /// Waits for a response head.
    pub async fn answer(&mut self, until: Tick) -> Result<Answer, Unanswered> {
        let exchange = &*self.0;
        let waited = exchange.alarm(&exchange.reading).within(until, |cx| {
            let mut state = exchange.state.borrow_mut();
            if let Some(answer) = state.answers.pop_front() {
                return Poll::Ready(Ok(answer));
            }
            if let Some(gone) = state.gone {
                return Poll::Ready(Err(Unanswered::Gone(gone)));
            }
            state.reader = Some(cx.waker().clone());
            Poll::Pending
        });
        waited.await.unwrap_or(Err(Unanswered::TooSlow))
    }

    /// Whether everything has been read, and nothing more will come.
    pub fn is_at_end(&self) -> bool {
        let state = self.0.state.borrow();
        state.has_ended && state.received.is_empty()
    }

    /// Bytes that have come and nobody has read, if they are the rest of the message, without trailers.
    pub fn rest(&self) -> Option<usize> {
        let state = self.0.state.borrow();
        let is_whole = state.has_ended && state.trailers.is_none();
        is_whole.then(|| state.received.len())
    }

    /// The trailer section, once the message has ended.
    pub fn take_trailers(&mut self) -> Option<Message> {
        self.0.state.borrow_mut().trailers.take()
    }

    pub fn handle(&self) -> Handle {
        Handle::Exchange(ExchangeHandle(Rc::clone(&self.0)))
    }
}

/// Why there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    TooSlow,
    Gone(Gone),
}

impl Outgoing {
    /// Begins a response, final or informational; `write` gives the fields. False when nobody is there to get it.
    pub fn respond(&mut self, status: u16, ends: bool, write: impl FnOnce(&mut HeadWriter<'_>)) -> bool {
        let exchange = &self.0;
        let begun = exchange.mux.with(|machine, out| {
            let Ok(mut head) = machine.respond(exchange.stream, status, ends, out) else { return false };
            write(&mut head);
            true
        });
        exchange.state.borrow_mut().is_sent |= ends && begun;
        begun
    }

    /// Sends all of `bytes`, and the end of the message with `ends`. `patience` is the longest wait without progress, as far as it is the
    /// peer's doing.
    pub async fn data(&mut self, bytes: &[u8], ends: bool, patience: Duration) -> Result<(), IoFault> {
        let exchange = &*self.0;
        let mux = &exchange.mux;
        let mut left = bytes;
        loop {
            let Some(count) = mux.send(exchange.stream, left, ends) else { return Err(broken()) };
            left = &left[count..];
            if left.is_empty() {
                exchange.state.borrow_mut().is_sent |= ends;
                mux.turn();
                return Ok(());
            }
            let mut asked = false;
            let waited = exchange.alarm(&exchange.writing).within(mux.timers.clock.after(patience), |cx| {
                let mut state = exchange.state.borrow_mut();
                if std::mem::replace(&mut asked, true) || state.gone.is_some() {
                    return Poll::Ready(());
                }
                state.writer = Some(cx.waker().clone());
                drop(state);
                // Whose turn it is now is told; that may be this one.
                mux.turn();
                Poll::Pending
            });
            if waited.await.is_none() && mux.with(|machine, _| machine.waits_for_peer(exchange.stream)) {
                return Err(IoFault::TooSlow);
            }
        }
    }

    /// Sends a part of a body.
    pub(super) async fn pass(
        &mut self,
        data: &[u8],
        is_last: bool,
        trailers: Option<(&[u8], &[Field])>,
        patience: Duration,
    ) -> Result<(), IoFault> {
        let ends = is_last && trailers.is_none();
        if !data.is_empty() || (ends && !self.0.state.borrow().is_sent) {
            self.data(data, ends, patience).await?;
        }
        match trailers {
            Some((section, fields)) if is_last => self.trailers(section, fields),
            Some(_) | None => Ok(()),
        }
    }

    /// Sends trailers, which end the message.
    pub fn trailers(&mut self, section: &[u8], fields: &[Field]) -> Result<(), IoFault> {
        let exchange = &self.0;
        let sent = exchange.mux.with(|machine, out| {
            let Ok(mut trailers) = machine.trailers(exchange.stream, out) else { return false };
            for field in fields.iter().filter(|field| !field.hop) {
                trailers.field(field.name.of(section), field.value.of(section));
            }
            true
        });
        exchange.state.borrow_mut().is_sent |= sent;
        if sent { Ok(()) } else { Err(broken()) }
    }

    /// Ends the exchange so that what was sent is not taken for the whole.
    pub fn break_off(&mut self, code: Code) {
        let exchange = &self.0;
        exchange.mux.with(|machine, out| machine.reset(exchange.stream, code, out));
        exchange.end_with(Gone::Reset);
    }

    pub fn pair_with(&mut self, partner: &Handle) {
        let is_gone = {
            let mut state = self.0.state.borrow_mut();
            state.partner = Some(partner.clone());
            state.gone.is_some()
        };
        if is_gone {
            partner.end();
        }
    }

    pub fn unpair(&mut self) {
        self.0.state.borrow_mut().partner = None;
    }

    /// Whether the peer no longer waits for what is sent here.
    pub fn is_gone(&self) -> bool {
        self.0.state.borrow().gone.is_some()
    }

    pub fn buffers(&self) -> &Buffers {
        &self.0.mux.buffers
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Exchange {
    /// One half less. With the last one the exchange is over: a peer that is still sending need not go on.
    fn leave(&self) {
        self.halves.set(self.halves.get() - 1);
        if self.halves.get() > 0 {
            return;
        }
        let is_sent = self.state.borrow().is_sent;
        self.mux.forget(self.stream, is_sent);
        let received = std::mem::take(&mut self.state.borrow_mut().received);
        self.mux.buffers.give_back(received);
    }
}

/// Ends an exchange from elsewhere.
#[derive(Clone)]
pub struct ExchangeHandle(Rc<Exchange>);

impl ExchangeHandle {
    pub(super) fn end(&self) {
        self.0.end();
    }

    pub(super) fn was_ended(&self) -> bool {
        self.0.was_ended()
    }

    pub(super) fn expect_until(&self, until: Tick) {
        self.0.expect_until(until);
    }

    pub(super) fn release(&self) {
        self.0.release();
    }
}

impl Mux {
    /// Begins a request; `write` gives the fields. `None` when this connection takes none now.
    pub fn request(
        self: &Rc<Self>,
        line: &RequestLine<'_>,
        ends: bool,
        write: impl FnOnce(&mut HeadWriter<'_>),
    ) -> Option<(Incoming, Outgoing)> {
        let stream = self.with(|machine, out| {
            let (stream, mut head) = machine.request(line, ends, out).ok()?;
            write(&mut head);
            Some(stream)
        })?;
        let exchange = Exchange::new(stream, self, false);
        exchange.state.borrow_mut().is_sent = ends;
        self.register(&exchange);
        let incoming = Incoming::new(exchange);
        let outgoing = incoming.outgoing();
        Some((incoming, outgoing))
    }
}
