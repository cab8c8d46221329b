//! Listening sockets.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    rc::Rc,
};

use monoio::net::{TcpListener, UnixListener};
use socket2::{Domain, Protocol, SockAddr, Socket as RawSocket, Type};

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
    slot: Rc<Slot>,
}

/// Stops a [`Listener`] from elsewhere on the shard.
pub struct ListenerHandle(Rc<Slot>);

impl ListenerHandle {
    /// Ends the pending and every later [`Listener::accept`].
    pub fn stop(&self) {
        let _ = self.0.with_socket(|socket| rustix::net::shutdown(socket, rustix::net::Shutdown::Both));
    }
}

impl Listener {
    /// Takes a socket onto this shard.
    pub fn adopt(socket: Socket) -> io::Result<Self> {
        let fd = socket.raw.as_raw_fd();
        let kind = match socket.unix {
            None => Kind::Tcp(TcpListener::from_std(socket.raw.into())?),
            Some(_) => Kind::Unix(UnixListener::from_std(socket.raw.into())?),
        };
        Ok(Self { kind, slot: Slot::new(fd) })
    }

    pub fn handle(&self) -> ListenerHandle {
        ListenerHandle(Rc::clone(&self.slot))
    }

    /// Waits for the next connection. Must be awaited to its end: dropped, it would leak the descriptor.
    pub async fn accept(&self) -> io::Result<(Accepted, Peer)> {
        match &self.kind {
            Kind::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Accepted::tcp(stream), Peer::Tcp(canonical(peer))))
            }
            Kind::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Accepted::unix(stream), Peer::Unix))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.slot.close();
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
