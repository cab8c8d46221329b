//! Exactly so many requests at one endpoint.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Requests in flight at one endpoint, over all shards. Written for each request, and only where `max_conns` is set: an exception to
/// the rule that shards share nothing they write.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Room(AtomicU32);

impl Room {
    pub fn taken(&self) -> u32 {
        self.0.load(SeqCst)
    }

    /// Takes a place, unless `most` are taken.
    pub(super) fn take(&self, most: u32) -> bool {
        self.0.fetch_update(SeqCst, SeqCst, |taken| (taken < most).then_some(taken + 1)).is_ok()
    }

    pub fn give_back(&self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_most_are_taken_at_once() {
        let room = Room::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        if room.take(3) {
                            assert!(room.taken() <= 3);
                            room.give_back();
                        }
                    }
                });
            }
        });
        assert_eq!(room.taken(), 0);
    }

    #[test]
    fn fewer_places_than_are_taken_are_none() {
        let room = Room::default();
        assert!(room.take(2) && room.take(2) && !room.take(2));
        assert!(!room.take(1));
        room.give_back();
        assert!(!room.take(1));
        room.give_back();
        assert!(room.take(1));
    }
}
