//! HTTP/2 with services: connections that requests share, and what happens when a service says no.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::Response;

use crate::harness::{
    Gateway,
    http2::{Bytes, Http2, Http2Service, answer, drained, get, post},
    ok, wait_until,
};

fn before(service: &Http2Service) -> Gateway {
    Gateway::start(format!(
        "shards = 1\n[routes]\n\"/\" = {{ to = \"h2://{}\", max_body = \"64MiB\" }}\n",
        service.address
    ))
}

/// Says back what it is sent.
fn echo() -> Http2Service {
    Http2Service::start(|request, respond| async move {
        let (_, mut body) = request.into_parts();
        let Ok((body, _)) = drained(&mut body).await else { return };
        answer_slowly(respond, body).await;
    })
}

/// Answers as fast as the other side takes it.
async fn answer_slowly(mut respond: h2::server::SendResponse<Bytes>, body: Vec<u8>) {
    let Ok(mut stream) = respond.send_response(Response::new(()), body.is_empty()) else { return };
    if !body.is_empty() {
        let _ = stream.send_data(Bytes::from(body), true);
    }
}

#[test]
fn requests_of_both_versions_share_one_connection() {
    let service = echo();
    let gateway = before(&service);
    let client = Http2::connect(gateway.address());
    for size in [0, 1, 1000, 70_000, 3_000_000] {
        let body = vec![b'x'; size];
        let reply = client.send(post("/a"), &body);
        assert!(reply.status == 200 && reply.body == body, "{size}: {}", reply.status);
        let head = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n");
        let reply = gateway.send([head.as_bytes(), &body].concat());
        assert!(reply.status == 200 && reply.body == body, "{size}: {}", reply.status);
    }
    assert_eq!(service.accepted.try_iter().count(), 1);
    assert_eq!(gateway.counter("coregate_upstream_connections_opened_total"), 1);
}

#[test]
fn the_service_learns_what_any_service_learns() {
    let service = Http2Service::start(|request, respond| async move {
        let said = format!(
            "{} {} {:?} {:?}",
            request.method(),
            request.uri(),
            request.headers().get("x-forwarded-for"),
            request.headers().get("x-a"),
        );
        answer(respond, 200, said.as_bytes());
    });
    let gateway = before(&service);
    let said = "GET http://name.example/p?q Some(\"127.0.0.1\") Some(\"b\")";
    let reply = gateway
        .send("GET /p?q HTTP/1.1\r\nHost: name.example\r\nX-A: b\r\nConnection: x-b\r\nX-B: c\r\n\r\n");
    assert_eq!(reply.text(), said);
    let request = http::Request::get("http://name.example/p?q").header("x-a", "b").body(()).unwrap();
    assert_eq!(Http2::connect(gateway.address()).send(request, b"").text(), said);
}

#[test]
fn a_new_connection_is_made_when_the_others_are_full() {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(10);
    let service = Http2Service::with(builder, |_, respond| async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        answer(respond, 200, b"late");
    });
    let gateway = before(&service);
    let client = Http2::connect(gateway.address());
    assert_eq!(client.get("/").text(), "late");
    let responses: Vec<_> = (0..35).map(|_| client.begin(get("/"), true).0).collect();
    for response in responses {
        let reply = client.wait(crate::harness::http2::whole(response)).unwrap();
        assert_eq!((reply.status, reply.text()), (200, "late"));
    }
    let connections = service.accepted.try_iter().count();
    assert!((4..=6).contains(&connections), "{connections}");
}

#[test]
fn a_refused_stream_is_sent_again_also_when_it_is_a_post() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let service = Http2Service::start(move |_, mut respond| {
        let number = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            match number {
                0 | 1 => respond.send_reset(h2::Reason::REFUSED_STREAM),
                _ => answer(respond, 200, b"done"),
            }
        }
    });
    let gateway = before(&service);
    let reply = gateway.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab");
    assert_eq!((reply.status, reply.text()), (200, "done"));
    assert_eq!(seen.load(Ordering::SeqCst), 3);
}

#[test]
fn a_stream_that_is_reset_otherwise_is_a_502_for_a_post() {
    let seen = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&seen);
    let service = Http2Service::start(move |_, mut respond| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move { respond.send_reset(h2::Reason::INTERNAL_ERROR) }
    });
    let gateway = before(&service);
    let reply = gateway.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab");
    assert_eq!((reply.status, seen.load(Ordering::SeqCst)), (502, 1));
}

#[test]
fn a_client_that_leaves_cancels_the_stream_and_keeps_the_connection() {
    let cancelled = Arc::new(AtomicUsize::new(0));
    let seen = Arc::new(AtomicUsize::new(0));
    let (counting, arriving) = (Arc::clone(&cancelled), Arc::clone(&seen));
    let service = Http2Service::start(move |request, mut respond| {
        let (counting, arriving) = (Arc::clone(&counting), Arc::clone(&arriving));
        async move {
            if request.uri().path() == "/ok" {
                return answer(respond, 200, b"ok");
            }
            arriving.fetch_add(1, Ordering::SeqCst);
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            if reason.is_ok_and(|reason| reason == h2::Reason::CANCEL) {
                counting.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let gateway = before(&service);
    let client = Http2::connect(gateway.address());
    let (response, mut stream) = client.begin(get("/"), true);
    let waited = client.wait(async { tokio::time::timeout(Duration::from_millis(200), response).await });
    assert!(waited.is_err(), "nobody answers");
    wait_until("the request to arrive", || seen.load(Ordering::SeqCst) == 1);
    stream.send_reset(h2::Reason::CANCEL);
    client.wait(async { tokio::time::sleep(Duration::from_millis(20)).await });
    wait_until("the stream to be cancelled", || cancelled.load(Ordering::SeqCst) == 1);
    assert_eq!(client.get("/ok").text(), "ok");
    assert_eq!(service.accepted.try_iter().count(), 1);
}

#[test]
fn a_service_that_says_goodbye_gets_no_more_and_loses_none() {
    // The first connection takes one request and says goodbye.
    let service = Http2Service::leaving_after(1, |_, respond| async move { answer(respond, 200, b"ok") });
    let gateway = before(&service);
    for _ in 0..5 {
        let reply = gateway.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\na");
        assert_eq!((reply.status, reply.text()), (200, "ok"));
    }
    assert!(service.accepted.try_iter().count() >= 2);
}

#[test]
fn a_timeout_is_a_504_and_resets_the_stream_only() {
    let service = Http2Service::start(|request, respond| async move {
        if request.uri().path() == "/slow" {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        answer(respond, 200, b"ok");
    });
    let gateway = Gateway::start(format!(
        "shards = 1\n[routes]\n\"/\" = {{ to = \"h2://{}\", timeout = \"300ms\" }}\n",
        service.address
    ));
    assert_eq!(gateway.get("/slow").status, 504);
    assert_eq!(gateway.get("/").text(), "ok");
    assert_eq!(service.accepted.try_iter().count(), 1);
}

#[test]
fn protocol_h1_keeps_an_endpoint_on_http_11() {
    let upstream = crate::harness::Upstream::replying(ok("one"));
    let gateway = Gateway::start(format!(
        "[services]\ns = {{ servers = \"h2://{upstream}\", protocol = \"h1\" }}\n[routes]\n\"/\" = \"s\"\n"
    ));
    assert_eq!(gateway.get("/").text(), "one");
}

#[test]
fn trailers_of_a_response_reach_both_kinds_of_client() {
    let service = Http2Service::start(|_, mut respond| async move {
        let Ok(mut stream) = respond.send_response(Response::new(()), false) else { return };
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", "3".parse().expect("a value"));
        let _ = stream.send_data(Bytes::from_static(b"abc"), false);
        let _ = stream.send_trailers(trailers);
    });
    let gateway = before(&service);
    let reply = Http2::connect(gateway.address()).get("/");
    assert_eq!((reply.text(), reply.trailer("x-sum")), ("abc", Some("3")));
    let reply = gateway.get("/");
    assert_eq!((reply.text(), reply.trailers.one("x-sum")), ("abc", Some("3")));
}

#[test]
fn one_slow_reader_does_not_stop_who_shares_its_connection() {
    let service = Http2Service::start(|request, respond| async move {
        let size = if request.uri().path() == "/large" { 4_000_000 } else { 5 };
        answer_slowly(respond, vec![b'x'; size]).await;
    });
    let gateway = before(&service);
    let slow = Http2::connect(gateway.address());
    let (large, _stream) = slow.begin(get("/large"), true);
    let mut large = slow.wait(large).unwrap().into_body();
    let client = Http2::connect(gateway.address());
    for _ in 0..20 {
        assert_eq!(client.get("/small").body.len(), 5);
    }
    assert_eq!(slow.wait(drained(&mut large)).unwrap().0.len(), 4_000_000);
    assert_eq!(service.accepted.try_iter().count(), 1);
}
