//! A raw client: sends any bytes, reads one reply at a time, notices how the connection ends.

use std::{
    fmt,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use socket2::SockRef;

use super::{
    message::{self, Chunked, Extent, Reply},
    wait::{PATIENCE, pause},
};

pub struct Client {
    stream: TcpStream,
    /// Read, and not yet part of a reply.
    buffer: Vec<u8>,
}

/// Why there was no whole reply.
#[derive(Debug)]
pub enum ReplyError {
    /// The connection ended without a byte of it.
    Closed,
    /// The connection ended in the middle of it; what was read so far.
    Broken(Box<Reply>),
    TimedOut(Vec<u8>),
    Garbled(String),
}

impl fmt::Display for ReplyError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => write!(out, "closed without a reply"),
            Self::Broken(reply) => {
                write!(out, "broken off: status {}, {} body bytes", reply.status, reply.body.len())
            }
            Self::TimedOut(read) => write!(out, "timed out after {:?}", String::from_utf8_lossy(read)),
            Self::Garbled(why) => write!(out, "{why}"),
        }
    }
}

enum More {
    Some,
    End,
    TimedOut,
}

impl Client {
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("the address accepts connections"))
    }

    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a TCP socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a TCP socket");
        Self { stream, buffer: Vec::new() }
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).expect("the gateway takes what is sent");
        self
    }

    /// Sends what the gateway may refuse to take: it may have closed already.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        drop(self.stream.write_all(bytes.as_ref()));
        self
    }

    /// Sends `bytes` in pieces that arrive apart, cut before each place of `cuts` (ascending).
    pub fn send_split(&mut self, bytes: &[u8], cuts: &[usize]) -> &mut Self {
        let mut start = 0;
        for &cut in cuts {
            self.try_send(&bytes[start..cut]);
            pause(Duration::from_millis(3));
            start = cut;
        }
        self.try_send(&bytes[start..])
    }

    /// Says that nothing more will be sent, and still reads.
    pub fn half_close(&mut self) -> &mut Self {
        self.stream.shutdown(Shutdown::Write).expect("a connected socket");
        self
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("a TCP socket");
    }

    /// Waits less long for the replies that follow.
    pub fn patience(&mut self, patience: Duration) -> &mut Self {
        self.stream.set_read_timeout(Some(patience)).expect("a TCP socket");
        self
    }

    /// The reply to a request that was not HEAD. Panics when it is not whole.
    #[track_caller]
    pub fn reply(&mut self) -> Reply {
        self.try_reply_to("GET").unwrap_or_else(|error| panic!("no whole reply: {error}"))
    }

    #[track_caller]
    pub fn reply_to(&mut self, method: &str) -> Reply {
        self.try_reply_to(method).unwrap_or_else(|error| panic!("no whole reply: {error}"))
    }

    /// The reply, which the gateway must have broken off after its head.
    #[track_caller]
    pub fn broken_reply(&mut self) -> Reply {
        match self.try_reply_to("GET") {
            Err(ReplyError::Broken(reply)) => *reply,
            Ok(reply) => panic!("a whole reply: {} with {} bytes", reply.status, reply.body.len()),
            Err(error) => panic!("not broken off, but {error}"),
        }
    }

    pub fn try_reply(&mut self) -> Result<Reply, ReplyError> {
        self.try_reply_to("GET")
    }

    pub fn try_reply_to(&mut self, method: &str) -> Result<Reply, ReplyError> {
        let mut reply = Reply::default();
        loop {
            let length = loop {
                if let Some(length) = message::head_length(&self.buffer) {
                    break length;
                }
                match self.more() {
                    More::Some => {}
                    More::End if self.buffer.is_empty() => return Err(ReplyError::Closed),
                    More::End => return Err(ReplyError::Broken(Box::new(reply))),
                    More::TimedOut => return Err(ReplyError::TimedOut(self.buffer.clone())),
                }
            };
            let head: Vec<u8> = self.buffer.drain(..length).collect();
            let ([version, status, reason], headers) = garbled(message::head(&head))?;
            let Ok(status) = status.parse() else {
                return Err(ReplyError::Garbled(format!(
                    "bad status in {:?}",
                    String::from_utf8_lossy(&head)
                )));
            };
            if (100..200).contains(&status) && status != 101 {
                reply.informational.push((status, headers));
                continue;
            }
            reply = Reply { version, status, reason, headers, ..reply };
            break;
        }
        let bodiless = method == "HEAD" || matches!(reply.status, 101 | 204 | 304);
        let extent = if bodiless {
            Extent::Exact(0)
        } else {
            garbled(message::extent(&reply.headers, Extent::ToClose))?
        };
        self.body(extent, reply)
    }

    fn body(&mut self, extent: Extent, mut reply: Reply) -> Result<Reply, ReplyError> {
        loop {
            match extent {
                Extent::Exact(length) if self.buffer.len() >= length => {
                    reply.body = self.buffer.drain(..length).collect();
                    return Ok(reply);
                }
                Extent::Chunked => {
                    if let Chunked::Whole { body, trailers, used } = garbled(message::chunked(&self.buffer))?
                    {
                        self.buffer.drain(..used);
                        return Ok(Reply { body, trailers, ..reply });
                    }
                }
                Extent::Exact(_) | Extent::ToClose => {}
            }
            match self.more() {
                More::Some => {}
                More::End => {
                    reply.body = std::mem::take(&mut self.buffer);
                    return if extent == Extent::ToClose {
                        Ok(reply)
                    } else {
                        Err(ReplyError::Broken(Box::new(reply)))
                    };
                }
                More::TimedOut => return Err(ReplyError::TimedOut(self.buffer.clone())),
            }
        }
    }

    /// The status of an informational head, which has to come next.
    #[track_caller]
    pub fn informational(&mut self) -> u16 {
        let mut head = Vec::new();
        while message::head_length(&head).is_none() {
            head.extend(self.read(1));
        }
        let ([_, status, _], _) = message::head(&head).unwrap_or_else(|why| panic!("{why}"));
        status.parse().expect("a status")
    }

    /// Exactly `count` bytes.
    #[track_caller]
    pub fn read(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            match self.more() {
                More::Some => {}
                More::End => panic!("closed after {:?}", String::from_utf8_lossy(&self.buffer)),
                More::TimedOut => panic!("timed out after {:?}", String::from_utf8_lossy(&self.buffer)),
            }
        }
        self.buffer.drain(..count).collect()
    }

    /// Everything up to the end of the connection.
    #[track_caller]
    pub fn read_to_end(&mut self) -> Vec<u8> {
        loop {
            match self.more() {
                More::Some => {}
                More::End => return std::mem::take(&mut self.buffer),
                More::TimedOut => panic!("not closed after {:?}", String::from_utf8_lossy(&self.buffer)),
            }
        }
    }

    /// The connection ends, and not a byte comes before its end.
    #[track_caller]
    pub fn expect_closed(&mut self) {
        let rest = self.read_to_end();
        assert!(rest.is_empty(), "closed only after {:?}", String::from_utf8_lossy(&rest));
    }

    /// The connection stays open and silent for `duration`.
    #[track_caller]
    pub fn expect_silence(&mut self, duration: Duration) {
        assert!(self.buffer.is_empty(), "there was {:?}", String::from_utf8_lossy(&self.buffer));
        self.patience(duration);
        match self.more() {
            More::TimedOut => {}
            More::Some => panic!("there came {:?}", String::from_utf8_lossy(&self.buffer)),
            More::End => panic!("closed"),
        }
        self.patience(PATIENCE);
    }

    fn more(&mut self) -> More {
        let mut bytes = [0; 64 * 1024];
        let read = loop {
            match self.stream.read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        match read {
            Ok(0) => More::End,
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                More::Some
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                More::TimedOut
            }
            // A reset ends a connection like a close does; which of the two it is depends on timing.
            Err(_) => More::End,
        }
    }
}

fn garbled<T>(result: Result<T, message::Garbled>) -> Result<T, ReplyError> {
    result.map_err(|why| ReplyError::Garbled(why.to_string()))
}
