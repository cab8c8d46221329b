//! Clients that ask again and again and count what became of it.

use std::{
    iter::Sum,
    net::{SocketAddr, TcpStream},
    ops::Add,
    sync::atomic::{AtomicBool, Ordering},
};

use super::client::{Client, ReplyError};

/// Says that something is over when it goes, however that comes: a test that fails must not wait for its clients.
pub struct Over<'a>(pub &'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// How a load went. A reply that is not whole, or not `200` with `ok`, panics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    pub answered: usize,
    /// Connections that stood, and ended without an answer although the reply before it, if any, had not said so.
    pub cut: usize,
    /// Connections that were refused. Each ends its load.
    pub refused: usize,
}

impl Load {
    /// Asks on connections that are kept, `depth` requests at once, until `go_on` says no or nobody accepts connections.
    pub fn keeping(address: SocketAddr, depth: usize, go_on: impl FnMut(usize) -> bool) -> Self {
        Self::run(address, depth, "", go_on)
    }

    /// Asks on a new connection each time.
    pub fn opening(address: SocketAddr, go_on: impl FnMut(usize) -> bool) -> Self {
        Self::run(address, 1, "Connection: close\r\n", go_on)
    }

    fn run(address: SocketAddr, depth: usize, field: &str, mut go_on: impl FnMut(usize) -> bool) -> Self {
        let mut load = Self::default();
        let requests = format!("GET / HTTP/1.1\r\nHost: x\r\n{field}\r\n").repeat(depth);
        while let Ok(stream) = TcpStream::connect(address) {
            let mut client = Client::over(stream);
            'connection: loop {
                if !go_on(depth) {
                    return load;
                }
                client.try_send(&requests);
                for _ in 0..depth {
                    let reply = match client.try_reply() {
                        Ok(reply) => reply,
                        Err(ReplyError::Closed) => {
                            load.cut += 1;
                            break 'connection;
                        }
                        Err(error) => panic!("{error}"),
                    };
                    assert_eq!((reply.status, reply.text()), (200, "ok"));
                    load.answered += 1;
                    if reply.header("connection") == Some("close") {
                        break 'connection;
                    }
                }
            }
        }
        load.refused += 1;
        load
    }
}

impl Add for Load {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            answered: self.answered + other.answered,
            cut: self.cut + other.cut,
            refused: self.refused + other.refused,
        }
    }
}

impl Sum for Load {
    fn sum<I: Iterator<Item = Self>>(loads: I) -> Self {
        loads.fold(Self::default(), Self::add)
    }
}
