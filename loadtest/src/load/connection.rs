//! One connection of the generator: a request out, its response in.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags, sockopt};

use super::tls::{Session, Shake};
use super::{Expect, Failed, socket};
use crate::wire::{self, Body};

/// A connection and what is under way on it.
pub(super) struct Connection {
    socket: Option<OwnedFd>,
    tls: Option<Box<Session>>,
    pub(super) state: State,
    /// Which of the plan's requests is under way.
    pub(super) request: usize,
    /// When it should have been sent.
    pub(super) due: Instant,
    sent: usize,
    /// The start of a head whose end has not come yet; empty most of the time.
    head: Vec<u8>,
    response: Option<Response>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// No socket, and nobody has tried to get one since.
    Closed,
    /// `busy`: a request waits for it.
    Connecting { busy: bool },
    /// Ready for a request; without a socket it connects first.
    Idle,
    /// A request is under way.
    Busy,
}

struct Response {
    status: u16,
    body: Body,
    body_bytes: u64,
    /// The content so far is the beginning of the expected one.
    same: bool,
    close: bool,
}

/// How far connecting has come.
pub(super) enum Established {
    NotYet,
    Plain,
    Secured { resumed: bool },
}

/// What became of the request.
pub(super) enum Progress {
    /// The response is not complete.
    Pending,
    /// The response is complete; `keep`: the connection can carry another request.
    Done { outcome: Result<(), Failed>, keep: bool },
}

impl Connection {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            socket: None,
            tls: None,
            state: State::Closed,
            request: 0,
            due: now,
            sent: 0,
            head: Vec::new(),
            response: None,
        }
    }

    /// Starts to connect, and to watch the socket under `token`.
    pub(super) fn connect(
        &mut self,
        to: SocketAddr,
        epoll: &OwnedFd,
        token: u64,
        busy: bool,
        tls: Option<Session>,
    ) -> Result<(), Errno> {
        self.socket = Some(socket::connect(to, epoll, token)?);
        self.tls = tls.map(Box::new);
        self.state = State::Connecting { busy };
        Ok(())
    }

    /// Goes on with connecting; `Done` when requests can be sent.
    pub(super) fn establish(&mut self) -> Result<Established, Failed> {
        let Some(socket) = &self.socket else { return Err(Failed::Connect) };
        if !matches!(sockopt::socket_error(socket), Ok(Ok(()))) {
            return Err(Failed::Connect);
        }
        let Some(session) = &mut self.tls else { return Ok(Established::Plain) };
        Ok(match session.shake(socket)? {
            Shake::Under => Established::NotYet,
            Shake::Done { resumed } => Established::Secured { resumed },
        })
    }

    pub(super) const fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Drops the socket; what was under way is forgotten.
    pub(super) fn close(&mut self) {
        self.socket = None;
        self.tls = None;
        self.state = State::Closed;
        self.head.clear();
        self.response = None;
    }

    /// Starts to send `request`, which was due at `due`.
    pub(super) fn begin(&mut self, request: usize, text: &[u8], due: Instant) -> Result<(), Failed> {
        self.state = State::Busy;
        self.request = request;
        self.due = due;
        self.sent = 0;
        if let Some(session) = &mut self.tls {
            session.write(text)?;
            self.sent = text.len();
        }
        self.send(text)
    }

    /// Sends on, as far as the socket takes it.
    pub(super) fn send(&mut self, text: &[u8]) -> Result<(), Failed> {
        let Some(socket) = &self.socket else { return Err(Failed::Closed) };
        if let Some(session) = &mut self.tls {
            return session.flush(socket);
        }
        while self.sent < text.len() {
            match net::send(socket, &text[self.sent..], SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(_) => return Err(Failed::Closed),
            }
        }
        Ok(())
    }

    /// Reads what has come into `buffer` (its content is of no interest between calls) and follows the response.
    /// `bytes` grows by what was read. `request_bytes` is the length of the request under way.
    pub(super) fn receive(
        &mut self,
        buffer: &mut [u8],
        to_head: bool,
        request_bytes: usize,
        expect: &Expect,
        bytes: &mut u64,
    ) -> Progress {
        loop {
            let count = match self.read(buffer) {
                Ok(Some(0)) => return self.ended(expect),
                Ok(Some(count)) => count,
                Ok(None) => return Progress::Pending,
                Err(failed) => return done(Err(failed), false),
            };
            *bytes += count as u64;
            match self.follow(&buffer[..count], to_head, expect) {
                Err(failed) => return done(Err(failed), false),
                Ok(true) => return self.complete(request_bytes, expect),
                // Less than the buffer holds: the socket is empty, the next byte raises another event (epoll(7)).
                Ok(false) if count < buffer.len() && self.tls.is_none() => return Progress::Pending,
                Ok(false) => {}
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

    /// Takes `bytes` as the next part of the response; whether it is complete.
    fn follow(&mut self, bytes: &[u8], to_head: bool, expect: &Expect) -> Result<bool, Failed> {
        if let Some(response) = &mut self.response {
            return response.take(bytes, expect);
        }
        let mut joined = std::mem::take(&mut self.head);
        let bytes = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            &joined
        };
        let Some(head) = wire::response(bytes, to_head).map_err(|_| Failed::Malformed)? else {
            self.head = bytes.to_vec();
            return Ok(false);
        };
        let rest = &bytes[head.bytes..];
        if (100..200).contains(&head.status) {
            // An informational response comes before the real one (RFC 9110 §15.2).
            return if rest.is_empty() { Ok(false) } else { self.follow(rest, to_head, expect) };
        }
        let response =
            Response { status: head.status, body: head.body, body_bytes: 0, same: true, close: head.close };
        self.response.insert(response).take(rest, expect)
    }

    fn complete(&mut self, request_bytes: usize, expect: &Expect) -> Progress {
        let Some(response) = self.response.take() else { return Progress::Pending };
        // A response before the whole request was sent leaves the rest of the request in doubt.
        let keep = !response.close && self.sent == request_bytes;
        done(expect.check(response.status, response.body_bytes, response.same), keep)
    }

    /// The server closed its side.
    fn ended(&mut self, expect: &Expect) -> Progress {
        match self.response.take() {
            Some(Response { body: Body::UntilClose, status, body_bytes, same, .. }) => {
                done(expect.check(status, body_bytes, same), false)
            }
            _ => done(Err(Failed::Closed), false),
        }
    }
}

impl Response {
    fn take(&mut self, bytes: &[u8], expect: &Expect) -> Result<bool, Failed> {
        let (mut body_bytes, mut same) = (self.body_bytes, self.same);
        let taken = self.body.take(bytes, |content| {
            if let Some(expected) = &expect.body {
                let at = usize::try_from(body_bytes).unwrap_or(usize::MAX);
                same &= expected.get(at..).is_some_and(|rest| rest.starts_with(content));
            }
            body_bytes += content.len() as u64;
        });
        (self.body_bytes, self.same) = (body_bytes, same);
        // Nothing was asked for that could follow.
        if taken.map_err(|_| Failed::Malformed)? != bytes.len() {
            return Err(Failed::Malformed);
        }
        Ok(self.body.is_done())
    }
}

const fn done(outcome: Result<(), Failed>, keep: bool) -> Progress {
    Progress::Done { outcome, keep }
}
