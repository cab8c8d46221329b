//! Conversations with another implementation: the crate `h2`, over pipes in memory.

use std::{io::Cursor, time::Duration};

use ::h2::{RecvStream, SendStream, client, server};
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    task::LocalSet,
};

use super::*;

/// A message and its answer are the same: fields that begin with `x-`, a body, and a trailer where there is a body.
#[derive(Clone, Debug)]
struct Case {
    fields: Vec<(String, String)>,
    body: usize,
    trailers: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let field = ("x-[a-z0-9]{1,12}", prop_oneof![3 => "[a-c]{1,3}", 1 => "[!-~]([ -~]{0,60}[!-~])?"]);
    let body = prop_oneof![2 => Just(0), 2 => 1usize..2000, 1 => 1usize..700_000];
    (proptest::collection::vec(field, 0..12), body, any::<bool>()).prop_map(|(fields, body, trailers)| Case {
        fields,
        body,
        trailers: trailers && body > 0,
    })
}

fn body(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
}

/// Bytes of one exchange that wait to be sent.
struct Held {
    stream: Stream,
    bytes: Vec<u8>,
    ends: bool,
    trailers: bool,
}

/// What has come on one stream.
struct Came {
    stream: Stream,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    ended: bool,
}

/// Our side, with what it would own.
struct Ours {
    connection: Connection,
    out: Vec<u8>,
    held: Vec<Held>,
    came: Vec<Came>,
    echoes: bool,
    most_held: usize,
}

impl Ours {
    fn new(make: impl FnOnce(&mut Vec<u8>) -> Connection, echoes: bool) -> Self {
        let mut out = Vec::new();
        Self { connection: make(&mut out), out, held: Vec::new(), came: Vec::new(), echoes, most_held: 0 }
    }

    fn event(&mut self, event: Event, bytes: &[u8], message: &Message) {
        match event {
            Event::Request { stream, ends, .. } => {
                let mut head =
                    self.connection.respond(stream, 200, ends, &mut self.out).expect("it has just begun");
                for (name, value) in own_fields(message) {
                    head.field(name.as_bytes(), value.as_bytes());
                }
                drop(head);
                self.held.push(Held { stream, bytes: Vec::new(), ends: false, trailers: false });
            }
            Event::Response { stream, head, ends } => {
                assert_eq!(head.status, 200);
                self.came.push(Came { stream, fields: own_fields(message), body: Vec::new(), ended: ends });
            }
            Event::Data { stream, place, ends } if self.echoes => {
                let held = self.held.iter_mut().find(|held| held.stream == stream).expect("it was announced");
                held.bytes.extend_from_slice(&bytes[place]);
                held.ends = ends;
                let all = self.held.iter().map(|held| held.bytes.len()).sum();
                self.most_held = self.most_held.max(all);
                self.connection.stand_in_line(stream);
            }
            Event::Data { stream, place, ends } => {
                self.connection.release(stream, place.len(), &mut self.out);
                let came = self.came.iter_mut().find(|came| came.stream == stream).expect("its head came");
                came.body.extend_from_slice(&bytes[place]);
                came.ended = ends;
            }
            Event::Trailers { stream } if self.echoes => {
                let held = self.held.iter_mut().find(|held| held.stream == stream).expect("it was announced");
                (held.ends, held.trailers) = (true, true);
            }
            Event::Trailers { stream } => {
                let came = self.came.iter_mut().find(|came| came.stream == stream).expect("its head came");
                came.fields.extend(own_fields(message));
                came.ended = true;
            }
            Event::Settings | Event::WindowOpened | Event::GoAway { .. } | Event::Pong { .. } => {}
            Event::TooLarge { .. } | Event::Malformed { .. } | Event::Reset { .. } => panic!("{event:?}"),
        }
    }

    /// Sends what windows allow; released is what has gone.
    fn pump(&mut self) {
        while self.out.len() < 64 * 1024
            && let Some(stream) = self.connection.next_sender()
        {
            let Some(held) = self.held.iter_mut().find(|held| held.stream == stream) else {
                panic!("a stream in line has data")
            };
            let ends = held.ends && !held.trailers;
            let sent =
                self.connection.send_data(stream, &held.bytes, ends, &mut self.out).expect("it is there");
            held.bytes.drain(..sent);
            self.connection.release(stream, sent, &mut self.out);
            if held.bytes.is_empty() {
                self.connection.leave_line(stream);
            }
        }
        for held in self.held.extract_if(.., |held| held.bytes.is_empty() && held.ends) {
            if held.trailers {
                if let Ok(mut trailers) = self.connection.trailers(held.stream, &mut self.out) {
                    trailers.field(b"x-trailer", b"last");
                }
            } else {
                // Gone already when the end went with the last data.
                let ended = self.connection.send_data(held.stream, b"", true, &mut self.out);
                assert!(ended == Ok(0) || ended == Err(Gone));
            }
        }
    }

    /// Reads and writes until the peer closes, or all answers are there.
    async fn run(&mut self, io: &mut DuplexStream, expected: usize) {
        let (mut buffer, mut start) = (vec![0; 20_000], 0);
        let mut message = Message::default();
        while expected == 0 || self.came.iter().filter(|came| came.ended).count() < expected {
            self.pump();
            if !self.out.is_empty() {
                if io.write_all(&self.out).await.is_err() {
                    return;
                }
                self.out.clear();
                self.connection.sent();
                self.pump();
                if !self.out.is_empty() {
                    continue;
                }
            }
            let Ok(count @ 1..) = io.read(&mut buffer[start..]).await else { return };
            let end = start + count;
            let mut at = 0;
            loop {
                let received =
                    self.connection.receive(&buffer[..end], &mut at, &mut message, 0, &mut self.out);
                match received.unwrap_or_else(|fault| panic!("{fault:?}")) {
                    Received::Event(event) => {
                        self.event(event, &buffer[..end], &message);
                        message.bytes.clear();
                    }
                    Received::Starved | Received::Flush => break,
                }
            }
            buffer.copy_within(at..end, 0);
            start = end - at;
        }
    }
}

fn own_fields(message: &Message) -> Vec<(String, String)> {
    let text = |span: crate::http::Span| String::from_utf8_lossy(span.of(&message.bytes)).into_owned();
    let fields = message.fields.iter().map(|field| (text(field.name), text(field.value)));
    fields.filter(|(name, _)| name.starts_with("x-")).collect()
}

type Chunk = Cursor<Vec<u8>>;

fn runs<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        let tasks = LocalSet::new();
        let guarded = tokio::time::timeout(Duration::from_secs(60), tasks.run_until(test));
        guarded.await.expect("the conversation goes on")
    })
}

/// All of what their side sends us.
async fn send_all(mut stream: SendStream<Chunk>, case: &Case) {
    let bytes = body(case.body);
    stream.send_data(Cursor::new(bytes), !case.trailers).expect("the stream is open");
    if case.trailers {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-trailer", "last".parse().expect("a value"));
        stream.send_trailers(trailers).expect("the stream is open");
    }
}

/// All of what we sent them.
async fn receive_all(mut stream: RecvStream) -> (Vec<u8>, Option<http::HeaderMap>) {
    let mut bytes = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece.expect("the body comes");
        bytes.extend_from_slice(&piece);
        stream.flow_control().release_capacity(piece.len()).expect("it was received");
    }
    (bytes, stream.trailers().await.expect("the stream ends"))
}

fn fields_of(map: &http::HeaderMap) -> Vec<(String, String)> {
    let mut fields: Vec<_> = map
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .filter(|(name, _)| name.starts_with("x-"))
        .collect();
    fields.sort();
    fields
}

fn sorted(case: &Case) -> Vec<(String, String)> {
    let mut fields = case.fields.clone();
    fields.sort();
    fields
}

/// Their client asks our server all of this at once, and gets back what it sent.
fn their_client_is_echoed(cases: Vec<Case>, window: u32) {
    runs(async move {
        let (theirs, mut ours) = tokio::io::duplex(10_000);
        let server = tokio::task::spawn_local(async move {
            let mut server = Ours::new(|out| Connection::server(Bounds::default(), out), true);
            server.run(&mut ours, 0).await;
            assert!(server.most_held <= 1024 * 1024, "no more is held than the window allows");
        });
        let (ask, connection) = client::Builder::new()
            .initial_window_size(window)
            .handshake::<_, Chunk>(theirs)
            .await
            .expect("a handshake");
        tokio::task::spawn_local(async move { connection.await.expect("no error on the connection") });
        let mut tasks = Vec::new();
        for case in cases {
            let mut ask = ask.clone().ready().await.expect("room for a request");
            tasks.push(tokio::task::spawn_local(async move {
                let mut request = http::Request::post("https://example.com/a?b");
                for (name, value) in &case.fields {
                    request = request.header(name, value);
                }
                let request = request.body(()).expect("a request");
                let (response, stream) = ask.send_request(request, case.body == 0).expect("it is sent");
                if case.body > 0 {
                    send_all(stream, &case).await;
                }
                let response = response.await.expect("a response");
                assert_eq!(response.status(), 200);
                assert_eq!(fields_of(response.headers()), sorted(&case));
                let (bytes, trailers) = receive_all(response.into_body()).await;
                assert!(bytes == body(case.body), "{} of {} bytes", bytes.len(), case.body);
                assert_eq!(trailers.is_some(), case.trailers);
            }));
        }
        for task in tasks {
            task.await.expect("the exchange is as it should be");
        }
        drop(ask);
        server.await.expect("the server saw nothing wrong");
    });
}

/// Our client asks their server all of this at once, and gets back what it sent.
fn their_server_echoes(cases: Vec<Case>, window: u32) {
    runs(async move {
        let (theirs, mut ours) = tokio::io::duplex(10_000);
        tokio::task::spawn_local(async move {
            let mut connection = server::Builder::new()
                .initial_window_size(window)
                .handshake::<_, Chunk>(theirs)
                .await
                .expect("a handshake");
            while let Some(request) = connection.accept().await {
                let Ok((request, mut respond)) = request else { return };
                tokio::task::spawn_local(async move {
                    assert_eq!(request.uri(), "https://example.com/a?b");
                    let mut response = http::Response::builder();
                    for (name, value) in request.headers() {
                        response = response.header(name, value);
                    }
                    let response = response.body(()).expect("a response");
                    let (bytes, trailers) = receive_all(request.into_body()).await;
                    let empty = bytes.is_empty();
                    let mut stream = respond.send_response(response, empty).expect("it is sent");
                    if !empty {
                        stream.send_data(Cursor::new(bytes), trailers.is_none()).expect("the stream is open");
                    }
                    if let Some(trailers) = trailers {
                        stream.send_trailers(trailers).expect("the stream is open");
                    }
                });
            }
        });

        let mut client = Ours::new(|out| Connection::client(Bounds::default(), out), false);
        let line = RequestLine {
            method: b"POST",
            scheme: b"https",
            authority: b"example.com",
            path: b"/a?b",
            protocol: None,
        };
        let mut streams = Vec::new();
        for case in &cases {
            let (stream, mut head) =
                client.connection.request(&line, case.body == 0, &mut client.out).expect("room for all");
            for (name, value) in &case.fields {
                head.field(name.as_bytes(), value.as_bytes());
            }
            drop(head);
            streams.push(stream);
            if case.body > 0 {
                client.held.push(Held {
                    stream,
                    bytes: body(case.body),
                    ends: true,
                    trailers: case.trailers,
                });
                client.connection.stand_in_line(stream);
            }
        }
        client.run(&mut ours, cases.len()).await;
        for (stream, case) in streams.iter().zip(&cases) {
            let Came { fields, body: bytes, .. } =
                client.came.iter().find(|came| came.stream == *stream).expect("an answer came");
            let mut fields = fields.clone();
            let trailer = fields.pop_if(|field| field.0 == "x-trailer");
            fields.sort();
            assert_eq!((fields, trailer.is_some()), (sorted(case), case.trailers));
            assert!(*bytes == body(case.body), "{} of {} bytes", bytes.len(), case.body);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn both_sides_understand_each_other(
        cases in proptest::collection::vec(case(), 1..40),
        window in prop_oneof![Just(65_535u32), 1000u32..2_000_000],
    ) {
        their_client_is_echoed(cases.clone(), window);
        their_server_echoes(cases, window);
    }
}

#[test]
fn a_leaving_server_finishes_what_their_client_has_asked() {
    runs(async {
        let (theirs, mut ours) = tokio::io::duplex(10_000);
        let (asked, was_asked) = tokio::sync::oneshot::channel();
        tokio::task::spawn_local(async move {
            let mut server = Ours::new(|out| Connection::server(Bounds::default(), out), true);
            // The request's head is there before it leaves.
            tokio::select! {
                () = server.run(&mut ours, 0) => panic!("the client stays"),
                _ = was_asked => {}
            }
            server.connection.drain(&mut server.out);
            server.run(&mut ours, 0).await;
            assert!(server.connection.is_finished());
        });
        let (ask, connection) =
            client::Builder::new().handshake::<_, Chunk>(theirs).await.expect("a handshake");
        let ended = tokio::task::spawn_local(connection);
        let mut ask = ask.ready().await.expect("room for a request");
        let request = http::Request::post("https://example.com/").body(()).expect("a request");
        let (response, mut stream) = ask.send_request(request, false).expect("it is sent");
        let response = response.await.expect("a response");
        asked.send(()).expect("the server waits for it");
        stream.send_data(Cursor::new(vec![1; 200_000]), true).expect("the stream is open");
        let (bytes, _) = receive_all(response.into_body()).await;
        assert_eq!(bytes.len(), 200_000);
        drop(ask);
        let ended = ended.await.expect("their task");
        assert!(ended.is_ok_and(|()| true), "their connection ends without an error");
    });
}
