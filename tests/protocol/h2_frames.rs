//! RFC 9113 in raw frames, through the gateway to a service that speaks HTTP/1.1.

use std::io::{Read, Write};

use super::Pair;
use crate::harness::Client;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, len @ ..] = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&len[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block without compression.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).expect("short texts"));
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];

fn request(stream: u32, line: &[(&str, &str)], fields: &[(&str, &str)], flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &block(&[line, fields].concat()))
}

/// A client that has exchanged settings.
struct Raw(Client);

#[derive(Debug)]
struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Raw {
    fn new(pair: &Pair) -> Self {
        let mut raw = Self(pair.gateway.client());
        raw.send(&[b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &frame(SETTINGS, 0, 0, b"")[..]].concat());
        raw.send(&frame(SETTINGS, 1, 0, b""));
        raw
    }

    fn send(&mut self, bytes: &[u8]) {
        // The gateway may have closed already.
        drop(self.0.stream().write_all(bytes));
    }

    /// The next frame; `None` when the connection has ended.
    fn frame(&mut self) -> Option<Frame> {
        let mut header = [0; 9];
        self.0.stream().read_exact(&mut header).ok()?;
        let [a, b, c, kind, _, stream @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.stream().read_exact(&mut payload).ok()?;
        Some(Frame { kind, stream: u32::from_be_bytes(stream), payload })
    }

    /// The next frame of this kind.
    #[track_caller]
    fn expect(&mut self, kind: u8) -> Frame {
        while let Some(frame) = self.frame() {
            if frame.kind == kind {
                return frame;
            }
            assert!(frame.kind != GOAWAY, "{frame:?}");
        }
        panic!("the connection ended without a frame of type {kind}");
    }

    /// The stream is reset with this code.
    #[track_caller]
    fn expect_reset(&mut self, stream: u32, code: u32) {
        let frame = self.expect(RST_STREAM);
        assert_eq!((frame.stream, frame.payload), (stream, code.to_be_bytes().to_vec()));
    }

    /// The connection is ended with this code.
    #[track_caller]
    fn expect_end(&mut self, code: u32) {
        let mut last = None;
        while let Some(frame) = self.frame() {
            if frame.kind == GOAWAY {
                last = frame.payload.get(4..8).map(<[u8]>::to_vec);
            }
        }
        assert_eq!(last, Some(code.to_be_bytes().to_vec()));
    }
}

/// `bytes` begin a request on stream 1 that is reset; the service sees nothing of it, and the next request is served.
#[track_caller]
fn check_malformed(pair: &Pair, bytes: &[u8]) {
    let mut raw = Raw::new(pair);
    pair.upstream.forget();
    raw.send(bytes);
    raw.expect_reset(1, PROTOCOL_ERROR);
    assert_eq!(pair.upstream.lines(), Vec::<String>::new());
    raw.send(&request(3, &GET, &[], END_STREAM));
    let reply = raw.expect(HEADERS);
    // The size of the encoder's table comes first.
    let block = reply.payload.strip_prefix(b"\x3f\xe1\x0f").unwrap_or(&reply.payload);
    assert_eq!((reply.stream, block[0]), (3, 0x88), "200");
    assert_eq!(pair.upstream.lines(), ["GET /"]);
}

// §8.2.1, §8.2.2, §8.3: what would be two requests on HTTP/1.1

#[test]
fn nothing_is_smuggled_to_a_service_that_speaks_http_1() {
    let pair = Pair::new();
    for fields in [
        [("transfer-encoding", "chunked")],
        [("x-a", "b\r\nTransfer-Encoding: chunked")],
        [("x-a", "b\nc: d")],
        [("x-a", "b\0c")],
        [("x-a\r\nb", "c")],
        [("x-a: b\r\nc", "d")],
        [("connection", "content-length")],
        [("upgrade", "websocket")],
        [("te", "gzip")],
        [("X-Upper", "a")],
        [("host", "b")],
        [("content-length", "5, 5")],
    ] {
        check_malformed(&pair, &request(1, &POST, &fields, 0));
    }
    for path in ["/ HTTP/1.1\r\nHost: b\r\n\r\nGET /smuggled", "/ HTTP/1.1", "/#a", "a", "", "http://b/"] {
        let line = [GET[0], GET[1], (":path", path), GET[3]];
        check_malformed(&pair, &request(1, &line, &[], END_STREAM));
    }
    for method in ["GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", "G T", ""] {
        let line = [(":method", method), GET[1], GET[2], GET[3]];
        check_malformed(&pair, &request(1, &line, &[], END_STREAM));
    }
    for authority in ["a\r\nx: b", "a b", "b@a", ""] {
        let line = [GET[0], GET[1], GET[2], (":authority", authority)];
        check_malformed(&pair, &request(1, &line, &[], END_STREAM));
    }
}

// §8.1.1

#[test]
fn a_body_that_is_not_as_long_as_it_says_is_no_request() {
    let pair = Pair::new();
    let post = request(1, &POST, &[("content-length", "5")], 0);
    for body in [&b"GET /smuggled HTTP/1.1\r\n\r\n"[..], b"abc", b""] {
        check_malformed(&pair, &[post.clone(), frame(DATA, END_STREAM, 1, body)].concat());
    }
    check_malformed(&pair, &request(1, &POST, &[("content-length", "5")], END_STREAM));
}

// §4.3, §6.10, CVE-2024-27316

#[test]
fn header_blocks_are_whole_and_decodable() {
    let pair = Pair::new();
    let mut raw = Raw::new(&pair);
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, b"\x80"));
    raw.expect_end(COMPRESSION_ERROR);
    let mut raw = Raw::new(&pair);
    raw.send(&[frame(HEADERS, 0, 1, &block(&GET)), frame(PING, 0, 0, &[0; 8])].concat());
    raw.expect_end(PROTOCOL_ERROR);
    let mut raw = Raw::new(&pair);
    raw.send(&frame(HEADERS, END_STREAM, 1, &block(&GET)));
    raw.send(&frame(CONTINUATION, 0, 1, &block(&[("a", "b")])).repeat(9));
    raw.expect_end(ENHANCE_YOUR_CALM);
    assert_eq!(pair.upstream.lines(), Vec::<String>::new());
}

#[test]
fn a_head_with_too_many_fields_is_answered() {
    let pair = Pair::new();
    let mut raw = Raw::new(&pair);
    raw.send(&request(1, &GET, &[("x-a", "b"); 101], END_STREAM));
    let reply = raw.expect(HEADERS);
    assert_eq!(reply.stream, 1);
    assert!(reply.payload.windows(3).any(|part| part == b"431"), "{reply:?}");
    raw.send(&request(3, &GET, &[], END_STREAM));
    while raw.expect(HEADERS).stream != 3 {}
    assert_eq!(pair.upstream.lines(), ["GET /"], "only the second one");
}

// §5.1.2

#[test]
fn streams_beyond_the_bound_are_refused() {
    let pair = Pair::new();
    let mut raw = Raw::new(&pair);
    // Their bodies never come.
    for number in 0..129 {
        raw.send(&request(2 * number + 1, &POST, &[("content-length", "5")], 0));
    }
    raw.expect_reset(257, REFUSED_STREAM);
}

// CVE-2023-44487, CVE-2025-8671, and frames that bring nothing on

#[test]
fn floods_end_the_connection_and_nothing_else() {
    let pair = Pair::new();
    let cancel = 8u32.to_be_bytes();
    let many =
        |one: &dyn Fn(u32) -> Vec<u8>| (0..600).flat_map(|number| one(2 * number + 1)).collect::<Vec<_>>();
    let attacks: [(&str, Vec<u8>); 6] = [
        (
            "rapid reset",
            many(&|id| [request(id, &GET, &[], END_STREAM), frame(RST_STREAM, 0, id, &cancel)].concat()),
        ),
        (
            "made you reset",
            many(&|id| [request(id, &POST, &[], 0), frame(WINDOW_UPDATE, 0, id, &[0; 4])].concat()),
        ),
        ("malformed", many(&|id| request(id, &GET, &[("connection", "close")], END_STREAM))),
        ("settings", many(&|_| frame(SETTINGS, 0, 0, b""))),
        ("pings", many(&|_| frame(PING, 0, 0, &[0; 8]))),
        ("unknown frames", many(&|_| frame(0xfa, 0, 0, b"x"))),
    ];
    for (name, attack) in attacks {
        let mut raw = Raw::new(&pair);
        raw.send(&attack);
        let mut last = None;
        while let Some(frame) = raw.frame() {
            if frame.kind == GOAWAY {
                last = frame.payload.get(4..8).map(<[u8]>::to_vec);
            }
        }
        assert_eq!(last, Some(ENHANCE_YOUR_CALM.to_be_bytes().to_vec()), "{name}");
    }
    assert_eq!(pair.get().status, 200);
}
