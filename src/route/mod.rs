//! Which route? Patterns, the order among them, and the index that finds the most specific one.
//!
//! A [`Pattern`] is a set of requests: those of one host (or of a domain, or of all), one method (or all) and the
//! paths its text describes; bound to a listener, only those that arrive there. Two patterns are compared as such
//! sets ([`compare`]), all dimensions together: a host never silently outranks a path. Where two sets overlap and
//! neither holds the other, [`conflicts`] reports them, unless a third route is exactly what they share. So for
//! every request one matching route lies inside all others, and order in the file means nothing.
//!
//! `/admin/` also owns `/admin`, which is answered with a redirect to it:
//!
//! * an explicit route for `/admin`, or for a part of what is owned (`GET /admin`), is more specific and wins;
//! * a variable does not take it away: where `/{page}` and `/admin/` stand side by side, `/admin` belongs to
//!   `/admin/`, also when the other names a method or a host. Otherwise whoever protects `/admin/` with a role would
//!   have left `/admin` to the other route. nginx redirects here before it tries its regular expressions, too;
//! * an explicit `/admin` for all hosts beside `example.com/admin/` is an overlap like any other.
//!
//! `/admin/{$}` is one path and owns nothing else.

mod captures;
mod conflict;
mod draft;
mod host;
mod index;
#[cfg(test)]
mod oracle;
mod overlap;
mod parse;
mod pattern;
mod relation;
mod segment;
mod tree;

pub use self::{
    captures::Captures,
    conflict::{CONFLICTS_MAX, Conflict, conflicts},
    index::{Found, Index},
    parse::BadPattern,
    pattern::Pattern,
    relation::{Relation, compare},
};

/// Variables in one pattern, `{rest...}` included.
pub const VARIABLES_MAX: usize = 16;
/// Segments in one pattern; also the depth of the deepest search.
pub const SEGMENTS_MAX: usize = 64;

/// The pattern of a key that is right.
#[cfg(test)]
#[track_caller]
fn pattern(key: &str) -> Pattern {
    Pattern::parse(key).unwrap_or_else(|error| panic!("{key}: {error}"))
}
