//! From a checked configuration to a snapshot. Runs on the control thread; nothing here can fail.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ServerConfig, pki_types::ServerName};

use super::{Aggregate, AmqpService, Dial, Endpoint, ListenerFacts, Route, Service, Snapshot, Target, Waits};
use crate::{
    auth::{Guard, Issuer, revocation::RevocationCell},
    balance::{self, Facts, Queue, Shared},
    config::{self, Address, Config, Network},
    http::{FieldNames, Rules},
    route::Index,
};

/// Addresses of the names that endpoints have, as the control thread resolved them. A missing name does not resolve now.
pub type Resolved = HashMap<(Arc<str>, u16), Vec<SocketAddr>>;

/// How TLS is spoken: each list by shard, empty where it is not.
#[derive(Clone, Default)]
pub struct TlsConfigs {
    pub listeners: Arc<[Arc<ServerConfig>]>,
    /// In the order of the configuration's services.
    pub services: Vec<Arc<[Arc<ClientConfig>]>>,
}

/// Numbers for metrics and logs; the same name gets the same number as long as the process lives.
pub trait Numbers {
    fn route(&mut self, pattern: &str) -> u32;
    fn service(&mut self, name: &str) -> u32;
    fn endpoint(&mut self, service: u32, url: &str) -> u32;
    fn part(&mut self, pattern: &str, name: &str) -> u32;
}

/// What outlives a snapshot: places in the shards' tables, and the health of endpoints. Connections, pools and marks of what
/// did not change live on over a reload because their places stay.
#[derive(Default)]
pub struct Identities {
    version: u64,
    services: HashMap<Arc<str>, ServiceIdentity>,
    endpoints: HashMap<EndpointKey, EndpointIdentity>,
    amqp: HashMap<Arc<str>, Arc<AmqpService>>,
    next_service: usize,
    /// Slots of endpoints that were forgotten.
    free: Vec<usize>,
    next_slot: usize,
    next_id: u64,
    next_revision: u64,
    /// Which tokens are refused, now and in every snapshot to come.
    pub revocations: Arc<RevocationCell>,
    shards: usize,
    /// Distinguishes this process in loop marks.
    instance: Box<str>,
}

/// The service's place, how and under which name its endpoint is reached, and how certificates are judged: a connection that was
/// trusted under other rules is not used.
type EndpointKey = (usize, Dial, Arc<str>, Arc<str>);

#[derive(Clone)]
struct EndpointIdentity {
    slot: usize,
    id: u64,
    shared: Arc<Shared>,
    /// The last snapshot that had it.
    version: u64,
}

/// Endpoints that are remembered though no snapshot has them: an address may be back before long, with its health.
const FORMER_ENDPOINTS_MAX: usize = 1024;

struct ServiceIdentity {
    slot: usize,
    revision: u64,
    endpoints: Vec<(u64, Facts)>,
    queue: Arc<Queue>,
}

impl Identities {
    /// `instance` is a token that no other gateway has.
    pub fn new(instance: &str, shards: usize) -> Self {
        Self { instance: instance.into(), shards, ..Self::default() }
    }

    /// An endpoint of the snapshot that is being built.
    fn endpoint(&mut self, key: EndpointKey) -> EndpointIdentity {
        let Self { endpoints, free, next_slot, next_id, version, .. } = self;
        let identity = endpoints.entry(key).or_insert_with(|| {
            let slot = free.pop().unwrap_or_else(|| {
                *next_slot += 1;
                *next_slot - 1
            });
            *next_id += 1;
            EndpointIdentity { slot, id: *next_id, shared: Arc::default(), version: 0 }
        });
        identity.version = *version;
        identity.clone()
    }

    /// Forgets the endpoints that were used longest ago, if there are many. What a shard still has of them it knows by their id.
    fn forget(&mut self) {
        let present = self.version;
        let mut former: Vec<u64> =
            self.endpoints.values().map(|known| known.version).filter(|version| *version < present).collect();
        let Some(excess) = former.len().checked_sub(FORMER_ENDPOINTS_MAX).filter(|excess| *excess > 0) else {
            return;
        };
        let (_, oldest_kept, _) = former.select_nth_unstable(excess);
        let oldest_kept = *oldest_kept;
        let forgotten = self.endpoints.extract_if(|_, known| known.version < oldest_kept);
        self.free.extend(forgotten.map(|(_, known)| known.slot));
    }
}

/// Builds the next snapshot. `bound` are the addresses of the listeners, `issuers` what became of `config.auths`, both in the order
/// of the configuration.
pub fn build(
    config: &Config,
    resolved: &Resolved,
    bound: &[Option<SocketAddr>],
    tls: &TlsConfigs,
    issuers: &[Arc<Issuer>],
    identities: &mut Identities,
    numbers: &mut dyn Numbers,
) -> Snapshot {
    identities.version += 1;
    let services: Vec<Service> = config
        .services
        .iter()
        .zip(&tls.services)
        .map(|(service, tls)| build_service(service, tls, resolved, bound, identities, numbers))
        .collect();
    identities.forget();
    let patterns: Vec<_> = config.routes.iter().map(|route| (route.pattern.clone(), route.on)).collect();
    let mut guards = Vec::new();
    Snapshot {
        version: identities.version,
        index: Index::build(&patterns),
        routes: config.routes.iter().map(|route| build_route(route, issuers, &mut guards, numbers)).collect(),
        guards,
        reserved: reserved(issuers),
        calls_itself: services
            .iter()
            .flat_map(|service| &service.endpoints)
            .any(|endpoint| endpoint.own_listener.is_some()),
        services,
        amqp: config.amqp.iter().map(|queue| build_amqp(queue, identities, numbers)).collect(),
        listeners: config
            .listen
            .iter()
            .enumerate()
            .map(|(number, listen)| ListenerFacts {
                name: Arc::clone(&listen.name),
                rules: Rules {
                    head_bytes_max: config.limits.head_bytes_max,
                    line_bytes_max: config.limits.line_bytes_max,
                    headers_max: config.limits.headers_max,
                    lenient: listen.lenient,
                },
                tls: listen.tls,
                proxy_protocol: listen.proxy_protocol,
                http2: listen.http2,
                loop_mark: format!("coregate-{}-{number}", identities.instance).into_bytes().into(),
            })
            .collect(),
        trusted_proxies: config.trusted_proxies.clone(),
        tls: Arc::clone(&tls.listeners),
        limits: config.limits.clone(),
        revocations: Arc::clone(&identities.revocations),
    }
}

fn build_route(
    route: &config::Route,
    issuers: &[Arc<Issuer>],
    guards: &mut Vec<Guard>,
    numbers: &mut dyn Numbers,
) -> Route {
    let guard = route.auth.as_ref().map(|auth| {
        guards.push(build_guard(auth, issuers));
        guards.len() - 1
    });
    Route {
        pattern: route.pattern.text().into(),
        metric: numbers.route(route.pattern.text()),
        target: match &route.target {
            config::Target::Service(index) => Target::Service(*index),
            config::Target::Accounts { auth, action } => {
                Target::Accounts { issuer: Arc::clone(&issuers[*auth].name), action: *action }
            }
            config::Target::Amqp(index) => Target::Amqp(*index),
            config::Target::Fixed(fixed) => Target::Fixed(fixed.clone()),
            config::Target::Redirect { code, location } => {
                Target::Redirect { code: *code, location: location.clone() }
            }
            config::Target::Aggregate(plan) => Target::Aggregate(Aggregate {
                plan: Arc::clone(plan),
                metrics: plan
                    .parts
                    .iter()
                    .map(|part| numbers.part(route.pattern.text(), &part.name))
                    .collect(),
            }),
        },
        timeout: route.timeout,
        max_body: route.max_body,
        retry: route.retry.clone(),
        strip: route.strip.clone(),
        rewrite: route.rewrite.clone(),
        host: route.host,
        raw_path: route.raw_path,
        stream: route.stream,
        upgrade: route.upgrade.clone(),
        guard,
        variables: route.pattern.variables().map(Arc::from).collect(),
    }
}

fn build_guard(auth: &config::RouteAuth, issuers: &[Arc<Issuer>]) -> Guard {
    let issuers: Box<[_]> = auth.auths.iter().map(|&index| Arc::clone(&issuers[index])).collect();
    let mut sources = Vec::new();
    for source in issuers.iter().flat_map(|issuer| &issuer.from) {
        if !sources.contains(source) {
            sources.push(source.clone());
        }
    }
    Guard { issuers, sources: sources.into(), wanted: auth.wanted.clone(), optional: auth.optional }
}

/// Every header by which an issuer tells services who asks.
fn reserved(issuers: &[Arc<Issuer>]) -> FieldNames {
    let headers = issuers.iter().flat_map(|issuer| issuer.headers.iter().map(|(name, _)| &**name));
    let identities = issuers.iter().filter_map(|issuer| issuer.identity.as_deref());
    FieldNames::new(headers.chain(identities))
}

/// What did not change keeps its place, and with it its calls under way.
fn build_amqp(
    queue: &config::AmqpService,
    identities: &mut Identities,
    numbers: &mut dyn Numbers,
) -> Arc<AmqpService> {
    if let Some(known) = identities.amqp.get(&queue.name).filter(|known| known.config == *queue) {
        return Arc::clone(known);
    }
    let metric = numbers.service(&queue.name);
    let shown = queue.brokers.first().map_or("", |broker| &broker.shown);
    let endpoint = numbers.endpoint(metric, shown);
    let built = Arc::new(AmqpService { config: queue.clone(), metric, endpoint });
    identities.amqp.insert(Arc::clone(&queue.name), Arc::clone(&built));
    built
}

fn build_service(
    service: &config::Service,
    tls: &Arc<[Arc<ClientConfig>]>,
    resolved: &Resolved,
    bound: &[Option<SocketAddr>],
    identities: &mut Identities,
    numbers: &mut dyn Numbers,
) -> Service {
    let metric = numbers.service(&service.name);
    let slot = match identities.services.get(&service.name) {
        Some(identity) => identity.slot,
        None => {
            identities.next_service += 1;
            identities.next_service - 1
        }
    };
    let rules = if tls.is_empty() { String::new() } else { format!("{:?}", service.tls) };
    let mut endpoints = Vec::new();
    let mut facts = Vec::new();
    let mut shared = Vec::new();
    for endpoint in &service.endpoints {
        let rules: Arc<str> = format!("{rules} {:?}", endpoint.speaks).into();
        for dial in dials(&endpoint.address, resolved) {
            let key = (slot, dial.clone(), Arc::clone(&endpoint.url), Arc::clone(&rules));
            let identity = identities.endpoint(key);
            facts.push(Facts {
                weight: endpoint.weight,
                backup: endpoint.backup,
                down: endpoint.down || dial == Dial::Unresolved,
                max_fails: endpoint.max_fails,
                fail_timeout_ms: millis(endpoint.fail_timeout),
                max_conns: endpoint.max_conns,
                slow_start_ms: millis(endpoint.slow_start),
                name: balance::name(&endpoint.url, &dial),
            });
            shared.push(identity.shared);
            endpoints.push(Endpoint {
                url: Arc::clone(&endpoint.url),
                metric: numbers.endpoint(metric, &endpoint.url),
                slot: identity.slot,
                id: identity.id,
                own_listener: own_listener(&dial, bound),
                dial,
                authority: Arc::clone(&endpoint.authority),
                tls: server_name(service, endpoint),
                prefix: Arc::clone(&endpoint.prefix),
                speaks: endpoint.speaks,
            });
        }
    }

    let list: Vec<(u64, Facts)> =
        endpoints.iter().map(|endpoint| endpoint.id).zip(facts.iter().cloned()).collect();
    let known = identities.services.get(&service.name).filter(|identity| identity.endpoints == list);
    let (revision, queue) = match known {
        Some(identity) => (identity.revision, Arc::clone(&identity.queue)),
        None => {
            identities.next_revision += 1;
            let revision = identities.next_revision;
            let before = identities.services.get(&service.name).map(|identity| Arc::clone(&identity.queue));
            let queue = before.unwrap_or_else(|| Arc::new(Queue::new(identities.shards)));
            let identity = ServiceIdentity { slot, revision, endpoints: list, queue: Arc::clone(&queue) };
            identities.services.insert(Arc::clone(&service.name), identity);
            (revision, queue)
        }
    };
    Service {
        name: Arc::clone(&service.name),
        metric,
        slot,
        revision,
        policy: service.balance,
        hash: service.hash.clone(),
        waits: service.queue.map(|config::Queue { most, wait }| Waits { most, wait, queue }),
        keepalive: service.keepalive,
        connect: service.connect,
        tls: Arc::clone(tls),
        endpoints,
        facts,
        shared,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The name the certificate of an endpoint must have.
fn server_name(service: &config::Service, endpoint: &config::Endpoint) -> Option<ServerName<'static>> {
    let host = endpoint.tls.as_ref()?;
    let name = service.tls.name.as_ref().unwrap_or(host);
    // A host that may not stand in a certificate (an underscore, say) matches none.
    ServerName::try_from(name.to_string()).or_else(|_| ServerName::try_from("invalid")).ok()
}

/// One endpoint for each address a name has, as nginx does it.
fn dials(address: &Address, resolved: &Resolved) -> Vec<Dial> {
    match address {
        Address::Tcp(address) => vec![Dial::Tcp(*address)],
        Address::Unix(path) => vec![Dial::Unix(path.clone())],
        Address::Name(name, port) => match resolved.get(&(Arc::clone(name), *port)) {
            Some(addresses) if !addresses.is_empty() => addresses.iter().copied().map(Dial::Tcp).collect(),
            _ => vec![Dial::Unresolved],
        },
    }
}

/// Which of our listeners an endpoint is, so that requests which come back can be recognised.
fn own_listener(dial: &Dial, bound: &[Option<SocketAddr>]) -> Option<usize> {
    let Dial::Tcp(target) = dial else { return None };
    bound.iter().position(|address| {
        address.is_some_and(|own| {
            own.port() == target.port()
                && (own.ip() == target.ip() || (own.ip().is_unspecified() && target.ip().is_loopback()))
        })
    })
}

impl Network {
    /// Whether `address` lies in this range. IPv4 addresses mapped into IPv6 count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let cut = |bits: u128, width: u32| {
            let drop = width.saturating_sub(u32::from(self.prefix));
            if drop >= 128 { 0 } else { bits >> drop }
        };
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(range), IpAddr::V4(address)) => {
                cut(range.to_bits().into(), 32) == cut(address.to_bits().into(), 32)
            }
            (IpAddr::V6(range), IpAddr::V6(address)) => {
                cut(range.to_bits(), 128) == cut(address.to_bits(), 128)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_its_addresses_and_no_others() {
        let check = |range: &str, prefix, address: &str, expected| {
            let network = Network { address: range.parse().unwrap(), prefix };
            assert_eq!(network.contains(address.parse().unwrap()), expected, "{range}/{prefix} {address}");
        };
        check("10.0.0.0", 8, "10.200.3.4", true);
        check("10.0.0.0", 8, "11.0.0.1", false);
        check("10.0.0.7", 32, "10.0.0.7", true);
        check("10.0.0.7", 32, "::ffff:10.0.0.7", true);
        check("0.0.0.0", 0, "200.1.2.3", true);
        check("0.0.0.0", 0, "2001:db8::1", false);
        check("2001:db8::", 32, "2001:db8:1::1", true);
        check("2001:db8::", 32, "2001:db9::1", false);
        check("::", 0, "2001:db9::1", true);
    }

    #[test]
    fn an_endpoint_is_remembered_and_its_slot_used_again_when_it_is_forgotten() {
        let mut identities = Identities::new("test", 1);
        let key = |number: u16| -> EndpointKey {
            (0, Dial::Tcp(SocketAddr::from(([10, 0, 0, 1], number))), "u".into(), "".into())
        };
        let mut seen = std::collections::HashSet::new();
        let first = identities.endpoint(key(0));
        for number in 0..5000 {
            identities.version += 1;
            seen.insert(identities.endpoint(key(number)).id);
            identities.forget();
        }
        assert_eq!(seen.len(), 5000, "no id is given twice");
        assert!(identities.next_slot <= FORMER_ENDPOINTS_MAX + 2, "{}", identities.next_slot);
        assert!(identities.endpoints.len() <= FORMER_ENDPOINTS_MAX + 2);
        let again = identities.endpoint(key(4500));
        assert!(seen.contains(&again.id), "it was away for a short time only");
        assert_ne!(identities.endpoint(key(0)).id, first.id);
    }

    #[test]
    fn an_own_listener_is_recognised_as_endpoint() {
        let bound = [Some("0.0.0.0:80".parse().unwrap()), Some("127.0.0.1:9001".parse().unwrap())];
        let check = |target: &str, expected| {
            assert_eq!(own_listener(&Dial::Tcp(target.parse().unwrap()), &bound), expected, "{target}");
        };
        check("127.0.0.1:9001", Some(1));
        check("127.0.0.1:80", Some(0));
        check("10.0.0.1:80", None);
        check("127.0.0.1:81", None);
    }
}
