//! Who asks, and may they? Tokens in, decisions out; no I/O, no clock.

pub mod revocation;
