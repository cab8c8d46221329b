//! One connection's state, and what its owner can ask and tell besides messages.

use std::collections::VecDeque;

use super::{
    Bounds, Code, FRAME_BYTES_MAX, Fault, Gone, PREFACE, Stream,
    blocks::Block,
    flood::Floods,
    frame::{self, STREAM_MAX, setting},
    hpack::{Decoder, Encoder},
    receive::Reading,
    streams::{Exchange, History, Past, Side, Streams, Waiting},
};

/// Each side's window before anything was said about it (RFC 9113 §6.9.2).
pub(super) const WINDOW_INITIAL: u32 = 65_535;
/// Requests at once before the server has said how many it takes: RFC 9113 §6.5.2 wants no server to take fewer.
const STREAMS_UNTOLD: u32 = 100;
/// The ping by which a leaving server finds out that its announcement has arrived.
pub(super) const LEAVING_PING: [u8; 8] = *b"\0leaving";

/// One HTTP/2 connection's state.
pub struct Connection {
    pub(super) role: Role,
    pub(super) bounds: Bounds,
    pub(super) streams: Streams,
    pub(super) history: History,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    pub(super) floods: Floods,
    pub(super) reading: Reading,
    /// A frame's payload that came in pieces.
    pub(super) partial: Vec<u8>,
    /// A header block that goes on in CONTINUATION frames, and its bytes so far.
    pub(super) block: Option<Block>,
    pub(super) block_bytes: Vec<u8>,
    pub(super) cookies: Vec<u8>,
    pub(super) peer: Peer,
    /// The peer has acknowledged our settings.
    pub(super) acknowledged: bool,
    /// What we may send on all streams together; what the peer may; released, not yet offered again.
    pub(super) send_window: i64,
    pub(super) receive_window: i64,
    pub(super) returned: u32,
    /// Streams with data to send and a window for it, the next one first.
    pub(super) line: VecDeque<Stream>,
    /// Server: the highest stream seen, and the highest one that was not ignored.
    pub(super) seen: u32,
    pub(super) served: u32,
    /// Client: the next request's stream.
    pub(super) next: u32,
    pub(super) leaving: Leaving,
    /// The last stream of the peer's GOAWAY. While `losing`, there may be streams beyond it.
    pub(super) peer_last: Option<u32>,
    pub(super) losing: bool,
    /// Replies in `out` that have not been sent.
    pub(super) replies: u32,
    pub(super) refused: u64,
    pub(super) fault: Option<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Client,
}

/// What the peer's settings say.
pub(super) struct Peer {
    pub(super) stream_window: u32,
    pub(super) streams_max: u32,
    pub(super) extended_connect: bool,
    /// Its first settings have come.
    pub(super) known: bool,
}

/// How far our leaving is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    No,
    /// Server: announced; new streams may still be on their way.
    Announced,
    /// New streams are ignored.
    Last,
}

impl Connection {
    /// The side that answers. Appends its first frames to `out`.
    pub fn server(bounds: Bounds, out: &mut Vec<u8>) -> Self {
        let mut connection = Self::new(Role::Server, bounds);
        let bounds = &connection.bounds;
        frame::settings(
            out,
            &[
                (setting::MAX_CONCURRENT_STREAMS, bounds.streams_max),
                (setting::INITIAL_WINDOW_SIZE, bounds.stream_window),
                (setting::MAX_HEADER_LIST_SIZE, list_size(bounds)),
                (setting::ENABLE_CONNECT_PROTOCOL, u32::from(bounds.extended_connect)),
            ],
        );
        connection.open_window(out);
        connection
    }

    /// The side that asks. Appends its preface and first frames to `out`; requests may follow at once.
    pub fn client(bounds: Bounds, out: &mut Vec<u8>) -> Self {
        let mut connection = Self::new(Role::Client, bounds);
        let bounds = &connection.bounds;
        out.extend_from_slice(PREFACE);
        frame::settings(
            out,
            &[
                (setting::ENABLE_PUSH, 0),
                (setting::INITIAL_WINDOW_SIZE, bounds.stream_window),
                (setting::MAX_HEADER_LIST_SIZE, list_size(bounds)),
            ],
        );
        connection.open_window(out);
        connection
    }

    fn new(role: Role, mut bounds: Bounds) -> Self {
        bounds.streams_max = bounds.streams_max.clamp(1, u32::from(u16::MAX));
        bounds.stream_window = bounds.stream_window.clamp(1, STREAM_MAX);
        bounds.connection_window = bounds.connection_window.clamp(WINDOW_INITIAL, STREAM_MAX);
        Self {
            role,
            bounds,
            streams: Streams::new(),
            history: History::new(),
            decoder: Decoder::new(),
            encoder: Encoder::new(),
            floods: Floods::new(),
            reading: match role {
                Role::Server => Reading::Preface(0),
                Role::Client => Reading::Frame,
            },
            partial: Vec::new(),
            block: None,
            block_bytes: Vec::new(),
            cookies: Vec::new(),
            peer: Peer {
                stream_window: WINDOW_INITIAL,
                streams_max: STREAMS_UNTOLD,
                extended_connect: false,
                known: false,
            },
            acknowledged: false,
            send_window: i64::from(WINDOW_INITIAL),
            receive_window: i64::from(WINDOW_INITIAL),
            returned: 0,
            line: VecDeque::new(),
            seen: 0,
            served: 0,
            next: 1,
            leaving: Leaving::No,
            peer_last: None,
            losing: false,
            replies: 0,
            refused: 0,
            fault: None,
        }
    }

    fn open_window(&mut self, out: &mut Vec<u8>) {
        let more = self.bounds.connection_window - WINDOW_INITIAL;
        if more > 0 {
            frame::window_update(out, 0, more);
            self.receive_window += i64::from(more);
        }
    }

    /// All of `out` has been written.
    pub fn sent(&mut self) {
        self.replies = 0;
    }

    /// Says that `count` received body bytes have gone on. Windows are reopened in large steps; a gone stream is fine.
    pub fn release(&mut self, stream: Stream, count: usize, out: &mut Vec<u8>) {
        let Some(exchange) = self.streams.exchange(stream) else { return };
        let count = u32::try_from(count).unwrap_or(u32::MAX).min(exchange.held);
        exchange.held -= count;
        self.give_back(stream, count, out);
    }

    /// Ends an exchange at once. A gone stream is fine.
    ///
    /// A server whose reply is complete while the request is not says [`Code::NoError`]: the client may stop sending
    /// (RFC 9113 §8.1). Until then the exchange counts as under way.
    pub fn reset(&mut self, stream: Stream, code: Code, out: &mut Vec<u8>) {
        if self.streams.peek(stream).is_some() {
            frame::rst_stream(out, stream.id, code);
            self.remove(stream, Past::Dropped, out);
        }
    }

    /// Asks the peer for a sign of life; `Event::Pong` brings the payload back.
    pub fn ping(&mut self, payload: u64, out: &mut Vec<u8>) {
        frame::ping(out, 0, payload.to_be_bytes());
    }

    /// Begins to leave. A server announces it, waits for what is on its way (one ping), then names the last stream it serves and
    /// ignores later ones (RFC 9113 §6.8); a client just sends no more requests. Streams under way go on to their end.
    pub fn drain(&mut self, out: &mut Vec<u8>) {
        match (self.role, self.leaving) {
            (Role::Server, Leaving::No) => {
                frame::go_away(out, STREAM_MAX, Code::NoError);
                frame::ping(out, 0, LEAVING_PING);
                self.leaving = Leaving::Announced;
            }
            (Role::Client, Leaving::No) => self.leaving = Leaving::Last,
            (_, Leaving::Announced | Leaving::Last) => {}
        }
    }

    /// Names the last stream that was, or may be, acted upon, without waiting. Later ones are ignored.
    pub fn go_away(&mut self, code: Code, out: &mut Vec<u8>) {
        frame::go_away(out, self.served, code);
        self.leaving = Leaving::Last;
    }

    /// Exchanges under way.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// One more than the largest slot a stream can have.
    pub fn slots(&self) -> usize {
        self.bounds.streams_max as usize
    }

    /// Whether it can be closed: one side leaves, nothing is under way, and nothing new can be on its way to be answered.
    pub fn is_finished(&self) -> bool {
        (self.leaving == Leaving::Last || self.peer_last.is_some()) && self.streams.len() == 0
    }

    /// Requests that [`Connection::request`] would take now; 0 while one side leaves.
    pub fn room(&self) -> usize {
        let is_over = self.leaving != Leaving::No || self.peer_last.is_some() || self.fault.is_some();
        if self.role == Role::Server || is_over || self.next > STREAM_MAX {
            return 0;
        }
        let most = self.bounds.streams_max.min(self.peer.streams_max) as usize;
        most.saturating_sub(self.streams.len())
    }

    /// Whether the peer offers extended CONNECT (RFC 8441). Known once `Event::Settings` has come.
    pub fn peer_takes_extended_connect(&self) -> bool {
        self.peer.extended_connect
    }

    /// Streams refused because too many were under way.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// An exchange that begins now.
    pub(super) fn exchange(&self, local: Side, remote: Side) -> Exchange {
        // Until our settings have arrived, the peer may take the window for what the RFC says.
        let least = if self.acknowledged { 0 } else { WINDOW_INITIAL };
        Exchange {
            local,
            remote,
            waiting: Waiting::No,
            send_window: i64::from(self.peer.stream_window),
            receive_window: i64::from(self.bounds.stream_window.max(least)),
            held: 0,
            returned: 0,
            expected: None,
            method: crate::http::Method::Get,
        }
    }

    /// We send nothing more on this stream.
    pub(super) fn end_local(&mut self, stream: Stream, out: &mut Vec<u8>) {
        let Some(exchange) = self.streams.exchange(stream) else { return };
        exchange.local = Side::Ended;
        let over = exchange.remote == Side::Ended;
        self.leave_line(stream);
        if over {
            self.remove(stream, Past::Ended, out);
        }
    }

    /// The peer sends nothing more on this stream.
    pub(super) fn end_remote(&mut self, stream: Stream, out: &mut Vec<u8>) {
        let Some(exchange) = self.streams.exchange(stream) else { return };
        exchange.remote = Side::Ended;
        if exchange.local == Side::Ended {
            self.remove(stream, Past::Ended, out);
        }
    }

    /// Forgets a stream. What was not released is given back: its consumer keeps at most a window of it.
    pub(super) fn remove(&mut self, stream: Stream, past: Past, out: &mut Vec<u8>) {
        self.leave_line(stream);
        if let Some(exchange) = self.streams.remove(stream) {
            self.history.add(stream.id, past);
            if self.holds_for_all() {
                self.give_back_to_all(exchange.held, out);
            }
        }
    }

    /// Whether what is not released counts against the connection's window, too.
    ///
    /// A server's exchanges are all one client's: the window bounds what it can make us hold. A client's responses go to strangers:
    /// if they shared a bound, a few who do not read would stop the others' responses.
    pub(super) fn holds_for_all(&self) -> bool {
        self.role == Role::Server
    }

    /// Offers `count` bytes of the stream's window, and of the connection's if it counted there, to the peer again.
    pub(super) fn give_back(&mut self, stream: Stream, count: u32, out: &mut Vec<u8>) {
        if self.holds_for_all() {
            self.give_back_to_all(count, out);
        }
        let half = self.bounds.stream_window / 2;
        let Some(exchange) = self.streams.exchange(stream) else { return };
        exchange.returned += count;
        if exchange.returned > half && exchange.remote != Side::Ended {
            exchange.receive_window += i64::from(exchange.returned);
            frame::window_update(out, stream.id, std::mem::take(&mut exchange.returned));
        }
    }

    /// The same for the connection's window only.
    pub(super) fn give_back_to_all(&mut self, count: u32, out: &mut Vec<u8>) {
        self.returned += count;
        if self.returned > self.bounds.connection_window / 2 {
            self.receive_window += i64::from(self.returned);
            frame::window_update(out, 0, std::mem::take(&mut self.returned));
        }
    }

    pub(super) fn alive(&mut self, stream: Stream) -> Result<&mut Exchange, Gone> {
        self.streams.exchange(stream).ok_or(Gone)
    }
}

/// What is said about the size of header lists. It counts as ours does, but for what joining costs.
fn list_size(bounds: &Bounds) -> u32 {
    u32::try_from(bounds.rules.head_bytes_max).unwrap_or(u32::MAX)
}

const _: () = assert!(FRAME_BYTES_MAX <= STREAM_MAX as usize, "a frame's length fits 24 bits, too");
