//! The configuration: `raw` (what is written, with places) → `check` → the types below, which can no longer be wrong.
//!
//! Nothing outside this folder validates a value again. A [`Config`] is plain data: it names services and
//! listeners by index, its patterns and templates are parsed, its durations have units.

mod check;
mod include;
pub mod issuing;
pub mod keys;
pub mod load;
mod print;
pub mod problem;
pub mod raw;
mod resolve;
pub mod source;
mod toml;

pub use self::load::{Loaded, from_text, load, refresh_tls, state_of};

use std::{net::IpAddr, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use crate::{
    auth::{self, Algs, Audience, ClaimName, KeySet, Onward, Wanted},
    limits::Limits,
    route::Pattern,
    template::Template,
    tls,
    transform::Plan,
};

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: Vec<Listen>,
    /// Where metrics, health and the API are served; `None` with `admin = false`.
    pub admin: Option<SocketAddr>,
    pub shards: Shards,
    pub driver: Driver,
    /// Who serves when root starts it.
    pub user: Option<User>,
    /// Keys, embedded database, development certificate.
    pub state: PathBuf,
    /// What listeners with TLS offer; `None` for a certificate of our own making.
    pub tls: Option<Tls>,
    pub trusted_proxies: Vec<Network>,
    /// Who is asked for the addresses of endpoints.
    pub resolver: Resolver,
    /// Connection-wide bounds (DESIGN §15), from `[defaults]`.
    pub limits: Limits,
    pub auths: Vec<Auth>,
    pub services: Vec<Service>,
    /// Services behind a broker.
    pub amqp: Vec<AmqpService>,
    pub routes: Vec<Route>,
    pub log: Log,
}

/// Who is asked for the addresses of host names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver {
    /// Empty for those of /etc/resolv.conf.
    pub servers: Vec<SocketAddr>,
    /// Instead of what the records say.
    pub valid: Option<Duration>,
    pub ipv4: bool,
    pub ipv6: bool,
}

impl Default for Resolver {
    fn default() -> Self {
        Self { servers: Vec::new(), valid: None, ipv4: true, ipv6: true }
    }
}

/// A range of addresses, `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub address: IpAddr,
    pub prefix: u8,
}

/// One listening address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// As written (`":8080"`), the name by which a route's `on` may call it.
    pub name: Arc<str>,
    pub address: Address,
    pub backlog: u32,
    /// Bare LF is accepted as a line end in heads (never forwarded).
    pub lenient: bool,
    /// `https://`.
    pub tls: bool,
    /// Connections of trusted proxies begin with a header that says from where they come.
    pub proxy_protocol: bool,
    /// HTTP/2 is spoken to clients that want it.
    pub http2: bool,
}

/// `[tls]`.
#[derive(Clone, Debug)]
pub struct Tls {
    pub offer: tls::Offer,
    /// Where `offer.certificates` were read, in the same order.
    pub files: Vec<CertificateFiles>,
    /// Where the authorities of clients were read.
    pub ca: Option<PathBuf>,
}

/// Where a certificate and its key were read.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Where to listen or connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Tcp(SocketAddr),
    /// A host name and port that still has to be resolved (endpoints only).
    Name(Arc<str>, u16),
    Unix(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shards {
    /// One per core the process may use.
    Auto,
    Count(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring, or epoll with a warning where io_uring is blocked.
    Auto,
    IoUring,
    Epoll,
}

/// `user`: names, which are looked up at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: Arc<str>,
    /// `None` for the user's own.
    pub group: Option<Arc<str>>,
}

/// A service and its endpoints.
#[derive(Clone, Debug)]
pub struct Service {
    /// The name in `[services]`; for a URL written directly in a route, that URL.
    pub name: Arc<str>,
    pub endpoints: Vec<Endpoint>,
    pub balance: Balance,
    /// What `Balance::Hash` decides by.
    pub hash: Option<Template>,
    /// `None` where a request does not wait for an endpoint that has `max_conns`.
    pub queue: Option<Queue>,
    /// Idle connections kept per shard and service (nginx's `keepalive`, per worker).
    pub keepalive: usize,
    /// Time to establish a connection to one endpoint, its TLS handshake included.
    pub connect: Duration,
    /// For endpoints with `https://`.
    pub tls: ServiceTls,
}

/// How a service is spoken to over TLS.
#[derive(Clone, Debug)]
pub struct ServiceTls {
    pub verify: tls::Verify,
    /// The name its certificate must have, and that it is asked for by; `None` for the URL's.
    pub name: Option<Arc<str>>,
}

impl Default for ServiceTls {
    fn default() -> Self {
        Self { verify: tls::Verify::BySystem, name: None }
    }
}

/// A service that is reached through a broker (AMQP 0-9-1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmqpService {
    /// The name in `[services]`; for a URL written directly in a route, that URL without its key.
    pub name: Arc<str>,
    /// Tried in this order, those that are `backup` last.
    pub brokers: Vec<BrokerUrl>,
    pub exchange: Template,
    /// The routing key; with the default exchange, the queue's name.
    pub key: Template,
    pub reply: ReplyBy,
    /// Whether the broker keeps messages on disk (delivery mode 2).
    pub persistent: bool,
    /// Request headers that travel with a message, in lower case.
    pub headers: Vec<Arc<str>>,
    /// The largest reply, in bytes.
    pub max_reply: u64,
    /// Calls under way at once, of the process.
    pub in_flight: usize,
    pub heartbeat: Duration,
}

/// How the answer to a message comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplyBy {
    /// RabbitMQ's direct reply-to.
    Direct,
    /// An exclusive queue for each connection.
    Queue,
    /// Not at all: the broker's confirm is the answer.
    None,
}

/// Where a broker is, and as whom to go there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BrokerUrl {
    /// Without user and password: for logs and metrics.
    pub shown: Arc<str>,
    pub tls: bool,
    pub host: Arc<str>,
    pub port: u16,
    pub user: Arc<str>,
    pub password: Secret,
    pub vhost: Arc<str>,
    pub backup: bool,
}

/// Text that nobody may see.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Arc<str>);

impl Secret {
    /// The text, for the one place that has to say it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// One server line.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// As written, without flags and without user information: for logs and metrics.
    pub url: Arc<str>,
    pub address: Address,
    /// `host[:port]` as the Host header would have it (`host = "upstream"`).
    pub authority: Arc<str>,
    /// The host that `https://` names; `None` for `http://`.
    pub tls: Option<Arc<str>>,
    /// The URL's path without a trailing slash, put before every request path; often empty.
    pub prefix: Arc<str>,
    pub speaks: Speaks,
    pub weight: u32,
    /// Failures within `fail_timeout` that take the endpoint out; 0 never does (as in nginx).
    pub max_fails: u32,
    pub fail_timeout: Duration,
    pub backup: bool,
    pub down: bool,
    /// Requests in flight over all shards; 0 for any number.
    pub max_conns: u32,
    /// How long its share grows after it was out; zero for not at all.
    pub slow_start: Duration,
}

/// What an endpoint is spoken to in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speaks {
    #[default]
    Http1,
    /// HTTP/2, known beforehand (RFC 9113 §3.3).
    Http2,
    /// What the two agree on when TLS begins (RFC 7301).
    Either,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    RoundRobin,
    /// The less loaded of two drawn at random.
    Random,
    /// The fewest requests in flight for its weight.
    LeastConn,
    /// The one that would answer first.
    LeastTime,
    /// The first of the list, until it is full.
    First,
    /// The same for clients of the same network.
    IpHash,
    /// The same for the same value of [`Service::hash`].
    Hash,
}

/// Who waits for a place at an endpoint, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Requests, over all shards.
    pub most: u32,
    pub wait: Duration,
}

/// `[auth.NAME]`: whose tokens are taken, and on which terms.
#[derive(Clone, Debug)]
pub struct Auth {
    pub name: Arc<str>,
    /// What `iss` must be; `None` for tokens of whoever has the key.
    pub issuer: Option<Arc<str>>,
    pub audience: Audience,
    pub keys: KeySource,
    pub algs: Algs,
    pub leeway: Duration,
    /// Where tokens are looked for, in this order.
    pub from: Vec<auth::Source>,
    pub roles_claim: ClaimName,
    /// Header for services, and the claim it gets.
    pub headers: Vec<(Arc<str>, ClaimName)>,
    /// The header that gets all claims.
    pub identity: Option<Arc<str>>,
    pub token: Onward,
    /// How tokens are issued; `None` where somebody else does it.
    pub issuing: Option<issuing::Issuing>,
}

/// Where the keys of an issuer come from.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// A file or a secret, as read.
    Fixed(Arc<KeySet>),
    Fetched(KeyUrl),
    /// The gateway issues the tokens itself.
    Own,
}

/// Keys to be fetched.
#[derive(Clone, Debug)]
pub struct KeyUrl {
    /// Of the JWK Set; of the issuer itself where that is to be found by discovery.
    pub url: Arc<str>,
    /// The URL is an issuer's, whose metadata say where its keys are (OpenID Connect Discovery 1.0 §4).
    pub is_issuer: bool,
    pub verify: tls::Verify,
}

/// What a route wants of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteAuth {
    /// Indices into [`Config::auths`]; at least one.
    pub auths: Vec<usize>,
    pub wanted: Wanted,
    /// No token is fine, too.
    pub optional: bool,
}

/// One route: a pattern and what happens to a request that matches it.
#[derive(Clone, Debug)]
pub struct Route {
    pub pattern: Pattern,
    /// Index into [`Config::listen`], when `on` binds the route to a listener.
    pub on: Option<usize>,
    pub target: Target,
    /// To the response head.
    pub timeout: Duration,
    pub max_body: u64,
    pub retry: Retry,
    /// Prefix removed from the path before it is sent (no trailing slash).
    pub strip: Option<Arc<str>>,
    /// The path (and query, if it has a `?`) to send instead of the one received.
    pub rewrite: Option<Template>,
    /// Which Host the service sees.
    pub host: HostHeader,
    /// Encoded `/` and `\` are accepted, nothing is normalised.
    pub raw_path: bool,
    /// The body is never gathered before it is sent, and body progress is not timed.
    pub stream: bool,
    /// Upgrade tokens that may pass besides `websocket`, in lower case.
    pub upgrade: Vec<Arc<str>>,
    /// Who may come; `None` for everybody.
    pub auth: Option<RouteAuth>,
    /// Where the route was written: for `explain` and messages.
    pub place: Arc<str>,
}

#[derive(Clone, Debug)]
pub enum Target {
    /// Index into [`Config::services`].
    Service(usize),
    /// One of the paths of an issuer of our own: its index into [`Config::auths`].
    Accounts {
        auth: usize,
        action: issuing::Action,
    },
    /// Index into [`Config::amqp`].
    Amqp(usize),
    Fixed(Fixed),
    Redirect {
        code: u16,
        location: Template,
    },
    Aggregate(Arc<Plan>),
}

/// A reply that needs no service.
#[derive(Clone, Debug)]
pub struct Fixed {
    pub status: u16,
    pub content_type: Arc<str>,
    pub body: Template,
    pub headers: Vec<(Arc<str>, Arc<str>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostHeader {
    /// The client's Host is passed on.
    Client,
    /// The endpoint's own authority.
    Upstream,
}

/// When a failed attempt may be tried at another endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    pub on_connect: bool,
    /// The connection broke before a response head, or a response was not HTTP.
    pub on_reset: bool,
    pub on_timeout: bool,
    /// Also a request that may have been received and whose method is not idempotent (RFC 9110 §9.2.2).
    pub non_idempotent: bool,
    /// Statuses that count as a failure while another endpoint is left.
    pub on_status: Vec<u16>,
    /// Attempts in all, the first included.
    pub tries: u32,
    /// Retries at most this share of requests, in percent (but at least 3 a second).
    pub budget_percent: u32,
}

#[derive(Clone, Debug)]
pub struct Log {
    /// `None` with `access = false`.
    pub access: Option<Access>,
    pub events: Events,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    pub to: Sink,
    pub format: Format,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    pub to: Sink,
    pub level: Level,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    Stdout,
    Stderr,
    File(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    Combined,
    Json,
    /// Text with nginx's `$variables`.
    Template(Arc<[Piece]>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Text(Arc<str>),
    /// One of [`VARIABLES`](crate::template::log::VARIABLES), without its `$`.
    Variable(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
}
