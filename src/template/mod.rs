//! Text with `{variables}`: parsed once, rendered into a buffer.

pub mod log;

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pub text: std::sync::Arc<str>,
}
