//! The index of all routes: a request → the most specific route that matches it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use foldhash::fast::FixedState;

use super::{
    captures::Captures,
    host::{self, HOST_BYTES_MAX},
    pattern::{End, Host, Pattern},
    tree::{Draft, Leaf, Methods, NodeId, Search, Trees},
};

/// Finds routes. Built with a snapshot, never changed.
///
/// Hosts are found by one hash. Each host has a chain of trees: its own, those of the wildcards around it, that of
/// the routes without a host. What is more specific stands in an earlier tree, with the one exception of
/// [`Leaf::yields`].
#[derive(Debug, Default)]
pub struct Index {
    trees: Trees,
    exact: HashMap<Box<[u8]>, Chain, FixedState>,
    /// By domain, without `*.`.
    under: HashMap<Box<[u8]>, Chain, FixedState>,
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

        let mut drafts: BTreeMap<HostKey<'_>, (Draft, bool)> = BTreeMap::new();
        for (rank, &route) in order.iter().enumerate() {
            let (pattern, listener) = routes[route];
            let (draft, owns) = drafts.entry(HostKey::of(&pattern.host)).or_default();
            draft.insert(pattern, listener, route, rank);
            *owns |= matches!(pattern.end, End::Rest(_)) && !pattern.segments.is_empty();
        }

        let mut index = Self::default();
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
                    index.under.insert(Box::from(domain.as_bytes()), chain);
                }
                HostKey::Exact(name) => {
                    let chain = chain_around(&index, name);
                    index.exact.insert(Box::from(name.as_bytes()), chain);
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
            match &leaf.methods {
                Methods::All => return Vec::new(),
                Methods::GetAndHead => methods.extend(["GET", "HEAD"]),
                Methods::Only(method) => {
                    methods.insert(&**method);
                }
            }
        }
        methods.into_iter().collect()
    }

    /// All routes that match a request, the one that [`Self::find`] chooses first. For `explain`.
    pub fn candidates(&self, listener: usize, host: &[u8], method: &[u8], path: &[u8]) -> Vec<usize> {
        let mut leaves = self.matches(listener, host, path);
        leaves.retain(|leaf| leaf.methods.has(method));
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
        let mut buffer = [0; HOST_BYTES_MAX];
        let len = host::key(host, &mut buffer);
        let key = &buffer[..len];
        self.exact.get(key).unwrap_or_else(|| self.narrowest(key))
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
