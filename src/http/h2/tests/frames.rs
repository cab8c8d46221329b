//! RFC 9113 §3–§6: what is a frame, and where it may be.

use super::*;

#[track_caller]
fn check_refused(bytes: &[u8], fault: Fault) {
    Side::server(Bounds::default()).refuses(bytes, fault);
    let mut server = Side::server(Bounds::default());
    let last = bytes.iter().find_map(|byte| server.give(&[*byte]).err());
    assert_eq!(last, Some(fault), "in pieces");
}

/// Refused on a connection with an open request on stream 1 and a finished one on 3.
#[track_caller]
fn check_refused_later(bytes: &[u8], fault: Fault) {
    let mut server = Side::server(Bounds::default());
    server.feed(&[headers(1, 0, POST), headers(3, END_STREAM, GET)].concat());
    let stream = server.streams[1];
    assert!(server.connection.respond(stream, 200, true, &mut server.out).is_ok());
    server.refuses(bytes, fault);
}

// §3.4

#[test]
fn a_connection_begins_with_a_preface_and_settings() {
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rX"] {
        let mut out = Vec::new();
        let mut server = Side::new(Connection::server(Bounds::default(), &mut out));
        server.refuses(bytes, Fault::Preface);
    }
    for first in [frame(6, 0, 0, &[0; 8]), headers(1, END_STREAM, GET), frame(4, ACK, 0, b"")] {
        let mut server = Side::new(Connection::server(Bounds::default(), &mut Vec::new()));
        server.refuses(&[&PREFACE[..], &first].concat(), Fault::Preface);
        let mut client = Side::new(Connection::client(Bounds::default(), &mut Vec::new()));
        client.refuses(&first, Fault::Preface);
    }
}

#[test]
fn each_side_says_what_it_takes() {
    let mut server = Side::new(Connection::server(Bounds::default(), &mut Vec::new()));
    server.connection = Connection::server(Bounds::default(), &mut server.out);
    assert_eq!(
        server.out,
        [
            frame(
                4,
                0,
                0,
                &[
                    &[0, 3, 0, 0, 0, 128][..],
                    &[0, 4, 0, 4, 0, 0],
                    &[0, 6, 0, 0, 0x80, 0],
                    &[0, 8, 0, 0, 0, 1]
                ]
                .concat()
            ),
            window_update(0, 1024 * 1024 - 65_535),
        ]
        .concat()
    );
    let mut out = Vec::new();
    Connection::client(Bounds::default(), &mut out);
    let settings = [&[0, 2, 0, 0, 0, 0][..], &[0, 4, 0, 4, 0, 0], &[0, 6, 0, 0, 0x80, 0]].concat();
    assert_eq!(
        out,
        [PREFACE.to_vec(), frame(4, 0, 0, &settings), window_update(0, 1024 * 1024 - 65_535)].concat()
    );
}

// §4.1, §4.2

#[test]
fn unknown_frames_and_flags_are_ignored() {
    let bytes = [
        frame(0xfa, 0xff, 0, b"anything"),
        frame(0xfb, 0, 77, &[0; 16 * 1024]),
        frame(1, END_STREAM | END_HEADERS | 0x50, 1, &block(GET)),
    ];
    check(&bytes.concat(), &["1 GET / at a length 0 end"], &[]);
}

#[test]
fn frames_have_the_size_of_their_type() {
    check_refused(&frame(0, 0, 1, &[0; FRAME_BYTES_MAX + 1]), Fault::FrameSize);
    check_refused(&frame(0xfa, 0, 0, &[0; FRAME_BYTES_MAX + 1]), Fault::FrameSize);
    for (kind, stream, lens) in [
        (2, 1, &[0, 4, 6][..]),
        (3, 1, &[0, 3, 5]),
        (4, 0, &[1, 5, 7]),
        (6, 0, &[0, 7, 9]),
        (7, 0, &[0, 7]),
        (8, 0, &[0, 3, 5]),
    ] {
        for len in lens {
            check_refused(&frame(kind, 0, stream, &vec![0; *len]), Fault::FrameSize);
        }
    }
    check_refused(&frame(4, ACK, 0, &[0; 6]), Fault::FrameSize);
    // Too short for the padding's length, and for the priority.
    check_refused(&frame(1, END_HEADERS | PADDED, 1, b""), Fault::FrameSize);
    check_refused(&frame(1, END_HEADERS | 0x20, 1, b"abcd"), Fault::FrameSize);
}

// §4.3

#[test]
fn blocks_that_cannot_be_decoded_end_the_connection() {
    check_refused(&frame(1, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), Fault::Compression);
    check_refused(&frame(1, END_HEADERS, 1, b"\x82\x3f\xe2\x1f"), Fault::Compression);
    check_refused_later(&frame(1, END_HEADERS | END_STREAM, 1, b"\x80"), Fault::Compression);
}

#[test]
fn a_refused_block_still_counts_for_the_table() {
    // Stream 3 is refused, its field enters the table, and stream 5 refers to it.
    let mut server = Side::server(Bounds { streams_max: 1, ..Bounds::default() });
    let insert = [&block(GET)[..], b"\x40\x03x-a\x01b"].concat();
    let refer = [&block(GET)[..], b"\xbe"].concat();
    server.feed(&[headers(1, END_STREAM, GET), frame(1, END_HEADERS | END_STREAM, 3, &insert)].concat());
    let stream = server.streams[0];
    assert!(server.connection.respond(stream, 200, true, &mut server.out).is_ok());
    server.feed(&frame(1, END_HEADERS | END_STREAM, 5, &refer));
    assert_eq!(server.fields(), ["host: a", "x-a: b"]);
    assert_eq!(server.connection.refused(), 1);
    assert_eq!(server.said(), ["RST_STREAM 3 RefusedStream", "HEADERS 1 :status: 200 end"]);
}

// §5.1

#[test]
fn frames_for_idle_streams_are_misplaced() {
    for bytes in
        [data(1, 0, "x"), rst_stream(1, 8), window_update(1, 1), data(2, 0, "x"), window_update(2, 1)]
    {
        check_refused(&bytes, Fault::Misplaced);
    }
    check(&frame(2, 0, 99, &[0; 5]), &[], &[]);
}

#[test]
fn nothing_follows_the_end_of_a_stream() {
    for bytes in [data(3, 0, "x"), headers(3, END_STREAM, "a: b")] {
        check_refused_later(&bytes, Fault::StreamClosed);
    }
    // Half-closed.
    let ended = headers(5, END_STREAM, GET);
    check_refused_later(&[ended.clone(), data(5, 0, "x")].concat(), Fault::StreamClosed);
    check_refused_later(&[ended, headers(5, END_STREAM, "a: b")].concat(), Fault::StreamClosed);
    // Ended by the peer's own reset.
    let reset = rst_stream(1, 8);
    check_refused_later(&[reset.clone(), data(1, 0, "x")].concat(), Fault::StreamClosed);
    check_refused_later(&[reset, headers(1, END_STREAM, "a: b")].concat(), Fault::StreamClosed);
}

#[test]
fn what_was_on_its_way_to_a_stream_that_ended_is_ignored() {
    let mut server = Side::server(Bounds::default());
    server.feed(&[headers(1, 0, POST), headers(3, END_STREAM, GET)].concat());
    server.connection.reset(server.streams[0], Code::Cancel, &mut server.out);
    server.forget();
    server.feed(
        &[
            data(1, 0, "late"),
            headers(1, END_STREAM, "a: b"),
            window_update(1, 5),
            rst_stream(1, 8),
            frame(2, 0, 1, &[0; 5]),
        ]
        .concat(),
    );
    server.expect(&[], &[]);
}

// §5.1.1

#[test]
fn streams_are_odd_and_go_up() {
    check_refused(&headers(2, END_STREAM, GET), Fault::StreamId);
    check_refused(&[headers(5, END_STREAM, GET), headers(3, END_STREAM, GET)].concat(), Fault::StreamId);
    check_refused(&headers(0, END_STREAM, GET), Fault::Misplaced);
    check(
        &[headers(5, END_STREAM, GET), headers(99, END_STREAM, GET)].concat(),
        &["5 GET / at a length 0 end", "99 GET / at a length 0 end"],
        &[],
    );
}

// §6

#[test]
fn frames_are_on_a_stream_or_on_the_connection() {
    for bytes in [data(0, 0, "x"), frame(2, 0, 0, &[0; 5]), rst_stream(0, 1)] {
        check_refused(&bytes, Fault::Misplaced);
    }
    for (kind, payload) in [(4, &[][..]), (6, &[0; 8]), (7, &[0; 8])] {
        check_refused(&frame(kind, 0, 1, payload), Fault::Misplaced);
    }
}

// §6.1, §6.2

#[test]
fn padding_is_left_out() {
    let post = frame(1, END_HEADERS | PADDED, 1, &[&[3][..], &block(POST), &[0; 3]].concat());
    let padded = frame(0, PADDED | END_STREAM, 1, b"\x04abc\0\0\0\0");
    let mut server = Side::server(Bounds::default());
    server.feed(&[post, frame(0, PADDED, 1, b"\x02\0\0"), padded].concat());
    server.expect(&["1 POST / at a length ?", "1 \"abc\" end"], &[]);
}

#[test]
fn padding_is_not_longer_than_its_frame() {
    check_refused(&frame(1, END_HEADERS | PADDED, 1, &[&[200][..], &block(POST)].concat()), Fault::Padding);
    check_refused_later(&frame(0, PADDED, 1, b"\x04abc"), Fault::Padding);
    check_refused_later(&frame(0, PADDED, 1, b""), Fault::Padding);
    let mut server = Side::server(Bounds::default());
    server.feed(&[headers(1, 0, POST), frame(0, PADDED, 1, b"\x03abc")].concat());
    server.expect(&["1 POST / at a length ?"], &[]);
}

#[test]
fn priorities_are_skipped() {
    let block = [&[0x80, 0, 0, 7, 255][..], &block(GET)].concat();
    let bytes = [frame(2, 0, 1, &[0; 5]), frame(1, END_HEADERS | END_STREAM | 0x20, 1, &block)].concat();
    check(&bytes, &["1 GET / at a length 0 end"], &[]);
}

// §6.4

#[test]
fn a_reset_is_told_and_the_stream_is_gone() {
    let mut server = Side::server(Bounds::default());
    server.feed(&[headers(1, 0, POST), rst_stream(1, 8)].concat());
    server.expect(&["1 POST / at a length ?", "1 reset Cancel"], &[]);
    assert_eq!(server.connection.streams(), 0);
    let stream = server.streams[0];
    server.connection.release(stream, 5, &mut server.out);
    server.connection.reset(stream, Code::Cancel, &mut server.out);
    server.connection.stand_in_line(stream);
    server.connection.leave_line(stream);
    assert_eq!(server.connection.next_sender(), None);
    server.expect(&[], &[]);
}

// §6.5

#[test]
fn settings_are_acknowledged_and_checked() {
    check(
        &settings(&[(1, 0), (2, 0), (3, 7), (4, 5), (5, 16_384), (6, 1), (99, 1)]),
        &["settings"],
        &["SETTINGS ack"],
    );
    check(&frame(4, ACK, 0, b""), &[], &[]);
    check_refused(&settings(&[(2, 2)]), Fault::BadSetting);
    check_refused(&settings(&[(4, 0x8000_0000)]), Fault::FlowControl);
    check_refused(&settings(&[(5, 16_383)]), Fault::BadSetting);
    check_refused(&settings(&[(5, 16_777_216)]), Fault::BadSetting);
    check_refused(&settings(&[(8, 2)]), Fault::BadSetting);
    Side::client(Bounds::default()).refuses(&settings(&[(2, 1)]), Fault::BadSetting);
}

// §6.6

#[test]
fn nobody_pushes() {
    check_refused(&frame(5, END_HEADERS, 1, &[0, 0, 0, 2]), Fault::Push);
    Side::client(Bounds::default()).refuses(&frame(5, END_HEADERS, 1, &[0, 0, 0, 2]), Fault::Push);
}

// §6.7

#[test]
fn pings_are_answered() {
    check(&frame(6, 0, 0, b"\0\0\0\0\0\0\x12\x34"), &[], &["PING ack 1234"]);
    let mut server = Side::server(Bounds::default());
    server.connection.ping(0xabcd, &mut server.out);
    let sent = std::mem::take(&mut server.out);
    let mut client = Side::client(Bounds::default());
    client.feed(&sent);
    server.feed(&client.out);
    server.expect(&["pong abcd"], &[]);
}

// §6.8

#[test]
fn a_server_leaves_in_two_steps_and_loses_no_request() {
    let mut server = Side::server(Bounds::default());
    server.feed(&headers(1, END_STREAM, GET));
    server.connection.drain(&mut server.out);
    let ping = server.out[server.out.len() - 8..].to_vec();
    server.expect(&["1 GET / at a length 0 end"], &["GOAWAY 2147483647 NoError", "PING"]);
    server.connection.drain(&mut server.out);
    server.expect(&[], &[]);
    // It was on its way.
    server.feed(&headers(3, END_STREAM, GET));
    server.feed(&frame(6, ACK, 0, &ping));
    server.expect(&["3 GET / at a length 0 end"], &["GOAWAY 3 NoError"]);
    assert!(!server.connection.is_finished());
    // Too late: ignored, as the client was told.
    server.feed(&[headers(5, 0, POST), data(5, END_STREAM, "x")].concat());
    server.expect(&[], &[]);
    for stream in server.streams.clone() {
        assert!(server.connection.respond(stream, 200, true, &mut server.out).is_ok());
    }
    assert!(server.connection.is_finished());
}

#[test]
fn the_last_stream_can_be_named_at_once() {
    let mut server = Side::server(Bounds::default());
    server.feed(&headers(7, END_STREAM, GET));
    server.forget();
    server.connection.go_away(Code::NoError, &mut server.out);
    server.feed(&headers(9, END_STREAM, GET));
    server.expect(&[], &["GOAWAY 7 NoError"]);
}

#[test]
fn a_client_that_leaves_is_told_of() {
    check(&frame(7, 0, 0, b"\0\0\0\0\0\0\0\x02debug"), &["goaway 0 InternalError"], &[]);
}

// §6.10

#[test]
fn a_block_goes_on_in_continuations_only() {
    let block = block(GET);
    let (first, rest) = block.split_at(5);
    let (second, third) = rest.split_at(1);
    let begin = frame(1, END_STREAM, 1, first);
    check(
        &[begin.clone(), frame(9, 0, 1, second), frame(9, END_HEADERS, 1, third)].concat(),
        &["1 GET / at a length 0 end"],
        &[],
    );
    for other in [
        frame(9, END_HEADERS, 3, rest),
        frame(0, 0, 1, b""),
        frame(6, 0, 0, &[0; 8]),
        frame(0xfa, 0, 0, b""),
        headers(3, END_STREAM, GET),
    ] {
        check_refused(&[begin.clone(), other].concat(), Fault::Misplaced);
    }
    check_refused(&frame(9, END_HEADERS, 1, rest), Fault::Misplaced);
    check_refused(&[headers(1, END_STREAM, GET), frame(9, END_HEADERS, 1, rest)].concat(), Fault::Misplaced);
}
