//! Smooth weighted round robin, as in nginx.

use super::State;

/// The usable endpoint that is furthest behind its share.
///
/// Every usable endpoint gains its share, the one chosen pays the sum of all: weights 5, 1, 1 give a a b a c a a,
/// not a a a a a b c.
pub(super) fn pick(state: &mut [State], share: impl Fn(usize, &State) -> u64) -> Option<usize> {
    let mut total = 0;
    let mut best = None;
    let mut best_current = i64::MIN;
    for (index, state) in state.iter_mut().enumerate() {
        let share = share(index, state).cast_signed();
        if share == 0 {
            continue;
        }
        state.current += share;
        total += share;
        if state.current > best_current {
            best = Some(index);
            best_current = state.current;
        }
    }
    let best = best?;
    state[best].current -= total;
    Some(best)
}
