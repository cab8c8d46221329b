//! A route key, parsed.

use std::sync::Arc;

/// A parsed route key, `[METHOD ][HOST]/PATH`: a set of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pub(super) text: Arc<str>,
    pub(super) method: Option<Arc<str>>,
    pub(super) host: Host,
    pub(super) segments: Vec<Segment>,
    pub(super) end: End,
    /// Where the literal part of the path starts and ends in `text`.
    pub(super) literal: (usize, usize),
}

/// The hosts of a pattern, in lower case, without a trailing dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    Any,
    /// `*.example.com`, as written: every host with at least one label more.
    Under(Arc<str>),
    Exact(Arc<str>),
}

/// What stands between two slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Literal(Arc<str>),
    /// One segment, not empty.
    Variable(Arc<str>),
}

/// How a path ends after the segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Here, without a slash.
    Bare,
    /// `{$}`: with a slash and nothing behind it.
    Slash,
    /// A slash and anything behind it; also without the slash, which is then asked for. Named by `{rest...}`.
    Rest(Option<Arc<str>>),
}

impl Pattern {
    /// The key as it was written: what logs and metrics call the route.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The only method it matches (`GET` stands for HEAD, too); `None` = every method.
    pub fn method(&self) -> Option<&str> {
        self.method.as_deref()
    }

    /// The host in lower case, `example.com` or `*.example.com`; `None` = every host.
    pub fn host(&self) -> Option<&str> {
        match &self.host {
            Host::Any => None,
            Host::Under(host) | Host::Exact(host) => Some(host),
        }
    }

    /// The names of its variables, in the order in which [`super::Captures`] has their values.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        let rest = match &self.end {
            End::Rest(name) => name.as_deref(),
            End::Bare | End::Slash => None,
        };
        self.segments
            .iter()
            .filter_map(|segment| match segment {
                Segment::Variable(name) => Some(&**name),
                Segment::Literal(_) => None,
            })
            .chain(rest)
    }

    /// The path up to its first variable: `/users/` of `/users/{id}`, all of `/ping`.
    pub fn literal_prefix(&self) -> &str {
        &self.text[self.literal.0..self.literal.1]
    }

    /// Variables that are one segment, so without `{rest...}`.
    pub(super) fn segment_variables(&self) -> usize {
        self.segments.iter().filter(|segment| matches!(segment, Segment::Variable(_))).count()
    }
}

impl Host {
    /// The domain of `*.domain`.
    pub(super) fn domain(&self) -> Option<&str> {
        match self {
            Self::Under(text) => text.strip_prefix("*."),
            Self::Any | Self::Exact(_) => None,
        }
    }
}

impl Segment {
    pub(super) fn literal(&self) -> Option<&str> {
        match self {
            Self::Literal(text) => Some(text),
            Self::Variable(_) => None,
        }
    }
}
