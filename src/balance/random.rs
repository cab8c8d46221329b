//! Two choices at random.

use super::State;

/// The less loaded of two different usable endpoints drawn at random (Mitzenmacher 2001, "The Power of Two Choices in
/// Randomized Load Balancing").
///
/// An endpoint is drawn in proportion to its weight, and its load is its requests in flight per weight. With equal
/// loads the first one drawn is taken, so that shares follow the weights when there is little to do.
pub(super) fn pick(
    state: &[State],
    share: impl Fn(usize) -> u64,
    draw: &mut impl FnMut(usize) -> usize,
) -> Option<usize> {
    let count = state.len();
    let one = if count == 0 { 0 } else { share(0) };
    let all_alike = one > 0 && (1..count).all(|index| share(index) == one);
    let (first, second) = if all_alike {
        let first = draw(count);
        let others = count - 1;
        // Step over `first` so that the two are never the same.
        (first, (others > 0).then(|| draw(others)).map(|second| second + usize::from(second >= first)))
    } else {
        let first = draw_by_share((0..count).map(&share), draw)?;
        let others = |index: usize| if index == first { 0 } else { share(index) };
        (first, draw_by_share((0..count).map(others), draw))
    };
    let Some(second) = second else { return Some(first) };

    // In flight per share, without a division.
    let first_load = u64::from(state[first].in_flight) * share(second);
    let second_load = u64::from(state[second].in_flight) * share(first);
    Some(if second_load < first_load { second } else { first })
}

/// An index drawn in proportion to its share; `None` when there is nothing to share.
fn draw_by_share(
    shares: impl ExactSizeIterator<Item = u64> + Clone,
    draw: &mut impl FnMut(usize) -> usize,
) -> Option<usize> {
    let below = usize::try_from(shares.clone().sum::<u64>()).unwrap_or(usize::MAX);
    if below == 0 {
        return None;
    }
    let at = draw(below) as u64;

    // Counts the shares that end before `at`: a loop that stopped there would be mispredicted at every draw.
    let count = shares.len();
    let mut end = 0;
    let index = shares.fold(0, |index, share| {
        end += share;
        index + usize::from(end <= at)
    });
    // Out of range when another shard took an endpoint out since the shares were added up.
    (index < count).then_some(index)
}
