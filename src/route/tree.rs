//! The patterns of all hosts as trees of segments, and the search in one tree.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use foldhash::fast::FixedState;

use super::{
    captures::Captures,
    pattern::{self, End, Pattern},
    segment::Segment,
};

/// More literals than this below one node are found by hash.
const FEW: usize = 8;

/// A place in [`Trees::nodes`].
pub(super) type NodeId = u32;

/// Nodes, edges and leaves of all trees, each kind side by side: 10,000 routes fit into a second-level cache.
#[derive(Debug, Default)]
pub(super) struct Trees {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    /// What literals have beyond their first eight bytes.
    tails: Vec<u8>,
    crowds: Vec<HashMap<Box<[u8]>, NodeId, FixedState>>,
    leaves: Vec<Leaf>,
    /// Methods other than GET.
    methods: Vec<Box<str>>,
}

/// Where a path is after some of its segments.
#[derive(Debug)]
struct Node {
    literals: Literals,
    variable: Option<NodeId>,
    /// Where the leaves begin: first those of patterns that end here without a slash, followed by those that own
    /// the path for want of one.
    bare: u32,
    /// Then those of patterns that end with a slash and nothing behind it.
    slash: u32,
    /// Then those of patterns that take whatever follows the slash.
    rest: u32,
    end: u32,
}

impl Node {
    fn bare(&self) -> Range<usize> {
        self.bare as usize..self.slash as usize
    }

    fn slash(&self) -> Range<usize> {
        self.slash as usize..self.rest as usize
    }

    fn rest(&self) -> Range<usize> {
        self.rest as usize..self.end as usize
    }
}

#[derive(Clone, Copy, Debug)]
enum Literals {
    Few { start: u32, count: u8 },
    Crowd(u32),
}

#[derive(Debug)]
struct Edge {
    /// The first eight bytes of the literal, padded with zeros.
    head: u64,
    len: u32,
    /// Where the ninth byte is in [`Trees::tails`].
    tail: u32,
    to: NodeId,
}

/// A route at the end of its pattern.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) route: u32,
    pub(super) rank: u32,
    listener: Option<u32>,
    methods: Methods,
    pub(super) needs_slash: bool,
    /// Another host's tree may own a path that this one matches with a variable.
    pub(super) yields: bool,
    /// Variables that are one segment.
    variables: u8,
    named_rest: bool,
}

impl Leaf {
    #[inline]
    fn is_on(&self, listener: usize) -> bool {
        self.listener.is_none_or(|bound| bound as usize == listener)
    }
}

#[derive(Clone, Copy, Debug)]
enum Methods {
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
    fn child(&self, node: &Node, segment: &Segment<'_>) -> Option<NodeId> {
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

    /// Calls `each` with every leaf whose pattern shares a path with `pattern`, until it returns false.
    ///
    /// A route with a prefix comes twice where the path without its slash is shared, too.
    pub(super) fn each_overlap(&self, root: NodeId, pattern: &Pattern, each: &mut impl FnMut(&Leaf) -> bool) {
        let mut open = vec![(root, 0)];
        while let Some((node, depth)) = open.pop() {
            let node = &self.nodes[node as usize];
            let (leaves, all_below) = match (pattern.segments.get(depth), &pattern.end) {
                (Some(pattern::Segment::Literal(literal)), _) => {
                    let segment = Segment::of(literal.as_bytes());
                    open.extend(self.child(node, &segment).map(|child| (child, depth + 1)));
                    open.extend(node.variable.map(|child| (child, depth + 1)));
                    (node.rest(), false)
                }
                (Some(pattern::Segment::Variable(_)), _) => (node.rest(), true),
                // What owns the path without the slash stands among `bare`.
                (None, End::Bare) => (node.bare(), false),
                (None, End::Slash) => (node.slash().start..node.rest().end, false),
                (None, End::Rest(_)) => (node.bare().start..node.rest().end, true),
            };
            if all_below {
                open.extend(node.variable.map(|child| (child, depth + 1)));
                match node.literals {
                    Literals::Few { start, count } => {
                        let start = start as usize;
                        let edges = &self.edges[start..start + usize::from(count)];
                        open.extend(edges.iter().map(|edge| (edge.to, depth + 1)));
                    }
                    Literals::Crowd(crowd) => {
                        open.extend(self.crowds[crowd as usize].values().map(|&child| (child, depth + 1)));
                    }
                }
            }
            if !self.leaves[leaves].iter().all(&mut *each) {
                return;
            }
        }
    }

    /// The leaves of patterns with exactly this path.
    pub(super) fn at(&self, root: NodeId, segments: &[&pattern::Segment], end: &End) -> &[Leaf] {
        let mut node = &self.nodes[root as usize];
        for segment in segments {
            let child = match segment {
                pattern::Segment::Literal(literal) => self.child(node, &Segment::of(literal.as_bytes())),
                pattern::Segment::Variable(_) => node.variable,
            };
            let Some(child) = child else {
                return &[];
            };
            node = &self.nodes[child as usize];
        }
        &self.leaves[match end {
            End::Bare => node.bare(),
            End::Slash => node.slash(),
            End::Rest(_) => node.rest(),
        }]
    }

    /// Adds a tree and returns its root.
    pub(super) fn add(&mut self, draft: Draft) -> NodeId {
        let children: Vec<(Box<[u8]>, NodeId)> =
            draft.literals.into_iter().map(|(literal, child)| (literal, self.add(child))).collect();
        let variable = draft.variable.map(|child| self.add(*child));

        let literals = if children.len() > FEW {
            self.crowds.push(children.into_iter().collect());
            Literals::Crowd(index(self.crowds.len() - 1))
        } else {
            let start = index(self.edges.len());
            let count = u8::try_from(children.len()).expect("they are few");
            for (literal, to) in children {
                let segment = Segment::of(&literal);
                let (len, tail) = (index(literal.len()), index(self.tails.len()));
                self.edges.push(Edge { head: segment.head, len, tail, to });
                self.tails.extend(literal.iter().skip(8));
            }
            Literals::Few { start, count }
        };
        let node = Node {
            literals,
            variable,
            bare: self.add_leaves(draft.bare),
            slash: self.add_leaves(draft.slash),
            rest: self.add_leaves(draft.rest),
            end: index(self.leaves.len()),
        };
        self.nodes.push(node);
        index(self.nodes.len() - 1)
    }

    /// Adds leaves, what is chosen first in front, and returns where they begin.
    fn add_leaves(&mut self, mut leaves: Vec<Leaf>) -> u32 {
        leaves.sort_by_key(|leaf| leaf.rank);
        let start = index(self.leaves.len());
        self.leaves.append(&mut leaves);
        start
    }

    /// The leaf of a route; `rank` counts from the one that is chosen first.
    pub(super) fn leaf(
        &mut self,
        pattern: &Pattern,
        listener: Option<usize>,
        route: usize,
        rank: usize,
    ) -> Leaf {
        let variables = pattern.segment_variables();
        Leaf {
            route: index(route),
            rank: index(rank),
            listener: listener.map(index),
            methods: match pattern.method() {
                None => Methods::All,
                Some("GET") => Methods::GetAndHead,
                Some(name) => Methods::Only(self.method(name)),
            },
            needs_slash: false,
            yields: pattern.end == End::Bare && variables > 0,
            variables: u8::try_from(variables).expect("a pattern has few variables"),
            named_rest: matches!(pattern.end, End::Rest(Some(_))),
        }
    }

    fn method(&mut self, name: &str) -> u32 {
        let known = self.methods.iter().position(|method| **method == *name);
        index(known.unwrap_or_else(|| {
            self.methods.push(Box::from(name));
            self.methods.len() - 1
        }))
    }
}

/// A tree while patterns are put into it.
#[derive(Default)]
pub(super) struct Draft {
    literals: BTreeMap<Box<[u8]>, Self>,
    variable: Option<Box<Self>>,
    bare: Vec<Leaf>,
    slash: Vec<Leaf>,
    rest: Vec<Leaf>,
}

impl Draft {
    pub(super) fn insert(&mut self, pattern: &Pattern, leaf: Leaf) {
        let mut node = self;
        for segment in &pattern.segments {
            node = match segment {
                pattern::Segment::Literal(literal) => {
                    node.literals.entry(Box::from(literal.as_bytes())).or_default()
                }
                pattern::Segment::Variable(_) => node.variable.get_or_insert_default(),
            };
        }
        match pattern.end {
            End::Bare => node.bare.push(leaf),
            End::Slash => node.slash.push(leaf),
            End::Rest(_) => {
                node.bare.push(Leaf { needs_slash: true, ..leaf.clone() });
                node.rest.push(leaf);
            }
        }
    }
}

/// Counts of routes, nodes and listeners are far below 2³².
pub(super) fn index(count: usize) -> u32 {
    u32::try_from(count).expect("there are fewer than 2³² of anything in a configuration")
}

fn place(start: usize, end: usize) -> Range<u32> {
    #[expect(clippy::cast_possible_truncation, reason = "Search::path is shorter than 4 GiB")]
    let place = start as u32..end as u32;
    place
}
