//! One request, several parts, one document (DESIGN §9).
//!
//! [`gather()`] starts every part whose values are there, all at once; an answer may start others. Each call is a future of the request's
//! own task, on the same shard and over the same pools as any request to a service. When the answers are in, or the time is up, the document is
//! laid out as slices of the bodies as they were received.

mod answer;
mod call;
mod document;
mod fault;
mod gather;
mod report;
mod room;
mod stale;

pub use self::{
    document::Document,
    fault::Unmade,
    gather::{Effort, gather},
    room::Room,
};
use std::time::Duration;

use crate::{
    config::{HostHeader, Retry},
    http::{Field, RequestHead, Rules, rewrite::Bearer},
    snapshot::{Aggregate, Service},
    transform::Client,
};

/// What is wanted, and what of the client's request goes to the parts.
pub struct Ask<'a> {
    pub aggregate: &'a Aggregate,
    pub services: &'a [Service],
    /// The pattern of the route, for the log.
    pub route: &'a str,
    pub client: &'a dyn Client,
    pub head: &'a RequestHead,
    /// The received head's bytes, to which the spans refer.
    pub bytes: &'a [u8],
    pub fields: &'a [Field],
    pub host: HostHeader,
    pub client_host: &'a [u8],
    pub host_differs: bool,
    pub peer: &'a [u8],
    pub proto: &'a [u8],
    pub trusted: bool,
    pub certificate: Option<(&'a [u8], &'a [u8])>,
    /// What the services are told of who asks.
    pub bearer: Bearer<'a>,
    /// The id made here; `None` when the client's own is passed on.
    pub request_id: Option<&'a [u8]>,
    /// The id, whoever made it.
    pub id: &'a [u8],
    /// What picks an endpoint of a service whose balance is by hash.
    pub key: &'a dyn Fn(&Service) -> Option<u64>,
    pub loop_mark: &'a [u8],
    pub rules: Rules,
    pub retry: &'a Retry,
    /// For the whole.
    pub timeout: Duration,
    /// The longest wait without progress while sending.
    pub patience: Duration,
}
