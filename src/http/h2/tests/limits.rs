//! Bounds (DESIGN §15), and those who try them.

use super::*;
use crate::http::BadHead;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000;

#[track_caller]
fn check_flood(attack: &[u8], fault: Fault) {
    let mut server = Side::server(Bounds::default());
    server.feed(&headers(1, 0, POST));
    for _ in 0..500 {
        server.feed(attack);
    }
    server.refuses(attack, fault);
    // Slowly, it is none.
    let mut server = Side::server(Bounds::default());
    server.feed(&headers(1, 0, POST));
    for number in 0..1500 {
        server.now_us = number * SECOND / 50;
        server.feed(attack);
    }
    // Nor beside real traffic.
    let mut server = Side::server(Bounds::default());
    server.feed(&headers(1, 0, POST));
    for _ in 0..10 {
        for _ in 0..400 {
            server.feed(attack);
        }
        server.feed(&data(1, 0, "x"));
    }
}

#[test]
fn frames_that_bring_nothing_on_are_counted() {
    check_flood(&settings(&[]), Fault::SettingsFlood);
    check_flood(&frame(4, ACK, 0, b""), Fault::SettingsFlood);
    check_flood(&frame(6, 0, 0, &[0; 8]), Fault::PingFlood);
    check_flood(&frame(6, ACK, 0, &[0; 8]), Fault::PingFlood);
    check_flood(&frame(2, 0, 1, &[0; 5]), Fault::PriorityFlood);
    check_flood(&window_update(0, 1), Fault::WindowUpdateFlood);
    check_flood(&window_update(1, 1), Fault::WindowUpdateFlood);
    check_flood(&frame(0xfa, 0, 0, b"x"), Fault::UnknownFlood);
    check_flood(&data(1, 0, ""), Fault::EmptyDataFlood);
    check_flood(&frame(0, PADDED, 1, b"\x01\0"), Fault::EmptyDataFlood);
    check_flood(&frame(7, 0, 0, &[0; 8]), Fault::UnknownFlood);
}

#[test]
fn window_updates_for_what_we_send_are_real_traffic() {
    let mut server = Side::server(Bounds::default());
    server.feed(&headers(1, END_STREAM, GET));
    let stream = server.streams[0];
    assert!(server.connection.respond(stream, 200, false, &mut server.out).is_ok());
    for _ in 0..2000 {
        assert_eq!(server.connection.send_data(stream, &[0; 1000], false, &mut server.out), Ok(1000));
        server.feed(&[window_update(1, 1000), window_update(0, 1000)].concat());
    }
}

// CVE-2023-44487

#[test]
fn requests_that_are_reset_at_once_are_a_flood() {
    let mut server = Side::server(Bounds::default());
    for number in 0..100 {
        server.feed(&[headers(2 * number + 1, END_STREAM, GET), rst_stream(2 * number + 1, 8)].concat());
    }
    server.refuses(&[headers(201, END_STREAM, GET), rst_stream(201, 8)].concat(), Fault::ResetFlood);
}

#[test]
fn resets_are_fine_when_they_are_slow_or_few() {
    let mut server = Side::server(Bounds::default());
    for number in 0..400 {
        server.now_us = u64::from(number) * SECOND / 20;
        server.feed(&[headers(2 * number + 1, END_STREAM, GET), rst_stream(2 * number + 1, 8)].concat());
    }
    let mut server = Side::server(Bounds::default());
    for number in 0..1000 {
        let id = 2 * number + 1;
        server.feed(&headers(id, END_STREAM, GET));
        if number % 2 == 1 {
            server.feed(&rst_stream(id, 8));
            continue;
        }
        let stream = *server.streams.last().expect("it has just begun");
        assert!(server.connection.respond(stream, 200, true, &mut server.out).is_ok());
    }
}

// CVE-2025-8671

#[test]
fn resets_that_a_client_makes_us_send_count_as_its_own() {
    let provoke: [&dyn Fn(u32) -> Vec<u8>; 5] = [
        &|id| [headers(id, 0, POST), window_update(id, 0)].concat(),
        &|id| [headers(id, 0, POST), window_update(id, 0x7fff_ffff)].concat(),
        &|id| [headers(id, 0, &format!("{POST}\ncontent-length: 1")), data(id, 0, "xx")].concat(),
        &|id| headers(id, 0, "x-a: b"),
        &|id| [headers(id, 0, POST), headers(id, 0, "a: b")].concat(),
    ];
    for provoke in provoke {
        let mut server = Side::server(Bounds::default());
        for number in 0..100 {
            server.feed(&provoke(2 * number + 1));
            assert_eq!(server.connection.streams(), 0);
        }
        server.refuses(&provoke(201), Fault::ResetFlood);
    }
}

#[test]
fn a_gone_stream_is_reset_again_only_so_often() {
    let mut server = Side::server(Bounds::default());
    for number in 0..300 {
        server.feed(&headers(2 * number + 1, END_STREAM, GET));
        let stream = *server.streams.last().expect("it has just begun");
        server.connection.reset(stream, Code::Cancel, &mut server.out);
    }
    // Stream 1 is out of mind by now.
    for _ in 0..100 {
        server.feed(&data(1, 0, "x"));
    }
    // Half of the 300 may be reset; the rest come too fast.
    for _ in 0..50 {
        server.feed(&data(1, 0, "x"));
    }
    server.refuses(&data(1, 0, "x"), Fault::ResetFlood);
}

#[test]
fn more_streams_than_allowed_are_refused_unharmed() {
    let mut server = Side::server(Bounds::default());
    for number in 0..128 {
        server.feed(&headers(2 * number + 1, END_STREAM, GET));
    }
    server.forget();
    server.feed(&headers(257, 0, POST));
    server.feed(&data(257, END_STREAM, "x"));
    server.expect(&[], &["RST_STREAM 257 RefusedStream"]);
    assert_eq!(
        (server.connection.refused(), server.connection.streams(), server.connection.slots()),
        (1, 128, 128)
    );
    let stream = server.streams[77];
    assert!(server.connection.respond(stream, 200, true, &mut server.out).is_ok());
    server.forget();
    server.feed(&headers(259, END_STREAM, GET));
    server.expect(&["259 GET / at a length 0 end"], &[]);
    assert_eq!(server.streams.last(), Some(&Stream { id: 259, slot: stream.slot }));
}

// CVE-2024-27316 and its like

#[test]
fn continuations_are_few_and_bring_something() {
    let begin = frame(1, END_STREAM, 1, &block(GET));
    let more = frame(9, 0, 1, &block("a: b"));
    let many = |count| [begin.clone(), more.repeat(count), frame(9, END_HEADERS, 1, &block("a: b"))].concat();
    check(&many(7), &["1 GET / at a length 0 end"], &[]);
    let refused = |bytes: &[u8]| Side::server(Bounds::default()).refuses(bytes, Fault::ContinuationFlood);
    refused(&many(8));
    refused(&[begin.clone(), frame(9, 0, 1, b"")].concat());
    refused(&[begin, frame(9, END_HEADERS, 1, b"")].concat());
    let large = block(&format!("a: {}", "x".repeat(15_000)));
    refused(&[frame(1, END_STREAM, 1, &large), frame(9, 0, 1, &large).repeat(4)].concat());
}

#[track_caller]
fn check_too_large(lines: &str, why: BadHead) {
    let next = headers(3, END_STREAM, GET);
    let block = block(lines);
    let (first, rest) = block.split_at(block.len().min(16_000));
    let mut bytes = frame(1, END_STREAM | if rest.is_empty() { END_HEADERS } else { 0 }, 1, first);
    let mut pieces = rest.chunks(16_000).peekable();
    while let Some(piece) = pieces.next() {
        let flags = if pieces.peek().is_none() { END_HEADERS } else { 0 };
        bytes.extend_from_slice(&frame(9, flags, 1, piece));
    }
    let mut server = Side::server(Bounds::default());
    server.feed(&[bytes, next].concat());
    server.expect(&[&format!("1 too large {why:?}"), "3 GET / at a length 0 end"], &[]);
    // It can be answered.
    let stream = server.streams[0];
    assert!(server.connection.respond(stream, 431, true, &mut server.out).is_ok());
    server.expect(&[], &["HEADERS 1 :status: 431 end"]);
}

#[test]
fn heads_that_are_too_large_leave_the_connection_alone() {
    let long = |count| "x".repeat(count);
    check_too_large(&format!("{GET}\na: {}", long(8190)), BadHead::LineTooLong);
    check_too_large(&GET.replace(":path: /", &format!(":path: /{}", long(8192))), BadHead::TargetTooLong);
    let fields: String = (0..101).map(|number| format!("\nx-{number}: a")).collect();
    check_too_large(&format!("{GET}{fields}"), BadHead::TooManyHeaders);
    let fields: String = (0..5).map(|number| format!("\nx-{number}: {}", long(8000))).collect();
    check_too_large(&format!("{GET}{fields}"), BadHead::HeadTooLong);
    let fields: String = (0..100).map(|number| format!("\nx-{number}: a")).collect();
    check(&headers(1, END_STREAM, &format!("{GET}{fields}")), &["1 GET / at a length 0 end"], &[]);
}

#[test]
fn a_malformed_head_is_no_better_for_being_too_large() {
    let fields: String = (0..101).map(|number| format!("\nx-{number}: a")).collect();
    check(
        &headers(1, END_STREAM, &format!("{GET}{fields}\nconnection: close")),
        &["1 malformed ConnectionField"],
        &["RST_STREAM 1 ProtocolError"],
    );
}

#[test]
fn a_bomb_is_not_unpacked() {
    // One entry of 4,000 bytes, then a reference to it in each byte: 16,000 times 4,000.
    let entry = [&block(GET)[..], b"\x40\x01a\x7f\xa1\x1e", &[b'x'; 4000]].concat();
    let mut server = Side::server(Bounds::default());
    server.feed(&frame(1, END_STREAM | END_HEADERS, 1, &entry));
    let bomb = [&block(GET)[..], &[0xbe; 16_000]].concat();
    server.feed(&frame(1, END_STREAM | END_HEADERS, 3, &bomb));
    assert_eq!(server.told[1], "3 too large HeadTooLong");
    assert!(server.message.bytes.capacity() < 64 * 1024, "{}", server.message.bytes.capacity());
}

#[test]
fn replies_wait_for_each_other_to_be_sent() {
    let mut server = Side::server(Bounds::default());
    let pings = frame(6, 0, 0, &[0; 8]).repeat(100);
    let (mut at, mut message) = (0, Message::default());
    let mut receive =
        |server: &mut Side| server.connection.receive(&pings, &mut at, &mut message, 0, &mut server.out);
    assert_eq!(receive(&mut server), Ok(Received::Flush));
    assert_eq!(server.said().len(), 64);
    assert_eq!(receive(&mut server), Ok(Received::Flush), "and nothing more until it is sent");
    assert_eq!(server.said().len(), 0);
    server.connection.sent();
    assert_eq!(receive(&mut server), Ok(Received::Starved));
    assert_eq!(server.said().len(), 36);
}

#[test]
fn a_warm_connection_does_not_grow() {
    let mut server = Side::server(Bounds::default());
    let mut sizes = Vec::new();
    for number in 0..2000 {
        let id = 2 * number + 1;
        server.feed(&[headers(id, 0, POST), data(id, END_STREAM, "body")].concat());
        let stream = *server.streams.last().expect("it has just begun");
        {
            let mut head = server.connection.respond(stream, 200, false, &mut server.out).unwrap();
            head.field(b"server", b"x");
        }
        assert_eq!(server.connection.send_data(stream, b"x", true, &mut server.out), Ok(1));
        server.feed(&window_update(0, 1));
        server.forget();
        sizes.push((stream.slot, server.connection.line.capacity(), server.message.fields.capacity()));
    }
    assert!(sizes[1..].iter().all(|size| *size == sizes[1]));
}

proptest! {
    #[test]
    fn any_frames_are_understood_or_refused(
        role in 0u8..2,
        frames in proptest::collection::vec(
            (
                prop_oneof![8 => 0u8..10, 1 => any::<u8>()],
                any::<u8>(),
                0u32..12,
                prop_oneof![
                    Just(block(GET)), Just(block(POST)), Just(b"\x88".to_vec()), Just(b"\x82\x87\x84".to_vec()), Just(vec![0; 4]),
                    Just(vec![0; 8]), Just(block("content-length: 2")), Just(Vec::new()), proptest::collection::vec(any::<u8>(), 0..40),
                ],
            ),
            0..12,
        ),
    ) {
        let mut bytes = vec![role];
        for (kind, flags, stream, payload) in frames {
            bytes.extend_from_slice(&frame(kind, flags & 0x2d, stream, &payload));
        }
        invariants::connection(&bytes);
    }

    #[test]
    fn any_block_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        invariants::block(&bytes);
        let mut framed = vec![0];
        framed.extend_from_slice(&frame(1, END_STREAM | END_HEADERS, 1, &[&block(GET)[..], &bytes].concat()));
        invariants::connection(&framed);
    }
}
