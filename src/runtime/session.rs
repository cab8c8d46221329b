//! The TLS state that the two halves of a stream share. No I/O: ciphertext comes in and goes out through buffers that the halves
//! lend to the kernel, plaintext through the buffers of whoever reads and writes.
//!
//! Nothing here is borrowed while a half waits. A session at rest holds no buffer of ours; rustls keeps 4 KiB of its own.

use std::{
    cell::RefCell,
    io::{self, BufRead, Write},
    ops::Range,
    rc::Rc,
};

use rustls::{Connection, pki_types::CertificateDer};

use super::{Buffer, Buffers, Gathered, gathered};

/// Plaintext encrypted at once: four records.
const SEAL_MAX: usize = 64 * 1024;
/// Plaintext up to this size, with what TLS adds, fits into a small buffer.
const SEAL_SMALL: usize = Buffers::SMALL - 1024;

/// A record's head, and the longest record (RFC 8446 §5.2; TLS 1.2 allows 2048 bytes of its own, RFC 5246 §6.2.3).
const RECORD_HEAD: usize = 5;
const RECORD_MAX: usize = RECORD_HEAD + (1 << 14) + 2048;

pub(super) struct Session {
    inner: RefCell<Inner>,
    buffers: Rc<Buffers>,
}

struct Inner {
    connection: Connection,
    /// Received and not yet decrypted. Without memory between reads.
    received: Buffer,
    /// Bytes of `received` that rustls may have, and bytes to come of a record whose beginning it has.
    ready: usize,
    owed: usize,
    /// Encrypted and not yet sent. Without memory between writes.
    sealed: Buffer,
    /// `sealed` is with the kernel.
    is_sending: bool,
    /// Why nothing more can be read; told after the plaintext before it.
    fault: Option<rustls::Error>,
    /// Nothing more may be sent: part of a record may be missing, or the end must look like a cut.
    is_cut: bool,
}

impl Session {
    pub(super) fn new(connection: Connection, buffers: &Rc<Buffers>) -> Rc<Self> {
        let inner = Inner {
            connection,
            received: Buffer::default(),
            ready: 0,
            owed: 0,
            sealed: Buffer::default(),
            is_sending: false,
            fault: None,
            is_cut: false,
        };
        Rc::new(Self { inner: RefCell::new(inner), buffers: Rc::clone(buffers) })
    }

    /// Moves plaintext that is here behind the unread bytes of `buffer`, as far as its room goes, and returns how much; 0 is the
    /// peer's `close_notify`. `None` when more ciphertext is wanted.
    pub(super) fn open(&self, buffer: &mut Buffer) -> Option<io::Result<usize>> {
        let inner = &mut *self.inner.borrow_mut();
        let mut count = 0;
        loop {
            let at_end = loop {
                let room = buffer.room();
                if room == 0 {
                    return Some(Ok(count));
                }
                match inner.connection.reader().into_first_chunk() {
                    Ok([]) => break true,
                    Ok(chunk) => {
                        let taken = chunk.len().min(room);
                        buffer.extend(&chunk[..taken]);
                        inner.connection.reader().consume(taken);
                        count += taken;
                    }
                    // `WouldBlock`: the end of the stream is told by the socket, not by rustls.
                    Err(_) => break false,
                }
            };
            if count > 0 && (at_end || !inner.has_record()) {
                return Some(Ok(count));
            }
            if at_end {
                return Some(Ok(0));
            }
            if let Some(fault) = &inner.fault {
                return Some(if count > 0 { Ok(count) } else { Err(io::Error::other(fault.clone())) });
            }
            if !inner.has_record() {
                return None;
            }
            inner.decrypt(&self.buffers);
        }
    }

    /// A buffer for the kernel to put ciphertext into, large where much plaintext is wanted. It comes back by [`Session::received`].
    pub(super) fn lend(&self, room: usize) -> Vec<u8> {
        let mut inner = self.inner.borrow_mut();
        if inner.received.capacity() == 0 {
            inner.received = if room > Buffers::SMALL { self.buffers.large() } else { self.buffers.small() };
        }
        std::mem::take(&mut inner.received.bytes)
    }

    /// Takes a lent buffer back, with what has arrived in it.
    pub(super) fn received(&self, bytes: Vec<u8>) {
        let mut inner = self.inner.borrow_mut();
        inner.received.bytes = bytes;
        if inner.received.is_empty() {
            self.buffers.give_back(std::mem::take(&mut inner.received));
        }
    }

    /// Takes over bytes that were read without a lent buffer.
    pub(super) fn receive(&self, bytes: &[u8]) {
        let mut inner = self.inner.borrow_mut();
        if bytes.is_empty() {
            return;
        }
        if inner.received.capacity() == 0 {
            inner.received = self.buffers.small();
        }
        inner.received.extend(bytes);
    }

    /// Ciphertext for the kernel and where in it the unsent bytes are: what is left of earlier, else some of `plain`, whose front
    /// is moved past it. `None` when all is sent. It comes back by [`Session::sent`].
    pub(super) fn seal(&self, plain: &mut &[u8]) -> io::Result<Option<(Vec<u8>, Range<usize>)>> {
        let inner = &mut *self.inner.borrow_mut();
        if inner.is_cut {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if inner.sealed.is_empty() {
            let some = &plain[..plain.len().min(SEAL_MAX)];
            if !some.is_empty() {
                let taken = inner.connection.writer().write(some)?;
                *plain = &plain[taken..];
            }
            if !inner.connection.wants_write() {
                self.buffers.give_back(std::mem::take(&mut inner.sealed));
                return Ok(None);
            }
            inner.fill_sealed(some.len(), &self.buffers)?;
        }
        Ok(Some(inner.lend_sealed()))
    }

    /// The same for a message that lies in several places.
    pub(super) fn seal_gathered(&self, plain: &mut Gathered) -> io::Result<Option<(Vec<u8>, Range<usize>)>> {
        let inner = &mut *self.inner.borrow_mut();
        if inner.is_cut {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if inner.sealed.is_empty() {
            let mut taken = 0;
            if !plain.is_empty() {
                taken = inner.connection.writer().write_vectored(&gathered::first(plain, SEAL_MAX))?;
                plain.advance(taken);
            }
            if !inner.connection.wants_write() {
                self.buffers.give_back(std::mem::take(&mut inner.sealed));
                return Ok(None);
            }
            inner.fill_sealed(taken, &self.buffers)?;
        }
        Ok(Some(inner.lend_sealed()))
    }

    /// Takes ciphertext back of which the kernel took `count` bytes; `None` when it failed.
    pub(super) fn sent(&self, bytes: Vec<u8>, count: Option<usize>) {
        let mut inner = self.inner.borrow_mut();
        inner.sealed.bytes = bytes;
        inner.is_sending = false;
        match count {
            Some(count) => inner.sealed.consume(count),
            None => inner.is_cut = true,
        }
        if inner.is_cut || (inner.sealed.is_empty() && !inner.connection.wants_write()) {
            self.buffers.give_back(std::mem::take(&mut inner.sealed));
        }
    }

    /// Queues `close_notify`: the next [`Session::seal`] has it.
    pub(super) fn say_close(&self) {
        let mut inner = self.inner.borrow_mut();
        if !inner.is_cut {
            inner.connection.send_close_notify();
        }
    }

    /// Nothing more is sent, not even `close_notify`: the peer sees that the end is not the end.
    pub(super) fn cut(&self) {
        self.inner.borrow_mut().is_cut = true;
    }

    /// What rustls has to say at once (an alert, `close_notify`), for a caller that does not wait; `None` while a write is under way.
    pub(super) fn last_words(&self) -> Option<Vec<u8>> {
        let inner = &mut *self.inner.borrow_mut();
        if inner.is_cut || inner.is_sending || !inner.sealed.is_empty() || !inner.connection.wants_write() {
            return None;
        }
        let mut out = Vec::with_capacity(256);
        while inner.connection.wants_write() {
            inner.connection.write_tls(&mut out).ok()?;
        }
        Some(out)
    }

    /// The next step of a handshake. `Err` when it has failed; an alert is then ready to be sent.
    pub(super) fn shake(&self) -> Result<Step, rustls::Error> {
        let inner = &mut *self.inner.borrow_mut();
        loop {
            if let Some(fault) = &inner.fault {
                return Err(fault.clone());
            }
            if !inner.connection.is_handshaking() {
                // The tickets of TLS 1.3 go out with the first reply where the request is here already: one send less. Where it is not
                // they must go now: many clients hold it back until the end of their handshake is acknowledged (Nagle's algorithm), and
                // without anything to send with it an acknowledgement takes 40 ms.
                let is_13 = inner.connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
                let has_request = !inner.received.is_empty()
                    || inner.connection.reader().into_first_chunk().is_ok_and(|chunk| !chunk.is_empty());
                let waits = matches!(inner.connection, Connection::Server(_)) && is_13 && has_request;
                let must_send = inner.connection.wants_write() && !waits;
                return Ok(if must_send { Step::Send } else { Step::Done });
            }
            if inner.has_record() {
                inner.decrypt(&self.buffers);
                continue;
            }
            return Ok(if inner.connection.wants_write() { Step::Send } else { Step::Receive });
        }
    }

    /// The first byte that was received and not yet looked at.
    pub(super) fn first_byte(&self) -> Option<u8> {
        self.inner.borrow().received.unread().first().copied()
    }

    /// The certificate the peer proved to have, if it was asked for one.
    pub(super) fn peer_certificate(&self) -> Option<CertificateDer<'static>> {
        let inner = self.inner.borrow();
        Some(inner.connection.peer_certificates()?.first()?.clone().into_owned())
    }

    pub(super) fn facts(&self) -> Facts {
        let inner = self.inner.borrow();
        Facts {
            is_13: inner.connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3),
            is_resumed: inner.connection.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
            is_http2: inner.connection.alpn_protocol() == Some(b"h2"),
        }
    }
}

/// What a handshake came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// TLS 1.3, else 1.2.
    pub is_13: bool,
    pub is_resumed: bool,
    /// The two agreed on HTTP/2 (RFC 7301).
    pub is_http2: bool,
}

/// What a handshake needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Receive,
    Send,
    Done,
}

impl Inner {
    /// Whether something can be decrypted: a whole record, or as much of one as there is room for.
    ///
    /// rustls would take parts of records as well, but keeps twice the memory for as long as the connection lasts when it has once
    /// been given a few bytes and then more: 8 KiB, and a hole of 4 KiB where its first buffer was.
    fn has_record(&mut self) -> bool {
        if self.ready > 0 {
            return true;
        }
        let bytes = self.received.unread();
        let mut end = self.owed.min(bytes.len());
        self.owed -= end;
        while let Some(length) = record_length(&bytes[end..]) {
            if end + length > bytes.len() {
                if end == 0 && (self.received.room() == 0 || length > RECORD_MAX) {
                    end = bytes.len();
                    self.owed = length - end;
                }
                break;
            }
            end += length;
        }
        self.ready = end;
        end > 0
    }

    /// Gives rustls some of what was received. Its plaintext, if any, can be read next.
    fn decrypt(&mut self, buffers: &Buffers) {
        let mut bytes = &self.received.unread()[..self.ready];
        match self.connection.read_tls(&mut bytes) {
            Ok(count) => {
                self.received.consume(count);
                self.ready -= count;
                if let Err(error) = self.connection.process_new_packets() {
                    self.fault = Some(error);
                }
            }
            // A message larger than rustls holds.
            Err(error) => self.fault = Some(rustls::Error::General(error.to_string())),
        }
        if self.received.is_empty() {
            buffers.give_back(std::mem::take(&mut self.received));
        }
    }

    fn lend_sealed(&mut self) -> (Vec<u8>, Range<usize>) {
        self.is_sending = true;
        let place = self.sealed.place(0..self.sealed.len());
        (std::mem::take(&mut self.sealed.bytes), place)
    }

    fn fill_sealed(&mut self, plain: usize, buffers: &Buffers) -> io::Result<()> {
        if self.sealed.capacity() == 0 {
            self.sealed = if plain > SEAL_SMALL { buffers.large() } else { buffers.small() };
        }
        self.sealed.clear();
        while self.connection.wants_write() {
            self.connection.write_tls(self.sealed.vec())?;
        }
        Ok(())
    }
}

/// Bytes of the record that begins here, its head included (RFC 8446 §5.1); `None` where that is not known yet. What is no record is
/// as long as it is here: rustls shall say what is wrong with it.
fn record_length(bytes: &[u8]) -> Option<usize> {
    let [kind, _, _, high, low] = *bytes.first_chunk()?;
    let length = RECORD_HEAD + usize::from(u16::from_be_bytes([high, low]));
    Some(if (20..=24).contains(&kind) { length } else { bytes.len() })
}

impl Drop for Session {
    fn drop(&mut self) {
        let inner = self.inner.get_mut();
        self.buffers.give_back(std::mem::take(&mut inner.received));
        self.buffers.give_back(std::mem::take(&mut inner.sealed));
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use rustls::{ClientConnection, ServerConnection, pki_types::ServerName};

    use super::*;
    use crate::tls::{
        Certificate, Offer, TicketKeys, UnknownName, Verify, Version, client_config, provider,
        server_configs, testing::own,
    };

    /// Both ends of a connection, client first, and their shard's buffers.
    fn pair() -> ([Rc<Session>; 2], Rc<Buffers>) {
        let (cert, key) = own(&["a"], 2020..2030);
        let now = Duration::from_secs(1_767_225_600);
        let certificate = Certificate::new(&cert, &key, now, &provider()).unwrap();
        let offer = Offer {
            certificates: vec![Arc::new(certificate)],
            min: Version::Tls12,
            unknown: UnknownName::Default,
            clients: None,
        };
        let keys = Arc::new(TicketKeys::new(&[1; 48], |bytes| {
            bytes.fill(1);
            true
        }));
        let server = server_configs(&offer, &keys, 1).unwrap().remove(0);
        let client = client_config(&Verify::Not, &[]).unwrap();
        let buffers = Rc::new(Buffers::new());
        let server = Session::new(ServerConnection::new(server).unwrap().into(), &buffers);
        let name = ServerName::try_from("a").unwrap();
        let client = Session::new(ClientConnection::new(client, name).unwrap().into(), &buffers);
        ([client, server], buffers)
    }

    /// Everything that one end has to send reaches the other, `step` bytes at a time.
    fn carry(from: &Session, to: &Session, mut plain: &[u8], step: usize, mut each: impl FnMut()) {
        while let Some((bytes, place)) = from.seal(&mut plain).unwrap() {
            for part in bytes[place.clone()].chunks(step) {
                to.receive(part);
                each();
            }
            from.sent(bytes, Some(place.len()));
        }
    }

    fn shake_hands(ends: &[Rc<Session>; 2], step: usize) {
        let [client, server] = ends;
        while client.shake().unwrap() != Step::Done || server.shake().unwrap() != Step::Done {
            carry(client, server, b"", step, || {
                server.shake().unwrap();
            });
            carry(server, client, b"", step, || {
                client.shake().unwrap();
            });
        }
    }

    #[test]
    fn what_is_sealed_is_opened_whole_however_it_is_cut() {
        for step in [1, 7, 4096, 100_000] {
            let (ends, buffers) = pair();
            shake_hands(&ends, step);
            let [client, server] = &ends;
            for size in [1, 100, 16_384, 16_385, 200_000] {
                let message: Vec<u8> = (0..size).map(|at: u32| at.to_le_bytes()[0]).collect();
                let mut opened = buffers.large();
                carry(client, server, &message, step, || {
                    while let Some(count) = server.open(&mut opened) {
                        assert!(count.unwrap() > 0);
                        opened.reserve(1);
                    }
                });
                assert!(opened.unread() == message, "{size} bytes in steps of {step}");
                buffers.give_back(opened);
            }
        }
    }

    #[test]
    fn a_session_at_rest_holds_no_buffer() {
        let (ends, buffers) = pair();
        shake_hands(&ends, 100_000);
        let [client, server] = &ends;
        let mut opened = buffers.small();
        carry(client, server, b"hello", 3, || drop(server.open(&mut opened)));
        // A ticket came with the end of the handshake.
        assert!(client.open(&mut opened).is_none());
        for end in &ends {
            let inner = end.inner.borrow();
            assert_eq!((inner.received.capacity(), inner.sealed.capacity()), (0, 0));
        }
    }

    #[test]
    fn a_small_room_is_filled_again_and_again() {
        let (ends, buffers) = pair();
        shake_hands(&ends, 100_000);
        let [client, server] = &ends;
        carry(client, server, &[7; 10_000], 100_000, || {});
        let mut sum = 0;
        loop {
            let mut little = Buffer::with_capacity(100);
            match server.open(&mut little) {
                None => break,
                Some(count) => sum += count.unwrap(),
            }
        }
        assert_eq!(sum, 10_000);
        drop(buffers);
    }

    #[test]
    fn the_end_is_told_after_everything_before_it() {
        let (ends, buffers) = pair();
        shake_hands(&ends, 100_000);
        let [client, server] = &ends;
        let mut opened = buffers.small();
        carry(client, server, b"last", 100_000, || {});
        client.say_close();
        carry(client, server, b"", 100_000, || {});
        assert_eq!(server.open(&mut opened).unwrap().unwrap(), 4);
        assert_eq!(server.open(&mut opened).unwrap().unwrap(), 0);
        assert_eq!(server.open(&mut opened).unwrap().unwrap(), 0);
    }

    #[test]
    fn a_changed_record_is_an_error_and_an_alert_after_what_came_before() {
        let (ends, buffers) = pair();
        shake_hands(&ends, 100_000);
        let [client, server] = &ends;
        let mut opened = buffers.small();
        carry(client, server, b"good", 100_000, || {});
        let mut plain = &b"bad"[..];
        let (mut bytes, place) = client.seal(&mut plain).unwrap().unwrap();
        bytes[place.end - 1] ^= 1;
        server.receive(&bytes[place.clone()]);
        client.sent(bytes, Some(place.len()));
        assert_eq!(server.open(&mut opened).unwrap().unwrap(), 4);
        assert!(server.open(&mut opened).unwrap().is_err());
        assert!(server.last_words().is_some());
        assert!(server.open(&mut opened).unwrap().is_err());
    }

    #[test]
    fn nothing_is_said_after_a_cut() {
        let (ends, _buffers) = pair();
        shake_hands(&ends, 100_000);
        ends[1].cut();
        ends[1].say_close();
        assert!(ends[1].last_words().is_none());
        assert!(ends[1].seal(&mut &b"more"[..]).is_err());
    }
}
