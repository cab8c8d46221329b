//! What is sent: heads, data, trailers.

use super::{
    Connection, FRAME_BYTES_MAX, FRAME_HEADER_BYTES, Gone, NoRoom, RequestLine, Stream,
    connection::{Leaving, Role},
    frame::{self, Kind, STREAM_MAX, flag},
    hpack::{Encoder, has_control},
    streams::{Side, Waiting},
};
use crate::http::{
    Known, Method, Span, classify,
    headers::{is_value_byte, trim_ows},
    known::classify_in,
};

/// Payload of the largest DATA frame we send: with its header it fills a TLS record. Also what a stream may send before it is the
/// next one's turn.
const SEND_BYTES_MAX: usize = FRAME_BYTES_MAX - FRAME_HEADER_BYTES;

impl Connection {
    /// Begins a response (server); informational ones may come before it. `ends` = without body and trailers.
    pub fn respond<'a>(
        &'a mut self,
        stream: Stream,
        status: u16,
        ends: bool,
        out: &'a mut Vec<u8>,
    ) -> Result<HeadWriter<'a>, Gone> {
        let exchange = self.alive(stream)?;
        if exchange.local != Side::Head {
            return Err(Gone);
        }
        let informational = status < 200;
        if !informational {
            exchange.local = Side::Body;
        }
        let ends = ends && !informational;
        if ends {
            self.end_local(stream, out);
        }
        let writer = HeadWriter::new(&mut self.encoder, stream.id, ends, out);
        writer.encoder.status(status, writer.out);
        Ok(writer)
    }

    /// Begins a request (client). `ends` = without body and trailers.
    pub fn request<'a>(
        &'a mut self,
        line: &RequestLine<'_>,
        ends: bool,
        out: &'a mut Vec<u8>,
    ) -> Result<(Stream, HeadWriter<'a>), NoRoom> {
        if self.room() == 0 {
            let is_over = self.leaving != Leaving::No || self.peer_last.is_some() || self.fault.is_some();
            let is_over = is_over || self.role == Role::Server || self.next > STREAM_MAX;
            return Err(if is_over { NoRoom::Leaving } else { NoRoom::Streams });
        }
        let local = if ends { Side::Ended } else { Side::Body };
        let mut exchange = self.exchange(local, Side::Head);
        exchange.method = Method::of(line.method);
        let stream = self.streams.add(self.next, exchange);
        self.next += 2;

        let writer = HeadWriter::new(&mut self.encoder, stream.id, ends, out);
        writer.encoder.method(line.method, writer.out);
        if let Some(protocol) = line.protocol {
            writer.encoder.protocol(protocol, writer.out);
        }
        if line.method != b"CONNECT" || line.protocol.is_some() {
            writer.encoder.scheme(line.scheme, writer.out);
            writer.encoder.path(line.path, writer.out);
        }
        writer.encoder.authority(line.authority, writer.out);
        Ok((stream, writer))
    }

    /// Begins the trailers that end a message.
    pub fn trailers<'a>(&'a mut self, stream: Stream, out: &'a mut Vec<u8>) -> Result<HeadWriter<'a>, Gone> {
        if self.alive(stream)?.local != Side::Body {
            return Err(Gone);
        }
        self.end_local(stream, out);
        Ok(HeadWriter::new(&mut self.encoder, stream.id, true, out))
    }

    /// Appends one DATA frame with as much of `data` as the windows, the frame's size and the turn allow; returns how much.
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
        let out_of_turn = self.next_sender().is_some_and(|first| first != stream);
        let all = self.send_window;
        let exchange = self.streams.exchange(stream).ok_or(Gone)?;
        if exchange.local != Side::Body {
            return Err(Gone);
        }
        if data.is_empty() {
            if ends {
                frame::header(out, 0, Kind::Data, flag::END_STREAM, stream.id);
                self.end_local(stream, out);
            }
            return Ok(0);
        }
        let window = usize::try_from(exchange.send_window.min(all)).unwrap_or_default();
        if window == 0 || out_of_turn {
            self.stand_in_line(stream);
            return Ok(0);
        }

        let count = data.len().min(window).min(SEND_BYTES_MAX);
        let ends = ends && count == data.len();
        let flags = if ends { flag::END_STREAM } else { 0 };
        out.reserve(FRAME_HEADER_BYTES + count);
        frame::header(out, count, Kind::Data, flags, stream.id);
        out.extend_from_slice(&data[..count]);
        let spent = i64::try_from(count).expect("at most a frame");
        exchange.send_window -= spent;
        self.send_window -= spent;
        self.floods.progress();
        if ends {
            self.end_local(stream, out);
        } else {
            self.leave_line(stream);
            if count < data.len() {
                self.stand_in_line(stream);
            }
        }
        Ok(count)
    }

    /// Puts a stream in line without sending, for an owner whose `out` is full.
    pub fn stand_in_line(&mut self, stream: Stream) {
        let Some(exchange) = self.streams.exchange(stream) else { return };
        match exchange.waiting {
            Waiting::Line => {}
            Waiting::No | Waiting::Window if exchange.send_window > 0 => {
                exchange.waiting = Waiting::Line;
                self.line.push_back(stream);
            }
            Waiting::No | Waiting::Window => exchange.waiting = Waiting::Window,
        }
    }

    /// The stream whose turn it is to send data and that may send some now. It stays the same until it has sent, is taken out of
    /// the line, or is gone.
    pub fn next_sender(&mut self) -> Option<Stream> {
        loop {
            let first = *self.line.front()?;
            match self.streams.exchange(first) {
                Some(exchange) if exchange.send_window <= 0 => {
                    exchange.waiting = Waiting::Window;
                    self.line.pop_front();
                }
                Some(_) => return (self.send_window > 0).then_some(first),
                None => {
                    self.line.pop_front();
                }
            }
        }
    }

    /// Takes a stream out of the line: it has nothing to send after all.
    pub fn leave_line(&mut self, stream: Stream) {
        let Some(exchange) = self.streams.exchange(stream) else { return };
        let before = std::mem::replace(&mut exchange.waiting, Waiting::No);
        if before != Waiting::Line {
            return;
        }
        if self.line.front() == Some(&stream) {
            self.line.pop_front();
        } else {
            self.line.retain(|other| *other != stream);
        }
    }

    /// Whether the stream has data to send that only the peer's windows hold back. What a time limit for slow readers counts.
    pub fn waits_for_peer(&self, stream: Stream) -> bool {
        self.streams.peek(stream).is_some_and(|exchange| match exchange.waiting {
            Waiting::No => false,
            Waiting::Line => exchange.send_window <= 0 || self.send_window <= 0,
            Waiting::Window => true,
        })
    }
}

/// Writes the fields of a head that is sent. Dropping it completes the frame.
///
/// Names are written in lower case; connection-specific fields, `Host` and `Transfer-Encoding` are left out (RFC 9113 §8.2.2), `TE`
/// but for `trailers`.
pub struct HeadWriter<'a> {
    encoder: &'a mut Encoder,
    out: &'a mut Vec<u8>,
    /// Where the frame's header is.
    start: usize,
    stream: u32,
    ends: bool,
}

impl<'a> HeadWriter<'a> {
    fn new(encoder: &'a mut Encoder, stream: u32, ends: bool, out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        encoder.begin(out);
        Self { encoder, out, start, stream, ends }
    }

    /// One field. Control bytes in the value become SP.
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        self.put(name, classify(name), value);
    }

    /// The field lines of a head as [`rewrite`](crate::http::rewrite) writes them: `Name: value` CR LF, with or without the first
    /// line and the empty last one.
    pub fn lines(&mut self, lines: &[u8]) {
        let mut rest = lines;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            // A first line has a space before its first colon.
            if let Some(name_len @ 1..) = memchr::memchr2(b':', b' ', line)
                && line[name_len] == b':'
            {
                // A name that lies in a longer text is classified without being copied.
                let known = match u16::try_from(name_len) {
                    Ok(len) => classify_in(rest, Span { start: 0, len }),
                    Err(_) => Known::Other,
                };
                self.put(&line[..name_len], known, &line[name_len + 1..]);
            }
            rest = rest.get(end + 1..).unwrap_or_default();
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "most fields are sent as they are")]
    fn put(&mut self, name: &[u8], known: Known, value: &[u8]) {
        let value = trim_ows(value);
        match known {
            Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::TransferEncoding
            | Known::Upgrade
            | Known::Http2Settings
            | Known::Host => return,
            Known::Te if !value.eq_ignore_ascii_case(b"trailers") => return,
            _ => {}
        }
        if !has_control(value) {
            return self.encoder.field(name, known, value, self.out);
        }
        let clean = |byte: &u8| if is_value_byte(*byte) { *byte } else { b' ' };
        let clean: Vec<_> = value.iter().map(clean).collect();
        self.encoder.field(name, known, trim_ows(&clean), self.out);
    }
}

impl Drop for HeadWriter<'_> {
    fn drop(&mut self) {
        let block_start = self.start + FRAME_HEADER_BYTES;
        let block_len = self.out.len() - block_start;
        let end_stream = if self.ends { flag::END_STREAM } else { 0 };
        let end_headers = if block_len <= FRAME_BYTES_MAX { flag::END_HEADERS } else { 0 };
        let first_len = block_len.min(FRAME_BYTES_MAX);
        let header = frame::header_bytes(first_len, Kind::Headers, end_stream | end_headers, self.stream);
        self.out[self.start..block_start].copy_from_slice(&header);
        if first_len == block_len {
            return;
        }
        // RFC 9113 §6.10: the rest goes in frames of its own.
        let rest = self.out.split_off(block_start + FRAME_BYTES_MAX);
        let mut pieces = rest.chunks(FRAME_BYTES_MAX).peekable();
        while let Some(piece) = pieces.next() {
            let flags = if pieces.peek().is_none() { flag::END_HEADERS } else { 0 };
            frame::header(self.out, piece.len(), Kind::Continuation, flags, self.stream);
            self.out.extend_from_slice(piece);
        }
    }
}
