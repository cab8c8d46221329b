//! One connection's byte stream, as two halves that can be used at the same time.

use std::{io, net::SocketAddr, ops::Range, os::fd::AsRawFd, path::Path, rc::Rc, time::Duration};

use monoio::{
    buf::{IoBuf, SliceMut},
    io::{AsyncReadRent, AsyncWriteRent, CancelableAsyncReadRent, OwnedReadHalf, OwnedWriteHalf, Splitable},
    net::{TcpStream, UnixStream},
};
use rustix::net::{RecvFlags, Shutdown};

use super::{
    Buffer, Timers,
    deadline::{Armed, HalfGuard, Slot},
};
use crate::clock::Tick;

/// Why a stream could not be read or written any further.
#[derive(Debug)]
pub enum IoFault {
    /// The deadline passed first. For a read, the other direction still works.
    TooSlow,
    /// The peer broke the connection, or the kernel did.
    Broken(io::Error),
}

/// How a wait between messages ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// This many bytes arrived.
    Bytes(usize),
    /// Nothing came until the time to give the buffer back.
    Quiet,
}

enum ReadHalf {
    Tcp(OwnedReadHalf<TcpStream>),
    Unix(OwnedReadHalf<UnixStream>),
}

enum WriteHalf {
    Tcp(OwnedWriteHalf<TcpStream>),
    Unix(OwnedWriteHalf<UnixStream>),
}

/// The receiving half.
pub struct Reader {
    // Before the half: the guard's drop must run while the descriptor is still open.
    guard: HalfGuard,
    half: ReadHalf,
    timers: Rc<Timers>,
}

/// The sending half.
pub struct Writer {
    guard: HalfGuard,
    half: WriteHalf,
    timers: Rc<Timers>,
    sent: u64,
}

/// Both halves of a connection.
pub struct Stream {
    pub reader: Reader,
    pub writer: Writer,
}

impl Stream {
    pub(super) fn tcp(stream: TcpStream, timers: &Rc<Timers>) -> Self {
        let slot = Slot::new(stream.as_raw_fd());
        let (read, write) = stream.into_split();
        Self::new(&slot, ReadHalf::Tcp(read), WriteHalf::Tcp(write), timers)
    }

    pub(super) fn unix(stream: UnixStream, timers: &Rc<Timers>) -> Self {
        let slot = Slot::new(stream.as_raw_fd());
        let (read, write) = stream.into_split();
        Self::new(&slot, ReadHalf::Unix(read), WriteHalf::Unix(write), timers)
    }

    fn new(slot: &Rc<Slot>, read: ReadHalf, write: WriteHalf, timers: &Rc<Timers>) -> Self {
        Self {
            reader: Reader { guard: HalfGuard::new(slot), half: read, timers: Rc::clone(timers) },
            writer: Writer { guard: HalfGuard::new(slot), half: write, timers: Rc::clone(timers), sent: 0 },
        }
    }

    /// Connects to a TCP address, with Nagle's algorithm off. Fails with `TooSlow` after `limit`.
    pub async fn connect(address: SocketAddr, limit: Duration, timers: &Rc<Timers>) -> Result<Self, IoFault> {
        match monoio::time::timeout(limit, TcpStream::connect_addr(address)).await {
            Ok(Ok(stream)) => {
                // Without it small messages are slower, not wrong.
                let _ = stream.set_nodelay(true);
                Ok(Self::tcp(stream, timers))
            }
            Ok(Err(error)) => Err(IoFault::Broken(error)),
            Err(_) => Err(IoFault::TooSlow),
        }
    }

    /// Connects to a Unix socket.
    pub async fn connect_unix(path: &Path, limit: Duration, timers: &Rc<Timers>) -> Result<Self, IoFault> {
        match monoio::time::timeout(limit, UnixStream::connect(path)).await {
            Ok(Ok(stream)) => Ok(Self::unix(stream, timers)),
            Ok(Err(error)) => Err(IoFault::Broken(error)),
            Err(_) => Err(IoFault::TooSlow),
        }
    }

    /// A way to end this stream from elsewhere on the shard.
    pub fn handle(&self) -> StreamHandle {
        StreamHandle(Rc::clone(self.reader.guard.rc()))
    }
}

/// Ends a stream from elsewhere on the shard: pending operations complete, both ways are shut.
#[derive(Clone)]
pub struct StreamHandle(Rc<Slot>);

impl StreamHandle {
    /// Whether an idle connection can be used: nothing has arrived and the peer has not closed it. One system call
    /// (`recv` with `MSG_PEEK | MSG_DONTWAIT`, 0.2 µs).
    pub fn is_quiet(&self) -> bool {
        let mut byte = [0_u8; 1];
        let peeked = self.0.with_socket(|socket| {
            rustix::net::recv(socket, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT)
        });
        matches!(peeked, Some(Err(rustix::io::Errno::AGAIN)))
    }

    pub fn end(&self) {
        let _ = self.0.with_socket(|socket| rustix::net::shutdown(socket, Shutdown::Both));
    }

    /// Ends the stream that is read on behalf of this one, if this one was reset by its peer. One that was only half-closed is
    /// still waiting for its answer.
    pub fn end_partner_if_broken(&self) {
        let mut byte = [0_u8; 1];
        let peeked = self.0.with_socket(|socket| {
            rustix::net::recv(socket, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT).map(|_| ())
        });
        let broken = match peeked {
            Some(Ok(_) | Err(rustix::io::Errno::AGAIN)) | None => false,
            Some(Err(_)) => true,
        };
        if broken && let Some(partner) = self.0.partner() {
            Self(partner).end();
        }
    }

    /// Moves the deadline of the read that is under way.
    pub fn expect_until(&self, until: Tick, timers: &Rc<Timers>) {
        timers.move_read(&self.0, until);
    }

    /// Moves the deadline of the read that is under way, if there is one.
    pub fn extend(&self, until: Tick, timers: &Rc<Timers>) {
        if self.0.is_reading() {
            timers.move_read(&self.0, until);
        }
    }

    /// Ends a [`Reader::read_or_release`] that is under way; it returns what has arrived, or `Quiet`.
    pub fn release(&self) {
        self.0.release();
    }

    /// Nothing more is received; what is pending completes with the end of the stream.
    pub fn end_reading(&self) {
        let _ = self.0.with_socket(|socket| rustix::net::shutdown(socket, Shutdown::Read));
    }
}

impl Reader {
    pub(super) fn timers(&self) -> Rc<Timers> {
        Rc::clone(&self.timers)
    }

    fn armed(&self) -> Armed<'_> {
        Armed { timers: &self.timers, guard: &self.guard }
    }

    /// Reads what has arrived behind the unread bytes of `buffer`, as far as its room goes. Returns how many bytes came; 0 is
    /// the end of the stream. Never loses a byte: after `TooSlow` everything that had arrived is in `buffer`.
    pub async fn read(&mut self, buffer: &mut Buffer, until: Tick) -> Result<usize, IoFault> {
        let bytes = std::mem::take(&mut buffer.bytes);
        let (start, end) = (bytes.len(), bytes.capacity() - Buffer::TAIL);
        debug_assert!(start < end, "a read needs room");
        self.armed().reading(until);
        let spare = SliceMut::new(bytes, start, end);
        let (result, spare) = match &mut self.half {
            ReadHalf::Tcp(half) => half.read(spare).await,
            ReadHalf::Unix(half) => half.read(spare).await,
        };
        buffer.bytes = spare.into_inner();
        self.armed().read_done();
        self.outcome(result)
    }

    /// Like [`Reader::read`], but gives up, with nothing lost, when nothing came before `release`.
    pub async fn read_or_release(
        &mut self,
        buffer: &mut Buffer,
        release: Tick,
        until: Tick,
    ) -> Result<Idle, IoFault> {
        let bytes = std::mem::take(&mut buffer.bytes);
        let (start, end) = (bytes.len(), bytes.capacity() - Buffer::TAIL);
        debug_assert!(start < end, "a read needs room");
        self.armed().reading(until);
        let cancel = self.armed().releasing(release);
        let spare = SliceMut::new(bytes, start, end);
        let (result, spare) = match &mut self.half {
            ReadHalf::Tcp(half) => half.cancelable_read(spare, cancel).await,
            ReadHalf::Unix(half) => half.cancelable_read(spare, cancel).await,
        };
        buffer.bytes = spare.into_inner();
        self.armed().read_done();
        match result {
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => Ok(Idle::Quiet),
            result => self.outcome(result).map(Idle::Bytes),
        }
    }

    /// Waits without a buffer worth the name for the next bytes; they are put into `buffer`, which gets its memory from
    /// `memory` when they come. Returns how many came.
    pub async fn read_after_rest(
        &mut self,
        buffer: &mut Buffer,
        memory: impl FnOnce() -> Buffer,
        until: Tick,
    ) -> Result<usize, IoFault> {
        // A readiness operation would do without these bytes, but then costs a second operation for each message, and
        // monoio's halves have none.
        let tiny: Vec<u8> = Vec::with_capacity(8);
        self.armed().reading(until);
        let (result, tiny) = match &mut self.half {
            ReadHalf::Tcp(half) => half.read(tiny).await,
            ReadHalf::Unix(half) => half.read(tiny).await,
        };
        self.armed().read_done();
        let count = self.outcome(result)?;
        *buffer = memory();
        buffer.extend(&tiny[..count]);
        Ok(count)
    }

    fn outcome(&self, result: io::Result<usize>) -> Result<usize, IoFault> {
        match result {
            Ok(0) if self.armed().read_expired() => Err(IoFault::TooSlow),
            Ok(count) => Ok(count),
            Err(_) if self.armed().read_expired() => Err(IoFault::TooSlow),
            Err(error) => Err(IoFault::Broken(error)),
        }
    }

    /// Moves the deadline of a read that is under way.
    pub fn handle(&self) -> StreamHandle {
        StreamHandle(Rc::clone(self.guard.rc()))
    }
}

impl Writer {
    fn armed(&self) -> Armed<'_> {
        Armed { timers: &self.timers, guard: &self.guard }
    }

    /// Sends `place` of `buffer` completely. `patience` is the longest wait without progress.
    pub async fn write(
        &mut self,
        buffer: &mut Buffer,
        place: Range<usize>,
        patience: Duration,
    ) -> Result<(), IoFault> {
        let mut place = place;
        while !place.is_empty() {
            let bytes = std::mem::take(&mut buffer.bytes);
            self.armed().writing(self.timers.clock.after(patience));
            let slice = bytes.slice(place.clone());
            let (result, slice) = match &mut self.half {
                WriteHalf::Tcp(half) => half.write(slice).await,
                WriteHalf::Unix(half) => half.write(slice).await,
            };
            buffer.bytes = slice.into_inner();
            self.armed().write_done();
            match result {
                _ if self.armed().write_expired() => return Err(IoFault::TooSlow),
                Ok(0) => return Err(IoFault::Broken(io::ErrorKind::WriteZero.into())),
                Ok(count) => {
                    self.sent += count as u64;
                    place.start += count;
                    if !place.is_empty() {
                        self.timers.clock.now_us();
                    }
                }
                Err(error) => return Err(IoFault::Broken(error)),
            }
        }
        Ok(())
    }

    /// Sends everything unread and empties the buffer.
    pub async fn write_all(&mut self, buffer: &mut Buffer, patience: Duration) -> Result<(), IoFault> {
        let place = buffer.place(0..buffer.len());
        let result = self.write(buffer, place, patience).await;
        buffer.clear();
        result
    }

    /// Notes that a stream is read on behalf of this one: [`StreamHandle::end_partner_if_broken`] ends it.
    pub fn pair_with(&mut self, partner: &StreamHandle) {
        self.guard.slot().set_partner(Some(Rc::clone(&partner.0)));
    }

    /// Nothing is read on behalf of this stream any more.
    pub fn unpair(&mut self) {
        self.guard.slot().set_partner(None);
    }

    /// Bytes the kernel has taken so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Says that nothing more will be sent.
    pub fn finish(&mut self) {
        let _ = self.guard.slot().with_socket(|socket| rustix::net::shutdown(socket, Shutdown::Write));
    }

    /// Makes the coming close a reset, so that the peer cannot take what it got for the whole.
    pub fn reset_on_close(&mut self) {
        let _ = self
            .guard
            .slot()
            .with_socket(|socket| rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO)));
    }

    pub fn handle(&self) -> StreamHandle {
        StreamHandle(Rc::clone(self.guard.rc()))
    }
}
