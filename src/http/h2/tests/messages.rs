//! RFC 9113 §8, RFC 8441: what is a message.

use super::*;

/// A request of these header lines is understood like this.
#[track_caller]
fn check_request(lines: &str, told: &str, fields: &[&str]) {
    let mut server = Side::server(Bounds::default());
    server.feed(&headers(1, END_STREAM, lines));
    assert_eq!(server.told, [told], "{lines}");
    assert_eq!(server.fields(), fields, "{lines}");
    assert_eq!(server.said(), Vec::<String>::new());
}

/// A request of these header lines is reset, and the connection goes on.
#[track_caller]
fn check_malformed(lines: &str, why: BadMessage) {
    let next = headers(3, END_STREAM, GET);
    let bytes = [headers(1, END_STREAM, lines), next].concat();
    let told = [format!("1 malformed {why:?}"), "3 GET / at a length 0 end".to_owned()];
    check(&bytes, &told.each_ref().map(String::as_str), &["RST_STREAM 1 ProtocolError"]);
}

#[test]
fn a_request_reads_as_one_of_http_1() {
    check_request(
        ":method: GET\n:scheme: https\n:path: /a/b?c=d\n:authority: example.com:8443\naccept: */*\nx-a: b",
        "1 GET /a/b?c=d at example.com:8443 length 0 end",
        &["host: example.com:8443", "accept: */*", "x-a: b"],
    );
    check_request(
        ":authority: a\n:path: *\n:scheme: http\n:method: OPTIONS",
        "1 OPTIONS * at a length 0 end",
        &["host: a"],
    );
    check_request(
        ":method: PURGE\n:scheme: https\n:path: /\nx-a: b\nhost: example.com",
        "1 PURGE / at example.com length 0 end",
        &["x-a: b", "host: example.com"],
    );
}

#[test]
fn the_lines_of_a_head_lie_as_they_are_written_on_http_1() {
    let mut server = Side::server(Bounds::default());
    let bytes = headers(1, END_STREAM, &format!("{GET}\naccept: */*\ncookie: a=b\nx-c: d"));
    let mut message = Message { bytes: b"before".to_vec(), fields: Vec::new() };
    let received = server.connection.receive(&bytes, &mut 0, &mut message, 0, &mut server.out);
    let Ok(Received::Event(Event::Request { head, .. })) = received else { panic!("{received:?}") };
    let bytes = message.bytes.strip_prefix(b"before").expect("what was there stays");
    assert_eq!(head.len, bytes.len());
    assert_eq!(head.target_text.of(bytes), b"/", "spans count from where the head begins");
    let text = String::from_utf8_lossy(bytes);
    assert!(text.ends_with("\r\nhost: a\r\naccept: */*\r\nx-c: d\r\ncookie: a=b\r\n\r\n"), "{text}");
}

// §8.1

#[test]
fn a_body_comes_in_frames_and_trailers_end_it() {
    let bytes = [
        headers(1, 0, POST),
        data(1, 0, "one"),
        data(1, 0, "two"),
        headers(1, END_STREAM, "x-sum: 6\nte: trailers"),
    ];
    check(
        &bytes.concat(),
        &["1 POST / at a length ?", "1 \"one\"", "1 \"two\"", "1 trailers x-sum: 6, !te: trailers"],
        &[],
    );
    check(
        &[headers(1, 0, POST), data(1, END_STREAM, "")].concat(),
        &["1 POST / at a length ?", "1 \"\" end"],
        &[],
    );
}

#[test]
fn trailers_end_the_stream_and_have_no_pseudo_headers() {
    for (flags, lines, why) in [
        (0, "x-sum: 6", BadMessage::Order),
        (END_STREAM, ":path: /", BadMessage::UnknownPseudo),
        (END_STREAM, ":status: 200", BadMessage::UnknownPseudo),
        (END_STREAM, "X-Sum: 6", BadMessage::FieldName),
        (END_STREAM, "connection: close", BadMessage::ConnectionField),
    ] {
        check(
            &[headers(1, 0, POST), headers(1, flags, lines)].concat(),
            &["1 POST / at a length ?", &format!("1 malformed {why:?}")],
            &["RST_STREAM 1 ProtocolError"],
        );
    }
}

// §8.1.1

#[test]
fn data_is_as_long_as_was_said() {
    let post = headers(1, 0, &format!("{POST}\ncontent-length: 3"));
    let told = "1 POST / at a length 3";
    let reset = ["RST_STREAM 1 ProtocolError"];
    check(&[&post[..], &data(1, END_STREAM, "abc")].concat(), &[told, "1 \"abc\" end"], &[]);
    check(
        &[&post[..], &data(1, 0, "ab"), &data(1, 0, "c"), &headers(1, END_STREAM, "a: b")].concat(),
        &[told, "1 \"ab\"", "1 \"c\"", "1 trailers a: b"],
        &[],
    );
    for (bytes, before) in [
        (data(1, 0, "abcd"), None),
        (data(1, END_STREAM, "ab"), None),
        (data(1, END_STREAM, ""), None),
        (headers(1, END_STREAM, "a: b"), None),
        ([data(1, 0, "abc"), data(1, 0, "d")].concat(), Some("1 \"abc\"")),
    ] {
        let told: Vec<_> =
            [Some(told), before, Some("1 malformed LengthMismatch")].into_iter().flatten().collect();
        check(&[&post[..], &bytes].concat(), &told, &reset);
    }
    check_malformed(&format!("{POST}\ncontent-length: 3"), BadMessage::LengthMismatch);
    check_request(
        &format!("{POST}\ncontent-length: 0"),
        "1 POST / at a length 0 end",
        &["host: a", "content-length: 0"],
    );
}

#[test]
fn only_one_number_is_a_length() {
    for value in ["+3", "3,3", "0x3", "", "18446744073709551616"] {
        check_malformed(&format!("{POST}\ncontent-length: {value}"), BadMessage::Length);
    }
    check_malformed(&format!("{POST}\ncontent-length: 3\ncontent-length: 3"), BadMessage::Length);
}

// §8.2.1

#[test]
fn names_are_tokens_in_lower_case() {
    for name in ["Accept", "x-A", "a b", "a\0", "a\r\nb", "ä", "a(b)", " a", "x-a\u{7f}"] {
        check_malformed(&format!("{GET}\n{}: b", name.replace('\n', "\r")), BadMessage::FieldName);
    }
    // No name at all, which the helper cannot write.
    let bytes = frame(1, END_STREAM | END_HEADERS, 1, &[&block(GET)[..], b"\x00\x00\x01b"].concat());
    check(&bytes, &["1 malformed FieldName"], &["RST_STREAM 1 ProtocolError"]);
}

#[test]
fn values_have_no_control_bytes_and_no_space_at_an_end() {
    let with = |value: &[u8]| {
        let mut bytes = block(GET);
        bytes.extend_from_slice(b"\x00\x01a");
        bytes.push(u8::try_from(value.len()).unwrap());
        bytes.extend_from_slice(value);
        frame(1, END_STREAM | END_HEADERS, 1, &bytes)
    };
    for value in
        [&b"a\rb"[..], b"a\nb", b"a\r\nx-injected: 1", b"a\0", b"\x01", b"\x7f", b" a", b"a ", b"\ta", b"a\t"]
    {
        check(&with(value), &["1 malformed FieldValue"], &["RST_STREAM 1 ProtocolError"]);
    }
    for value in [&b""[..], b"a\tb c", b"\xff\x80"] {
        check(&with(value), &["1 GET / at a length 0 end"], &[]);
    }
    for lines in [":method: G\rT", ":path: /\r\n x", ":authority: a\0"] {
        let mut bytes = block(":scheme: https");
        let (name, value) = lines[1..].split_once(": ").unwrap();
        bytes.extend_from_slice(&[0, u8::try_from(name.len() + 1).unwrap(), b':']);
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(u8::try_from(value.len()).unwrap());
        bytes.extend_from_slice(value.as_bytes());
        let bytes = frame(1, END_STREAM | END_HEADERS, 1, &bytes);
        check(&bytes, &["1 malformed FieldValue"], &["RST_STREAM 1 ProtocolError"]);
    }
}

// §8.2.2

#[test]
fn fields_of_http_1_connections_are_refused() {
    for field in [
        "connection: close",
        "connection: x-a",
        "keep-alive: timeout=5",
        "proxy-connection: keep-alive",
        "transfer-encoding: chunked",
        "upgrade: websocket",
    ] {
        check_malformed(&format!("{POST}\n{field}"), BadMessage::ConnectionField);
    }
    check_malformed(&format!("{POST}\nte: gzip"), BadMessage::Te);
    check_malformed(&format!("{POST}\nte: trailers, gzip"), BadMessage::Te);
    check_request(
        &format!("{GET}\nte: trailers\nhttp2-settings: AAMAAABk"),
        "1 GET / at a length 0 end",
        &["host: a", "!te: trailers", "!http2-settings: AAMAAABk"],
    );
}

// §8.2.3

#[test]
fn crumbs_of_a_cookie_are_joined() {
    check_request(
        &format!("{GET}\ncookie: a=b\nx-c: d\ncookie: e=f\ncookie: g"),
        "1 GET / at a length 0 end",
        &["host: a", "x-c: d", "cookie: a=b; e=f; g"],
    );
}

// §8.3

#[test]
fn pseudo_headers_come_first_once_and_are_known() {
    check_malformed(":method: GET\n:scheme: https\nx-a: b\n:path: /\n:authority: a", BadMessage::LatePseudo);
    for field in [":method: GET", ":scheme: https", ":path: /", ":authority: a"] {
        check_malformed(&format!("{GET}\n{field}"), BadMessage::TwoPseudo);
    }
    for field in [":status: 200", ":host: a", ":: a", ":Path: /"] {
        check_malformed(&format!("{field}\n{GET}"), BadMessage::UnknownPseudo);
    }
}

// §8.3.1

#[test]
fn a_request_says_method_scheme_path_and_host() {
    for lines in [
        "",
        ":scheme: https\n:path: /\n:authority: a",
        ":method: GET\n:path: /\n:authority: a",
        ":method: GET\n:scheme: https\n:authority: a",
        ":method: GET\n:scheme: https\n:path: /",
    ] {
        check_malformed(lines, BadMessage::MissingPseudo);
    }
}

#[test]
fn a_path_is_in_origin_form_without_spaces_and_fragments() {
    for path in ["", "a", "/a b", "/a#b", "http://a/b", "*", "//\u{e4}", "/a\u{7f}", "a:80", "?a"] {
        let why = if path.contains('\u{7f}') { BadMessage::FieldValue } else { BadMessage::Path };
        check_malformed(&format!(":method: GET\n:scheme: https\n:path: {path}\n:authority: a"), why);
    }
}

#[test]
fn a_method_is_a_token_and_a_scheme_is_http() {
    for method in ["", "G T", "GET/", &"M".repeat(33)] {
        check_malformed(
            &format!(":method: {method}\n:scheme: https\n:path: /\n:authority: a"),
            BadMessage::Method,
        );
    }
    for scheme in ["", "ftp", "https:"] {
        check_malformed(
            &format!(":method: GET\n:scheme: {scheme}\n:path: /\n:authority: a"),
            BadMessage::Scheme,
        );
    }
}

#[test]
fn host_says_what_the_authority_says_and_is_one() {
    let request = "1 GET / at example.com length 0 end";
    let lines = ":method: GET\n:scheme: https\n:path: /\n:authority: example.com";
    check_request(&format!("{lines}\nhost: Example.COM"), request, &["host: example.com"]);
    check_malformed(&format!("{lines}\nhost: example.org"), BadMessage::Host);
    check_malformed(&format!("{lines}\nhost: example.com\nhost: example.com"), BadMessage::Host);
    check_malformed(":method: GET\n:scheme: https\n:path: /\nhost: a\nhost: a", BadMessage::Host);
    check_malformed(":method: GET\n:scheme: https\n:path: /\nhost: a b", BadMessage::Host);
    for authority in ["", "user@a", "a:b", "a/b", "a,b"] {
        check_malformed(
            &format!(":method: GET\n:scheme: https\n:path: /\n:authority: {authority}"),
            BadMessage::Authority,
        );
    }
}

// §8.5

#[test]
fn connect_names_an_authority_and_nothing_else() {
    check_request(
        ":method: CONNECT\n:authority: a:443",
        "1 CONNECT a:443 at a:443 length 0 end",
        &["host: a:443"],
    );
    check_malformed(":method: CONNECT\n:authority: a", BadMessage::Authority);
    check_malformed(":method: CONNECT\n:authority: a:443\n:path: /", BadMessage::MissingPseudo);
    check_malformed(":method: CONNECT\n:authority: a:443\n:scheme: https", BadMessage::MissingPseudo);
    check_malformed(":method: CONNECT\nhost: a:443", BadMessage::MissingPseudo);
}

// RFC 8441

const WEBSOCKET: &str = ":method: CONNECT\n:protocol: websocket\n:scheme: https\n:path: /chat\n:authority: a";

#[test]
fn an_extended_connect_reads_as_an_upgrade() {
    let mut server = Side::server(Bounds::default());
    server.feed(&[headers(1, 0, WEBSOCKET), data(1, 0, "frame")].concat());
    server.expect(&["1 GET /chat at a length 0 extended", "1 \"frame\""], &[]);
    let stream = server.streams[0];
    assert!(server.connection.respond(stream, 200, false, &mut server.out).is_ok());
    assert_eq!(server.connection.send_data(stream, b"echo", false, &mut server.out), Ok(4));
    server.expect(&[], &["HEADERS 1 :status: 200", "DATA 1 4"]);
}

#[test]
fn an_extended_connect_is_whole_and_was_offered() {
    check_malformed(&WEBSOCKET.replace("CONNECT", "GET"), BadMessage::MissingPseudo);
    check_malformed(&WEBSOCKET.replace(":path: /chat\n", ""), BadMessage::MissingPseudo);
    let mut server = Side::server(Bounds { extended_connect: false, ..Bounds::default() });
    server.feed(&headers(1, 0, WEBSOCKET));
    server.expect(&["1 malformed UnknownPseudo"], &["RST_STREAM 1 ProtocolError"]);
}

// §8.1, as it is sent

#[test]
fn a_reply_is_sent_without_what_belongs_to_http_1() {
    let mut server = Side::server(Bounds::default());
    server.feed(&headers(1, END_STREAM, GET));
    server.forget();
    let stream = server.streams[0];
    {
        let mut head = server.connection.respond(stream, 103, false, &mut server.out).unwrap();
        head.field(b"Link", b"</a>");
    }
    {
        let mut head = server.connection.respond(stream, 200, false, &mut server.out).unwrap();
        head.lines(
            b"HTTP/1.1 200 a:b\r\nServer: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nX-A:  b\r\nHost: c\r\n\
              Upgrade: d\r\nKeep-Alive: e\r\nTE: trailers\r\nX-Empty: \r\n\r\n",
        );
        head.field(b"X-Split", b" a\r\nb: c\0 ");
    }
    assert_eq!(server.connection.send_data(stream, b"body", false, &mut server.out), Ok(4));
    {
        let mut trailers = server.connection.trailers(stream, &mut server.out).unwrap();
        trailers.field(b"Grpc-Status", b"0");
    }
    server.expect(
        &[],
        &[
            "HEADERS 1 :status: 103, link: </a>",
            "HEADERS 1 :status: 200, server: x, x-a: b, te: trailers, x-empty: , x-split: a  b: c",
            "DATA 1 4",
            "HEADERS 1 grpc-status: 0 end",
        ],
    );
    assert_eq!(server.connection.streams(), 0);
    assert!(server.connection.respond(stream, 200, true, &mut server.out).is_err(), "it is gone");
    assert_eq!(server.connection.send_data(stream, b"x", true, &mut server.out), Err(Gone));
}

#[test]
fn a_second_reply_is_not_sent() {
    let mut server = Side::server(Bounds::default());
    server.feed(&headers(1, 0, POST));
    server.forget();
    let stream = server.streams[0];
    assert!(
        server.connection.send_data(stream, b"x", false, &mut server.out).is_err(),
        "no data before a head"
    );
    assert!(server.connection.respond(stream, 200, true, &mut server.out).is_ok());
    assert!(server.connection.respond(stream, 200, true, &mut server.out).is_err());
    assert!(server.connection.trailers(stream, &mut server.out).is_err());
    server.expect(&[], &["HEADERS 1 :status: 200 end"]);
    assert_eq!(server.connection.streams(), 1, "the request is not complete");
    server.connection.reset(stream, Code::NoError, &mut server.out);
    server.expect(&[], &["RST_STREAM 1 NoError"]);
    server.feed(&[data(1, 0, "late"), headers(1, END_STREAM, "a: b")].concat());
    server.expect(&[], &[]);
}

#[test]
fn a_head_longer_than_a_frame_goes_on_in_others() {
    let mut server = Side::server(Bounds::default());
    server.feed(&headers(1, END_STREAM, GET));
    server.forget();
    let stream = server.streams[0];
    {
        let mut head = server.connection.respond(stream, 200, true, &mut server.out).unwrap();
        for _ in 0..3 {
            head.field(b"x-long", &[b'~'; 12_000]);
        }
    }
    let mut client = Side::client(Bounds {
        rules: Rules { head_bytes_max: 50_000, line_bytes_max: 50_000, headers_max: 100, lenient: false },
        ..Bounds::default()
    });
    let line = RequestLine { method: b"GET", scheme: b"https", authority: b"a", path: b"/", protocol: None };
    assert!(client.connection.request(&line, true, &mut Vec::new()).is_ok());
    let sent = std::mem::take(&mut server.out);
    client.feed(&sent);
    assert_eq!(client.told, ["1 200 Exact(0) end"]);
    assert_eq!(client.message.fields.len(), 3);
}
