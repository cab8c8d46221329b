//! One connection's byte stream, as two halves that can be used at the same time.

use std::{
    io,
    net::SocketAddr,
    ops::Range,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    rc::Rc,
    time::Duration,
};

use monoio::{
    buf::{IoBuf, SliceMut},
    io::{AsyncReadRent, AsyncWriteRent, CancelableAsyncReadRent, OwnedReadHalf, OwnedWriteHalf, Splitable},
    net::{TcpStream, UnixStream},
};
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use rustls::pki_types::CertificateDer;

use super::{
    Buffer, Ending, Gathered, Timers,
    deadline::{Armed, HalfGuard, Partner, Slot},
    gathered::Lent,
    session::{Facts, Session},
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
    /// `None` on a plain stream.
    pub(super) tls: Option<Rc<Session>>,
}

/// The sending half.
pub struct Writer {
    guard: HalfGuard,
    half: WriteHalf,
    timers: Rc<Timers>,
    sent: u64,
    pub(super) tls: Option<Rc<Session>>,
}

/// How long a peer may take to make room for the last record.
const FAREWELL: Duration = Duration::from_secs(1);

/// Both halves of a connection.
pub struct Stream {
    pub reader: Reader,
    pub writer: Writer,
}

impl Stream {
    fn tcp(stream: TcpStream, timers: &Rc<Timers>) -> Self {
        Accepted::tcp(stream).into_stream(timers)
    }

    fn unix(stream: UnixStream, timers: &Rc<Timers>) -> Self {
        Accepted::unix(stream).into_stream(timers)
    }

    fn new(slot: &Rc<Slot>, read: ReadHalf, write: WriteHalf, timers: &Rc<Timers>) -> Self {
        Self {
            reader: Reader { guard: HalfGuard::new(slot), half: read, timers: Rc::clone(timers), tls: None },
            writer: Writer {
                guard: HalfGuard::new(slot),
                half: write,
                timers: Rc::clone(timers),
                sent: 0,
                tls: None,
            },
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

    /// Whether TLS is spoken.
    pub fn is_secure(&self) -> bool {
        self.reader.tls.is_some()
    }

    /// A way to end this stream from elsewhere on the shard.
    pub fn handle(&self) -> StreamHandle {
        StreamHandle(Rc::clone(self.reader.guard.rc()))
    }
}

/// A connection of which nothing has been read, on the shard that accepted it.
pub struct Accepted {
    whole: Whole,
    slot: Rc<Slot>,
}

enum Whole {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Accepted {
    pub(super) fn tcp(stream: TcpStream) -> Self {
        Self { slot: Slot::new(stream.as_raw_fd()), whole: Whole::Tcp(stream) }
    }

    pub(super) fn unix(stream: UnixStream) -> Self {
        Self { slot: Slot::new(stream.as_raw_fd()), whole: Whole::Unix(stream) }
    }

    pub fn into_stream(self, timers: &Rc<Timers>) -> Stream {
        let (read, write) = match self.whole {
            Whole::Tcp(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Tcp(read), WriteHalf::Tcp(write))
            }
            Whole::Unix(stream) => {
                let (read, write) = stream.into_split();
                (ReadHalf::Unix(read), WriteHalf::Unix(write))
            }
        };
        Stream::new(&self.slot, read, write, timers)
    }

    /// The connection for another shard. It is open on both until this one is dropped.
    ///
    /// Not possible with a [`Stream`]: monoio's halves shut the connection down when they are dropped.
    pub fn detach(&self) -> io::Result<Detached> {
        // A duplicate, since monoio's way to give a descriptor up reads memory that was never written.
        let fd = self.slot.with_socket(|socket| rustix::io::fcntl_dupfd_cloexec(socket, 0));
        let fd = fd.ok_or(io::ErrorKind::NotConnected)??;
        Ok(match self.whole {
            Whole::Tcp(_) => Detached::Tcp(fd),
            Whole::Unix(_) => Detached::Unix(fd),
        })
    }
}

/// A connection on its way from one shard to another.
pub enum Detached {
    Tcp(OwnedFd),
    Unix(OwnedFd),
}

impl Detached {
    /// Takes the connection onto this shard, whose driver must be the giver's.
    pub fn attach(self) -> io::Result<Accepted> {
        Ok(match self {
            Self::Tcp(fd) => Accepted::tcp(TcpStream::from_std(fd.into())?),
            Self::Unix(fd) => Accepted::unix(UnixStream::from_std(fd.into())?),
        })
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
        self.0.end();
    }

    /// Whether the end of the stream is our own doing ([`StreamHandle::end`]), not the peer's word.
    pub fn was_ended(&self) -> bool {
        self.0.was_ended()
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
        match self.0.partner().filter(|_| broken) {
            Some(Partner::Stream(partner)) => Self(partner).end(),
            Some(Partner::Wait(ending)) => ending.come(),
            None => {}
        }
    }

    /// Moves the deadline of the read that is under way. Without one nothing happens: a deadline that no read clears would
    /// end the stream some time later, whoever uses it then.
    pub fn expect_until(&self, until: Tick, timers: &Rc<Timers>) {
        timers.move_read(&self.0, until);
    }

    /// Ends a [`Reader::read_or_release`] that is under way; it returns what has arrived, or `Quiet`. One that starts later is
    /// not ended.
    pub fn release(&self) {
        self.0.release();
    }
}

/// How a read begins.
enum Begun {
    Lent(Vec<u8>),
    Done(Result<usize, IoFault>),
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
    ///
    /// A TLS stream that ends without `close_notify` is `Broken`: somebody may have cut it (RFC 8446 §6.1).
    pub async fn read(&mut self, buffer: &mut Buffer, until: Tick) -> Result<usize, IoFault> {
        let mut until = until;
        loop {
            let bytes = match self.begin_read(buffer) {
                Begun::Lent(bytes) => bytes,
                Begun::Done(result) => return result,
            };
            let (start, end) = (bytes.len(), bytes.capacity() - Buffer::TAIL);
            self.armed().reading(until);
            let spare = SliceMut::new(bytes, start, end);
            let (result, spare) = match &mut self.half {
                ReadHalf::Tcp(half) => half.read(spare).await,
                ReadHalf::Unix(half) => half.read(spare).await,
            };
            // Kept by the next read, where these bytes were no plaintext.
            until = self.guard.slot().read_until();
            if let Some(result) = self.end_read(buffer, spare.into_inner(), result) {
                return result;
            }
        }
    }

    /// Like [`Reader::read`], but gives up, with nothing lost, when nothing came before `release`.
    pub async fn read_or_release(
        &mut self,
        buffer: &mut Buffer,
        release: Tick,
        until: Tick,
    ) -> Result<Idle, IoFault> {
        let mut until = until;
        loop {
            let bytes = match self.begin_read(buffer) {
                Begun::Lent(bytes) => bytes,
                Begun::Done(result) => return result.map(Idle::Bytes),
            };
            let (start, end) = (bytes.len(), bytes.capacity() - Buffer::TAIL);
            self.armed().reading(until);
            let cancel = self.armed().releasing(release);
            let spare = SliceMut::new(bytes, start, end);
            let (result, spare) = match &mut self.half {
                ReadHalf::Tcp(half) => half.cancelable_read(spare, cancel).await,
                ReadHalf::Unix(half) => half.cancelable_read(spare, cancel).await,
            };
            until = self.guard.slot().read_until();
            let is_quiet = matches!(&result, Err(error) if error.raw_os_error() == Some(libc::ECANCELED));
            match self.end_read(buffer, spare.into_inner(), result) {
                _ if is_quiet => return Ok(Idle::Quiet),
                Some(result) => return result.map(Idle::Bytes),
                None if self.guard.slot().was_released() => return Ok(Idle::Quiet),
                None => {}
            }
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
        let Some(session) = &self.tls else {
            buffer.extend(&tiny[..count]);
            return Ok(count);
        };
        if count == 0 {
            return Err(IoFault::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
        session.receive(&tiny[..count]);
        drop(tiny);
        self.read(buffer, until).await
    }

    /// The memory for the kernel to read into: the buffer's own or, for ciphertext, the session's. Nothing is read where a session
    /// has plaintext already.
    fn begin_read(&self, buffer: &mut Buffer) -> Begun {
        debug_assert!(buffer.room() > 0, "a read needs room");
        let Some(session) = &self.tls else { return Begun::Lent(std::mem::take(&mut buffer.bytes)) };
        match session.open(buffer) {
            None => Begun::Lent(session.lend(buffer.room())),
            Some(result) => {
                if result.is_err() {
                    self.say_last_words(session);
                }
                Begun::Done(result.map_err(IoFault::Broken))
            }
        }
    }

    /// Takes the memory back. `None` when there is no plaintext yet.
    fn end_read(
        &self,
        buffer: &mut Buffer,
        bytes: Vec<u8>,
        result: io::Result<usize>,
    ) -> Option<Result<usize, IoFault>> {
        self.armed().read_done();
        let Some(session) = &self.tls else {
            buffer.bytes = bytes;
            return Some(self.outcome(result));
        };
        session.received(bytes);
        match self.outcome(result) {
            Ok(0) => Some(Err(IoFault::Broken(io::ErrorKind::UnexpectedEof.into()))),
            Ok(_) => None,
            Err(fault) => Some(Err(fault)),
        }
    }

    /// Reads ciphertext for a handshake.
    pub(super) async fn receive_into(&mut self, session: &Session, until: Tick) -> Result<(), IoFault> {
        let bytes = session.lend(0);
        let (start, end) = (bytes.len(), bytes.capacity() - Buffer::TAIL);
        self.armed().reading(until);
        let spare = SliceMut::new(bytes, start, end);
        let (result, spare) = match &mut self.half {
            ReadHalf::Tcp(half) => half.read(spare).await,
            ReadHalf::Unix(half) => half.read(spare).await,
        };
        self.armed().read_done();
        session.received(spare.into_inner());
        match self.outcome(result)? {
            0 => Err(IoFault::Broken(io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }

    /// What the handshake of a TLS stream came to.
    pub fn tls_facts(&self) -> Option<Facts> {
        Some(self.tls.as_ref()?.facts())
    }

    /// The certificate the peer of a TLS stream proved to have.
    pub fn peer_certificate(&self) -> Option<CertificateDer<'static>> {
        self.tls.as_ref()?.peer_certificate()
    }

    /// Sends an alert without waiting. Where the socket is full, or a record is under way, the peer does without.
    pub(super) fn say_last_words(&self, session: &Session) {
        if let Some(words) = session.last_words() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let _ = self.guard.slot().with_socket(|socket| rustix::net::send(socket, &words, flags));
        }
    }

    fn outcome(&self, result: io::Result<usize>) -> Result<usize, IoFault> {
        match result {
            Ok(0) if self.armed().read_expired() => Err(IoFault::TooSlow),
            Ok(count) => Ok(count),
            Err(_) if self.armed().read_expired() => Err(IoFault::TooSlow),
            Err(error) => Err(IoFault::Broken(error)),
        }
    }

    /// A way to end this stream from elsewhere on the shard.
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
        loop {
            let (bytes, part) = match &self.tls {
                None if place.is_empty() => return Ok(()),
                None => (std::mem::take(&mut buffer.bytes), place.clone()),
                Some(session) => {
                    let mut plain = &buffer.bytes[place.clone()];
                    let sealed = session.seal(&mut plain).map_err(IoFault::Broken)?;
                    place.start = place.end - plain.len();
                    let Some(sealed) = sealed else { return Ok(()) };
                    sealed
                }
            };
            self.armed().writing(self.timers.clock.after(patience));
            let slice = bytes.slice(part);
            let (result, slice) = match &mut self.half {
                WriteHalf::Tcp(half) => half.write(slice).await,
                WriteHalf::Unix(half) => half.write(slice).await,
            };
            self.armed().write_done();
            let result = match result {
                _ if self.armed().write_expired() => Err(IoFault::TooSlow),
                Ok(0) => Err(IoFault::Broken(io::ErrorKind::WriteZero.into())),
                Ok(count) => Ok(count),
                Err(error) => Err(IoFault::Broken(error)),
            };
            match &self.tls {
                None => buffer.bytes = slice.into_inner(),
                Some(session) => session.sent(slice.into_inner(), result.as_ref().ok().copied()),
            }
            let count = result?;
            self.sent += count as u64;
            if self.tls.is_none() {
                place.start += count;
            }
            if !place.is_empty() {
                self.timers.clock.now_us();
            }
        }
    }

    /// Sends everything unread and empties the buffer.
    pub async fn write_all(&mut self, buffer: &mut Buffer, patience: Duration) -> Result<(), IoFault> {
        let place = buffer.place(0..buffer.len());
        let result = self.write(buffer, place, patience).await;
        buffer.clear();
        result
    }

    /// Sends a message that lies in several places, with no byte of it copied; over TLS its slices are encrypted one after the other.
    /// What had not left when it failed is still in `message`.
    pub async fn write_gathered(
        &mut self,
        message: &mut Gathered,
        patience: Duration,
    ) -> Result<(), IoFault> {
        if let Some(session) = self.tls.clone() {
            return self.write_sealed(&session, message, patience).await;
        }
        let mut slices = Vec::new();
        while !message.is_empty() {
            self.armed().writing(self.timers.clock.after(patience));
            let lent = Lent::new(std::mem::take(message), slices);
            let (result, lent) = match &mut self.half {
                WriteHalf::Tcp(half) => half.writev(lent).await,
                WriteHalf::Unix(half) => half.writev(lent).await,
            };
            (*message, slices) = lent.into_inner();
            let count = self.written(result)?;
            message.advance(count);
            if !message.is_empty() {
                self.timers.clock.now_us();
            }
        }
        Ok(())
    }

    async fn write_sealed(
        &mut self,
        session: &Session,
        message: &mut Gathered,
        patience: Duration,
    ) -> Result<(), IoFault> {
        while let Some((bytes, place)) = session.seal_gathered(message).map_err(IoFault::Broken)? {
            self.armed().writing(self.timers.clock.after(patience));
            let slice = bytes.slice(place);
            let (result, slice) = match &mut self.half {
                WriteHalf::Tcp(half) => half.write(slice).await,
                WriteHalf::Unix(half) => half.write(slice).await,
            };
            let result = self.written(result);
            session.sent(slice.into_inner(), result.as_ref().ok().copied());
            result?;
            if !message.is_empty() {
                self.timers.clock.now_us();
            }
        }
        Ok(())
    }

    /// What a write has come to.
    fn written(&mut self, result: io::Result<usize>) -> Result<usize, IoFault> {
        self.armed().write_done();
        match result {
            _ if self.armed().write_expired() => Err(IoFault::TooSlow),
            Ok(0) => Err(IoFault::Broken(io::ErrorKind::WriteZero.into())),
            Ok(count) => {
                self.sent += count as u64;
                Ok(count)
            }
            Err(error) => Err(IoFault::Broken(error)),
        }
    }

    /// Notes that a stream is read on behalf of this one: [`StreamHandle::end_partner_if_broken`] ends it.
    pub fn pair_with(&mut self, partner: &StreamHandle) {
        self.guard.slot().set_partner(Some(Partner::Stream(Rc::clone(&partner.0))));
    }

    /// Notes that somebody waits on behalf of this stream: [`StreamHandle::end_partner_if_broken`] ends that.
    pub fn pair_with_wait(&mut self, ending: &Rc<Ending>) {
        self.guard.slot().set_partner(Some(Partner::Wait(Rc::clone(ending))));
    }

    /// Nothing is read on behalf of this stream any more.
    pub fn unpair(&mut self) {
        self.guard.slot().set_partner(None);
    }

    /// Bytes the kernel has taken so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Says that nothing more will be sent; on a TLS stream in the way that cannot be forged (RFC 8446 §6.1).
    pub async fn finish(&mut self) {
        if let Some(session) = &self.tls {
            session.say_close();
            // A peer that takes nothing does without it. Boxed: the connection's future must not pay for its end.
            let _ = Box::pin(self.write(&mut Buffer::default(), 0..0, FAREWELL)).await;
        }
        let _ = self.guard.slot().with_socket(|socket| rustix::net::shutdown(socket, Shutdown::Write));
    }

    /// Makes the coming close a reset, so that the peer cannot take what it got for the whole.
    pub fn reset_on_close(&mut self) {
        if let Some(session) = &self.tls {
            session.cut();
        }
        let _ = self
            .guard
            .slot()
            .with_socket(|socket| rustix::net::sockopt::set_socket_linger(socket, Some(Duration::ZERO)));
    }

    pub fn handle(&self) -> StreamHandle {
        StreamHandle(Rc::clone(self.guard.rc()))
    }
}

impl Drop for Writer {
    /// A TLS stream says that its end is meant, as far as that goes without waiting.
    fn drop(&mut self) {
        let Some(session) = &self.tls else { return };
        if std::thread::panicking() {
            return;
        }
        session.say_close();
        if let Some(words) = session.last_words() {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            let _ = self.guard.slot().with_socket(|socket| rustix::net::send(socket, &words, flags));
        }
    }
}
