//! Which patterns of a tree share a path with another pattern.

use super::{
    pattern::{self, End, Pattern},
    segment::Segment,
    tree::{Leaf, Literals, NodeId, Trees},
};

impl Trees {
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
}
