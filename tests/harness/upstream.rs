//! A scripted upstream: a listener whose every connection is played by a function of the test.

use std::{
    fmt,
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::{
    message::{self, Chunked, Extent, Request},
    wait::{PATIENCE, pause, wait_until},
};

#[expect(clippy::disallowed_types, reason = "threads of a test share what they saw")]
type Shared<T> = Arc<std::sync::Mutex<T>>;

/// Ends, with its threads and connections, when dropped. Panics then when a script did.
pub struct Upstream {
    address: SocketAddr,
    seen: Arc<Seen>,
    running: Option<JoinHandle<()>>,
    /// Sockets that must stay open for the address to behave as promised.
    held: Vec<Socket>,
}

#[derive(Default)]
struct Seen {
    requests: Shared<Vec<Request>>,
    streams: Shared<Vec<TcpStream>>,
    connections: AtomicUsize,
    ended: AtomicUsize,
    stopping: AtomicBool,
}

/// The gateway's side of one connection to the upstream.
pub struct Peer {
    stream: TcpStream,
    buffer: Vec<u8>,
    seen: Arc<Seen>,
}

impl Upstream {
    /// Plays `script` for every connection, each on its own thread.
    pub fn start(script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0), script)
    }

    /// The same at an address of its own.
    pub fn start_at(address: (Ipv4Addr, u16), script: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let seen = Arc::new(Seen::default());
        let accepting = Arc::clone(&seen);
        let running = thread::spawn(move || accept(&listener, &accepting, &Arc::new(script)));
        Self { address, seen, running: Some(running), held: Vec::new() }
    }

    /// Answers every request with the same bytes and keeps the connection.
    pub fn replying(reply: impl AsRef<[u8]>) -> Self {
        let reply = reply.as_ref().to_vec();
        Self::start(move |peer| {
            while peer.request().is_some() {
                peer.send(&reply);
            }
        })
    }

    /// Answers every request with 200 and `body`, and keeps the connection.
    pub fn saying(body: &str) -> Self {
        Self::replying(ok(body))
    }

    /// Answers the first request of every connection with the same bytes and closes it.
    pub fn replying_once(reply: impl AsRef<[u8]>) -> Self {
        let reply = reply.as_ref().to_vec();
        Self::start(move |peer| {
            if peer.request().is_some() {
                peer.send(&reply);
            }
        })
    }

    /// Takes requests and never answers.
    pub fn hanging() -> Self {
        Self::start(|peer| {
            peer.request();
            peer.hang();
        })
    }

    /// Takes a request, then closes the connection without a byte.
    pub fn closing() -> Self {
        Self::start(|peer| {
            peer.request();
        })
    }

    /// Takes a request, then resets the connection.
    pub fn resetting() -> Self {
        Self::start(|peer| {
            peer.request();
            peer.reset();
        })
    }

    /// An address that refuses connections and that nobody else can be given meanwhile.
    pub fn refusing() -> Self {
        let socket = bound();
        Self::without_thread(&socket, vec![])
    }

    /// An address whose queue is full: a connection is neither accepted nor refused.
    pub fn unreachable() -> Self {
        let socket = bound();
        socket.listen(0).expect("a bound socket");
        let address = socket.local_addr().expect("a bound socket");
        // A queue of 0 holds one connection, and whatever was on its way when it filled.
        let callers = (0..3)
            .map(|_| {
                let caller = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
                caller.set_nonblocking(true).expect("a socket");
                drop(caller.connect(&address));
                caller
            })
            .collect();
        Self::without_thread(&socket, callers)
    }

    fn without_thread(socket: &Socket, mut held: Vec<Socket>) -> Self {
        let address =
            socket.local_addr().ok().and_then(|address| address.as_socket()).expect("a bound socket");
        held.push(socket.try_clone().expect("a descriptor is left"));
        Self { address, seen: Arc::default(), running: None, held }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far, in the order in which they became whole.
    pub fn requests(&self) -> Vec<Request> {
        self.seen.requests.lock().expect("no script panics while it holds this").clone()
    }

    /// The only request so far; panics when there were none or several.
    #[track_caller]
    pub fn request(&self) -> Request {
        let mut requests = self.requests();
        let lines: Vec<_> = requests.iter().map(Request::line).collect();
        assert_eq!(lines.len(), 1, "requests seen: {lines:?}");
        requests.remove(0)
    }

    /// `METHOD TARGET` of every request so far.
    pub fn lines(&self) -> Vec<String> {
        self.requests().iter().map(Request::line).collect()
    }

    pub fn forget(&self) {
        self.seen.requests.lock().expect("no script panics while it holds this").clear();
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Waits until every connection accepted so far has ended.
    #[track_caller]
    pub fn expect_all_ended(&self) {
        wait_until("the upstream's connections to end", || {
            self.seen.ended.load(Ordering::SeqCst) == self.connections()
        });
    }
}

/// `127.0.0.1:PORT`, so that it can be written into a configuration.
impl fmt::Display for Upstream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(out)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.held.clear();
        self.seen.stopping.store(true, Ordering::SeqCst);
        let Some(running) = self.running.take() else { return };
        // The first call is for `accept`, which then sees that it is to stop.
        drop(TcpStream::connect(self.address));
        for stream in
            self.seen.streams.lock().into_iter().flat_map(|mut streams| std::mem::take(&mut *streams))
        {
            drop(stream.shutdown(Shutdown::Both));
        }
        if let Err(panic) = running.join()
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// A 200 with a length and `body`.
pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn bound() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).expect("a free port");
    socket
}

fn accept<S: Fn(&mut Peer) + Send + Sync + 'static>(
    listener: &TcpListener,
    seen: &Arc<Seen>,
    script: &Arc<S>,
) {
    let (panicked, panics) = mpsc::channel();
    let mut threads = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        if seen.stopping.load(Ordering::SeqCst) {
            break;
        }
        seen.connections.fetch_add(1, Ordering::SeqCst);
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(PATIENCE * 3)).expect("a TCP socket");
        stream.set_write_timeout(Some(PATIENCE * 3)).expect("a TCP socket");
        let known = stream.try_clone().expect("a descriptor is left");
        seen.streams.lock().expect("no script panics while it holds this").push(known);
        let (seen, script, panicked) = (Arc::clone(seen), Arc::clone(script), panicked.clone());
        threads.push(thread::spawn(move || {
            let mut peer = Peer { stream, buffer: Vec::new(), seen: Arc::clone(&seen) };
            let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| script(&mut peer)));
            // The clone kept for stopping would hold the connection open.
            seen.forget_stream(&peer.stream);
            drop(peer);
            seen.ended.fetch_add(1, Ordering::SeqCst);
            if let Err(panic) = played {
                drop(panicked.send(panic));
            }
        }));
    }
    drop(panicked);
    // A script that waits for the gateway ends because its stream was shut down.
    for stream in std::mem::take(&mut *seen.streams.lock().expect("no script panics while it holds this")) {
        drop(stream.shutdown(Shutdown::Both));
    }
    for thread in threads {
        drop(thread.join());
    }
    if let Ok(panic) = panics.recv() {
        std::panic::resume_unwind(panic);
    }
}

impl Seen {
    fn forget_stream(&self, stream: &TcpStream) {
        let peer = stream.peer_addr().ok();
        let mut streams = self.streams.lock().expect("no script panics while it holds this");
        // One whose address is gone is closed on the other side, and as good as forgotten.
        streams.retain(|known| known.peer_addr().ok().is_some_and(|address| Some(address) != peer));
    }
}

impl Peer {
    /// The next request, whole; `None` when the gateway closed the connection (or sent a part of one).
    pub fn request(&mut self) -> Option<Request> {
        let mut request = self.request_head()?;
        let extent = message::extent(&request.headers, Extent::Exact(0)).expect("the gateway frames plainly");
        loop {
            match extent {
                Extent::Exact(length) if self.buffer.len() >= length => {
                    request.body = self.buffer.drain(..length).collect();
                    break;
                }
                Extent::Chunked => {
                    let read = message::chunked(&self.buffer).expect("the gateway frames plainly");
                    if let Chunked::Whole { body, trailers, used } = read {
                        self.buffer.drain(..used);
                        (request.body, request.trailers) = (body, trailers);
                        break;
                    }
                }
                Extent::Exact(_) | Extent::ToClose => {}
            }
            if !self.more() {
                return None;
            }
        }
        self.seen.requests.lock().expect("no script panics while it holds this").push(request.clone());
        Some(request)
    }

    /// The next request's head; its body stays unread and the request is not among [`Upstream::requests`].
    pub fn request_head(&mut self) -> Option<Request> {
        let length = loop {
            if let Some(length) = message::head_length(&self.buffer) {
                break length;
            }
            if !self.more() {
                return None;
            }
        };
        let head: Vec<u8> = self.buffer.drain(..length).collect();
        let ([method, target, version], headers) =
            message::head(&head).expect("the gateway writes plain heads");
        Some(Request { method, target, version, headers, head, ..Request::default() })
    }

    /// The address that was connected to.
    pub fn local(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket")
    }

    /// Sends; a gateway that is gone is no error here, the test will see it elsewhere.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        drop(self.stream.write_all(bytes.as_ref()));
        self
    }

    /// Sends and says whether the gateway took it all.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Sends byte by byte, each arriving apart from the last.
    pub fn drip(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        for byte in bytes.as_ref() {
            self.send([*byte]);
            pause(Duration::from_millis(1));
        }
        self
    }

    /// Whatever arrives next; empty at the end.
    pub fn read(&mut self) -> Vec<u8> {
        if self.buffer.is_empty() {
            self.more();
        }
        std::mem::take(&mut self.buffer)
    }

    /// Exactly `count` bytes, or fewer when the gateway closes first.
    pub fn read_exactly(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count && self.more() {}
        let count = count.min(self.buffer.len());
        self.buffer.drain(..count).collect()
    }

    /// Answers nothing until the gateway closes the connection or the test ends.
    pub fn hang(&mut self) {
        while self.more() {
            self.buffer.clear();
        }
    }

    /// Says that nothing more will be sent, and still reads.
    pub fn half_close(&mut self) -> &mut Self {
        drop(self.stream.shutdown(Shutdown::Write));
        self
    }

    /// Makes the end of the script a reset.
    pub fn reset(&mut self) {
        drop(SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)));
    }

    fn more(&mut self) -> bool {
        let mut bytes = [0; 64 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&bytes[..count]);
                true
            }
        }
    }
}
