//! What a route wants of a token: `auth`, `roles`, `any_role`, `scopes`, `claims`, `optional`.

use std::sync::Arc;

use super::{ClaimName, Issuer, Reject, Verified};
use crate::json::{Kind, write};

/// The rules of a route.
pub struct Guard {
    /// One of them must have issued the token; all of them differ in `iss`.
    pub issuers: Box<[Arc<Issuer>]>,
    /// Where a token is looked for, in this order.
    pub sources: Box<[Source]>,
    pub wanted: Wanted,
    /// No token is fine, too; a wrong one is not.
    pub optional: bool,
}

/// What a good token must say besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// All of these.
    pub roles: Vec<Arc<str>>,
    /// One of these, if there are any.
    pub any_role: Vec<Arc<str>>,
    /// All of these.
    pub scopes: Vec<Arc<str>>,
    /// Each claim must be, or have in its list, one of the values: JSON scalars as they are written.
    pub claims: Vec<(ClaimName, Vec<Arc<str>>)>,
}

/// Where a token is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `Authorization: Bearer …` (RFC 6750 §2.1).
    Authorization,
    /// Another header, by its name in lower case: the token, with or without `Bearer`.
    Header(Arc<str>),
    Cookie(Arc<str>),
}

impl Guard {
    /// Whether the token may do this.
    pub fn allows(&self, verified: &Verified) -> Result<(), Reject> {
        let Wanted { roles, any_role, scopes, claims } = &self.wanted;
        let has = |list: &[Box<str>], wanted: &Arc<str>| list.iter().any(|one| **one == **wanted);
        let has_role = |role: &Arc<str>| has(verified.roles(), role);
        if !roles.iter().all(has_role) || !(any_role.is_empty() || any_role.iter().any(has_role)) {
            return Err(Reject::Role);
        }
        if !scopes.iter().all(|scope| has(verified.scopes(), scope)) {
            return Err(Reject::Scope);
        }
        let is_one = |(name, values): &(ClaimName, Vec<Arc<str>>)| {
            verified.claim(name).is_some_and(|found| values.iter().any(|value| is_or_has(found, value)))
        };
        if claims.iter().all(is_one) { Ok(()) } else { Err(Reject::Claim) }
    }

    /// The value of `WWW-Authenticate` (RFC 6750 §3); `None` where a token would not help.
    pub fn challenge(&self, reject: Reject) -> Option<String> {
        if reject == Reject::NoKeys {
            return None;
        }
        let realm = self.issuers.first().map_or("", |issuer| &*issuer.name);
        let mut text = format!("Bearer realm=\"{}\"", quotable(realm));
        if let Some(code) = reject.code() {
            text.push_str(&format!(", error=\"{code}\", error_description=\"{}\"", reject.text()));
        }
        if reject == Reject::Scope || (reject == Reject::Missing && !self.wanted.scopes.is_empty()) {
            let scopes: Vec<&str> = self.wanted.scopes.iter().map(|scope| &**scope).collect();
            text.push_str(&format!(", scope=\"{}\"", quotable(&scopes.join(" "))));
        }
        Some(text)
    }
}

/// Whether the JSON value `found` is the scalar `wanted`, or a list that has it.
fn is_or_has(found: &[u8], wanted: &str) -> bool {
    if Kind::of(found) != Kind::Array {
        return is_same(found, wanted);
    }
    let Ok(document) = crate::json::check(found) else { return false };
    crate::json::elements(found, document.span).any(|element| is_same(element.of(found), wanted))
}

fn is_same(found: &[u8], wanted: &str) -> bool {
    match (Kind::of(found), Kind::of(wanted.as_bytes())) {
        (Kind::String, Kind::String) => write::same_name(found, wanted.as_bytes()),
        (found_kind, wanted_kind) => found_kind == wanted_kind && found == wanted.as_bytes(),
    }
}

/// Without what would end a quoted string or a line.
fn quotable(text: &str) -> String {
    text.chars().filter(|c| matches!(c, ' '..='~') && !matches!(c, '"' | '\\')).collect()
}
