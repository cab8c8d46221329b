//! Who may be picked: the tiers, and the rule of the half (see the [module](super)).

use std::sync::Arc;

use super::{Facts, Health, Tried};

/// Who is picked from: one tier, without those out for longer than `back_ms`.
pub(super) struct Among {
    backup: bool,
    back_ms: u64,
}

impl Among {
    /// `None` when every endpoint is down or was tried.
    pub(super) fn of(facts: &[Facts], health: &[Arc<Health>], tried: &Tried, now_ms: u64) -> Option<Self> {
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

    pub(super) fn has(&self, index: usize, facts: &Facts, health: &Health, tried: &Tried) -> bool {
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
