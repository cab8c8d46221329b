//! Listening sockets.

use std::{
    cell::{Cell, RefCell},
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use monoio::{
    io::Canceller,
    net::{TcpListener, UnixListener},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{Shutdown, SocketFlags, acceptfrom_with},
};
use socket2::{Domain, Protocol, SockAddr, SockFilter, SockRef, Socket as RawSocket, Type};

use super::{Accepted, Detached, deadline::Slot};

/// Who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Tcp(SocketAddr),
    Unix,
}

/// A bound listening socket, before it is on a shard. Can be sent between threads.
pub struct Socket {
    raw: RawSocket,
    is_unix: bool,
    others: Others,
}

/// Whether others have the same sockets open and listen there, too: who leaves them then must not shut them down.
#[derive(Clone, Default)]
pub struct Others(Arc<AtomicBool>);

impl Others {
    pub fn there() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// The others will not listen there any more.
    pub fn have_gone(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    pub fn are_there(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sockets of one address for each shard, as a multiple of what is needed for one: at most this is opened to have as many for each.
const SOCKETS_PER_SHARD_MAX: usize = 4;

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
            sockets.push(Self::listen_tcp(raw, backlog)?);
        }
        Ok(sockets)
    }

    fn listen_tcp(raw: RawSocket, backlog: u32) -> io::Result<Self> {
        raw.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        // Accepted sockets inherit it: one system call less for each connection.
        raw.set_tcp_nodelay(true)?;
        Ok(Self { raw, is_unix: false, others: Others::default() })
    }

    /// Takes over a socket that others have opened, and that listens already.
    pub fn inherit(descriptor: OwnedFd, others: Others) -> io::Result<Self> {
        let raw = RawSocket::from(descriptor);
        if raw.r#type()? != Type::STREAM || !raw.is_listener()? {
            return Err(io::Error::other("it is not a listening stream socket"));
        }
        raw.set_cloexec(true)?;
        raw.set_nonblocking(true)?;
        let is_unix = raw.local_addr()?.is_unix();
        if !is_unix {
            raw.set_tcp_nodelay(true)?;
        }
        Ok(Self { raw, is_unix, others })
    }

    /// Deals sockets of one address out to `count` shards, the same number to each: more are opened if that is possible; if it is not
    /// (they are another user's, or cannot be shared), several shards accept from one. None is left out: the kernel goes on putting
    /// connections into each.
    pub fn deal(mut sockets: Vec<Self>, backlog: u32, count: usize) -> io::Result<Vec<Vec<Self>>> {
        let wanted = sockets.len().next_multiple_of(count);
        let address = sockets.first().and_then(Self::address);
        if let Some(address) = address
            && wanted <= count * SOCKETS_PER_SHARD_MAX
            && sockets[0].raw.reuse_port()?
        {
            for _ in sockets.len()..wanted {
                let Ok(more) = Self::open_tcp(address, true) else { break };
                sockets.push(Self::listen_tcp(more, backlog)?);
            }
        }
        let mut dealt: Vec<Vec<Self>> = (0..count).map(|_| Vec::new()).collect();
        for (shard, own) in dealt.iter_mut().enumerate().skip(sockets.len()) {
            own.push(sockets[shard % sockets.len()].try_clone()?);
        }
        for (number, socket) in sockets.into_iter().enumerate() {
            socket.raw.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
            dealt[number % count].push(socket);
        }
        Ok(dealt)
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
            sockets.push(Self { raw: raw.try_clone()?, is_unix: true, others: Others::default() });
        }
        sockets.push(Self { raw, is_unix: true, others: Others::default() });
        Ok(sockets)
    }

    /// The same socket once more.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { raw: self.raw.try_clone()?, is_unix: self.is_unix, others: self.others.clone() })
    }

    /// Whether others listen there, too.
    pub fn others(&self) -> &Others {
        &self.others
    }

    /// Where a Unix socket is bound; `None` for TCP.
    pub fn path(&self) -> Option<PathBuf> {
        Some(self.raw.local_addr().ok()?.as_pathname()?.to_owned())
    }

    /// For who accepts in another way.
    pub fn into_tcp(self) -> std::net::TcpListener {
        self.raw.into()
    }

    /// The bound TCP address; `None` for Unix sockets.
    pub fn address(&self) -> Option<SocketAddr> {
        self.raw.local_addr().ok()?.as_socket()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
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
    others: Others,
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
    /// Ends the pending and every later [`Listener::accept`], and listening altogether: who waits in the queue is reset. Where
    /// others listen, too, it is only left.
    pub fn stop(&self) {
        if self.has_others() || self.0.is_over.get() {
            return self.leave();
        }
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

    /// Whether others have the socket open and listen there.
    pub fn has_others(&self) -> bool {
        self.0.others.are_there()
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
        let is_tcp = !socket.is_unix;
        let kind = match is_tcp {
            true => Kind::Tcp(TcpListener::from_std(socket.raw.into())?),
            false => Kind::Unix(UnixListener::from_std(socket.raw.into())?),
        };
        let control = Control {
            slot: Slot::new(fd),
            is_tcp,
            is_over: Cell::new(false),
            others: socket.others,
            canceller: RefCell::default(),
        };
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

impl Listener {
    /// One of those who wait, if there is one.
    ///
    /// Of several accepts that are pending for a socket, in whatever process, the kernel wakes one for each connection. If that is one which
    /// is being cancelled, nobody else learns of it: who leaves a socket must look once more.
    pub fn accept_waiting(&self) -> Option<(Accepted, Peer)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let accepted = self.control.slot.with_socket(|socket| acceptfrom_with(socket, flags))?;
        let (descriptor, peer) = accepted.ok()?;
        let (connection, peer) = match self.kind {
            Kind::Tcp(_) => {
                let peer = SocketAddr::try_from(peer?).ok()?;
                (Detached::Tcp(descriptor), Peer::Tcp(canonical(peer)))
            }
            Kind::Unix(_) => (Detached::Unix(descriptor), Peer::Unix),
        };
        Some((connection.attach().ok()?, peer))
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

    /// Sockets of `have` shards dealt out to `count`: how many each gets, and how many different ones there are.
    #[track_caller]
    fn check_deal(have: usize, count: usize, each: &[usize], different: usize) {
        let mut sockets = Socket::bind_tcp("127.0.0.1:0".parse().unwrap(), 16, have.max(2)).unwrap();
        sockets.truncate(have);
        let dealt = Socket::deal(sockets, 16, count).unwrap();
        assert_eq!(dealt.iter().map(Vec::len).collect::<Vec<_>>(), each);
        let mut cookies: Vec<_> = dealt.iter().flatten().map(|socket| socket.raw.cookie().unwrap()).collect();
        cookies.sort_unstable();
        cookies.dedup();
        assert_eq!(cookies.len(), different);
    }

    #[test]
    fn inherited_sockets_are_dealt_out_evenly_and_none_is_left_out() {
        check_deal(2, 2, &[1, 1], 2);
        check_deal(1, 3, &[1, 1, 1], 3);
        check_deal(3, 2, &[2, 2], 4);
        check_deal(6, 4, &[2, 2, 2, 2], 8);
        check_deal(9, 2, &[5, 4], 9);
    }

    #[test]
    fn a_socket_that_cannot_be_opened_again_is_shared() {
        let alone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let alone = Socket::inherit(alone.into(), Others::there()).unwrap();
        let dealt = Socket::deal(vec![alone], 16, 3).unwrap();
        assert_eq!(dealt.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
    }

    #[test]
    fn what_does_not_listen_is_not_taken_over() {
        let datagram = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(Socket::inherit(datagram.into(), Others::there()).is_err());
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(Socket::inherit(one.into(), Others::there()).is_err());
    }

    #[test]
    fn a_client_of_a_dual_stack_socket_keeps_its_ipv4_address() {
        let mapped: SocketAddr = "[::ffff:10.0.0.7]:80".parse().unwrap();
        assert_eq!(canonical(mapped), "10.0.0.7:80".parse().unwrap());
    }
}
