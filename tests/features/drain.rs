//! How the gateway ends: QUIT loses nobody, TERM waits for nobody.

use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rustix::process::Signal;

use crate::harness::{Client, Coregate, Load, Over, PATIENCE, Upstream, now, pause, wait_until};

const HELLO: &str = "[routes]\n\"/\" = { status = 200, body = \"hello\" }\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn term_ends_it_at_once_and_quit_after_the_last_request() {
    let upstream = Upstream::start(|peer| {
        while peer.request().is_some() {
            pause(Duration::from_millis(400));
            peer.send(crate::harness::ok("late"));
        }
    });
    for (signal, answered) in [(Signal::TERM, false), (Signal::QUIT, true)] {
        upstream.forget();
        let mut coregate = Coregate::serving(&format!("[routes]\n\"/\" = \"http://{upstream}\"\n"), &[]);
        let mut client = coregate.client();
        client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        wait_until("the request to arrive", || upstream.connections() > 0 && !upstream.lines().is_empty());
        coregate.signal(signal);
        let reply = client.try_reply();
        assert!(coregate.ended().success(), "{}", coregate.printed());
        match reply {
            Ok(reply) => assert!(answered && reply.body == b"late"),
            Err(error) => assert!(!answered, "{error}"),
        }
    }
}

#[test]
fn quit_closes_idle_connections() {
    let mut coregate = Coregate::serving(HELLO, &[]);
    let mut client = coregate.client();
    assert_eq!(client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").reply().status, 200);
    coregate.signal(Signal::QUIT);
    client.expect_closed();
    assert!(coregate.ended().success());
}

#[test]
fn an_idle_connection_may_ask_once_more() {
    let mut coregate = Coregate::serving(HELLO, &[]);
    let (mut asking, mut silent) = (coregate.client(), coregate.client());
    for client in [&mut asking, &mut silent] {
        assert_eq!(client.send(GET).reply().header("connection"), None);
    }
    let start = now();
    coregate.signal(Signal::QUIT);
    coregate.wait_for("the drain", |printed| printed.contains("draining").then_some(()));
    // Later than any connection that is in use pauses, and before its time is over.
    pause(Duration::from_millis(700));
    let reply = asking.send(GET).reply();
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    asking.expect_closed();
    silent.expect_closed();
    assert!(start.elapsed() >= Duration::from_millis(1900), "{:?}", start.elapsed());
    assert!(coregate.ended().success());
}

#[test]
fn quit_under_load_fails_no_request() {
    let upstream = Upstream::saying("ok");
    for _ in 0..4 {
        upstream.forget();
        let mut coregate = Coregate::serving(&format!("[routes]\n\"/\" = \"http://{upstream}\"\n"), &[]);
        let address = coregate.address();
        let given_up = AtomicBool::new(false);
        let go_on = |_| !given_up.load(Ordering::SeqCst);
        let load = thread::scope(|scope| {
            let _over = Over(&given_up);
            let keeping = (1..=4).map(|depth| scope.spawn(move || Load::keeping(address, depth, go_on)));
            let opening = (0..4).map(|_| scope.spawn(move || Load::opening(address, go_on)));
            let clients: Vec<_> = keeping.chain(opening).collect();
            wait_until("some load", || upstream.connections() > 0 && upstream.lines().len() > 500);
            coregate.signal(Signal::QUIT);
            clients.into_iter().map(|client| client.join().expect("every reply is right")).sum::<Load>()
        });
        assert!(coregate.ended().success(), "{}", coregate.printed());
        assert!(load.answered > 500 && load.cut == 0 && load.refused == 8, "{load:?}");
    }
}

#[test]
fn who_waits_to_be_accepted_is_accepted_before_the_socket_closes() {
    // Stopped, the gateway accepts nobody; the kernel does, and lets them send.
    let mut coregate = Coregate::serving(HELLO, &[]);
    let get = GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    coregate.signal(Signal::STOP);
    let mut waiting: Vec<_> = (0..100).map(|_| coregate.client()).collect();
    for client in &mut waiting {
        client.send(&get);
    }
    coregate.signal(Signal::QUIT);
    coregate.signal(Signal::CONT);
    for client in &mut waiting {
        assert_eq!(client.reply().text(), "hello");
    }
    assert!(coregate.ended().success(), "{}", coregate.printed());
}

#[test]
fn who_connects_to_a_gateway_that_drains_is_refused_and_not_reset() {
    let mut coregate = Coregate::serving(HELLO, &[]);
    let address = coregate.address();
    let mut held = coregate.client();
    assert_eq!(held.send(GET).reply().status, 200);
    coregate.signal(Signal::QUIT);
    coregate.wait_for("the drain", |printed| printed.contains("draining").then_some(()));
    // Whoever gets a connection gets an answer.
    while let Ok(stream) = TcpStream::connect_timeout(&address, PATIENCE) {
        assert_eq!(Client::over(stream).send(GET).reply().text(), "hello");
    }
    held.expect_closed();
    assert!(coregate.ended().success(), "{}", coregate.printed());
}

#[test]
fn who_waits_at_a_unix_socket_is_answered_too() {
    let directory = crate::harness::Directory::new();
    let path = directory.path().join("gateway.sock");
    let mut coregate =
        Coregate::serving(&format!("listen = [\"127.0.0.1:0\", \"unix:{}\"]\n{HELLO}", path.display()), &[]);
    coregate.signal(Signal::STOP);
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = UnixStream::connect(&path).expect("it listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("a buffer");
            stream
        })
        .collect();
    coregate.signal(Signal::QUIT);
    coregate.signal(Signal::CONT);
    for mut stream in waiting {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it answers and closes");
        assert!(text.ends_with("hello"), "{text}");
    }
    assert!(coregate.ended().success(), "{}", coregate.printed());
    assert!(UnixStream::connect(&path).is_err());
}
