//! The same endpoint for the same key, as far as load and life allow.

use std::{
    hash::{BuildHasher, Hash},
    net::IpAddr,
};

use super::{Facts, State};

/// How much more than its share an endpoint may have in flight, in percent (Mirrokni, Thorup, Zadimoghaddam 2016, "Consistent Hashing
/// with Bounded Loads").
const LOAD_PERCENT: u64 = 125;
/// Any number; the same in every process, so that several gateways agree.
const SEED: u64 = 0x436f_7265_6761_7465;

/// The endpoint that the key likes best among those that are usable and not overloaded (rendezvous hashing: Thaler and Ravishankar
/// 1998). When an endpoint comes or goes, only the keys that it has or had move.
pub(super) fn pick(
    facts: &[Facts],
    state: &[State],
    key: u64,
    share: impl Fn(usize) -> u64,
) -> Option<usize> {
    let usable = || (0..state.len()).filter(|&index| share(index) > 0);
    // This request is one more; all shares together are more than it, so somebody is always below the bound.
    let requests = 1 + usable().map(|index| u64::from(state[index].in_flight)).sum::<u64>();
    let shares = usable().map(&share).sum::<u64>();
    let mut best = None;
    let mut best_score = f64::NEG_INFINITY;
    for index in usable() {
        let own = share(index);
        let bound =
            (u128::from(requests * LOAD_PERCENT) * u128::from(own)).div_ceil(u128::from(shares) * 100);
        if u128::from(state[index].in_flight) >= bound {
            continue;
        }
        let score = score(key, facts[index].name, facts[index].weight());
        if score > best_score {
            (best, best_score) = (Some(index), score);
        }
    }
    best
}

/// How much `key` likes an endpoint: highest for each of several in proportion to their weights (Schindelhauer and Schomaker 2005).
#[expect(clippy::cast_precision_loss, reason = "of a hash and a weight, 52 bits are enough")]
fn score(key: u64, name: u64, weight: u64) -> f64 {
    // Above 0 and below 1.
    let drawn = ((mix(key ^ mix(name)) >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
    weight as f64 / -drawn.ln()
}

/// The finaliser of MurmurHash3.
fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ x >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ x >> 33
}

/// A key from a value of the request.
pub fn key(value: &[u8]) -> u64 {
    foldhash::quality::FixedState::with_seed(SEED).hash_one(value)
}

/// A key from a client's address: of IPv4 the first three bytes, of IPv6 all, as in nginx.
pub fn address_key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => key(&address.octets()[..3]),
        IpAddr::V6(address) => key(&address.octets()),
    }
}

/// By which an endpoint is known: what is written, and the address it stands for.
pub fn name(url: &str, address: &impl Hash) -> u64 {
    foldhash::quality::FixedState::with_seed(SEED).hash_one((url, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(names: &str) -> Vec<Facts> {
        names
            .chars()
            .map(|letter| Facts { name: name("http://x", &letter), ..super::super::tests::FACTS })
            .collect()
    }

    fn picks(facts: &[Facts], keys: u64) -> Vec<u64> {
        let state = vec![State::default(); facts.len()];
        (0..keys)
            .map(|number| {
                let picked = pick(facts, &state, key(&number.to_le_bytes()), |index| facts[index].weight());
                facts[picked.expect("all are usable")].name
            })
            .collect()
    }

    #[test]
    fn every_endpoint_gets_its_share_of_the_keys() {
        let mut facts = endpoints("abcd");
        facts[0].weight = 3;
        let picks = picks(&facts, 12_000);
        for (facts, expected) in facts.iter().zip([6000, 2000, 2000, 2000]) {
            let share = picks.iter().filter(|name| **name == facts.name).count();
            assert!(share.abs_diff(expected) < 200, "{share} instead of {expected}");
        }
    }

    #[test]
    fn only_the_keys_of_an_endpoint_that_goes_move() {
        let (four, three) = (endpoints("abcd"), endpoints("dbc"));
        let (before, after) = (picks(&four, 2000), picks(&three, 2000));
        let gone = four[0].name;
        for (before, after) in before.iter().zip(&after) {
            assert!(before == after || *before == gone);
        }
        assert!(before.contains(&gone));
    }

    #[test]
    fn a_key_that_all_have_does_not_overload_its_endpoint() {
        let facts = endpoints("abcd");
        let mut state = vec![State::default(); 4];
        for _ in 0..400 {
            let picked = pick(&facts, &state, 7, |_| 1).expect("all are usable");
            state[picked].in_flight += 1;
        }
        let most = state.iter().map(|state| state.in_flight).max();
        assert_eq!(most, Some(125));
    }

    #[test]
    fn clients_of_one_network_go_to_one_endpoint() {
        let key = |address: &str| address_key(address.parse().unwrap());
        assert_eq!(key("10.1.2.3"), key("10.1.2.200"));
        assert_eq!(key("10.1.2.3"), key("::ffff:10.1.2.3"));
        assert_ne!(key("10.1.2.3"), key("10.1.3.3"));
        assert_ne!(key("2001:db8::1"), key("2001:db8::2"));
    }
}
