//! How many client connections each shard has: the kernel spreads them by chance, and chance is not even.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// Connections that may be on their way to a shard. One that does not run must not collect them.
const WAITING_MAX: u64 = 64;
/// Connections that a shard may have more than the idlest before it hands over.
const MARGIN_MIN: u64 = 2;
/// The same as a share of what the idlest has: a hand-over costs both shards about as much as a small request, so that many are
/// to be gained from it.
const MARGIN_SHARE: u64 = 8;

/// The counts of all shards, one cache line each. Written when a connection begins and ends, read when one is accepted: an
/// exception to the rule that shards share nothing they write.
pub struct Spread(Box<[Seat]>);

/// One shard's count: the lower half is connections, those on their way included; above it are those on their way; the highest bit
/// says that it takes no more. In one word, so that who reserves a place also sees that there is one.
#[repr(align(64))]
#[derive(Default)]
struct Seat(AtomicU64);

const OPEN: u64 = 1;
const OPEN_MASK: u64 = (1 << 32) - 1;
const WAITING: u64 = 1 << 32;
const WAITING_MASK: u64 = (1 << 16) - 1;
const CLOSED: u64 = 1 << 63;

fn open(word: u64) -> u64 {
    word & OPEN_MASK
}

fn waiting(word: u64) -> u64 {
    word >> 32 & WAITING_MASK
}

impl Spread {
    pub fn new(shards: usize) -> Self {
        Self((0..shards).map(|_| Seat::default()).collect())
    }

    /// A connection is served by `shard`.
    pub fn enter(&self, shard: usize) {
        self.0[shard].0.fetch_add(OPEN, SeqCst);
    }

    /// A connection of `shard` has ended.
    pub fn leave(&self, shard: usize) {
        self.0[shard].0.fetch_sub(OPEN, SeqCst);
    }

    /// From now on nothing is handed over to `shard`. What was before is waited for ([`Spread::awaits`]).
    pub fn close(&self, shard: usize) {
        self.0[shard].0.fetch_or(CLOSED, SeqCst);
    }

    /// Whether a connection is on its way to `shard`.
    pub fn awaits(&self, shard: usize) -> bool {
        waiting(self.word(shard)) > 0
    }

    /// The shard that should get a connection which `from` has accepted and not counted; `None` if that should keep it. Counts it
    /// as on its way, so that others who look at the same time see it: [`Spread::arrived`] or [`Spread::take_back`] must follow.
    /// No shard gets more than `most`.
    ///
    /// Shards stay within `MARGIN_MIN` of each other, or an eighth of what the idlest has. A shard that is full gives to any that is not.
    pub fn give(&self, from: usize, most: usize) -> Option<usize> {
        // Whoever else gives at the same time makes one of these rounds fail, at most.
        for _ in 0..self.0.len() {
            let own = open(self.word(from));
            let (idlest, word) = self.idlest(from)?;
            let margin = if own >= most as u64 { 1 } else { MARGIN_MIN.max(open(word) / MARGIN_SHARE) };
            if own < open(word) + margin || open(word) >= most as u64 {
                return None;
            }
            let seat = &self.0[idlest].0;
            if seat.compare_exchange(word, word + OPEN + WAITING, SeqCst, SeqCst).is_ok() {
                return Some(idlest);
            }
        }
        None
    }

    fn idlest(&self, from: usize) -> Option<(usize, u64)> {
        let count = self.0.len();
        // Beginning behind oneself, so that not all choose the first of those that are equal.
        let others = (1..count).map(|step| (from + step) % count).map(|shard| (shard, self.word(shard)));
        others
            .filter(|(_, word)| word & CLOSED == 0 && waiting(*word) < WAITING_MAX)
            .min_by_key(|(_, word)| open(*word))
    }

    /// A connection that was on its way is there: no longer counted, until it enters.
    pub fn arrived(&self, shard: usize) {
        self.0[shard].0.fetch_sub(OPEN + WAITING, SeqCst);
    }

    /// A connection could not be handed over to `shard` after all.
    pub fn take_back(&self, shard: usize) {
        self.arrived(shard);
    }

    fn word(&self, shard: usize) -> u64 {
        self.0[shard].0.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(counts: &[u64]) -> Spread {
        let spread = Spread::new(counts.len());
        for (shard, &count) in counts.iter().enumerate() {
            spread.0[shard].0.store(count, SeqCst);
        }
        spread
    }

    #[track_caller]
    fn check(counts: &[u64], most: usize, expected: Option<usize>) {
        assert_eq!(spread(counts).give(0, most), expected, "{counts:?}");
    }

    #[test]
    fn a_connection_goes_to_the_idlest_if_that_has_clearly_fewer() {
        check(&[0, 0], 100, None);
        check(&[1, 0], 100, None);
        check(&[2, 0], 100, Some(1));
        check(&[2, 1, 0, 1], 100, Some(2));
        check(&[11, 10, 10], 100, None);
        check(&[1100, 1000], 10_000, None);
        check(&[1125, 1000], 10_000, Some(1));
        check(&[9], 100, None);
    }

    #[test]
    fn a_full_shard_gives_to_any_that_is_not() {
        check(&[100, 99], 100, Some(1));
        check(&[100, 100], 100, None);
        check(&[1000, 100], 100, None);
    }

    #[test]
    fn a_shard_that_does_not_take_its_own_gets_no_more() {
        let spread = spread(&[1000, 0, 500]);
        for _ in 0..WAITING_MAX {
            assert_eq!(spread.give(0, 10_000), Some(1));
        }
        assert_eq!(spread.give(0, 10_000), Some(2));
        spread.arrived(1);
        assert_eq!(spread.give(0, 10_000), Some(1));
    }

    #[test]
    fn a_shard_that_drains_gets_none_and_waits_for_what_is_on_its_way() {
        let spread = spread(&[10, 0]);
        assert_eq!(spread.give(0, 100), Some(1));
        spread.close(1);
        assert_eq!(spread.give(0, 100), None);
        assert!(spread.awaits(1));
        spread.arrived(1);
        spread.enter(1);
        assert!(!spread.awaits(1));
        spread.leave(1);
        assert_eq!(open(spread.word(1)), 0);
    }

    #[test]
    fn what_comes_to_one_shard_is_even_in_the_end() {
        let spread = Spread::new(4);
        for _ in 0..40 {
            match spread.give(0, 100) {
                Some(shard) => {
                    spread.arrived(shard);
                    spread.enter(shard);
                }
                None => spread.enter(0),
            }
        }
        let counts: Vec<_> = (0..4).map(|shard| open(spread.word(shard))).collect();
        assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= MARGIN_MIN, "{counts:?}");
    }

    #[test]
    fn shards_that_give_at_the_same_time_keep_their_distance() {
        let spread = Spread::new(4);
        std::thread::scope(|scope| {
            for from in 0..4 {
                let spread = &spread;
                scope.spawn(move || {
                    // The first shard gets most of what the kernel has.
                    for _ in 0..(if from == 0 { 2000 } else { 50 }) {
                        match spread.give(from, 100_000) {
                            Some(shard) => {
                                spread.arrived(shard);
                                spread.enter(shard);
                            }
                            None => spread.enter(from),
                        }
                    }
                });
            }
        });
        let counts: Vec<_> = (0..4).map(|shard| open(spread.word(shard))).collect();
        let least = *counts.iter().min().unwrap();
        assert_eq!(counts.iter().sum::<u64>(), 2150);
        assert!(counts.iter().max().unwrap() - least <= least / MARGIN_SHARE + 4, "{counts:?}");
    }
}
