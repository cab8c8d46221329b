//! What the gateway relies on, tried on both drivers. Where RUNTIME §1.3 numbers a defect of monoio, the test that shows it worked
//! around names it.

use std::{
    io::{Read, Write},
    net::TcpStream as Peer,
    ops::ControlFlow,
    os::fd::AsRawFd,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use super::*;
use crate::clock::Tick;

const MS: Duration = Duration::from_millis(1);

/// Runs `test` on a runtime of each driver this kernel lets us have.
fn check<F: Future<Output = ()>>(test: impl Fn(Rc<Timers>) -> F) {
    let uring = Runtime::io_uring().map_err(|error| why_blocked(&error, None));
    for runtime in [uring, Runtime::epoll().map_err(|error| error.to_string())] {
        // Without io_uring the gateway runs on epoll, and so does the test.
        let Ok(mut runtime) = runtime else { continue };
        let driver = runtime.driver().clone();
        runtime.block_on(async {
            let timers = Timers::new();
            spawn(Rc::clone(&timers).turn(), |text| panic!("the timers stopped: {text}"));
            let ended = monoio::time::timeout(Duration::from_secs(20), test(Rc::clone(&timers))).await;
            assert!(ended.is_ok(), "the test hangs on {driver:?}");
            timers.stop();
        });
    }
}

/// A stream and its peer, which blocks.
async fn pair(timers: &Rc<Timers>) -> (Stream, Peer) {
    let listener = listener();
    let peer = Peer::connect(listener.1).expect("somebody listens");
    let (accepted, _) = listener.0.accept().await.expect("somebody connects");
    timers.clock.now_us();
    (accepted.into_stream(timers), peer)
}

fn listener() -> (Listener, std::net::SocketAddr) {
    let any = "127.0.0.1:0".parse().expect("an address");
    let socket = Socket::bind_tcp(any, 1024, 1).expect("a free port").remove(0);
    let address = socket.address().expect("a TCP socket");
    (Listener::adopt(socket).expect("a descriptor is left"), address)
}

fn in_ms(timers: &Timers, ms: u32) -> Tick {
    timers.clock.now_us();
    timers.clock.after(MS * ms)
}

#[expect(clippy::disallowed_methods, reason = "a test measures the real passing of time")]
fn now() -> Instant {
    Instant::now()
}

#[track_caller]
fn took(since: Instant, at_least_ms: u32, at_most_ms: u32) {
    let elapsed = since.elapsed();
    assert!(elapsed >= MS * at_least_ms && elapsed <= MS * at_most_ms, "{elapsed:?}");
}

#[test]
fn a_read_that_is_too_slow_loses_nothing_and_leaves_the_other_way_open() {
    check(|timers| async move {
        let (mut stream, mut peer) = pair(&timers).await;
        let mut buffer = Buffer::with_capacity(64);
        peer.write_all(b"abc").expect("it is connected");
        assert_eq!(stream.reader.read(&mut buffer, in_ms(&timers, 1000)).await.ok(), Some(3));
        let start = now();
        let read = stream.reader.read(&mut buffer, in_ms(&timers, 50)).await;
        assert!(matches!(read, Err(IoFault::TooSlow)), "{read:?}");
        took(start, 50, 500);
        assert_eq!(buffer.unread(), b"abc");
        buffer.clear();
        buffer.extend(b"too slow");
        stream.writer.write_all(&mut buffer, Duration::from_secs(1)).await.expect("this way is open");
        let mut got = [0; 8];
        peer.read_exact(&mut got).expect("it arrives");
        assert_eq!(&got, b"too slow");
    });
}

#[test]
fn a_deadline_that_was_moved_away_does_not_come() {
    check(|timers| async move {
        let (mut stream, mut peer) = pair(&timers).await;
        let mut buffer = Buffer::with_capacity(64);
        peer.write_all(b"a").expect("it is connected");
        assert_eq!(stream.reader.read(&mut buffer, in_ms(&timers, 60)).await.ok(), Some(1));
        let start = now();
        let read = stream.reader.read(&mut buffer, in_ms(&timers, 300)).await;
        assert!(matches!(read, Err(IoFault::TooSlow)), "{read:?}");
        took(start, 300, 1000);
    });
}

#[test]
fn the_deadline_of_a_read_under_way_can_be_moved_nearer() {
    check(|timers| async move {
        let (mut stream, _peer) = pair(&timers).await;
        let (handle, moving) = (stream.handle(), Rc::clone(&timers));
        spawn(
            async move {
                sleep(MS * 30).await;
                handle.expect_until(in_ms(&moving, 50), &moving);
            },
            |text| panic!("{text}"),
        );
        let start = now();
        let read = stream.reader.read(&mut Buffer::with_capacity(64), in_ms(&timers, 60_000)).await;
        assert!(matches!(read, Err(IoFault::TooSlow)), "{read:?}");
        took(start, 80, 1000);
    });
}

#[test]
fn without_a_read_under_way_no_deadline_is_left_behind() {
    check(|timers| async move {
        let (mut stream, mut peer) = pair(&timers).await;
        stream.handle().expect_until(in_ms(&timers, 20), &timers);
        sleep(MS * 100).await;
        peer.write_all(b"later").expect("it is connected");
        let mut buffer = Buffer::with_capacity(64);
        assert_eq!(stream.reader.read(&mut buffer, in_ms(&timers, 1000)).await.ok(), Some(5));
    });
}

#[test]
fn a_peer_that_does_not_read_is_too_slow() {
    check(|timers| async move {
        let (mut stream, _peer) = pair(&timers).await;
        let mut buffer = Buffer::with_capacity(16 << 20);
        buffer.extend(&vec![b'x'; 16 << 20]);
        timers.clock.now_us();
        let start = now();
        let written = stream.writer.write_all(&mut buffer, MS * 100).await;
        assert!(matches!(written, Err(IoFault::TooSlow)), "{written:?}");
        took(start, 100, 3000);
        assert!(stream.writer.sent() < 16 << 20);
    });
}

#[test]
fn a_buffer_that_is_asked_back_comes_back_and_later_bytes_are_whole() {
    check(|timers| async move {
        let (mut stream, mut peer) = pair(&timers).await;
        let mut buffer = Buffer::with_capacity(64);
        let until = in_ms(&timers, 60_000);
        let start = now();
        let idle = stream.reader.read_or_release(&mut buffer, in_ms(&timers, 50), until).await;
        assert_eq!(idle.ok(), Some(Idle::Quiet));
        took(start, 50, 500);
        assert!(buffer.is_empty() && buffer.capacity() > 0);

        // As often as not, so that a cancelled read that took bytes with it would be seen.
        let mut got = Vec::new();
        let sending = thread::spawn(move || {
            for number in 0..200_u8 {
                peer.write_all(&[number]).expect("it is connected");
                thread::park_timeout(MS * 3);
            }
            peer
        });
        while got.len() < 200 {
            let release = in_ms(&timers, 1);
            match stream.reader.read_or_release(&mut buffer, release, until).await.expect("nothing breaks it")
            {
                Idle::Bytes(count) => {
                    assert_eq!(buffer.len(), count);
                    got.extend_from_slice(buffer.unread());
                    buffer.clear();
                }
                Idle::Quiet => assert!(buffer.is_empty()),
            }
        }
        assert!(got.iter().copied().eq(0..200), "{got:?}");
        drop(sending.join());
    });
}

#[test]
fn bytes_that_end_a_rest_are_whole() {
    check(|timers| async move {
        let (mut stream, mut peer) = pair(&timers).await;
        peer.write_all(b"GET / HTTP/1.1\r\n\r\n").expect("it is connected");
        let mut buffer = Buffer::default();
        let until = in_ms(&timers, 1000);
        let memory = || Buffer::with_capacity(64);
        let first = stream.reader.read_after_rest(&mut buffer, memory, until).await.expect("bytes are there");
        assert!(first > 0 && buffer.len() == first);
        while buffer.len() < 18 {
            stream.reader.read(&mut buffer, until).await.expect("bytes are there");
        }
        assert_eq!(buffer.unread(), b"GET / HTTP/1.1\r\n\r\n");

        let mut empty = Buffer::default();
        let until = in_ms(&timers, 50);
        let read = stream.reader.read_after_rest(&mut empty, memory, until).await;
        assert!(matches!(read, Err(IoFault::TooSlow)) && empty.capacity() == 0, "{read:?}");
    });
}

/// Calls `act` while a read that may be released is under way, and returns what the read says.
async fn disturbed(
    timers: &Rc<Timers>,
    stream: &mut Stream,
    act: impl FnOnce(StreamHandle) + 'static,
) -> Result<Idle, IoFault> {
    let handle = stream.handle();
    spawn(
        async move {
            sleep(MS * 30).await;
            act(handle);
        },
        |text| panic!("{text}"),
    );
    let mut buffer = Buffer::with_capacity(64);
    stream.reader.read_or_release(&mut buffer, Tick::NEVER, in_ms(timers, 60_000)).await
}

#[test]
fn a_read_can_be_ended_from_elsewhere() {
    check(|timers| async move {
        let (mut stream, mut peer) = pair(&timers).await;
        let read = disturbed(&timers, &mut stream, |handle| handle.release()).await;
        assert!(matches!(read, Ok(Idle::Quiet)) && !stream.handle().was_ended(), "{read:?}");
        peer.write_all(b"on").expect("it is connected");
        let mut buffer = Buffer::with_capacity(64);
        assert_eq!(stream.reader.read(&mut buffer, in_ms(&timers, 1000)).await.ok(), Some(2));

        let read = disturbed(&timers, &mut stream, |handle| handle.end()).await;
        assert!(matches!(read, Ok(Idle::Bytes(0))) && stream.handle().was_ended(), "{read:?}");
        assert_eq!(peer.read(&mut [0; 8]).ok(), Some(0));
    });
}

/// RUNTIME §1.3, 5: whoever waits for a connection must not keep the runtime from ending.
#[test]
fn the_end_ends_every_wait_and_gives_the_seats_back() {
    check(|_| async {
        let ending = Rc::new(Ending::default());
        for number in 0..3 {
            let quick = ending.unless(async {
                sleep(MS).await;
                number
            });
            assert_eq!(quick.await, Some(number));
        }
        let coming = Rc::clone(&ending);
        spawn(
            async move {
                sleep(MS * 30).await;
                coming.come();
            },
            |text| panic!("{text}"),
        );
        let start = now();
        assert_eq!(ending.unless(sleep(MS * 60_000)).await, None);
        took(start, 30, 1000);
        assert_eq!(ending.unless(async {}).await, None, "it has come");
    });
}

#[test]
fn messages_arrive_until_the_last_postbox_is_gone() {
    check(|_| async {
        let (postbox, letters) = mailbox(4).expect("descriptors are left");
        let posting = postbox.clone();
        drop(postbox);
        // More than fit, from a thread that tries again.
        let sending = thread::spawn(move || {
            for number in 0..1000_u32 {
                let mut letter = number;
                while let Err(back) = posting.post(letter) {
                    assert_eq!(back, number);
                    letter = back;
                    thread::yield_now();
                }
            }
        });
        let mut got = Vec::new();
        let received = letters.receive(|number| {
            got.push(number);
            ControlFlow::Continue(())
        });
        received.await.expect("the bell works");
        assert!(got.into_iter().eq(0..1000));
        sending.join().expect("it does not panic");
    });
}

#[test]
fn a_full_mailbox_and_one_without_a_receiver_give_the_message_back() {
    let (postbox, letters) = mailbox(2).expect("descriptors are left");
    assert_eq!([1, 2, 3].map(|number| postbox.post(number)), [Ok(()), Ok(()), Err(3)]);
    drop(letters);
    assert_eq!(postbox.post(4), Err(4));
}

#[test]
fn a_receiver_that_breaks_off_is_asked_no_more() {
    check(|_| async {
        let (postbox, letters) = mailbox(4).expect("descriptors are left");
        assert_eq!([1, 2, 3].map(|number| postbox.post(number)), [Ok(()); 3]);
        let mut got = Vec::new();
        let received = letters.receive(|number| {
            got.push(number);
            if number == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        received.await.expect("the bell works");
        assert_eq!(got, [1, 2]);
    });
}

#[test]
fn a_gate_hands_over_one_value_before_or_after_it_is_asked_for() {
    check(|_| async {
        let gate = Gate::default();
        assert!(!gate.is_ready());
        gate.put(1);
        assert!(gate.is_ready());
        assert_eq!(gate.take().await, 1);
        let later = gate.clone();
        spawn(
            async move {
                sleep(MS * 10).await;
                later.put(2);
            },
            |text| panic!("{text}"),
        );
        assert_eq!(gate.take().await, 2);
        assert!(!gate.is_ready());
    });
}

/// RUNTIME §1.3, 1 and 4: a panic ends its task, whose handle is gone at once; what the task held is dropped.
#[test]
fn a_panic_ends_its_task_and_nothing_else() {
    check(|timers| async move {
        let (stream, mut peer) = pair(&timers).await;
        let (said, held) = (Gate::default(), Rc::new(()));
        let (tell, holding) = (said.clone(), Rc::clone(&held));
        spawn(
            async move {
                let _holding = (holding, stream);
                sleep(MS).await;
                panic!("number {}", 7);
            },
            move |text| tell.put(text.to_owned()),
        );
        assert_eq!(said.take().await, "number 7");
        sleep(MS).await;
        assert_eq!(Rc::strong_count(&held), 1);
        assert_eq!(peer.read(&mut [0; 8]).ok(), Some(0), "its connection was closed");

        let (mut stream, mut peer) = pair(&timers).await;
        peer.write_all(b"on").expect("it is connected");
        let mut buffer = Buffer::with_capacity(64);
        assert_eq!(stream.reader.read(&mut buffer, in_ms(&timers, 1000)).await.ok(), Some(2));
    });
}

/// RUNTIME §1.3, 2: the pending accept is completed, not dropped.
#[test]
fn a_connection_that_was_detached_loses_nothing() {
    check(|timers| async move {
        let (listener, address) = listener();
        let mut peer = Peer::connect(address).expect("somebody listens");
        peer.write_all(b"early").expect("the peer is connected");
        let (accepted, _) = listener.accept().await.expect("somebody connects");
        let detached = accepted.detach().expect("a descriptor is left");
        drop(accepted);
        sleep(MS * 10).await;
        let stream = detached.attach().expect("the driver takes it").into_stream(&timers);
        let Stream { mut reader, mut writer } = stream;
        let mut buffer = Buffers::new().small();
        timers.clock.now_us();
        let until = in_ms(&timers, 5000);
        while buffer.len() < 5 {
            assert!(reader.read(&mut buffer, until).await.is_ok_and(|count| count > 0));
        }
        assert_eq!(buffer.unread(), b"early");
        writer.write_all(&mut buffer, MS * 1000).await.expect("the peer reads");
        let mut echo = [0; 5];
        peer.read_exact(&mut echo).expect("the connection is open");
        assert_eq!(&echo, b"early");
    });
}

#[test]
fn a_listener_that_is_stopped_accepts_no_more_and_frees_its_port() {
    check(|_| async move {
        let (listener, address) = listener();
        let handle = listener.handle();
        spawn(
            async move {
                sleep(MS * 30).await;
                handle.stop();
            },
            |text| panic!("{text}"),
        );
        assert!(listener.accept().await.is_err());
        assert!(listener.accept().await.is_err(), "and every later one");
        drop(listener);
        sleep(MS * 10).await;
        assert!(Peer::connect(address).is_err());
        assert!(Socket::bind_tcp(address, 16, 1).is_ok());
    });
}

/// RUNTIME §1.3, 4: only with monoio's feature `sync` is a late drop of a handle a race.
#[test]
fn monoio_is_built_without_sync() {
    let manifest = include_str!("../../Cargo.toml");
    let line = manifest.lines().find(|line| line.starts_with("monoio = ")).expect("it is a dependency");
    assert!(!line.contains("\"sync\""), "{line}");
}

#[test]
fn a_thousand_connections_leave_no_descriptor_behind() {
    check(|timers| async move {
        let (listener, address) = listener();
        for _ in 0..10 {
            let mut peers: Vec<_> =
                (0..100).map(|_| Peer::connect(address).expect("somebody listens")).collect();
            for number in 0..100 {
                let (accepted, _) = listener.accept().await.expect("somebody connects");
                // Every third comes by way of another shard.
                let accepted = match number % 3 {
                    0 => accepted.detach().and_then(Detached::attach).expect("a descriptor is left"),
                    _ => accepted,
                };
                let stream = accepted.into_stream(&timers);
                // In every order, and with a handle that outlives both halves.
                let handle = stream.handle();
                let Stream { reader, writer } = stream;
                if number % 2 == 0 {
                    drop(reader);
                    drop(writer);
                } else {
                    drop(writer);
                    drop(reader);
                }
                handle.end();
            }
            sleep(MS).await;
            for peer in &mut peers {
                // The kernel says so only when the last descriptor is closed.
                peer.set_read_timeout(Some(Duration::from_secs(5))).expect("a TCP socket");
                assert_eq!(peer.read(&mut [0; 8]).ok(), Some(0));
            }
        }
    });
}

#[test]
fn a_handle_does_nothing_to_who_got_the_descriptor_next() {
    check(|timers| async move {
        let (stream, peer) = pair(&timers).await;
        let old = stream.handle();
        let number = peer.as_raw_fd();
        drop((stream, peer));
        sleep(MS).await;
        let mut streams = Vec::new();
        for _ in 0..8 {
            streams.push(pair(&timers).await);
        }
        old.end();
        old.release();
        old.expect_until(Tick(0), &timers);
        sleep(MS * 30).await;
        for (stream, peer) in &mut streams {
            peer.write_all(b"x").expect("nobody ended it");
            let mut buffer = Buffer::with_capacity(64);
            let read = stream.reader.read(&mut buffer, in_ms(&timers, 1000)).await;
            assert_eq!(read.ok(), Some(1), "the descriptor was {number}");
        }
    });
}
