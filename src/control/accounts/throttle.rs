//! Pauses for who guesses: a bucket of failures for each account and for each address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
};

use ring::digest::{SHA256, digest};

use crate::config::issuing::Throttle as Bounds;

/// Accounts and addresses that are remembered; those nearest to being forgiven go first.
const BUCKETS_MAX: usize = 65_536;

pub(super) struct Throttle {
    bounds: Bounds,
    buckets: HashMap<Key, Bucket>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    /// Hashed: a name is as long as a client wants it.
    Account([u8; 16]),
    Address(IpAddr),
}

/// Empties steadily, within a minute.
#[derive(Clone, Copy)]
struct Bucket {
    /// When it will be empty, in ms.
    empty_ms: u64,
}

const MINUTE_MS: u64 = 60_000;

/// Somebody who tries, counted as a failure until it is [forgiven](Throttle::forgive).
#[derive(Clone, Copy)]
pub(super) struct Attempt {
    account: Key,
    address: Option<Key>,
}

impl Throttle {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, buckets: HashMap::new() }
    }

    /// Lets an attempt begin, or says after how many seconds it may.
    pub(super) fn attempt(
        &mut self,
        account: &str,
        address: Option<IpAddr>,
        now_ms: u64,
    ) -> Result<Attempt, u32> {
        let attempt = Attempt { account: account_key(account), address: address.map(address_key) };
        let wait = attempt.keys().filter_map(|key| self.wait_ms(key, now_ms)).max();
        if let Some(wait) = wait.filter(|wait| *wait > 0) {
            return Err(u32::try_from(wait.div_ceil(1000)).unwrap_or(u32::MAX));
        }
        for key in attempt.keys() {
            let Some(each) = self.each_ms(key) else { continue };
            self.make_room(now_ms);
            let bucket = self.buckets.entry(key).or_insert(Bucket { empty_ms: now_ms });
            bucket.empty_ms = bucket.empty_ms.max(now_ms) + each;
        }
        Ok(attempt)
    }

    /// The attempt went well: it is not counted.
    pub(super) fn forgive(&mut self, attempt: Attempt) {
        for key in attempt.keys() {
            let Some(each) = self.each_ms(key) else { continue };
            if let Some(bucket) = self.buckets.get_mut(&key) {
                bucket.empty_ms = bucket.empty_ms.saturating_sub(each);
            }
        }
    }

    /// How long one failure counts, in ms; `None` without a bound.
    fn each_ms(&self, key: Key) -> Option<u64> {
        let bound = match key {
            Key::Account(_) => self.bounds.per_account,
            Key::Address(_) => self.bounds.per_ip,
        };
        bound.map(|bound| MINUTE_MS / u64::from(bound.max(1)))
    }

    /// Until there is room for one more failure.
    fn wait_ms(&self, key: Key, now_ms: u64) -> Option<u64> {
        let each = self.each_ms(key)?;
        let full = self.buckets.get(&key)?.empty_ms.saturating_sub(now_ms);
        Some((full + each).saturating_sub(MINUTE_MS))
    }

    fn make_room(&mut self, now_ms: u64) {
        if self.buckets.len() < BUCKETS_MAX {
            return;
        }
        self.buckets.retain(|_, bucket| bucket.empty_ms > now_ms);
        if self.buckets.len() >= BUCKETS_MAX {
            let mut ends: Vec<u64> = self.buckets.values().map(|bucket| bucket.empty_ms).collect();
            let (_, median, _) = ends.select_nth_unstable(BUCKETS_MAX / 2);
            let median = *median;
            self.buckets.retain(|_, bucket| bucket.empty_ms > median);
        }
    }
}

impl Attempt {
    fn keys(self) -> impl Iterator<Item = Key> {
        [Some(self.account), self.address].into_iter().flatten()
    }
}

fn account_key(name: &str) -> Key {
    let digest = digest(&SHA256, name.as_bytes());
    let mut key = [0; 16];
    key.copy_from_slice(&digest.as_ref()[..16]);
    Key::Account(key)
}

/// A client has at least all addresses of its /64 (RFC 6177).
fn address_key(address: IpAddr) -> Key {
    Key::Address(match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(per_account: u32, per_ip: u32) -> Throttle {
        Throttle::new(Bounds { per_account: Some(per_account), per_ip: Some(per_ip) })
    }

    fn wait(throttle: &mut Throttle, name: &str, address: &str, now_ms: u64) -> Option<u32> {
        throttle.attempt(name, address.parse().ok(), now_ms).err()
    }

    #[test]
    fn an_account_that_failed_often_has_to_wait_and_no_other() {
        let mut throttle = throttle(5, 100);
        for _ in 0..5 {
            assert_eq!(wait(&mut throttle, "ann", "10.0.0.1", 0), None);
        }
        assert_eq!(wait(&mut throttle, "ann", "10.0.0.2", 0), Some(12));
        assert_eq!(wait(&mut throttle, "ann", "10.0.0.2", 11_000), Some(1));
        assert_eq!(wait(&mut throttle, "bob", "10.0.0.1", 0), None);
        assert_eq!(wait(&mut throttle, "ann", "10.0.0.2", 12_000), None);
        assert_eq!(wait(&mut throttle, "ann", "10.0.0.2", 12_000), Some(12));
    }

    #[test]
    fn an_address_that_failed_often_has_to_wait_whatever_the_account() {
        let mut throttle = throttle(100, 3);
        for name in ["a", "b", "c"] {
            assert_eq!(wait(&mut throttle, name, "2001:db8::1", 0), None);
        }
        assert_eq!(wait(&mut throttle, "d", "2001:db8::ffff:1", 0), Some(20));
        assert_eq!(wait(&mut throttle, "d", "2001:db8:0:1::1", 0), None);
        assert_eq!(wait(&mut throttle, "d", "::ffff:10.0.0.1", 0), None);
    }

    #[test]
    fn what_went_well_is_not_counted() {
        let mut throttle = throttle(2, 2);
        for now in 0..100 {
            let attempt = throttle.attempt("ann", None, now).expect("none has failed");
            throttle.forgive(attempt);
        }
    }

    #[test]
    fn without_bounds_nobody_waits() {
        let mut throttle = Throttle::new(Bounds { per_account: None, per_ip: None });
        assert!((0..1000).all(|_| wait(&mut throttle, "ann", "10.0.0.1", 0).is_none()));
        assert!(throttle.buckets.is_empty());
    }

    #[test]
    fn the_table_is_bounded_and_keeps_those_that_wait_longest() {
        let mut throttle = throttle(2, 1_000_000);
        for _ in 0..2 {
            assert_eq!(wait(&mut throttle, "ann", "10.0.0.1", 0), None);
        }
        for number in 0..200_000 {
            let _ = throttle.attempt(&number.to_string(), None, 0);
        }
        assert!(throttle.buckets.len() <= BUCKETS_MAX);
        assert!(wait(&mut throttle, "ann", "10.0.0.1", 0).is_some());
    }
}
