//! Waiting without guessing how long: poll until it is so, or fail at a deadline.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long a test waits for what must happen. Long, because a loaded machine is slow; nothing waits it out.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The time, for deadlines and for measuring how long something took.
#[expect(clippy::disallowed_methods, reason = "a test measures the real passing of time")]
pub fn now() -> Instant {
    Instant::now()
}

/// Unix time in seconds.
pub fn now_unix() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

/// Lets other threads run for about `duration`, so that bytes sent before and after it arrive apart.
///
/// Never the way to wait for a result: that is [`wait_until`].
pub fn pause(duration: Duration) {
    let end = now() + duration;
    loop {
        let left = end.saturating_duration_since(now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}

/// Returns as soon as `done` does; panics with `what` when [`PATIENCE`] is over.
#[track_caller]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = now() + PATIENCE;
    while !done() {
        assert!(now() < end, "waited {PATIENCE:?} for: {what}");
        pause(Duration::from_millis(2));
    }
}
