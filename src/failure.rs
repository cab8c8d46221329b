//! Every way a request fails, whose fault it is, and the status that says so.

use std::{borrow::Cow, fmt};

use crate::{
    aggregate::Unmade,
    auth::Reject,
    bus,
    control::accounts::Refusal,
    http::{BadBody, BadHead, BadPath},
    observe::Why,
    upstream::Fault,
};

/// Why a request ended without the reply it asked for, grouped by who can fix it.
///
/// The group decides everything a caller has to decide: the status, whether the connection may be kept, whose counter goes up.
/// Counted and logged once, in `connection`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The client can fix it.
    Client(ClientFault),
    /// The token does not do, by the rules of the snapshot's guard of that index. The reply says what would (RFC 6750).
    Denied { reject: Reject, guard: usize },
    /// An issuer of our own does not do what it was asked for.
    Account(Refusal),
    /// The service can fix it.
    Upstream(UpstreamFault),
    /// The operator can fix it: a limit was reached. The reply carries `Retry-After`.
    Overload(Overload),
    /// We can fix it. The client learns nothing more.
    Bug(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFault {
    Head(BadHead),
    Path(BadPath),
    Body(BadBody),
    /// The head was not complete in time.
    HeadTooSlow,
    /// The body made no progress, or too little.
    BodyTooSlow,
    /// More than the route's `max_body`.
    BodyTooLarge,
    NoRoute,
    MethodNotAllowed,
    /// CONNECT and TRACE are not for gateways.
    MethodNotServed,
    /// The client went away before its reply.
    Closed,
    /// The request has been here before.
    Loop,
    /// HTTP where TLS is spoken.
    PlainHttp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamFault {
    /// Every endpoint is down, or out of rotation and tried.
    NoEndpoint,
    ConnectRefused,
    ConnectTimeout,
    /// Its TLS handshake failed: most often nobody we trust has signed its certificate, or it is for another name.
    Tls,
    /// The connection broke before the whole response head.
    Reset,
    /// What came is not an HTTP response we may pass on.
    BadResponse,
    /// No response head within the route's `timeout`.
    Timeout,
    /// A part that an aggregate cannot do without failed, or all of its parts did.
    Part,
    /// The same, because the time was up.
    PartTimeout,
    /// Two parts have the same member, and `conflict` is `error`.
    PartConflict,
    /// The service is behind a broker, and no answer came from there.
    Broker(bus::Fault),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overload {
    /// `max_connections`, or no descriptor is left.
    Connections,
    /// Every endpoint of the service has `max_conns` requests, and the queue, if there is one, is full or took too long.
    Service,
}

impl Failure {
    /// The status the client sees. The only place that turns a failure into a number.
    pub const fn status(self) -> u16 {
        match self {
            Self::Client(fault) => match fault {
                ClientFault::Head(bad) => match bad {
                    BadHead::TargetTooLong => 414,
                    BadHead::LineTooLong | BadHead::HeadTooLong | BadHead::TooManyHeaders => 431,
                    BadHead::UnsupportedVersion => 505,
                    BadHead::Malformed
                    | BadHead::BadMethod
                    | BadHead::BadTarget
                    | BadHead::BadStatus
                    | BadHead::BadFieldName
                    | BadHead::BadFieldValue
                    | BadHead::BareCr
                    | BadHead::BareLf
                    | BadHead::MissingHost
                    | BadHead::TwoHosts
                    | BadHead::BadHost
                    | BadHead::TooManyOptions
                    | BadHead::BadFraming(_) => 400,
                },
                ClientFault::Path(_) | ClientFault::Body(_) | ClientFault::PlainHttp => 400,
                ClientFault::HeadTooSlow | ClientFault::BodyTooSlow => 408,
                ClientFault::BodyTooLarge => 413,
                ClientFault::NoRoute => 404,
                ClientFault::MethodNotAllowed | ClientFault::MethodNotServed => 405,
                // As nginx logs it; nobody is there to read it.
                ClientFault::Closed => 499,
                ClientFault::Loop => 508,
            },
            Self::Denied { reject, .. } => match reject {
                Reject::Repeated => 400,
                Reject::NoKeys => 503,
                Reject::Role | Reject::Scope | Reject::Claim => 403,
                Reject::Missing
                | Reject::Malformed
                | Reject::Algorithm
                | Reject::Issuer
                | Reject::Audience
                | Reject::Key
                | Reject::Signature
                | Reject::Claims
                | Reject::Expired
                | Reject::NotYet
                | Reject::Revoked => 401,
            },
            Self::Account(refusal) => match refusal {
                Refusal::Malformed(_) => 400,
                Refusal::WrongCredentials | Refusal::BadToken => 401,
                Refusal::UnknownType => 415,
                Refusal::Throttled { .. } | Refusal::Busy => 429,
                Refusal::Unavailable => 503,
            },
            Self::Upstream(fault) => match fault {
                UpstreamFault::NoEndpoint => 503,
                UpstreamFault::ConnectRefused
                | UpstreamFault::ConnectTimeout
                | UpstreamFault::Tls
                | UpstreamFault::Reset
                | UpstreamFault::BadResponse
                | UpstreamFault::Part
                | UpstreamFault::PartConflict => 502,
                UpstreamFault::Timeout
                | UpstreamFault::PartTimeout
                | UpstreamFault::Broker(bus::Fault::Late) => 504,
                UpstreamFault::Broker(bus::Fault::Down | bus::Fault::Busy | bus::Fault::Refused) => 503,
                UpstreamFault::Broker(
                    bus::Fault::Unroutable | bus::Fault::Lost | bus::Fault::BadReply | bus::Fault::Failed,
                ) => 502,
            },
            Self::Overload(_) => 503,
            Self::Bug(_) => 500,
        }
    }

    /// The word for the log and the metrics.
    pub const fn why(self) -> Why {
        match self {
            Self::Client(fault) => match fault {
                ClientFault::Head(
                    BadHead::TargetTooLong
                    | BadHead::LineTooLong
                    | BadHead::HeadTooLong
                    | BadHead::TooManyHeaders,
                ) => Why::HeadTooLarge,
                ClientFault::Head(_)
                | ClientFault::Path(_)
                | ClientFault::Body(_)
                | ClientFault::PlainHttp => Why::BadRequest,
                ClientFault::HeadTooSlow => Why::HeadTimeout,
                ClientFault::BodyTooSlow => Why::BodyTimeout,
                ClientFault::BodyTooLarge => Why::BodyTooLarge,
                ClientFault::NoRoute => Why::NoRoute,
                ClientFault::MethodNotAllowed | ClientFault::MethodNotServed => Why::MethodNotAllowed,
                ClientFault::Closed => Why::ClientClosed,
                ClientFault::Loop => Why::LoopDetected,
            },
            Self::Denied { reject, .. } => match reject {
                Reject::Missing => Why::TokenMissing,
                Reject::Repeated | Reject::Malformed => Why::TokenMalformed,
                Reject::Algorithm => Why::TokenAlgorithm,
                Reject::Issuer => Why::TokenIssuer,
                Reject::Audience => Why::TokenAudience,
                Reject::Key => Why::TokenKey,
                Reject::Signature => Why::TokenSignature,
                Reject::Claims => Why::TokenClaims,
                Reject::Expired => Why::TokenExpired,
                Reject::NotYet => Why::TokenNotYet,
                Reject::Revoked => Why::TokenRevoked,
                Reject::Role => Why::RoleMissing,
                Reject::Scope => Why::ScopeMissing,
                Reject::Claim => Why::ClaimMissing,
                Reject::NoKeys => Why::KeysUnavailable,
            },
            Self::Account(refusal) => match refusal {
                Refusal::Malformed(_) | Refusal::UnknownType => Why::BadRequest,
                Refusal::WrongCredentials | Refusal::BadToken => Why::LoginRefused,
                Refusal::Throttled { .. } => Why::LoginThrottled,
                Refusal::Busy | Refusal::Unavailable => Why::AccountsUnavailable,
            },
            Self::Upstream(fault) => match fault {
                UpstreamFault::NoEndpoint => Why::NoEndpoint,
                UpstreamFault::ConnectRefused => Why::ConnectRefused,
                UpstreamFault::ConnectTimeout => Why::ConnectTimeout,
                UpstreamFault::Tls => Why::UpstreamTls,
                UpstreamFault::Reset => Why::UpstreamReset,
                UpstreamFault::BadResponse => Why::UpstreamBadResponse,
                UpstreamFault::Part => Why::PartFailed,
                UpstreamFault::PartTimeout => Why::PartTimeout,
                UpstreamFault::PartConflict => Why::PartConflict,
                UpstreamFault::Timeout | UpstreamFault::Broker(bus::Fault::Late) => Why::UpstreamTimeout,
                UpstreamFault::Broker(fault) => match fault {
                    bus::Fault::Down | bus::Fault::Refused => Why::BrokerDown,
                    bus::Fault::Busy => Why::BrokerBusy,
                    bus::Fault::Unroutable => Why::Unroutable,
                    bus::Fault::Lost | bus::Fault::Late => Why::UpstreamReset,
                    bus::Fault::BadReply => Why::UpstreamBadResponse,
                    bus::Fault::Failed => Why::UpstreamFailed,
                },
            },
            Self::Overload(Overload::Connections) => Why::TooManyConnections,
            Self::Overload(Overload::Service) => Why::ServiceFull,
            Self::Bug(_) => Why::Panic,
        }
    }

    /// One sentence for the client: what was wrong and, where it can act, what to do. Never an internal address.
    pub fn detail(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Client(fault) => match fault {
                ClientFault::Head(bad) => return sentence(bad),
                ClientFault::Path(bad) => return sentence(bad),
                ClientFault::Body(bad) => return sentence(bad),
                ClientFault::HeadTooSlow => "The request head was not complete in time.",
                ClientFault::BodyTooSlow => "The request body did not arrive fast enough.",
                ClientFault::BodyTooLarge => "The request body is larger than this route accepts.",
                ClientFault::NoRoute => "No route matches this host and path.",
                ClientFault::MethodNotAllowed => "This path is served, but not with this method; see Allow.",
                ClientFault::MethodNotServed => "This method is not served by this gateway.",
                ClientFault::Closed => "The client closed the connection.",
                ClientFault::Loop => "This request has passed this gateway before.",
                ClientFault::PlainHttp => "This port speaks HTTPS; the address begins with https://.",
            },
            Self::Denied { reject, .. } => return sentence(reject.text()),
            Self::Account(refusal) => match refusal {
                Refusal::Malformed(what) => what,
                Refusal::UnknownType => {
                    "The body is neither application/json nor application/x-www-form-urlencoded."
                }
                Refusal::WrongCredentials => "The name or the password is wrong.",
                Refusal::BadToken => "The token is none of ours, has expired, or was used before.",
                Refusal::Throttled { .. } => "Too many attempts failed; see Retry-After.",
                Refusal::Busy => "Too many log in at once; see Retry-After.",
                Refusal::Unavailable => "Accounts cannot be reached now.",
            },
            Self::Upstream(UpstreamFault::NoEndpoint) => {
                "The service has no endpoint that can take a request now."
            }
            Self::Upstream(UpstreamFault::Timeout | UpstreamFault::Broker(bus::Fault::Late)) => {
                "The service did not answer in time."
            }
            Self::Upstream(UpstreamFault::Broker(fault)) => match fault {
                bus::Fault::Down | bus::Fault::Refused => "The broker takes no messages now.",
                bus::Fault::Busy => "Too many requests wait for this service.",
                bus::Fault::Unroutable => "Nobody takes messages for this service.",
                bus::Fault::Lost | bus::Fault::Late => "The broker was lost while the request was under way.",
                bus::Fault::BadReply => "The service's answer could not be understood.",
                bus::Fault::Failed => "The service says that it failed.",
            },
            Self::Upstream(UpstreamFault::BadResponse) => "The service's answer could not be understood.",
            Self::Upstream(UpstreamFault::Part) => "A service that this answer needs failed.",
            Self::Upstream(UpstreamFault::PartTimeout) => "A service that this answer needs took too long.",
            Self::Upstream(UpstreamFault::PartConflict) => "The services' answers contradict each other.",
            Self::Upstream(_) => "The service could not be reached.",
            Self::Overload(Overload::Service) => "The service has as many requests as it can take.",
            Self::Overload(Overload::Connections) => "The gateway has no room for another connection.",
            Self::Bug(_) => "The gateway made a mistake; the request id helps to find it.",
        })
    }

    /// Seconds after which it is worth trying again.
    pub const fn retry_after(self) -> Option<u32> {
        match self {
            Self::Overload(_) => Some(1),
            Self::Upstream(UpstreamFault::NoEndpoint) | Self::Denied { reject: Reject::NoKeys, .. } => {
                Some(5)
            }
            Self::Account(Refusal::Throttled { retry_after }) => Some(retry_after),
            Self::Account(Refusal::Busy) => Some(1),
            Self::Account(Refusal::Unavailable) => Some(5),
            Self::Upstream(UpstreamFault::Broker(bus::Fault::Down | bus::Fault::Refused)) => Some(5),
            Self::Upstream(UpstreamFault::Broker(bus::Fault::Busy)) => Some(1),
            Self::Account(_) | Self::Client(_) | Self::Denied { .. } | Self::Upstream(_) | Self::Bug(_) => {
                None
            }
        }
    }

    /// Whether the position in the client's byte stream is lost, so that the connection must end.
    pub const fn loses_framing(self) -> bool {
        match self {
            Self::Client(fault) => matches!(
                fault,
                ClientFault::Head(_)
                    | ClientFault::Body(_)
                    | ClientFault::HeadTooSlow
                    | ClientFault::BodyTooSlow
                    | ClientFault::BodyTooLarge
                    | ClientFault::MethodNotServed
                    | ClientFault::Closed
            ),
            Self::Denied { .. }
            | Self::Account(_)
            | Self::Upstream(_)
            | Self::Overload(Overload::Service) => false,
            Self::Overload(Overload::Connections) | Self::Bug(_) => true,
        }
    }
}

/// `the head is …` as `The head is ….`
fn sentence(fact: impl fmt::Display) -> Cow<'static, str> {
    let mut text = fact.to_string();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text.push('.');
    Cow::Owned(text)
}

impl From<Unmade> for Failure {
    fn from(unmade: Unmade) -> Self {
        Self::Upstream(match unmade {
            Unmade::Failed | Unmade::TooLarge => UpstreamFault::Part,
            Unmade::Late => UpstreamFault::PartTimeout,
            Unmade::Conflict => UpstreamFault::PartConflict,
        })
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NoEndpoint => Self::Upstream(UpstreamFault::NoEndpoint),
            Fault::Full => Self::Overload(Overload::Service),
            Fault::ConnectRefused => Self::Upstream(UpstreamFault::ConnectRefused),
            Fault::ConnectTimeout => Self::Upstream(UpstreamFault::ConnectTimeout),
            Fault::Tls => Self::Upstream(UpstreamFault::Tls),
            Fault::Reset => Self::Upstream(UpstreamFault::Reset),
            Fault::BadResponse => Self::Upstream(UpstreamFault::BadResponse),
            Fault::Timeout => Self::Upstream(UpstreamFault::Timeout),
            Fault::ClientClosed => Self::Client(ClientFault::Closed),
            Fault::ClientTooSlow => Self::Client(ClientFault::BodyTooSlow),
            Fault::BodyTooLarge => Self::Client(ClientFault::BodyTooLarge),
            Fault::BadBody(bad) => Self::Client(ClientFault::Body(bad)),
        }
    }
}
