//! Why a part has no answer, and why there is no document.

use std::fmt;

use crate::{
    json::BadJson,
    observe::PartOutcome,
    upstream::{Fault, NoBody},
};

/// Why a part failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartFault {
    /// No response.
    Upstream(Fault),
    /// A response that is no success; a redirect is none.
    Status(u16),
    Body(NoBody),
    /// Compressed in a way that is not understood, although it was asked not to be.
    Encoding,
    Json(BadJson),
    /// Only an object has members for the root.
    NoObject,
    /// A required part needs a value that is not there.
    Missing,
    /// More values than `max` says.
    TooMany,
    /// Together with the answers before it more than one aggregate may hold.
    TooMuchInAll,
}

impl PartFault {
    pub(super) const fn outcome(self) -> PartOutcome {
        match self {
            Self::Upstream(Fault::NoEndpoint) => PartOutcome::NoEndpoint,
            Self::Upstream(Fault::Full) => PartOutcome::Full,
            Self::Upstream(Fault::ConnectRefused | Fault::ConnectTimeout | Fault::Tls) => {
                PartOutcome::Connect
            }
            Self::Upstream(Fault::Timeout) | Self::Body(NoBody::TooSlow) => PartOutcome::Timeout,
            Self::Upstream(Fault::Reset) | Self::Body(NoBody::Truncated) => PartOutcome::Reset,
            Self::Status(400..=499) => PartOutcome::Status4xx,
            Self::Status(500..) => PartOutcome::Status5xx,
            Self::Status(_) => PartOutcome::Redirect,
            Self::Upstream(
                Fault::BadResponse
                | Fault::ClientClosed
                | Fault::ClientTooSlow
                | Fault::BodyTooLarge
                | Fault::BadBody(_),
            )
            | Self::Body(NoBody::Malformed)
            | Self::Encoding => PartOutcome::Bad,
            Self::Json(_) | Self::NoObject => PartOutcome::NotJson,
            Self::Body(NoBody::TooLarge) | Self::TooMany | Self::TooMuchInAll => PartOutcome::TooLarge,
            Self::Missing => PartOutcome::Skipped,
        }
    }

    pub(super) fn is_timeout(self) -> bool {
        self.outcome() == PartOutcome::Timeout
    }
}

impl fmt::Display for PartFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upstream(Fault::NoEndpoint) => "no endpoint can take a request",
            Self::Upstream(Fault::Full) => "every endpoint has as many requests as it may",
            Self::Upstream(Fault::ConnectRefused) => "the connection was refused",
            Self::Upstream(Fault::ConnectTimeout) => "the connection was not made in time",
            Self::Upstream(Fault::Tls) => "the TLS handshake failed",
            Self::Upstream(Fault::Timeout) | Self::Body(NoBody::TooSlow) => "no answer in time",
            Self::Upstream(Fault::Reset) => "the connection broke before the answer",
            Self::Upstream(_) | Self::Body(NoBody::Malformed) => "the answer is no HTTP",
            Self::Body(NoBody::Truncated) => "the connection broke in the middle of the answer",
            Self::Body(NoBody::TooLarge) => "the answer is larger than `max_body`",
            Self::Status(status) => return write!(f, "status {status}"),
            Self::Encoding => "the answer is compressed in an unknown way, or not as it says",
            Self::Json(bad) => return write!(f, "the answer is no JSON: {bad}"),
            Self::NoObject => "the answer is no object, and only its members can go to the root",
            Self::Missing => "a value that it needs is missing",
            Self::TooMany => "there are more values than `max`",
            Self::TooMuchInAll => "the answers together are too large",
        })
    }
}

/// Why there is no document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmade {
    /// A required part failed, or all did.
    Failed,
    /// The same, for want of time.
    Late,
    /// Two parts have the same member, and `conflict` is `error`.
    Conflict,
    /// It would be larger than [`AGGREGATE_BYTES_MAX`](crate::limits::AGGREGATE_BYTES_MAX).
    TooLarge,
}
