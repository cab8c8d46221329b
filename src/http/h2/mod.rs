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
//! * *Heads* come out as HTTP/1.1's do: a [`RequestHead`] or [`ResponseHead`] whose spans
//!   lie in a [`Message`], the owner's, one for each exchange, where the decoded fields stand as `name: value` lines. So routing,
//!   rewriting and logging need not know the version. A length that was not announced reads as `BodyLength::Chunked`. An extended
//!   CONNECT (RFC 8441) reads as a GET with `upgrade`; a plain CONNECT as HTTP/1.1's.
//! * *Sending heads.* [`Connection::respond`], [`Connection::request`] and [`Connection::trailers`] give a [`HeadWriter`] that takes
//!   fields one by one, or the lines of a head as `rewrite` writes them. The frame is whole when the writer goes.
//! * *Sending data.* [`Connection::send_data`] takes at most one frame, as far as the windows allow, and says how much. What is left
//!   waits in line: [`Connection::next_sender`] names the stream whose turn it is. A stream out of turn is told 0 and stands in line.
//! * *Backpressure.* What was received counts against the windows until [`Connection::release`] says that it went on; a client's
//!   connection window is given back at once, so that one response that nobody reads does not stop the others.
//! * *Ends.* A [`Stream`] whose exchange is over is gone: its handle is dead, every call with it is harmless ([`Gone`]), and bytes
//!   of it that were not released are given back. A [`Fault`] ends the connection: GOAWAY is in `out`; write it and close.
//! * *Time* comes in as `now_us`, microseconds of any clock that does not go back.

mod blocks;
mod connection;
mod control;
mod fault;
mod flood;
mod frame;
mod hpack;
#[cfg(any(test, fuzzing))]
pub mod invariants;
mod message;
mod receive;
mod send;
mod streams;

pub use connection::Connection;
pub use fault::{BadMessage, Fault};
pub use frame::Code;
pub use send::HeadWriter;

#[cfg(test)]
mod tests;

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
    /// Exchanges at once that the peer may begin (server), or that are begun here (client); at most 65,535 count.
    pub streams_max: u32,
    /// Body bytes of one exchange that may be on their way or not yet released.
    pub stream_window: u32,
    /// The same for all exchanges together; of a client, what may be on its way only.
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
    /// The peer's settings have come or changed, and perhaps its windows with them.
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
