//! Where an issuer's keys lie: written by the control thread, read by every shard, in every snapshot the same.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
};

use arc_swap::{ArcSwap, Guard};

use super::KeySet;

/// The newest keys of an issuer. Replaced as a whole; what was verified with a key that is gone is found out by the epoch.
pub struct KeyCell {
    set: ArcSwap<KeySet>,
    epoch: AtomicU64,
    fetch: AtomicU8,
    /// Wakes whoever fetches.
    ring: Box<dyn Fn() + Send + Sync>,
}

/// Nobody fetches: a secret, a file, keys of our own.
const NEVER: u8 = 0;
/// A fetch can be had by asking for it.
const ON_DEMAND: u8 = 1;
/// One is running, or is about to.
const RUNNING: u8 = 2;
/// One was asked for too short a time ago for another.
const COOLING: u8 = 3;

impl KeyCell {
    /// Keys that nobody fetches. [`KeyCell::store`] may replace them all the same.
    pub fn fixed(set: Arc<KeySet>) -> Self {
        Self::new(set, NEVER, Box::new(|| ()))
    }

    /// A place for keys that are being fetched. `ring` is called by a shard that wants fresh ones; it must not block.
    pub fn fetched(ring: impl Fn() + Send + Sync + 'static) -> Self {
        Self::new(Arc::default(), RUNNING, Box::new(ring))
    }

    fn new(set: Arc<KeySet>, fetch: u8, ring: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { set: ArcSwap::new(set), epoch: AtomicU64::new(0), fetch: AtomicU8::new(fetch), ring }
    }

    /// Counts the sets there were. One atomic load.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The newest set; at least as new as any epoch read before.
    pub fn load(&self) -> Guard<Arc<KeySet>> {
        self.set.load()
    }

    /// Replaces the set, if the new one has other keys.
    pub fn store(&self, set: KeySet) {
        if self.set.load().is_same(&set) {
            return;
        }
        self.set.store(Arc::new(set));
        // After the set: who sees the new epoch finds the new set.
        self.epoch.fetch_add(1, Ordering::Release);
    }

    /// Whether a fetch is running now, or about to.
    pub fn is_fetching(&self) -> bool {
        self.fetch.load(Ordering::Acquire) == RUNNING
    }

    /// Asks for fresh keys. Returns whether it is worth waiting for them: a fetch is running, or was started by this.
    pub fn want_fresh(&self) -> bool {
        match self.fetch.compare_exchange(ON_DEMAND, RUNNING, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                (self.ring)();
                true
            }
            Err(now) => now == RUNNING,
        }
    }

    /// A fetch begins: who misses a key waits for it.
    pub fn fetch_begins(&self) {
        self.fetch.store(RUNNING, Ordering::Release);
    }

    /// The fetch is over. `cooling` refuses further ones until [`KeyCell::has_cooled`].
    pub fn fetch_ended(&self, cooling: bool) {
        self.fetch.store(if cooling { COOLING } else { ON_DEMAND }, Ordering::Release);
    }

    /// Fetches may be asked for again.
    pub fn has_cooled(&self) {
        // A fetch that began meanwhile goes on.
        let _ = self.fetch.compare_exchange(COOLING, ON_DEMAND, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl fmt::Debug for KeyCell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCell").field("epoch", &self.epoch()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::auth::Algs;

    fn set(byte: u8) -> KeySet {
        KeySet::from_secret(&[byte; 32], Algs::SYMMETRIC).unwrap()
    }

    #[test]
    fn only_other_keys_are_a_new_epoch() {
        let cell = KeyCell::fixed(set(1).into());
        cell.store(set(1));
        assert_eq!(cell.epoch(), 0);
        cell.store(set(2));
        assert_eq!(cell.epoch(), 1);
        assert!(cell.load().is_same(&set(2)));
    }

    #[test]
    fn many_ask_and_one_fetch_is_started() {
        let rung = Arc::new(AtomicUsize::new(0));
        let bell = Arc::clone(&rung);
        let cell = KeyCell::fetched(move || {
            bell.fetch_add(1, Ordering::Relaxed);
        });
        let asked = || rung.load(Ordering::Relaxed);
        assert!(cell.is_fetching() && cell.want_fresh(), "the first fetch runs from the start");
        assert_eq!(asked(), 0);

        cell.fetch_ended(false);
        assert!(cell.want_fresh() && cell.want_fresh());
        assert_eq!(asked(), 1);

        cell.fetch_ended(true);
        assert!(!cell.want_fresh(), "too soon");
        cell.has_cooled();
        assert!(cell.want_fresh());
        assert_eq!(asked(), 2);

        cell.has_cooled();
        assert!(cell.is_fetching(), "a running fetch goes on");
        assert!(!KeyCell::fixed(set(1).into()).want_fresh(), "nobody fetches");
    }
}
