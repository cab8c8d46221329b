//! The load tester: a generator, upstreams that cost little, and comparisons side by side.
//!
//! It knows the gateway only as a program, so that what it says about it and about others is measured the same way.

pub mod cli;
pub mod compare;
pub mod live;
pub mod load;
pub mod proc;
pub mod report;
pub mod run;
pub mod stub;
pub mod wire;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
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

/// A flag that Ctrl-C or a request to end (SIGTERM) sets: what runs ends with the result so far.
pub fn on_interrupt() -> Result<Arc<AtomicBool>, Failure> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let registered = signal_hook::flag::register(signal, Arc::clone(&flag));
        registered.map_err(|error| Failure(format!("signal {signal} cannot be caught: {error}")))?;
    }
    Ok(flag)
}
