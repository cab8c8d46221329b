//! HTTP/2 (RFC 9113, RFC 7541) as bytes and values, for both roles: no I/O, no clock, no allocation per request once it is warm.
//!
//! One [`Connection`] is one connection's state. Its owner does the reading and writing:
//!
//! ```text
//! bytes read ──▶ receive(bytes, &mut at, …) ──▶ Event: Request, Response, Data, Trailers, Reset, …
//!                      │ replies (acks, updates, resets)
//!                      ▼
//!                     out: Vec<u8> ──▶ one write for all that a turn brought, then sent()
//!                      ▲
//! respond(), request(), trailers(), send_data(), release(), reset(), ping(), drain()
//! ```
//!
//! * *Receiving.* [`Connection::receive`] is called with the same bytes until it answers [`Received::Starved`]; the first `at` of
//!   them are then dealt with. Any cut is fine: frames need not be whole. Data is not copied, [`Event::Data`] names its place in the
//!   bytes. [`Received::Flush`] says that replies wait: write `out`, call [`Connection::sent`], go on with the same bytes.
//! * *Heads* come out as HTTP/1.1's do: a [`RequestHead`](super::RequestHead) or [`ResponseHead`](super::ResponseHead) whose spans
//!   lie in a [`Message`], the owner's, one for each exchange, where the decoded fields stand as `name: value` lines. So routing,
//!   rewriting and logging need not know the version. A length that was not announced reads as `BodyLength::Chunked`. An extended
//!   CONNECT (RFC 8441) reads as a GET with `upgrade`; a plain CONNECT as HTTP/1.1's.
//! * *Sending heads.* [`Connection::respond`], [`Connection::request`] and [`Connection::trailers`] give a [`HeadWriter`] that takes
//!   fields one by one, or the lines of a head as `rewrite` writes them. The frame is whole when the writer goes.
//! * *Sending data.* [`Connection::send_data`] takes at most one frame, as far as the windows allow, and says how much. What is left
//!   waits in line: [`Connection::next_sender`] names the stream whose turn it is. A stream out of turn is told 0 and stands in line.
//! * *Backpressure.* What was received counts against the windows until [`Connection::release`] says that it went on.
//! * *Ends.* A [`Stream`] whose exchange is over is gone: its handle is dead, every call with it is harmless ([`Gone`]), and bytes
//!   of it that were not released are given back. A [`Fault`] ends the connection: GOAWAY is in `out`; write it and close.
//! * *Time* comes in as `now_us`, microseconds of any clock that does not go back.

mod fault;
mod frame;

pub use fault::{BadMessage, Fault};
pub use frame::Code;

use std::ops::Range;

use super::{BadHead, Field, RequestHead, ResponseHead, Rules};
/// Replies (acknowledgements, window updates, resets) that may wait in `out` before [`Connection::receive`] asks for a flush.
pub const REPLIES_MAX: u32 = 64;
/// Payload of the largest frame taken and sent (RFC 9113 §6.5.2's initial value): a TLS record, nearly.
pub const FRAME_BYTES_MAX: usize = 16 * 1024;
/// A frame's header (RFC 9113 §4.1).
pub const FRAME_HEADER_BYTES: usize = 9;
/// What a client sends first (RFC 9113 §3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One exchange of a connection. `slot` is below [`Connection::slots`] and belongs to this exchange until it is over: a table by slot
/// finds its owner without a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stream {
    pub id: u32,
    pub slot: u16,
}

/// The exchange is over, or was never known: there is nothing to do for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Where a received head or trailer section is put. Its owner keeps it for the exchange's life and uses it again.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Appended to. Spans count from the length it had before.
    pub bytes: Vec<u8>,
    /// Cleared, then filled.
    pub fields: Vec<Field>,
}

/// What a connection takes from its peer, and how much at once (DESIGN §15).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Of heads and trailers. `head_bytes_max` counts as RFC 9113 §6.5.2 does: name, value and 32 for each field.
    pub rules: Rules,
    /// Exchanges at once that the peer may begin (server), or that are begun here (client).
    pub streams_max: u32,
    /// Body bytes of one exchange that may be on their way or not yet released.
    pub stream_window: u32,
    /// The same for all exchanges together.
    pub connection_window: u32,
    /// Offers extended CONNECT (RFC 8441).
    pub extended_connect: bool,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            rules: Rules {
                head_bytes_max: 32 * 1024,
                line_bytes_max: 8 * 1024,
                headers_max: 100,
                lenient: false,
            },
            streams_max: 128,
            stream_window: 256 * 1024,
            connection_window: 1024 * 1024,
            extended_connect: true,
        }
    }
}

/// What [`Connection::receive`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    Event(Event),
    /// The bytes are dealt with as far as they go. Read more.
    Starved,
    /// [`REPLIES_MAX`] replies wait. Write `out`, call [`Connection::sent`], go on with the same bytes.
    Flush,
}

/// `ends` = the peer sends nothing more on this stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Server: a request; its fields are in the [`Message`]. `extended` marks an extended CONNECT, which is answered with 200 and
    /// becomes a tunnel: its head reads as a GET that asks for `head.upgrade`.
    Request { stream: Stream, head: RequestHead, extended: bool, ends: bool },
    /// Client: a response, also an informational one; its fields are in the [`Message`]. `reason` is empty.
    Response { stream: Stream, head: ResponseHead, ends: bool },
    /// Body bytes: `bytes[place]` of those given. To be released.
    Data { stream: Stream, place: Range<usize>, ends: bool },
    /// Trailer fields, in the [`Message`], marked as `parse_trailers` marks them. They end the stream.
    Trailers { stream: Stream },
    /// The head is well-formed and exceeds the rules. Server: answer with 431 or 414. A client never sees this, but `Malformed`.
    TooLarge { stream: Stream, why: BadHead, ends: bool },
    /// The message broke a rule of RFC 9113 §8. The stream is reset and gone; it may not have been announced before.
    Malformed { stream: Stream, why: BadMessage },
    /// The peer ended the exchange, or never took it up. `untouched` = it did nothing with it (REFUSED_STREAM, or beyond the last
    /// stream of a GOAWAY): even a POST may be sent again (RFC 9113 §8.7).
    Reset { stream: Stream, code: Code, untouched: bool },
    /// A window has grown: ask [`Connection::next_sender`].
    WindowOpened,
    /// The peer's settings have changed; first of all, its first ones have come.
    Settings,
    /// The answer to [`Connection::ping`].
    Pong { payload: u64 },
    /// The peer takes no new exchanges. Those it will not answer follow as `Reset`.
    GoAway { last: u32, code: Code },
}

/// Why no request can be sent on this connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoRoom {
    /// As many as the peer, or [`Bounds::streams_max`], allows are under way.
    Streams,
    /// One side has sent GOAWAY, or stream identifiers have run out. Take another connection.
    Leaving,
}

/// The first lines of a request that is sent (RFC 9113 §8.3.1).
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    pub method: &'a [u8],
    /// `http` or `https`.
    pub scheme: &'a [u8],
    pub authority: &'a [u8],
    /// With query; `*` for OPTIONS.
    pub path: &'a [u8],
    /// Makes it an extended CONNECT for this protocol (RFC 8441); `method` is CONNECT then.
    pub protocol: Option<&'a [u8]>,
}

/// One HTTP/2 connection's state.
pub struct Connection {
    role: Role,
    bounds: Bounds,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Server,
    Client,
}

impl Connection {
    /// The side that answers. Appends its first frames to `out`.
    pub fn server(bounds: Bounds, out: &mut Vec<u8>) -> Self {
        frame::settings(out, &[]);
        Self { role: Role::Server, bounds }
    }

    /// The side that asks. Appends its preface and first frames to `out`; requests may follow at once.
    pub fn client(bounds: Bounds, out: &mut Vec<u8>) -> Self {
        out.extend_from_slice(PREFACE);
        frame::settings(out, &[]);
        Self { role: Role::Client, bounds }
    }

    /// Takes what was received from `bytes[*at..]`, up to the next event, and moves `at`.
    ///
    /// To be called with the same bytes until they are [`Received::Starved`]. The owner's buffer need not hold a whole frame.
    /// `message` is filled when the event is a head or trailers.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        at: &mut usize,
        message: &mut Message,
        now_us: u64,
        out: &mut Vec<u8>,
    ) -> Result<Received, Fault> {
        let _ = (message, now_us, out, self.role);
        *at = bytes.len();
        Ok(Received::Starved)
    }

    /// All of `out` has been written.
    pub fn sent(&mut self) {}

    /// Begins a response (server); 1xx may come before the final one. `ends` = without body and trailers.
    pub fn respond<'a>(
        &'a mut self,
        stream: Stream,
        status: u16,
        ends: bool,
        out: &'a mut Vec<u8>,
    ) -> Result<HeadWriter<'a>, Gone> {
        let _ = (stream, status, ends);
        let _ = out;
        Err(Gone)
    }

    /// Begins a request (client). `ends` = without body and trailers.
    pub fn request<'a>(
        &'a mut self,
        line: &RequestLine<'_>,
        ends: bool,
        out: &'a mut Vec<u8>,
    ) -> Result<(Stream, HeadWriter<'a>), NoRoom> {
        let _ = (line, ends, out);
        Err(NoRoom::Leaving)
    }

    /// Begins the trailers that end a message.
    pub fn trailers<'a>(&'a mut self, stream: Stream, out: &'a mut Vec<u8>) -> Result<HeadWriter<'a>, Gone> {
        let _ = (stream, out);
        Err(Gone)
    }

    /// Appends one DATA frame with as much of `data` as the windows, the peer's frame size and the turn allow; returns how much.
    ///
    /// `ends` marks the frame as the last one if all of `data` went; with empty `data` it costs no window. When not all went, the
    /// stream stands in line for [`Connection::next_sender`].
    pub fn send_data(
        &mut self,
        stream: Stream,
        data: &[u8],
        ends: bool,
        out: &mut Vec<u8>,
    ) -> Result<usize, Gone> {
        let _ = (stream, data, ends, out);
        Err(Gone)
    }

    /// Puts a stream in line without sending, for an owner whose `out` is full.
    pub fn stand_in_line(&mut self, stream: Stream) {
        let _ = stream;
    }

    /// The stream whose turn it is to send data and that may send some now. It stays the same until it has sent, is taken out of
    /// the line, or is gone.
    pub fn next_sender(&mut self) -> Option<Stream> {
        None
    }

    /// Takes a stream out of the line: it has nothing to send after all.
    pub fn leave_line(&mut self, stream: Stream) {
        let _ = stream;
    }

    /// Whether the stream has data to send that only the peer's windows hold back. What a time limit for slow readers counts.
    pub fn waits_for_peer(&self, stream: Stream) -> bool {
        let _ = stream;
        false
    }

    /// Says that `count` received body bytes have gone on. Windows are reopened in large steps; a gone stream is fine.
    pub fn release(&mut self, stream: Stream, count: usize, out: &mut Vec<u8>) {
        let _ = (stream, count, out);
    }

    /// Ends an exchange at once. A gone stream is fine.
    ///
    /// A server whose reply is complete while the request is not says [`Code::NoError`]: the client may stop sending
    /// (RFC 9113 §8.1).
    pub fn reset(&mut self, stream: Stream, code: Code, out: &mut Vec<u8>) {
        let _ = (stream, code, out);
    }

    /// Asks the peer for a sign of life; [`Event::Pong`] brings the payload back.
    pub fn ping(&mut self, payload: u64, out: &mut Vec<u8>) {
        let _ = (payload, out);
    }

    /// Begins to leave. A server announces it, waits for what is on its way (one ping), then names the last stream it serves and
    /// refuses later ones; a client just sends no more requests. Streams under way go on to their end.
    pub fn drain(&mut self, out: &mut Vec<u8>) {
        let _ = out;
    }

    /// Ends the connection now, with the last stream that may have been acted upon. Nothing may be sent after it.
    pub fn go_away(&mut self, code: Code, out: &mut Vec<u8>) {
        let _ = (code, out);
    }

    /// Exchanges under way.
    pub fn streams(&self) -> usize {
        0
    }

    /// One more than the largest slot a stream can have.
    pub fn slots(&self) -> usize {
        self.bounds.streams_max as usize
    }

    /// Whether both sides' GOAWAYs and the exchanges allow to close: leaving, and nothing is under way.
    pub fn is_finished(&self) -> bool {
        false
    }

    /// Requests that [`Connection::request`] would take now; 0 while leaving.
    pub fn room(&self) -> usize {
        0
    }

    /// Whether the peer offers extended CONNECT (RFC 8441). Known once [`Event::Settings`] has come.
    pub fn peer_takes_extended_connect(&self) -> bool {
        false
    }
}

/// Writes the fields of a head that is sent. Dropping it completes the frame.
///
/// Names are written in lower case; connection-specific fields, `Host` and `Transfer-Encoding` are left out (RFC 9113 §8.2.2), `TE`
/// but for `trailers`.
pub struct HeadWriter<'a> {
    out: &'a mut Vec<u8>,
}

impl HeadWriter<'_> {
    /// One field. Control bytes in the value become SP.
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        let _ = (name, value, &mut *self.out);
    }

    /// The field lines of a head as [`rewrite`](super::rewrite) writes them: `Name: value` CR LF, with or without the first line
    /// and the empty last one.
    pub fn lines(&mut self, lines: &[u8]) {
        let _ = lines;
    }
}
