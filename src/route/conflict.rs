//! Routes that overlap without an order.

use super::{
    index::Index,
    pattern::Pattern,
    relation::{Bound, Meet, Order, order},
    tree::Leaf,
};

/// Conflicts that are reported at most.
pub const CONFLICTS_MAX: usize = 1_000;

/// Two routes of which neither is more specific.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// As in the list; less than `second`.
    pub first: usize,
    pub second: usize,
    /// One request that both match, `[METHOD ][HOST]/PATH`.
    pub example: String,
    /// The key of a route that would settle it, because it is exactly what both match (on the listener that one of
    /// them is bound to); `None` when the two match the same requests.
    pub settled_by: Option<String>,
}

/// All pairs of routes that match the same requests, or overlap with neither more specific and no third route that is
/// exactly what they share. Ordered by `first`, then `second`; at most [`CONFLICTS_MAX`].
///
/// Each route comes with the listener it is bound to, if any. Of several routes that match the same requests only
/// the first is compared with others.
pub fn conflicts(routes: &[(&Pattern, Option<usize>)]) -> Vec<Conflict> {
    let index = Index::of(routes);
    let mut repeats = vec![false; routes.len()];
    let mut conflicts = Vec::new();
    for (this, &route) in routes.iter().enumerate() {
        if repeats[this] {
            continue;
        }
        // Only a tree of this host or of one around it can share a request, so each pair is met from its narrower
        // host; within one host's tree from its first route.
        for (place, link) in index.chain_of(route.0).iter().enumerate() {
            index.trees().each_overlap(link.root, route.0, &mut |leaf: &Leaf| {
                let other = leaf.route as usize;
                if repeats[other] || other == this || (place == 0 && other < this) {
                    return true;
                }
                let (first, second) = (this.min(other), this.max(other));
                if let Some(conflict) = conflict(routes, &index, first, second) {
                    repeats[second] |= conflict.settled_by.is_none();
                    conflicts.push(conflict);
                }
                conflicts.len() < CONFLICTS_MAX
            });
        }
        if conflicts.len() >= CONFLICTS_MAX {
            break;
        }
    }
    conflicts.sort_by_key(|conflict| (conflict.first, conflict.second));
    // A prefix is met twice where its path without the slash is shared, too.
    conflicts.dedup();
    conflicts
}

fn conflict(routes: &[Bound<'_>], index: &Index, first: usize, second: usize) -> Option<Conflict> {
    let (a, b) = (routes[first], routes[second]);
    let order = order(a, b);
    if !matches!(order, Order::Same | Order::Across) {
        return None;
    }
    let meet = Meet::of(a, b);
    if order == Order::Across && is_route(&meet, routes, index, (first, second)) {
        return None;
    }
    Some(Conflict {
        first,
        second,
        example: meet.example(a.0, b.0),
        settled_by: (order == Order::Across).then(|| meet.key()),
    })
}

/// Whether some route is exactly what routes `first` and `second` share.
fn is_route(meet: &Meet<'_>, routes: &[Bound<'_>], index: &Index, (first, second): (usize, usize)) -> bool {
    let narrower = if routes[first].0.host == *meet.host { first } else { second };
    let own_tree = index.chain_of(routes[narrower].0)[0];
    index.trees().at(own_tree.root, &meet.segments, meet.end).iter().any(|leaf| {
        let (pattern, listener) = routes[leaf.route as usize];
        // A prefix's second leaf stands among those without a slash, but is not a route of its own.
        !leaf.needs_slash && listener == meet.listener && pattern.method() == meet.method
    })
}
