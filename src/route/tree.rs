//! The patterns of all hosts as trees of segments, and the search in one tree.

use std::{collections::HashMap, ops::Range};

use foldhash::fast::FixedState;

use super::{captures::Captures, segment::Segment};

/// A place in [`Trees::nodes`].
pub(super) type NodeId = u32;

/// Nodes, edges and leaves of all trees, each kind side by side: 10,000 routes fit into a second-level cache.
#[derive(Debug, Default)]
pub(super) struct Trees {
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
    /// What literals have beyond their first eight bytes.
    pub(super) tails: Vec<u8>,
    pub(super) crowds: Vec<HashMap<Box<[u8]>, NodeId, FixedState>>,
    pub(super) leaves: Vec<Leaf>,
    /// Methods other than GET.
    pub(super) methods: Vec<Box<str>>,
}

/// Where a path is after some of its segments.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) literals: Literals,
    pub(super) variable: Option<NodeId>,
    /// Where the leaves begin: first those of patterns that end here without a slash, followed by those that own
    /// the path for want of one.
    pub(super) bare: u32,
    /// Then those of patterns that end with a slash and nothing behind it.
    pub(super) slash: u32,
    /// Then those of patterns that take whatever follows the slash.
    pub(super) rest: u32,
    pub(super) end: u32,
}

impl Node {
    pub(super) fn bare(&self) -> Range<usize> {
        self.bare as usize..self.slash as usize
    }

    pub(super) fn slash(&self) -> Range<usize> {
        self.slash as usize..self.rest as usize
    }

    pub(super) fn rest(&self) -> Range<usize> {
        self.rest as usize..self.end as usize
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Literals {
    Few { start: u32, count: u8 },
    Crowd(u32),
}

#[derive(Debug)]
pub(super) struct Edge {
    /// The first eight bytes of the literal, padded with zeros.
    pub(super) head: u64,
    pub(super) len: u32,
    /// Where the ninth byte is in [`Trees::tails`].
    pub(super) tail: u32,
    pub(super) to: NodeId,
}

/// A route at the end of its pattern.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    pub(super) route: u32,
    pub(super) rank: u32,
    pub(super) listener: Option<u32>,
    pub(super) methods: Methods,
    pub(super) needs_slash: bool,
    /// Another host's tree may own a path that this one matches with a variable.
    pub(super) yields: bool,
    /// Variables that are one segment.
    pub(super) variables: u8,
    pub(super) named_rest: bool,
}

impl Leaf {
    #[inline]
    fn is_on(&self, listener: usize) -> bool {
        self.listener.is_none_or(|bound| bound as usize == listener)
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Methods {
    All,
    GetAndHead,
    /// A place in [`Trees::methods`].
    Only(u32),
}

/// What is searched for.
pub(super) struct Search<'r> {
    pub(super) listener: usize,
    pub(super) method: &'r [u8],
    /// Starts with a slash and is shorter than 4 GiB.
    pub(super) path: &'r [u8],
    /// Whether a pattern matched all but the method.
    pub(super) other_method: bool,
}

impl Trees {
    /// The leaf of the most specific match in the tree at `root`.
    ///
    /// Literals are tried before the variable, and what is deeper before what takes the rest; where no two routes
    /// conflict the first match is the most specific. Each node is visited at most once, at its own depth.
    pub(super) fn find(
        &self,
        root: NodeId,
        search: &mut Search<'_>,
        captures: &mut Captures,
    ) -> Option<&Leaf> {
        self.descend(root, 0, 0, search, captures)
    }

    /// `at` is where the path goes on: at a slash or at its end. `variables` were passed on the way.
    fn descend(
        &self,
        mut node: NodeId,
        mut at: usize,
        mut variables: usize,
        search: &mut Search<'_>,
        captures: &mut Captures,
    ) -> Option<&Leaf> {
        let path = search.path;
        loop {
            let here = &self.nodes[node as usize];
            if at == path.len() {
                return self.first(here.bare(), at, search, captures);
            }
            let start = at + 1;
            if start == path.len() {
                let found = self.first(here.slash(), start, search, captures);
                return found.or_else(|| self.first(here.rest(), start, search, captures));
            }

            let segment = Segment::at(path, start);
            let takes_rest = !here.rest().is_empty();
            if let Some(child) = self.child(here, &segment) {
                if here.variable.is_none() && !takes_rest {
                    (node, at) = (child, segment.end);
                    continue;
                }
                let found = self.descend(child, segment.end, variables, search, captures);
                if found.is_some() {
                    return found;
                }
            }
            if let Some(child) = here.variable
                && segment.end > start
            {
                captures.set(variables, place(start, segment.end));
                if !takes_rest {
                    (node, at, variables) = (child, segment.end, variables + 1);
                    continue;
                }
                let found = self.descend(child, segment.end, variables + 1, search, captures);
                if found.is_some() {
                    return found;
                }
            }
            return self.first(here.rest(), start, search, captures);
        }
    }

    #[inline]
    pub(super) fn child(&self, node: &Node, segment: &Segment<'_>) -> Option<NodeId> {
        match node.literals {
            Literals::Few { start, count } => {
                let start = start as usize;
                let edges = &self.edges[start..start + usize::from(count)];
                let is_it = |edge: &&Edge| {
                    edge.head == segment.head
                        && edge.len as usize == segment.bytes.len()
                        && (edge.len <= 8 || self.tail(edge) == &segment.bytes[8..])
                };
                edges.iter().find(is_it).map(|edge| edge.to)
            }
            Literals::Crowd(crowd) => self.crowds[crowd as usize].get(segment.bytes).copied(),
        }
    }

    fn tail(&self, edge: &Edge) -> &[u8] {
        let start = edge.tail as usize;
        &self.tails[start..start + edge.len as usize - 8]
    }

    /// The first of `leaves` that takes the listener and the method; `{rest...}` is the path from `rest_at` on.
    #[inline]
    fn first(
        &self,
        leaves: Range<usize>,
        rest_at: usize,
        search: &mut Search<'_>,
        captures: &mut Captures,
    ) -> Option<&Leaf> {
        for leaf in &self.leaves[leaves] {
            if !leaf.is_on(search.listener) {
                continue;
            }
            if !self.takes(leaf, search.method) {
                search.other_method = true;
                continue;
            }
            let mut variables = usize::from(leaf.variables);
            if leaf.named_rest {
                captures.set(variables, place(rest_at, search.path.len()));
                variables += 1;
            }
            captures.finish(variables);
            return Some(leaf);
        }
        None
    }

    /// Whether the route of `leaf` takes the method.
    pub(super) fn takes(&self, leaf: &Leaf, method: &[u8]) -> bool {
        match leaf.methods {
            Methods::All => true,
            Methods::GetAndHead => method == b"GET" || method == b"HEAD",
            Methods::Only(name) => self.methods[name as usize].as_bytes() == method,
        }
    }

    /// The only method that the route of `leaf` takes, where GET stands for HEAD, too; `None` when it takes all.
    pub(super) fn method_of(&self, leaf: &Leaf) -> Option<&str> {
        match leaf.methods {
            Methods::All => None,
            Methods::GetAndHead => Some("GET"),
            Methods::Only(name) => Some(&self.methods[name as usize]),
        }
    }

    /// Adds to `matches` every leaf that takes the path on the listener, whatever its method.
    pub(super) fn matches<'t>(
        &'t self,
        root: NodeId,
        listener: usize,
        path: &[u8],
        matches: &mut Vec<&'t Leaf>,
    ) {
        let mut open = vec![(root, 0)];
        while let Some((node, at)) = open.pop() {
            let node = &self.nodes[node as usize];
            let leaves = if at == path.len() {
                node.bare()
            } else if at + 1 == path.len() {
                node.slash().start..node.rest().end
            } else {
                let segment = Segment::at(path, at + 1);
                open.extend(self.child(node, &segment).map(|child| (child, segment.end)));
                let variable = node.variable.filter(|_| !segment.bytes.is_empty());
                open.extend(variable.map(|child| (child, segment.end)));
                node.rest()
            };
            matches.extend(self.leaves[leaves].iter().filter(|leaf| leaf.is_on(listener)));
        }
    }
}

fn place(start: usize, end: usize) -> Range<u32> {
    #[expect(clippy::cast_possible_truncation, reason = "Search::path is shorter than 4 GiB")]
    let place = start as u32..end as u32;
    place
}
