//! When which request goes out.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Pace;

/// Numbers requests and says when each is due.
pub(super) struct Pacer {
    pace: Pace,
    /// Number of the next request, and of the first that is not to be sent.
    pub(super) next: u64,
    end: u64,
    /// Open loop: request number n is due n / rate after this.
    started: Instant,
    /// Open loop: places for a request that are free, the one that waits longest first.
    pub(super) idle: VecDeque<usize>,
}

impl Pacer {
    pub(super) fn new(pace: Pace, places: usize, started: Instant) -> Self {
        Self { pace, next: 0, end: u64::MAX, started, idle: VecDeque::with_capacity(places) }
    }

    pub(super) const fn is_open_loop(&self) -> bool {
        matches!(self.pace, Pace::Open { .. })
    }

    /// From now on there are only so many requests more.
    pub(super) fn limit(&mut self, more: u64) {
        self.end = self.next.saturating_add(more);
    }

    pub(super) const fn is_over(&self) -> bool {
        self.next >= self.end
    }

    /// The number of the next request among `count` that go out in turn; `None` after the last.
    pub(super) fn take(&mut self, count: usize) -> Option<usize> {
        if self.is_over() {
            return None;
        }
        let number = usize::try_from(self.next % count as u64).expect("below a length");
        self.next += 1;
        Some(number)
    }

    /// Open loop: a free place and when its request is due, if that is not after `now`.
    pub(super) fn due_place(&mut self, now: Instant) -> Option<(usize, Instant)> {
        if self.is_over() {
            return None;
        }
        let due = self.due(self.next);
        if due > now { None } else { Some((self.idle.pop_front()?, due)) }
    }

    /// Open loop: when there is something to send and somewhere to send it.
    pub(super) fn next_due(&self) -> Option<Instant> {
        (!self.idle.is_empty() && !self.is_over()).then(|| self.due(self.next))
    }

    /// Open loop: when request `number` is due.
    pub(super) fn due(&self, number: u64) -> Instant {
        match self.pace {
            Pace::Closed => self.started,
            #[expect(clippy::cast_precision_loss, reason = "2^53 requests are more than a run has")]
            Pace::Open { per_second } => self.started + Duration::from_secs_f64(number as f64 / per_second),
        }
    }

    /// Open loop: how many requests are due before `moment`.
    pub(super) fn numbered_at(&self, moment: Instant) -> u64 {
        match self.pace {
            Pace::Closed => self.next,
            Pace::Open { per_second } => {
                let seconds = moment.saturating_duration_since(self.started).as_secs_f64();
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "positive and small"
                )]
                let number = (seconds * per_second).ceil() as u64;
                number.clamp(self.next, self.end)
            }
        }
    }
}
