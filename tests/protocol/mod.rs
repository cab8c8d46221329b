//! The rules of HTTP/1.1 and HTTP/2, by section of the RFC that states them.

mod chunks;
mod connections;
mod framing;
mod h2_frames;
mod hop_by_hop;
mod responses;
mod semantics;
mod syntax;
mod tunnel;

use crate::harness::{Gateway, Reply, Request, Upstream};

/// A request that must never reach the upstream on its own: it follows what the gateway has to refuse.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// A gateway that sends everything to one upstream.
struct Pair {
    gateway: Gateway,
    upstream: Upstream,
}

impl Pair {
    /// The upstream answers every request with 200 and `ok`.
    fn new() -> Self {
        Self::with(Upstream::saying("ok"))
    }

    fn with(upstream: Upstream) -> Self {
        let gateway = Gateway::start(format!("[routes]\n\"/\" = \"http://{upstream}\"\n"));
        Self { gateway, upstream }
    }

    /// `raw` is answered with `status`, the connection is closed, and the upstream saw no request, neither this one
    /// nor the one that followed it.
    #[track_caller]
    fn refuses(&self, raw: &str, status: u16) {
        let mut client = self.gateway.client();
        client.try_send(format!("{raw}{SMUGGLED}"));
        let reply = client.try_reply().unwrap_or_else(|error| panic!("{raw:?}: {error}"));
        assert_eq!(reply.status, status, "{raw:?}");
        assert_eq!(reply.header("connection"), Some("close"), "{raw:?}");
        client.expect_closed();
        assert_eq!(self.upstream.lines(), Vec::<String>::new(), "{raw:?}");
    }

    /// `raw` is answered with 200; what the upstream saw of it, which is one request.
    #[track_caller]
    fn passes(&self, raw: &str) -> Request {
        self.upstream.forget();
        let reply = self.gateway.send(raw);
        assert_eq!(reply.status, 200, "{raw:?}");
        self.upstream.request()
    }

    #[track_caller]
    fn get(&self) -> Reply {
        self.gateway.get("/")
    }
}
