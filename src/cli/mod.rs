//! What the command line does besides serving; `main` reads the arguments.

pub mod accounts;
pub mod check;
