//! The instrument measured: against upstreams whose behaviour is known, does it say what is true?

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use loadtest::load::{Expect, Failed, Form, Generator, Pace, Plan, Requests, Tally, Tls, precise};
use loadtest::stub::{Behaviour, Content, Delay, Stub};

/// Serves `behaviour` for `seconds` on a thread of its own.
fn stub(behaviour: Behaviour, seconds: u64) -> SocketAddr {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (give, take) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let mut stub = Stub::bind(&[any], behaviour).unwrap();
        give.send(stub.addresses().unwrap()[0]).unwrap();
        stub.serve(Some(Instant::now() + Duration::from_secs(seconds))).unwrap();
    });
    take.recv().unwrap()
}

fn plan(target: SocketAddr, connections: usize, pace: Pace) -> Plan {
    let form = Form { method: "GET".to_owned(), ..Form::default() };
    Plan {
        target,
        requests: Requests::new(&form, &[("stub".to_owned(), "/".to_owned())]),
        connections,
        pace,
        expect: Expect::default(),
        timeout: Duration::from_secs(5),
        new_connections: false,
        tls: None,
        streams: None,
    }
}

/// What `plan` counts in so many milliseconds, answers that come later included.
fn offer(plan: Plan, millis: u64) -> Tally {
    let mut generator = Generator::new(plan).unwrap();
    generator.drive(Instant::now() + Duration::from_millis(millis)).unwrap();
    generator.finish(Duration::from_secs(3)).unwrap();
    generator.tally
}

fn open(per_second: f64) -> Pace {
    Pace::Open { per_second }
}

#[test]
fn a_stall_of_one_second_shows_in_open_loop_and_hides_in_closed_loop() {
    let stall = Some((Duration::from_millis(500), Duration::from_secs(1)));
    let behaviour = Behaviour { stall, ..Behaviour::default() };

    // 2,000 requests, of which 1,000 are due while nothing is done: a quarter of all wait more than half a second.
    let tally = offer(plan(stub(behaviour.clone(), 9), 50, open(1000.0)), 2000);
    let at = |quantile| tally.latency.value_at_quantile(quantile);
    assert!((1990..=2010).contains(&tally.successes()), "{}", tally.successes());
    assert!(at(0.999) >= 950_000, "p99.9 is {} µs", at(0.999));
    assert!(at(0.85) >= 500_000, "p85 is {} µs", at(0.85));

    // In closed loop only the requests under way notice: one for each connection.
    let tally = offer(plan(stub(behaviour, 9), 4, Pace::Closed), 2000);
    let slow = tally.latency.len() - tally.latency.count_between(0, 499_000);
    assert!(slow <= 4 && tally.latency.len() > 1000, "{slow} of {}", tally.latency.len());
}

#[test]
fn an_open_loop_keeps_its_rate_within_one_percent() {
    for rate in [200.0, 2000.0] {
        let start = Instant::now();
        let tally = offer(plan(stub(Behaviour::default(), 5), 20, open(rate)), 1500);
        let expected = rate * 1.5;
        assert!(start.elapsed() < Duration::from_secs(4));
        let got = precise(tally.successes());
        assert!((got - expected).abs() <= expected * 0.01 + 1.0, "{got} requests where {expected} were due");
        assert_eq!(tally.failed() + tally.unanswered, 0);
    }
}

#[test]
fn known_delays_are_measured_as_they_are() {
    let check = |delay: Delay, points: &[(f64, f64)]| {
        // The machine's own delays come on top: the same load without any, at the same time, shows how much.
        let control = thread::spawn(|| offer(plan(stub(Behaviour::default(), 6), 100, open(500.0)), 2000));
        let behaviour = Behaviour { delay, ..Behaviour::default() };
        let tally = offer(plan(stub(behaviour, 6), 100, open(500.0)), 2000);
        let own = precise(control.join().unwrap().latency.value_at_quantile(0.99)) / 1000.0;
        for (quantile, millis) in points {
            let found = precise(tally.latency.value_at_quantile(*quantile)) / 1000.0;
            let within = millis * 0.93 - 0.1..=millis * 1.07 + 2.0 + own;
            assert!(
                within.contains(&found),
                "{delay:?} at {quantile}: {found} ms where {millis} are due, {own} the machine's"
            );
        }
    };
    let millis = Duration::from_millis;
    check(Delay::Fixed(millis(20)), &[(0.1, 20.0), (0.5, 20.0)]);
    check(Delay::Uniform(millis(20), millis(60)), &[(0.25, 30.0), (0.5, 40.0), (0.75, 50.0)]);
    check(Delay::Exponential(millis(20)), &[(0.5, 13.9), (0.9, 46.1)]);
}

#[test]
fn every_failure_is_counted_by_its_cause_and_none_is_a_success() {
    let check = |behaviour: Behaviour, expect: Expect, causes: &[Failed]| {
        let mut plan = plan(stub(behaviour, 9), 10, open(400.0));
        plan.expect = expect;
        // Only the last of them is about time.
        plan.timeout = Duration::from_millis(if causes == [Failed::Timeout] { 300 } else { 5000 });
        let tally = offer(plan, 1000);
        let all = tally.successes() + tally.failed() + tally.unanswered;
        assert!((398..=402).contains(&all), "{all} accounted for");
        let found: Vec<Failed> = tally.failures.keys().copied().collect();
        assert_eq!(found, causes, "{tally:?}");
        tally
    };
    let right = Behaviour::default;
    let any = Expect::default;

    let tally = check(Behaviour { failures: 0.25, ..right() }, any(), &[Failed::Status(503)]);
    assert!((60..=140).contains(&tally.failed()), "{} of 400", tally.failed());
    let tally = check(Behaviour { resets: 0.25, ..right() }, any(), &[Failed::Closed]);
    assert!((60..=140).contains(&tally.failed()), "{} of 400", tally.failed());
    let tally = check(right(), Expect { body_bytes: Some(1023), ..any() }, &[Failed::Body]);
    assert_eq!(tally.successes(), 0);
    check(right(), Expect { status: Some(204), ..any() }, &[Failed::Status(200)]);
    check(right(), Expect { status: Some(200), body_bytes: Some(1024), body: None }, &[]);
    let delay = Delay::Fixed(Duration::from_secs(30));
    let tally = check(Behaviour { delay, ..right() }, any(), &[Failed::Timeout]);
    assert_eq!(tally.successes(), 0);
    assert!(tally.latency.min() >= 299_000, "a timeout counts with its age");
}

#[test]
fn a_body_is_checked_however_it_is_framed() {
    let text = b"a body of some length".to_vec();
    let content = Content::Fixed { text: text.clone(), kind: "text/plain" };
    for chunk_bytes in [None, Some(1), Some(7), Some(4096)] {
        for drip in [None, Some((3, Duration::from_millis(1)))] {
            let behaviour = Behaviour { content: content.clone(), chunk_bytes, drip, ..Behaviour::default() };
            let target = stub(behaviour, 4);
            for (body, right) in [(text.clone(), true), (b"a body of some lengtH".to_vec(), false)] {
                let mut plan = plan(target, 2, open(40.0));
                plan.expect.body = Some(body);
                let tally = offer(plan, 250);
                assert_eq!(tally.failed() == 0, right, "{chunk_bytes:?} {drip:?} {tally:?}");
                assert_eq!(tally.successes() > 0, right, "{chunk_bytes:?} {drip:?} {tally:?}");
            }
        }
    }
}

#[test]
fn an_echo_shows_what_arrived() {
    let target = stub(Behaviour { content: Content::Echo, ..Behaviour::default() }, 4);
    let form = Form {
        method: "POST".to_owned(),
        headers: vec![("X-A".to_owned(), "b".to_owned())],
        body: b"hello".to_vec(),
    };
    let mut plan = plan(target, 1, open(20.0));
    plan.requests = Requests::new(&form, &[("stub".to_owned(), "/p".to_owned())]);
    plan.expect.body =
        Some(b"POST /p HTTP/1.1\r\nHost: stub\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello".to_vec());
    let tally = offer(plan, 250);
    assert!(tally.successes() > 2 && tally.failed() == 0, "{tally:?}");
}

#[test]
fn a_new_connection_for_each_request_is_one() {
    let mut plan = plan(stub(Behaviour::default(), 4), 8, open(200.0));
    plan.new_connections = true;
    let tally = offer(plan, 1000);
    assert!((198..=202).contains(&tally.successes()) && tally.failed() == 0, "{tally:?}");
}

#[test]
fn a_limit_ends_the_run_when_it_is_reached() {
    for pace in [Pace::Closed, open(5000.0)] {
        let mut generator = Generator::new(plan(stub(Behaviour::default(), 6), 8, pace)).unwrap();
        generator.limit(1000);
        let start = Instant::now();
        generator.drive(start + Duration::from_secs(5)).unwrap();
        assert!(generator.is_done() && start.elapsed() < Duration::from_secs(4));
        assert_eq!(generator.tally.successes(), 1000);
    }
}

#[test]
fn nobody_there_is_a_failure_and_no_endless_loop() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    drop(listener);
    let tally = offer(plan(target, 2, Pace::Closed), 300);
    assert!(
        tally.failures.get(&Failed::Connect).is_some_and(|&count| (2..100).contains(&count)),
        "{tally:?}"
    );
    let tally = offer(plan(target, 2, open(100.0)), 300);
    assert!((29..=32).contains(&tally.unanswered) && tally.refused > 2, "{tally:?}");
    assert_eq!((tally.successes(), tally.failed()), (0, 0));
}

/// A TLS server with a certificate of its own making, which answers every request with an empty 200.
fn tls_server() -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config =
        rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let config = std::sync::Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let config = std::sync::Arc::clone(&config);
            thread::spawn(move || answer_tls(config, stream.unwrap()));
        }
    });
    (address, made.cert.pem())
}

/// Answers until the client leaves; it closes the connection when it is asked to.
fn answer_tls(config: std::sync::Arc<rustls::ServerConfig>, stream: std::net::TcpStream) {
    use std::io::{Read as _, Write as _};
    let session = rustls::ServerConnection::new(config).unwrap();
    let mut stream = rustls::StreamOwned::new(session, stream);
    let (mut request, mut byte) = (Vec::new(), [0]);
    while stream.read(&mut byte).is_ok_and(|count| count == 1) {
        request.push(byte[0]);
        if !request.ends_with(b"\r\n\r\n") {
            continue;
        }
        let close = request.windows(5).any(|word| word == b"close");
        let sent = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
        if sent.and_then(|()| stream.flush()).is_err() || close {
            stream.conn.send_close_notify();
            let _ = stream.flush();
            return;
        }
        request.clear();
    }
}

#[test]
fn handshakes_are_resumed_or_full_as_asked() {
    let (target, pem) = tls_server();
    let file = std::env::temp_dir().join(format!("loadtest-{}.pem", std::process::id()));
    std::fs::write(&file, pem).unwrap();
    let load = |resume, new_connections| {
        let mut plan = plan(target, 2, open(50.0));
        plan.tls = Some(Tls::new("localhost", Some(&file), resume).unwrap());
        plan.new_connections = new_connections;
        let form = Form { method: "GET".to_owned(), ..Form::default() };
        if new_connections {
            let form = Form { headers: vec![("Connection".to_owned(), "close".to_owned())], ..form };
            plan.requests = Requests::new(&form, &[("localhost".to_owned(), "/".to_owned())]);
        }
        plan.expect.body = Some(b"hi".to_vec());
        let tally = offer(plan, 1000);
        assert!((49..=51).contains(&tally.successes()) && tally.failed() == 0, "{tally:?}");
        (tally.handshakes, tally.resumed)
    };
    let (handshakes, resumed) = load(true, false);
    assert!(handshakes <= 2, "{handshakes} for two connections that are kept");
    assert!(resumed <= 2);
    let (handshakes, resumed) = load(true, true);
    assert!(handshakes >= 49 && resumed >= handshakes - 3, "{resumed} of {handshakes} resumed");
    let (handshakes, resumed) = load(false, true);
    assert!(handshakes >= 49 && resumed == 0, "{resumed} of {handshakes} resumed");

    let other = Tls::new("another.example", Some(&file), true).unwrap();
    let mut stream = std::net::TcpStream::connect(target).unwrap();
    assert!(other.try_on(&mut stream).is_err(), "a certificate for somebody else");
    std::fs::remove_file(&file).unwrap();
}

/// How a server over HTTP/2 behaves.
#[derive(Clone, Copy)]
struct H2Server {
    /// Bytes of every body, in pieces of some size.
    body: usize,
    /// Requests that it takes at once.
    streams: u32,
    /// Bytes of a request's body that it takes before it has looked at them.
    window: u32,
    /// Each connection ends in good order after so many requests.
    requests_each: Option<usize>,
    /// One of so many requests is reset.
    reset_every: Option<usize>,
}

const H2_SERVER: H2Server =
    H2Server { body: 1024, streams: 100, window: 65_535, requests_each: None, reset_every: None };

/// Serves HTTP/2 with prior knowledge by the implementation that most Rust servers have; `seen` gets path, `x-n` and body of
/// every request.
fn h2_server(behaviour: H2Server) -> (SocketAddr, std::sync::mpsc::Receiver<(String, String, Vec<u8>)>) {
    let (give, take) = std::sync::mpsc::channel();
    let (say, seen) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let tasks = tokio::task::LocalSet::new();
        tasks.block_on(&runtime, async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            give.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                tokio::task::spawn_local(serve_h2(socket, behaviour, say.clone()));
            }
        });
    });
    (take.recv().unwrap(), seen)
}

async fn serve_h2(
    socket: tokio::net::TcpStream,
    behaviour: H2Server,
    say: std::sync::mpsc::Sender<(String, String, Vec<u8>)>,
) {
    let mut server = h2::server::Builder::new();
    server.max_concurrent_streams(behaviour.streams).initial_window_size(behaviour.window);
    let Ok(mut connection) = server.handshake::<_, bytes::Bytes>(socket).await else { return };
    let mut count = 0;
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        count += 1;
        if behaviour.reset_every.is_some_and(|every| count % every == 0) {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
            continue;
        }
        if behaviour.requests_each == Some(count) {
            connection.graceful_shutdown();
        }
        let say = say.clone();
        tokio::task::spawn_local(async move {
            let n = request.headers().get("x-n").map_or("", |value| value.to_str().unwrap()).to_owned();
            let path = request.uri().path().to_owned();
            let mut body = request.into_body();
            let mut bytes = Vec::new();
            while let Some(Ok(part)) = body.data().await {
                let _ = body.flow_control().release_capacity(part.len());
                bytes.extend_from_slice(&part);
            }
            let _ = say.send((path, n, bytes));
            let response =
                http::Response::builder().header("server", "test").header("x-a", "b").body(()).unwrap();
            let Ok(mut out) = respond.send_response(response, behaviour.body == 0) else { return };
            if behaviour.body > 0 {
                let _ = out.send_data(bytes::Bytes::from(vec![b'y'; behaviour.body]), true);
            }
        });
    }
}

fn h2_plan(target: SocketAddr, connections: usize, streams: usize, pace: Pace) -> Plan {
    Plan { streams: Some(streams), ..plan(target, connections, pace) }
}

#[test]
fn http2_is_counted_and_timed_as_http1_is() {
    for body in [0, 1024, 300_000] {
        let (target, _seen) = h2_server(H2Server { body, ..H2_SERVER });
        let mut plan = h2_plan(target, 3, 5, open(200.0));
        plan.expect.body = Some(vec![b'y'; body]);
        let tally = offer(plan.clone(), 1000);
        assert!(
            (198..=202).contains(&tally.successes()) && tally.failed() + tally.unanswered == 0,
            "{tally:?}"
        );
        plan.pace = Pace::Closed;
        let tally = offer(plan.clone(), 500);
        assert!(tally.successes() > 20 && tally.failed() == 0, "{tally:?}");
        plan.expect.body = Some(vec![b'z'; body.max(1)]);
        let tally = offer(plan, 300);
        assert!(tally.successes() == 0 && tally.failures.contains_key(&Failed::Body), "{tally:?}");
    }
}

#[test]
fn http2_requests_arrive_as_they_were_meant() {
    let (target, seen) = h2_server(H2Server { window: 1000, ..H2_SERVER });
    let body = vec![b'b'; 5000];
    let mut plan = h2_plan(target, 1, 4, open(100.0));
    let form = |n: &str| Form {
        method: "POST".to_owned(),
        headers: vec![("X-N".to_owned(), n.to_owned()), ("Connection".to_owned(), "close".to_owned())],
        body: body.clone(),
    };
    let place = |path: &str| [("stub".to_owned(), path.to_owned())];
    plan.requests = Requests::new(&form("0"), &place("/0"));
    plan.requests.add(&form("1"), &place("/1"));
    let tally = offer(plan, 1000);
    assert!((99..=101).contains(&tally.successes()) && tally.failed() == 0, "{tally:?}");
    let requests: Vec<_> = seen.try_iter().collect();
    for (path, n, arrived) in &requests {
        assert!(path[1..] == *n && *arrived == body, "{path} {n} {} bytes", arrived.len());
    }
    let odd = requests.iter().filter(|(_, n, _)| n == "1").count();
    assert!((49..=51).contains(&odd) && (99..=101).contains(&requests.len()), "{odd} of {}", requests.len());
}

#[test]
fn an_http2_server_may_end_connections_refuse_requests_and_allow_few() {
    // A connection that says goodbye is replaced, and no request is lost by it.
    let (target, _seen) = h2_server(H2Server { requests_each: Some(20), ..H2_SERVER });
    let tally = offer(h2_plan(target, 2, 3, open(200.0)), 1000);
    assert!((198..=202).contains(&tally.successes()), "{tally:?}");
    // What is reset is a failure, and only that.
    let (target, _seen) = h2_server(H2Server { reset_every: Some(10), ..H2_SERVER });
    let tally = offer(h2_plan(target, 2, 3, open(200.0)), 1000);
    assert!((15..=25).contains(&tally.failed()) && tally.successes() >= 175, "{tally:?}");
    // Of more places than the server has streams some stay empty.
    let (target, _seen) = h2_server(H2Server { streams: 2, ..H2_SERVER });
    let tally = offer(h2_plan(target, 1, 8, open(200.0)), 1000);
    assert!((198..=202).contains(&tally.successes()) && tally.failed() == 0, "{tally:?}");
}

#[test]
fn what_is_no_http2_is_never_a_success() {
    // A stub that speaks HTTP/1.1 alone answers nothing that HTTP/2 could use.
    let tally = offer(h2_plan(stub(Behaviour::default(), 5), 1, 4, open(100.0)), 500);
    assert!(tally.successes() == 0 && tally.unanswered + tally.failed() >= 45, "{tally:?}");
    assert!(tally.latency.max() >= 400_000, "what was never answered counts with its age");
}
