//! Where users, sessions and revocations are kept: one face for every database.
//!
//! A session is a *family* of refresh tokens: each is exchanged once for the next. Of a token only its SHA-256 is kept, and the
//! `jti` of the access token that was given out with it, so that the end of a family is the end of its access tokens.

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::{future::Future, pin::Pin, sync::Arc};

use crate::config::issuing::Database;

/// A database as the accounts see it. Every call is one transaction, whole or not at all.
pub trait Store: Send + Sync {
    /// The user of this name, compared byte by byte.
    fn user<'s>(&'s self, name: &'s str) -> Asked<'s, Option<User>>;

    /// Users in the order of their names, those behind `after`, at most `count`.
    fn users<'s>(&'s self, after: &'s str, count: u32) -> Asked<'s, Vec<User>>;

    /// Adds a user. `false` when there is one of this name.
    fn add(&self, user: User) -> Asked<'_, bool>;

    /// Changes a user. `false` when there is none of this name.
    fn change<'s>(&'s self, name: &'s str, change: Change) -> Asked<'s, bool>;

    /// Puts another hash of the same password in place of `old`, unless it was changed meanwhile.
    fn rehash<'s>(&'s self, name: &'s str, old: &'s str, new: &'s str) -> Asked<'s, ()>;

    /// Begins a family with its first refresh token.
    fn begin(&self, grant: Grant) -> Asked<'_, ()>;

    /// Exchanges the refresh token `presented` for `next`, of the same family; `next.family` and `next.name` are not looked at. One
    /// that was exchanged before ends its family.
    fn rotate(&self, presented: Digest, next: Grant, now: u64) -> Asked<'_, Rotation>;

    /// Ends the family of a refresh token, or of the access token with this `jti`: its refresh tokens are gone, its access tokens
    /// revoked. `false` when there is none.
    fn end_family(&self, of: Member, now: u64) -> Asked<'_, bool>;

    /// Ends every family of a user, and revokes all tokens that were issued before `before`; the last of them expires at `until`.
    fn end_subject<'s>(&'s self, name: &'s str, before: u64, until: u64) -> Asked<'s, ()>;

    /// Revokes one token.
    fn revoke<'s>(&'s self, jti: &'s str, until: u64) -> Asked<'s, ()>;

    /// Revocations noted after the one with number `last`, oldest first, at most `count`, those that are not over at `now`.
    fn revoked(&self, last: i64, count: u32, now: u64) -> Asked<'_, Vec<Noted>>;

    /// Removes what is over at `now`: expired refresh tokens and revocations of expired tokens.
    fn forget(&self, now: u64) -> Asked<'_, ()>;
}

/// What a database will answer.
pub type Asked<'s, T> = Pin<Box<dyn Future<Output = Result<T, StoreFault>> + Send + 's>>;

/// Why a database did not answer: for the operator, without a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreFault(pub String);

/// An access token may be accepted for so long after it expires (`leeway`), in seconds.
pub const LEEWAY_SECONDS: u64 = 300;

/// SHA-256 of a refresh token.
pub type Digest = [u8; 32];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    /// A hash with its parameters, in one of the forms of [`password`](super::password).
    pub password: String,
    pub roles: Vec<String>,
    pub disabled: bool,
    /// Unix time, in seconds.
    pub created: u64,
}

/// What is to be different; the rest stays.
#[derive(Clone, Debug, Default)]
pub struct Change {
    pub password: Option<String>,
    pub roles: Option<Vec<String>>,
    pub disabled: Option<bool>,
}

/// A refresh token that was given out, and the access token beside it.
#[derive(Clone, Debug)]
pub struct Grant {
    pub token: Digest,
    pub family: [u8; 16],
    pub name: String,
    pub expires: u64,
    pub jti: String,
    pub jti_expires: u64,
}

/// Something by which a family can be found.
#[derive(Clone, Debug)]
pub enum Member {
    Refresh(Digest),
    Access(String),
}

/// What became of a refresh token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// Exchanged; the user it belongs to.
    Done(String),
    /// There is none such, or no more.
    Unknown,
    /// Exchanged before. Somebody has a copy, so its family has ended.
    Reused(String),
}

/// A revocation as it was noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// Counts up in the order in which they can be seen.
    pub number: i64,
    pub what: Revoked,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    Token { jti: String, until: u64 },
    Subject { sub: String, before: u64, until: u64 },
}

/// Opens a database for the issuer `iss` and makes the tables that are missing.
pub async fn open(database: &Database, iss: &str) -> Result<Arc<dyn Store>, StoreFault> {
    match database {
        #[cfg(feature = "sqlite")]
        Database::Sqlite(path) => Ok(Arc::new(sqlite::Sqlite::open(path, iss).await?)),
        #[cfg(not(feature = "sqlite"))]
        Database::Sqlite(_) => Err(without("sqlite")),
        #[cfg(feature = "postgres")]
        Database::Postgres(url) => Ok(Arc::new(postgres::Postgres::open(url, iss).await?)),
        #[cfg(not(feature = "postgres"))]
        Database::Postgres(_) => Err(without("postgres")),
    }
}

#[cfg(not(all(feature = "sqlite", feature = "postgres")))]
fn without(feature: &str) -> StoreFault {
    StoreFault(format!("this coregate was built without the feature `{feature}`"))
}

/// How roles are kept: a list in JSON.
fn roles_to_text(roles: &[String]) -> String {
    serde_json::to_string(roles).expect("a list of strings is JSON")
}

fn roles_from_text(text: &str) -> Result<Vec<String>, StoreFault> {
    serde_json::from_str(text)
        .map_err(|error| StoreFault(format!("`roles` is not a list of strings: {error}")))
}

/// Times as databases have them.
fn signed(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

fn unsigned(time: i64) -> u64 {
    u64::try_from(time).unwrap_or_default()
}

/// What a row of revocations says; a row without `jti` is about a subject.
fn noted(number: i64, jti: Option<String>, sub: Option<String>, before: i64, until: i64) -> Noted {
    let until = unsigned(until);
    let what = match (jti, sub) {
        (Some(jti), _) => Revoked::Token { jti, until },
        (None, sub) => Revoked::Subject { sub: sub.unwrap_or_default(), before: unsigned(before), until },
    };
    Noted { number, what }
}
