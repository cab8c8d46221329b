//! A bare TCP forwarder on epoll: the least a proxy of any kind costs on this machine. A peer for load tests.
//!
//! `forward_epoll LISTEN UPSTREAM [CORE] [BUFFER_BYTES]`: one thread on one core (0), one upstream connection for each
//! client, bytes copied both ways through one buffer (16 KiB, nginx's). It understands nothing of what it carries.

use std::{
    env,
    io::{self, ErrorKind, Read, Write},
    mem::MaybeUninit,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
};

use rustix::{
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    fd::OwnedFd,
};

const BUFFER_BYTES: usize = 16 * 1024;
/// Events taken from the kernel at once.
const EVENTS: usize = 512;
const LISTENER: u64 = u64::MAX;

/// One of the two sockets of a forwarded connection.
struct Side {
    stream: TcpStream,
    /// Read from the other side and not yet taken by this one. While there is any, the other side is not read.
    waiting: Vec<u8>,
    /// Nothing more comes from this side.
    ended: bool,
}

fn main() -> io::Result<()> {
    let words: Vec<_> = env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    // `cargo bench` runs every bench; this one is a program for others to measure.
    let [listen, upstream, rest @ ..] = words.as_slice() else { return Ok(()) };
    let upstream: SocketAddr = upstream.parse().map_err(io::Error::other)?;
    let number =
        |index: usize, otherwise| rest.get(index).and_then(|word| word.parse().ok()).unwrap_or(otherwise);
    core_affinity::set_for_current(core_affinity::CoreId { id: number(0, 0) });

    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    let poll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;

    let mut buffer = vec![0; number(1, BUFFER_BYTES)];
    let mut events = [const { MaybeUninit::uninit() }; EVENTS];
    let mut sides: Vec<Option<[Side; 2]>> = Vec::new();
    let mut free = Vec::new();
    loop {
        let (ready, _) = epoll::wait(&poll, &mut events, None)?;
        // A pair that ended gives its number away only after the batch, so that no event meets a stranger.
        let mut ended = Vec::new();
        for event in ready {
            let token = event.data.u64();
            if token == LISTENER {
                accept(&poll, &listener, upstream, &mut sides, &mut free)?;
                continue;
            }
            let pair = usize::try_from(token / 2).map_err(io::Error::other)?;
            let from = usize::from(token % 2 == 1);
            let Some(both) = sides.get_mut(pair).and_then(Option::as_mut) else { continue };
            let flags = event.flags;
            if forward(&poll, both, token, from, flags, &mut buffer).is_err()
                || both.iter().all(|side| side.ended)
            {
                sides[pair] = None;
                ended.push(pair);
            }
        }
        free.append(&mut ended);
    }
}

fn accept(
    poll: &OwnedFd,
    listener: &TcpListener,
    upstream: SocketAddr,
    sides: &mut Vec<Option<[Side; 2]>>,
    free: &mut Vec<usize>,
) -> io::Result<()> {
    loop {
        let client = match listener.accept() {
            Ok((client, _)) => client,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        // The upstream is on this machine, where connecting does not wait.
        let Ok(upstream) = TcpStream::connect(upstream) else { continue };
        let pair = free.pop().unwrap_or_else(|| {
            sides.push(None);
            sides.len() - 1
        });
        let token = u64::try_from(pair).map_err(io::Error::other)? * 2;
        let both = [client, upstream].map(|stream| Side { stream, waiting: Vec::new(), ended: false });
        for (side, token) in both.iter().zip(token..) {
            side.stream.set_nodelay(true)?;
            side.stream.set_nonblocking(true)?;
            epoll::add(poll, &side.stream, EventData::new_u64(token), EventFlags::IN)?;
        }
        sides[pair] = Some(both);
    }
}

/// Moves what can be moved after an event of the side `from`. An error ends the pair.
fn forward(
    poll: &OwnedFd,
    both: &mut [Side; 2],
    token: u64,
    from: usize,
    flags: EventFlags,
    buffer: &mut [u8],
) -> io::Result<()> {
    let [first, second] = both;
    let (own, other) = if from == 0 { (first, second) } else { (second, first) };
    if own.ended && flags.intersects(EventFlags::HUP | EventFlags::ERR) {
        // Reported again and again as long as the socket is open, whatever is watched for.
        return Err(ErrorKind::ConnectionReset.into());
    }
    if flags.contains(EventFlags::OUT) {
        let written = write(&mut own.stream, &own.waiting)?;
        own.waiting.drain(..written);
        if own.waiting.is_empty() {
            watch(poll, own, token, EventFlags::IN)?;
            watch(poll, other, token ^ 1, EventFlags::IN)?;
            if other.ended {
                own.stream.shutdown(Shutdown::Write)?;
            }
        }
    }
    if !flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR) || !other.waiting.is_empty() {
        return Ok(());
    }
    match own.stream.read(buffer) {
        Ok(0) => {
            own.ended = true;
            watch(poll, own, token, EventFlags::empty())?;
            other.stream.shutdown(Shutdown::Write)
        }
        Ok(count) => {
            let written = write(&mut other.stream, &buffer[..count])?;
            if written < count {
                other.waiting.extend_from_slice(&buffer[written..count]);
                watch(poll, other, token ^ 1, EventFlags::IN | EventFlags::OUT)?;
                watch(poll, own, token, EventFlags::empty())?;
            }
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        Err(error) => Err(error),
    }
}

/// Watches a side for `flags`, of which reading falls away once nothing more comes.
fn watch(poll: &OwnedFd, side: &Side, token: u64, flags: EventFlags) -> io::Result<()> {
    let flags = if side.ended { flags - EventFlags::IN } else { flags };
    Ok(epoll::modify(poll, &side.stream, EventData::new_u64(token), flags)?)
}

/// Bytes the kernel took; 0 when it is full.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match stream.write(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}
