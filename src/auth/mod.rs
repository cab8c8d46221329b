//! Who asks, and may they? Tokens in, decisions out; no I/O, no clock.
//!
//! A request's token goes through [`Desk::check`]: a token that was seen before costs a look-up in [`cache`], a new one is taken
//! apart by [`jws`], refused for what it says by [`claims`] where that is possible, and only then is a signature paid for
//! ([`key`]). What comes out is a [`Verified`]; nothing else makes one. [`Guard`] says what a route wants of it.
//!
//! The law: RFC 7515 (JWS), 7517 (JWK), 7518 (algorithms), 7519 (JWT), 8725 (what goes wrong with them), 6750 (bearer tokens) and
//! 9068 (access tokens).

mod alg;
pub mod cache;
pub mod cell;
pub mod claims;
mod desk;
mod fields;
mod guard;
mod issuer;
pub mod jws;
pub mod key;
mod keyset;
mod pem;
mod reject;
pub mod revocation;
#[cfg(test)]
mod tests;

pub use crate::template::ClaimName;

pub use self::{
    alg::{Alg, Algs},
    cell::KeyCell,
    claims::Verified,
    desk::{Denied, Desk},
    fields::is_free_name,
    guard::{Guard, Source, Wanted},
    issuer::{Audience, Issuer, Onward},
    keyset::{BadKeys, DOCUMENT_BYTES_MAX, KeySet},
    reject::Reject,
};
