//! Patterns → trees.

use std::collections::BTreeMap;

use super::{
    pattern::{self, End, Pattern},
    segment::Segment,
    tree::{Edge, Leaf, Literals, Methods, Node, NodeId, Trees},
};

/// More literals than this below one node are found by hash.
const FEW: usize = 8;

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
                node.bare.push(Leaf { needs_slash: true, ..leaf });
                node.rest.push(leaf);
            }
        }
    }
}

impl Trees {
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

/// Counts of routes, nodes and listeners are far below 2³².
fn index(count: usize) -> u32 {
    u32::try_from(count).expect("there are fewer than 2³² of anything in a configuration")
}
