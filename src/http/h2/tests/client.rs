//! The side that asks.

use super::*;

const LINE: RequestLine<'static> =
    RequestLine { method: b"GET", scheme: b"https", authority: b"a", path: b"/x?y", protocol: None };

#[track_caller]
fn ask(client: &mut Side, line: &RequestLine<'_>, ends: bool) -> Stream {
    let (stream, mut head) = client.connection.request(line, ends, &mut client.out).expect("there is room");
    head.field(b"Accept", b"*/*");
    drop(head);
    stream
}

/// A response in raw frames to a request with this method is told like this.
#[track_caller]
fn check_response(method: &str, bytes: &[u8], told: &[&str], said: &[&str]) {
    let mut client = Side::client(Bounds::default());
    ask(&mut client, &RequestLine { method: method.as_bytes(), ..LINE }, true);
    client.forget();
    client.feed(bytes);
    client.expect(told, said);
}

const OK: &str = ":status: 200";

#[test]
fn a_request_is_written_with_its_pseudo_headers_first() {
    let mut client = Side::client(Bounds::default());
    ask(&mut client, &LINE, true);
    let stream =
        ask(&mut client, &RequestLine { method: b"POST", scheme: b"http", path: b"/", ..LINE }, false);
    assert_eq!(client.connection.send_data(stream, b"body", true, &mut client.out), Ok(4));
    let websocket = RequestLine { method: b"CONNECT", protocol: Some(b"websocket"), ..LINE };
    ask(&mut client, &websocket, false);
    client.expect(
        &[],
        &[
            "HEADERS 1 :method: GET, :scheme: https, :path: /x?y, :authority: a, accept: */* end",
            "HEADERS 3 :method: POST, :scheme: http, :path: /, :authority: a, accept: */*",
            "DATA 3 4 end",
            "HEADERS 5 :method: CONNECT, :protocol: websocket, :scheme: https, :path: /x?y, :authority: a, accept: */*",
        ],
    );
}

#[test]
fn a_response_reads_as_one_of_http_1() {
    let lines = format!("{OK}\ncontent-type: text/plain\nset-cookie: a\nset-cookie: b");
    let mut client = Side::client(Bounds::default());
    ask(&mut client, &LINE, true);
    client.forget();
    client.feed(&[headers(1, 0, &lines), data(1, 0, "body")].concat());
    assert_eq!(client.fields(), ["content-type: text/plain", "set-cookie: a", "set-cookie: b"]);
    client.feed(&headers(1, END_STREAM, "grpc-status: 0\ncontent-length: 3"));
    client.expect(&["1 200 Chunked", "1 \"body\"", "1 trailers grpc-status: 0, !content-length: 3"], &[]);
    assert_eq!(client.connection.streams(), 0);
}

#[test]
fn a_body_has_the_length_that_its_head_and_its_request_say() {
    let length = format!("{OK}\ncontent-length: 3");
    let with = |lines: &str, bytes: Vec<u8>| [headers(1, 0, lines), bytes].concat();
    check_response(
        "GET",
        &with(&length, data(1, END_STREAM, "abc")),
        &["1 200 Exact(3)", "1 \"abc\" end"],
        &[],
    );
    check_response("GET", &headers(1, END_STREAM, OK), &["1 200 Exact(0) end"], &[]);
    check_response("HEAD", &headers(1, END_STREAM, &length), &["1 200 Exact(0) end"], &[]);
    check_response(
        "GET",
        &headers(1, END_STREAM, ":status: 304\ncontent-length: 3"),
        &["1 304 Exact(0) end"],
        &[],
    );
    let reset = ["RST_STREAM 1 ProtocolError"];
    for (method, lines, bytes, told) in [
        ("GET", &length[..], data(1, END_STREAM, "ab"), "1 200 Exact(3)"),
        ("GET", &length, data(1, 0, "abcd"), "1 200 Exact(3)"),
        ("HEAD", &length, data(1, END_STREAM, "abc"), "1 200 Exact(0)"),
        ("GET", ":status: 204", data(1, END_STREAM, "abc"), "1 204 Exact(0)"),
    ] {
        check_response(method, &with(lines, bytes), &[told, "1 malformed LengthMismatch"], &reset);
    }
    check_response("GET", &headers(1, END_STREAM, &length), &["1 malformed LengthMismatch"], &reset);
}

#[test]
fn informational_responses_come_before_the_final_one() {
    let bytes =
        [headers(1, 0, ":status: 100"), headers(1, 0, ":status: 103\nlink: a"), headers(1, END_STREAM, OK)];
    check_response("GET", &bytes.concat(), &["1 100 Exact(0)", "1 103 Exact(0)", "1 200 Exact(0) end"], &[]);
}

#[test]
fn what_is_no_response_is_reset() {
    let reset = ["RST_STREAM 1 ProtocolError"];
    for (bytes, why) in [
        (headers(1, 0, ":status: 101"), "Status"),
        (headers(1, END_STREAM, ":status: 100"), "Status"),
        (headers(1, 0, ":status: 20"), "Status"),
        (headers(1, 0, ":status: 2000"), "Status"),
        (headers(1, 0, ":status: 099"), "Status"),
        (headers(1, 0, "a: b"), "MissingPseudo"),
        (headers(1, 0, ":status: 200\n:status: 200"), "TwoPseudo"),
        (headers(1, 0, "a: b\n:status: 200"), "LatePseudo"),
        (headers(1, 0, ":status: 200\n:path: /"), "UnknownPseudo"),
        (headers(1, 0, ":status: 200\nconnection: close"), "ConnectionField"),
        (headers(1, 0, ":status: 200\nServer: a"), "FieldName"),
        (headers(1, 0, &format!(":status: 200\na: {}", "x".repeat(9000))), "TooLarge"),
        (data(1, 0, "early"), "Order"),
    ] {
        check_response("GET", &bytes, &[&format!("1 malformed {why}")], &reset);
    }
    let second = [headers(1, 0, OK), headers(1, 0, OK)].concat();
    check_response("GET", &second, &["1 200 Chunked", "1 malformed Order"], &reset);
}

#[test]
fn a_response_for_nobody_is_ignored_or_refused() {
    let mut client = Side::client(Bounds::default());
    let stream = ask(&mut client, &LINE, true);
    client.connection.reset(stream, Code::Cancel, &mut client.out);
    client.forget();
    client.feed(&[headers(1, 0, OK), data(1, END_STREAM, "late")].concat());
    client.expect(&[], &[]);
    for bytes in [headers(3, 0, OK), headers(2, 0, OK)] {
        let mut client = Side::client(Bounds::default());
        ask(&mut client, &LINE, true);
        client.refuses(&bytes, Fault::StreamId);
    }
}

#[test]
fn no_more_requests_are_sent_than_the_server_takes() {
    let mut client = Side::client(Bounds::default());
    assert_eq!(client.connection.room(), 100);
    client.feed(&settings(&[(3, 2)]));
    assert_eq!(client.connection.room(), 2);
    let first = ask(&mut client, &LINE, true);
    ask(&mut client, &LINE, true);
    let refused = client.connection.request(&LINE, true, &mut client.out).map(|(stream, _)| stream);
    assert_eq!(refused, Err(NoRoom::Streams));
    client.connection.reset(first, Code::Cancel, &mut client.out);
    assert_eq!(client.connection.room(), 1);
    client.feed(&settings(&[(3, 1000)]));
    assert_eq!(client.connection.room(), 127, "our own bound");
}

#[test]
fn a_refused_request_may_be_sent_again() {
    let bytes = rst_stream(1, 7);
    check_response("POST", &bytes, &["1 reset RefusedStream untouched"], &[]);
    check_response("POST", &rst_stream(1, 8), &["1 reset Cancel"], &[]);
}

#[test]
fn requests_that_a_leaving_server_leaves_out_may_be_sent_again() {
    let mut client = Side::client(Bounds::default());
    for _ in 0..4 {
        ask(&mut client, &LINE, true);
    }
    client.forget();
    let go_away = |last: u32, code: u32| frame(7, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat());
    client.feed(&go_away(0x7fff_ffff, 0));
    client.expect(&["goaway 2147483647 NoError"], &[]);
    let refused = client.connection.request(&LINE, true, &mut client.out).map(|(stream, _)| stream);
    assert_eq!((refused, client.connection.room()), (Err(NoRoom::Leaving), 0));
    client.feed(&go_away(3, 11));
    client.expect(
        &["goaway 3 EnhanceYourCalm", "5 reset RefusedStream untouched", "7 reset RefusedStream untouched"],
        &[],
    );
    assert!(!client.connection.is_finished());
    // A later one cannot take back what an earlier one said.
    client.feed(&go_away(99, 0));
    client
        .feed(&[headers(1, END_STREAM, OK), headers(3, END_STREAM, OK), headers(5, END_STREAM, OK)].concat());
    client.expect(&["goaway 3 NoError", "1 200 Exact(0) end", "3 200 Exact(0) end"], &[]);
    assert!(client.connection.is_finished());
}

#[test]
fn a_client_that_leaves_sends_nothing_more() {
    let mut client = Side::client(Bounds::default());
    ask(&mut client, &LINE, true);
    client.forget();
    client.connection.drain(&mut client.out);
    assert_eq!(client.connection.room(), 0);
    client.feed(&headers(1, END_STREAM, OK));
    client.expect(&["1 200 Exact(0) end"], &[]);
    assert!(client.connection.is_finished());
}

#[test]
fn a_server_may_end_an_upload_that_it_has_answered() {
    let mut client = Side::client(Bounds::default());
    let stream = ask(&mut client, &RequestLine { method: b"POST", ..LINE }, false);
    client.forget();
    client.feed(&[headers(1, END_STREAM, OK), rst_stream(1, 0)].concat());
    client.expect(&["1 200 Exact(0) end", "1 reset NoError"], &[]);
    assert_eq!(client.connection.send_data(stream, b"x", true, &mut client.out), Err(Gone));
}

#[test]
fn websockets_are_for_servers_that_offer_them() {
    let mut client = Side::client(Bounds::default());
    assert!(!client.connection.peer_takes_extended_connect());
    client.feed(&settings(&[(8, 1)]));
    assert!(client.connection.peer_takes_extended_connect());
}
