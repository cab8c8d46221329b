//! One connection to one of several brokers, made again when it breaks.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::StreamExt as _;
use lapin::{
    Connection, ConnectionProperties, Event,
    uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use tokio::sync::watch;

use crate::{
    config::{AmqpService, BrokerUrl},
    observe::event,
};

/// Time for a connection and AMQP's own handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two rounds over all brokers; doubled, with jitter, up to the second.
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);

/// Services with the same brokers share a connection.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct LinkKey {
    brokers: Vec<BrokerUrl>,
    heartbeat: Duration,
}

impl LinkKey {
    pub(super) fn of(queue: &AmqpService) -> Self {
        let mut brokers = queue.brokers.clone();
        brokers.sort_by_key(|broker| broker.backup);
        Self { brokers, heartbeat: queue.heartbeat }
    }
}

/// How a connection is, for the stations on it.
#[derive(Clone, Default)]
pub(super) enum State {
    #[default]
    Down,
    Up(Arc<Connection>),
    /// The broker takes no messages: it is short of memory or disk (RabbitMQ's `connection.blocked`).
    Blocked(Arc<Connection>),
}

pub(super) struct Link {
    state: watch::Receiver<State>,
    /// Told when a station finds the connection unusable.
    broken: tokio::sync::Notify,
}

impl Link {
    pub(super) fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }

    pub(super) fn is_broken(&self) {
        self.broken.notify_one();
    }
}

/// The link, and the task that keeps it. The task ends when nobody holds the link.
pub(super) fn start(key: LinkKey) -> (Arc<Link>, impl Future<Output = ()> + Send + 'static) {
    let (set, state) = watch::channel(State::Down);
    let link = Arc::new(Link { state, broken: tokio::sync::Notify::new() });
    let weak = Arc::downgrade(&link);
    (link, keep(key, set, weak))
}

async fn keep(key: LinkKey, set: watch::Sender<State>, link: Weak<Link>) {
    let mut backoff = BACKOFF_MIN;
    let mut reported = false;
    while link.strong_count() > 0 {
        match connect(&key).await {
            Ok((connection, broker)) => {
                event::info("bus", format_args!("connected to {}", broker.shown));
                (backoff, reported) = (BACKOFF_MIN, false);
                let connection = Arc::new(connection);
                set.send_replace(State::Up(Arc::clone(&connection)));
                let why = watch_over(&connection, &set, &link).await;
                set.send_replace(State::Down);
                if let Some(why) = why {
                    event::warn("bus", format_args!("lost {}: {why}", broker.shown));
                }
                // Best effort: it may be gone.
                let _ =
                    tokio::time::timeout(Duration::from_secs(1), connection.close(200, "OK".into())).await;
            }
            Err(why) => {
                // Once for each outage: a broker that is away for a day does not fill the log.
                if !std::mem::replace(&mut reported, true) {
                    event::error("bus", format_args!("{why}; it is tried again until it works"));
                }
                let jitter = backoff.mul_f64(0.5 + f64::from(rand_byte()) / 512.0);
                tokio::select! {
                    () = tokio::time::sleep(jitter) => {}
                    () = set.closed() => return,
                }
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

/// Spreads retries of many gateways; nothing depends on how random it is.
fn rand_byte() -> u8 {
    use std::hash::{BuildHasher as _, RandomState};
    RandomState::new().hash_one(0u8).to_le_bytes()[0]
}

/// The first broker that lets us in, or what the last one said.
async fn connect(key: &LinkKey) -> Result<(Connection, &BrokerUrl), String> {
    let mut last = String::new();
    for broker in &key.brokers {
        let properties = ConnectionProperties::default().with_connection_name("coregate".into());
        let connecting = Connection::connect_uri(uri(broker, key.heartbeat), properties);
        last = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => return Ok((connection, broker)),
            Ok(Err(error)) => format!("broker {}: {}", broker.shown, explain(&error, broker)),
            Err(_) => format!("broker {} does not answer", broker.shown),
        };
    }
    Err(last)
}

/// What went wrong, and what to do where that is known.
fn explain(error: &lapin::Error, broker: &BrokerUrl) -> String {
    let text = error.to_string();
    if text.contains("ACCESS_REFUSED") || text.contains("ACCESS-REFUSED") {
        return format!("user `{}` or its password is wrong ({text})", broker.user);
    }
    if text.contains("NOT_ALLOWED") || text.contains("NOT-ALLOWED") {
        return format!(
            "virtual host `{}` is not there, or not for user `{}` ({text})",
            broker.vhost, broker.user
        );
    }
    text
}

fn uri(broker: &BrokerUrl, heartbeat: Duration) -> AMQPUri {
    AMQPUri {
        scheme: if broker.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: broker.user.to_string(),
                password: broker.password.reveal().to_owned(),
            },
            host: broker.host.to_string(),
            port: broker.port,
        },
        vhost: broker.vhost.to_string(),
        query: AMQPQueryString {
            heartbeat: Some(u16::try_from(heartbeat.as_secs()).unwrap_or(u16::MAX)),
            ..AMQPQueryString::default()
        },
    }
}

/// Waits for the end of a connection, and says on the way whether the broker takes messages. `None`: nobody needs it any more.
async fn watch_over(
    connection: &Arc<Connection>,
    set: &watch::Sender<State>,
    link: &Weak<Link>,
) -> Option<String> {
    let mut events = std::pin::pin!(connection.events_listener());
    loop {
        let held = link.upgrade()?;
        let event = tokio::select! {
            event = events.next() => event,
            () = held.broken.notified() => {
                // A channel may end alone; the connection is looked at, not believed.
                if connection.status().connected() {
                    continue;
                }
                return Some("the connection broke".to_owned());
            }
            () = unused(&held) => return None,
        };
        match event {
            Some(Event::ConnectionBlocked(reason)) => {
                event::warn("bus", format_args!("the broker takes no messages: {reason}"));
                set.send_replace(State::Blocked(Arc::clone(connection)));
            }
            Some(Event::ConnectionUnblocked) => {
                event::info("bus", format_args!("the broker takes messages again"));
                set.send_replace(State::Up(Arc::clone(connection)));
            }
            Some(Event::Error(error)) if !connection.status().connected() => return Some(error.to_string()),
            Some(_) => {}
            None => return Some("the connection ended".to_owned()),
        }
    }
}

/// Ends when nobody else holds the link.
async fn unused(held: &Arc<Link>) {
    loop {
        if Arc::strong_count(held) <= 1 {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
