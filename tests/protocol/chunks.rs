//! RFC 9112 §7.1: chunks, their extensions, and the trailers after them.

use super::Pair;
use crate::harness::Upstream;

const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

#[track_caller]
fn refused(bodies: &[&str]) {
    let pair = Pair::new();
    for body in bodies {
        pair.refuses(&format!("{HEAD}{body}"), 400);
    }
}

#[test]
fn rfc9112_7_1_a_bad_chunk_size_is_refused() {
    refused(&[
        "\r\nhi\r\n0\r\n\r\n",
        "g\r\nhi\r\n0\r\n\r\n",
        "0x2\r\nhi\r\n0\r\n\r\n",
        "+2\r\nhi\r\n0\r\n\r\n",
        "-2\r\nhi\r\n0\r\n\r\n",
        " 2\r\nhi\r\n0\r\n\r\n",
        "2 2\r\nhi\r\n0\r\n\r\n",
        "2,\r\nhi\r\n0\r\n\r\n",
        "2h\r\nhi\r\n0\r\n\r\n",
        "2\0\r\nhi\r\n0\r\n\r\n",
        "10000000000000002\r\nhi\r\n0\r\n\r\n",
        "fffffffffffffffffffff\r\nhi\r\n0\r\n\r\n",
        ";\r\nhi\r\n0\r\n\r\n",
    ]);
}

#[test]
fn rfc9112_7_1_a_chunk_ends_where_its_size_says() {
    refused(&[
        "2\r\nhi0\r\n\r\n",
        "2\r\nhix\r\n0\r\n\r\n",
        "2\r\nhi\r0\r\n\r\n",
        "2\r\nhi\n0\r\n\r\n",
        "1\r\nhi\r\n0\r\n\r\n",
        "2\r\nhi\rX0\r\n\r\n",
    ]);
}

#[test]
fn rfc9112_7_1_lines_of_chunks_end_with_crlf() {
    refused(&[
        "2\nhi\r\n0\r\n\r\n",
        "2\rhi\r\n0\r\n\r\n",
        "2\r\nhi\r\n0\n\r\n",
        "2\r\nhi\r\n0\r\n\n",
        "2;a\nhi\r\n0\r\n\r\n",
    ]);
}

#[test]
fn rfc9112_7_1_sizes_have_any_case_and_leading_zeros() {
    let pair = Pair::new();
    let text = "x".repeat(26);
    for size in ["1a", "1A", "0001a"] {
        let request = pair.passes(&format!("{HEAD}{size}\r\n{text}\r\n000\r\n\r\n"));
        assert_eq!(request.body, text.as_bytes(), "{size}");
    }
}

#[test]
fn rfc9112_7_1_1_chunk_extensions_are_read_and_not_forwarded() {
    let pair = Pair::new();
    for extension in [";a", ";a=b", ";a=\"b;c\"", ";a=b;c=d", " ; a = b"] {
        // The upstream of the harness reads bare sizes only.
        let request = pair.passes(&format!("{HEAD}2{extension}\r\nhi\r\n0{extension}\r\n\r\n"));
        assert_eq!(request.body, b"hi", "{extension}");
    }
}

#[test]
fn rfc9112_7_1_1_bad_and_endless_chunk_extensions_are_refused() {
    let long = format!("2;{}\r\nhi\r\n0\r\n\r\n", "a".repeat(20_000));
    refused(&["2;a\rb\r\nhi\r\n0\r\n\r\n", "2;a\0\r\nhi\r\n0\r\n\r\n", &long]);
}

#[test]
fn a_chunked_body_of_many_chunks_is_the_same_body() {
    let pair = Pair::new();
    let mut raw = HEAD.to_owned();
    let mut body = String::new();
    for number in 1..400 {
        let part = "abcdefghij".repeat(number % 37 + 1);
        raw += &format!("{:x}\r\n{part}\r\n", part.len());
        body += &part;
    }
    let request = pair.passes(&(raw + "0\r\n\r\n"));
    assert_eq!(request.body, body.as_bytes());
}

#[test]
fn rfc9112_7_1_2_a_trailer_never_becomes_a_header() {
    let pair = Pair::new();
    let request = pair.passes(&format!(
        "{HEAD}2\r\nhi\r\n0\r\nContent-Length: 9\r\nHost: evil\r\nTransfer-Encoding: gzip\r\nX-Forwarded-For: 9.9.9.9\r\nAuthorization: x\r\n\r\n"
    ));
    assert_eq!((request.body.as_slice(), request.header("host")), (&b"hi"[..], Some("a")));
    for name in ["content-length", "host", "transfer-encoding", "x-forwarded-for", "authorization"] {
        assert!(!request.trailers.has(name), "{:?}", request.trailers);
    }
    assert!(!request.headers.has("authorization"));
}

#[test]
fn rfc9112_7_1_2_a_bad_trailer_is_refused() {
    refused(&[
        "2\r\nhi\r\n0\r\nX : 1\r\n\r\n",
        "2\r\nhi\r\n0\r\nX\r\n\r\n",
        "2\r\nhi\r\n0\r\n X: 1\r\n\r\n",
        "2\r\nhi\r\n0\r\nX: a\0b\r\n\r\n",
        "2\r\nhi\r\n0\r\nX: a\nY: b\r\n\r\n",
        "2\r\nhi\r\n0\r\n: 1\r\n\r\n",
    ]);
}

#[test]
fn endless_trailers_are_refused() {
    let pair = Pair::new();
    let mut client = pair.gateway.client();
    client.try_send(format!("{HEAD}2\r\nhi\r\n0\r\n")).try_send("X-T: 1\r\n".repeat(10_000)).try_send("\r\n");
    let status = client.reply().status;
    assert!([400, 431].contains(&status), "{status}");
    client.expect_closed();
    assert_eq!(pair.upstream.lines(), Vec::<String>::new());
}

#[test]
fn rfc9112_7_1_2_trailers_of_a_request_reach_the_upstream() {
    let request = Pair::new().passes(
        "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n",
    );
    assert_eq!((request.body.as_slice(), request.trailers.one("x-sum")), (&b"hi"[..], Some("7")));
}

#[test]
fn rfc9112_7_1_2_trailers_of_a_response_reach_the_client() {
    let pair = Pair::with(Upstream::replying(
        "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 7\r\n\r\n",
    ));
    let reply = pair.gateway.send("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n");
    assert_eq!((reply.text(), reply.trailers.one("x-sum")), ("hi", Some("7")));
}
