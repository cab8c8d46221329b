//! Host names of services, looked up by the system's resolver, off the shards.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Cause, reload::Trigger};
use crate::observe::event;

/// For one name.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Lookups at once: each occupies a thread of the blocking pool.
const LOOKUPS_MAX: usize = 16;
/// Between two rounds.
const FOLLOW_EVERY: Duration = Duration::from_secs(30);

/// Addresses of each name, in the order given; no list is empty. Looks up to 16 names up at once.
pub async fn resolve(names: &[(String, u16)]) -> Vec<Result<Vec<SocketAddr>, String>> {
    let room = Arc::new(Semaphore::new(LOOKUPS_MAX));
    let mut lookups = JoinSet::new();
    for (index, name) in names.iter().cloned().enumerate() {
        let room = Arc::clone(&room);
        lookups.spawn(async move {
            let _permit = room.acquire_owned().await;
            (index, lookup(name).await)
        });
    }
    let mut results = vec![Err("not looked up".to_owned()); names.len()];
    while let Some(done) = lookups.join_next().await {
        if let Ok((index, result)) = done {
            results[index] = result;
        }
    }
    results
}

/// The same for a caller that may block and has no runtime at hand: at start, or in the build closure.
pub fn resolve_now(names: &[(String, u16)]) -> Vec<Result<Vec<SocketAddr>, String>> {
    if names.is_empty() {
        return Vec::new();
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(LOOKUPS_MAX).build();
    match runtime {
        Ok(runtime) => {
            let results = runtime.block_on(resolve(names));
            // A lookup that timed out is still in getaddrinfo.
            runtime.shutdown_background();
            results
        }
        Err(error) => vec![Err(error.to_string()); names.len()],
    }
}

async fn lookup((host, port): (String, u16)) -> Result<Vec<SocketAddr>, String> {
    let found: io::Result<Vec<SocketAddr>> =
        match timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((host, port))).await {
            Ok(found) => found.map(Iterator::collect),
            Err(_) => return Err(format!("no answer within {} s", LOOKUP_TIMEOUT.as_secs())),
        };
    let mut addresses = found.map_err(|error| {
        // "failed to lookup address information: Name or service not known": the first half says nothing.
        let text = error.to_string();
        text.rsplit(": ").next().unwrap_or(&text).to_owned()
    })?;
    // getaddrinfo sorts by preference (RFC 6724), so only neighbours can be equal after it.
    addresses.dedup();
    match addresses.is_empty() {
        true => Err("no address".to_owned()),
        false => Ok(addresses),
    }
}

/// A name in the configuration and the addresses it stands for in the snapshot that serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    pub host: String,
    pub port: u16,
    pub addresses: Vec<SocketAddr>,
}

/// Whose names are looked up again.
pub trait Follow: Send + Sync {
    /// The names in use now.
    fn names(&self) -> Vec<Followed>;

    /// Some names have other addresses now. Called before a reload with [`Cause::Addresses`] that should use them.
    fn changed(&self, changed: &[Followed]);
}

/// Looks names up again and asks for a reload when the set of addresses changed. A name that cannot be looked up
/// keeps its addresses.
pub(super) struct Follower {
    follow: Arc<dyn Follow>,
    triggers: mpsc::Sender<Trigger>,
}

impl Follower {
    pub(super) fn new(follow: Arc<dyn Follow>, triggers: mpsc::Sender<Trigger>) -> Self {
        Self { follow, triggers }
    }

    pub(super) async fn run(self) {
        loop {
            sleep(FOLLOW_EVERY).await;
            self.round().await;
        }
    }

    async fn round(&self) {
        let followed = self.follow.names();
        let names: Vec<_> = followed.iter().map(|name| (name.host.clone(), name.port)).collect();
        let mut changed = Vec::new();
        for (mut followed, result) in followed.into_iter().zip(resolve(&names).await) {
            match result {
                Ok(addresses) if !same_set(&addresses, &followed.addresses) => {
                    followed.addresses = addresses;
                    changed.push(followed);
                }
                Ok(_) => {}
                Err(problem) => {
                    event::debug("resolve", format_args!("{} keeps its addresses: {problem}", followed.host));
                }
            }
        }
        if !changed.is_empty() {
            self.follow.changed(&changed);
            // A full queue means that a reload is about to happen anyway.
            _ = self.triggers.try_send(Trigger { cause: Cause::Addresses, answer: None });
        }
    }
}

/// DNS answers come in any order.
fn same_set(one: &[SocketAddr], other: &[SocketAddr]) -> bool {
    one.iter().all(|address| other.contains(address)) && other.iter().all(|address| one.contains(address))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    fn name(host: &str) -> (String, u16) {
        (host.to_owned(), 80)
    }

    #[test]
    fn results_are_in_the_order_of_the_names() {
        let names = [name("127.0.0.7"), name("no-such-host.invalid"), name("localhost"), name("::1")];
        let results = resolve_now(&names);
        assert_eq!(results[0], Ok(vec!["127.0.0.7:80".parse().unwrap()]));
        assert!(results[1].is_err(), "{results:?}");
        assert!(results[2].as_ref().unwrap().iter().all(|address| address.ip().is_loopback()), "{results:?}");
        assert_eq!(results[3], Ok(vec!["[::1]:80".parse().unwrap()]));
        assert_eq!(resolve_now(&[]), []);
    }

    struct One(Followed, Sender<Vec<Followed>>);

    impl Follow for One {
        fn names(&self) -> Vec<Followed> {
            vec![self.0.clone()]
        }

        fn changed(&self, changed: &[Followed]) {
            self.1.send(changed.to_vec()).unwrap();
        }
    }

    /// Looks `host` up while the snapshot has `addresses`; expects a reload with `changed`, or none.
    async fn check(host: &str, addresses: &[&str], changed: Option<&str>) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let followed = Followed { host: host.to_owned(), port: 80, addresses };
        let (sender, changes) = channel();
        let (triggers, mut triggered) = mpsc::channel(1);
        Follower::new(Arc::new(One(followed, sender)), triggers).round().await;
        let found = changes.try_recv().ok().map(|changed| changed[0].addresses.clone());
        assert_eq!(found, changed.map(|address| vec![address.parse().unwrap()]), "{host}");
        assert_eq!(triggered.try_recv().map(|trigger| trigger.cause).ok(), changed.map(|_| Cause::Addresses));
    }

    #[tokio::test]
    async fn other_addresses_are_a_reason_to_reload() {
        check("127.0.0.1", &["127.0.0.1:80"], None).await;
        check("127.0.0.1", &["127.0.0.2:80"], Some("127.0.0.1:80")).await;
        check("127.0.0.1", &[], Some("127.0.0.1:80")).await;
    }

    #[tokio::test]
    async fn a_name_that_cannot_be_looked_up_keeps_its_addresses() {
        check("no-such-host.invalid", &["127.0.0.1:80"], None).await;
    }

    #[test]
    fn order_is_no_difference() {
        let [one, other] = ["127.0.0.1:80", "127.0.0.2:80"].map(|address| address.parse().unwrap());
        assert!(same_set(&[one, other], &[other, one]));
        assert!(!same_set(&[one], &[one, other]));
        assert!(!same_set(&[one, other], &[other]));
    }
}
