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
    // Those met before the one they repeat.
    conflicts.retain(|conflict| {
        conflict.settled_by.is_none() || !(repeats[conflict.first] || repeats[conflict.second])
    });
    conflicts.sort_by_key(|conflict| (conflict.first, conflict.second));
    // A prefix is met twice where its path without the slash is shared, too.
    conflicts.dedup();
    conflicts
}

/// What is wrong between routes `first` and `second`, if anything.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{CONFLICTS_MAX, Conflict, conflicts};
    use crate::route::{
        Pattern,
        oracle::{self, universe},
        pattern,
    };

    fn of(keys: &[&str]) -> Vec<Conflict> {
        let patterns: Vec<Pattern> = keys.iter().map(|key| pattern(key)).collect();
        conflicts(&patterns.iter().map(|pattern| (pattern, None)).collect::<Vec<_>>())
    }

    #[track_caller]
    fn check(keys: &[&str], expected: &[(usize, usize, &str, Option<&str>)]) {
        let found = of(keys);
        let found: Vec<_> =
            found.iter().map(|c| (c.first, c.second, c.example.as_str(), c.settled_by.as_deref())).collect();
        assert_eq!(found, expected, "{keys:?}");
    }

    #[test]
    fn routes_with_an_order_do_not_conflict() {
        check(&["/", "/a", "/{x}", "/a/", "/a/{x}", "GET /a", "HEAD /a"], &[]);
        check(&["/", "/a", "h.test/a", "*.test/a", "GET h.test/a", "POST h.test/a"], &[]);
        check(&["GET /a", "POST /a", "PUT /a"], &[]);
        check(&["a.test/{x}/b", "b.test/a/{x}"], &[]);
    }

    #[test]
    fn an_overlap_is_shown_with_an_example_and_the_key_that_settles_it() {
        check(
            &["GET /users/{id}/posts", "/", "GET /users/me/{page}"],
            &[(0, 2, "/users/me/posts", Some("GET /users/me/posts"))],
        );
        check(&["api.test/", "/ping"], &[(0, 1, "api.test/ping", Some("api.test/ping"))]);
        check(&["GET /users/", "/users/{id}"], &[(0, 1, "GET /users/id", Some("GET /users/{id}"))]);
        check(&["/{a}/", "*.test/"], &[(0, 1, "www.test/a/", Some("*.test/{a}/"))]);
    }

    #[test]
    fn a_route_for_exactly_what_two_share_settles_them() {
        check(&["GET /users/{id}/posts", "GET /users/me/{page}", "GET /users/me/posts"], &[]);
        check(&["api.test/", "/ping", "api.test/ping"], &[]);
        check(&["/{a}/", "*.test/", "*.test/{b}/"], &[]);
        // Settled for GET only.
        check(&["/{a}/b", "/a/{b}", "GET /a/b"], &[(0, 1, "/a/b", Some("/a/b"))]);
        // `/a/` takes `/a` along, but is not a route for it.
        check(&["GET /{x}", "api.test/{x}", "/b/"], &[(0, 1, "GET api.test/x", Some("GET api.test/{x}"))]);
    }

    #[test]
    fn what_matches_the_same_requests_is_reported_against_the_first() {
        check(&["/{a}", "/{b}", "/{c}"], &[(0, 1, "/a", None), (0, 2, "/a", None)]);
        check(&["/a/", "/a/{rest...}"], &[(0, 1, "/a/", None)]);
        check(&["/{x}/b", "/a/{y}", "/a/{z}"], &[(0, 1, "/a/b", Some("/a/b")), (1, 2, "/a/y", None)]);
    }

    #[test]
    fn a_listener_is_a_dimension_of_its_own() {
        let (all, ping) = (pattern("/"), pattern("/ping"));
        assert_eq!(conflicts(&[(&all, Some(1)), (&all, Some(2)), (&all, None)]), []);
        assert_eq!(conflicts(&[(&all, None), (&ping, Some(1))]), []);
        assert_eq!(conflicts(&[(&all, Some(1)), (&ping, None)]).len(), 1);
        assert_eq!(conflicts(&[(&all, Some(1)), (&ping, None), (&ping, Some(1))]), []);
        assert_eq!(conflicts(&[(&all, Some(1)), (&all, Some(1))]).len(), 1);
    }

    #[test]
    fn thousands_of_conflicts_are_cut_short() {
        let keys: Vec<String> =
            (0..100).flat_map(|n| [format!("/{{x}}/b{n}"), format!("/a{n}/{{y}}")]).collect();
        let found = of(&keys.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(found.len(), CONFLICTS_MAX);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn a_conflict_is_a_shared_request_that_belongs_to_nobody(routes in oracle::routes(7)) {
            let requests = universe();
            let sets: Vec<BTreeSet<usize>> = routes
                .iter()
                .map(|route| (0..requests.len()).filter(|&r| route.matches(&requests[r]).is_some()).collect())
                .collect();
            let mut expected = Vec::new();
            for second in 0..routes.len() {
                for first in 0..second {
                    let is_repeat = |route: usize| (0..route).any(|earlier| sets[earlier] == sets[route]);
                    if is_repeat(first) {
                        continue;
                    }
                    if sets[first] == sets[second] {
                        expected.push((first, second));
                        continue;
                    }
                    let shared: BTreeSet<usize> = sets[first].intersection(&sets[second]).copied().collect();
                    let nested = shared == sets[first] || shared == sets[second];
                    let owned = oracle::owns(&routes[first], &routes[second], &shared, &requests)
                        || oracle::owns(&routes[second], &routes[first], &shared, &requests);
                    if !shared.is_empty() && !nested && !owned && !is_repeat(second) && !sets.contains(&shared) {
                        expected.push((first, second));
                    }
                }
            }
            expected.sort_unstable();
            let bound: Vec<_> = routes.iter().map(|route| (&route.pattern, route.listener)).collect();
            let found: Vec<_> = conflicts(&bound).iter().map(|c| (c.first, c.second)).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
