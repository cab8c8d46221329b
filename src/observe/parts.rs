//! What is counted for the parts of aggregates.

use super::totals::BUCKETS_US;

/// How a part of an aggregate ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PartOutcome {
    /// An answer that is JSON.
    Ok,
    /// Not asked: its `when` does not hold, or a value that it needs is not there.
    Skipped,
    /// No endpoint can take a request.
    NoEndpoint,
    /// Every endpoint has as many requests as it may.
    Full,
    /// Not connected: refused, unreachable, too slow.
    Connect,
    /// No answer in time.
    Timeout,
    /// Broke off before or within the answer.
    Reset,
    /// A status from 300 to 399: redirects are not followed.
    Redirect,
    Status4xx,
    Status5xx,
    /// Not HTTP as we accept it, or compressed in a way we do not know.
    Bad,
    /// No JSON, or not the kind of JSON that its place needs.
    NotJson,
    /// More than `max_body`, more values than `max`.
    TooLarge,
    /// Nobody waited for it any more.
    Cancelled,
}

impl PartOutcome {
    pub const ALL: [Self; 14] = [
        Self::Ok,
        Self::Skipped,
        Self::NoEndpoint,
        Self::Full,
        Self::Connect,
        Self::Timeout,
        Self::Reset,
        Self::Redirect,
        Self::Status4xx,
        Self::Status5xx,
        Self::Bad,
        Self::NotJson,
        Self::TooLarge,
        Self::Cancelled,
    ];

    /// One word, the same in logs, metrics and documents. Never changed once published.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::NoEndpoint => "no_endpoint",
            Self::Full => "full",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Redirect => "redirect",
            Self::Status4xx => "4xx",
            Self::Status5xx => "5xx",
            Self::Bad => "bad",
            Self::NotJson => "not_json",
            Self::TooLarge => "too_large",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What stood in for a part that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StandIn {
    Default,
    Stale,
}

impl StandIn {
    pub const ALL: [Self; 2] = [Self::Default, Self::Stale];

    pub const fn word(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Stale => "stale",
        }
    }
}

/// What is counted for one part.
#[derive(Clone, Debug, Default)]
pub(super) struct PartMetrics {
    pub(super) outcomes: [u64; PartOutcome::ALL.len()],
    pub(super) stand_ins: [u64; StandIn::ALL.len()],
    /// Calls by how long they took, in the exported buckets, not cumulative; the last holds what is longer than every bucket.
    pub(super) times: [u64; BUCKETS_US.len() + 1],
    pub(super) sum_us: u64,
}

impl PartMetrics {
    /// Counts one end of a part. One that was not asked has no duration.
    pub(super) fn count(&mut self, outcome: PartOutcome, stand_in: Option<StandIn>, us: u64) {
        self.outcomes[outcome as usize] += 1;
        if let Some(stand_in) = stand_in {
            self.stand_ins[stand_in as usize] += 1;
        }
        if !matches!(outcome, PartOutcome::Skipped | PartOutcome::Cancelled) {
            self.times[BUCKETS_US.partition_point(|&bound| bound < us)] += 1;
            self.sum_us += us;
        }
    }

    pub(super) fn add(&mut self, delta: &Self) {
        let add = |total: &mut [u64], delta: &[u64]| {
            total.iter_mut().zip(delta).for_each(|(total, delta)| *total += delta);
        };
        add(&mut self.outcomes, &delta.outcomes);
        add(&mut self.stand_ins, &delta.stand_ins);
        add(&mut self.times, &delta.times);
        self.sum_us += delta.sum_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_listed_in_the_order_of_its_number() {
        for (index, outcome) in PartOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index, "{}", outcome.word());
        }
        for (index, stand_in) in StandIn::ALL.into_iter().enumerate() {
            assert_eq!(stand_in as usize, index, "{}", stand_in.word());
        }
    }

    #[test]
    fn a_part_that_was_not_asked_has_no_duration() {
        let mut part = PartMetrics::default();
        part.count(PartOutcome::Skipped, None, 0);
        part.count(PartOutcome::Timeout, Some(StandIn::Stale), 30);
        part.count(PartOutcome::Ok, None, 25);
        assert_eq!((part.times[1], part.times[2], part.sum_us), (1, 1, 55));
        assert_eq!(part.times.iter().sum::<u64>(), 2);
        assert_eq!(part.stand_ins, [0, 1]);
    }
}
