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

mod health;
mod random;
mod round_robin;
mod tried;

use std::sync::Arc;

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

/// Who is picked from: one tier, without those out for longer than `back_ms`.
struct Among {
    backup: bool,
    back_ms: u64,
}

impl Among {
    /// `None` when every endpoint is down or was tried.
    fn of(facts: &[Facts], health: &[Arc<Health>], tried: &Tried, now_ms: u64) -> Option<Self> {
        let mut tiers = [Tier::default(), Tier::default()];
        for (index, (facts, health)) in facts.iter().zip(health).enumerate() {
            if facts.down {
                continue;
            }
            let tier = &mut tiers[usize::from(facts.backup)];
            let is_out = health.is_out(now_ms);
            let is_left = !tried.contains(index);
            tier.up += 1;
            tier.out += usize::from(is_out);
            tier.left += usize::from(is_left);
            tier.usable += usize::from(is_left && !is_out);
        }

        let [primary, backup] = tiers;
        let backup_serves = backup.usable > 0;
        // Half of them, and not all for want of a backup.
        let too_many_out = primary.out > primary.up / 2 && !(primary.out == primary.up && backup_serves);
        if too_many_out {
            let among = Self { backup: false, back_ms: back_of_the_half(facts, health, primary.up, now_ms) };
            let has = |index: usize| among.has(index, &facts[index], &health[index], tried);
            if (0..facts.len()).any(has) {
                return Some(among);
            }
        } else if primary.usable > 0 {
            return Some(Self { backup: false, back_ms: now_ms });
        }
        if backup_serves {
            return Some(Self { backup: true, back_ms: now_ms });
        }
        let backup = primary.left == 0;
        (primary.left + tiers[1].left > 0).then_some(Self { backup, back_ms: u64::MAX })
    }

    fn has(&self, index: usize, facts: &Facts, health: &Health, tried: &Tried) -> bool {
        !facts.down && facts.backup == self.backup && !tried.contains(index) && !health.is_out(self.back_ms)
    }
}

/// Counts of one tier's endpoints that are not down.
#[derive(Clone, Copy, Default)]
struct Tier {
    up: usize,
    out: usize,
    /// Not yet tried.
    left: usize,
    /// Neither tried nor out.
    usable: usize,
}

/// The time at which half of the `up` primaries, rounded up, would be back in rotation.
///
/// By bisection over the time, since there is nowhere to sort: about 13 looks at each endpoint when they are out for
/// seconds, and only while more than half of them are.
fn back_of_the_half(facts: &[Facts], health: &[Arc<Health>], up: usize, now_ms: u64) -> u64 {
    let primaries = || facts.iter().zip(health).filter(|(facts, _)| !facts.down && !facts.backup);
    let mut early = now_ms;
    let mut late = primaries().map(|(_, health)| health.back_ms()).max().unwrap_or(now_ms).max(now_ms);
    while early < late {
        let middle = early + (late - early) / 2;
        let back = primaries().filter(|(_, health)| !health.is_out(middle)).count();
        if back >= up - up / 2 {
            late = middle;
        } else {
            early = middle + 1;
        }
    }
    late
}
