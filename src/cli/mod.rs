//! What the command line does besides serving; `main` reads the arguments.

pub mod accounts;
pub mod ask;
pub mod check;
pub mod token;
