//! What HTTP/2 costs without sockets: `cargo bench --bench h2`.

use coregate::http::h2::{Bounds, Connection, Event, Message, Received, RequestLine, Stream};
use divan::{
    Bencher, black_box,
    counter::{BytesCount, ItemsCount},
};

fn main() {
    divan::main();
}

const BROWSER: &[(&str, &str)] = &[
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://shop.example.com/orders"),
    ("cookie", "session=0123456789abcdef0123456789abcdef012345678901234; lang=enUS"),
];
const SMALL: &[(&str, &str)] = &[("user-agent", "load/1.0")];

/// As an API's service answers, with what a gateway adds.
const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\n\
    Server: nginx/1.22.1\r\n\
    Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    Content-Type: application/json\r\n\
    Content-Length: 1024\r\n\
    X-Request-Id: 019abcde-f012-7345-8678-9abcdef01234\r\n\r\n";

const LINE: RequestLine<'static> = RequestLine {
    method: b"GET",
    scheme: b"https",
    authority: b"shop.example.com",
    path: b"/api/orders/1234567?expand=items",
    protocol: None,
};

fn fields(name: &str) -> &'static [(&'static str, &'static str)] {
    if name == "browser" { BROWSER } else { SMALL }
}

/// Both ends of a connection, and what is on its way between them.
struct Pair {
    client: Connection,
    server: Connection,
    up: Vec<u8>,
    down: Vec<u8>,
    message: Message,
    asked: Option<Stream>,
    body: usize,
}

impl Pair {
    fn new() -> Self {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        let mut pair = Self {
            client: Connection::client(Bounds::default(), &mut up),
            server: Connection::server(Bounds::default(), &mut down),
            up,
            down,
            message: Message::default(),
            asked: None,
            body: 0,
        };
        for _ in 0..3 {
            pair.serve();
            pair.hear();
        }
        pair
    }

    fn ask(&mut self, fields: &[(&str, &str)]) {
        let (_, mut head) = self.client.request(&LINE, true, &mut self.up).expect("there is room");
        for (name, value) in fields {
            head.field(name.as_bytes(), value.as_bytes());
        }
    }

    fn serve(&mut self) {
        let mut at = 0;
        loop {
            self.message.bytes.clear();
            match self.server.receive(&self.up, &mut at, &mut self.message, 0, &mut self.down) {
                Ok(Received::Event(Event::Request { stream, head, .. })) => {
                    black_box(head);
                    self.asked = Some(stream);
                }
                Ok(Received::Event(_)) => {}
                Ok(Received::Starved) => break,
                Ok(Received::Flush) | Err(_) => unreachable!("nobody floods here"),
            }
        }
        self.up.clear();
    }

    fn answer(&mut self, body: &[u8]) {
        let stream = self.asked.take().expect("a request came");
        let mut head = self.server.respond(stream, 200, false, &mut self.down).expect("it has just begun");
        head.lines(REPLY);
        drop(head);
        let sent = self.server.send_data(stream, body, true, &mut self.down);
        assert_eq!(sent, Ok(body.len()));
    }

    fn hear(&mut self) {
        let mut at = 0;
        loop {
            self.message.bytes.clear();
            match self.client.receive(&self.down, &mut at, &mut self.message, 0, &mut self.up) {
                Ok(Received::Event(Event::Data { stream, place, .. })) => {
                    self.body += place.len();
                    self.client.release(stream, place.len(), &mut self.up);
                }
                Ok(Received::Event(_)) => {}
                Ok(Received::Starved) => break,
                Ok(Received::Flush) | Err(_) => unreachable!("nobody floods here"),
            }
        }
        self.down.clear();
        self.server.sent();
        self.client.sent();
    }
}

/// A request and its answer through all four codecs: asking, serving, answering, hearing.
#[divan::bench(args = ["browser", "small"], sample_size = 128)]
fn exchange(bencher: Bencher<'_, '_>, name: &str) {
    let mut pair = Pair::new();
    let body = [b'x'; 1024];
    bencher.bench_local(|| {
        pair.ask(fields(name));
        pair.serve();
        pair.answer(black_box(&body));
        pair.hear();
    });
    assert!(pair.body > 0);
}

/// Requests on a new connection, as many as it has at once, less some.
const MANY: usize = 64;

/// The gateway's half towards clients: requests understood, answers written. For each of `MANY`.
#[divan::bench(args = ["browser", "small"], sample_size = 4)]
fn serving(bencher: Bencher<'_, '_>, name: &str) {
    let body = [b'x'; 1024];
    let prepare = || {
        let mut pair = Pair::new();
        let asked: Vec<_> = (0..MANY)
            .map(|_| {
                pair.ask(fields(name));
                std::mem::take(&mut pair.up)
            })
            .collect();
        (pair, asked)
    };
    bencher.counter(ItemsCount::new(MANY)).with_inputs(prepare).bench_local_refs(|(pair, asked)| {
        for request in asked {
            std::mem::swap(&mut pair.up, request);
            pair.serve();
            pair.answer(black_box(&body));
            pair.down.clear();
        }
    });
}

/// The gateway's half towards services: requests written. For each of `MANY`.
#[divan::bench(args = ["browser", "small"], sample_size = 4)]
fn asking(bencher: Bencher<'_, '_>, name: &str) {
    bencher.counter(ItemsCount::new(MANY)).with_inputs(Pair::new).bench_local_refs(|pair| {
        for _ in 0..MANY {
            pair.up.clear();
            pair.ask(fields(name));
        }
    });
}

/// The first request of a connection: nothing is in the tables, every string is coded.
#[divan::bench(args = ["browser", "small"], sample_size = 16)]
fn first_request(bencher: Bencher<'_, '_>, name: &str) {
    let mut pair = Pair::new();
    pair.ask(fields(name));
    let asked = std::mem::take(&mut pair.up);
    bencher
        .counter(BytesCount::new(asked.len()))
        .with_inputs(|| {
            let mut pair = Pair::new();
            pair.up.extend_from_slice(&asked);
            pair
        })
        .bench_local_refs(Pair::serve);
}

/// 16 KiB of data through a window.
#[divan::bench(sample_size = 64)]
fn data(bencher: Bencher<'_, '_>) {
    let mut pair = Pair::new();
    pair.ask(SMALL);
    pair.serve();
    let stream = pair.asked.expect("a request came");
    assert!(pair.server.respond(stream, 200, false, &mut pair.down).is_ok());
    let body = vec![b'x'; 16_375];
    bencher.counter(BytesCount::new(body.len())).bench_local(|| {
        let sent = pair.server.send_data(stream, black_box(&body), false, &mut pair.down);
        assert_eq!(sent, Ok(body.len()));
        pair.hear();
        pair.serve();
    });
}
