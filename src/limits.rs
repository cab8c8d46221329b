//! Bounds and defaults (DESIGN §15). Every queue, buffer and wait takes its bound from here.

use std::time::Duration;

/// Bodies up to this size are gathered before they are sent, so that the request can be tried again.
pub const RETRY_BODY_BYTES_MAX: u64 = 64 * 1024;
/// Informational responses (1xx) a service may send before its final one.
pub const INFORMATIONAL_MAX: u32 = 10;

/// Parts of one aggregate.
pub const PARTS_MAX: usize = 32;
/// One part's answer, where its `max_body` does not say otherwise, and the most it can say.
pub const PART_BYTES: usize = 8 * 1024 * 1024;
pub const PART_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The document of an aggregate, and all the answers it is made of.
pub const AGGREGATE_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Calls of a part with `each`, where its `max` does not say otherwise, and how many at a time.
pub const EACH: usize = 20;
pub const EACH_MAX: usize = 1000;
pub const EACH_PARALLEL: usize = 8;

/// How long an address of a host name is used before the name is looked up again, whatever its records say: a record of 0 s must not
/// become a storm of questions, and one of a week must not outlive its server.
pub const RESOLVE_TTL_MIN: Duration = Duration::from_secs(1);
pub const RESOLVE_TTL_MAX: Duration = Duration::from_secs(300);
/// The same where the system's resolver was asked, which does not say.
pub const RESOLVE_TTL_SYSTEM: Duration = Duration::from_secs(30);
/// For all names of a configuration together, at start and at each reload; those that take longer are down until they are known.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Addresses of one name that become endpoints.
pub const RESOLVE_ADDRESSES_MAX: usize = 256;
/// Calls to a broker under way at once, for each service: `in_flight`.
pub const BROKER_CALLS_MAX: usize = 4096;
/// The largest reply through a broker: `max_reply`.
pub const BROKER_REPLY_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// How long a client that is turned away may take to read why.
pub const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// Connection-wide bounds, configurable under `[defaults]`. Every field names its unit or is a `Duration`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One head in all, in bytes: `max_head`.
    pub head_bytes_max: usize,
    /// The request target, or one header line, in bytes: `max_line`.
    pub line_bytes_max: usize,
    /// Header fields in one head: `max_headers`.
    pub headers_max: usize,
    /// A new connection without a byte, a TLS handshake, and a head from its first byte: `client_header_timeout`.
    pub head_timeout: Duration,
    /// Between requests of one connection: `keepalive_timeout`.
    pub idle_timeout: Duration,
    /// Without a body byte from the side we wait for: `client_body_timeout`.
    pub body_timeout: Duration,
    /// Least body bytes a second, averaged over `body_timeout`: `min_body_rate`.
    pub body_rate_min: u64,
    /// A tunnel in which nothing moves: `tunnel_idle`.
    pub tunnel_idle: Duration,
    /// Time for connections to end when the gateway stops: `drain`.
    pub drain: Duration,
    /// Client connections of the process; `None` = what RLIMIT_NOFILE allows less the pools: `max_connections`.
    pub connections_max: Option<usize>,
    /// TLS handshakes that a shard computes before it looks at everything else again: `handshakes_per_turn`. One costs about 0.2 ms, so
    /// that with 4 whoever waits for the shard waits at most a millisecond longer.
    pub handshakes_per_turn: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes_max: 32 * 1024,
            line_bytes_max: 8 * 1024,
            headers_max: 100,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(15),
            body_rate_min: 1000,
            tunnel_idle: Duration::from_secs(600),
            drain: Duration::from_secs(30),
            connections_max: None,
            handshakes_per_turn: 4,
        }
    }
}
