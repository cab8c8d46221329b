//! Upstreams that cost little and can misbehave: one thread, one epoll, answers prepared in advance.

mod behaviour;

pub use behaviour::{Behaviour, Content, Delay, Dice};

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use crate::wire::{self, Body};
use crate::{Failure, cli};

const READ_BYTES: usize = 256 * 1024;

/// Tokens from here on name listeners, those below name clients.
const LISTENERS: u64 = 1 << 32;

/// Listens and serves until the process ends.
pub fn run(arguments: &cli::Stub) -> Result<(), Failure> {
    let behaviour = Behaviour::of(arguments).map_err(Failure)?;
    let addresses = arguments.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let served = Stub::bind(&arguments.listen, behaviour).and_then(|mut stub| {
        crate::say!("listening on {addresses}");
        stub.serve(None)
    });
    served.map_err(|error| Failure(format!("{addresses}: {error}")))
}

/// A server on several addresses.
pub struct Stub {
    epoll: OwnedFd,
    listeners: Vec<OwnedFd>,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    /// When a client has something to send that had to wait; the client may have left since.
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    answers: Answers,
    stall: Option<(Instant, Duration)>,
    buffer: Vec<u8>,
}

/// Makes answers.
struct Answers {
    behaviour: Behaviour,
    /// There is only one answer, it waits for nothing, and this is it.
    right: Rc<[u8]>,
    wrong: Rc<[u8]>,
    dice: Dice,
}

struct Client {
    socket: OwnedFd,
    /// The start of a request head whose end has not come yet; the whole request where it is echoed.
    held: Vec<u8>,
    /// What is still to come of a request's body.
    body: Option<Body>,
    close: bool,
    answers: VecDeque<Answer>,
    /// How much of the first answer is sent.
    sent: usize,
}

struct Answer {
    text: Rc<[u8]>,
    /// Not before this moment; `None`: at once.
    after: Option<Instant>,
    /// Instead of `text`, the connection is reset.
    reset: bool,
}

/// The client is gone, sent nonsense, or is to be dropped.
struct Gone;

impl Stub {
    /// Listens on `addresses`. Fails when one of them cannot be had.
    pub fn bind(addresses: &[SocketAddr], behaviour: Behaviour) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut listeners = Vec::new();
        for (index, address) in addresses.iter().enumerate() {
            let listener = listen(*address)?;
            epoll::add(&epoll, &listener, EventData::new_u64(LISTENERS + index as u64), EventFlags::IN)?;
            listeners.push(listener);
        }
        let stall = behaviour.stall.map(|(after, length)| (Instant::now() + after, length));
        Ok(Self {
            epoll,
            listeners,
            clients: Vec::new(),
            free: Vec::new(),
            timers: BinaryHeap::new(),
            answers: Answers::new(behaviour),
            stall,
            buffer: vec![0; READ_BYTES],
        })
    }

    /// The addresses it listens on: where port 0 was asked for, the ports it got.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let address = |listener| {
            let any = net::getsockname(listener)?;
            SocketAddr::try_from(any).map_err(|_| io::Error::from(Errno::AFNOSUPPORT))
        };
        self.listeners.iter().map(address).collect()
    }

    /// Serves until `until`, or as long as the kernel lets it.
    pub fn serve(&mut self, until: Option<Instant>) -> io::Result<()> {
        loop {
            // Without timers or an end there is nothing to look at a clock for.
            let mut wake = until;
            if self.stall.is_some() || !self.timers.is_empty() || until.is_some() {
                let now = Instant::now();
                if until.is_some_and(|until| now >= until) {
                    return Ok(());
                }
                self.on_time(now);
                let next = self.timers.peek().map(|Reverse((at, _))| *at);
                let stall = self.stall.map(|(at, _)| at);
                wake = [wake, next, stall].into_iter().flatten().min();
            }
            let timeout = wake.map(|wake| timespec(wake.saturating_duration_since(Instant::now())));
            let mut space = [MaybeUninit::uninit(); 256];
            let events = match epoll::wait(&self.epoll, &mut space, timeout.as_ref()) {
                Ok((events, _)) => events,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for event in events {
                let (flags, data) = (event.flags, event.data);
                match data.u64().checked_sub(LISTENERS) {
                    Some(listener) => self.accept(usize::try_from(listener).expect("we gave it an index"))?,
                    None => self.turn(usize::try_from(data.u64()).expect("we gave it an index"), flags),
                }
            }
        }
    }

    /// Sends what has waited long enough, and stalls when it is time to.
    fn on_time(&mut self, now: Instant) {
        if let Some((at, length)) = self.stall
            && now >= at
        {
            self.stall = None;
            std::thread::sleep(length);
        }
        while let Some(Reverse((at, index))) = self.timers.peek().copied()
            && at <= now
        {
            self.timers.pop();
            self.send(index);
        }
    }

    fn accept(&mut self, listener: usize) -> io::Result<()> {
        loop {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = match net::accept_with(&self.listeners[listener], flags) {
                Ok(socket) => socket,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                // Out of descriptors: those that wait stay in the queue until a client leaves.
                Err(Errno::AGAIN | Errno::MFILE | Errno::NFILE) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            sockopt::set_tcp_nodelay(&socket, true)?;
            let index = self.free.pop().unwrap_or_else(|| {
                self.clients.push(None);
                self.clients.len() - 1
            });
            let events = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            epoll::add(&self.epoll, &socket, EventData::new_u64(index as u64), events)?;
            self.clients[index] = Some(Client::new(socket));
        }
    }

    fn turn(&mut self, index: usize, flags: EventFlags) {
        let Some(client) = &mut self.clients[index] else { return };
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
            && client.receive(&mut self.buffer, &mut self.answers).is_err()
        {
            return self.drop_client(index);
        }
        self.send(index);
    }

    fn send(&mut self, index: usize) {
        let Some(client) = &mut self.clients[index] else { return };
        match client.send(self.answers.behaviour.drip) {
            Ok(None) => {}
            Ok(Some(later)) => self.timers.push(Reverse((later, index))),
            Err(Gone) => self.drop_client(index),
        }
    }

    fn drop_client(&mut self, index: usize) {
        self.clients[index] = None;
        self.free.push(index);
    }
}

impl Answers {
    fn new(behaviour: Behaviour) -> Self {
        let right = match &behaviour.content {
            Content::Fixed { text, kind } => behaviour.reply(behaviour.status, kind, text),
            Content::Echo => Vec::new(),
        };
        let wrong = behaviour.reply(503, "text/plain", b"asked to fail\n");
        Self { behaviour, right: right.into(), wrong: wrong.into(), dice: Dice::new(0x5eed) }
    }

    fn echoes(&self) -> bool {
        matches!(self.behaviour.content, Content::Echo)
    }

    /// The answer to `request`, which is empty unless it is to be echoed.
    fn to(&mut self, request: &[u8]) -> Answer {
        let delay = self.behaviour.delay.draw(&mut self.dice);
        let after = (!delay.is_zero()).then(|| Instant::now() + delay);
        // A throw costs next to nothing, but most stubs need none.
        let reset = self.behaviour.resets > 0.0 && self.dice.draw() < self.behaviour.resets;
        let fails = self.behaviour.failures > 0.0 && self.dice.draw() < self.behaviour.failures;
        let text = match (&self.behaviour.content, fails) {
            (_, true) => Rc::clone(&self.wrong),
            (Content::Fixed { .. }, false) => Rc::clone(&self.right),
            (Content::Echo, false) => {
                self.behaviour.reply(self.behaviour.status, "message/http", request).into()
            }
        };
        Answer { text, after, reset }
    }
}

impl Client {
    const fn new(socket: OwnedFd) -> Self {
        Self { socket, held: Vec::new(), body: None, close: false, answers: VecDeque::new(), sent: 0 }
    }

    fn receive(&mut self, buffer: &mut [u8], answers: &mut Answers) -> Result<(), Gone> {
        loop {
            let count = match net::recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((_, 0)) => return Err(Gone),
                Ok((_, count)) => count,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(_) => return Err(Gone),
            };
            if self.held.is_empty() {
                let used = self.follow(&buffer[..count], answers)?;
                self.held.extend_from_slice(&buffer[used..count]);
            } else {
                let mut joined = std::mem::take(&mut self.held);
                joined.extend_from_slice(&buffer[..count]);
                let used = self.follow(&joined, answers)?;
                joined.drain(..used);
                self.held = joined;
            }
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Takes whole requests off the start of `bytes`; returns how much of it they took.
    fn follow(&mut self, bytes: &[u8], answers: &mut Answers) -> Result<usize, Gone> {
        let mut at = 0;
        while at < bytes.len() {
            if answers.echoes() {
                // Looked at as a whole each time: an echo is for correctness, not for speed.
                let Some(head) = wire::request(&bytes[at..]).map_err(|_| Gone)? else { break };
                let mut body = head.body;
                let taken = body.take(&bytes[at + head.bytes..], |_| ()).map_err(|_| Gone)?;
                if !body.is_done() {
                    break;
                }
                let end = at + head.bytes + taken;
                self.close |= head.close;
                self.answers.push_back(answers.to(&bytes[at..end]));
                at = end;
                continue;
            }
            let mut body = match self.body.take() {
                Some(body) => body,
                None => {
                    let Some(head) = wire::request(&bytes[at..]).map_err(|_| Gone)? else { break };
                    at += head.bytes;
                    self.close |= head.close;
                    head.body
                }
            };
            at += body.take(&bytes[at..], |_| ()).map_err(|_| Gone)?;
            if body.is_done() {
                self.answers.push_back(answers.to(&[]));
            } else {
                self.body = Some(body);
            }
        }
        Ok(at)
    }

    /// Sends what is due, as far as the socket takes it. Returns when to call again, if that is known.
    fn send(&mut self, drip: Option<(usize, Duration)>) -> Result<Option<Instant>, Gone> {
        while let Some(answer) = self.answers.front_mut() {
            if let Some(after) = answer.after
                && Instant::now() < after
            {
                return Ok(Some(after));
            }
            if answer.reset {
                // Without lingering, closing is a reset (tcp(7), SO_LINGER).
                let _ = sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO));
                return Err(Gone);
            }
            let rest = &answer.text[self.sent..];
            let piece = drip.map_or(rest.len(), |(bytes, _)| bytes.min(rest.len()));
            match net::send(&self.socket, &rest[..piece], SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => continue,
                Err(_) => return Err(Gone),
            }
            if self.sent == answer.text.len() {
                self.sent = 0;
                self.answers.pop_front();
            } else if let Some((_, every)) = drip {
                answer.after = Some(Instant::now() + every);
            }
        }
        if self.close { Err(Gone) } else { Ok(None) }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

fn listen(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket =
        net::socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    net::bind(&socket, &address)?;
    net::listen(&socket, 4096)?;
    Ok(socket)
}
