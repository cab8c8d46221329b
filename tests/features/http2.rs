//! HTTP/2 with clients: everything a request may do over HTTP/1.1 it may do here.

use std::{process::Command, sync::Arc, time::Duration};

use rustix::process::Signal;

use crate::harness::{
    Authority, Coregate, Gateway, TlsClient, Upstream,
    http2::{Bytes, Http2, drained, get, post, whole},
    ok, pause, wait_until,
};

/// A gateway before a service.
fn before(upstream: &Upstream) -> Gateway {
    Gateway::start(format!("[routes]\n\"/\" = {{ to = \"http://{upstream}\", max_body = \"64MiB\" }}\n"))
}

/// Says back what it is sent.
fn echo() -> Upstream {
    Upstream::start(|peer| {
        while let Some(request) = peer.request() {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
            peer.send(head).send(&request.body);
        }
    })
}

#[test]
fn a_request_is_served_and_logged_as_http2() {
    let upstream = Upstream::saying("hello");
    let gateway = before(&upstream);
    let client = Http2::connect(gateway.address());

    let reply = client.get("/a?b=c");

    assert_eq!((reply.status, reply.text()), (200, "hello"));
    assert!(reply.header("x-request-id").is_some() && reply.header("date").is_some(), "{reply:?}");
    let request = upstream.request();
    assert_eq!(request.line(), "GET /a?b=c");
    assert_eq!(request.header("host"), Some("test"));
    assert_eq!(request.header("x-forwarded-host"), Some("test"));
    assert!(gateway.log_line("/a?b=c").contains("HTTP/2.0"));
    assert_eq!(gateway.counter("coregate_protocol_requests_total{protocol=\"HTTP/2.0\"}"), 1);
}

#[test]
fn bodies_of_any_size_go_through_both_ways() {
    let upstream = echo();
    let gateway = before(&upstream);
    let client = Http2::connect(gateway.address());
    for size in [1, 1000, 70_000, 3_000_000] {
        let body = vec![b'x'; size];
        let with_length =
            http::Request::post("http://test/").header("content-length", size).body(()).unwrap();
        for request in [post("/"), with_length] {
            let reply = client.send(request, &body);
            assert!(reply.status == 200 && reply.body == body, "{size}: {}", reply.status);
        }
    }
}

#[test]
fn what_has_no_body_says_so_with_its_head() {
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.request() {
            match &*request.target {
                "/none" => peer.send("HTTP/1.1 204 No Content\r\n\r\n"),
                "/same" => peer.send("HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n"),
                _ => peer.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
            };
        }
    });
    let gateway = before(&upstream);
    let client = Http2::connect(gateway.address());
    assert_eq!(client.get("/none").status, 204);
    assert_eq!(client.get("/same").header("etag"), Some("\"1\""));
    let head = client.send(http::Request::head("http://test/").body(()).unwrap(), b"");
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("5"), 0));
}

#[test]
fn chunks_become_frames_and_their_trailers_the_streams_trailers() {
    let upstream = Upstream::replying(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nX-Sum: 3\r\n\r\n",
    );
    let gateway = before(&upstream);
    let reply = Http2::connect(gateway.address()).get("/");
    assert_eq!((reply.text(), reply.trailer("x-sum")), ("abc", Some("3")));
    assert_eq!(reply.header("transfer-encoding"), None);
}

#[test]
fn trailers_of_a_request_follow_its_last_chunk() {
    let upstream = Upstream::saying("ok");
    let gateway = before(&upstream);
    let client = Http2::connect(gateway.address());
    let (response, mut stream) = client.begin(post("/"), false);
    stream.send_data(Bytes::from_static(b"abc"), false).unwrap();
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x-sum", "3".parse().unwrap());
    stream.send_trailers(trailers).unwrap();
    assert_eq!(client.wait(whole(response)).unwrap().status, 200);
    let request = upstream.request();
    assert_eq!((&*request.body, request.trailers.one("x-sum")), (&b"abc"[..], Some("3")));
}

#[test]
fn a_hundred_requests_at_once_share_a_connection() {
    let upstream = echo();
    let gateway = before(&upstream);
    let client = Http2::connect(gateway.address());
    let responses: Vec<_> = (0..100)
        .map(|number| {
            let (response, mut stream) = client.begin(post("/"), false);
            stream.send_data(Bytes::from(format!("{number}")), true).unwrap();
            response
        })
        .collect();
    for (number, response) in responses.into_iter().enumerate() {
        assert_eq!(client.wait(whole(response)).unwrap().text(), number.to_string());
    }
    assert_eq!(gateway.counter("coregate_connections_opened_total"), 1);
}

#[test]
fn a_stream_nobody_reads_does_not_stop_the_others() {
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.request() {
            let size = if request.target == "/large" { 4_000_000 } else { 5 };
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"));
            peer.try_send(vec![b'x'; size]);
        }
    });
    let gateway = before(&upstream);
    let mut builder = h2::client::Builder::new();
    builder.initial_connection_window_size(8 << 20);
    let client = Http2::with(gateway.address(), builder);
    let (large, _stream) = client.begin(get("/large"), true);
    let mut large = client.wait(large).unwrap().into_body();
    for _ in 0..20 {
        assert_eq!(client.get("/small").body.len(), 5);
    }
    let (body, _) = client.wait(drained(&mut large)).unwrap();
    assert_eq!(body.len(), 4_000_000);
}

#[test]
fn what_the_gateway_says_itself_is_the_same() {
    let gateway = Gateway::start(
        "[routes]\n\"/fixed\" = { status = 200, body = \"fixed\" }\n\"GET /old\" = { redirect = \"/fixed\" }\n\"POST /post\" = { status = 200, body = \"x\" }\n",
    );
    let client = Http2::connect(gateway.address());
    assert_eq!(client.get("/fixed").text(), "fixed");
    assert_eq!(client.get("/old").header("location"), Some("/fixed"));
    let missing = client.get("/nothing");
    assert_eq!((missing.status, missing.header("content-type")), (404, Some("application/problem+json")));
    let wrong = client.get("/post");
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
}

#[test]
fn a_head_over_the_limits_is_431_and_the_connection_goes_on() {
    let gateway = Gateway::start("[routes]\n\"/\" = { status = 200, body = \"hello\" }\n");
    let client = Http2::connect(gateway.address());
    let request = http::Request::get("http://test/").header("x-large", "x".repeat(9000)).body(()).unwrap();
    assert_eq!(client.send(request, b"").status, 431);
    assert_eq!(client.get("/").text(), "hello");
}

#[test]
fn a_client_that_resets_a_stream_ends_what_is_done_for_it_at_once() {
    let upstream = Upstream::hanging();
    let gateway = before(&upstream);
    let client = Http2::connect(gateway.address());
    let (response, mut stream) = client.begin(get("/"), true);
    let waiting = client.wait(async { tokio::time::timeout(Duration::from_millis(300), response).await });
    assert!(waiting.is_err(), "nobody answers");
    wait_until("the request to arrive", || upstream.connections() == 1 && !upstream.lines().is_empty());
    stream.send_reset(h2::Reason::CANCEL);
    // The reset goes out with whatever is said next.
    client.wait(async { tokio::time::sleep(Duration::from_millis(50)).await });
    upstream.expect_all_ended();
    assert!(gateway.log_line("client_closed").contains("HTTP/2.0"));
}

#[test]
fn a_service_that_breaks_off_breaks_its_stream_and_no_other() {
    let upstream = Upstream::start(|peer| {
        if let Some(request) = peer.request() {
            match &*request.target {
                "/broken" => peer.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nab"),
                _ => peer.send(ok("whole")),
            };
        }
    });
    let gateway = before(&upstream);
    let client = Http2::connect(gateway.address());
    let broken = client.try_send(get("/broken"), b"").expect_err("the body is cut");
    assert_eq!(broken.reason(), Some(h2::Reason::INTERNAL_ERROR));
    assert_eq!(client.get("/whole").text(), "whole");
}

#[test]
fn quit_says_goodbye_and_loses_no_request() {
    let upstream = Upstream::start(|peer| {
        while peer.request().is_some() {
            pause(Duration::from_millis(300));
            peer.send(ok("late"));
        }
    });
    let mut coregate = Coregate::serving(&format!("[routes]\n\"/\" = \"http://{upstream}\"\n"), &[]);
    let client = Http2::connect(coregate.address());
    let responses: Vec<_> = (0..5).map(|_| client.begin(get("/"), true).0).collect();
    client.wait(async { tokio::time::sleep(Duration::from_millis(50)).await });
    wait_until("the requests to arrive", || upstream.connections() == 5);
    coregate.signal(Signal::QUIT);
    for response in responses {
        assert_eq!(client.wait(whole(response)).expect("it was begun").text(), "late");
    }
    client.wait(async {
        let mut requests = client.requests.clone();
        while std::future::poll_fn(|cx| requests.poll_ready(cx)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(coregate.ended().success(), "{}", coregate.printed());
}

#[test]
fn alpn_decides_over_tls_and_a_listener_may_say_off() {
    let authority = Authority::new("test");
    let site = authority.site("site", &["a.example"]);
    let gateway = Gateway::start(format!(
        "listen = [\"https://127.0.0.1:0\", \"https://127.0.0.1:0 http2=off\"]\ntls = {{ {site} }}\n[routes]\n\"/\" = {{ status = 200, body = \"hello\" }}\n"
    ));
    let mut config = authority.trust();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let config = Arc::new(config);
    for (address, expected) in gateway.addresses().into_iter().zip([&b"h2"[..], b"http/1.1"]) {
        let client = TlsClient::connect(address, "a.example", &config).unwrap();
        assert_eq!(client.alpn(), Some(expected));
    }
    let [with, without] = gateway.addresses()[..] else { panic!("two listeners") };
    for (address, version) in [(with, "2"), (without, "1.1")] {
        let url = format!("https://{address}/");
        let output = Command::new("curl")
            .args(["--silent", "--insecure", "--http2", "--write-out", " %{http_version}", &url])
            .output()
            .expect("curl is there");
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("hello {version}"));
    }
}

#[test]
fn without_http2_its_preface_is_refused() {
    let gateway = Gateway::start(
        "listen = \"127.0.0.1:0 http2=off\"\n[routes]\n\"/\" = { status = 200, body = \"hello\" }\n",
    );
    let reply = gateway.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(matches!(reply.status, 400 | 505), "{}", reply.status);
}

#[test]
fn an_idle_connection_is_told_to_go() {
    let gateway = Gateway::start(
        "[defaults]\nkeepalive_timeout = \"1s\"\n[routes]\n\"/\" = { status = 200, body = \"hello\" }\n",
    );
    let client = Http2::connect(gateway.address());
    assert_eq!(client.get("/").text(), "hello");
    client.wait(async {
        let mut requests = client.requests.clone();
        while std::future::poll_fn(|cx| requests.poll_ready(cx)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert_eq!(gateway.counter("coregate_connections_closed_total{why=\"idle\"}"), 1);
}
