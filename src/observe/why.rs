//! Why a request ended as it did: one word and a side, in logs and metrics.

use std::fmt;

/// How a request ended. Closed, so that a dashboard can list every word there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Why {
    /// The reply was sent as intended, whatever its status.
    #[default]
    Ok,
    /// The client went away before the reply's last byte.
    ClientClosed,
    /// The request is not HTTP as we accept it, or its framing is in doubt.
    BadRequest,
    /// A version, coding, expectation or method that this gateway does not speak.
    Unsupported,
    /// The head, a header line or the target is longer than allowed, or has too many fields.
    HeadTooLarge,
    /// The request head did not arrive in time.
    HeadTimeout,
    /// The request body stalled, or came slower than the least rate.
    BodyTimeout,
    /// The request body is longer than the route's `max_body`.
    BodyTooLarge,
    /// No route matches.
    NoRoute,
    /// Routes match the path, none the method.
    MethodNotAllowed,
    /// Every endpoint of the service is down or was tried.
    NoEndpoint,
    /// The endpoint refused the connection, or could not be reached.
    ConnectRefused,
    /// The connection to the endpoint was not established in time.
    ConnectTimeout,
    /// The TLS handshake with the endpoint failed: its certificate, most often.
    UpstreamTls,
    /// No response head came within the route's `timeout`.
    UpstreamTimeout,
    /// The upstream connection broke before a response head.
    UpstreamReset,
    /// What came back is not HTTP as we accept it.
    UpstreamBadResponse,
    /// The response body broke off; the client saw a broken message.
    UpstreamTruncated,
    /// The response body stalled; the client saw a broken message.
    UpstreamStalled,
    /// A part that an aggregate cannot do without failed, or all of its parts did.
    PartFailed,
    /// The same, because the time was up.
    PartTimeout,
    /// Two parts of an aggregate have the same member, and `conflict` is `error`.
    PartConflict,
    /// No broker can be reached, or it takes no messages.
    BrokerDown,
    /// Too many calls to a broker are under way.
    BrokerBusy,
    /// The broker knows nobody who takes the message.
    Unroutable,
    /// A worker answered that it failed.
    UpstreamFailed,
    /// The gateway has no room for another client connection.
    TooManyConnections,
    /// The gateway has no room for another upstream connection (descriptors, memory).
    NoResources,
    /// The request came back to the listener it left (508).
    LoopDetected,
    /// The route wants a token and the request has none.
    TokenMissing,
    /// The token is no signed JWT, or there are two.
    TokenMalformed,
    /// The token's algorithm is not accepted.
    TokenAlgorithm,
    /// The token is from none of the route's issuers.
    TokenIssuer,
    /// The token is for somebody else.
    TokenAudience,
    /// The issuer has no key of that name.
    TokenKey,
    /// The token's signature is wrong.
    TokenSignature,
    /// The token lacks `exp`, or a claim is of the wrong type.
    TokenClaims,
    /// The token has expired.
    TokenExpired,
    /// The token is not valid yet.
    TokenNotYet,
    /// The token was revoked.
    TokenRevoked,
    /// The token lacks a role.
    RoleMissing,
    /// The token lacks a scope.
    ScopeMissing,
    /// A claim of the token is not what the route wants.
    ClaimMissing,
    /// The issuer's keys could not be fetched since the start.
    KeysUnavailable,
    /// A wrong name or password, or a refresh token that is none.
    LoginRefused,
    /// Too many logins failed.
    LoginThrottled,
    /// Users, keys or the threads that hash passwords cannot be had.
    AccountsUnavailable,
    /// The gateway was told to stop before the request was done.
    Stopping,
    /// Every endpoint has as many requests as it may.
    ServiceFull,
    /// A bug: the connection's task panicked.
    Panic,
}

/// Who can do something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Nothing went wrong.
    None,
    Client,
    Upstream,
    Gateway,
}

impl Why {
    pub const ALL: [Self; 50] = [
        Self::Ok,
        Self::ClientClosed,
        Self::BadRequest,
        Self::Unsupported,
        Self::HeadTooLarge,
        Self::HeadTimeout,
        Self::BodyTimeout,
        Self::BodyTooLarge,
        Self::NoRoute,
        Self::MethodNotAllowed,
        Self::NoEndpoint,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::UpstreamTls,
        Self::UpstreamTimeout,
        Self::UpstreamReset,
        Self::UpstreamBadResponse,
        Self::UpstreamTruncated,
        Self::UpstreamStalled,
        Self::PartFailed,
        Self::PartTimeout,
        Self::PartConflict,
        Self::BrokerDown,
        Self::BrokerBusy,
        Self::Unroutable,
        Self::UpstreamFailed,
        Self::TooManyConnections,
        Self::NoResources,
        Self::LoopDetected,
        Self::TokenMissing,
        Self::TokenMalformed,
        Self::TokenAlgorithm,
        Self::TokenIssuer,
        Self::TokenAudience,
        Self::TokenKey,
        Self::TokenSignature,
        Self::TokenClaims,
        Self::TokenExpired,
        Self::TokenNotYet,
        Self::TokenRevoked,
        Self::RoleMissing,
        Self::ScopeMissing,
        Self::ClaimMissing,
        Self::KeysUnavailable,
        Self::LoginRefused,
        Self::LoginThrottled,
        Self::AccountsUnavailable,
        Self::Stopping,
        Self::ServiceFull,
        Self::Panic,
    ];

    /// One word, the same in logs and metrics. Never changed once published.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientClosed => "client_closed",
            Self::BadRequest => "bad_request",
            Self::Unsupported => "unsupported",
            Self::HeadTooLarge => "head_too_large",
            Self::HeadTimeout => "head_timeout",
            Self::BodyTimeout => "body_timeout",
            Self::BodyTooLarge => "body_too_large",
            Self::NoRoute => "no_route",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::NoEndpoint => "no_endpoint",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::UpstreamTls => "upstream_tls",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::UpstreamReset => "upstream_reset",
            Self::UpstreamBadResponse => "upstream_bad_response",
            Self::UpstreamTruncated => "upstream_truncated",
            Self::UpstreamStalled => "upstream_stalled",
            Self::PartFailed => "part_failed",
            Self::PartTimeout => "part_timeout",
            Self::PartConflict => "part_conflict",
            Self::BrokerDown => "broker_down",
            Self::BrokerBusy => "broker_busy",
            Self::Unroutable => "unroutable",
            Self::UpstreamFailed => "upstream_failed",
            Self::TooManyConnections => "too_many_connections",
            Self::NoResources => "no_resources",
            Self::LoopDetected => "loop_detected",
            Self::TokenMissing => "token_missing",
            Self::TokenMalformed => "jwt_malformed",
            Self::TokenAlgorithm => "jwt_algorithm",
            Self::TokenIssuer => "jwt_issuer",
            Self::TokenAudience => "jwt_audience",
            Self::TokenKey => "jwt_key",
            Self::TokenSignature => "jwt_signature",
            Self::TokenClaims => "jwt_claims",
            Self::TokenExpired => "jwt_expired",
            Self::TokenNotYet => "jwt_not_yet",
            Self::TokenRevoked => "jwt_revoked",
            Self::RoleMissing => "role_missing",
            Self::ScopeMissing => "scope_missing",
            Self::ClaimMissing => "claim_missing",
            Self::KeysUnavailable => "jwt_keys_unavailable",
            Self::LoginRefused => "login_refused",
            Self::LoginThrottled => "login_throttled",
            Self::AccountsUnavailable => "accounts_unavailable",
            Self::Stopping => "stopping",
            Self::ServiceFull => "service_full",
            Self::Panic => "panic",
        }
    }

    pub const fn side(self) -> Side {
        match self {
            Self::Ok => Side::None,
            Self::ClientClosed
            | Self::BadRequest
            | Self::Unsupported
            | Self::HeadTooLarge
            | Self::HeadTimeout
            | Self::BodyTimeout
            | Self::BodyTooLarge
            | Self::NoRoute
            | Self::MethodNotAllowed
            | Self::TokenMissing
            | Self::TokenMalformed
            | Self::TokenAlgorithm
            | Self::TokenIssuer
            | Self::TokenAudience
            | Self::TokenKey
            | Self::TokenSignature
            | Self::TokenClaims
            | Self::TokenExpired
            | Self::TokenNotYet
            | Self::TokenRevoked
            | Self::RoleMissing
            | Self::ScopeMissing
            | Self::ClaimMissing
            | Self::LoginRefused
            | Self::LoginThrottled => Side::Client,
            Self::NoEndpoint
            | Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::UpstreamTls
            | Self::UpstreamTimeout
            | Self::UpstreamReset
            | Self::UpstreamBadResponse
            | Self::UpstreamTruncated
            | Self::UpstreamStalled
            | Self::PartFailed
            | Self::PartTimeout
            | Self::PartConflict
            | Self::BrokerDown
            | Self::BrokerBusy
            | Self::Unroutable
            | Self::UpstreamFailed => Side::Upstream,
            Self::TooManyConnections
            | Self::NoResources
            | Self::LoopDetected
            | Self::KeysUnavailable
            | Self::AccountsUnavailable
            | Self::Stopping
            | Self::ServiceFull
            | Self::Panic => Side::Gateway,
        }
    }

    /// The reason with this number, as written by `why as u8`; `Ok` for a number that is none.
    pub(super) fn numbered(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }
}

impl Side {
    /// `client`, `upstream`, `gateway`, or `-` when nothing went wrong.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Gateway => "gateway",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_listed_in_the_order_of_its_number() {
        for (index, why) in Why::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(why as u8), index, "{why}");
            assert_eq!(Why::numbered(why as u8), why);
        }
        assert_eq!(usize::from(Why::Panic as u8) + 1, Why::ALL.len(), "Panic stays last");
    }

    #[test]
    fn no_two_reasons_share_a_word_and_only_ok_has_no_side() {
        for why in Why::ALL {
            assert_eq!(Why::ALL.iter().filter(|other| other.word() == why.word()).count(), 1, "{why}");
            assert_eq!(why.side() == Side::None, why == Why::Ok, "{why}");
        }
    }
}
