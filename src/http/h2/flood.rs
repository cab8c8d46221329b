//! How often a peer may do what costs us more than him (DESIGN §15).

use super::Fault;

/// Tokens that come back with time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// In millionths of a token.
    level: u64,
    size: u64,
    /// Tokens a second, which are millionths a microsecond.
    rate: u64,
    filled_us: u64,
}

impl Bucket {
    const TOKEN: u64 = 1_000_000;

    const fn new(size: u64, rate: u64) -> Self {
        Self { level: size * Self::TOKEN, size: size * Self::TOKEN, rate, filled_us: 0 }
    }

    /// Takes a token; false when there is none.
    fn take(&mut self, now_us: u64) -> bool {
        let passed = now_us.saturating_sub(self.filled_us);
        self.filled_us = now_us.max(self.filled_us);
        self.level = passed.saturating_mul(self.rate).saturating_add(self.level).min(self.size);
        match self.level.checked_sub(Self::TOKEN) {
            Some(level) => {
                self.level = level;
                true
            }
            None => false,
        }
    }

    fn fill(&mut self) {
        self.level = self.size;
    }
}

/// What one peer has done.
pub(super) struct Floods {
    /// Frames without content since the last one with some.
    idle: Bucket,
    resets: Bucket,
    opened: u64,
    reset: u64,
}

const IDLE_SIZE: u64 = 500;
const IDLE_RATE: u64 = 50;
const RESETS_SIZE: u64 = 100;
const RESETS_RATE: u64 = 20;

impl Floods {
    pub(super) const fn new() -> Self {
        Self {
            idle: Bucket::new(IDLE_SIZE, IDLE_RATE),
            resets: Bucket::new(RESETS_SIZE, RESETS_RATE),
            opened: 0,
            reset: 0,
        }
    }

    /// A frame that brings nothing on: SETTINGS, PING, PRIORITY, WINDOW_UPDATE, an empty or unknown one. `fault` if it is one too
    /// many.
    #[inline]
    pub(super) fn idle(&mut self, fault: Fault, now_us: u64) -> Result<(), Fault> {
        if self.idle.take(now_us) { Ok(()) } else { Err(fault) }
    }

    /// A message came, or data went either way: window updates, pings and the like are part of real traffic.
    #[inline]
    pub(super) fn progress(&mut self) {
        self.idle.fill();
    }

    #[inline]
    pub(super) fn opened(&mut self) {
        self.opened += 1;
    }

    /// The peer ended an exchange before its time (CVE-2023-44487), had one refused, or made us end one (CVE-2025-8671). Some of that
    /// is a browser whose user moves on; when it is over half of all, it must be slow.
    pub(super) fn reset(&mut self, now_us: u64) -> Result<(), Fault> {
        self.reset += 1;
        if self.resets.take(now_us) || self.reset <= self.opened / 2 {
            Ok(())
        } else {
            Err(Fault::ResetFlood)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_bucket_gives_what_it_has_and_then_what_comes_in() {
        let mut bucket = Bucket::new(3, 10);
        let mut take = |now_us, expected| assert_eq!(bucket.take(now_us), expected, "{now_us}");
        for _ in 0..3 {
            take(5 * SECOND, true);
        }
        take(5 * SECOND, false);
        take(5 * SECOND + 99_999, false);
        take(5 * SECOND + 100_000, true);
        take(5 * SECOND + 100_000, false);
        take(4 * SECOND, false);
        for _ in 0..3 {
            take(60 * SECOND, true);
        }
        take(60 * SECOND, false);
    }

    #[test]
    fn idle_frames_are_counted_until_something_real_comes() {
        let mut floods = Floods::new();
        for _ in 0..500 {
            assert_eq!(floods.idle(Fault::PingFlood, SECOND), Ok(()));
        }
        assert_eq!(floods.idle(Fault::SettingsFlood, SECOND), Err(Fault::SettingsFlood));
        floods.progress();
        assert_eq!(floods.idle(Fault::SettingsFlood, SECOND), Ok(()));
    }

    #[test]
    fn resets_are_a_flood_when_they_are_fast_and_over_half_of_all() {
        let mut floods = Floods::new();
        for _ in 0..1000 {
            floods.opened();
        }
        for _ in 0..500 {
            assert_eq!(floods.reset(SECOND), Ok(()));
        }
        assert_eq!(
            floods.reset(SECOND),
            Err(Fault::ResetFlood),
            "the bucket was used up by the first hundred"
        );
        for second in 2..60 {
            for _ in 0..20 {
                assert_eq!(floods.reset(second * SECOND), Ok(()));
            }
        }
    }
}
