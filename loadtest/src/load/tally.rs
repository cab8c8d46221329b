//! Counts and latencies of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Longest latency that is told apart, in microseconds; longer ones count as this.
const LATENCY_MICROS_MAX: u64 = 600_000_000;

/// Why a request was not a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failed {
    /// The connection could not be made.
    Connect,
    /// The TLS session could not be made, or broke.
    Tls,
    /// The connection ended before the response did.
    Closed,
    /// What came was not HTTP, or more came than was asked for.
    Malformed,
    Timeout,
    /// An unexpected status.
    Status(u16),
    /// The right status with the wrong body.
    Body,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect => out.write_str("no connection"),
            Self::Tls => out.write_str("TLS"),
            Self::Closed => out.write_str("connection ended early"),
            Self::Malformed => out.write_str("not HTTP"),
            Self::Timeout => out.write_str("timeout"),
            Self::Status(status) => write!(out, "status {status}"),
            Self::Body => out.write_str("wrong body"),
        }
    }
}

/// What happened since the last reset.
#[derive(Clone)]
pub struct Tally {
    /// Latencies in microseconds: of successes, and of requests that nobody waited for any longer, as the least theirs
    /// can have been. Leaving those out would make a server look better the worse it is.
    pub latency: Histogram<u64>,
    pub failures: BTreeMap<Failed, u64>,
    /// Bytes received, heads included.
    pub bytes: u64,
    /// Requests that were due but not answered when the run ended.
    pub unanswered: u64,
    /// Attempts to connect that failed, whether a request waited for them or not.
    pub refused: u64,
    /// TLS handshakes, and those of them that continued an earlier session.
    pub handshakes: u64,
    pub resumed: u64,
}

impl std::fmt::Debug for Tally {
    /// Without the histogram's thousands of numbers.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (successes, failures, unanswered) = (self.successes(), &self.failures, self.unanswered);
        let refused = self.refused;
        write!(
            out,
            "Tally {{ {successes} answered, {failures:?}, {unanswered} unanswered, {refused} refused }}"
        )
    }
}

impl Default for Tally {
    fn default() -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3).expect("the bounds are constants");
        Self {
            latency,
            failures: BTreeMap::new(),
            bytes: 0,
            unanswered: 0,
            refused: 0,
            handshakes: 0,
            resumed: 0,
        }
    }
}

impl Tally {
    pub fn success(&mut self, latency: Duration) {
        self.record(latency);
    }

    fn record(&mut self, latency: Duration) {
        self.latency.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
    }

    pub fn failure(&mut self, failed: Failed) {
        *self.failures.entry(failed).or_default() += 1;
    }

    pub fn timeout(&mut self, age: Duration) {
        self.failure(Failed::Timeout);
        self.record(age);
    }

    pub fn unanswered(&mut self, age: Duration) {
        self.unanswered += 1;
        self.record(age);
    }

    /// Requests that were answered as expected.
    pub fn successes(&self) -> u64 {
        self.latency.len() - self.unanswered - self.failures.get(&Failed::Timeout).unwrap_or(&0)
    }

    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Adds what `other` counted.
    pub fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency).expect("both have the same bounds");
        for (failed, count) in &other.failures {
            *self.failures.entry(*failed).or_default() += count;
        }
        self.bytes += other.bytes;
        self.unanswered += other.unanswered;
        self.refused += other.refused;
        self.handshakes += other.handshakes;
        self.resumed += other.resumed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adding_two_tallies_is_counting_in_one() {
        let (mut one, mut other, mut both) = (Tally::default(), Tally::default(), Tally::default());
        for micros in 1..=1000 {
            let latency = Duration::from_micros(micros * 7);
            if micros % 3 == 0 {
                one.success(latency)
            } else {
                other.success(latency)
            }
            both.success(latency);
        }
        one.failure(Failed::Status(503));
        other.failure(Failed::Status(503));
        other.unanswered(Duration::from_secs(1));
        both.unanswered(Duration::from_secs(1));
        one.add(&other);
        assert!(one.latency == both.latency, "the histograms differ");
        assert_eq!((one.successes(), one.failed(), one.unanswered), (1000, 2, 1));
    }
}
