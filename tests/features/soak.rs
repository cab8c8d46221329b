//! Many clients, random requests, random framing on either side: every reply is the one to its own request.

use std::{io::Write, net::SocketAddr, thread, time::Duration};

use crate::harness::{Client, Gateway, Peer, Request, Upstream, now, pause};

const CLIENTS: u64 = 6;
const CONNECTIONS_MAX: u64 = 60;
/// After this nobody starts another connection; a slow machine does less.
const ENOUGH: Duration = Duration::from_secs(6);

/// xorshift64* (Vigna 2016).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let product = u128::from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)) * bound as u128;
        usize::try_from(product >> 64).expect("it is below the bound")
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn body(&mut self) -> Vec<u8> {
        let bound = [1, 10, 2_000, 20_000, 70_000, 300_000][self.below(6)];
        let (length, start) = (self.below(bound), self.below(256));
        // No two stretches of it are alike, so that a piece that is lost, doubled or moved shows.
        (start..start + length).map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1].wrapping_mul(7)).collect()
    }

    /// `body` in chunks of any size.
    fn chunked(&mut self, body: &[u8], extensions: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = body;
        while !rest.is_empty() {
            let bound = [2, 100, 5_000, 100_000][self.below(4)];
            let (chunk, tail) = rest.split_at((1 + self.below(bound)).min(rest.len()));
            let extension = if extensions && self.one_in(8) { ";a=\"b\"" } else { "" };
            out.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
            rest = tail;
        }
        let trailer = if self.one_in(4) { "X-Trailer: t\r\n" } else { "" };
        out.extend_from_slice(format!("0\r\n{trailer}\r\n").as_bytes());
        out
    }

    /// Sends in pieces of any size, some of which arrive apart. False when the other side does not take them.
    fn send(&mut self, mut bytes: &[u8], mut send: impl FnMut(&[u8]) -> bool) -> bool {
        while !bytes.is_empty() {
            let bound = [3, 1_000, 30_000, 1_000_000][self.below(4)];
            let (piece, rest) = bytes.split_at((1 + self.below(bound)).min(bytes.len()));
            if !send(piece) {
                return false;
            }
            if self.one_in(20) {
                pause(Duration::from_millis(1));
            }
            bytes = rest;
        }
        true
    }
}

/// Answers with the request's line and body, framed in any way.
fn echo(peer: &mut Peer) {
    while let Some(Request { method, target, headers, body, .. }) = peer.request() {
        let mut random = Random::new(headers.one("x-seed").and_then(|seed| seed.parse().ok()).unwrap_or(1));
        let mut reply = format!("HTTP/1.1 200 OK\r\nX-Line: {method} {target}\r\n").into_bytes();
        let framing = random.below(5);
        if random.one_in(6) {
            let informational = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
            reply = [&informational[..], &reply].concat();
        }
        match framing {
            0 => reply.extend_from_slice(b"Connection: close\r\n\r\n"),
            1 | 2 => reply.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n"),
            _ => reply.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes()),
        }
        match (method.as_str(), framing) {
            ("HEAD", _) => {}
            (_, 1 | 2) => reply.extend(random.chunked(&body, false)),
            _ => reply.extend_from_slice(&body),
        }
        if !random.send(&reply, |piece| peer.try_send(piece)) || framing == 0 {
            return;
        }
    }
}

struct Asked {
    method: &'static str,
    target: String,
    body: Vec<u8>,
}

/// One connection: some requests at once, and a reply to each.
fn converse(address: SocketAddr, random: &mut Random, name: &str) -> usize {
    let count = 1 + random.below(8);
    let mut bytes = Vec::new();
    let mut asked = Vec::new();
    for number in 0..count {
        let method = ["GET", "HEAD", "POST", "POST", "PUT", "DELETE"][random.below(6)];
        let body = if matches!(method, "POST" | "PUT") { random.body() } else { Vec::new() };
        let target = format!("/{name}/{number}?{}", "q".repeat(random.below(40)));
        let seed = random.below(1 << 30);
        let long = if random.one_in(10) { "y".repeat(random.below(3_000)) } else { String::new() };
        bytes.extend(
            format!("{method} {target} HTTP/1.1\r\nHost: x\r\nX-Seed: {seed}\r\nX-Long: {long}\r\n").bytes(),
        );
        if random.one_in(2) && matches!(method, "POST" | "PUT") {
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            let chunked = random.chunked(&body, true);
            bytes.extend(chunked);
        } else {
            if !body.is_empty() || method == "POST" {
                bytes.extend(format!("Content-Length: {}\r\n", body.len()).bytes());
            }
            bytes.extend_from_slice(b"\r\n");
            bytes.extend_from_slice(&body);
        }
        asked.push(Asked { method, target, body });
    }

    let mut client = Client::connect(address);
    if random.one_in(8) {
        // It goes away anywhere, with a close or a reset.
        let some = random.below(bytes.len());
        random.send(&bytes[..some], |piece| client.stream().write_all(piece).is_ok());
        if random.one_in(2) {
            client.reset();
        }
        return 0;
    }
    thread::scope(|scope| {
        let mut stream = client.stream().try_clone().expect("a descriptor is left");
        let mut sending = Random::new(random.0);
        let bytes = &bytes;
        scope.spawn(move || {
            assert!(
                sending.send(bytes, |piece| stream.write_all(piece).is_ok()),
                "the gateway takes all of it"
            );
        });
        for Asked { method, target, body } in &asked {
            let reply =
                client.try_reply_to(method).unwrap_or_else(|error| panic!("{method} {target}: {error}"));
            assert_eq!((reply.status, reply.header("x-line")), (200, Some(&*format!("{method} {target}"))));
            assert!(&reply.body == body, "{method} {target}: {} bytes for {}", reply.body.len(), body.len());
        }
    });
    asked.len()
}

#[test]
fn every_reply_is_the_one_to_its_own_request() {
    let upstream = Upstream::start(echo);
    let gateway = Gateway::start(format!(
        "[services.s]\nservers = [\"http://{upstream}\"]\nkeepalive = 4\n[routes]\n\"/\" = \"s\"\n"
    ));
    let (address, upstream, start) = (gateway.address(), &upstream, now());
    let served: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn(move || {
                    let mut random = Random::new(client + 1);
                    let mut served = 0;
                    for connection in 0..CONNECTIONS_MAX {
                        if start.elapsed() > ENOUGH {
                            break;
                        }
                        served += converse(address, &mut random, &format!("{client}-{connection}"));
                        upstream.forget();
                    }
                    served
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("every reply fits")).sum()
    });
    assert!(served > 100, "{served} in {:?}", start.elapsed());
    super::endings::expect_nothing_left(&gateway);
}
