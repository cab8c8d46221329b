//! What a shard reads while it serves: the configuration with every name resolved to a place, never changed, only replaced.
//!
//! [`build()`] makes one from a checked [`Config`](crate::config::Config); [`cell`] is how it reaches the shards.

pub mod build;
pub mod cell;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

pub use self::{
    build::{Identities, Numbers, Resolved, TlsConfigs, build},
    cell::{HeldSnapshot, SnapshotCell, SnapshotReader},
};
use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};

use crate::{
    auth::{Guard, revocation::RevocationCell},
    balance::{Facts, Policy, Queue, Shared},
    config::{self, Fixed, HostHeader, Network, Retry, issuing::Action},
    http::{FieldNames, Rules},
    limits::Limits,
    route::Index,
    template::Template,
    transform::Plan,
};

/// The configuration as the shards read it.
pub struct Snapshot {
    /// Counts up with every snapshot of this process, from 1.
    pub version: u64,
    pub index: Index,
    pub routes: Vec<Route>,
    pub services: Vec<Service>,
    /// Services behind a broker. One that did not change is the same as in the snapshot before.
    pub amqp: Vec<Arc<AmqpService>>,
    pub listeners: Vec<ListenerFacts>,
    pub trusted_proxies: Vec<Network>,
    /// For listeners with TLS, by shard; empty when there is none.
    pub tls: Arc<[Arc<ServerConfig>]>,
    pub limits: Limits,
    /// Changes while the snapshot serves: a log-out is for now, not for the next configuration.
    pub revocations: Arc<RevocationCell>,
    /// What routes want of tokens.
    pub guards: Vec<Guard>,
    /// Header fields by which services learn who asks: clients' own are left out.
    pub reserved: FieldNames,
    /// Whether an endpoint is one of our own listeners.
    pub calls_itself: bool,
}

/// What the configuration says about one listener.
#[derive(Clone, Debug)]
pub struct ListenerFacts {
    /// As written in `listen`.
    pub name: Arc<str>,
    pub rules: Rules,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Whether connections of trusted proxies begin with a header of theirs.
    pub proxy_protocol: bool,
    /// Whether HTTP/2 is spoken to clients that want it.
    pub http2: bool,
    /// The field value that recognises requests which left from this listener (RFC 8586).
    pub loop_mark: Box<[u8]>,
}

pub struct Route {
    pub pattern: Arc<str>,
    /// Its number in metrics and logs.
    pub metric: u32,
    pub target: Target,
    /// To the response head.
    pub timeout: Duration,
    pub max_body: u64,
    pub retry: Retry,
    pub strip: Option<Arc<str>>,
    pub rewrite: Option<Template>,
    pub host: HostHeader,
    pub raw_path: bool,
    pub stream: bool,
    pub upgrade: Vec<Arc<str>>,
    /// Index into [`Snapshot::guards`]; `None` lets everybody in.
    pub guard: Option<usize>,
    /// Names of the pattern's variables, in the order of the captures.
    pub variables: Vec<Arc<str>>,
}

pub enum Target {
    /// Index into [`Snapshot::services`].
    Service(usize),
    /// One of the paths of an issuer of our own, by its name.
    Accounts {
        issuer: Arc<str>,
        action: Action,
    },
    /// Index into [`Snapshot::amqp`].
    Amqp(usize),
    Fixed(Fixed),
    Redirect {
        code: u16,
        location: Template,
    },
    Aggregate(Aggregate),
}

/// A route made of parts.
pub struct Aggregate {
    pub plan: Arc<Plan>,
    /// The parts' numbers in metrics, in their order.
    pub metrics: Vec<u32>,
}

pub struct Service {
    pub name: Arc<str>,
    pub metric: u32,
    /// Its place in the shards' tables, the same in every snapshot that has this service.
    pub slot: usize,
    /// Changes when the list of endpoints does.
    pub revision: u64,
    pub policy: Policy,
    /// By what [`Policy::Hash`] decides.
    pub hash: Option<Template>,
    pub waits: Option<Waits>,
    pub keepalive: usize,
    pub connect: Duration,
    /// For endpoints with TLS, by shard; empty when there is none.
    pub tls: Arc<[Arc<ClientConfig>]>,
    pub endpoints: Vec<Endpoint>,
    /// Beside `endpoints`, in the shape that `balance` wants.
    pub facts: Vec<Facts>,
    pub shared: Vec<Arc<Shared>>,
}

/// Where requests wait while every endpoint is full.
pub struct Waits {
    /// Requests that may wait, over all shards.
    pub most: u32,
    pub wait: Duration,
    pub queue: Arc<Queue>,
}

/// A service behind a broker.
#[derive(Debug)]
pub struct AmqpService {
    pub config: config::AmqpService,
    /// Its numbers in metrics and logs, as a service and as an endpoint.
    pub metric: u32,
    pub endpoint: u32,
}

pub struct Endpoint {
    pub url: Arc<str>,
    pub metric: u32,
    /// Its place in the shards' tables, the same in every snapshot that has this endpoint.
    pub slot: usize,
    /// Its number, which no other endpoint of this process gets, ever: a slot is given to another once it is free.
    pub id: u64,
    pub dial: Dial,
    pub authority: Arc<str>,
    /// The name its certificate must have; `None` without TLS.
    pub tls: Option<ServerName<'static>>,
    pub prefix: Arc<str>,
    pub speaks: config::Speaks,
    /// Index into [`Snapshot::listeners`], when the endpoint is one of our own.
    pub own_listener: Option<usize>,
}

/// How to reach an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Dial {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// The name does not resolve now; the endpoint counts as down.
    Unresolved,
}

impl Snapshot {
    /// Whether the peer may speak for others (`trusted_proxies`).
    pub fn trusts(&self, peer: SocketAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(peer.ip()))
    }
}
