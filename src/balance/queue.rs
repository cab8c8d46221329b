//! Who waits for a place at a service whose endpoints are full.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

/// The requests that wait for a place at one service, over all shards: how many, and since when the one that is first on each shard.
///
/// Whoever frees a place looks here for the shard whose request has waited longest. Who begins to wait says so first and looks for a
/// place after; all is sequentially consistent, so that one of the two sees the other. Nothing is written while nobody waits.
#[derive(Debug)]
pub struct Queue {
    waiting: AtomicU32,
    first: Box<[First]>,
}

/// When the longest wait of a shard began, in µs of the process's clock.
#[derive(Debug)]
#[repr(align(64))]
struct First(AtomicU64);

const NOBODY: u64 = u64::MAX;

impl Queue {
    pub fn new(shards: usize) -> Self {
        Self {
            waiting: AtomicU32::new(0),
            first: (0..shards).map(|_| First(AtomicU64::new(NOBODY))).collect(),
        }
    }

    /// Takes a place in the queue, unless `most` are taken.
    pub fn enter(&self, most: u32) -> bool {
        self.waiting.fetch_update(SeqCst, SeqCst, |waiting| (waiting < most).then_some(waiting + 1)).is_ok()
    }

    pub fn leave(&self) {
        self.waiting.fetch_sub(1, SeqCst);
    }

    /// Requests that wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(SeqCst)
    }

    /// Says since when the first of `shard` waits; `None` when nobody does.
    pub fn set_first(&self, shard: usize, since_us: Option<u64>) {
        self.first[shard].0.store(since_us.unwrap_or(NOBODY), SeqCst);
    }

    /// The shard whose first request has waited longest.
    pub fn longest(&self) -> Option<usize> {
        let waits = self.first.iter().map(|first| first.0.load(SeqCst)).enumerate();
        waits
            .filter(|(_, since_us)| *since_us != NOBODY)
            .min_by_key(|(_, since_us)| *since_us)
            .map(|(shard, _)| shard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_wait_is_first() {
        let queue = Queue::new(3);
        assert_eq!(queue.longest(), None);
        queue.set_first(2, Some(7));
        queue.set_first(0, Some(9));
        assert_eq!(queue.longest(), Some(2));
        queue.set_first(2, None);
        assert_eq!(queue.longest(), Some(0));
    }

    #[test]
    fn a_full_queue_takes_nobody() {
        let queue = Queue::new(1);
        assert!(queue.enter(2) && queue.enter(2) && !queue.enter(2));
        queue.leave();
        assert!(queue.enter(2));
        assert_eq!(queue.waiting(), 2);
        assert!(!queue.enter(0));
    }
}
