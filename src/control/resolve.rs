//! Host names of services: looked up, and followed as long as their records say, off the shards.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    Cause,
    dns::{self, Answer},
    reload::Trigger,
};
use crate::{
    config,
    limits::{RESOLVE_TIMEOUT, RESOLVE_TTL_MAX, RESOLVE_TTL_MIN},
    observe::event,
};

/// How often it is looked whether there are other names to follow.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After the first failure; then twice as long each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(30);
/// A name is looked up by up to this much later, in percent: not all at once, and not all gateways.
const JITTER_PERCENT: u32 = 10;

/// Addresses of each name and port, in the order given; no list is empty. `known` has those it stood for until now, of which a kind
/// stays that could not be asked for. For a caller that may block: at start, or in the build closure.
pub fn resolve_now(
    names: &[(String, u16)],
    resolver: &config::Resolver,
    known: impl Fn(&str, u16) -> Vec<SocketAddr>,
) -> Vec<Result<Vec<SocketAddr>, String>> {
    let hosts: Vec<_> = names.iter().map(|(host, _)| host.clone()).collect();
    let answers = dns::ask_now(&hosts, resolver, RESOLVE_TIMEOUT);
    let addresses = |((host, port), answer): (&(String, u16), Result<Answer, String>)| {
        answer.map(|answer| with_port(&answer, *port, &known(host, *port)))
    };
    names.iter().zip(answers).map(addresses).collect()
}

fn with_port(answer: &Answer, port: u16, known: &[SocketAddr]) -> Vec<SocketAddr> {
    let kept = known.iter().map(SocketAddr::ip);
    let kept = kept.filter(|address: &IpAddr| answer.missing.is_some_and(|family| family.has(*address)));
    let mut addresses: Vec<_> = answer.addresses.iter().copied().chain(kept).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect()
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
    /// The names in use now, and whom to ask for them.
    fn names(&self) -> (Vec<Followed>, config::Resolver);

    /// Changes with the names.
    fn generation(&self) -> u64;

    /// Some names have other addresses now. Called before a reload with [`Cause::Addresses`] that should use them.
    fn changed(&self, changed: &[Followed]);
}

/// Looks names up again when their time is over, and asks for a reload when the set of addresses changed. A name that cannot be looked
/// up keeps its addresses.
pub(super) struct Follower {
    follow: Arc<dyn Follow>,
    triggers: mpsc::Sender<Trigger>,
    /// When each is looked up next.
    due: HashMap<(String, u16), Due>,
    generation: Option<u64>,
    random: RandomState,
    rounds: u64,
}

#[derive(Clone, Copy)]
struct Due {
    at: Instant,
    failures: u32,
}

impl Follower {
    pub(super) fn new(follow: Arc<dyn Follow>, triggers: mpsc::Sender<Trigger>) -> Self {
        let (due, random) = (HashMap::new(), RandomState::new());
        Self { follow, triggers, due, generation: None, random, rounds: 0 }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.round(Instant::now()).await;
            let next = self.due.values().map(|due| due.at).min();
            let look = Instant::now() + LOOK_EVERY;
            sleep_until(next.map_or(look, |next| next.min(look))).await;
        }
    }

    /// Looks up every name whose time is over.
    async fn round(&mut self, now: Instant) {
        let generation = Some(self.follow.generation());
        if self.generation == generation && self.due.values().all(|due| due.at > now) {
            return;
        }
        let (followed, resolver) = self.follow.names();
        self.generation = generation;
        self.learn(&followed, now);
        let is_due = |name: &Followed| self.due.get(&key(name)).is_some_and(|due| due.at <= now);
        let followed: Vec<_> = followed.into_iter().filter(is_due).collect();
        if followed.is_empty() {
            return;
        }

        let hosts: Vec<_> = followed.iter().map(|name| name.host.clone()).collect();
        let answers = dns::ask(&hosts, &resolver, RESOLVE_TIMEOUT).await;
        let now = Instant::now();
        self.rounds += 1;
        let mut changed = Vec::new();
        for (mut name, answer) in followed.into_iter().zip(answers) {
            let wait = match answer {
                Ok(answer) => {
                    self.heard(&name);
                    let addresses = with_port(&answer, name.port, &name.addresses);
                    if !same_set(&addresses, &name.addresses) {
                        name.addresses = addresses;
                        changed.push(name.clone());
                    }
                    resolver.valid.unwrap_or(answer.ttl).clamp(RESOLVE_TTL_MIN, RESOLVE_TTL_MAX)
                }
                Err(problem) => self.failed(&name, &problem),
            };
            let at = now + wait + self.jitter(&name, wait);
            self.due.entry(key(&name)).and_modify(|due| due.at = at);
        }
        if !changed.is_empty() {
            self.follow.changed(&changed);
            // A full queue means that a reload is about to happen anyway.
            _ = self.triggers.try_send(Trigger { cause: Cause::Addresses, answer: None });
        }
    }

    /// Takes over the list of names. A new one was looked up just now, when the snapshot was built, but how long that is valid is not known.
    fn learn(&mut self, followed: &[Followed], now: Instant) {
        let mut known = std::mem::take(&mut self.due);
        for name in followed {
            let due = known.remove(&key(name)).unwrap_or_else(|| Due {
                at: now + RESOLVE_TTL_MIN + self.jitter(name, RESOLVE_TTL_MIN),
                failures: 0,
            });
            self.due.insert(key(name), due);
        }
    }

    fn heard(&mut self, name: &Followed) {
        if let Some(due) = self.due.get_mut(&key(name)) {
            if due.failures > 0 {
                event::info("resolve", format_args!("{} can be looked up again", name.host));
            }
            due.failures = 0;
        }
    }

    /// How long to wait after another failure. Said once, until it is over.
    fn failed(&mut self, name: &Followed, problem: &str) -> Duration {
        let Some(due) = self.due.get_mut(&key(name)) else { return RETRY_LAST };
        match (due.failures, name.addresses.is_empty()) {
            (0, false) => {
                event::warn("resolve", format_args!("{} keeps its addresses: {problem}", name.host))
            }
            _ => event::debug("resolve", format_args!("{}: {problem}", name.host)),
        }
        due.failures = due.failures.saturating_add(1);
        (RETRY_FIRST * 2_u32.saturating_pow(due.failures.min(8) - 1)).min(RETRY_LAST)
    }

    fn jitter(&self, name: &Followed, wait: Duration) -> Duration {
        let drawn = self.random.hash_one((&name.host, name.port, self.rounds)) % 1000;
        let thousandths = u32::try_from(drawn).expect("it is below 1000");
        wait * JITTER_PERCENT * thousandths / 100_000
    }
}

fn key(name: &Followed) -> (String, u16) {
    (name.host.clone(), name.port)
}

/// DNS answers come in any order.
fn same_set(one: &[SocketAddr], other: &[SocketAddr]) -> bool {
    one.iter().all(|address| other.contains(address)) && other.iter().all(|address| one.contains(address))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;
    use crate::control::dns::Family;

    struct One(Followed, Sender<Vec<Followed>>);

    impl Follow for One {
        fn names(&self) -> (Vec<Followed>, config::Resolver) {
            (vec![self.0.clone()], config::Resolver::default())
        }

        fn generation(&self) -> u64 {
            1
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
        let mut follower = Follower::new(Arc::new(One(followed, sender)), triggers);
        let now = Instant::now();
        follower.round(now).await;
        assert!(changes.try_recv().is_err(), "it was looked up when the snapshot was built");
        follower.round(now + RESOLVE_TTL_MIN * 2).await;
        let found = changes.try_recv().ok().map(|changed| changed[0].addresses.clone());
        assert_eq!(found, changed.map(|address| vec![address.parse().unwrap()]), "{host}");
        assert_eq!(triggered.try_recv().map(|trigger| trigger.cause).ok(), changed.map(|_| Cause::Addresses));
        let due = follower.due.values().next().expect("the name is followed");
        assert!(due.at > now + RESOLVE_TTL_MIN / 2);
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
    fn failures_are_repeated_less_and_less_often() {
        let (sender, _changes) = channel();
        let (triggers, _triggered) = mpsc::channel(1);
        let name = Followed { host: "x".to_owned(), port: 80, addresses: Vec::new() };
        let mut follower = Follower::new(Arc::new(One(name.clone(), sender)), triggers);
        let due = Due { at: Instant::now(), failures: 0 };
        follower.due.insert(key(&name), due);
        let waits: Vec<_> = (0..7).map(|_| follower.failed(&name, "").as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        follower.heard(&name);
        assert_eq!(follower.failed(&name, ""), RETRY_FIRST);
        assert!(follower.jitter(&name, Duration::from_secs(100)) < Duration::from_secs(10));
    }

    #[test]
    fn a_kind_of_address_that_cannot_be_asked_for_stays() {
        let known = ["10.0.0.1:80", "[fd00::1]:80"].map(|address| address.parse().unwrap());
        let check = |missing, expected: &[&str]| {
            let addresses = vec!["10.0.0.2".parse().unwrap()];
            let answer = Answer { addresses, ttl: Duration::ZERO, missing };
            let expected: Vec<SocketAddr> = expected.iter().map(|address| address.parse().unwrap()).collect();
            assert_eq!(with_port(&answer, 80, &known), expected);
        };
        check(None, &["10.0.0.2:80"]);
        check(Some(Family::V6), &["10.0.0.2:80", "[fd00::1]:80"]);
        check(Some(Family::V4), &["10.0.0.1:80", "10.0.0.2:80"]);
    }

    #[test]
    fn order_is_no_difference() {
        let [one, other] = ["127.0.0.1:80", "127.0.0.2:80"].map(|address| address.parse().unwrap());
        assert!(same_set(&[one, other], &[other, one]));
        assert!(!same_set(&[one], &[one, other]));
        assert!(!same_set(&[one, other], &[other]));
    }
}
