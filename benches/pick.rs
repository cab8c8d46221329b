//! The pick of an endpoint (DESIGN §8).

use std::{hint::black_box, sync::Arc};

use coregate::balance::{Choice, Facts, Policy, Shared, State, Tried};
use divan::Bencher;

fn main() {
    divan::main();
}

const COUNTS: [usize; 4] = [1, 4, 16, 100];

/// Picks once. The first endpoint has `weight`, the others 1; `out` of them are out of rotation.
fn run(bencher: Bencher<'_, '_>, policy: Policy, count: usize, weight: u32, out: usize) {
    let facts = Facts {
        weight: 1,
        backup: false,
        down: false,
        max_fails: 1,
        fail_timeout_ms: 60_000,
        max_conns: 0,
        slow_start_ms: 0,
        name: 0,
    };
    let mut facts = vec![facts; count];
    facts[0].weight = weight;
    let shared: Vec<Arc<Shared>> = (0..count).map(|_| Arc::default()).collect();
    for (at, shared) in (0..).zip(&shared[..out]) {
        shared.health.failed(&facts[0], at);
    }
    let mut state: Vec<State> = facts.iter().map(|_| State::default()).collect();
    let tried = Tried::default();
    let mut seed = 1_u64;
    bencher.bench_local(|| {
        // xorshift64 (Marsaglia 2003)
        let draw = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from((u128::from(seed) * below as u128) >> 64).expect("it is below the bound")
        };
        let (facts, shared, tried) = (black_box(&facts), black_box(&shared), black_box(&tried));
        let now_ms = black_box(1000);
        Choice { policy, facts, shared, tried, key: None, can_wait: false, now_ms }.pick(&mut state, draw)
    });
}

#[divan::bench(args = COUNTS)]
fn round_robin(bencher: Bencher<'_, '_>, count: usize) {
    run(bencher, Policy::RoundRobin, count, 1, 0);
}

#[divan::bench(args = COUNTS)]
fn random(bencher: Bencher<'_, '_>, count: usize) {
    run(bencher, Policy::Random, count, 1, 0);
}

#[divan::bench(args = COUNTS)]
fn random_with_weights(bencher: Bencher<'_, '_>, count: usize) {
    run(bencher, Policy::Random, count, 3, 0);
}

#[divan::bench(args = COUNTS)]
fn least_conn(bencher: Bencher<'_, '_>, count: usize) {
    run(bencher, Policy::LeastConn, count, 1, 0);
}

#[divan::bench(args = COUNTS)]
fn all_out(bencher: Bencher<'_, '_>, count: usize) {
    run(bencher, Policy::RoundRobin, count, 1, count);
}
