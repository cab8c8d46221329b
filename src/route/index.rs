//! The index of all routes: a request → the most specific route that matches it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    captures::Captures,
    draft::Draft,
    host::{self, Hosts},
    pattern::{End, Host, Pattern},
    tree::{Leaf, NodeId, Search, Trees},
};

/// Finds routes. Built with a snapshot, never changed.
///
/// Hosts are found by one hash. Each host has a chain of trees: its own, those of the wildcards around it, that of
/// the routes without a host. What is more specific stands in an earlier tree; the one exception is a prefix that owns
/// its path without the slash.
#[derive(Debug, Default)]
pub struct Index {
    trees: Trees,
    exact: Hosts<Chain>,
    /// By domain, without `*.`.
    under: Hosts<Chain>,
    /// Labels of the longest domain in `under`.
    domain_labels_max: usize,
    default: Chain,
}

/// Trees to search, the most specific host first.
#[derive(Clone, Debug, Default)]
pub(super) struct Chain(Vec<Link>);

#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) root: NodeId,
    /// Whether a route in it owns a path without a slash.
    owns: bool,
}

/// What the index says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Route {
        /// As in the list the index was built from.
        index: usize,
        /// The path is that of a prefix without its slash: to be answered with a redirect once the request may.
        needs_slash: bool,
    },
    /// Routes match all but the method: 405. [`Index::allowed`] lists their methods.
    MethodNotAllowed,
    None,
}

impl Index {
    /// The index of `routes`, each with the listener it is bound to, if any.
    ///
    /// Where routes conflict (see [`super::conflicts`]) one of them is found, always the same.
    pub fn build(routes: &[(Pattern, Option<usize>)]) -> Self {
        Self::of(&routes.iter().map(|(pattern, listener)| (pattern, *listener)).collect::<Vec<_>>())
    }

    pub(super) fn of(routes: &[(&Pattern, Option<usize>)]) -> Self {
        let mut order: Vec<usize> = (0..routes.len()).collect();
        order.sort_by_key(|&route| specificity(routes[route].0, routes[route].1));

        let mut index = Self::default();
        let mut drafts: BTreeMap<HostKey<'_>, (Draft, bool)> = BTreeMap::new();
        for (rank, &route) in order.iter().enumerate() {
            let (pattern, listener) = routes[route];
            let (draft, owns) = drafts.entry(HostKey::of(&pattern.host)).or_default();
            draft.insert(pattern, index.trees.leaf(pattern, listener, route, rank));
            *owns |= matches!(pattern.end, End::Rest(_)) && !pattern.segments.is_empty();
        }

        // Wider hosts come first, so that chains can be made of chains.
        for (key, (draft, owns)) in drafts {
            let link = Link { root: index.trees.add(draft), owns };
            let chain_around = |index: &Self, name: &str| {
                let around = index.narrowest(name.as_bytes());
                Chain([link].into_iter().chain(around.0.iter().copied()).collect())
            };
            match key {
                HostKey::Any => index.default = Chain(vec![link]),
                HostKey::Under { labels, domain } => {
                    let chain = chain_around(&index, domain);
                    index.domain_labels_max = index.domain_labels_max.max(labels);
                    index.under.insert(domain, chain);
                }
                HostKey::Exact(name) => {
                    let chain = chain_around(&index, name);
                    index.exact.insert(name, chain);
                }
            }
        }
        index
    }

    /// The most specific route for a request.
    ///
    /// `host` is as received, with port and in any case, empty if there is none; `path` is normalised and without a
    /// query. A path that does not start with `/` matches nothing. `captures` is written when a route is found.
    pub fn find(
        &self,
        listener: usize,
        host: &[u8],
        method: &[u8],
        path: &[u8],
        captures: &mut Captures,
    ) -> Found {
        if !is_searchable(path) {
            return Found::None;
        }
        let mut search = Search { listener, method, path, other_method: false };
        let chain = self.chain(host);
        for (place, link) in chain.0.iter().enumerate() {
            let Some(leaf) = self.trees.find(link.root, &mut search, captures) else {
                continue;
            };
            let leaf = if leaf.yields {
                self.owner(leaf, &chain.0[place + 1..], &mut search, captures)
            } else {
                leaf
            };
            return Found::Route { index: leaf.route as usize, needs_slash: leaf.needs_slash };
        }
        if search.other_method { Found::MethodNotAllowed } else { Found::None }
    }

    /// `found`, or the route of a wider host that owns the path.
    fn owner<'i>(
        &'i self,
        found: &'i Leaf,
        wider: &[Link],
        search: &mut Search<'_>,
        captures: &mut Captures,
    ) -> &'i Leaf {
        let mut best = found;
        for link in wider.iter().filter(|link| link.owns) {
            let mut others = captures.clone();
            if let Some(leaf) = self.trees.find(link.root, search, &mut others)
                && leaf.rank < best.rank
            {
                best = leaf;
                *captures = others;
            }
        }
        best
    }

    /// The methods that routes match at this listener, host and path, in alphabetical order; empty when none or
    /// all do. For the `Allow` of a 405.
    pub fn allowed(&self, listener: usize, host: &[u8], path: &[u8]) -> Vec<&str> {
        let mut methods = BTreeSet::new();
        for leaf in self.matches(listener, host, path) {
            match self.trees.method_of(leaf) {
                None => return Vec::new(),
                Some("GET") => methods.extend(["GET", "HEAD"]),
                Some(method) => methods.extend([method]),
            }
        }
        methods.into_iter().collect()
    }

    /// All routes that match a request, the one that [`Self::find`] chooses first. For `explain`.
    pub fn candidates(&self, listener: usize, host: &[u8], method: &[u8], path: &[u8]) -> Vec<usize> {
        let mut leaves = self.matches(listener, host, path);
        leaves.retain(|leaf| self.trees.takes(leaf, method));
        leaves.sort_by_key(|leaf| leaf.rank);
        leaves.into_iter().map(|leaf| leaf.route as usize).collect()
    }

    /// The leaves of routes that match all but perhaps the method.
    fn matches(&self, listener: usize, host: &[u8], path: &[u8]) -> Vec<&Leaf> {
        let mut leaves = Vec::new();
        if is_searchable(path) {
            for link in &self.chain(host).0 {
                self.trees.matches(link.root, listener, path, &mut leaves);
            }
        }
        leaves
    }

    fn chain(&self, host: &[u8]) -> &Chain {
        if self.exact.is_empty() && self.under.is_empty() {
            return &self.default;
        }
        let name = host::name(host);
        if name.first() == Some(&b'[') {
            let found = host::canonical(name).and_then(|name| self.exact.get(name.name()));
            return found.unwrap_or(&self.default);
        }
        self.exact.get(name).unwrap_or_else(|| self.narrowest(name))
    }

    /// The chain of the longest domain around `name`, which is a host or a domain.
    fn narrowest(&self, name: &[u8]) -> &Chain {
        if self.under.is_empty() {
            return &self.default;
        }
        // From the right, so that a long name from a client costs no more than the longest domain.
        let mut best = &self.default;
        let dots = (1..name.len()).rev().filter(|&at| name[at] == b'.');
        for dot in dots.take(self.domain_labels_max) {
            if let Some(chain) = self.under.get(&name[dot + 1..]) {
                best = chain;
            }
        }
        best
    }

    /// The trees for the hosts of a pattern.
    pub(super) fn chain_of(&self, pattern: &Pattern) -> &[Link] {
        let chain = match &pattern.host {
            Host::Any => Some(&self.default),
            Host::Exact(name) => self.exact.get(name.as_bytes()),
            Host::Under(_) => pattern.host.domain().and_then(|domain| self.under.get(domain.as_bytes())),
        };
        &chain.expect("the index was built from this pattern, too").0
    }

    pub(super) fn trees(&self) -> &Trees {
        &self.trees
    }
}

fn is_searchable(path: &[u8]) -> bool {
    path.first() == Some(&b'/') && u32::try_from(path.len()).is_ok()
}

/// Hosts, wider ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum HostKey<'p> {
    Any,
    Under { labels: usize, domain: &'p str },
    Exact(&'p str),
}

impl<'p> HostKey<'p> {
    fn of(host: &'p Host) -> Self {
        match (host, host.domain()) {
            (Host::Exact(name), _) => Self::Exact(name),
            (Host::Under(_), Some(domain)) => Self::Under { labels: domain.split('.').count(), domain },
            (Host::Any | Host::Under(_), _) => Self::Any,
        }
    }
}

/// A key that grows along the order of patterns: whatever is chosen before another has the lower key.
///
/// The path comes first, because who owns a path without its slash is chosen whatever the other dimensions say.
/// Each part alone never falls from a set to one around it.
fn specificity(pattern: &Pattern, listener: Option<usize>) -> impl Ord + use<> {
    let end = match pattern.end {
        End::Bare => 0,
        End::Slash => 1,
        End::Rest(_) => 2,
    };
    let host = match HostKey::of(&pattern.host) {
        HostKey::Exact(_) => Reverse(usize::MAX),
        HostKey::Under { labels, .. } => Reverse(labels),
        HostKey::Any => Reverse(0),
    };
    let method = match pattern.method() {
        Some("GET") => 1,
        Some(_) => 0,
        None => 2,
    };
    (Reverse(pattern.segments.len()), pattern.segment_variables(), end, listener.is_none(), host, method)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{Found, Index};
    use crate::route::{
        Captures, Pattern, conflicts,
        oracle::{self, Request, Route, universe},
        pattern,
        relation::{Order, order},
    };

    fn index(keys: &[&str]) -> Index {
        Index::build(&keys.iter().map(|key| (pattern(key), None)).collect::<Vec<_>>())
    }

    /// Checks which key a request `METHOD host/path` finds, and the values of its variables.
    #[track_caller]
    fn check(keys: &[&str], request: &str, expected: &str, values: &[&str]) {
        let (method, target) = request.split_once(' ').unwrap();
        let (host, path) = target.split_at(target.find('/').unwrap());
        let mut captures = Captures::default();
        let found = index(keys).find(0, host.as_bytes(), method.as_bytes(), path.as_bytes(), &mut captures);
        let found = match found {
            Found::Route { index, needs_slash: false } => keys[index].to_owned(),
            Found::Route { index, needs_slash: true } => format!("slash for {}", keys[index]),
            Found::MethodNotAllowed => "405".to_owned(),
            Found::None => "404".to_owned(),
        };
        assert_eq!(found, expected, "{request}");
        let found: Vec<_> = (0..captures.len())
            .map(|at| str::from_utf8(captures.get(path.as_bytes(), at).unwrap()).unwrap())
            .collect();
        assert_eq!(found, values, "{request}");
    }

    #[test]
    fn the_most_specific_path_wins() {
        let keys =
            ["/", "/users/", "/users/{id}", "/users/me", "/users/{id}/posts", "/files/{name...}", "/end/{$}"];
        check(&keys, "GET /", "/", &[]);
        check(&keys, "GET /x", "/", &[]);
        check(&keys, "GET /users", "slash for /users/", &[]);
        check(&keys, "GET /users/", "/users/", &[]);
        check(&keys, "GET /users/7", "/users/{id}", &["7"]);
        check(&keys, "GET /users/me", "/users/me", &[]);
        check(&keys, "GET /users/mee", "/users/{id}", &["mee"]);
        check(&keys, "GET /users/7/", "/users/", &[]);
        check(&keys, "GET /users/me/posts", "/users/{id}/posts", &["me"]);
        check(&keys, "GET /users/me/likes", "/users/", &[]);
        check(&keys, "GET /files/a/b.js", "/files/{name...}", &["a/b.js"]);
        check(&keys, "GET /files/", "/files/{name...}", &[""]);
        check(&keys, "GET /files", "slash for /files/{name...}", &[""]);
        check(&keys, "GET /end/", "/end/{$}", &[]);
        check(&keys, "GET /end", "/", &[]);
        check(&keys, "GET /end/x", "/", &[]);
    }

    #[test]
    fn nothing_is_found_where_nothing_matches() {
        check(&["/a"], "GET /", "404", &[]);
        check(&["/a"], "GET /a/", "404", &[]);
        check(&["/{x}"], "GET /", "404", &[]);
        check(&["/{x}/b"], "GET //b", "404", &[]);
        check(&["a.test/"], "GET /", "404", &[]);
        check(&["a.test/"], "GET b.test/", "404", &[]);
        check(&[], "GET /", "404", &[]);
    }

    #[test]
    fn a_path_without_a_slash_in_front_matches_nothing() {
        let index = index(&["/", "/{x}/{$}"]);
        for path in ["", "*", "a/b"] {
            let found = index.find(0, b"", b"OPTIONS", path.as_bytes(), &mut Captures::default());
            assert_eq!(found, Found::None, "{path}");
            assert!(index.candidates(0, b"", b"OPTIONS", path.as_bytes()).is_empty());
        }
    }

    #[test]
    fn the_host_is_found_as_clients_write_it() {
        let keys = ["/", "*.a.test/", "*.b.a.test/", "www.a.test/", "[::1]/", "127.0.0.1/"];
        check(&keys, "GET www.a.test/", "www.a.test/", &[]);
        check(&keys, "GET WWW.A.Test:8080/", "www.a.test/", &[]);
        check(&keys, "GET www.a.test./", "www.a.test/", &[]);
        check(&keys, "GET x.a.test/", "*.a.test/", &[]);
        check(&keys, "GET x.y.A.test:80/", "*.a.test/", &[]);
        check(&keys, "GET b.a.test/", "*.a.test/", &[]);
        check(&keys, "GET c.b.a.test/", "*.b.a.test/", &[]);
        check(&keys, "GET x.www.a.test/", "*.a.test/", &[]);
        check(&keys, "GET a.test/", "/", &[]);
        check(&keys, "GET .a.test/", "/", &[]);
        check(&keys, "GET xa.test/", "/", &[]);
        check(&keys, "GET /", "/", &[]);
        check(&keys, "GET [::1]:80/", "[::1]/", &[]);
        check(&keys, "GET [0::0:1]/", "[::1]/", &[]);
        check(&keys, "GET [::2]/", "/", &[]);
        check(&keys, "GET 127.0.0.1:80/", "127.0.0.1/", &[]);
    }

    #[test]
    fn a_method_that_no_route_takes_is_told_from_a_path_that_none_has() {
        let keys = ["GET /a", "POST /a", "PURGE a.test/a", "GET /b/", "DELETE /{x}", "/c"];
        check(&keys, "GET /a", "GET /a", &[]);
        check(&keys, "HEAD /a", "GET /a", &[]);
        check(&keys, "DELETE /a", "DELETE /{x}", &["a"]);
        check(&keys, "PUT /a", "405", &[]);
        check(&keys, "get /a", "405", &[]);
        check(&keys, "PURGE a.test/a", "PURGE a.test/a", &[]);
        check(&keys, "GET a.test/a", "GET /a", &[]);
        check(&keys, "POST /b", "405", &[]);
        check(&keys, "GET /b", "slash for GET /b/", &[]);
        check(&keys, "PUT /a/b", "404", &[]);
        let index = index(&keys);
        assert_eq!(index.allowed(0, b"", b"/a"), ["DELETE", "GET", "HEAD", "POST"]);
        assert_eq!(index.allowed(0, b"A.test:80", b"/a"), ["DELETE", "GET", "HEAD", "POST", "PURGE"]);
        assert_eq!(index.allowed(0, b"", b"/b"), ["DELETE", "GET", "HEAD"]);
        assert!(index.allowed(0, b"", b"/c").is_empty());
        assert!(index.allowed(0, b"", b"/x/y").is_empty());
    }

    #[test]
    fn head_has_its_own_route_where_one_is_given() {
        check(&["GET /a", "HEAD /a"], "HEAD /a", "HEAD /a", &[]);
        check(&["GET /a", "HEAD /a"], "GET /a", "GET /a", &[]);
    }

    #[test]
    fn a_variable_of_a_narrower_host_does_not_take_a_protected_prefix() {
        let keys = ["/admin/", "a.test/{page}", "a.test/{page}/x", "a.test/public"];
        check(&keys, "GET a.test/admin", "slash for /admin/", &[]);
        check(&keys, "GET a.test/other", "a.test/{page}", &["other"]);
        check(&keys, "GET a.test/public", "a.test/public", &[]);
        check(&keys, "GET b.test/admin", "slash for /admin/", &[]);
    }

    #[test]
    fn many_literals_under_one_node_are_found() {
        let keys: Vec<String> =
            (0..100).map(|n| format!("/a-literal-of-some-length-{n}/{{x}}/{n}")).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        check(&keys, "GET /a-literal-of-some-length-42/v/42", keys[42], &["v"]);
        check(&keys, "GET /a-literal-of-some-length-42/v/43", "404", &[]);
        check(&keys, "GET /a-literal-of-some-length/v/42", "404", &[]);
    }

    #[test]
    fn literals_that_share_their_first_bytes_are_told_apart() {
        let keys = ["/", "/12345678", "/1234567", "/123456789", "/123456780", "/12345678/x"];
        for key in keys {
            check(&keys, &format!("GET {key}"), key, &[]);
        }
        check(&keys, "GET /123456781", "/", &[]);
        check(&keys, "GET /123456", "/", &[]);
        check(&keys, "GET /1234567890", "/", &[]);
    }

    #[test]
    fn the_largest_pattern_is_found() {
        let key: String = (0..16).map(|n| format!("/{{v{n}}}/a/b/c")).collect();
        let path = "/x/a/b/c".repeat(16);
        check(&[&key, "/"], &format!("GET {path}"), &key, &["x"; 16]);
        check(&[&key, "/"], &format!("GET {path}/y"), "/", &[]);
    }

    #[test]
    fn a_search_is_bounded_by_the_tree() {
        // Each level has a literal and a variable that lead to different nodes; without a bound a search that fails
        // at the end would double at every level. 2^12 nodes are visited once each.
        let keys: Vec<String> = (0..4096_usize)
            .map(|bits| {
                let segment =
                    |at: usize| if bits >> at & 1 == 1 { "/a".to_owned() } else { format!("/{{v{at}}}") };
                (0..12).map(segment).chain(["/end".to_owned()]).collect()
            })
            .collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let index = index(&keys);
        let found = index.find(
            0,
            b"",
            b"GET",
            format!("{}/no", "/a".repeat(12)).as_bytes(),
            &mut Captures::default(),
        );
        assert_eq!(found, Found::None);
    }

    /// Routes without conflicts: those that come second in one are left out.
    fn settled(mut routes: Vec<Route>) -> Vec<Route> {
        loop {
            let bound: Vec<_> = routes.iter().map(|route| (&route.pattern, route.listener)).collect();
            let Some(conflict) = conflicts(&bound).pop() else { return routes };
            routes.remove(conflict.second);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(
            host in prop::collection::vec(any::<u8>(), 0..300),
            method in prop::collection::vec(any::<u8>(), 0..4),
            path in "[/a-c\\x00-\\xff]{0,40}",
        ) {
            let index = index(&["/", "/a/{x}/{y...}", "*.test/b/{x}", "x.test/a/{$}", "[::1]/c"]);
            let path = path.as_bytes();
            let found = index.find(7, &host, &method, path, &mut Captures::default());
            prop_assert_eq!(found == Found::None, !path.starts_with(b"/"));
        }

    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn it_finds_the_one_route_inside_all_others(routes in oracle::routes(10), odd in "/[/ab]{0,8}") {
            let routes = settled(routes);
            let bound: Vec<(Pattern, _)> =
                routes.iter().map(|route| (route.pattern.clone(), route.listener)).collect();
            let index = Index::build(&bound);
            let mut captures = Captures::default();
            let odd = Request { listener: 0, host: "x.test", method: "GET", path: odd };
            for request in universe().into_iter().chain([odd]) {
                let (listener, host, path) = (request.listener, request.host.as_bytes(), request.path.as_bytes());
                let method = request.method.as_bytes();
                let found = index.find(listener, host, method, path, &mut captures);

                let matching: Vec<usize> =
                    (0..routes.len()).filter(|&route| routes[route].matches(&request).is_some()).collect();
                let chosen_before = |a: usize, b: usize| {
                    let of = |route: usize| (&routes[route].pattern, routes[route].listener);
                    order(of(a), of(b)) == Order::Inside
                };
                let innermost: Vec<usize> = matching
                    .iter()
                    .copied()
                    .filter(|&route| !matching.iter().any(|&other| chosen_before(other, route)))
                    .collect();
                let candidates = index.candidates(listener, host, method, path);
                let as_set = |list: &[usize]| list.iter().copied().collect::<BTreeSet<_>>();
                prop_assert_eq!(as_set(&candidates), as_set(&matching));
                prop_assert_eq!(candidates.len(), matching.len());

                let but_method: Vec<&Route> =
                    routes.iter().filter(|route| route.matches_but_method(&request).is_some()).collect();
                match innermost[..] {
                    [] if but_method.is_empty() => prop_assert_eq!(found, Found::None),
                    [] => {
                        prop_assert_eq!(found, Found::MethodNotAllowed);
                        let mut methods: BTreeSet<&str> =
                            but_method.iter().filter_map(|route| route.pattern.method()).collect();
                        if methods.contains("GET") {
                            methods.insert("HEAD");
                        }
                        prop_assert_eq!(index.allowed(listener, host, path), Vec::from_iter(methods));
                    }
                    [route] => {
                        let expected = routes[route].matches(&request).unwrap();
                        let needs_slash = expected.needs_slash;
                        prop_assert_eq!(found, Found::Route { index: route, needs_slash }, "{:?}", request);
                        let values: Vec<&[u8]> =
                            (0..captures.len()).map(|at| captures.get(path, at).unwrap()).collect();
                        let expected: Vec<&[u8]> = expected.captures.iter().map(String::as_bytes).collect();
                        prop_assert_eq!(values, expected);
                        prop_assert_eq!(candidates[0], route);
                    }
                    _ => prop_assert!(false, "{:?} all stay for {:?}", innermost, request),
                }
            }
        }
    }
}
