//! Which route? Patterns (`[METHOD ][HOST]/PATH`), the order among them, and the index that finds the most specific.

/// A parsed route key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    pub text: std::sync::Arc<str>,
}
