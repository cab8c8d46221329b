//! Smooth weighted round robin, as in nginx.

use super::{Facts, State};

/// The usable endpoint that is furthest behind its share.
///
/// Every usable endpoint gains its weight, the one chosen pays the sum of all: weights 5, 1, 1 give a a b a c a a,
/// not a a a a a b c.
pub(super) fn pick(facts: &[Facts], state: &mut [State], usable: impl Fn(usize) -> bool) -> Option<usize> {
    let mut total = 0;
    let mut best: Option<(usize, i64)> = None;
    for (index, (facts, state)) in facts.iter().zip(state.iter_mut()).enumerate() {
        if !usable(index) {
            continue;
        }
        let weight = facts.weight().cast_signed();
        state.current += weight;
        total += weight;
        if best.is_none_or(|(_, current)| state.current > current) {
            best = Some((index, state.current));
        }
    }
    let (index, _) = best?;
    state[index].current -= total;
    Some(index)
}
