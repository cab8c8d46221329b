//! Offers load to one address and measures how it is answered.

mod connection;
mod generator;
mod summary;
mod tally;
mod tls;

pub use generator::Generator;
pub use summary::{CurvePoint, Latency, Summary, curve, precise};
pub use tally::{Failed, Tally};
pub use tls::Tls;

use std::net::SocketAddr;
use std::time::Duration;

/// What to send, how fast, and what counts as a success.
#[derive(Debug, Clone)]
pub struct Plan {
    pub target: SocketAddr,
    pub requests: Requests,
    pub connections: usize,
    pub pace: Pace,
    pub expect: Expect,
    /// From the moment a request should have been sent to the last byte of its response.
    pub timeout: Duration,
    /// A connection for every request.
    pub new_connections: bool,
    /// `None`: plain TCP.
    pub tls: Option<Tls>,
}

/// When the next request goes out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Each connection sends its next request when it has the answer to the last one. Shows what the server can do;
    /// its latencies say little, as a slow server is asked less often.
    Closed,
    /// Requests are due at even distances whatever the server does, and latency counts from when they are due: what a
    /// crowd of independent clients would see (no coordinated omission).
    Open { per_second: f64 },
}

/// The requests, ready to send; they go out in turn.
#[derive(Debug, Clone)]
pub struct Requests {
    pub texts: Vec<Vec<u8>>,
    /// They are HEAD requests: no body follows the response's head.
    pub to_head: bool,
}

/// The parts that all requests have in common.
#[derive(Debug, Clone, Default)]
pub struct Form {
    pub method: String,
    /// `Host` is the target's own unless it is among these.
    pub headers: Vec<(String, String)>,
    /// Gets its `Content-Length` when it is not empty.
    pub body: Vec<u8>,
}

impl Requests {
    /// One request for each of `places`, which are a host and a path.
    pub fn new(form: &Form, places: &[(String, String)]) -> Self {
        let text = |(host, path): &(String, String)| {
            let mut head = format!("{} {path} HTTP/1.1\r\n", form.method);
            if !form.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
                head += &format!("Host: {host}\r\n");
            }
            for (name, value) in &form.headers {
                head += &format!("{name}: {value}\r\n");
            }
            if !form.body.is_empty() {
                head += &format!("Content-Length: {}\r\n", form.body.len());
            }
            head += "\r\n";
            let mut text = head.into_bytes();
            text.extend_from_slice(&form.body);
            text
        };
        Self { texts: places.iter().map(text).collect(), to_head: form.method == "HEAD" }
    }
}

/// What a response must be to count as a success. A fast error is not a success.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expect {
    /// Any 2xx or 3xx when `None`.
    pub status: Option<u16>,
    pub body_bytes: Option<u64>,
    /// The exact content.
    pub body: Option<Vec<u8>>,
}

impl Expect {
    pub(crate) fn check(&self, status: u16, body_bytes: u64, same: bool) -> Result<(), Failed> {
        let right = match self.status {
            Some(expected) => status == expected,
            None => (200..400).contains(&status),
        };
        if !right {
            return Err(Failed::Status(status));
        }
        let whole = self.body.as_ref().is_none_or(|body| same && body_bytes == body.len() as u64);
        if !whole || self.body_bytes.is_some_and(|expected| body_bytes != expected) {
            return Err(Failed::Body);
        }
        Ok(())
    }
}
