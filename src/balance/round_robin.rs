//! Smooth weighted round robin, as in nginx.

use super::{Facts, State};

/// The usable endpoint that is furthest behind its share.
///
/// Every usable endpoint gains its weight, the one chosen pays the sum of all: weights 5, 1, 1 give a a b a c a a,
/// not a a a a a b c.
pub(super) fn pick(
    facts: &[Facts],
    state: &mut [State],
    usable: impl Fn(usize, &Facts) -> bool,
) -> Option<usize> {
    let mut total = 0;
    let mut best = None;
    let mut best_current = i64::MIN;
    for (index, (facts, state)) in facts.iter().zip(state.iter_mut()).enumerate() {
        if !usable(index, facts) {
            continue;
        }
        let weight = facts.weight().cast_signed();
        state.current += weight;
        total += weight;
        if state.current > best_current {
            best = Some(index);
            best_current = state.current;
        }
    }
    let best = best?;
    state[best].current -= total;
    Some(best)
}
