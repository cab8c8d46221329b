//! HTTP/2 with clients: everything a request may do over HTTP/1.1 it may do here.

use std::{
    process::Command,
    sync::mpsc,
    time::Duration,
};

use http::HeaderMap;

use crate::harness::{
    Authority, Gateway, PATIENCE, TlsClient, Upstream,
    http2::{Bytes, Http2, get, post, whole},
    ok,
};

/// A gateway before a service.
fn before(upstream: &Upstream) -> Gateway {
    Gateway::start(format!("[routes]\n\"/\" = {{ to = \"http://{upstream}\", max_body = \"64MiB\" }}\n"))
}

#[test]
fn a_request_is_served_and_logged_as_http2() {
    let upstream = Upstream::start(|peer| {
        while let Some(request) = peer.next_request() {
            assert_eq!(request.line(), "GET /a?b=c HTTP/1.1");
            assert_eq!(request.header("Host"), Some("test"));
            peer.send(ok("hello"));
        }
    });
    let gateway = before(&upstream);
    let client = Http2::connect(gateway.address());

    let reply = client.get("/a?b=c");

    assert_eq!((reply.status, reply.text()), (200, "hello"));
    assert!(reply.header("x-request-id").is_some() && reply.header("date").is_some(), "{reply:?}");
    assert!(gateway.log_line("\"/a?b=c\"").contains("HTTP/2.0"));
    assert_eq!(gateway.counter("coregate_requests_by_protocol_total{protocol=\"HTTP/2.0\"}"), 1);
}
