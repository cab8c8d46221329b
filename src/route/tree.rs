//! The patterns of all hosts as trees of segments, and the search in one tree.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use foldhash::fast::FixedState;

use super::{
    captures::Captures,
    pattern::{End, Pattern, Segment},
};

/// More literals than this below one node are found by hash.
const FEW: usize = 8;

/// A place in [`Trees::nodes`].
pub(super) type NodeId = u32;

/// Nodes, edges and leaves of all trees, each kind side by side.
#[derive(Debug, Default)]
pub(super) struct Trees {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    crowds: Vec<HashMap<Arc<[u8]>, NodeId, FixedState>>,
    leaves: Vec<Leaf>,
}

/// A list within one of the vectors of [`Trees`].
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Where a path is after some of its segments.
#[derive(Debug)]
struct Node {
    edges: Span,
    crowd: Option<u32>,
    variable: Option<NodeId>,
    /// Patterns that end here without a slash, then those that own the path for want of one.
    bare: Span,
    /// Patterns that end with a slash and nothing behind it.
    slash: Span,
    /// Patterns that take whatever follows the slash.
    rest: Span,
}

#[derive(Debug)]
struct Edge {
    literal: Arc<[u8]>,
    to: NodeId,
}

/// A route at the end of its pattern.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) route: u32,
    pub(super) rank: u32,
    listener: Option<u32>,
    pub(super) methods: Methods,
    pub(super) needs_slash: bool,
    /// Another host's tree may own a path that this one matches with a variable.
    pub(super) yields: bool,
    /// Variables that are one segment.
    variables: u8,
    named_rest: bool,
}

impl Leaf {
    fn is_on(&self, listener: usize) -> bool {
        self.listener.is_none_or(|bound| bound as usize == listener)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Methods {
    All,
    GetAndHead,
    Only(Arc<str>),
}

impl Methods {
    pub(super) fn has(&self, method: &[u8]) -> bool {
        match self {
            Self::All => true,
            Self::GetAndHead => method == b"GET" || method == b"HEAD",
            Self::Only(name) => name.as_bytes() == method,
        }
    }
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
        node: NodeId,
        at: usize,
        variables: usize,
        search: &mut Search<'_>,
        captures: &mut Captures,
    ) -> Option<&Leaf> {
        let node = &self.nodes[node as usize];
        let path = search.path;
        let Some((_, rest)) = path[at..].split_first() else {
            return self.first(node.bare, at, search, captures);
        };
        let start = at + 1;
        if rest.is_empty() {
            let found = self.first(node.slash, start, search, captures);
            return found.or_else(|| self.first(node.rest, start, search, captures));
        }

        let len = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
        let end = start + len;
        if let Some(child) = self.child(node, &rest[..len])
            && let Some(leaf) = self.descend(child, end, variables, search, captures)
        {
            return Some(leaf);
        }
        if let Some(child) = node.variable
            && len > 0
        {
            captures.set(variables, place(start, end));
            if let Some(leaf) = self.descend(child, end, variables + 1, search, captures) {
                return Some(leaf);
            }
        }
        self.first(node.rest, start, search, captures)
    }

    fn child(&self, node: &Node, segment: &[u8]) -> Option<NodeId> {
        if let Some(crowd) = node.crowd {
            return self.crowds[crowd as usize].get(segment).copied();
        }
        let edges = &self.edges[node.edges.range()];
        edges.iter().find(|edge| *edge.literal == *segment).map(|edge| edge.to)
    }

    /// The first of `leaves` that takes the listener and the method; `{rest...}` is the path from `rest_at` on.
    fn first(
        &self,
        leaves: Span,
        rest_at: usize,
        search: &mut Search<'_>,
        captures: &mut Captures,
    ) -> Option<&Leaf> {
        for leaf in &self.leaves[leaves.range()] {
            if !leaf.is_on(search.listener) {
                continue;
            }
            if !leaf.methods.has(search.method) {
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
            let spans = match path[at..].split_first() {
                None => [node.bare, Span::default()],
                Some((_, [])) => [node.slash, node.rest],
                Some((_, rest)) => {
                    let len = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
                    let end = at + 1 + len;
                    open.extend(self.child(node, &rest[..len]).map(|child| (child, end)));
                    open.extend(node.variable.filter(|_| len > 0).map(|child| (child, end)));
                    [node.rest, Span::default()]
                }
            };
            let leaves = spans.into_iter().flat_map(|span| &self.leaves[span.range()]);
            matches.extend(leaves.filter(|leaf| leaf.is_on(listener)));
        }
    }

    /// Calls `each` with every leaf whose pattern shares a path with `pattern`, until it returns false.
    ///
    /// A route with a prefix comes twice where the path without its slash is shared, too.
    pub(super) fn each_overlap(&self, root: NodeId, pattern: &Pattern, each: &mut impl FnMut(&Leaf) -> bool) {
        let mut open = vec![(root, 0)];
        while let Some((node, depth)) = open.pop() {
            let node = &self.nodes[node as usize];
            let (spans, below) = match pattern.segments.get(depth) {
                Some(Segment::Literal(literal)) => {
                    open.extend(self.child(node, literal.as_bytes()).map(|child| (child, depth + 1)));
                    open.extend(node.variable.map(|child| (child, depth + 1)));
                    ([node.rest, Span::default(), Span::default()], false)
                }
                Some(Segment::Variable(_)) => ([node.rest, Span::default(), Span::default()], true),
                None => match pattern.end {
                    // What owns the path without the slash stands among `bare`.
                    End::Bare => ([node.bare, Span::default(), Span::default()], false),
                    End::Slash => ([node.slash, node.rest, Span::default()], false),
                    End::Rest(_) => ([node.bare, node.slash, node.rest], true),
                },
            };
            if below {
                open.extend(self.edges[node.edges.range()].iter().map(|edge| (edge.to, depth + 1)));
                open.extend(node.variable.map(|child| (child, depth + 1)));
            }
            for leaf in spans.into_iter().flat_map(|span| &self.leaves[span.range()]) {
                if !each(leaf) {
                    return;
                }
            }
        }
    }

    /// The leaves of patterns with exactly this path.
    pub(super) fn at(&self, root: NodeId, segments: &[&Segment], end: &End) -> &[Leaf] {
        let mut node = &self.nodes[root as usize];
        for segment in segments {
            let child = match segment {
                Segment::Literal(literal) => self.child(node, literal.as_bytes()),
                Segment::Variable(_) => node.variable,
            };
            let Some(child) = child else {
                return &[];
            };
            node = &self.nodes[child as usize];
        }
        let span = match end {
            End::Bare => node.bare,
            End::Slash => node.slash,
            End::Rest(_) => node.rest,
        };
        &self.leaves[span.range()]
    }

    /// Adds a tree and returns its root.
    pub(super) fn add(&mut self, draft: Draft) -> NodeId {
        let children: Vec<(Arc<[u8]>, NodeId)> =
            draft.literals.into_iter().map(|(literal, child)| (literal, self.add(child))).collect();
        let variable = draft.variable.map(|child| self.add(*child));

        let edge_start = index(self.edges.len());
        let crowd = (children.len() > FEW).then(|| {
            self.crowds.push(children.iter().cloned().collect());
            index(self.crowds.len() - 1)
        });
        self.edges.extend(children.into_iter().map(|(literal, to)| Edge { literal, to }));
        let node = Node {
            edges: Span { start: edge_start, end: index(self.edges.len()) },
            crowd,
            variable,
            bare: self.add_leaves(draft.bare),
            slash: self.add_leaves(draft.slash),
            rest: self.add_leaves(draft.rest),
        };
        self.nodes.push(node);
        index(self.nodes.len() - 1)
    }

    fn add_leaves(&mut self, mut leaves: Vec<Leaf>) -> Span {
        leaves.sort_by_key(|leaf| leaf.rank);
        let start = index(self.leaves.len());
        self.leaves.extend(leaves);
        Span { start, end: index(self.leaves.len()) }
    }
}

/// A tree while patterns are put into it.
#[derive(Default)]
pub(super) struct Draft {
    literals: BTreeMap<Arc<[u8]>, Draft>,
    variable: Option<Box<Draft>>,
    bare: Vec<Leaf>,
    slash: Vec<Leaf>,
    rest: Vec<Leaf>,
}

impl Draft {
    pub(super) fn insert(&mut self, pattern: &Pattern, listener: Option<usize>, route: usize, rank: usize) {
        let variables = pattern.segment_variables();
        let leaf = Leaf {
            route: index(route),
            rank: index(rank),
            listener: listener.map(index),
            methods: match &pattern.method {
                None => Methods::All,
                Some(method) if &**method == "GET" => Methods::GetAndHead,
                Some(method) => Methods::Only(Arc::clone(method)),
            },
            needs_slash: false,
            yields: pattern.end == End::Bare && variables > 0,
            variables: u8::try_from(variables).expect("a pattern has few variables"),
            named_rest: matches!(pattern.end, End::Rest(Some(_))),
        };

        let mut node = self;
        for segment in &pattern.segments {
            node = match segment {
                Segment::Literal(literal) => node.literals.entry(Arc::from(literal.as_bytes())).or_default(),
                Segment::Variable(_) => node.variable.get_or_insert_default(),
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
