//! What messages are read from and written to, whatever the protocol beneath them.
//!
//! [`Inbound`] and [`Outbound`] are the two halves of one exchange, towards a client or towards a service. [`Piece`] is a part of a
//! body on its way from one to the other: where its framing is written.

mod piece;

use std::{ops::Range, rc::Rc, time::Duration};

pub use self::piece::Piece;
use crate::{
    clock::Tick,
    http::{BodyLength, Decoder, Field, rewrite},
    runtime::{
        Buffer, Buffers, Ending, Gathered, Idle, IoFault, ReadAhead, Reader, StreamHandle, Timers, Writer,
    },
};

/// Where a message comes from.
pub enum Inbound {
    /// A connection's own bytes.
    Socket(Reader),
    /// The same, read ahead.
    Ahead(ReadAhead),
}

/// Where a message goes.
pub enum Outbound {
    Socket(Writer),
}

/// Ends an exchange from elsewhere on the shard.
#[derive(Clone)]
pub enum Handle {
    Socket(StreamHandle),
}

impl Inbound {
    /// The decoder for a body of this length that is read from here.
    pub fn decoder(&self, length: BodyLength) -> Decoder {
        Decoder::new(length)
    }

    /// Reads behind the unread bytes of `buffer`, as [`Reader::read`] does.
    #[inline]
    pub async fn read(&mut self, buffer: &mut Buffer, until: Tick) -> Result<usize, IoFault> {
        match self {
            Self::Socket(reader) => reader.read(buffer, until).await,
            Self::Ahead(reader) => reader.read(buffer, until).await,
        }
    }

    /// Like [`Inbound::read`], but gives up when [`Handle::release`] asks for it.
    pub async fn read_unless_released(&mut self, buffer: &mut Buffer, until: Tick) -> Result<Idle, IoFault> {
        match self {
            Self::Socket(reader) => reader.read_or_release(buffer, Tick::NEVER, until).await,
            Self::Ahead(reader) => reader.read(buffer, until).await.map(Idle::Bytes),
        }
    }

    pub fn handle(&self) -> Handle {
        match self {
            Self::Socket(reader) => Handle::Socket(reader.handle()),
            Self::Ahead(reader) => Handle::Socket(reader.handle()),
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
        }
    }

    /// Sends everything unread and empties the buffer.
    #[inline]
    pub async fn write_all(&mut self, buffer: &mut Buffer, patience: Duration) -> Result<(), IoFault> {
        match self {
            Self::Socket(writer) => writer.write_all(buffer, patience).await,
        }
    }

    /// Sends a message that lies in several places, head and all, without joining it.
    pub async fn write_gathered(
        &mut self,
        message: &mut Gathered,
        patience: Duration,
    ) -> Result<(), IoFault> {
        match self {
            Self::Socket(writer) => writer.write_gathered(message, patience).await,
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
        }
    }

    /// Notes what is done on behalf of this side: it is ended when this side is gone.
    pub fn pair_with(&mut self, partner: &Handle) {
        match (self, partner) {
            (Self::Socket(writer), Handle::Socket(partner)) => writer.pair_with(partner),
        }
    }

    /// Notes a wait on behalf of this side: it ends when this side is gone.
    pub fn pair_with_wait(&mut self, wait: &Rc<Ending>) {
        match self {
            Self::Socket(writer) => writer.pair_with_wait(wait),
        }
    }

    /// Nothing is done on behalf of this side any more.
    pub fn unpair(&mut self) {
        match self {
            Self::Socket(writer) => writer.unpair(),
        }
    }

    /// Bytes that were sent so far.
    pub fn sent(&self) -> u64 {
        match self {
            Self::Socket(writer) => writer.sent(),
        }
    }

    /// Says that nothing more will be sent.
    pub async fn finish(&mut self) {
        match self {
            Self::Socket(writer) => writer.finish().await,
        }
    }

    /// Makes sure that what was sent is not taken for the whole.
    pub fn break_off(&mut self) {
        match self {
            Self::Socket(writer) => writer.reset_on_close(),
        }
    }
}

impl Handle {
    pub fn end(&self) {
        match self {
            Self::Socket(handle) => handle.end(),
        }
    }

    /// Whether the end is our own doing, not the peer's word.
    pub fn was_ended(&self) -> bool {
        match self {
            Self::Socket(handle) => handle.was_ended(),
        }
    }

    /// Moves the deadline of the read that is under way, if there is one.
    pub fn expect_until(&self, until: Tick, timers: &Rc<Timers>) {
        match self {
            Self::Socket(handle) => handle.expect_until(until, timers),
        }
    }

    /// Ends an [`Inbound::read_unless_released`] that is under way.
    pub fn release(&self) {
        match self {
            Self::Socket(handle) => handle.release(),
        }
    }
}
