//! What a tally comes to: numbers for tables, and a curve for plots.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::Tally;

/// Points of a latency in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub p9999: u64,
    pub max: u64,
    pub mean: f64,
}

impl Latency {
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: histogram.max(),
            mean: histogram.mean(),
        }
    }
}

/// A point of a latency curve: this part of all requests took at most so many microseconds.
pub type CurvePoint = (f64, u64);

/// The curve by percentile, denser where it matters: five points for every halving of the distance to 100 %, as in
/// HdrHistogram's own plots.
pub fn curve(histogram: &Histogram<u64>) -> Vec<CurvePoint> {
    histogram
        .iter_quantiles(5)
        .map(|step| (step.quantile_iterated_to(), step.value_iterated_to().min(histogram.max())))
        .collect()
}

/// The result of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Summary {
    pub seconds: f64,
    /// Requests answered as expected, while it ran.
    pub successes: u64,
    pub failures: BTreeMap<String, u64>,
    /// Due, but without an answer when the run ended.
    pub unanswered: u64,
    /// Attempts to connect that failed.
    pub refused: u64,
    /// TLS handshakes, and those of them that continued an earlier session.
    pub handshakes: u64,
    pub resumed: u64,
    pub per_second: f64,
    /// The rate that was asked for, in open loop.
    pub asked_per_second: Option<f64>,
    pub bytes_per_second: f64,
    pub latency: Latency,
    pub curve: Vec<CurvePoint>,
}

impl Summary {
    pub fn of(tally: &Tally, ran: Duration, asked_per_second: Option<f64>) -> Self {
        let seconds = ran.as_secs_f64();
        Self {
            seconds,
            successes: tally.successes(),
            failures: tally.failures.iter().map(|(failed, count)| (failed.to_string(), *count)).collect(),
            unanswered: tally.unanswered,
            refused: tally.refused,
            handshakes: tally.handshakes,
            resumed: tally.resumed,
            per_second: precise(tally.successes()) / seconds,
            asked_per_second,
            bytes_per_second: precise(tally.bytes) / seconds,
            latency: Latency::of(&tally.latency),
            curve: curve(&tally.latency),
        }
    }

    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }
}

/// A count as a float: exact below 2^53, which no count here reaches.
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub fn precise(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_rises_to_the_maximum() {
        let mut tally = Tally::default();
        (1..=10_000).for_each(|micros| tally.success(Duration::from_micros(micros)));
        let summary = Summary::of(&tally, Duration::from_secs(2), None);
        assert!(summary.curve.windows(2).all(|pair| pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1));
        assert_eq!(summary.curve.last().unwrap(), &(1.0, summary.latency.max));
        let close = |value: u64, expected: f64| (precise(value) - expected).abs() <= expected * 0.001;
        assert!(close(summary.latency.p50, 5000.0) && close(summary.latency.p99, 9900.0), "{summary:?}");
        assert!((summary.per_second - 5000.0).abs() < 0.01);
    }
}
