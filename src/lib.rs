//! # Coregate
//!
//! An API gateway for Linux: one shard per core on io_uring, all of them reading one lock-free snapshot of the routes.
//!
//! [`manual::architecture`] is the way in, [`serve::request`] one request from top to bottom. [`manual`] has decisions, lessons, a
//! glossary and what an operator may tune, too.
//!
//! The modules below are in reading order. A module may name modules of its own layer and of those below it;
//! `tests/tidy.rs` checks that.

// SERVE: control flow, five loops.
pub mod connection;
pub mod failure;
pub mod gateway;
pub mod listener;
pub mod serve;
pub mod shard;

// TALK: I/O with the other side.
pub mod aggregate;
pub mod bus;
pub mod cli;
pub mod control;
pub mod upstream;
pub mod wire;

// DECIDE: values in, decision out.
pub mod auth;
pub mod balance;
pub mod config;
pub mod route;
pub mod snapshot;
pub mod tls;
pub mod transform;

// SPEAK: bytes in, values out.
pub mod http;
pub mod json;
pub mod template;

// GROUND.
pub mod clock;
pub mod limits;
pub mod observe;
pub mod runtime;

pub mod manual;

pub use gateway::{Gateway, Options, Source, StartError};
