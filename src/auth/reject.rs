//! Why a token is not taken.

/// What is wrong with a request's token, or with what it allows. `failure` gives each its status and its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reject {
    /// There is none.
    Missing,
    /// There is more than one where one is wanted (RFC 6750 §2).
    Repeated,
    /// Not a JWS in compact form as RFC 7515 wants it, longer than 8 KiB, of another type, or with a `crit` we do not know.
    Malformed,
    /// `alg` is none we verify, not allowed for the issuer, or not the key's.
    Algorithm,
    /// `iss` is none of the route's issuers.
    Issuer,
    /// `aud` names others only.
    Audience,
    /// The issuer has no such key, as far as is known.
    Key,
    Signature,
    /// `exp` is missing, or a claim is not of the type it must be.
    Claims,
    Expired,
    /// `nbf` or `iat` lies in the future.
    NotYet,
    Revoked,
    /// The token is good and lacks a role the route wants.
    Role,
    Scope,
    /// The token is good and a claim does not say what the route wants.
    Claim,
    /// No key of the issuer could be had since the gateway started.
    NoKeys,
}

impl Reject {
    /// The error code of RFC 6750 §3.1; none where no token was shown, or it was not looked at.
    pub const fn code(self) -> Option<&'static str> {
        match self {
            Self::Missing | Self::NoKeys => None,
            Self::Repeated => Some("invalid_request"),
            Self::Role | Self::Scope | Self::Claim => Some("insufficient_scope"),
            Self::Malformed
            | Self::Algorithm
            | Self::Issuer
            | Self::Audience
            | Self::Key
            | Self::Signature
            | Self::Claims
            | Self::Expired
            | Self::NotYet
            | Self::Revoked => Some("invalid_token"),
        }
    }

    /// One sentence without its full stop, for the client: in `error_description`, hence without quotes and backslashes.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Missing => "This route wants a bearer token",
            Self::Repeated => "The request has more than one token",
            Self::Malformed => "The token is not a signed JWT in compact form",
            Self::Algorithm => "The token's algorithm is not accepted",
            Self::Issuer => "The token's issuer is not accepted here",
            Self::Audience => "The token is for somebody else",
            Self::Key => "The token's key is not known",
            Self::Signature => "The token's signature is wrong",
            Self::Claims => "The token lacks a claim, or has one of the wrong type",
            Self::Expired => "The token has expired",
            Self::NotYet => "The token is not valid yet",
            Self::Revoked => "The token was revoked",
            Self::Role => "The token's roles do not allow this",
            Self::Scope => "The token's scope does not allow this",
            Self::Claim => "The token's claims do not allow this",
            Self::NoKeys => "The issuer's keys cannot be had now",
        }
    }
}
