//! Whose tokens are taken, and on which terms: an `[auth.NAME]` of the configuration.

use std::sync::Arc;

use super::{Algs, ClaimName, KeyCell, Source};

/// An issuer as the shards know it.
#[derive(Debug)]
pub struct Issuer {
    /// As in `[auth.NAME]`.
    pub name: Arc<str>,
    /// Its number in metrics.
    pub metric: u32,
    /// Different for each set of terms there ever was: what was decided under other terms is not used.
    pub revision: u64,
    /// What `iss` must be, exactly. `None` takes tokens that name no other issuer of the route.
    pub iss: Option<Arc<str>>,
    pub audience: Audience,
    pub algs: Algs,
    pub leeway_s: u64,
    /// Where its tokens are looked for.
    pub from: Vec<Source>,
    pub roles_claim: ClaimName,
    /// Which claim goes into which header for services.
    pub headers: Vec<(Arc<str>, ClaimName)>,
    /// The header that gets all claims, as JSON in base64url.
    pub identity: Option<Arc<str>>,
    pub token: Onward,
    pub keys: Arc<KeyCell>,
}

/// For whom tokens must be (RFC 7519 §4.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// For one of these.
    OneOf(Vec<Arc<str>>),
    /// Whoever they are for: `audience = false`.
    Any,
    /// Nobody said who we are: tokens that name an audience are not for us.
    Nobody,
}

/// What services get of the token itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onward {
    /// As the client sent it.
    Pass,
    /// Nothing: services believe the gateway's headers.
    Strip,
}
