//! What `[auth.NAME]` says where tokens are issued here: whose users, for how long, at which paths.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

/// How an issuer issues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuing {
    pub database: Database,
    /// Lifetime of an access token.
    pub access: Duration,
    /// Lifetime of a refresh token; `None` where none is given out.
    pub refresh: Option<Duration>,
    pub algorithm: Signing,
    pub throttle: Throttle,
    pub hashing: Hashing,
    /// How often others' revocations are looked for.
    pub poll: Duration,
    /// Made at the first start, with a password that is shown once.
    pub first_user: Option<FirstUser>,
    /// Where keys are kept: below `state`.
    pub keys: PathBuf,
    /// Where clients find what this issuer does.
    pub paths: Paths,
}

/// Where users and revocations are kept.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    Sqlite(PathBuf),
    /// The URL, with its password.
    Postgres(Arc<str>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signing {
    EdDsa,
    Es256,
    /// With keys that were imported.
    Rs256,
}

/// Attempts that failed within a minute until there is a pause; `None` for no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throttle {
    pub per_account: Option<u32>,
    pub per_ip: Option<u32>,
}

/// The work that a password costs: argon2id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashing {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
    /// Threads that hash.
    pub threads: usize,
    /// Passwords that wait for one.
    pub queue: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstUser {
    pub name: Arc<str>,
    pub roles: Vec<Arc<str>>,
}

/// What a request at one of an issuer's own paths is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Login,
    Refresh,
    Logout,
    /// The public keys: `/.well-known/jwks.json`.
    Keys,
    /// `/.well-known/openid-configuration`.
    Metadata,
}

/// As written in tokens' metadata: paths, without a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    pub login: Arc<str>,
    pub refresh: Arc<str>,
    pub logout: Arc<str>,
}

impl Default for Hashing {
    /// OWASP Password Storage Cheat Sheet: argon2id with 19 MiB, 2 passes, 1 lane.
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, passes: 2, lanes: 1, threads: 2, queue: 64 }
    }
}

impl Signing {
    /// The name in JOSE (RFC 7518 §3.1, RFC 8037 §3.1).
    pub const fn name(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
            Self::Rs256 => "RS256",
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            // What differs between two must differ here, and the password must not be shown.
            Self::Postgres(url) => write!(f, "postgres://{}", url.rsplit('@').next().unwrap_or_default()),
        }
    }
}
