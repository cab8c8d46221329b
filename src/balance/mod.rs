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
//! `down` endpoints, those already tried, and those that have `max_conns` requests are never picked. Where requests can wait for a
//! place (`queue`), that comes before the third.

mod among;
mod hash;
mod health;
mod least;
mod queue;
mod random;
mod room;
mod round_robin;
mod tried;

use std::sync::Arc;

use self::among::{Among, Found};
pub use self::{
    hash::{address_key, key, name},
    health::Health,
    queue::Queue,
    room::Room,
    tried::Tried,
};
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
    /// Requests it may have in flight, over all shards; 0 for any number.
    pub max_conns: u32,
    /// How long its share grows after it was out of rotation; 0 for not at all.
    pub slow_start_ms: u64,
    /// By which a hash knows it, the same in every process and whatever its place in the list ([`name`]).
    pub name: u64,
}

/// A whole weight, so that a part of the smallest can be told, too.
const WHOLE: u64 = 256;

impl Facts {
    #[inline]
    fn weight(&self) -> u64 {
        u64::from(self.weight.max(1)) * WHOLE
    }
}

/// What all shards of the process observe of one endpoint. Each part has a cache line of its own: health is read by every pick.
#[derive(Debug, Default)]
pub struct Shared {
    pub health: Health,
    pub room: Room,
}

/// What one shard observes of one endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Requests of this shard that the endpoint has not finished.
    pub in_flight: u32,
    /// How far it is ahead in the smooth weighted round robin.
    pub current: i64,
    /// How long it takes to answer ([`State::answered`]); 0 when that is not known.
    time_us: u64,
    time_at_ms: u64,
}

/// A request in search of an endpoint. The lists have one element per endpoint, in the same order.
pub struct Choice<'c> {
    pub policy: Policy,
    pub facts: &'c [Facts],
    pub shared: &'c [Arc<Shared>],
    pub tried: &'c Tried,
    /// What a hash decides by; `None` where the request has no such value.
    pub key: Option<u64>,
    /// The request would rather wait for an endpoint that is full than be sent to one that is out.
    pub can_wait: bool,
    /// From any start, the same for all shards.
    pub now_ms: u64,
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picked {
    /// To this endpoint. Where `max_conns` bounds it a place was taken in its [`Room`], to be given back.
    At(usize),
    /// Endpoints are left, but have as many requests as they may.
    Full,
    /// Every endpoint is down or was tried.
    Nowhere,
}

impl Choice<'_> {
    /// The endpoint for the request's next attempt. `draw(n)` returns a number below `n`, which is at least 1.
    pub fn pick(&self, state: &mut [State], mut draw: impl FnMut(usize) -> usize) -> Picked {
        // Nearly always nothing is out and this is the first attempt: then only the facts decide.
        if self.tried.is_empty() && !self.shared.iter().any(|shared| shared.health.is_out(self.now_ms)) {
            let share = |index: usize| {
                let facts = &self.facts[index];
                if facts.down || facts.backup || self.is_full(index) { 0 } else { self.share(index) }
            };
            let picked = self.by_policy(state, share, &mut draw);
            if let Some(picked) = picked
                && self.take(picked)
            {
                return Picked::At(picked);
            }
        }
        self.pick_among(state, draw)
    }

    #[cold]
    fn pick_among(&self, state: &mut [State], mut draw: impl FnMut(usize) -> usize) -> Picked {
        // When another shard is faster to try an endpoint whose time is over, or to take its last place, that one is no longer
        // usable: at most one such round per endpoint.
        for _ in 0..=self.facts.len() {
            let among = match Among::of(self) {
                Found::Among(among) => among,
                Found::Full => return Picked::Full,
                Found::Nobody => return Picked::Nowhere,
            };
            let share = |index: usize| if among.has(self, index) { self.share(index) } else { 0 };
            let picked = self.by_policy(state, share, &mut draw);
            if let Some(picked) = picked
                && self.take(picked)
            {
                return Picked::At(picked);
            }
        }
        let is_left = |index: &usize| !self.facts[*index].down && !self.tried.contains(*index);
        match (0..self.facts.len()).filter(is_left).find(|&index| self.take_place(index)) {
            Some(index) => Picked::At(index),
            None if (0..self.facts.len()).any(|index| is_left(&index)) => Picked::Full,
            None => Picked::Nowhere,
        }
    }

    /// Whether the endpoint that was picked may be used; from now on it is.
    #[inline]
    fn take(&self, index: usize) -> bool {
        let room = self.take_place(index);
        let usable = room && self.shared[index].health.may_try(&self.facts[index], self.now_ms);
        if room && !usable && self.facts[index].max_conns > 0 {
            self.shared[index].room.give_back();
        }
        usable
    }

    #[inline]
    fn take_place(&self, index: usize) -> bool {
        let most = self.facts[index].max_conns;
        most == 0 || self.shared[index].room.take(most)
    }

    /// Whether it has as many requests as it may.
    #[inline]
    fn is_full(&self, index: usize) -> bool {
        let most = self.facts[index].max_conns;
        most > 0 && self.shared[index].room.taken() >= most
    }

    /// Its weight now, at least 1: less while it comes back.
    #[inline]
    fn share(&self, index: usize) -> u64 {
        let facts = &self.facts[index];
        let weight = facts.weight();
        if facts.slow_start_ms == 0 {
            return weight;
        }
        match self.shared[index].health.back_since_ms() {
            0 => weight,
            since_ms => {
                let passed_ms = self.now_ms.saturating_sub(since_ms).min(facts.slow_start_ms);
                (weight * passed_ms / facts.slow_start_ms).max(1)
            }
        }
    }

    /// Who is usable has a share above 0.
    fn by_policy(
        &self,
        state: &mut [State],
        share: impl Fn(usize) -> u64,
        draw: &mut impl FnMut(usize) -> usize,
    ) -> Option<usize> {
        match (self.policy, self.key) {
            (Policy::RoundRobin, _) => round_robin::pick(state, |index, _| share(index)),
            (Policy::LeastConn, _) => least::pick_by_requests(state, share),
            (Policy::LeastTime, _) => least::pick_by_time(state, self.now_ms, share),
            // The others stay idle until it has `max_conns` requests, or fails.
            (Policy::First, _) => (0..state.len()).find(|&index| share(index) > 0),
            (Policy::IpHash | Policy::Hash, Some(key)) => hash::pick(self.facts, state, key, share),
            (Policy::Random, _) | (Policy::IpHash | Policy::Hash, None) => random::pick(state, share, draw),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A service as the tests see it: endpoints `a`, `b`, `c`, …, failures that take one out for 5 s at once.
    struct Service {
        facts: Vec<Facts>,
        shared: Vec<Arc<Shared>>,
        state: Vec<State>,
        tried: Tried,
        can_wait: bool,
        seed: u64,
    }

    pub(super) const FACTS: Facts = Facts {
        weight: 1,
        backup: false,
        down: false,
        max_fails: 1,
        fail_timeout_ms: 5000,
        max_conns: 0,
        slow_start_ms: 0,
        name: 0,
    };

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
                        ..FACTS
                    }
                })
                .collect();
            Self {
                shared: facts.iter().map(|_| Arc::default()).collect(),
                state: facts.iter().map(|_| State::default()).collect(),
                facts,
                tried: Tried::default(),
                can_wait: false,
                seed: 42,
            }
        }

        fn fail(&self, endpoint: char, now_ms: u64) {
            let index = index(endpoint);
            self.shared[index].health.failed(&self.facts[index], now_ms);
        }

        fn pick(&mut self, policy: Policy, now_ms: u64) -> Option<usize> {
            match self.try_pick(policy, now_ms) {
                Picked::At(index) => Some(index),
                Picked::Full | Picked::Nowhere => None,
            }
        }

        fn try_pick(&mut self, policy: Policy, now_ms: u64) -> Picked {
            let Self { facts, shared, state, tried, can_wait, seed } = self;
            let draw = |below: usize| {
                // An LCG's upper bits (Knuth, MMIX).
                *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                usize::try_from(*seed >> 33).unwrap() % below
            };
            let can_wait = *can_wait;
            Choice { policy, facts, shared, tried, key: None, can_wait, now_ms }.pick(state, draw)
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
        service.shared[0].health.succeeded(5000);
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

    /// One endpoint per number: its `max_conns`.
    fn bounded(most: &[u32]) -> Service {
        let mut service = Service::of(&"1 ".repeat(most.len()));
        for (facts, &most) in service.facts.iter_mut().zip(most) {
            facts.max_conns = most;
        }
        service
    }

    #[test]
    fn an_endpoint_gets_no_more_than_max_conns() {
        for policy in
            [Policy::RoundRobin, Policy::Random, Policy::LeastConn, Policy::LeastTime, Policy::First]
        {
            let mut service = bounded(&[2, 1, 3]);
            let mut counts = [0; 3];
            for _ in 0..6 {
                counts[service.pick(policy, 0).expect("there is room")] += 1;
            }
            assert_eq!(counts, [2, 1, 3], "{policy:?}");
            assert_eq!(service.try_pick(policy, 0), Picked::Full);
            service.shared[1].room.give_back();
            assert_eq!(service.try_pick(policy, 0), Picked::At(1));
            // One without a bound takes the rest.
            service.facts[2].max_conns = 0;
            assert_eq!(service.try_pick(policy, 0), Picked::At(2));
        }
    }

    #[test]
    fn a_backup_serves_when_the_primaries_are_full() {
        let mut service = bounded(&[1, 1]);
        service.facts[1].backup = true;
        assert_eq!(service.sequence(3, 0), "ab-");
    }

    #[test]
    fn who_can_wait_is_not_sent_to_one_that_is_out() {
        let mut service = bounded(&[1, 0, 0]);
        service.facts[2].down = true;
        service.fail('b', 0);
        assert_eq!(service.try_pick(Policy::RoundRobin, 1), Picked::At(0));
        service.can_wait = true;
        assert_eq!(service.try_pick(Policy::RoundRobin, 1), Picked::Full);
        service.can_wait = false;
        assert_eq!(service.try_pick(Policy::RoundRobin, 1), Picked::At(1));
    }

    #[test]
    fn who_was_tried_is_not_waited_for() {
        let mut service = bounded(&[1]);
        service.can_wait = true;
        assert_eq!(service.try_pick(Policy::RoundRobin, 0), Picked::At(0));
        service.tried.insert(0);
        assert_eq!(service.try_pick(Policy::RoundRobin, 0), Picked::Nowhere);
    }

    #[test]
    fn the_first_is_used_until_it_is_full_or_out() {
        let mut service = bounded(&[2, 0]);
        let order: Vec<_> = (0..4).map(|_| service.pick(Policy::First, 0)).collect();
        assert_eq!(order, [0, 0, 1, 1].map(Some));
        let mut service = Service::of("1 1");
        service.fail('a', 0);
        assert_eq!(service.pick(Policy::First, 1), Some(1));
    }

    #[test]
    fn an_endpoint_that_comes_back_gets_its_share_slowly() {
        let mut service = Service::of("1 1");
        service.facts[0].slow_start_ms = 10_000;
        service.fail('a', 0);
        assert_eq!(service.sequence(2, 4000), "bb");
        assert!(service.sequence(2, 5000).contains('a'), "it is tried");
        service.shared[0].health.succeeded(5000);
        let mut share = |now_ms| service.sequence(300, now_ms).matches('a').count();
        assert!(share(5000) <= 5);
        assert!((25..31).contains(&share(6111)), "a tenth of its weight");
        assert!((95..105).contains(&share(10_000)), "half of its weight");
        assert!((149..152).contains(&share(15_000)), "all of it");
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
                let facts = Facts { weight, backup, down, fail_timeout_ms: 4, ..FACTS };
                let shared = Shared::default();
                failed_ms.into_iter().for_each(|at| shared.health.failed(&facts, at));
                service.facts.push(facts);
                service.shared.push(Arc::new(shared));
                service.state.push(State { in_flight: weight * 7 % 5, ..State::default() });
                if tried {
                    service.tried.insert(index);
                }
            }
            service.seed = seed;
            let primaries = || (0..endpoints.len()).filter(|&index| !endpoints[index].1 && !endpoints[index].2);
            let in_rotation = |index: usize| !service.shared[index].health.is_out(now_ms);
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
