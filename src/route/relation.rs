//! The order among patterns.

use std::fmt::Write;

use super::pattern::{End, Host, Pattern, Segment};

/// How the sets of requests of two patterns lie to each other; said of the first one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relation {
    /// No request matches both.
    Disjoint,
    /// The same requests match both.
    Equal,
    /// Where both match, the first one is chosen: its set lies inside the other, or it owns the path without the
    /// slash (see the [module](super)).
    MoreSpecific,
    /// Where both match, the second one is chosen.
    MoreGeneral,
    /// Some requests match both and neither is more specific; one such request, `[METHOD ][HOST]/PATH`.
    Overlap(String),
}

/// Compares the requests that `a` and `b` match.
pub fn compare(a: &Pattern, b: &Pattern) -> Relation {
    match order((a, None), (b, None)) {
        Order::Apart => Relation::Disjoint,
        Order::Same => Relation::Equal,
        Order::Inside => Relation::MoreSpecific,
        Order::Around => Relation::MoreGeneral,
        Order::Across => Relation::Overlap(Meet::of((a, None), (b, None)).example(a, b)),
    }
}

/// A pattern and the listener it is bound to.
pub(super) type Bound<'p> = (&'p Pattern, Option<usize>);

/// How two sets lie to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Apart,
    Same,
    Inside,
    Around,
    /// They share some, and each has some that the other has not.
    Across,
}

impl Order {
    /// The order of two products of sets, from the orders of their factors.
    const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Apart, _) | (_, Self::Apart) => Self::Apart,
            (Self::Across, _) | (_, Self::Across) => Self::Across,
            (Self::Same, order) | (order, Self::Same) => order,
            (Self::Inside, Self::Inside) => Self::Inside,
            (Self::Around, Self::Around) => Self::Around,
            (Self::Inside, Self::Around) | (Self::Around, Self::Inside) => Self::Across,
        }
    }
}

/// Which of two bound patterns is chosen where both match.
pub(super) fn order(a: Bound<'_>, b: Bound<'_>) -> Order {
    let others = listeners(a.1, b.1).and(methods(a.0, b.0)).and(hosts(&a.0.host, &b.0.host));
    if others == Order::Apart {
        return Order::Apart;
    }
    match paths(a.0, b.0) {
        Paths::Sets(order) => others.and(order),
        // The owner is chosen whatever the other dimensions say.
        Paths::FirstOwns => Order::Inside,
        Paths::SecondOwns => Order::Around,
    }
}

fn listeners(a: Option<usize>, b: Option<usize>) -> Order {
    match (a, b) {
        (None, None) => Order::Same,
        (Some(_), None) => Order::Inside,
        (None, Some(_)) => Order::Around,
        (Some(a), Some(b)) if a == b => Order::Same,
        (Some(_), Some(_)) => Order::Apart,
    }
}

/// `GET` stands for GET and HEAD.
fn methods(a: &Pattern, b: &Pattern) -> Order {
    match (a.method(), b.method()) {
        (a, b) if a == b => Order::Same,
        (Some(_), None) | (Some("HEAD"), Some("GET")) => Order::Inside,
        (None, Some(_)) | (Some("GET"), Some("HEAD")) => Order::Around,
        _ => Order::Apart,
    }
}

/// Hosts form a tree: two of them are nested or apart.
fn hosts(a: &Host, b: &Host) -> Order {
    if a == b {
        Order::Same
    } else if within(a, b) {
        Order::Inside
    } else if within(b, a) {
        Order::Around
    } else {
        Order::Apart
    }
}

/// Whether all hosts of `a`, which differs from `b`, are hosts of `b`.
fn within(a: &Host, b: &Host) -> bool {
    match (a, b) {
        (_, Host::Any) => true,
        (Host::Exact(name) | Host::Under(name), Host::Under(_)) => {
            // For `*.a.b` in `*.b` the star is the label more.
            let domain = b.domain().expect("it is a wildcard");
            name.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        }
        (_, Host::Exact(_)) | (Host::Any, Host::Under(_)) => false,
    }
}

enum Paths {
    Sets(Order),
    /// The first ends with a slash and owns the path without it, which is more literal there than the second.
    FirstOwns,
    SecondOwns,
}

fn paths(a: &Pattern, b: &Pattern) -> Paths {
    let mut order = Order::Same;
    for (a, b) in a.segments.iter().zip(&b.segments) {
        order = order.and(match (a, b) {
            (Segment::Variable(_), Segment::Variable(_)) => Order::Same,
            (Segment::Literal(_), Segment::Variable(_)) => Order::Inside,
            (Segment::Variable(_), Segment::Literal(_)) => Order::Around,
            (Segment::Literal(a), Segment::Literal(b)) if a == b => Order::Same,
            (Segment::Literal(_), Segment::Literal(_)) => Order::Apart,
        });
        if order == Order::Apart {
            return Paths::Sets(Order::Apart);
        }
    }

    if a.segments.len() != b.segments.len() {
        let (shorter, side) =
            if a.segments.len() > b.segments.len() { (b, Order::Inside) } else { (a, Order::Around) };
        return Paths::Sets(match shorter.end {
            End::Rest(_) => order.and(side),
            End::Bare | End::Slash => Order::Apart,
        });
    }
    Paths::Sets(match (&a.end, &b.end) {
        (End::Bare, End::Bare) | (End::Slash, End::Slash) | (End::Rest(_), End::Rest(_)) => order,
        (End::Bare, End::Slash) | (End::Slash, End::Bare) => Order::Apart,
        (End::Rest(_), End::Bare) if order == Order::Inside => return Paths::FirstOwns,
        (End::Bare, End::Rest(_)) if order == Order::Around => return Paths::SecondOwns,
        (End::Bare | End::Slash, End::Rest(_)) => order.and(Order::Inside),
        (End::Rest(_), End::Bare | End::Slash) => order.and(Order::Around),
    })
}

/// What two patterns that overlap share. It is itself a pattern.
pub(super) struct Meet<'p> {
    pub(super) listener: Option<usize>,
    pub(super) method: Option<&'p str>,
    pub(super) host: &'p Host,
    pub(super) segments: Vec<&'p Segment>,
    pub(super) end: &'p End,
}

impl<'p> Meet<'p> {
    /// Of two patterns that are not apart.
    pub(super) fn of(a: Bound<'p>, b: Bound<'p>) -> Self {
        let (listener_a, listener_b) = (a.1, b.1);
        let (a, b) = (a.0, b.0);
        let method = if methods(a, b) == Order::Around { b.method() } else { a.method() };
        let host = if hosts(&a.host, &b.host) == Order::Around { &b.host } else { &a.host };

        let (short, long) = if a.segments.len() < b.segments.len() { (a, b) } else { (b, a) };
        let mut segments: Vec<&Segment> = long.segments.iter().collect();
        for (shared, segment) in segments.iter_mut().zip(&short.segments) {
            // Names come from the longer one only, so that none comes twice.
            if segment.literal().is_some() {
                *shared = segment;
            }
        }
        let same_length = short.segments.len() == long.segments.len();
        let end = if same_length && matches!(long.end, End::Rest(_)) { &short.end } else { &long.end };
        Self { listener: listener_a.or(listener_b), method, host, segments, end }
    }

    /// One request that both match. The method is named where they differ in it.
    pub(super) fn example(&self, a: &Pattern, b: &Pattern) -> String {
        let mut text = String::new();
        if let Some(method) = self.method.filter(|_| a.method != b.method) {
            text += method;
            text.push(' ');
        }
        match self.host {
            Host::Any => {}
            Host::Exact(host) => text += host,
            Host::Under(_) => {
                text += "www.";
                text += self.host.domain().expect("it is a wildcard");
            }
        }
        for segment in &self.segments {
            let (Segment::Literal(segment) | Segment::Variable(segment)) = segment;
            text.push('/');
            text += segment;
        }
        if !matches!(self.end, End::Bare) {
            text.push('/');
        }
        text
    }

    /// The route key of exactly what both match.
    pub(super) fn key(&self) -> String {
        let mut text = String::new();
        if let Some(method) = self.method {
            text += method;
            text.push(' ');
        }
        if let Host::Exact(host) | Host::Under(host) = self.host {
            text += host;
        }
        for segment in &self.segments {
            match segment {
                Segment::Literal(literal) => write!(text, "/{literal}"),
                Segment::Variable(name) => write!(text, "/{{{name}}}"),
            }
            .expect("writing to a String does not fail");
        }
        text += match self.end {
            End::Bare => "",
            End::Slash => "/{$}",
            End::Rest(_) => "/",
        };
        text
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{Relation, compare};
    use crate::route::{
        oracle::{self, Route, universe},
        pattern,
    };

    #[track_caller]
    fn check(a: &str, b: &str, expected: Relation) {
        let mirrored = match &expected {
            Relation::MoreSpecific => Relation::MoreGeneral,
            Relation::MoreGeneral => Relation::MoreSpecific,
            Relation::Disjoint | Relation::Equal | Relation::Overlap(_) => expected.clone(),
        };
        assert_eq!(compare(&pattern(a), &pattern(b)), expected, "{a} and {b}");
        if !matches!(expected, Relation::Overlap(_)) {
            assert_eq!(compare(&pattern(b), &pattern(a)), mirrored, "{b} and {a}");
        }
    }

    #[test]
    fn a_longer_prefix_and_a_literal_are_more_specific() {
        check("/a/", "/", Relation::MoreSpecific);
        check("/a/b/", "/a/", Relation::MoreSpecific);
        check("/a/{x}", "/a/", Relation::MoreSpecific);
        check("/a/b", "/a/{x}", Relation::MoreSpecific);
        check("/a/{$}", "/a/", Relation::MoreSpecific);
        check("/{$}", "/", Relation::MoreSpecific);
        check("/a/{x}/c", "/{y}/{z}/{w}", Relation::MoreSpecific);
    }

    #[test]
    fn names_of_variables_do_not_matter() {
        check("/{x}", "/{y}", Relation::Equal);
        check("/a/", "/a/{rest...}", Relation::Equal);
        check("EXAMPLE.com/", "example.com./", Relation::Equal);
        check("[::1]/", "[0:0::1]/", Relation::Equal);
    }

    #[test]
    fn what_shares_no_request_is_disjoint() {
        check("/a", "/b", Relation::Disjoint);
        check("/a", "/a/b", Relation::Disjoint);
        check("/a", "/a/{$}", Relation::Disjoint);
        check("/a", "/a/b/", Relation::Disjoint);
        check("GET /a", "POST /a", Relation::Disjoint);
        check("HEAD /a", "POST /a", Relation::Disjoint);
        check("a.test/", "b.test/", Relation::Disjoint);
        check("a.test/", "*.a.test/", Relation::Disjoint);
        check("xa.test/", "*.a.test/", Relation::Disjoint);
        check("*.ba.test/", "*.a.test/", Relation::Disjoint);
        check("GET /{x}", "POST /a/", Relation::Disjoint);
    }

    #[test]
    fn methods_and_hosts_are_more_specific_than_none() {
        check("GET /a", "/a", Relation::MoreSpecific);
        check("HEAD /a", "GET /a", Relation::MoreSpecific);
        check("HEAD /a", "/a", Relation::MoreSpecific);
        check("a.test/", "/", Relation::MoreSpecific);
        check("*.test/", "/", Relation::MoreSpecific);
        check("a.test/", "*.test/", Relation::MoreSpecific);
        check("b.a.test/", "*.test/", Relation::MoreSpecific);
        check("*.a.test/", "*.test/", Relation::MoreSpecific);
        check("GET a.test/x", "/", Relation::MoreSpecific);
    }

    #[test]
    fn no_dimension_outranks_another() {
        check("a.test/", "/ping", Relation::Overlap("a.test/ping".to_owned()));
        check("GET /", "/ping", Relation::Overlap("GET /ping".to_owned()));
        check("GET /", "a.test/", Relation::Overlap("GET a.test/".to_owned()));
        check("HEAD /{x}", "GET /a", Relation::Overlap("HEAD /a".to_owned()));
        check("/{x}/b", "/a/{y}", Relation::Overlap("/a/b".to_owned()));
        check("/{x}/b", "/a/", Relation::Overlap("/a/b".to_owned()));
        check("/{x}/{$}", "/a/", Relation::Overlap("/a/".to_owned()));
        check("*.test/a", "GET www.a.test/", Relation::Overlap("GET www.a.test/a".to_owned()));
    }

    #[test]
    fn a_prefix_owns_its_path_without_the_slash() {
        check("/admin", "/admin/", Relation::MoreSpecific);
        check("GET /admin", "/admin/", Relation::MoreSpecific);
        check("/admin/", "/{page}", Relation::MoreSpecific);
        check("/admin/", "GET /{page}", Relation::MoreSpecific);
        check("/admin/", "a.test/{page}", Relation::MoreSpecific);
        check("/{x}", "/{y}/", Relation::MoreSpecific);
        check("/a/{x}/", "/{y}/{z}", Relation::MoreSpecific);
        check("/admin", "a.test/admin/", Relation::Overlap("a.test/admin".to_owned()));
        check("/a/{x}/", "/{y}/b", Relation::Overlap("/a/b".to_owned()));
        check("GET /{x}", "a.test/{y}/", Relation::Overlap("GET a.test/x".to_owned()));
    }

    proptest! {
        #[test]
        fn it_is_the_order_of_the_sets(a in oracle::route(), b in oracle::route()) {
            let requests = universe();
            let set = |route: &Route| -> BTreeSet<usize> {
                let route = Route { listener: None, ..route.clone() };
                (0..requests.len()).filter(|&request| route.matches(&requests[request]).is_some()).collect()
            };
            let (a, b) = (Route { listener: None, ..a }, Route { listener: None, ..b });
            let (set_a, set_b) = (set(&a), set(&b));
            let shared: BTreeSet<usize> = set_a.intersection(&set_b).copied().collect();
            let found = compare(&a.pattern, &b.pattern);
            if shared.is_empty() {
                prop_assert_eq!(found, Relation::Disjoint);
            } else if set_a == set_b {
                prop_assert_eq!(found, Relation::Equal);
            } else if shared == set_a || oracle::owns(&a, &b, &shared, &requests) {
                prop_assert_eq!(found, Relation::MoreSpecific);
            } else if shared == set_b || oracle::owns(&b, &a, &shared, &requests) {
                prop_assert_eq!(found, Relation::MoreGeneral);
            } else {
                prop_assert!(matches!(found, Relation::Overlap(_)), "{:?}", found);
            }
        }
    }
}
