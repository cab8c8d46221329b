//! Everything counted since the start, over all shards: what `/metrics` shows.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::{
    Ended, Metrics, Outcome, Protocol, Why,
    metrics::{Counters, Ending, RouteMetrics},
    parts::PartMetrics,
};

/// Upper ends of the exported buckets, in µs: from 10 µs, about three a decade, to a minute.
pub const BUCKETS_US: [u64; 21] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// The sums of what shards handed over ([`Metrics::hand_over`]). Belongs to the control thread.
#[derive(Default)]
pub struct Totals {
    pub(super) counters: Counters,
    pub(super) protocols: [u64; Protocol::ALL.len()],
    pub(super) ended: [u64; Ended::ALL.len()],
    /// By route number.
    pub(super) routes: BTreeMap<u32, RouteTotals>,
    /// By endpoint number.
    pub(super) endpoints: Vec<[u64; Outcome::ALL.len()]>,
    /// By part number.
    pub(super) parts: Vec<PartMetrics>,
    pub(super) denied: BTreeMap<(u32, Why), u64>,
}

#[derive(Default)]
pub(super) struct RouteTotals {
    pub(super) endings: BTreeMap<Ending, u64>,
    pub(super) duration: Times,
    pub(super) added: Times,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

/// A histogram with the exported buckets only.
#[derive(Default)]
pub(super) struct Times {
    /// Not cumulative; the last holds what is longer than every bucket.
    pub(super) counts: [u64; BUCKETS_US.len() + 1],
    pub(super) sum_us: u64,
}

impl Totals {
    /// Adds what one shard counted.
    pub fn merge(&mut self, delta: &Metrics) {
        self.counters.add(&delta.counters);
        add(&mut self.protocols, &delta.protocols);
        add(&mut self.ended, &delta.ended);
        for route in delta.routes.iter().filter(|route| !route.tallies.is_empty()) {
            self.routes.entry(route.number).or_default().merge(route);
        }
        for (key, count) in &delta.denied {
            *self.denied.entry(*key).or_default() += count;
        }
        if self.endpoints.len() < delta.endpoints.len() {
            self.endpoints.resize(delta.endpoints.len(), Default::default());
        }
        for (total, delta) in self.endpoints.iter_mut().zip(&delta.endpoints) {
            add(total, delta);
        }
        if self.parts.len() < delta.parts.len() {
            self.parts.resize_with(delta.parts.len(), PartMetrics::default);
        }
        for (total, delta) in self.parts.iter_mut().zip(&delta.parts) {
            total.add(delta);
        }
    }

    /// Requests that have ended, over all routes.
    pub fn requests(&self) -> u64 {
        self.protocols.iter().sum()
    }

    /// Attempts at an endpoint after a request's first.
    pub fn retries(&self) -> u64 {
        self.counters.retries
    }
}

impl RouteTotals {
    fn merge(&mut self, delta: &RouteMetrics) {
        for tally in &delta.tallies {
            *self.endings.entry(tally.ending).or_default() += tally.count;
        }
        self.duration.merge(&delta.duration, delta.duration_us);
        self.added.merge(&delta.added, delta.added_us);
        self.bytes_in += delta.bytes_in;
        self.bytes_out += delta.bytes_out;
    }
}

impl Times {
    fn merge(&mut self, delta: &Histogram<u32>, sum_us: u64) {
        for recorded in delta.iter_recorded() {
            // A value is known to within 1 %; taking the lower end, one that is exactly on a bound is below it.
            let value = delta.lowest_equivalent(recorded.value_iterated_to());
            let bucket = BUCKETS_US.partition_point(|&bound| bound < value);
            self.counts[bucket] += u64::from(recorded.count_at_value());
        }
        self.sum_us += sum_us;
    }
}

impl Counters {
    fn add(&mut self, delta: &Self) {
        // Taken apart so that a counter added to the type cannot be forgotten here.
        let Self {
            connections_opened,
            connections_refused,
            connections_handed_over,
            accept_errors,
            panics,
            upstream_opened,
            upstream_reused,
            upstream_stale,
            queued,
            retries,
            retries_refused,
            tunnels,
            tls_handshakes,
            tls_resumed,
            tls_failed,
            part_bytes_moved,
            tokens_known,
            tokens_verified,
        } = delta;
        self.connections_opened += connections_opened;
        self.connections_refused += connections_refused;
        self.connections_handed_over += connections_handed_over;
        self.accept_errors += accept_errors;
        self.panics += panics;
        self.upstream_opened += upstream_opened;
        self.upstream_reused += upstream_reused;
        self.upstream_stale += upstream_stale;
        self.queued += queued;
        self.retries += retries;
        self.retries_refused += retries_refused;
        self.tunnels += tunnels;
        self.tls_handshakes += tls_handshakes;
        self.tls_resumed += tls_resumed;
        self.tls_failed += tls_failed;
        self.part_bytes_moved += part_bytes_moved;
        self.tokens_known += tokens_known;
        self.tokens_verified += tokens_verified;
    }
}

fn add<const N: usize>(total: &mut [u64; N], delta: &[u64; N]) {
    for (total, delta) in total.iter_mut().zip(delta) {
        *total += delta;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Finished, Why};

    fn shard(times_us: &[u64]) -> Metrics {
        let mut metrics = Metrics::new();
        for &duration_us in times_us {
            metrics.request(&Finished {
                route: 1,
                service: 1,
                status: 200,
                why: Why::Ok,
                protocol: Protocol::Http11,
                duration_us,
                added_us: 1,
                bytes_in: 1,
                bytes_out: 2,
            });
            metrics.attempt(1, Outcome::Ok);
        }
        metrics.counters.retries = 1;
        metrics.connection_closed(Ended::Client);
        metrics
    }

    #[test]
    fn shards_add_up() {
        let mut totals = Totals::default();
        totals.merge(&shard(&[10, 20]));
        totals.merge(&shard(&[10]));
        assert_eq!(totals.requests(), 3);
        assert_eq!(totals.counters.retries, 2);
        assert_eq!(totals.ended[Ended::Client as usize], 2);
        assert_eq!(totals.endpoints[1][Outcome::Ok as usize], 3);
        let route = &totals.routes[&1];
        assert_eq!(route.endings.values().sum::<u64>(), 3);
        assert_eq!((route.bytes_in, route.bytes_out), (3, 6));
        assert_eq!(route.duration.sum_us, 40);
        assert_eq!(route.duration.counts[..3], [2, 1, 0]);
    }

    #[test]
    fn a_time_on_a_bound_is_in_the_bucket_below_it() {
        for (index, &bound) in BUCKETS_US.iter().enumerate() {
            let mut totals = Totals::default();
            totals.merge(&shard(&[bound]));
            assert_eq!(totals.routes[&1].duration.counts[index], 1, "{bound} µs");
        }
    }

    #[test]
    fn a_time_clearly_above_a_bound_is_in_the_next_bucket() {
        for (index, &bound) in BUCKETS_US.iter().enumerate() {
            let mut totals = Totals::default();
            totals.merge(&shard(&[bound + bound / 50 + 1]));
            assert_eq!(totals.routes[&1].duration.counts[index + 1], 1, "{bound} µs");
        }
    }
}
