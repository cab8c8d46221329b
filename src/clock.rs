//! Time for one shard: monotonic microseconds and ticks, and the wall clock beside them.
//!
//! Reading the clock costs about 40 ns. A request reads it when its head is in, when the response head is in and when it
//! ends; everything else uses the last reading ([`Clock::recent_us`]), which is at most one turn of the loop old.

use std::{
    cell::Cell,
    sync::OnceLock,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Length of a [`Tick`]: the resolution of every deadline.
pub const TICK_MS: u64 = 10;

/// A point in time as a count of 10 ms steps since the process started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub u64);

impl Tick {
    /// Later than every deadline.
    pub const NEVER: Self = Self(u64::MAX);
}

/// When the process first asked for a clock: the zero of every shard's clock, so that marks which shards share (failures of
/// endpoints) mean the same on all of them.
static START: OnceLock<Instant> = OnceLock::new();

/// A shard's clock.
pub struct Clock {
    start: Instant,
    /// Unix time at `start`, corrected whenever [`Clock::unix`] is asked for after a jump.
    unix_start: Cell<Duration>,
    recent_us: Cell<u64>,
    synced_at_us: Cell<u64>,
}

impl Clock {
    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    pub fn start() -> Self {
        let clock = Self {
            start: *START.get_or_init(Instant::now),
            unix_start: Cell::new(Duration::ZERO),
            recent_us: Cell::new(0),
            synced_at_us: Cell::new(0),
        };
        clock.sync();
        clock
    }

    fn sync(&self) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_us = self.now_us();
        self.synced_at_us.set(now_us);
        self.unix_start.set(unix.saturating_sub(Duration::from_micros(now_us)));
    }

    /// Microseconds since the process started, read now.
    #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
    pub fn now_us(&self) -> u64 {
        let elapsed = Instant::now().duration_since(self.start);
        let us = elapsed.as_secs() * 1_000_000 + u64::from(elapsed.subsec_micros());
        self.recent_us.set(us);
        us
    }

    /// The last reading of [`Clock::now_us`].
    pub fn recent_us(&self) -> u64 {
        self.recent_us.get()
    }

    /// Makes this the last reading.
    #[cfg(test)]
    pub(crate) fn pretend(&self, us: u64) {
        self.recent_us.set(us);
    }

    /// The tick of the last reading.
    pub fn tick(&self) -> Tick {
        Tick(self.recent_us.get() / (TICK_MS * 1000))
    }

    /// The first tick that is not before `wait` from the last reading.
    pub fn after(&self, wait: Duration) -> Tick {
        let us = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        Tick(self.recent_us.get().saturating_add(us).div_ceil(TICK_MS * 1000))
    }

    /// Unix time of a moment of this clock. Follows the wall clock's corrections within a second.
    pub fn unix(&self, at_us: u64) -> Duration {
        if at_us.saturating_sub(self.synced_at_us.get()) > 1_000_000 {
            self.sync();
        }
        self.unix_start.get() + Duration::from_micros(at_us)
    }

    /// The instant at which `tick` begins, for the runtime's own timer.
    pub fn instant(&self, tick: Tick) -> Instant {
        self.start + Duration::from_millis(tick.0.saturating_mul(TICK_MS).min(u64::MAX / 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_early() {
        let clock = Clock::start();
        clock.pretend(9_999);
        assert_eq!(clock.after(Duration::from_micros(1)), Tick(1));
        assert_eq!(clock.after(Duration::from_micros(2)), Tick(2));
        assert_eq!(clock.after(Duration::MAX), Tick(u64::MAX.div_ceil(10_000)));
    }

    #[test]
    fn unix_time_moves_with_the_clock() {
        let clock = Clock::start();
        let now = clock.now_us();
        assert_eq!(clock.unix(now).as_micros() + 250, clock.unix(now + 250).as_micros());
    }
}
