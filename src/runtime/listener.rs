//! Listening sockets.

use std::{
    cell::{Cell, RefCell},
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    rc::Rc,
};

use monoio::{
    io::Canceller,
    net::{TcpListener, UnixListener},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::Shutdown,
};
use socket2::{Domain, Protocol, SockAddr, SockFilter, SockRef, Socket as RawSocket, Type};

use super::{Accepted, deadline::Slot};

/// Who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    Unix,
}

/// A bound listening socket, before it is on a shard. Can be sent between threads.
pub struct Socket {
    raw: RawSocket,
    unix: Option<PathBuf>,
}

impl Socket {
    /// Binds `count` sockets to one TCP address, one for each shard (`SO_REUSEPORT`).
    ///
    /// `[::]` also takes IPv4; where the host has no IPv6 it becomes `0.0.0.0`. Port 0 gives all of them the same free port.
    /// Fails with `AddrInUse` when another process listens there, although `SO_REUSEPORT` would let a second gateway of the same
    /// user share the port without a word.
    pub fn bind_tcp(address: SocketAddr, backlog: u32, count: usize) -> io::Result<Vec<Self>> {
        let probe = match Self::open_tcp(address, false) {
            Err(error) if is_any_v6(address) && no_ipv6(&error) => {
                return Self::bind_tcp((Ipv4Addr::UNSPECIFIED, address.port()).into(), backlog, count);
            }
            other => other?,
        };
        let address = probe.local_addr()?.as_socket().unwrap_or(address);
        drop(probe);

        let mut sockets = Vec::with_capacity(count);
        for _ in 0..count {
            let raw = Self::open_tcp(address, true)?;
            raw.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
            // Accepted sockets inherit it: one system call less for each connection.
            raw.set_tcp_nodelay(true)?;
            sockets.push(Self { raw, unix: None });
        }
        Ok(sockets)
    }

    fn open_tcp(address: SocketAddr, shared: bool) -> io::Result<RawSocket> {
        let raw = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        raw.set_nonblocking(true)?;
        raw.set_reuse_address(true)?;
        raw.set_reuse_port(shared)?;
        if is_any_v6(address) {
            raw.set_only_v6(false)?;
        }
        raw.bind(&address.into())?;
        if !shared {
            // With SO_REUSEADDR two sockets may be bound; only one may listen.
            raw.listen(1)?;
        }
        Ok(raw)
    }

    /// Binds a Unix socket, and duplicates it for each shard. A socket file that nobody listens on any more is replaced.
    pub fn bind_unix(path: &Path, backlog: u32, count: usize) -> io::Result<Vec<Self>> {
        let address = SockAddr::unix(path)?;
        let raw = RawSocket::new(Domain::UNIX, Type::STREAM, None)?;
        raw.set_nonblocking(true)?;
        if let Err(error) = raw.bind(&address) {
            if error.kind() != io::ErrorKind::AddrInUse || !is_dead_socket(path) {
                return Err(error);
            }
            fs::remove_file(path)?;
            raw.bind(&address)?;
        }
        raw.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        let mut sockets = Vec::with_capacity(count);
        for _ in 1..count {
            sockets.push(Self { raw: raw.try_clone()?, unix: Some(path.to_owned()) });
        }
        sockets.push(Self { raw, unix: Some(path.to_owned()) });
        Ok(sockets)
    }

    /// The bound TCP address; `None` for Unix sockets.
    pub fn address(&self) -> Option<SocketAddr> {
        self.raw.local_addr().ok()?.as_socket()
    }
}

fn is_any_v6(address: SocketAddr) -> bool {
    matches!(address, SocketAddr::V6(v6) if v6.ip().is_unspecified())
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn is_dead_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    is_socket
        && std::os::unix::net::UnixStream::connect(path)
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A listening socket on its shard.
pub struct Listener {
    kind: Kind,
    control: Rc<Control>,
}

/// Ends a [`Listener`] from elsewhere on the shard.
#[derive(Clone)]
pub struct ListenerHandle(Rc<Control>);

struct Control {
    slot: Rc<Slot>,
    is_tcp: bool,
    is_over: Cell<bool>,
    /// Ends the accept that is under way.
    canceller: RefCell<Option<Canceller>>,
}

/// Lets everything pass but the segment that asks for a new connection: SYN without ACK (RFC 9293 §3.5). Offset 13 of the TCP
/// header are its flags.
const NO_SYN: [SockFilter; 5] = [
    SockFilter::new(0x30, 0, 0, 13),       // load the byte at 13
    SockFilter::new(0x54, 0, 0, 0x12),     // of it SYN and ACK
    SockFilter::new(0x15, 0, 1, 0x02),     // only SYN?
    SockFilter::new(0x06, 0, 0, 0),        // drop it
    SockFilter::new(0x06, 0, 0, u32::MAX), // take it whole
];

impl ListenerHandle {
    /// Ends the pending and every later [`Listener::accept`], and listening altogether: who waits in the queue is reset.
    pub fn stop(&self) {
        let _ = self.0.slot.with_socket(|socket| rustix::net::shutdown(socket, Shutdown::Both));
        // A non-blocking accept does not notice that a Unix socket was shut.
        self.leave();
    }

    /// Ends the pending and every later [`Listener::accept`]. The socket goes on listening for others who have it open.
    pub fn leave(&self) {
        self.0.is_over.set(true);
        // Not in the middle of the borrow: who is woken may ask for the next one.
        let canceller = self.0.canceller.borrow_mut().take();
        if let Some(canceller) = canceller {
            canceller.cancel();
        }
    }

    /// Lets nobody new into the queue. Who is in it, or was told by the kernel that the connection stands, can still be accepted.
    /// New clients of a TCP socket are not answered, so that they try again until the socket is closed; those of a Unix socket are
    /// refused.
    pub fn refuse_new(&self) {
        let Control { slot, is_tcp, .. } = &*self.0;
        let _ = slot.with_socket(|socket| match is_tcp {
            true => SockRef::from(&socket).attach_filter(&NO_SYN),
            // The kernel hands out who is in the queue before it says that it is shut.
            false => Ok(rustix::net::shutdown(socket, Shutdown::Both)?),
        });
    }

    /// Whether somebody is in the queue of a TCP socket. Of a Unix socket it cannot be known once it is shut.
    pub fn has_waiting(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let waiting = self.0.slot.with_socket(|socket| {
            let mut asked = [PollFd::new(&socket, PollFlags::IN)];
            poll(&mut asked, Some(&now)).is_ok_and(|_| asked[0].revents().contains(PollFlags::IN))
        });
        // What is shut is readable for good.
        self.0.is_tcp && waiting == Some(true)
    }
}

impl Listener {
    /// Takes a socket onto this shard.
    pub fn adopt(socket: Socket) -> io::Result<Self> {
        let fd = socket.raw.as_raw_fd();
        let is_tcp = socket.unix.is_none();
        let kind = match is_tcp {
            true => Kind::Tcp(TcpListener::from_std(socket.raw.into())?),
            false => Kind::Unix(UnixListener::from_std(socket.raw.into())?),
        };
        let control =
            Control { slot: Slot::new(fd), is_tcp, is_over: Cell::new(false), canceller: RefCell::default() };
        Ok(Self { kind, control: Rc::new(control) })
    }

    pub fn handle(&self) -> ListenerHandle {
        ListenerHandle(Rc::clone(&self.control))
    }

    /// Whether nothing will be accepted any more.
    pub fn is_over(&self) -> bool {
        self.control.is_over.get()
    }

    /// Waits for the next connection. Must be awaited to its end: dropped, it would leak the descriptor. After
    /// [`ListenerHandle::leave`] it fails, unless a connection came first.
    pub async fn accept(&self) -> io::Result<(Accepted, Peer)> {
        if self.is_over() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let cancelled = self.control.canceller.borrow_mut().get_or_insert_default().handle();
        match &self.kind {
            Kind::Tcp(listener) => {
                let (stream, peer) = listener.cancelable_accept(cancelled).await?;
                Ok((Accepted::tcp(stream), Peer::Tcp(canonical(peer))))
            }
            Kind::Unix(listener) => {
                let (stream, _) = listener.cancelable_accept(cancelled).await?;
                Ok((Accepted::unix(stream), Peer::Unix))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.control.slot.close();
    }
}

/// An IPv4 client of a dual-stack socket is an IPv4 client.
fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_an_error_although_the_port_can_be_shared() {
        let first = Socket::bind_tcp("127.0.0.1:0".parse().unwrap(), 16, 2).unwrap();
        let address = first[0].address().unwrap();
        let second = Socket::bind_tcp(address, 16, 2);
        assert_eq!(second.err().map(|error| error.kind()), Some(io::ErrorKind::AddrInUse));
    }

    #[test]
    fn all_shards_get_the_same_free_port() {
        let sockets = Socket::bind_tcp("127.0.0.1:0".parse().unwrap(), 16, 3).unwrap();
        let ports: Vec<_> = sockets.iter().map(Socket::address).collect();
        assert!(ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    }

    #[test]
    fn a_client_of_a_dual_stack_socket_keeps_its_ipv4_address() {
        let mapped: SocketAddr = "[::ffff:10.0.0.7]:80".parse().unwrap();
        assert_eq!(canonical(mapped), "10.0.0.7:80".parse().unwrap());
    }
}
