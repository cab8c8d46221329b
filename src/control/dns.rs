//! Addresses of host names: from /etc/hosts and name servers, with the time for which they are valid.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_resolver::{
    Resolver, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::{NetError, runtime::TokioRuntimeProvider},
    proto::rr::RecordType,
};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    config,
    limits::{RESOLVE_ADDRESSES_MAX, RESOLVE_TIMEOUT, RESOLVE_TTL_SYSTEM},
};

/// Lookups at once. Each may occupy a thread of the blocking pool, where the system's resolver is asked as well.
const LOOKUPS_MAX: usize = 16;
/// For one answer of one name server; it is asked twice.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Sorted, each once, at least one.
    pub(super) addresses: Vec<IpAddr>,
    /// As the records say; not yet bounded.
    pub(super) ttl: Duration,
    /// A kind of address that could not be asked for, so that those known of it stay.
    pub(super) missing: Option<Family>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn has(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

/// What each name stands for, in the order given; all within `within`. Reads /etc/hosts and /etc/resolv.conf anew.
pub(super) async fn ask(
    hosts: &[String],
    resolver: &config::Resolver,
    within: Duration,
) -> Vec<Result<Answer, String>> {
    let until = Instant::now() + within;
    let asked = Arc::new(Asked { dns: dns(resolver).await, resolver: resolver.clone() });
    let room = Arc::new(Semaphore::new(LOOKUPS_MAX));
    let mut lookups = JoinSet::new();
    for (index, host) in hosts.iter().cloned().enumerate() {
        let (room, asked) = (Arc::clone(&room), Arc::clone(&asked));
        lookups.spawn(async move {
            let _permit = room.acquire_owned().await;
            (index, asked.host(&host).await)
        });
    }
    let mut results = vec![Err(format!("no answer within {} s", within.as_secs())); hosts.len()];
    while let Ok(Some(done)) = timeout_at(until, lookups.join_next()).await {
        if let Ok((index, result)) = done {
            results[index] = result;
        }
    }
    results
}

/// The same for a caller that may block and has no runtime at hand: at start, or in the build closure.
pub(super) fn ask_now(
    hosts: &[String],
    resolver: &config::Resolver,
    within: Duration,
) -> Vec<Result<Answer, String>> {
    if hosts.is_empty() {
        return Vec::new();
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(LOOKUPS_MAX).build();
    match runtime {
        Ok(runtime) => {
            let results = runtime.block_on(ask(hosts, resolver, within));
            // A lookup that timed out is still in getaddrinfo.
            runtime.shutdown_background();
            results
        }
        Err(error) => vec![Err(error.to_string()); hosts.len()],
    }
}

/// Whom to ask. `None` where this machine's resolver has no configuration that could be read.
async fn dns(resolver: &config::Resolver) -> Option<TokioResolver> {
    let servers = resolver.servers.clone();
    // Reads files.
    let built = tokio::task::spawn_blocking(move || {
        let mut builder = if servers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let servers = servers.iter().map(name_server).collect();
            let config = ResolverConfig::from_name_servers(servers);
            let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
            let options: &mut ResolverOpts = builder.options_mut();
            (options.timeout, options.attempts) = (ANSWER_TIMEOUT, 2);
            builder
        };
        builder.options_mut().use_hosts_file = ResolveHosts::Always;
        builder.options_mut().os_port_selection = true;
        builder.build()
    });
    built.await.ok()?.ok()
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let on_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    // A long answer is asked for again over TCP (RFC 7766).
    NameServerConfig::new(
        address.ip(),
        true,
        vec![on_port(ConnectionConfig::udp()), on_port(ConnectionConfig::tcp())],
    )
}

struct Asked {
    dns: Option<TokioResolver>,
    resolver: config::Resolver,
}

impl Asked {
    async fn host(&self, host: &str) -> Result<Answer, String> {
        if let Ok(address) = host.parse() {
            return Ok(Answer { addresses: vec![address], ttl: Duration::MAX, missing: None });
        }
        let found = match &self.dns {
            Some(dns) => self.by_dns(dns, host).await,
            None => Err("/etc/resolv.conf cannot be read".to_owned()),
        };
        match found {
            // This machine may know names that are in no DNS (nsswitch.conf: mDNS, containers, a directory).
            Err(problem) if self.resolver.servers.is_empty() => {
                self.by_system(host).await.map_err(|_| problem)
            }
            found => found,
        }
    }

    async fn by_dns(&self, dns: &TokioResolver, host: &str) -> Result<Answer, String> {
        let one = |wanted: bool, kind: RecordType| async move {
            if wanted { Some(dns.lookup(host, kind).await) } else { None }
        };
        let config::Resolver { ipv4, ipv6, .. } = self.resolver;
        let (v4, v6) = tokio::join!(one(ipv4, RecordType::A), one(ipv6, RecordType::AAAA));
        let mut addresses = BTreeSet::new();
        let mut ttl = u32::MAX;
        let mut failed = None;
        let mut nothing = None;
        for (family, result) in [(Family::V4, v4), (Family::V6, v6)] {
            match result {
                Some(Ok(lookup)) => {
                    for record in lookup.answers() {
                        // Of aliases on the way, too: they may end elsewhere after that.
                        ttl = ttl.min(record.ttl);
                        addresses.extend(record.data.ip_addr().filter(|address| family.has(*address)));
                    }
                }
                Some(Err(error)) if error.is_no_records_found() => nothing = Some(error),
                Some(Err(error)) => failed = Some((family, error)),
                None => {}
            }
        }
        if addresses.is_empty() {
            let error = failed.map(|(_, error)| error).or(nothing);
            return Err(error.map_or_else(|| "no address".to_owned(), |error| shown(&error)));
        }
        Ok(Answer {
            addresses: addresses.into_iter().take(RESOLVE_ADDRESSES_MAX).collect(),
            ttl: Duration::from_secs(ttl.into()),
            missing: failed.map(|(family, _)| family),
        })
    }

    async fn by_system(&self, host: &str) -> io::Result<Answer> {
        let found = timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host, 0))).await??;
        let config::Resolver { ipv4, ipv6, .. } = self.resolver;
        let wanted = |address: &IpAddr| if address.is_ipv4() { ipv4 } else { ipv6 };
        let addresses: BTreeSet<IpAddr> = found.map(|found| found.ip()).filter(wanted).collect();
        if addresses.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let addresses = addresses.into_iter().take(RESOLVE_ADDRESSES_MAX).collect();
        Ok(Answer { addresses, ttl: RESOLVE_TTL_SYSTEM, missing: None })
    }
}

/// In words for the operator.
fn shown(error: &NetError) -> String {
    if error.is_nx_domain() {
        return "no such name (NXDOMAIN)".to_owned();
    }
    if error.is_no_records_found() {
        return "the name has no address".to_owned();
    }
    if matches!(error, NetError::Timeout) {
        return "no answer in time".to_owned();
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask_all(hosts: &[&str]) -> Vec<Result<Answer, String>> {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        ask_now(&hosts, &config::Resolver::default(), RESOLVE_TIMEOUT)
    }

    #[test]
    fn answers_are_in_the_order_of_the_names() {
        let answers = ask_all(&["127.0.0.7", "no-such-host.invalid", "localhost", "::1"]);
        let addresses = |answer: &Result<Answer, String>| answer.clone().map(|answer| answer.addresses);
        assert_eq!(addresses(&answers[0]), Ok(vec!["127.0.0.7".parse().unwrap()]));
        assert!(answers[1].is_err(), "{answers:?}");
        assert!(addresses(&answers[2]).unwrap().iter().all(IpAddr::is_loopback), "{answers:?}");
        assert_eq!(addresses(&answers[3]), Ok(vec!["::1".parse().unwrap()]));
        assert_eq!(ask_all(&[]), []);
    }

    #[test]
    fn a_name_server_that_is_silent_costs_no_more_than_the_time_given() {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let resolver =
            config::Resolver { servers: vec![silent.local_addr().unwrap()], ..config::Resolver::default() };
        let hosts: Vec<_> = (0..40).map(|number| format!("host{number}.example")).collect();
        let begun = Instant::now();
        let answers = ask_now(&hosts, &resolver, Duration::from_millis(300));
        assert!(answers.iter().all(Result::is_err));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
