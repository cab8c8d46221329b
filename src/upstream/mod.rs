//! The other side: a request goes to one of a service's endpoints, a response comes back.
//!
//! [`send()`] picks an endpoint, connects or reuses a connection, and tries again where that is safe; [`relay()`] passes the response
//! body on; [`upload`] passes a request body on that is too large to gather; [`pool`] keeps idle connections.

mod collect;
mod exchange;
pub mod pool;
pub mod relay;
mod send;
mod shared;
pub mod upload;
mod wait;

pub use self::{
    collect::{Collected, NoBody, collect},
    pool::{Connection, Lease, Upstreams},
    relay::{Passing, RelayEnd, Relayed, relay},
    send::{Asker, Body, NoResponse, Request, Stop, send},
    upload::{Pace, Upload, UploadEnd, Uploaded},
};
use crate::http::BadBody;

/// Why no response came. Facts about the other side, or about the client's body; `failure` says what they mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Every endpoint is down, or has been tried.
    NoEndpoint,
    /// Every endpoint has as many requests as it may, and none came free in time.
    Full,
    ConnectRefused,
    ConnectTimeout,
    /// The TLS handshake failed.
    Tls,
    /// The connection ended before a whole response head.
    Reset,
    /// Not HTTP as we pass it on.
    BadResponse,
    /// No response head in time.
    Timeout,
    ClientClosed,
    /// The request body made no progress.
    ClientTooSlow,
    BodyTooLarge,
    BadBody(BadBody),
}
