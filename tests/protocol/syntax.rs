//! RFC 9112 §2, §3 and §5: the request line, the target, Host, header lines.

use std::time::Duration;

use super::Pair;
use crate::harness::Gateway;

/// Every head of `heads` (without its empty line) is refused with 400.
#[track_caller]
fn refused(heads: &[&str]) {
    let pair = Pair::new();
    for head in heads {
        pair.refuses(&format!("{head}\r\n\r\n"), 400);
    }
}

#[test]
fn rfc9112_2_2_empty_lines_before_a_request_are_skipped() {
    let request = Pair::new().passes("\r\n\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(request.line(), "GET /a");
}

#[test]
fn rfc9112_2_2_whitespace_before_the_first_header_is_refused() {
    refused(&["GET / HTTP/1.1\r\n Host: a", "GET / HTTP/1.1\r\n\tX: 1\r\nHost: a"]);
}

#[test]
fn rfc9112_2_2_a_bare_cr_is_refused() {
    refused(&[
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\rTransfer-Encoding: chunked",
        "GET /\r HTTP/1.1\r\nHost: a",
        "GET / HTTP/1.1\r\nHost: a\r\nX\r: 1",
    ]);
}

#[test]
fn rfc9112_2_2_a_bare_lf_is_refused() {
    let pair = Pair::new();
    for raw in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\nX: 1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
    ] {
        pair.refuses(raw, 400);
    }
}

#[test]
fn rfc9112_2_2_a_lenient_listener_takes_a_bare_lf_and_never_forwards_it() {
    let upstream = crate::harness::Upstream::saying("ok");
    let gateway = Gateway::start(format!(
        "listen = {{ address = \"127.0.0.1:0\", lenient = true }}\n[routes]\n\"/\" = \"http://{upstream}\"\n"
    ));
    assert_eq!(gateway.send("GET /a HTTP/1.1\nHost: a\nX-A: 1\n\n").status, 200);
    let request = upstream.request();
    assert_eq!((request.line().as_str(), request.header("x-a")), ("GET /a", Some("1")));
    let bare = request.head.windows(2).any(|two| two[1] == b'\n' && two[0] != b'\r');
    assert!(!bare, "{:?}", String::from_utf8_lossy(&request.head));
}

#[test]
fn rfc9112_3_a_bad_request_line_is_refused() {
    refused(&[
        "GET / HTTP/1.1 \r\nHost: a",
        "GET  / HTTP/1.1\r\nHost: a",
        "GET /  HTTP/1.1\r\nHost: a",
        "GET\t/\tHTTP/1.1\r\nHost: a",
        " GET / HTTP/1.1\r\nHost: a",
        "GET / a HTTP/1.1\r\nHost: a",
        "GET\r\nHost: a",
        "G(T / HTTP/1.1\r\nHost: a",
        "G\0T / HTTP/1.1\r\nHost: a",
        "GET / http/1.1\r\nHost: a",
        "GET / HTTP/1.1x\r\nHost: a",
        "GET / HTTP/+1.1\r\nHost: a",
    ]);
}

#[test]
fn rfc9112_3_another_major_version_is_refused() {
    let pair = Pair::new();
    // Without a version it is HTTP/0.9.
    for version in ["", " HTTP/0.9", " HTTP/2.0", " HTTP/3.0", " HTTP/9.9", " HTTP/01.1"] {
        let mut client = pair.gateway.client();
        client.try_send(format!("GET /{version}\r\nHost: a\r\n\r\n"));
        let status = client.reply().status;
        assert!([400, 505].contains(&status), "{version}: {status}");
        client.expect_closed();
    }
    assert_eq!(pair.upstream.lines(), Vec::<String>::new());
}

#[test]
fn rfc9112_3_any_token_is_a_method() {
    let pair = Pair::new();
    for method in ["PROPFIND", "M-SEARCH", "get", "A!#$%&'*+-.^_`|~1"] {
        assert_eq!(pair.passes(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).method, method);
    }
}

#[test]
fn rfc9112_3_2_a_bad_target_is_refused() {
    refused(&[
        "GET foo HTTP/1.1\r\nHost: a",
        "GET ../a HTTP/1.1\r\nHost: a",
        "GET ?a HTTP/1.1\r\nHost: a",
        "GET /a\0b HTTP/1.1\r\nHost: a",
        "GET /a\x7fb HTTP/1.1\r\nHost: a",
        "GET /a\x01b HTTP/1.1\r\nHost: a",
        "GET http:// HTTP/1.1\r\nHost: a",
        "GET ftp://a/ HTTP/1.1\r\nHost: a",
        "GET * HTTP/1.1\r\nHost: a",
    ]);
}

#[test]
fn rfc9112_3_2_2_the_authority_of_an_absolute_target_replaces_host() {
    let pair = Pair::new();
    for (target, host, path) in [
        ("http://b.example/x?y=1", "b.example", "/x?y=1"),
        ("http://b.example:81/x", "b.example:81", "/x"),
        ("HTTP://b.example", "b.example", "/"),
        ("http://b.example?q", "b.example", "/?q"),
    ] {
        let request = pair.passes(&format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n"));
        assert_eq!((request.target.as_str(), request.header("host")), (path, Some(host)), "{target}");
    }
}

#[test]
fn rfc9112_3_2_2_user_information_in_an_absolute_target_is_refused() {
    refused(&["GET http://user@a/ HTTP/1.1\r\nHost: a", "GET http://a@b:c@d/ HTTP/1.1\r\nHost: a"]);
}

#[test]
fn rfc9112_3_2_3_connect_is_405() {
    let pair = Pair::new();
    let reply = pair.gateway.send("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n");
    assert_eq!(reply.status, 405);
    assert_eq!(pair.upstream.lines(), Vec::<String>::new());
}

#[test]
fn rfc9112_3_2_4_options_of_everything_is_answered() {
    let status = Pair::new().gateway.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").status;
    assert!(status < 500, "{status}");
}

#[test]
fn rfc9112_3_2_a_request_has_exactly_one_valid_host() {
    refused(&[
        "GET / HTTP/1.1",
        "GET / HTTP/1.1\r\nX: 1",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a",
        "GET / HTTP/1.1\r\nHost: a\r\nhost: b",
        "GET / HTTP/1.1\r\nHost: a b",
        "GET / HTTP/1.1\r\nHost: a/b",
        "GET / HTTP/1.1\r\nHost: a@b",
        "GET / HTTP/1.1\r\nHost: a, b",
        "GET / HTTP/1.1\r\nHost: a?b",
        "GET / HTTP/1.1\r\nHost: a#b",
        "GET / HTTP/1.1\r\nHost: a\\b",
        "GET / HTTP/1.1\r\nHost: a:b",
        "GET / HTTP/1.1\r\nHost: a:1:2",
        "GET / HTTP/1.1\r\nHost: a:99999",
        "GET / HTTP/1.1\r\nHost: [::1",
        "GET / HTTP/1.0\r\nHost: a\r\nHost: b",
        "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: b",
    ]);
}

#[test]
fn rfc9112_3_2_hosts_of_every_form_pass_as_they_are() {
    let pair = Pair::new();
    for host in [
        "a",
        "A.Example",
        "a.example:8080",
        "127.0.0.1",
        "[::1]",
        "[::1]:81",
        "a_b.example",
        "xn--bcher-kva.example",
    ] {
        let request = pair.passes(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(request.header("host"), Some(host));
    }
}

#[test]
fn rfc9112_3_2_http_1_0_may_lack_host() {
    let request = Pair::new().passes("GET /a HTTP/1.0\r\n\r\n");
    assert_eq!((request.line().as_str(), request.version.as_str()), ("GET /a", "HTTP/1.1"));
    assert!(request.headers.all("host").len() <= 1);
}

#[test]
fn rfc9112_5_1_whitespace_around_a_header_name_is_refused() {
    refused(&[
        "GET / HTTP/1.1\r\nHost : a",
        "GET / HTTP/1.1\r\nHost: a\r\nX : 1",
        "GET / HTTP/1.1\r\nHost: a\r\nX\t: 1",
        "GET / HTTP/1.1\r\nHost: a\r\nX Y: 1",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 40",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked",
    ]);
}

#[test]
fn rfc9112_5_a_bad_header_line_is_refused() {
    refused(&[
        "GET / HTTP/1.1\r\nHost: a\r\n: 1",
        "GET / HTTP/1.1\r\nHost: a\r\nX",
        "GET / HTTP/1.1\r\nHost: a\r\nX(: 1",
        "GET / HTTP/1.1\r\nHost: a\r\nX\0: 1",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\x01b",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb",
        "GET / HTTP/1.1\r\nHost: a\r\nX\u{e9}: 1",
    ]);
}

#[test]
fn rfc9112_5_2_a_folded_header_is_refused() {
    refused(&[
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2",
        "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n\t2",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked",
    ]);
}

#[test]
fn rfc9110_5_case_order_and_repetition_of_headers_are_kept() {
    let request = Pair::new().passes(
        "GET / HTTP/1.1\r\nx-b: 1\r\nHost: a\r\nX-A: \t2 3\t \r\naCCept: */*\r\nX-B: 4\r\nX-Empty:\r\nx-b: 1, 5\r\n\r\n",
    );
    let mine = ["x-b", "x-a", "accept", "x-empty"];
    let seen: Vec<_> = request
        .headers
        .iter()
        .filter(|(name, _)| mine.contains(&name.to_ascii_lowercase().as_str()))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(seen, ["x-b=1", "X-A=2 3", "aCCept=*/*", "X-B=4", "X-Empty=", "x-b=1, 5"]);
}

#[test]
fn rfc9110_5_5_bytes_above_ascii_pass_in_values() {
    let pair = Pair::new();
    let request = pair.passes("GET / HTTP/1.1\r\nHost: a\r\nX-A: gr\u{fc}n\r\n\r\n");
    assert_eq!(request.header("x-a"), Some("gr\u{fc}n"));
}

#[test]
fn a_request_split_at_any_byte_is_the_same_request() {
    let pair = Pair::new();
    let raw = "POST /a?b=c HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n";
    let whole = pair.passes(raw);
    for cut in 1..raw.len() {
        pair.upstream.forget();
        let mut client = pair.gateway.client();
        assert_eq!(client.send_split(raw.as_bytes(), &[cut]).reply().status, 200, "cut at {cut}");
        let request = pair.upstream.request();
        assert_eq!((request.line(), &request.body), (whole.line(), &whole.body), "cut at {cut}");
    }
}

#[test]
fn a_request_that_arrives_byte_by_byte_is_answered() {
    let pair = Pair::new();
    let raw = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nabcd";
    let cuts: Vec<_> = (1..raw.len()).collect();
    let mut client = pair.gateway.client();
    assert_eq!(client.send_split(raw, &cuts).reply().status, 200);
    assert_eq!(pair.upstream.request().body, b"abcd");
    client.expect_silence(Duration::from_millis(20));
}
