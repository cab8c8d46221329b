//! RFC 9113 §5.2, §6.9: windows, and whose turn it is.

use super::*;

/// A server with answered requests on the first streams, whose client has these windows.
fn answering(streams: u32, stream_window: u32) -> Side {
    let mut server = Side::server(Bounds::default());
    server.feed(&settings(&[(4, stream_window)]));
    for number in 0..streams {
        server.feed(&headers(2 * number + 1, END_STREAM, GET));
        let stream = *server.streams.last().expect("it has just begun");
        assert!(server.connection.respond(stream, 200, false, &mut server.out).is_ok());
    }
    server.forget();
    server
}

#[track_caller]
fn send(server: &mut Side, stream: usize, count: usize, taken: usize) {
    let stream = server.streams[stream];
    let data = vec![b'x'; count];
    assert_eq!(server.connection.send_data(stream, &data, false, &mut server.out), Ok(taken));
}

#[track_caller]
fn check_next(server: &mut Side, expected: Option<usize>) {
    let expected = expected.map(|number| server.streams[number]);
    assert_eq!(server.connection.next_sender(), expected);
}

#[test]
fn data_goes_as_far_as_the_stream_s_window() {
    let mut server = answering(1, 10);
    send(&mut server, 0, 6, 6);
    send(&mut server, 0, 6, 4);
    send(&mut server, 0, 2, 0);
    check_next(&mut server, None);
    assert!(server.connection.waits_for_peer(server.streams[0]));
    server.expect(&[], &["DATA 1 6", "DATA 1 4"]);
    server.feed(&window_update(1, 5));
    server.expect(&["window"], &[]);
    check_next(&mut server, Some(0));
    assert!(!server.connection.waits_for_peer(server.streams[0]), "now it is its own turn");
    let stream = server.streams[0];
    assert_eq!(server.connection.send_data(stream, b"ab", true, &mut server.out), Ok(2));
    server.expect(&[], &["DATA 1 2 end"]);
    check_next(&mut server, None);
    assert_eq!(server.connection.streams(), 0);
}

#[test]
fn the_end_needs_no_window() {
    let mut server = answering(1, 0);
    let stream = server.streams[0];
    assert_eq!(server.connection.send_data(stream, b"", false, &mut server.out), Ok(0));
    assert_eq!(server.connection.send_data(stream, b"", true, &mut server.out), Ok(0));
    server.expect(&[], &["DATA 1 0 end"]);
}

#[test]
fn the_connection_s_window_is_everybody_s() {
    let mut server = answering(3, 1_000_000);
    for (stream, count, taken) in
        [(0, 40_000, 16_375), (0, 30_000, 16_375), (0, 20_000, 16_375), (0, 20_000, 16_375)]
    {
        send(&mut server, stream, count, taken);
    }
    send(&mut server, 0, 100, 35);
    send(&mut server, 1, 100, 0);
    send(&mut server, 2, 100, 0);
    check_next(&mut server, None);
    assert!(server.streams.iter().all(|stream| server.connection.waits_for_peer(*stream)));
    server.forget();
    server.feed(&window_update(0, 150));
    server.expect(&["window"], &[]);
    check_next(&mut server, Some(0));
    send(&mut server, 0, 65, 65);
    // Stream 1 is next; who is not waits.
    send(&mut server, 2, 100, 0);
    check_next(&mut server, Some(1));
    send(&mut server, 1, 100, 85);
    check_next(&mut server, None);
    server.expect(&[], &["DATA 1 65", "DATA 3 85"]);
    server.feed(&window_update(0, 1000));
    check_next(&mut server, Some(2));
}

#[test]
fn streams_take_turns_frame_by_frame() {
    let mut server = answering(4, 1 << 20);
    server.feed(&window_update(0, 1 << 20));
    for stream in 0..4 {
        server.connection.stand_in_line(server.streams[stream]);
    }
    let mut order = Vec::new();
    for _ in 0..8 {
        let stream = server.connection.next_sender().expect("all have windows");
        order.push(stream.id);
        let sent = server.connection.send_data(stream, &[0; 60_000], false, &mut server.out);
        assert_eq!(sent, Ok(16_375));
    }
    assert_eq!(order, [1, 3, 5, 7, 1, 3, 5, 7]);
    // One without data leaves, one is reset, one is ended by the peer; the last goes on.
    server.connection.leave_line(server.streams[1]);
    server.connection.reset(server.streams[0], Code::Cancel, &mut server.out);
    server.feed(&rst_stream(5, 8));
    check_next(&mut server, Some(3));
    send(&mut server, 3, 60_000, 16_375);
    check_next(&mut server, Some(3));
    send(&mut server, 3, 10, 10);
    check_next(&mut server, None);
}

#[test]
fn a_stream_without_a_window_holds_up_nobody() {
    let mut server = answering(2, 10);
    send(&mut server, 0, 20, 10);
    send(&mut server, 1, 8, 8);
    check_next(&mut server, None);
    server.expect(&[], &["DATA 1 10", "DATA 3 8"]);
}

// §6.9.2

#[test]
fn a_smaller_initial_window_takes_back_what_was_given() {
    let mut server = answering(2, 100);
    send(&mut server, 0, 80, 80);
    server.feed(&settings(&[(4, 30)]));
    send(&mut server, 0, 10, 0);
    send(&mut server, 1, 40, 30);
    server.forget();
    // 100 − 80 − 70 = −50.
    server.feed(&window_update(1, 50));
    server.expect(&[], &[]);
    check_next(&mut server, None);
    server.feed(&window_update(1, 1));
    server.expect(&["window"], &[]);
    send(&mut server, 0, 10, 1);
    server.forget();
    server.feed(&settings(&[(4, 35)]));
    server.expect(&["settings"], &["SETTINGS ack"]);
    check_next(&mut server, Some(0));
    send(&mut server, 0, 10, 5);
    check_next(&mut server, Some(1));
    send(&mut server, 1, 10, 5);
    server.expect(&[], &["DATA 1 5", "DATA 3 5"]);
}

#[test]
fn a_stream_in_line_whose_window_was_taken_back_steps_out() {
    let mut server = answering(2, 100);
    server.connection.stand_in_line(server.streams[0]);
    server.connection.stand_in_line(server.streams[1]);
    send(&mut server, 0, 200, 100);
    server.feed(&settings(&[(4, 0)]));
    check_next(&mut server, None);
    assert!(server.connection.waits_for_peer(server.streams[1]));
    server.feed(&window_update(3, 7));
    check_next(&mut server, Some(1));
}

// §6.9.1

#[test]
fn windows_have_a_largest_size() {
    let most = 0x7fff_ffff;
    answering(1, 10).refuses(&window_update(0, most), Fault::FlowControl);
    let mut server = answering(1, 10);
    server.feed(&window_update(1, most));
    server.expect(&["1 malformed Window"], &["RST_STREAM 1 FlowControlError"]);
    let mut server = answering(1, 10);
    server.feed(&window_update(1, most - 10));
    server.refuses(&settings(&[(4, 11)]), Fault::FlowControl);
}

#[test]
fn an_update_of_nothing_is_an_error() {
    answering(1, 10).refuses(&window_update(0, 0), Fault::ZeroUpdate);
    let mut server = answering(1, 10);
    server.feed(&window_update(1, 0));
    server.expect(&["1 malformed Window"], &["RST_STREAM 1 ProtocolError"]);
}

/// A server with small windows and a request whose body comes.
fn receiving() -> Side {
    let mut server =
        Side::server(Bounds { stream_window: 1000, connection_window: 65_535, ..Bounds::default() });
    server.feed(&headers(1, 0, POST));
    server.forget();
    server
}

#[test]
fn what_is_received_and_not_released_uses_up_the_window() {
    let mut server = receiving();
    server.feed(&data(1, 0, &"x".repeat(600)));
    server.feed(&data(1, 0, &"x".repeat(400)));
    assert_eq!(server.said(), Vec::<String>::new());
    server.refuses(&data(1, 0, "x"), Fault::FlowControl);
}

#[test]
fn the_window_opens_again_in_large_steps() {
    let mut server = receiving();
    let stream = Stream { id: 1, slot: 0 };
    server.feed(&data(1, 0, &"x".repeat(1000)));
    server.connection.release(stream, 400, &mut server.out);
    assert_eq!(server.said(), Vec::<String>::new());
    server.connection.release(stream, 200, &mut server.out);
    assert_eq!(server.said(), ["WINDOW_UPDATE 1 600"]);
    server.feed(&data(1, 0, &"x".repeat(600)));
    // More than was received is not believed.
    server.connection.release(stream, 1_000_000, &mut server.out);
    assert_eq!(server.said(), ["WINDOW_UPDATE 1 1000"]);
    server.refuses(&data(1, 0, &"x".repeat(1001)), Fault::FlowControl);
}

#[test]
fn the_connection_s_window_opens_by_what_all_streams_release() {
    let mut server = receiving();
    let text = "x".repeat(1000);
    let mut updates = Vec::new();
    for number in 1..200 {
        let id = 2 * number + 1;
        server.feed(&[headers(id, 0, POST), data(id, 0, &text), data(id, END_STREAM, "")].concat());
        let stream = *server.streams.last().expect("it has just begun");
        match number % 3 {
            0 => server.connection.release(stream, 1000, &mut server.out),
            1 => server.connection.reset(stream, Code::Cancel, &mut server.out),
            // It ends without being read: what it held is given back.
            _ => assert!(server.connection.respond(stream, 200, true, &mut server.out).is_ok()),
        }
        if number % 3 == 0 {
            assert!(server.connection.respond(stream, 200, true, &mut server.out).is_ok());
        }
        updates.extend(server.said().into_iter().filter(|said| said.starts_with("WINDOW_UPDATE 0")));
    }
    assert_eq!(updates, vec!["WINDOW_UPDATE 0 33000"; 6]);
}

#[test]
fn data_that_nobody_wants_is_given_back_to_the_connection() {
    let mut server = receiving();
    server.connection.reset(Stream { id: 1, slot: 0 }, Code::Cancel, &mut server.out);
    server.forget();
    let text = "x".repeat(1000);
    for _ in 0..33 {
        server.feed(&data(1, 0, &text));
    }
    assert_eq!(server.said(), ["WINDOW_UPDATE 0 33000"]);
    // Also what comes in the middle of a frame when its stream goes.
    let mut server = receiving();
    let frame = data(1, 0, &text);
    assert_eq!(server.give(&frame[..509]), Ok(()));
    server.connection.reset(Stream { id: 1, slot: 0 }, Code::Cancel, &mut server.out);
    server.feed(&frame[509..]);
    server.forget();
    for _ in 0..32 {
        server.feed(&data(1, 0, &text));
    }
    assert_eq!(server.said(), ["WINDOW_UPDATE 0 33000"]);
}

#[test]
fn padding_and_malformed_bodies_are_given_back() {
    let mut server = receiving();
    for _ in 0..5 {
        server.feed(&frame(0, PADDED, 1, &[&[199][..], &[0; 199]].concat()));
        server.feed(&data(1, 0, "x"));
    }
    assert_eq!(server.said(), ["WINDOW_UPDATE 1 600"]);
    let mut server = receiving();
    for number in 1..=66 {
        let lines = format!("{POST}\ncontent-length: 1");
        server
            .feed(&[headers(2 * number + 1, 0, &lines), data(2 * number + 1, 0, &"x".repeat(500))].concat());
    }
    let updates = server.said().into_iter().filter(|said| said.starts_with("WINDOW_UPDATE"));
    assert_eq!(updates.collect::<Vec<_>>(), ["WINDOW_UPDATE 0 33000"]);
}

#[test]
fn before_our_settings_are_acknowledged_the_first_window_is_the_usual_one() {
    let mut server =
        Side::new(Connection::server(Bounds { stream_window: 1000, ..Bounds::default() }, &mut Vec::new()));
    server.feed(&[&PREFACE[..], &settings(&[]), &headers(1, 0, POST)].concat());
    server.feed(&data(1, 0, &"x".repeat(16_384)));
    server.feed(&frame(4, ACK, 0, b""));
    server.feed(&headers(3, 0, POST));
    server.refuses(&data(3, 0, &"x".repeat(1001)), Fault::FlowControl);
}

#[test]
fn responses_that_nobody_reads_stop_no_others() {
    let bounds = Bounds { stream_window: 16_000, connection_window: 65_535, ..Bounds::default() };
    let mut client = Side::client(bounds);
    let line = RequestLine { method: b"GET", scheme: b"https", authority: b"a", path: b"/", protocol: None };
    for _ in 0..20 {
        assert!(client.connection.request(&line, true, &mut client.out).is_ok());
    }
    client.forget();
    let mut updates = Vec::new();
    for number in 0..20 {
        let id = 2 * number + 1;
        client.feed(&[headers(id, 0, ":status: 200"), data(id, 0, &"x".repeat(16_000))].concat());
        updates.append(&mut client.said());
    }
    assert_eq!(updates, vec!["WINDOW_UPDATE 0 48000"; 6]);
    // Each is held by its own window.
    client.connection.release(Stream { id: 1, slot: 0 }, 9000, &mut client.out);
    assert_eq!(client.said(), ["WINDOW_UPDATE 1 9000"]);
    client.refuses(&data(3, 0, "x"), Fault::FlowControl);
}
