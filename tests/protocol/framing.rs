//! RFC 9112 §6: where a request body ends. A doubt is an error, and nothing of it reaches the upstream.

use super::Pair;

/// Every pair of framing headers of `cases` is refused with 400.
#[track_caller]
fn refused(cases: &[&str]) {
    let pair = Pair::new();
    for case in cases {
        // The body is whole under every reading that somebody might take.
        pair.refuses(&format!("POST / HTTP/1.1\r\nHost: a\r\n{case}\r\n\r\n0\r\n\r\n"), 400);
    }
}

#[test]
fn rfc9112_6_1_length_and_coding_together_are_refused() {
    refused(&[
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "content-length: 5\r\nTRANSFER-ENCODING: Chunked",
        "Content-Length: 5\r\nTransfer-Encoding: identity",
    ]);
}

#[test]
fn rfc9112_6_3_differing_lengths_are_refused() {
    refused(&[
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nX: 1\r\ncontent-length: 0",
        "Content-Length: 5, 6",
        "Content-Length: 5\r\nContent-Length: 05",
    ]);
}

#[test]
fn rfc9112_6_3_only_digits_are_a_length() {
    refused(&[
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length: 0x5",
        "Content-Length: 5a",
        "Content-Length: 5 0",
        "Content-Length: 5.0",
        "Content-Length: \"5\"",
        "Content-Length: \u{665}",
        "Content-Length:",
        "Content-Length: ,",
        "Content-Length: 5,",
        "Content-Length: 18446744073709551616",
        "Content-Length: 99999999999999999999999999999",
    ]);
}

#[test]
fn rfc9112_6_1_codings_other_than_one_final_chunked_are_refused() {
    refused(&[
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: chun ked",
        "Transfer-Encoding:",
    ]);
}

#[test]
fn rfc9112_6_1_a_coding_in_http_1_0_is_refused() {
    Pair::new().refuses("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400);
}

#[test]
fn rfc9112_6_1_underscores_do_not_make_a_framing_header() {
    let pair = Pair::new();
    let request = pair
        .passes("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer_Encoding: chunked\r\n\r\nhi");
    assert_eq!(request.body, b"hi");
}

#[test]
fn rfc9112_6_1_the_name_of_the_coding_has_no_case() {
    let request = Pair::new()
        .passes("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:  cHUNKED \r\n\r\n2\r\nhi\r\n0\r\n\r\n");
    assert_eq!(request.body, b"hi");
}

#[test]
fn rfc9112_6_3_a_length_in_any_spelling_is_passed_on_once() {
    let pair = Pair::new();
    for length in ["Content-Length: 2", "content-length:2", "Content-Length: \t2 "] {
        let request = pair.passes(&format!("POST / HTTP/1.1\r\nHost: a\r\n{length}\r\n\r\nhi"));
        assert_eq!(
            (request.header("content-length"), request.body.as_slice()),
            (Some("2"), &b"hi"[..]),
            "{length}"
        );
    }
}

#[test]
fn rfc9112_6_3_without_either_there_is_no_body() {
    let pair = Pair::new();
    let mut client = pair.gateway.client();
    client.send("POST /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((client.reply().status, client.reply().status), (200, 200));
    assert_eq!(pair.upstream.lines(), ["POST /1", "GET /2"]);
}

#[test]
fn rfc9110_9_3_1_a_get_may_have_a_body() {
    let request = Pair::new().passes("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(request.body, b"hi");
}

#[test]
fn a_body_that_looks_like_a_request_is_a_body() {
    let pair = Pair::new();
    let request = pair.passes(&format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{}",
        super::SMUGGLED.len(),
        super::SMUGGLED
    ));
    assert_eq!(request.body, super::SMUGGLED.as_bytes());
}

#[test]
fn rfc9112_8_a_request_body_that_breaks_off_is_never_a_whole_one() {
    let pair = Pair::new();
    for raw in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhello",
    ] {
        let mut client = pair.gateway.client();
        client.send(raw).half_close();
        // It may be told 400, or just closed: nobody may be listening any more.
        if let Ok(reply) = client.try_reply() {
            assert_eq!(reply.status, 400, "{raw:?}");
        }
        client.expect_closed();
    }
    // A large one is on its way to the upstream when it breaks off.
    let mut client = pair.gateway.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 500000\r\n\r\n").send(vec![b'x'; 300_000]);
    client.half_close();
    drop(client.try_reply());
    pair.upstream.expect_all_ended();
    assert_eq!(pair.upstream.lines(), Vec::<String>::new());
}
