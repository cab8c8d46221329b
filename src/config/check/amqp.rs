//! Services behind a broker: `amqp://` and `amqps://`.
//!
//! `"amqp://rabbit/stock.get"` says it all: the last part of the path is the routing key, one before it is the virtual host. With a
//! `key` of its own, the path is the virtual host alone, as in RabbitMQ's URI specification.

use std::{collections::HashMap, sync::Arc, time::Duration};

use super::{
    read::{self, Fields},
    template::Templates,
    url,
};
use crate::{
    config::{
        AmqpService, BrokerUrl, ReplyBy, Secret, keys,
        problem::Problems,
        raw::{Entry, Node, Table, Value, Word},
    },
    http::headers,
    limits::{BROKER_CALLS_MAX, BROKER_REPLY_BYTES_MAX},
    template::Template,
};

/// Request headers that travel with a message unless `headers` says otherwise.
const HEADERS_DEFAULT: [&str; 3] = ["accept", "accept-language", "traceparent"];
/// A short string of AMQP (0-9-1 specification §4.2.5.3): names of exchanges, routing keys, hosts.
const SHORT_STRING_MAX: usize = 255;
const HEARTBEAT: Duration = Duration::from_secs(10);

/// The services behind brokers, and those that routes name by URL.
#[derive(Default)]
pub(super) struct Brokered {
    pub list: Vec<AmqpService>,
    by_name: HashMap<String, usize>,
}

/// Whether a service is behind a broker, by its first URL.
pub(super) fn is_amqp(node: &Node) -> bool {
    let servers = match &node.value {
        Value::Table(table) => table.get("servers").map(|entry| &entry.node),
        Value::String(_) | Value::List(_) => Some(node),
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) => None,
    };
    let first = servers.and_then(|node| node.items().first());
    let text = first.and_then(|node| match &node.value {
        Value::Table(table) => table.get("url").and_then(|entry| entry.node.as_text()),
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::List(_) => {
            node.as_text()
        }
    });
    text.is_some_and(|text| is_broker(text.as_str()))
}

pub(super) fn is_broker(text: &str) -> bool {
    ["amqp://", "amqps://"].iter().any(|scheme| text.starts_with(scheme))
}

impl Brokered {
    /// The index of what is written under a name, or as a URL in a route.
    pub(super) fn find(&mut self, target: Word<'_>, problems: &mut Problems) -> Option<usize> {
        let text = target.as_str();
        if let Some(&index) = self.by_name.get(text) {
            return Some(index);
        }
        if !is_broker(text) {
            return None;
        }
        if let Some(flag) = target.words().nth(1) {
            let title = "a server's flags belong into [services]";
            problems.error(title).at(flag.at(), "a route has a service's name or a URL alone");
            return None;
        }
        let mut queue = service_named(&target.shown());
        let (broker, key) = broker(target, true, problems)?;
        let key = key?;
        queue.name =
            format!("{}{}{key}", broker.shown, if broker.shown.ends_with('/') { "" } else { "/" }).into();
        queue.key = Template::literal(&key);
        queue.brokers.push(broker);
        self.list.push(queue);
        self.by_name.insert(text.to_owned(), self.list.len() - 1);
        Some(self.list.len() - 1)
    }

    pub(super) fn read(&mut self, entry: &Entry, problems: &mut Problems) {
        let mut queue = service_named(entry.key.as_str());
        let before = problems.errors();
        match &entry.node.value {
            Value::Table(table) => self::table(entry, table, &mut queue, problems),
            Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::List(_) => {
                servers(&entry.node, true, &mut queue, problems);
            }
        }
        if problems.errors() == before {
            if queue.brokers.is_empty() {
                let title = format!("service `{}` has no servers", queue.name);
                problems.error(title).at(entry.key.at(), "write servers = [\"amqp://rabbit\"]");
            } else if queue.brokers.iter().all(|broker| broker.backup) {
                let title = format!("every server of service `{}` is `backup`", queue.name);
                problems.error(title).at(entry.key.at(), "backup of what?");
            }
        }
        self.by_name.insert(entry.key.as_str().to_owned(), self.list.len());
        self.list.push(queue);
    }
}

fn service_named(name: &str) -> AmqpService {
    AmqpService {
        name: name.into(),
        brokers: Vec::new(),
        exchange: Template::literal(""),
        key: Template::literal(""),
        reply: ReplyBy::Direct,
        persistent: false,
        headers: HEADERS_DEFAULT.map(Arc::from).into(),
        max_reply: BROKER_REPLY_BYTES_MAX,
        in_flight: BROKER_CALLS_MAX,
        heartbeat: HEARTBEAT,
    }
}

const REPLIES: [(&str, ReplyBy); 3] =
    [("direct", ReplyBy::Direct), ("queue", ReplyBy::Queue), ("none", ReplyBy::None)];

fn table(entry: &Entry, table: &Table, queue: &mut AmqpService, problems: &mut Problems) {
    let fields = Fields::new(table, &keys::AMQP, problems);
    let key = fields.get("key");
    if let Some(entry) = fields.get("servers") {
        servers(&entry.node, key.is_none(), queue, problems);
    }
    if let Some(template) = key.and_then(|entry| name(entry, &Templates::default(), problems)) {
        queue.key = template;
    }
    if let Some(template) =
        fields.get("exchange").and_then(|entry| name(entry, &Templates::default(), problems))
    {
        queue.exchange = template;
    }
    queue.reply = fields.or("reply", queue.reply, |entry| read::one_of(entry, &REPLIES, problems));
    queue.persistent =
        fields.or("persistent", queue.reply == ReplyBy::None, |entry| read::boolean(entry, problems));
    if let Some(entry) = fields.get("headers") {
        queue.headers =
            read::strings(entry, problems).into_iter().filter_map(|word| header(word, problems)).collect();
    }
    queue.max_reply =
        fields.or("max_reply", queue.max_reply, |entry| read::size(entry, 1..=1 << 30, problems));
    queue.in_flight = fields.or("in_flight", queue.in_flight, |entry| {
        read::integer(entry, 1..=65_535, problems).and_then(|count| usize::try_from(count).ok())
    });
    queue.heartbeat = fields.or("heartbeat", queue.heartbeat, |entry| {
        read::duration(entry, Duration::from_secs(1)..=Duration::from_secs(3600), problems)
    });
    let keyless = key.is_none() && queue.key.as_literal() == Some("");
    if keyless && queue.exchange.as_literal() == Some("") && problems.errors() == 0 {
        let title = format!("service `{}` has no routing key", queue.name);
        problems.error(title).at(entry.key.at(), "write key = \"stock.get\", the queue's name");
    }
}

/// A header's name in lower case.
fn header(word: Word<'_>, problems: &mut Problems) -> Option<Arc<str>> {
    let name = word.as_str().to_ascii_lowercase();
    if !headers::is_token(name.as_bytes()) {
        problems.error(format!("`{}` is no name of a header", word.shown())).at(word.at(), "");
        return None;
    }
    if crate::http::classify(name.as_bytes()).is_hop() || name == "content-length" {
        let title = format!("`{}` belongs to a connection, not to a message", word.shown());
        problems.error(title).at(word.at(), "");
        return None;
    }
    Some(name.into())
}

/// An exchange or a routing key.
pub(super) fn name(entry: &Entry, templates: &Templates<'_>, problems: &mut Problems) -> Option<Template> {
    let word = read::string(entry, problems)?;
    if word.as_str().len() > SHORT_STRING_MAX {
        let title = format!("`{}` is longer than the 255 bytes AMQP has for it", entry.key.as_str());
        problems.error(title).at(word.at(), "");
        return None;
    }
    templates.parse(word, problems)
}

/// Server lines. `with_key`: their paths end with the routing key, the same for all.
fn servers(node: &Node, with_key: bool, queue: &mut AmqpService, problems: &mut Problems) {
    let mut keys: Vec<String> = Vec::new();
    for node in node.items() {
        let (word, mut backup) = match &node.value {
            Value::String(text) => (text.word(), false),
            Value::Table(table) => {
                let fields = Fields::new(table, &keys::BROKER, problems);
                let backup = fields.or("backup", false, |entry| read::boolean(entry, problems));
                let Some(entry) = fields.get("url") else {
                    problems.error("a server needs a `url`").at(node.at, "");
                    continue;
                };
                let Some(word) = read::string(entry, problems) else { continue };
                (word, backup)
            }
            Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::List(_) => {
                read::wrong_kind("servers", "server lines or tables", node, problems);
                continue;
            }
        };
        let mut words = word.words();
        let Some(first) = words.next() else {
            problems.error("an empty server line").at(word.at(), "write \"amqp://rabbit\"");
            continue;
        };
        for flag in words {
            if flag.as_str() == "backup" {
                backup = true;
            } else {
                read::unknown_key(flag, &keys::BROKER, problems);
            }
        }
        let Some((mut broker, key)) = broker(first, with_key, problems) else { continue };
        broker.backup = backup;
        queue.brokers.push(broker);
        keys.extend(key);
        if keys.last() != keys.first() {
            let title = "the servers of one service have one routing key";
            problems.error(title).at(first.at(), "write `key` beside `servers`");
        }
    }
    if let Some(key) = keys.first().filter(|_| with_key) {
        queue.key = Template::literal(key);
    }
}

/// `amqp[s]://[user[:password]@]host[:port][/vhost][/key]`, and the key if it is asked for and there.
fn broker(word: Word<'_>, with_key: bool, problems: &mut Problems) -> Option<(BrokerUrl, Option<String>)> {
    let Some((scheme, rest)) = url::scheme(word).filter(|_| is_broker(word.as_str())) else {
        let title = format!("`{}` is no broker's URL", word.shown());
        problems.error(title).at(word.at(), "all servers of this service are amqp:// or amqps://");
        return None;
    };
    let tls = scheme.as_str() == "amqps";
    if let Some(at) = rest.as_str().find(['?', '#']) {
        let place = rest.slice(at..rest.as_str().len());
        problems.error("a broker's URL has no query and no fragment").at(place.at(), "");
        return None;
    }
    let path_start = rest.as_str().find('/').unwrap_or(rest.as_str().len());
    let authority = rest.slice(0..path_start);
    let path = rest.slice(path_start..rest.as_str().len());
    let (user, password, host) = match authority.as_str().rfind('@') {
        None => ("guest".to_owned(), Secret::from("guest".to_owned()), authority),
        Some(at) => {
            let info = authority.slice(0..at);
            let (user, password) =
                info.split_once(':').map_or((info, None), |(user, password)| (user, Some(password)));
            let password = password.map_or_else(String::new, |word| decoded(word.as_str()));
            (
                decoded(user.as_str()),
                Secret::from(password),
                authority.slice(at + 1..authority.as_str().len()),
            )
        }
    };
    let (host, port) = url::host_and_port(host, problems)?;
    let port = match port {
        None if tls => 5671,
        None => 5672,
        Some(port) => url::port_number(port, problems)?,
    };
    let host = match host {
        url::Host::Ip(ip) => ip.to_string(),
        url::Host::Name(name) => name.as_str().to_ascii_lowercase(),
        url::Host::Any => {
            problems
                .error(format!("`{}` names no host", word.shown()))
                .at(authority.at(), "write amqp://host");
            return None;
        }
    };
    let segments: Vec<String> = path.as_str().split('/').skip(1).map(decoded).collect();
    let (vhost, key) = match (&segments[..], with_key) {
        ([], _) => ("/".to_owned(), None),
        ([vhost], false) | ([vhost, _], true) if vhost.is_empty() => {
            ("/".to_owned(), segments.get(1).cloned())
        }
        ([vhost], false) => (vhost.clone(), None),
        ([key], true) => ("/".to_owned(), Some(key.clone())),
        ([vhost, key], true) => (vhost.clone(), Some(key.clone())),
        _ => {
            let remark = if with_key {
                "/vhost/key, a slash in either as %2F"
            } else {
                "/vhost, a slash in it as %2F"
            };
            problems.error("the path of a broker's URL has too many parts").at(path.at(), remark);
            return None;
        }
    };
    let shown: Arc<str> =
        format!("{}://{host}:{port}/{}", scheme.as_str(), vhost.trim_start_matches('/')).into();
    if with_key && key.as_ref().is_none_or(String::is_empty) && path_start != 0 {
        let title = format!("`{}` has no routing key", word.shown());
        problems.error(title).at(word.at(), "write amqp://host/queue, or `key` beside `servers`");
        return None;
    }
    if key.as_ref().is_some_and(|key| key.len() > SHORT_STRING_MAX) {
        problems.error("a routing key has at most 255 bytes").at(path.at(), "");
        return None;
    }
    Some((
        BrokerUrl {
            shown,
            tls,
            host: host.into(),
            port,
            user: user.into(),
            password,
            vhost: vhost.into(),
            backup: false,
        },
        key,
    ))
}

/// Without percent-encoding (RFC 3986 §2.1); what is no escape stays.
fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        let hex = |at: usize| tail.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (byte, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits are a byte"));
                rest = &tail[2..];
            }
            _ => {
                out.push(*byte);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Target,
        load::testing::{check_problems, good},
    };

    fn text(service: &str) -> String {
        format!("listen = ':80'\n[services]\nq = {service}\n[routes]\n'/' = 'q'\n")
    }

    #[track_caller]
    fn check_url(url: &str, host: &str, port: u16, vhost: &str, key: &str) {
        let queue = good(&text(&format!("'{url}'"))).amqp.remove(0);
        let broker = &queue.brokers[0];
        assert_eq!((&*broker.host, broker.port, &*broker.vhost), (host, port, vhost), "{url}");
        assert_eq!(queue.key.as_literal(), Some(key), "{url}");
    }

    #[test]
    fn a_url_says_where_the_queue_is() {
        check_url("amqp://rabbit/stock.get", "rabbit", 5672, "/", "stock.get");
        check_url("amqp://Rabbit:5673/shop/stock.get", "rabbit", 5673, "shop", "stock.get");
        check_url("amqp://[::1]/%2f/a%2Fb", "::1", 5672, "/", "a/b");
        check_url("amqps://rabbit//q", "rabbit", 5671, "/", "q");
    }

    #[test]
    fn a_password_is_kept_and_never_shown() {
        let config = good(&text("'amqp://gw:p%40ss@rabbit/q'"));
        let broker = &config.amqp[0].brokers[0];
        assert_eq!((&*broker.user, broker.password.reveal()), ("gw", "p@ss"));
        assert!(!format!("{config:?}").contains("p@ss"));
        assert_eq!(&*broker.shown, "amqp://rabbit:5672/");
    }

    #[test]
    fn a_table_has_the_rest() {
        let config = good(&text(
            "{ servers = ['amqp://a/shop', 'amqp://b/shop backup'], exchange = 'x', key = 'k.{query.id}', reply = 'none', \
             headers = ['X-Tenant'], max_reply = '1MiB', in_flight = 10, heartbeat = '5s' }",
        ));
        let queue = &config.amqp[0];
        assert_eq!(
            (queue.brokers.len(), queue.brokers[1].backup, &*queue.brokers[0].vhost),
            (2, true, "shop")
        );
        assert_eq!((queue.reply, queue.persistent, queue.in_flight), (ReplyBy::None, true, 10));
        assert_eq!(queue.headers, [Arc::from("x-tenant")]);
        assert!(matches!(config.routes[0].target, Target::Amqp(_)));
    }

    #[test]
    fn a_route_may_name_a_queue_by_its_url() {
        let config = good("listen = ':80'\n[routes]\n'/' = 'amqp://r/q'\n'/b' = 'amqp://r/q'\n");
        assert_eq!((config.amqp.len(), &*config.amqp[0].name), (1, "amqp://r:5672/q"));
    }

    #[test]
    fn a_wrong_url_is_an_error() {
        let check = |service: &str, expected: &str| check_problems(&text(service), &[expected]);
        check("'amqp://:5672/q'", ":5672 -> `amqp://:5672/q` names no host [write amqp://host]");
        check(
            "'amqp://r'",
            "amqp://r -> `amqp://r` has no routing key [write amqp://host/queue, or `key` beside `servers`]",
        );
        check(
            "'amqp://r/a/b/c'",
            "/a/b/c -> the path of a broker's URL has too many parts [/vhost/key, a slash in either as %2F]",
        );
        check("'amqp://r/q?x=1'", "?x=1 -> a broker's URL has no query and no fragment");
        check(
            "['amqp://r/q', 'http://a']",
            "http://a -> `http://a` is no broker's URL [all servers of this service are amqp:// or amqps://]",
        );
        check(
            "['amqp://r/q', 'amqp://s/p']",
            "amqp://s/p -> the servers of one service have one routing key [write `key` beside `servers`]",
        );
        check(
            "'amqp://r/q weight=2'",
            "weight=2 -> unknown key `weight=2` in a broker's server line [known are url, backup]",
        );
    }

    #[test]
    fn a_wrong_table_is_an_error() {
        let check = |rest: &str, expected: &str| {
            check_problems(&text(&format!("{{ servers = 'amqp://r', {rest} }}")), &[expected]);
        };
        check("key = 'a', reply = 'yes'", "yes -> `reply` cannot be `yes` [known: direct, queue, none]");
        check(
            "key = 'a{id}'",
            "id -> unknown variable `id` [write `{{` for a brace] [here are {query.NAME}, {header.NAME}, {cookie.NAME} and {jwt.CLAIM}]",
        );
        check("key = 'a', headers = ['te']", "te -> `te` belongs to a connection, not to a message");
        check("key = 'a', in_flight = 0", "0 -> `in_flight`: 0 is not within 1 and 65535");
    }
}
