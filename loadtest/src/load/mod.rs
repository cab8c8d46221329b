//! Offers load to one address and measures how it is answered.

mod connection;
mod generator;
mod h1;
mod h2;
mod pacer;
mod socket;
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
    /// HTTP/2 with so many requests at once on each connection. `None`: HTTP/1.1.
    pub streams: Option<usize>,
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
    /// The same for HTTP/2: names in lower case, and values.
    lists: Vec<Vec<(String, String)>>,
    /// Of every request.
    body: Vec<u8>,
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
        let mut all = Self {
            texts: Vec::new(),
            lists: Vec::new(),
            body: form.body.clone(),
            to_head: form.method == "HEAD",
        };
        all.add(form, places);
        all
    }

    /// One request for each token and place in turn, as many as the longer list has. Without tokens one for each place.
    pub fn with_tokens(form: &Form, places: &[(String, String)], tokens: &[String]) -> Self {
        if tokens.is_empty() {
            return Self::new(form, places);
        }
        let mut all = Self::new(form, &[]);
        for number in 0..tokens.len().max(places.len()) {
            let mut form = form.clone();
            let token = &tokens[number % tokens.len()];
            form.headers.push(("Authorization".to_owned(), format!("Bearer {token}")));
            let place = &places[number % places.len()];
            all.add(&form, std::slice::from_ref(place));
        }
        all
    }

    /// Appends requests of another form; its body is the same.
    pub fn add(&mut self, form: &Form, places: &[(String, String)]) {
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
        let list = |(host, path): &(String, String)| {
            let own_host = form.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("host"));
            let mut list = vec![
                (":method".to_owned(), form.method.clone()),
                (":path".to_owned(), path.clone()),
                (":authority".to_owned(), own_host.map_or(host, |(_, value)| value).clone()),
            ];
            for (name, value) in &form.headers {
                let name = name.to_ascii_lowercase();
                // RFC 9113 §8.2.2: connections are not the business of fields there.
                if !matches!(name.as_str(), "host" | "connection" | "transfer-encoding") {
                    list.push((name, value.clone()));
                }
            }
            if !form.body.is_empty() {
                list.push(("content-length".to_owned(), form.body.len().to_string()));
            }
            list
        };
        self.texts.extend(places.iter().map(text));
        self.lists.extend(places.iter().map(list));
    }

    /// The fields of every request over HTTP/2, pseudo-header fields first (RFC 9113 §8.3).
    fn fields(&self, scheme: &str) -> Vec<Vec<(String, String)>> {
        let with_scheme = |list: &Vec<(String, String)>| {
            let mut list = list.clone();
            list.insert(1, (":scheme".to_owned(), scheme.to_owned()));
            list
        };
        self.lists.iter().map(with_scheme).collect()
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
