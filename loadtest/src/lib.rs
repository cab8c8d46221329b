//! The load tester: a generator, upstreams that cost little, and comparisons side by side.
//!
//! It knows the gateway only as a program, so that what it says about it and about others is measured the same way.

pub mod cli;
pub mod compare;
pub mod live;
pub mod load;
pub mod proc;
pub mod run;
pub mod stub;
pub mod wire;

use std::path::Path;
/// Prints a line on standard output; a reader that has gone away ends nothing.
macro_rules! say {
    ($($part:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stdout(), $($part)*);
    }};
}
pub(crate) use say;

/// Why a command could not do what it was asked, for the person who asked.
#[derive(Debug)]
pub struct Failure(pub String);

impl Failure {
    pub fn io(path: &Path, error: &std::io::Error) -> Self {
        Self(format!("{}: {error}", path.display()))
    }
}
