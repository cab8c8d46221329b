//! Two choices at random.

use super::{Facts, State};

/// The less loaded of two different usable endpoints drawn at random (Mitzenmacher 2001, "The Power of Two Choices in
/// Randomized Load Balancing").
///
/// An endpoint is drawn in proportion to its weight, and its load is its requests in flight per weight. With equal
/// loads the first one drawn is taken, so that shares follow the weights when there is little to do.
pub(super) fn pick(
    facts: &[Facts],
    state: &[State],
    usable: impl Fn(usize) -> bool,
    draw: &mut impl FnMut(usize) -> usize,
) -> Option<usize> {
    let mut total = 0;
    let mut count = 0;
    let mut only = None;
    for (index, facts) in facts.iter().enumerate().filter(|(index, _)| usable(*index)) {
        total += facts.weight();
        count += 1;
        only = Some(index);
    }
    if count < 2 {
        return only;
    }

    let first = nth(facts, draw_below(total, draw), &usable)?;
    let others = total - facts[first].weight();
    let second = nth(facts, draw_below(others, draw), |index| index != first && usable(index))?;
    let load = |index: usize, weight_of: usize| u64::from(state[index].in_flight) * facts[weight_of].weight();
    Some(if load(second, first) < load(first, second) { second } else { first })
}

/// The endpoint that owns place `at` when each usable one has as many places as its weight.
fn nth(facts: &[Facts], mut at: u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
    let mut last = None;
    for (index, facts) in facts.iter().enumerate().filter(|(index, _)| usable(*index)) {
        if at < facts.weight() {
            return Some(index);
        }
        at -= facts.weight();
        last = Some(index);
    }
    // Another shard has taken one out since they were counted.
    last
}

fn draw_below(total: u64, draw: &mut impl FnMut(usize) -> usize) -> u64 {
    draw(usize::try_from(total).unwrap_or(usize::MAX)) as u64
}
