//! What the routing tests compare with: patterns matched one by one, the plain way, over all requests of a small world.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::{
    Pattern,
    pattern::{End, Host, Segment},
};

#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) pattern: Pattern,
    pub(super) listener: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) listener: usize,
    pub(super) host: &'static str,
    pub(super) method: &'static str,
    pub(super) path: String,
}

/// How a route matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) needs_slash: bool,
    pub(super) captures: Vec<String>,
}

impl Route {
    pub(super) fn matches(&self, request: &Request) -> Option<Match> {
        let takes_method = match self.pattern.method() {
            None => true,
            Some(method) => method == request.method || (method == "GET" && request.method == "HEAD"),
        };
        if takes_method { self.matches_but_method(request) } else { None }
    }

    pub(super) fn matches_but_method(&self, request: &Request) -> Option<Match> {
        let takes_host = match &self.pattern.host {
            Host::Any => true,
            Host::Exact(host) => **host == *request.host,
            Host::Under(host) => request.host.ends_with(&host[1..]) && request.host.len() > host.len() - 1,
        };
        let takes_listener = self.listener.is_none_or(|listener| listener == request.listener);
        if takes_host && takes_listener { self.matches_path(&request.path) } else { None }
    }

    fn matches_path(&self, path: &str) -> Option<Match> {
        let mut found = Match { needs_slash: false, captures: Vec::new() };
        let mut left = path;
        for segment in &self.pattern.segments {
            left = left.strip_prefix('/')?;
            let (here, _) = left.split_once('/').unwrap_or((left, ""));
            match segment {
                Segment::Literal(literal) if **literal == *here => {}
                Segment::Variable(_) if !here.is_empty() => found.captures.push(here.to_owned()),
                Segment::Literal(_) | Segment::Variable(_) => return None,
            }
            left = &left[here.len()..];
        }
        match &self.pattern.end {
            End::Bare => left.is_empty().then_some(found),
            End::Slash => (left == "/").then_some(found),
            End::Rest(name) => {
                found.needs_slash = left.is_empty();
                found.captures.extend(name.iter().map(|_| left.strip_prefix('/').unwrap_or("").to_owned()));
                Some(found)
            }
        }
    }
}

/// Whether `owner` and `other` share only the path that `owner` ends with a slash, with at least one of its
/// literals where `other` has a variable and no variable where `other` has a literal.
pub(super) fn owns(owner: &Route, other: &Route, shared: &BTreeSet<usize>, requests: &[Request]) -> bool {
    let all_for_the_slash = shared.iter().all(|&request| {
        let of = |route: &Route| route.matches(&requests[request]).expect("both match").needs_slash;
        of(owner) && !of(other)
    });
    let mut segments = owner.pattern.segments.iter().zip(&other.pattern.segments);
    let more_literal =
        segments.clone().all(|(owner, other)| owner.literal().is_some() || other.literal().is_none());
    let differs = segments.any(|(owner, other)| owner.literal().is_some() != other.literal().is_some());
    all_for_the_slash && more_literal && differs
}

/// Every request of the small world in which [`routes`] lie. Each dimension has a value that no pattern names.
pub(super) fn universe() -> Vec<Request> {
    let mut paths = vec![String::new()];
    for depth in 0..3 {
        let longer: Vec<String> = paths
            .iter()
            .filter(|path| path.matches('/').count() == depth)
            .flat_map(|path| ["a", "b", "c"].map(|segment| format!("{path}/{segment}")))
            .collect();
        paths.extend(longer);
    }
    let with_slash: Vec<String> = paths.iter().map(|path| format!("{path}/")).collect();
    paths.extend(with_slash);

    let mut requests = Vec::new();
    for path in paths.iter().filter(|path| !path.is_empty()) {
        for listener in 0..2 {
            for host in ["other", "x.test", "y.x.test", "z.y.x.test"] {
                for method in ["GET", "HEAD", "POST", "PUT"] {
                    requests.push(Request { listener, host, method, path: path.clone() });
                }
            }
        }
    }
    requests
}

/// Up to `count` routes whose sets of requests differ within [`universe`] if they differ at all.
pub(super) fn routes(count: usize) -> impl Strategy<Value = Vec<Route>> {
    prop::collection::vec(route(), 1..=count)
}

pub(super) fn route() -> impl Strategy<Value = Route> {
    let method = prop_oneof![4 => Just(""), 2 => Just("GET "), 1 => Just("HEAD "), 1 => Just("POST ")];
    let host = prop_oneof![
        5 => Just(""), 1 => Just("*.test"), 2 => Just("x.test"), 1 => Just("*.x.test"), 1 => Just("y.x.test"),
    ];
    let segment = prop_oneof![Just("/a"), Just("/b"), Just("/{}")];
    let segments = prop::collection::vec(segment, 0..3);
    let end = prop_oneof![2 => Just(""), 1 => Just("/"), 1 => Just("/{rest...}"), 1 => Just("/{$}")];
    let listener = prop_oneof![4 => Just(None), 1 => Just(Some(0))];
    (method, host, segments, end, listener).prop_map(|(method, host, segments, end, listener)| {
        let path: String = segments
            .iter()
            .zip(["{v0}", "{v1}"])
            .map(|(segment, name)| segment.replace("{}", name))
            .collect();
        let end = if path.is_empty() && end.is_empty() { "/" } else { end };
        let key = format!("{method}{host}{path}{end}");
        Route { pattern: super::pattern(&key), listener }
    })
}
