//! Upstreams that cost little: one thread, one epoll, replies prepared in advance.

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use crate::wire::{self, Body};
use crate::{Failure, cli};

const READ_BYTES: usize = 256 * 1024;

/// Tokens from here on name listeners, those below name clients.
const LISTENERS: u64 = 1 << 32;

/// What every request is answered with.
#[derive(Debug, Clone)]
pub struct Behaviour {
    pub status: u16,
    pub body_bytes: usize,
}

impl Behaviour {
    /// The whole reply. Its body looks like JSON text, so that nothing along the way finds it unusual.
    fn reply(&self) -> Vec<u8> {
        let mut reply = format!(
            "HTTP/1.1 {} Stub\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.status, self.body_bytes
        )
        .into_bytes();
        let unit = br#"{"id":1234567,"name":"stub","ok":true,"tags":["a","b"]},"#;
        reply.extend(unit.iter().cycle().take(self.body_bytes));
        reply
    }
}

/// Listens and serves until the process ends.
pub fn run(arguments: &cli::Stub) -> Result<(), Failure> {
    let behaviour = Behaviour { status: arguments.status, body_bytes: arguments.size };
    let addresses = arguments.listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let served = Stub::bind(&arguments.listen, &behaviour).and_then(|mut stub| {
        crate::say!("listening on {addresses}");
        stub.serve()
    });
    served.map_err(|error| Failure(format!("{addresses}: {error}")))
}

/// A server on several addresses.
pub struct Stub {
    epoll: OwnedFd,
    listeners: Vec<OwnedFd>,
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    reply: Vec<u8>,
    buffer: Vec<u8>,
}

struct Client {
    socket: OwnedFd,
    /// The start of a request head whose end has not come yet.
    head: Vec<u8>,
    /// What is still to come of a request's body.
    body: Option<Body>,
    close: bool,
    /// Replies owed, and how much of the first of them is sent.
    owed: usize,
    sent: usize,
}

/// The client is gone or sent nonsense.
struct Gone;

impl Stub {
    /// Listens on `addresses`. Fails when one of them cannot be had.
    pub fn bind(addresses: &[SocketAddr], behaviour: &Behaviour) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut listeners = Vec::new();
        for (index, address) in addresses.iter().enumerate() {
            let listener = listen(*address)?;
            epoll::add(&epoll, &listener, EventData::new_u64(LISTENERS + index as u64), EventFlags::IN)?;
            listeners.push(listener);
        }
        Ok(Self {
            epoll,
            listeners,
            clients: Vec::new(),
            free: Vec::new(),
            reply: behaviour.reply(),
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Serves until the kernel refuses to go on.
    pub fn serve(&mut self) -> io::Result<()> {
        loop {
            let mut space = [MaybeUninit::uninit(); 256];
            let events = match epoll::wait(&self.epoll, &mut space, None) {
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
            self.clients[index] =
                Some(Client { socket, head: Vec::new(), body: None, close: false, owed: 0, sent: 0 });
        }
    }

    fn turn(&mut self, index: usize, flags: EventFlags) {
        let Some(client) = &mut self.clients[index] else { return };
        let mut result = Ok(());
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
            result = client.receive(&mut self.buffer);
        }
        if result.and_then(|()| client.send(&self.reply)).is_err() {
            self.clients[index] = None;
            self.free.push(index);
        }
    }
}

impl Client {
    fn receive(&mut self, buffer: &mut [u8]) -> Result<(), Gone> {
        loop {
            let count = match net::recv(&self.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((_, 0)) => return Err(Gone),
                Ok((_, count)) => count,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(_) => return Err(Gone),
            };
            if self.head.is_empty() {
                let used = self.follow(&buffer[..count])?;
                self.head.extend_from_slice(&buffer[used..count]);
            } else {
                let mut joined = std::mem::take(&mut self.head);
                joined.extend_from_slice(&buffer[..count]);
                let used = self.follow(&joined)?;
                joined.drain(..used);
                self.head = joined;
            }
            if count < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Takes whole requests off the start of `bytes`; returns how much of it they took.
    fn follow(&mut self, bytes: &[u8]) -> Result<usize, Gone> {
        let mut at = 0;
        while at < bytes.len() {
            let mut body = match self.body.take() {
                Some(body) => body,
                None => {
                    let Some(head) = wire::request(&bytes[at..]).map_err(|_| Gone)? else { break };
                    at += head.bytes;
                    self.close |= head.close;
                    head.body
                }
            };
            at += body.take(&bytes[at..]).map_err(|_| Gone)?;
            if body.is_done() { self.owed += 1 } else { self.body = Some(body) }
        }
        Ok(at)
    }

    /// Sends what is owed, as far as the socket takes it.
    fn send(&mut self, reply: &[u8]) -> Result<(), Gone> {
        while self.owed > 0 {
            match net::send(&self.socket, &reply[self.sent..], SendFlags::NOSIGNAL) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(_) => return Err(Gone),
            }
            if self.sent == reply.len() {
                self.sent = 0;
                self.owed -= 1;
            }
        }
        if self.close { Err(Gone) } else { Ok(()) }
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
