//! Passive health: what failed requests say about an endpoint.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Facts;

/// Failures of one endpoint, shared by all shards of the process.
///
/// Written only when a request fails, and when an endpoint that was out is tried again or comes back; a pick reads
/// one word. It has a cache line of its own. The orderings are relaxed: nothing else hangs on these values, and a
/// failure that another shard sees a moment later does no harm.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Health {
    /// 0 in rotation; otherwise the time it is back, shifted left by one, and [`TRYING`].
    back: AtomicU64,
    /// When the window of failures began, shifted left by [`COUNT_BITS`], and their number in it.
    failures: AtomicU64,
    /// When it last came back; 0 if it was never out.
    since: AtomicU64,
}

/// A request is on its way to see whether the endpoint is well again.
const TRYING: u64 = 1;
const COUNT_BITS: u32 = 16;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

impl Health {
    /// Whether it is out of rotation at `now_ms`.
    #[inline]
    pub fn is_out(&self, now_ms: u64) -> bool {
        self.back_ms() > now_ms
    }

    /// When it is back; 0 or in the past when it is in rotation.
    #[inline]
    pub(super) fn back_ms(&self) -> u64 {
        self.back.load(Relaxed) >> 1
    }

    /// When it last came back into rotation; 0 if it was never out.
    #[inline]
    pub(super) fn back_since_ms(&self) -> u64 {
        self.since.load(Relaxed)
    }

    /// A request to it failed. The `max_fails`th within `fail_timeout`, and any while it is out, takes it out for
    /// `fail_timeout` from now.
    pub fn failed(&self, facts: &Facts, now_ms: u64) {
        if facts.max_fails == 0 {
            return;
        }
        if self.back.load(Relaxed) == 0
            && self.count(facts, now_ms) < u64::from(facts.max_fails).min(COUNT_MAX)
        {
            return;
        }
        self.back.store(back_at(facts, now_ms), Relaxed);
        self.failures.store(0, Relaxed);
    }

    /// Counts a failure and returns how many there are in the window.
    fn count(&self, facts: &Facts, now_ms: u64) -> u64 {
        let next = |failures: u64| {
            let (since_ms, count) = (failures >> COUNT_BITS, failures & COUNT_MAX);
            if count == 0 || now_ms.saturating_sub(since_ms) > facts.fail_timeout_ms {
                now_ms << COUNT_BITS | 1
            } else {
                since_ms << COUNT_BITS | (count + 1).min(COUNT_MAX)
            }
        };
        let mut failures = self.failures.load(Relaxed);
        loop {
            let counted = next(failures);
            match self.failures.compare_exchange_weak(failures, counted, Relaxed, Relaxed) {
                Ok(_) => return counted & COUNT_MAX,
                Err(newer) => failures = newer,
            }
        }
    }

    /// A request to it succeeded. Lets it back in if it was being tried.
    ///
    /// While it is out this says nothing: the request may have been on its way since before the failures. Nor
    /// does a success take back failures within the window, which count together, not in a row (as in nginx).
    pub fn succeeded(&self, now_ms: u64) {
        let back = self.back.load(Relaxed);
        if back & TRYING != 0 {
            // Unless it has failed again in between.
            if self.back.compare_exchange(back, 0, Relaxed, Relaxed).is_ok() {
                self.since.store(now_ms.max(1), Relaxed);
            }
        }
    }

    /// Whether the endpoint that was picked may be used: yes, unless its time is over and another request has just
    /// begun to try it. If nobody has, the caller's request is the one that tries it, and it is out for the others
    /// until that succeeds or another `fail_timeout` has passed.
    #[inline]
    pub(super) fn may_try(&self, facts: &Facts, now_ms: u64) -> bool {
        let back = self.back.load(Relaxed);
        if back == 0 || back >> 1 > now_ms {
            return true;
        }
        let trying = back_at(facts, now_ms) | TRYING;
        self.back.compare_exchange(back, trying, Relaxed, Relaxed).is_ok()
    }
}

/// The word for being out from now on, never 0.
fn back_at(facts: &Facts, now_ms: u64) -> u64 {
    now_ms.saturating_add(facts.fail_timeout_ms).max(1) << 1
}

#[cfg(test)]
mod tests {
    use super::{Facts, Health};

    const FACTS: Facts = Facts { max_fails: 3, ..crate::balance::tests::FACTS };

    #[track_caller]
    fn check(failures_ms: &[u64], now_ms: u64, out: bool) {
        let health = Health::default();
        for &at in failures_ms {
            health.failed(&FACTS, at);
        }
        assert_eq!(health.is_out(now_ms), out, "{failures_ms:?} at {now_ms}");
    }

    #[test]
    fn max_fails_within_fail_timeout_take_it_out_for_fail_timeout() {
        check(&[], 0, false);
        check(&[100, 200], 200, false);
        check(&[100, 200, 300], 300, true);
        check(&[100, 200, 300], 5299, true);
        check(&[100, 200, 300], 5300, false);
        check(&[100, 200, 5101], 5101, false);
        check(&[100, 200, 5100], 5100, true);
        check(&[0, 0, 0], 1, true);
    }

    #[test]
    fn a_failure_while_it_is_out_starts_its_time_again() {
        check(&[100, 200, 300, 4000], 8999, true);
        check(&[100, 200, 300, 4000], 9000, false);
    }

    #[test]
    fn max_fails_0_never_takes_it_out() {
        let health = Health::default();
        for _ in 0..1000 {
            health.failed(&Facts { max_fails: 0, ..FACTS }, 1);
        }
        assert!(!health.is_out(1));
    }

    #[test]
    fn successes_between_failures_do_not_keep_it_in() {
        let health = Health::default();
        for at in [100, 200, 300] {
            health.succeeded(5300);
            health.failed(&FACTS, at);
        }
        assert!(health.is_out(300));
    }

    fn out_until_5300() -> Health {
        let health = Health::default();
        for at in [100, 200, 300] {
            health.failed(&FACTS, at);
        }
        health
    }

    #[test]
    fn one_request_tries_it_when_its_time_is_over() {
        let health = out_until_5300();
        assert!(health.may_try(&FACTS, 5300));
        assert!(health.is_out(5300), "the others wait for what the first finds");
        assert!(health.is_out(10_299));
        assert!(!health.is_out(10_300), "it never said, so another may try");
    }

    #[test]
    fn a_success_of_that_request_lets_it_back_in_with_a_clean_record() {
        let health = out_until_5300();
        assert!(health.may_try(&FACTS, 5300));
        health.succeeded(5300);
        assert!(!health.is_out(5301));
        health.failed(&FACTS, 5302);
        health.failed(&FACTS, 5303);
        assert!(!health.is_out(5303));
        health.failed(&FACTS, 5304);
        assert!(health.is_out(5304));
    }

    #[test]
    fn a_failure_of_that_request_takes_it_out_at_once() {
        let health = out_until_5300();
        assert!(health.may_try(&FACTS, 5300));
        health.failed(&FACTS, 6000);
        assert!(health.is_out(10_999));
        assert!(!health.is_out(11_000));
    }

    #[test]
    fn a_late_success_from_before_the_failures_does_not_let_it_in() {
        let health = out_until_5300();
        health.succeeded(5300);
        assert!(health.is_out(301));
    }
}
