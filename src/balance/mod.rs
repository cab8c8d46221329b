//! Which endpoint? The policies, and who is out of rotation.
//!
//! Facts come from the snapshot, observations ([`State`]) belong to the shard, failures ([`Health`]) are shared by all
//! shards of the process. Who may be picked, best first:
//!
//! 1. *Primary endpoints* that are in rotation. After `max_fails` failures within `fail_timeout` an endpoint is out for
//!    `fail_timeout`; then one request tries it, and a success lets it back in. At most half of the primaries are
//!    treated as out (rounded down, so the last one stays): those whose time is the longest. Too many failures at
//!    once say more about the service than about its endpoints, and the rest would be buried under the load.
//! 2. *Backups* in rotation, when every primary is down, was tried for this request, or is out. So when all
//!    primaries are out and there is a backup, the rule of the half does not hold: operators who write `backup` in
//!    nginx expect it to serve then, and taking all primaries out costs nothing as long as it does. A request that
//!    failed at the primaries gets to a backup in the same way, through [`Tried`].
//! 3. *Whoever is left*, out or not, primaries first: an attempt may fail, no attempt has failed already.
//!
//! `down` endpoints and those already tried are never picked.

mod among;
mod health;
mod random;
mod round_robin;
mod tried;

use std::sync::Arc;

use self::among::Among;
pub use self::{health::Health, tried::Tried};
pub use crate::config::Balance as Policy;

/// What is configured for one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its share of the requests, relative to the others'; 0 counts as 1.
    pub weight: u32,
    /// Used only when no primary is usable.
    pub backup: bool,
    /// Never used.
    pub down: bool,
    /// Failures within `fail_timeout` that take it out; 0 never does.
    pub max_fails: u32,
    pub fail_timeout_ms: u64,
}

impl Facts {
    #[inline]
    fn weight(&self) -> u64 {
        u64::from(self.weight.max(1))
    }
}

/// What one shard observes of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Requests of this shard that the endpoint has not finished.
    pub in_flight: u32,
    /// How far it is ahead in the smooth weighted round robin.
    pub current: i64,
}

/// The endpoint for a request's next attempt; `None` when every endpoint is down or was tried.
///
/// `facts`, `health` and `state` have one element per endpoint, in the same order. `draw(n)` returns a number below
/// `n`, which is at least 1. `now_ms` counts from any start, the same for all shards.
pub fn pick(
    policy: Policy,
    facts: &[Facts],
    health: &[Arc<Health>],
    state: &mut [State],
    tried: &Tried,
    now_ms: u64,
    mut draw: impl FnMut(usize) -> usize,
) -> Option<usize> {
    // Nearly always nothing is out and this is the first attempt: then only the facts decide.
    if tried.is_empty() && !health.iter().any(|health| health.is_out(now_ms)) {
        let picked = by_policy(policy, facts, state, |_, facts| !facts.down && !facts.backup, &mut draw);
        if let Some(picked) = picked
            && health[picked].may_try(&facts[picked], now_ms)
        {
            return Some(picked);
        }
    }
    pick_among(policy, facts, health, state, tried, now_ms, draw)
}

#[cold]
fn pick_among(
    policy: Policy,
    facts: &[Facts],
    health: &[Arc<Health>],
    state: &mut [State],
    tried: &Tried,
    now_ms: u64,
    mut draw: impl FnMut(usize) -> usize,
) -> Option<usize> {
    // When another shard is faster to try an endpoint whose time is over, that one is out again: at most one such
    // round per endpoint.
    for _ in 0..=facts.len() {
        let among = Among::of(facts, health, tried, now_ms)?;
        let usable = |index: usize, facts: &Facts| among.has(index, facts, &health[index], tried);
        let picked = by_policy(policy, facts, state, usable, &mut draw);
        if let Some(picked) = picked
            && health[picked].may_try(&facts[picked], now_ms)
        {
            return Some(picked);
        }
    }
    (0..facts.len()).find(|&index| !facts[index].down && !tried.contains(index))
}

fn by_policy(
    policy: Policy,
    facts: &[Facts],
    state: &mut [State],
    usable: impl Fn(usize, &Facts) -> bool,
    draw: &mut impl FnMut(usize) -> usize,
) -> Option<usize> {
    match policy {
        Policy::RoundRobin => round_robin::pick(facts, state, usable),
        Policy::Random => random::pick(facts, state, usable, draw),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A service as the tests see it: endpoints `a`, `b`, `c`, …, failures that take one out for 5 s at once.
    struct Service {
        facts: Vec<Facts>,
        health: Vec<Arc<Health>>,
        state: Vec<State>,
        tried: Tried,
        seed: u64,
    }

    impl Service {
        /// One endpoint per word: its weight, then `backup` or `down`.
        fn of(endpoints: &str) -> Self {
            let facts: Vec<Facts> = endpoints
                .split_whitespace()
                .map(|word| {
                    let digits = word.trim_end_matches(char::is_alphabetic);
                    Facts {
                        weight: digits.parse().unwrap(),
                        backup: word.ends_with("backup"),
                        down: word.ends_with("down"),
                        max_fails: 1,
                        fail_timeout_ms: 5000,
                    }
                })
                .collect();
            Self {
                health: facts.iter().map(|_| Arc::default()).collect(),
                state: facts.iter().map(|_| State::default()).collect(),
                facts,
                tried: Tried::default(),
                seed: 42,
            }
        }

        fn fail(&self, endpoint: char, now_ms: u64) {
            let index = index(endpoint);
            self.health[index].failed(&self.facts[index], now_ms);
        }

        fn pick(&mut self, policy: Policy, now_ms: u64) -> Option<usize> {
            let Self { facts, health, state, tried, seed } = self;
            let draw = |below: usize| {
                // An LCG's upper bits (Knuth, MMIX).
                *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                usize::try_from(*seed >> 33).unwrap() % below
            };
            pick(policy, facts, health, state, tried, now_ms, draw)
        }

        /// The endpoints of `count` requests in a row; `-` for none.
        fn sequence(&mut self, count: usize, now_ms: u64) -> String {
            (0..count).map(|_| self.pick(Policy::RoundRobin, now_ms).map_or('-', name)).collect()
        }

        fn shares(&mut self, count: usize) -> Vec<usize> {
            let mut shares = vec![0; self.facts.len()];
            for _ in 0..count {
                shares[self.pick(Policy::Random, 0).unwrap()] += 1;
            }
            shares
        }
    }

    fn name(index: usize) -> char {
        char::from(b'a' + u8::try_from(index).unwrap())
    }

    fn index(name: char) -> usize {
        usize::try_from(u32::from(name) - u32::from('a')).unwrap()
    }

    #[track_caller]
    fn check(endpoints: &str, expected: &str) {
        assert_eq!(Service::of(endpoints).sequence(expected.len(), 0), expected, "{endpoints}");
    }

    #[test]
    fn round_robin_is_nginxs() {
        check("5 1 1", "aabacaaaabacaa");
        check("1 1 1", "abcabc");
        check("3 1", "aabaaaba");
        check("2 3", "bababbabab");
        check("1", "aaa");
        check("0 1", "abab");
    }

    #[test]
    fn down_and_backup_endpoints_are_not_used() {
        check("1 1down 1", "acac");
        check("1 1backup", "aaa");
        check("1down 2backup 1backup 1backupdown", "bcbbcb");
        check("1down", "--");
        check("", "--");
    }

    /// Checks who is used at 1,000 ms when the `failed` endpoints failed, one after the other, before.
    #[track_caller]
    fn check_failed(endpoints: &str, failed: &str, expected: &str) {
        let mut service = Service::of(endpoints);
        for (at, endpoint) in (0..).zip(failed.chars()) {
            service.fail(endpoint, at);
        }
        let picked = service.sequence(60, 1000);
        let used: String = (0..service.facts.len()).map(name).filter(|&name| picked.contains(name)).collect();
        assert_eq!(used, expected, "{endpoints} failed {failed}");
    }

    #[test]
    fn half_of_the_primaries_can_be_out_and_the_last_one_stays() {
        check_failed("1", "a", "a");
        check_failed("1 1", "a", "b");
        check_failed("1 1 1", "a", "bc");
        check_failed("1 1 1 1", "ab", "cd");
        check_failed("1 1 1 1 1", "ab", "cde");
        check_failed("1 1down", "a", "a");
    }

    #[test]
    fn of_too_many_the_ones_that_failed_last_are_out() {
        check_failed("1 1", "ab", "a");
        check_failed("1 1", "ba", "b");
        check_failed("1 1 1", "ca", "bc");
        check_failed("1 1 1 1", "dba", "cd");
        check_failed("1 1 1 1", "dbac", "bd");
        check_failed("1 1 1 1 1", "abcde", "abc");
    }

    #[test]
    fn backups_serve_when_all_primaries_are_out() {
        check_failed("1 1backup", "a", "b");
        check_failed("1 1 1backup", "a", "b");
        check_failed("1 1 1backup", "ab", "c");
        check_failed("1 1 1 1 1backup", "abc", "ad");
        check_failed("1 1down 1backup", "a", "c");
        check_failed("1 1backup 1backup", "ab", "c");
        // The backups fail as well: the primaries' rule holds again.
        check_failed("1 1backup", "ab", "a");
        check_failed("1 1 1backup", "abc", "a");
    }

    #[test]
    fn an_endpoint_that_was_out_is_tried_by_one_request() {
        let mut service = Service::of("1 1");
        service.fail('a', 0);
        assert_eq!(service.sequence(4, 4999), "bbbb");
        let picked = service.sequence(6, 5000);
        assert_eq!(picked.matches('a').count(), 1, "{picked}");
        service.health[0].succeeded();
        let picked = service.sequence(6, 5001);
        assert_eq!(picked.matches('a').count(), 3, "{picked}");
    }

    #[test]
    fn an_attempt_goes_where_none_was_made() {
        let mut service = Service::of("1 1 1backup 1down 1backup");
        let mut order = String::new();
        while let Some(picked) = service.pick(Policy::RoundRobin, 0) {
            service.tried.insert(picked);
            order.push(name(picked));
        }
        assert_eq!(order, "abce");
    }

    #[test]
    fn an_attempt_goes_to_one_that_is_out_rather_than_nowhere() {
        let mut service = Service::of("1 1 1backup");
        service.fail('b', 0);
        service.fail('c', 0);
        let mut order = String::new();
        while let Some(picked) = service.pick(Policy::Random, 1) {
            service.tried.insert(picked);
            order.push(name(picked));
        }
        assert_eq!(order, "abc");
    }

    /// Checks that shares are as `expected` within 3 standard deviations (10,000 draws: at most 150).
    #[track_caller]
    fn check_shares(mut service: Service, expected: &[usize]) {
        let shares = service.shares(10_000);
        for (share, expected) in shares.iter().zip(expected) {
            assert!(share.abs_diff(*expected) <= 150, "{shares:?}");
        }
    }

    #[test]
    fn random_shares_follow_the_weights_when_all_are_idle() {
        check_shares(Service::of("1 1 1 1"), &[2500, 2500, 2500, 2500]);
        check_shares(Service::of("3 1"), &[7500, 2500]);
        check_shares(Service::of("5 3 2"), &[5000, 3000, 2000]);
        check_shares(Service::of("5 3down 2 3 9backup"), &[5000, 0, 2000, 3000, 0]);
    }

    #[test]
    fn the_less_loaded_of_two_choices_is_taken() {
        let mut service = Service::of("1 1 1 1");
        service.state[2].in_flight = 1;
        // Never chosen: whoever is drawn with it is idle.
        check_shares(service, &[3333, 3333, 0, 3333]);

        let mut service = Service::of("4 1");
        (service.state[0].in_flight, service.state[1].in_flight) = (3, 1);
        assert_eq!(service.shares(100), [100, 0]);
        (service.state[0].in_flight, service.state[1].in_flight) = (5, 1);
        assert_eq!(service.shares(100), [0, 100]);
    }

    #[test]
    fn two_choices_are_two_different_ones() {
        let mut service = Service::of("1 1");
        service.state[0].in_flight = 1;
        assert_eq!(service.shares(100), [0, 100]);
        let mut service = Service::of("1 2");
        service.state[1].in_flight = 1;
        assert_eq!(service.shares(100), [100, 0]);
    }

    proptest! {
        #[test]
        fn someone_is_picked_while_anyone_is_left(
            endpoints in prop::collection::vec(
                (1..4_u32, any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.3), prop::option::of(0..9_u64)),
                0..80,
            ),
            now_ms in 0..12_u64,
            random in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let mut service = Service::of("");
            for (index, &(weight, backup, down, tried, failed_ms)) in endpoints.iter().enumerate() {
                let facts = Facts { weight, backup, down, max_fails: 1, fail_timeout_ms: 4 };
                let health = Health::default();
                failed_ms.into_iter().for_each(|at| health.failed(&facts, at));
                service.facts.push(facts);
                service.health.push(Arc::new(health));
                service.state.push(State { in_flight: weight * 7 % 5, current: 0 });
                if tried {
                    service.tried.insert(index);
                }
            }
            service.seed = seed;
            let primaries = || (0..endpoints.len()).filter(|&index| !endpoints[index].1 && !endpoints[index].2);
            let in_rotation = |index: usize| !service.health[index].is_out(now_ms);
            let left = |index: usize| !endpoints[index].2 && !endpoints[index].3;
            let any_left = (0..endpoints.len()).any(left);
            let a_primary_is_fine = primaries().any(|index| left(index) && in_rotation(index));
            let is_in: Vec<bool> = (0..endpoints.len()).map(in_rotation).collect();
            let few_are_out = primaries().filter(|&index| !is_in[index]).count() <= primaries().count() / 2;

            let policy = if random { Policy::Random } else { Policy::RoundRobin };
            let picked = service.pick(policy, now_ms);
            prop_assert_eq!(picked.is_some(), any_left);
            if let Some(picked) = picked {
                let (_, backup, down, tried, _) = endpoints[picked];
                prop_assert!(!down && !tried);
                prop_assert!(!(a_primary_is_fine && backup));
                prop_assert!(!(a_primary_is_fine && few_are_out) || is_in[picked]);
            }
        }
    }
}
