//! What the command line does besides serving; `main` reads the arguments.

pub mod check;
pub mod token;
