//! Who may be picked: the tiers, and the rule of the half (see the [module](super)).

use std::sync::Arc;

use super::{Choice, Facts, Health, Shared};

/// Who is picked from: one tier, without those out for longer than `back_ms`.
pub(super) struct Among {
    backup: bool,
    back_ms: u64,
}

/// Whether there is anybody.
pub(super) enum Found {
    Among(Among),
    /// Only endpoints that have as many requests as they may.
    Full,
    /// Every endpoint is down or was tried.
    Nobody,
}

impl Among {
    pub(super) fn of(choice: &Choice<'_>) -> Found {
        let Choice { facts, shared, tried, now_ms, .. } = choice;
        let mut tiers = [Tier::default(), Tier::default()];
        for (index, (facts, shared)) in facts.iter().zip(*shared).enumerate() {
            if facts.down {
                continue;
            }
            let tier = &mut tiers[usize::from(facts.backup)];
            let is_out = shared.health.is_out(*now_ms);
            let is_tried = tried.contains(index);
            let is_full = choice.is_full(index);
            let is_left = !is_tried && !is_full;
            tier.up += 1;
            tier.out += usize::from(is_out);
            tier.left += usize::from(is_left);
            tier.usable += usize::from(is_left && !is_out);
            tier.full += usize::from(!is_tried && is_full);
            tier.worth_waiting += usize::from(!is_tried && is_full && !is_out);
        }

        let [primary, backup] = tiers;
        let backup_serves = backup.usable > 0;
        // Half of them, and not all for want of a backup.
        let too_many_out = primary.out > primary.up / 2 && !(primary.out == primary.up && backup_serves);
        if too_many_out {
            let back_ms = back_of_the_half(facts, shared, primary.up, *now_ms);
            let among = Self { backup: false, back_ms };
            if (0..facts.len()).any(|index| among.has(choice, index)) {
                return Found::Among(among);
            }
        } else if primary.usable > 0 {
            return Found::Among(Self { backup: false, back_ms: *now_ms });
        }
        if backup_serves {
            return Found::Among(Self { backup: true, back_ms: *now_ms });
        }
        if choice.can_wait && primary.worth_waiting + backup.worth_waiting > 0 {
            return Found::Full;
        }
        match (primary.left, backup.left) {
            (0, 0) if primary.full + backup.full > 0 => Found::Full,
            (0, 0) => Found::Nobody,
            (left, _) => Found::Among(Self { backup: left == 0, back_ms: u64::MAX }),
        }
    }

    pub(super) fn has(&self, choice: &Choice<'_>, index: usize) -> bool {
        let facts = &choice.facts[index];
        !facts.down
            && facts.backup == self.backup
            && !choice.tried.contains(index)
            && !choice.is_full(index)
            && !choice.shared[index].health.is_out(self.back_ms)
    }
}

/// Counts of one tier's endpoints that are not down.
#[derive(Clone, Copy, Default)]
struct Tier {
    up: usize,
    out: usize,
    /// Neither tried nor full.
    left: usize,
    /// Neither tried, nor full, nor out.
    usable: usize,
    /// Full, and not tried.
    full: usize,
    /// Full, and neither tried nor out.
    worth_waiting: usize,
}

/// The time at which half of the `up` primaries, rounded up, would be back in rotation.
///
/// By bisection over the time, since there is nowhere to sort: about 13 looks at each endpoint when they are out for
/// seconds, and only while more than half of them are.
fn back_of_the_half(facts: &[Facts], shared: &[Arc<Shared>], up: usize, now_ms: u64) -> u64 {
    let primaries = || {
        let up = facts.iter().zip(shared).filter(|(facts, _)| !facts.down && !facts.backup);
        up.map(|(_, shared)| &shared.health)
    };
    let mut early = now_ms;
    let mut late = primaries().map(Health::back_ms).max().unwrap_or(now_ms).max(now_ms);
    while early < late {
        let middle = early + (late - early) / 2;
        let back = primaries().filter(|health| !health.is_out(middle)).count();
        if back >= up - up / 2 {
            late = middle;
        } else {
            early = middle + 1;
        }
    }
    late
}
