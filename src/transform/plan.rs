//! An aggregate: one request, several parts, one document.

use std::{sync::Arc, time::Duration};

use super::{body::BodyTemplate, condition::Condition};
use crate::{
    http::Method,
    json::{Conflict, Depth, Edit, Path, Place},
    template::{Of, Template, Variable},
};

/// What a route asks for and how the answers become one document.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In the order of the configuration, which is that of the document.
    pub parts: Vec<Part>,
    pub conflict: Conflict,
    pub depth: Depth,
    pub errors: Errors,
}

/// Where failures of parts are told, besides the header fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Errors {
    #[default]
    Headers,
    /// As a member `errors`, in GraphQL's shape.
    Body,
}

/// One call to a service, or several that make one array.
#[derive(Clone, Debug)]
pub struct Part {
    pub name: Arc<str>,
    /// Index into the configuration's services.
    pub service: usize,
    pub method: Method,
    /// As it is sent.
    pub method_text: Arc<str>,
    /// A path and perhaps a query.
    pub target: Template,
    pub body: Option<Body>,
    /// In the order in which they are written.
    pub headers: Vec<(Arc<str>, HeaderRule)>,
    pub importance: Importance,
    /// How old a good answer may be that stands in for a failed one.
    pub stale: Option<Duration>,
    pub place: Place,
    /// `pick`, `only`, `drop` and `rename`.
    pub edit: Option<Edit>,
    /// Less than the route's.
    pub timeout: Option<Duration>,
    pub max_body: usize,
    pub fan_out: FanOut,
    pub when: Option<Condition>,
    /// Indices of the parts whose answers it needs, in order.
    pub waits_for: Vec<usize>,
}

#[derive(Clone, Debug)]
pub struct Body {
    pub template: BodyTemplate,
    pub content_type: Arc<str>,
}

/// What happens to a header field of the request to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderRule {
    Set(Template),
    Remove,
}

/// What a failed part means for the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Importance {
    /// There is none without it.
    Required,
    /// This JSON stands in for it; without one the member is absent.
    Optional { default: Option<Arc<[u8]>> },
}

/// How many calls a part makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FanOut {
    Once,
    /// One for each of the values that `path` leads to, at most `max` in all and `parallel` at a time. Their answers make an array.
    Each {
        of: usize,
        path: Path,
        max: usize,
        parallel: usize,
    },
    /// One for all of the values that `path` leads to, each named once, at most `max`.
    Batch {
        of: usize,
        path: Path,
        max: usize,
    },
}

impl Part {
    /// The variables in its templates and its condition.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        let of_body = self.body.iter().flat_map(|body| body.template.variables());
        let of_headers = self.headers.iter().flat_map(|(_, rule)| match rule {
            HeaderRule::Set(template) => Some(template.variables()).into_iter().flatten(),
            HeaderRule::Remove => None.into_iter().flatten(),
        });
        let of_when = self.when.iter().flat_map(Condition::variables);
        self.target.variables().chain(of_body).chain(of_headers).chain(of_when)
    }

    /// Indices of the parts that its templates, its condition and its fan-out name: in order, each once.
    pub fn named(&self) -> Vec<usize> {
        let mut named: Vec<_> = self
            .variables()
            .filter_map(|variable| match variable {
                Variable::Part(Of::Part(index), _) => Some(*index),
                Variable::Part(Of::Each | Of::Batch, _)
                | Variable::Path(_)
                | Variable::Query(_)
                | Variable::Header(_)
                | Variable::Cookie(_)
                | Variable::Jwt(_) => None,
            })
            .collect();
        match &self.fan_out {
            FanOut::Once => {}
            FanOut::Each { of, .. } | FanOut::Batch { of, .. } => named.push(*of),
        }
        named.sort_unstable();
        named.dedup();
        named
    }

    pub const fn is_required(&self) -> bool {
        matches!(self.importance, Importance::Required)
    }

    /// Whether a second call that looks the same gets the same answer.
    pub const fn is_shareable(&self) -> bool {
        matches!(self.method, Method::Get | Method::Head)
    }
}

/// Parts that wait for one another in a ring: each names the next, the last the first. `waits` are the parts that each part names.
pub fn ring(waits: &[Vec<usize>]) -> Option<Vec<usize>> {
    let mut is_free = vec![false; waits.len()];
    // As many rounds as the longest chain.
    loop {
        let before = is_free.iter().filter(|free| **free).count();
        for part in 0..waits.len() {
            is_free[part] = waits[part].iter().all(|other| is_free[*other]);
        }
        let free = is_free.iter().filter(|free| **free).count();
        if free == waits.len() {
            return None;
        }
        if free == before {
            break;
        }
    }
    // Every part that is left names another one that is left.
    let next = |part: usize| waits[part].iter().copied().find(|other| !is_free[*other]);
    let mut trail = vec![is_free.iter().position(|free| !free)?];
    loop {
        let found = next(*trail.last()?)?;
        if let Some(start) = trail.iter().position(|part| *part == found) {
            trail.drain(..start);
            return Some(trail);
        }
        trail.push(found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(waits: &[&[usize]], expected: Option<&[usize]>) {
        let waits: Vec<_> = waits.iter().map(|waits| waits.to_vec()).collect();
        assert_eq!(ring(&waits).as_deref(), expected);
    }

    #[test]
    fn parts_that_wait_for_earlier_and_later_ones_are_no_ring() {
        check(&[], None);
        check(&[&[1, 2], &[2], &[]], None);
        check(&[&[], &[0], &[0, 1], &[2]], None);
    }

    #[test]
    fn a_ring_is_found_wherever_it_is() {
        check(&[&[0]], Some(&[0]));
        check(&[&[1], &[2], &[0]], Some(&[0, 1, 2]));
        check(&[&[], &[0, 2], &[3], &[1]], Some(&[1, 2, 3]));
        check(&[&[1], &[2], &[1]], Some(&[1, 2]));
    }
}
