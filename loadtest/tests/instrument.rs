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
