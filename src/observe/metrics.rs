//! What one shard counts. Plain numbers: only the shard writes them, and it gives them away when asked.

use hdrhistogram::Histogram;

use super::{
    PartOutcome, Protocol, StandIn, Why,
    names::{NAMES_MAX, OTHER},
    parts::PartMetrics,
};

/// Routes with numbers of their own in one shard; further ones are counted as `other`.
pub const ROUTES_MAX: usize = 1000;
/// Different (service, status, why) counted for one route; further ones are counted under status 0.
pub const TALLIES_MAX: usize = 64;
/// Longest time told apart, in µs: an hour.
const TIME_US_MAX: u64 = 3_600_000_000;
/// Significant digits of a histogram: values within 1 % of each other may share a bucket.
const DIGITS: u8 = 2;

/// Everything one shard counted since it was last asked.
///
/// The control thread asks with an empty `Metrics` in hand ([`Metrics::hand_over`]), so that nothing is
/// allocated on the shard, and adds what it gets to [`super::Totals`].
#[derive(Default)]
pub struct Metrics {
    pub counters: Counters,
    pub(super) protocols: [u64; Protocol::ALL.len()],
    pub(super) ended: [u64; Ended::ALL.len()],
    /// By route number: where in `routes` it is counted.
    slots: Vec<u16>,
    /// The first is `other`; made at a route's first request.
    pub(super) routes: Vec<RouteMetrics>,
    /// By endpoint number.
    pub(super) endpoints: Vec<[u64; Outcome::ALL.len()]>,
    /// By part number.
    pub(super) parts: Vec<PartMetrics>,
    /// Requests without a good token, by the issuer's number and why.
    pub(super) denied: Vec<((u32, Why), u64)>,
}

/// Events that need no label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Client connections accepted.
    pub connections_opened: u64,
    /// Client connections turned away for lack of room.
    pub connections_refused: u64,
    /// Client connections handed over to a shard with fewer.
    pub connections_handed_over: u64,
    /// Failed `accept` calls (no descriptors, no memory).
    pub accept_errors: u64,
    /// Connections ended by a panic.
    pub panics: u64,
    /// Upstream connections established.
    pub upstream_opened: u64,
    /// Requests that found an idle upstream connection.
    pub upstream_reused: u64,
    /// Idle upstream connections that turned out to be closed when they were wanted.
    pub upstream_stale: u64,
    /// Requests that waited for a place at a service.
    pub queued: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Retries not made because the budget was used up.
    pub retries_refused: u64,
    /// Upgraded connections (WebSocket).
    pub tunnels: u64,
    /// TLS handshakes with clients that were completed, resumed ones included.
    pub tls_handshakes: u64,
    /// Those that a ticket resumed.
    pub tls_resumed: u64,
    /// Those that failed.
    pub tls_failed: u64,
    /// Bytes of parts' answers that were moved from one buffer to another on their way in.
    pub part_bytes_moved: u64,
    /// Tokens that were known already.
    pub tokens_known: u64,
    /// Tokens whose signature was checked, and good.
    pub tokens_verified: u64,
}

/// A gauge is read when the shard is asked; it is not reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Client connections open now.
    pub connections: u64,
    /// Requests between the end of their head and the end of their reply.
    pub requests_in_flight: u64,
    /// Upstream connections waiting for a request.
    pub upstream_idle: u64,
    /// Upstream connections in all.
    pub upstream_open: u64,
    /// Bytes of the buffers that connections hold now.
    pub buffer_bytes: u64,
    /// Bytes of the buffers kept for them.
    pub buffer_stock_bytes: u64,
    /// Verified tokens that are kept.
    pub tokens: u64,
    /// Bytes of them.
    pub token_bytes: u64,
    /// Version of the snapshot the shard reads.
    pub snapshot_version: u64,
}

/// One request that has ended, however it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Number of the route ([`super::Names::route`]), or [`OTHER`].
    pub route: u32,
    /// Number of the service ([`super::Names::service`]), or [`OTHER`] when none was asked.
    pub service: u32,
    /// 0 when no reply head was sent.
    pub status: u16,
    pub why: Why,
    pub protocol: Protocol,
    /// From the first byte of the head to the last of the reply.
    pub duration_us: u64,
    /// The part of it spent in the gateway itself, not waiting for the other sides.
    pub added_us: u64,
    /// Body bytes received from the client.
    pub bytes_in: u64,
    /// Body bytes sent to the client.
    pub bytes_out: u64,
}

/// How one attempt at an endpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// A response head with a status below 500.
    Ok,
    /// A response head with a status from 500.
    Status5xx,
    /// Not connected: refused, unreachable, too slow.
    Connect,
    /// Broke off before or after the head.
    Reset,
    /// No response head in time.
    Timeout,
    /// Not HTTP as we accept it.
    Bad,
    /// The client went away first; says nothing about the endpoint.
    Abandoned,
}

impl Outcome {
    pub const ALL: [Self; 7] =
        [Self::Ok, Self::Status5xx, Self::Connect, Self::Reset, Self::Timeout, Self::Bad, Self::Abandoned];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Status5xx => "5xx",
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Bad => "bad",
            Self::Abandoned => "abandoned",
        }
    }
}

/// Why a client connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Ended {
    /// The client closed it between requests.
    Client,
    /// One side asked for it (`Connection: close`, HTTP/1.0).
    Requested,
    /// Idle for too long.
    Idle,
    /// A head or body that did not arrive, or a reply that was not read, in time.
    Timeout,
    /// After a request whose end is in doubt.
    BadRequest,
    /// The connection broke, or the client left in the middle of a request.
    Reset,
    /// The upstream broke off in the middle of a response.
    Upstream,
    /// A tunnel was closed by one of its sides, or was idle for too long.
    Tunnel,
    /// The gateway stops.
    Drain,
    Panic,
}

impl Ended {
    pub const ALL: [Self; 10] = [
        Self::Client,
        Self::Requested,
        Self::Idle,
        Self::Timeout,
        Self::BadRequest,
        Self::Reset,
        Self::Upstream,
        Self::Tunnel,
        Self::Drain,
        Self::Panic,
    ];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Requested => "requested",
            Self::Idle => "idle",
            Self::Timeout => "timeout",
            Self::BadRequest => "bad_request",
            Self::Reset => "reset",
            Self::Upstream => "upstream",
            Self::Tunnel => "tunnel",
            Self::Drain => "drain",
            Self::Panic => "panic",
        }
    }
}

/// What is counted for one route.
pub(super) struct RouteMetrics {
    pub(super) number: u32,
    pub(super) tallies: Vec<Tally>,
    pub(super) duration: Histogram<u32>,
    pub(super) added: Histogram<u32>,
    pub(super) duration_us: u64,
    pub(super) added_us: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// How many requests ended in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) ending: Ending,
    pub(super) count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Ending {
    pub(super) service: u32,
    pub(super) status: u16,
    pub(super) why: Why,
}

impl Metrics {
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a request that has ended. Allocates only at the first request of a route (bench `observe`).
    pub fn request(&mut self, finished: &Finished) {
        self.protocols[finished.protocol as usize] += 1;
        let slot = self.slot(finished.route);
        let route = &mut self.routes[slot];
        route.tally(Ending { service: finished.service, status: finished.status, why: finished.why });
        let duration_us = finished.duration_us.min(TIME_US_MAX);
        let added_us = finished.added_us.min(TIME_US_MAX);
        // Neither fails: an hour fits, and the histogram grows to what it is given.
        _ = route.duration.record(duration_us);
        _ = route.added.record(added_us);
        route.duration_us += duration_us;
        route.added_us += added_us;
        route.bytes_in += finished.bytes_in;
        route.bytes_out += finished.bytes_out;
    }

    /// Counts one attempt at an endpoint ([`super::Names::endpoint`]).
    pub fn attempt(&mut self, endpoint: u32, outcome: Outcome) {
        let index = index(endpoint);
        if index >= self.endpoints.len() {
            self.endpoints.resize(index + 1, [0; Outcome::ALL.len()]);
        }
        self.endpoints[index][outcome as usize] += 1;
    }

    /// Counts the end of a part of an aggregate ([`super::Names::part`]).
    pub fn part(&mut self, part: u32, outcome: PartOutcome, stand_in: Option<StandIn>, us: u64) {
        let index = index(part);
        if index >= self.parts.len() {
            self.parts.resize_with(index + 1, PartMetrics::default);
        }
        self.parts[index].count(outcome, stand_in, us);
    }

    /// Counts a request that was denied for its token, or for having none; `auth` is [`super::Names::auth`]'s number.
    pub fn denied(&mut self, auth: u32, why: Why) {
        match self.denied.iter_mut().find(|(key, _)| *key == (auth, why)) {
            Some((_, count)) => *count += 1,
            None => self.denied.push(((auth, why), 1)),
        }
    }

    pub fn connection_opened(&mut self) {
        self.counters.connections_opened += 1;
    }

    pub fn connection_closed(&mut self, ended: Ended) {
        self.ended[ended as usize] += 1;
    }

    /// What was counted so far; counting goes on in `spare`, which must be empty (new, or cleared).
    ///
    /// `spare` learns which routes have numbers of their own, so that a route does not change between its own
    /// label and `other`. Nothing is allocated when `spare` came from this shard before; one from another shard
    /// is not used.
    pub fn hand_over(&mut self, mut spare: Self) -> Self {
        if spare.routes.iter().zip(&self.routes).any(|(one, other)| one.number != other.number)
            || spare.routes.len() > self.routes.len()
        {
            spare = Self::new();
        }
        for known in self.routes.iter().skip(spare.routes.len()) {
            spare.routes.push(RouteMetrics::new(known.number));
        }
        spare.slots.clone_from(&self.slots);
        spare.endpoints.resize(self.endpoints.len().max(spare.endpoints.len()), [0; Outcome::ALL.len()]);
        spare.parts.resize_with(self.parts.len().max(spare.parts.len()), PartMetrics::default);
        std::mem::replace(self, spare)
    }

    /// Sets every count to zero and keeps the memory, for the next [`Metrics::hand_over`] of the same shard.
    pub fn clear(&mut self) {
        self.counters = Counters::default();
        self.protocols = Default::default();
        self.ended = Default::default();
        self.endpoints.fill([0; Outcome::ALL.len()]);
        self.parts.fill(PartMetrics::default());
        self.denied.clear();
        for route in self.routes.iter_mut().filter(|route| !route.tallies.is_empty()) {
            route.clear();
        }
    }

    fn slot(&mut self, number: u32) -> usize {
        match self.slots.get(index(number)) {
            Some(&slot) if slot != UNASSIGNED => usize::from(slot),
            _ => self.assign(number),
        }
    }

    #[cold]
    fn assign(&mut self, number: u32) -> usize {
        if self.routes.is_empty() {
            self.routes.push(RouteMetrics::new(OTHER));
            self.slots.push(0);
        }
        let index = index(number);
        if index >= self.slots.len() {
            self.slots.resize(index + 1, UNASSIGNED);
        }
        if index == 0 {
            return 0;
        }
        let slot = if self.routes.len() <= ROUTES_MAX {
            self.routes.push(RouteMetrics::new(number));
            self.routes.len() - 1
        } else {
            0
        };
        self.slots[index] = u16::try_from(slot).expect("ROUTES_MAX fits in 16 bits");
        slot
    }
}

/// In `Metrics::slots`: no request for this route yet.
const UNASSIGNED: u16 = u16::MAX;

/// The place of a number in a table; numbers that were never given out share the first.
fn index(number: u32) -> usize {
    usize::try_from(number).ok().filter(|&index| index <= NAMES_MAX).unwrap_or(0)
}

impl RouteMetrics {
    fn new(number: u32) -> Self {
        // Both start small and grow with the largest value seen, so that 1,000 routes cost kilobytes each, not tens.
        let empty = || Histogram::new(DIGITS).expect("2 digits are within what a histogram has");
        Self {
            number,
            tallies: Vec::new(),
            duration: empty(),
            added: empty(),
            duration_us: 0,
            added_us: 0,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    fn tally(&mut self, ending: Ending) {
        let known = |tallies: &mut Vec<Tally>, ending| {
            tallies.iter_mut().find(|tally| tally.ending == ending).map(|tally| tally.count += 1)
        };
        if known(&mut self.tallies, ending).is_some() {
            return;
        }
        let ending = match self.tallies.len() < TALLIES_MAX {
            true => ending,
            false => Ending { service: OTHER, status: 0, ..ending },
        };
        // The bound may be passed by one entry for each `Why`.
        if known(&mut self.tallies, ending).is_none() {
            self.tallies.push(Tally { ending, count: 1 });
        }
    }

    fn clear(&mut self) {
        self.tallies.clear();
        self.duration.reset();
        self.added.reset();
        self.duration_us = 0;
        self.added_us = 0;
        self.bytes_in = 0;
        self.bytes_out = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(route: u32, status: u16) -> Finished {
        Finished {
            route,
            service: 1,
            status,
            why: Why::Ok,
            protocol: Protocol::Http11,
            duration_us: 1500,
            added_us: 15,
            bytes_in: 10,
            bytes_out: 1024,
        }
    }

    fn counts(metrics: &Metrics) -> Vec<(u32, u64)> {
        let count = |route: &RouteMetrics| route.tallies.iter().map(|tally| tally.count).sum();
        metrics
            .routes
            .iter()
            .map(|route| (route.number, count(route)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }

    #[test]
    fn a_route_beyond_the_bound_is_counted_as_other() {
        let mut metrics = Metrics::new();
        let bound = u32::try_from(ROUTES_MAX).unwrap();
        for route in 1..=bound + 5 {
            metrics.request(&finished(route, 200));
        }
        let counts = counts(&metrics);
        assert_eq!(counts[0], (OTHER, 5));
        assert_eq!(counts.last(), Some(&(bound, 1)));
    }

    #[test]
    fn endings_beyond_the_bound_share_status_0() {
        let mut metrics = Metrics::new();
        for status in 200..400 {
            metrics.request(&finished(1, status));
        }
        let tallies = &metrics.routes[1].tallies;
        assert_eq!(tallies.len(), TALLIES_MAX + 1);
        assert_eq!(tallies.last().map(|tally| (tally.ending.status, tally.count)), Some((0, 136)));
    }

    #[test]
    fn what_is_handed_over_is_counted_once_and_keeps_its_routes() {
        let mut shard = Metrics::new();
        shard.request(&finished(3, 200));
        shard.attempt(2, Outcome::Reset);
        shard.connection_closed(Ended::Idle);

        let mut taken = shard.hand_over(Metrics::new());
        assert_eq!(counts(&taken), [(3, 1)]);
        assert_eq!(counts(&shard), []);
        assert_eq!(shard.routes.len(), taken.routes.len());

        shard.request(&finished(3, 200));
        taken.clear();
        assert_eq!(counts(&taken), []);
        let again = shard.hand_over(taken);
        assert_eq!(counts(&again), [(3, 1)]);
        assert_eq!(again.endpoints, vec![[0; Outcome::ALL.len()]; 3]);
        assert_eq!(again.ended, [0; Ended::ALL.len()]);
    }

    #[test]
    fn a_number_never_given_out_is_other() {
        let mut metrics = Metrics::new();
        metrics.request(&finished(u32::MAX, 200));
        assert_eq!(counts(&metrics), [(OTHER, 1)]);
    }

    #[test]
    fn an_hour_is_the_longest_time() {
        let mut metrics = Metrics::new();
        metrics.request(&Finished { duration_us: u64::MAX / 2, ..finished(1, 200) });
        assert_eq!(metrics.routes[1].duration.len(), 1);
        assert!(metrics.routes[1].duration.max() >= TIME_US_MAX);
    }

    #[test]
    fn every_word_is_listed_in_the_order_of_its_number() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index, "{}", outcome.word());
        }
        for (index, ended) in Ended::ALL.into_iter().enumerate() {
            assert_eq!(ended as usize, index, "{}", ended.word());
        }
    }
}
