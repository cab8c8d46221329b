//! What messages are read from and written to, whatever the protocol beneath them.
//!
//! [`Inbound`] and [`Outbound`] are the two halves of one exchange, towards a client or towards a service. [`Piece`] is a part of a
//! body on its way from one to the other: where its framing is written.

mod drive;
mod exchange;
mod mux;
mod piece;

use std::{ops::Range, rc::Rc, time::Duration};

pub use self::{
    drive::Over,
    exchange::{ExchangeHandle, Gone, Incoming, Outgoing, Unanswered},
    mux::{Answer, Arrival, Fed, Mux},
    piece::Piece,
};
use crate::{
    clock::Tick,
    http::{
        BodyLength, Decoder, Field,
        h2::{Code, Message},
        reply::{self, Reply},
        rewrite,
    },
    runtime::{
        Buffer, Buffers, Ending, Gathered, Idle, IoFault, ReadAhead, Reader, StreamHandle, Timers, Writer,
    },
};

/// How long an end may take to be said.
const FAREWELL: Duration = Duration::from_secs(1);

/// Where a message comes from.
pub enum Inbound {
    /// A connection's own bytes.
    Socket(Reader),
    /// The same, read ahead.
    Ahead(ReadAhead),
    /// One of the exchanges of an HTTP/2 connection.
    Exchange(Incoming),
}

/// Where a message goes.
pub enum Outbound {
    Socket(Writer),
    Exchange(Outgoing),
}

/// Ends an exchange from elsewhere on the shard.
#[derive(Clone)]
pub enum Handle {
    Socket(StreamHandle),
    Exchange(ExchangeHandle),
    /// Somebody who waits for more than one exchange.
    Wait(Rc<Ending>),
}

impl Inbound {
    /// The decoder for a body of this length that is read from here. An exchange has its body's end from its frames.
    pub fn decoder(&self, length: BodyLength) -> Decoder {
        match self {
            Self::Socket(_) | Self::Ahead(_) => Decoder::new(length),
            Self::Exchange(_) => Decoder::new(BodyLength::UntilClose),
        }
    }

    /// Whether what has been read is all there is, known before a read says so.
    pub fn is_at_end(&self) -> bool {
        match self {
            Self::Socket(_) | Self::Ahead(_) => false,
            Self::Exchange(incoming) => incoming.is_at_end(),
        }
    }

    /// The trailers of an exchange, at its end. Those of a socket are in its bytes.
    pub fn take_trailers(&mut self) -> Option<Message> {
        match self {
            Self::Socket(_) | Self::Ahead(_) => None,
            Self::Exchange(incoming) => incoming.take_trailers(),
        }
    }

    /// Whether larger buffers make for fewer reads.
    pub fn fills_large_buffers(&self) -> bool {
        match self {
            Self::Socket(_) | Self::Ahead(_) => true,
            Self::Exchange(_) => false,
        }
    }

    /// Reads behind the unread bytes of `buffer`, as [`Reader::read`] does.
    #[inline]
    pub async fn read(&mut self, buffer: &mut Buffer, until: Tick) -> Result<usize, IoFault> {
        match self {
            Self::Socket(reader) => reader.read(buffer, until).await,
            Self::Ahead(reader) => reader.read(buffer, until).await,
            Self::Exchange(incoming) => incoming.read(buffer, until).await,
        }
    }

    /// Like [`Inbound::read`], but gives up when [`Handle::release`] asks for it.
    pub async fn read_unless_released(&mut self, buffer: &mut Buffer, until: Tick) -> Result<Idle, IoFault> {
        match self {
            Self::Socket(reader) => reader.read_or_release(buffer, Tick::NEVER, until).await,
            Self::Ahead(reader) => reader.read(buffer, until).await.map(Idle::Bytes),
            Self::Exchange(incoming) => incoming.wait(buffer, until).await,
        }
    }

    pub fn handle(&self) -> Handle {
        match self {
            Self::Socket(reader) => Handle::Socket(reader.handle()),
            Self::Ahead(reader) => Handle::Socket(reader.handle()),
            Self::Exchange(incoming) => incoming.handle(),
        }
    }
}

impl Outbound {
    /// Sends `place` of `buffer` completely. `patience` is the longest wait without progress.
    #[inline]
    pub async fn write(
        &mut self,
        buffer: &mut Buffer,
        place: Range<usize>,
        patience: Duration,
    ) -> Result<(), IoFault> {
        match self {
            Self::Socket(writer) => writer.write(buffer, place, patience).await,
            Self::Exchange(outgoing) => outgoing.data(buffer.at(place), false, patience).await,
        }
    }

    /// Sends everything unread and empties the buffer.
    #[inline]
    pub async fn write_all(&mut self, buffer: &mut Buffer, patience: Duration) -> Result<(), IoFault> {
        match self {
            Self::Socket(writer) => writer.write_all(buffer, patience).await,
            Self::Exchange(outgoing) => {
                let written = outgoing.data(buffer.unread(), false, patience).await;
                buffer.clear();
                written
            }
        }
    }

    /// Sends a reply of our own, completely; returns the bytes of its head, as far as they are known.
    pub async fn reply(
        &mut self,
        reply: &Reply<'_>,
        buffers: &Buffers,
        patience: Duration,
    ) -> Result<u64, IoFault> {
        match self {
            Self::Socket(writer) => {
                let mut out = buffers.small();
                reply::write_reply(reply, out.start_writing());
                let bodyless = reply.head_only || matches!(reply.status, 100..=199 | 204 | 304);
                let head = out.len() - if bodyless { 0 } else { reply.body.len() };
                let written = writer.write_all(&mut out, patience).await;
                buffers.give_back(out);
                written.map(|()| head as u64)
            }
            Self::Exchange(outgoing) => {
                let bodyless = reply.head_only || matches!(reply.status, 100..=199 | 204 | 304);
                let body = if bodyless { b"" } else { reply.body };
                outgoing.respond(reply.status, body.is_empty(), |head| {
                    reply::each_field(reply, |name, value| head.field(name, value));
                });
                outgoing.pass(body, true, None, patience).await.map(|()| 0)
            }
        }
    }

    /// Sends a reply of our own whose body lies in several places, without joining them; that of `reply` is not looked at. Returns the
    /// bytes of its head, as far as they are known.
    pub async fn reply_gathered(
        &mut self,
        reply: &Reply<'_>,
        body: &mut Gathered,
        patience: Duration,
    ) -> Result<u64, IoFault> {
        let length = body.len() as u64;
        if reply.head_only {
            body.advance(body.len());
        }
        match self {
            Self::Socket(writer) => {
                let mut head = Vec::with_capacity(512);
                reply::write_status_line(reply.status, &mut head);
                reply::each_field_before(reply, length, |name, value| {
                    reply::write_field(name, value, &mut head)
                });
                if let Some(option) = reply::connection_option(reply.version, reply.keep_alive) {
                    reply::write_field(b"Connection", option, &mut head);
                }
                head.extend_from_slice(b"\r\n");
                let head_bytes = head.len() as u64;
                body.put_first(head);
                writer.write_gathered(body, patience).await.map(|()| head_bytes)
            }
            Self::Exchange(outgoing) => {
                outgoing.respond(reply.status, body.is_empty(), |head| {
                    reply::each_field_before(reply, length, |name, value| head.field(name, value));
                });
                let mut left = body.len();
                for slice in body.slices() {
                    left -= slice.len();
                    outgoing.data(slice, left == 0, patience).await?;
                }
                Ok(0)
            }
        }
    }

    /// Passes an informational response on (RFC 9110 §15.2).
    pub async fn inform(
        &mut self,
        status: u16,
        reason: &[u8],
        bytes: &[u8],
        fields: &[Field],
        buffers: &Buffers,
        patience: Duration,
    ) -> Result<(), IoFault> {
        match self {
            Self::Socket(writer) => {
                let mut out = buffers.small();
                rewrite::write_informational(out.start_writing(), status, reason, bytes, fields);
                let written = writer.write_all(&mut out, patience).await;
                buffers.give_back(out);
                written
            }
            Self::Exchange(outgoing) => {
                let informed = outgoing.respond(status, false, |head| {
                    for field in fields.iter().filter(|field| !field.hop) {
                        head.field(field.name.of(bytes), field.value.of(bytes));
                    }
                });
                if informed {
                    Ok(())
                } else {
                    Err(IoFault::Broken(std::io::ErrorKind::ConnectionReset.into()))
                }
            }
        }
    }

    /// Notes what is done on behalf of this side: it is ended when this side is gone.
    pub fn pair_with(&mut self, partner: &Handle) {
        match (self, partner) {
            (Self::Socket(writer), Handle::Socket(partner)) => writer.pair_with(partner),
            (Self::Socket(writer), Handle::Wait(wait)) => writer.pair_with_wait(wait),
            (Self::Socket(_), Handle::Exchange(_)) => {}
            (Self::Exchange(outgoing), partner) => outgoing.pair_with(partner),
        }
    }

    /// Nothing is done on behalf of this side any more.
    pub fn unpair(&mut self) {
        match self {
            Self::Socket(writer) => writer.unpair(),
            Self::Exchange(outgoing) => outgoing.unpair(),
        }
    }

    /// Bytes the kernel has taken so far, of a socket.
    pub fn sent(&self) -> u64 {
        match self {
            Self::Socket(writer) => writer.sent(),
            Self::Exchange(_) => 0,
        }
    }

    /// Whether it is known that nobody is there to get what is sent.
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Socket(_) => false,
            Self::Exchange(outgoing) => outgoing.is_gone(),
        }
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) {
        match self {
            Self::Socket(writer) => writer.finish().await,
            Self::Exchange(outgoing) => {
                // A peer that takes nothing does without it.
                let _ = outgoing.data(b"", true, FAREWELL).await;
            }
        }
    }

    /// Makes sure that what was sent is not taken for the whole.
    pub fn break_off(&mut self) {
        match self {
            Self::Socket(writer) => writer.reset_on_close(),
            Self::Exchange(outgoing) => outgoing.break_off(Code::InternalError),
        }
    }
}

impl Handle {
    pub fn end(&self) {
        match self {
            Self::Socket(handle) => handle.end(),
            Self::Exchange(handle) => handle.end(),
            Self::Wait(wait) => wait.come(),
        }
    }

    /// Whether the end is our own doing, not the peer's word.
    pub fn was_ended(&self) -> bool {
        match self {
            Self::Socket(handle) => handle.was_ended(),
            Self::Exchange(handle) => handle.was_ended(),
            Self::Wait(_) => false,
        }
    }

    /// Moves the deadline of the read that is under way, if there is one.
    pub fn expect_until(&self, until: Tick, timers: &Rc<Timers>) {
        match self {
            Self::Socket(handle) => handle.expect_until(until, timers),
            Self::Exchange(handle) => handle.expect_until(until),
            Self::Wait(_) => {}
        }
    }

    /// Ends an [`Inbound::read_unless_released`] that is under way.
    pub fn release(&self) {
        match self {
            Self::Socket(handle) => handle.release(),
            Self::Exchange(handle) => handle.release(),
            Self::Wait(_) => {}
        }
    }
}
