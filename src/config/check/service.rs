//! `[services]`: a server line, a list of them, or a table.

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Duration};

use rustls::pki_types::ServerName;

use super::{
    amqp::{self, Brokered},
    defaults::{self, Defaults},
    read::{self, Fields},
    template::Templates,
    tls::authorities_of,
    units, url,
};
use crate::{
    config::{
        Balance, Endpoint, Queue, Service, ServiceTls, Speaks, Target, keys,
        load::World,
        problem::Problems,
        raw::{Entry, Node, Place, Table, Value, Word},
    },
    template::Template,
    tls::Verify,
};

const NAME_BYTES_MAX: usize = 64;
const WEIGHT_MAX: u32 = 65_535;
const FAILS_MAX: u32 = 1_000_000;
const FAILS_DEFAULT: u32 = 3;
const FAIL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
const FAIL_TIMEOUT_MIN: Duration = Duration::from_millis(1);
const FAIL_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 3600);
pub(super) const KEEPALIVE_MAX: u32 = 65_536;
const CONNS_MAX: u32 = 1_000_000;
const SLOW_START_MAX: Duration = Duration::from_secs(3600);
const QUEUE_MAX: u32 = 1_000_000;
const QUEUE_WAIT_MIN: Duration = Duration::from_millis(1);
const QUEUE_WAIT_MAX: Duration = Duration::from_secs(3600);

/// The services of a configuration: those of `[services]`, and those that routes name by URL.
pub(super) struct Services<'a> {
    pub list: Vec<Service>,
    pub amqp: Brokered,
    defaults: &'a Defaults,
    by_name: HashMap<String, usize>,
    by_url: HashMap<String, usize>,
    /// Where the named ones are written, and whether a route uses them.
    named: Vec<(Place, bool)>,
}

impl<'a> Services<'a> {
    /// `files` gets every file that was read, or should have been.
    pub(super) fn read(
        entry: Option<&Entry>,
        defaults: &'a Defaults,
        world: &World<'_>,
        files: &mut Vec<PathBuf>,
        problems: &mut Problems,
    ) -> Self {
        let mut services = Self {
            list: Vec::new(),
            amqp: Brokered::default(),
            defaults,
            by_name: HashMap::new(),
            by_url: HashMap::new(),
            named: Vec::new(),
        };
        let Some(table) = entry.and_then(|entry| read::table(entry, problems)) else { return services };
        for entry in &table.entries {
            check_name(entry, problems);
            if amqp::is_amqp(&entry.node) {
                services.amqp.read(entry, problems);
                continue;
            }
            let service = service(entry, defaults, world, files, problems);
            services.by_name.insert(entry.key.as_str().to_owned(), services.list.len());
            services.named.push((entry.key.at(), false));
            services.list.push(service);
        }
        services
    }

    /// What a route's target means: a service, or one behind a broker.
    pub(super) fn target(&mut self, target: Word<'_>, problems: &mut Problems) -> Option<Target> {
        if let Some(index) = self.amqp.find(target, problems) {
            return Some(Target::Amqp(index));
        }
        if amqp::is_broker(target.as_str()) {
            return None;
        }
        self.find(target, problems).map(Target::Service)
    }

    /// The service a route's target means: a name in `[services]`, or a URL, which makes a service of its own.
    pub(super) fn find(&mut self, target: Word<'_>, problems: &mut Problems) -> Option<usize> {
        let text = target.as_str();
        if let Some(&index) = self.by_name.get(text) {
            self.named[index].1 = true;
            return Some(index);
        }
        if let Some(&index) = self.by_url.get(text) {
            return Some(index);
        }
        if !url::is_url(text) {
            self.unknown(target, problems);
            return None;
        }
        if let Some(flag) = target.words().nth(1) {
            let title = "a server's flags belong into [services]";
            problems.error(title).at(flag.at(), "a route has a service's name or a URL alone");
            return None;
        }
        let endpoint = Server::new(target, problems)?.endpoint();
        let service = Service {
            name: Arc::clone(&endpoint.url),
            endpoints: vec![endpoint],
            balance: Balance::Random,
            hash: None,
            queue: None,
            keepalive: self.defaults.keepalive,
            connect: self.defaults.connect,
            tls: ServiceTls::default(),
        };
        self.list.push(service);
        self.by_url.insert(text.to_owned(), self.list.len() - 1);
        Some(self.list.len() - 1)
    }

    fn unknown(&self, target: Word<'_>, problems: &mut Problems) {
        let title = format!("unknown service `{}`", target.shown());
        if target.as_str().contains([':', '.', '/']) {
            problems
                .error(title)
                .at(target.at(), format!("a URL begins with http://: `http://{}`", target.shown()));
            return;
        }
        read::unknown_name(title, target, self.by_name.keys().map(String::as_str), problems);
    }

    /// Warns of services that no route uses.
    pub(super) fn warn_of_unused(&self, problems: &mut Problems) {
        for (service, (place, used)) in self.list.iter().zip(&self.named) {
            if !used {
                problems.warning(format!("no route uses service `{}`", service.name)).at(*place, "");
            }
        }
    }
}

fn check_name(entry: &Entry, problems: &mut Problems) {
    let name = entry.key.as_str();
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !fits {
        let remark = "up to 64 letters, digits, `-`, `_` and `.`";
        problems.error(format!("`{name}` is no name for a service")).at(entry.key.at(), remark);
    }
}

fn service(
    entry: &Entry,
    defaults: &Defaults,
    world: &World<'_>,
    files: &mut Vec<PathBuf>,
    problems: &mut Problems,
) -> Service {
    let name = entry.key.as_str();
    let mut service = Service {
        name: name.into(),
        endpoints: Vec::new(),
        balance: Balance::Random,
        hash: None,
        queue: None,
        keepalive: defaults.keepalive,
        connect: defaults.connect,
        tls: ServiceTls::default(),
    };
    let before = problems.errors();
    match &entry.node.value {
        Value::String(_) | Value::List(_) => service.endpoints = servers(&entry.node, problems),
        Value::Table(table) => {
            let fields = Fields::new(table, &keys::SERVICE, problems);
            if let Some(entry) = fields.get("servers") {
                service.endpoints = servers(&entry.node, problems);
            }
            service.balance =
                fields.or("balance", service.balance, |entry| read::one_of(entry, &BALANCES, problems));
            if let Some(entry) = fields.get("hash") {
                service.hash = hash(entry, problems);
                service.balance = Balance::Hash;
                if let Some(balance) = fields.get("balance") {
                    let title = "`hash` is a way to balance of its own";
                    problems.error(title).at(balance.key.at(), "remove this, or `hash`");
                }
            }
            if let Some(entry) = fields.get("queue") {
                service.queue = queue(entry, problems);
                if service.endpoints.iter().all(|endpoint| endpoint.max_conns == 0) {
                    let title = format!("no server of service `{name}` has `max_conns`");
                    problems.warning(title).at(entry.key.at(), "nobody will ever wait");
                }
            }
            service.keepalive =
                fields.or("keepalive", service.keepalive, |entry| defaults::keepalive(entry, problems));
            if let Some(entry) = fields.get("tls") {
                service.tls = tls(entry, world, files, problems).unwrap_or_default();
                if service.endpoints.iter().all(|endpoint| endpoint.tls.is_none()) {
                    let title = format!("no server of service `{name}` is spoken to over TLS");
                    problems.warning(title).at(entry.key.at(), "write https:// in its URL");
                }
            }
            service.connect =
                fields.or("connect", service.connect, |entry| defaults::connect(entry, problems));
            if let Some(entry) = fields.get("protocol")
                && let Some(speaks) = read::one_of(entry, &PROTOCOLS, problems)
            {
                service.endpoints.iter_mut().for_each(|endpoint| endpoint.speaks = speaks);
            }
        }
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) => {
            read::wrong_kind(name, "a server line, a list of them, or a table", &entry.node, problems);
        }
    }
    let by_hash = matches!(service.balance, Balance::Hash | Balance::IpHash);
    if by_hash && service.endpoints.iter().any(|endpoint| !endpoint.slow_start.is_zero()) {
        let title = format!("`slow_start` does not go with the hash of service `{name}`");
        problems.error(title).at(entry.key.at(), "a hash gives a server its keys at once");
    }
    if problems.errors() == before {
        check_endpoints(entry, &service.endpoints, problems);
    }
    service
}

/// How the certificates of a service are judged.
fn tls(
    entry: &Entry,
    world: &World<'_>,
    files: &mut Vec<PathBuf>,
    problems: &mut Problems,
) -> Option<ServiceTls> {
    let table = read::table(entry, problems)?;
    let fields = Fields::new(table, &keys::SERVICE_TLS, problems);
    let verify = fields.or("verify", true, |entry| read::boolean(entry, problems));
    let authorities = fields.get("ca").map(|entry| authorities_of(entry, world, files, problems));
    let name = fields.get("name").and_then(|entry| {
        let word = read::string_for(entry, "a host name", problems)?;
        if ServerName::try_from(word.as_str()).is_err() {
            problems
                .error(format!("`{}` is neither an address nor a host name", word.shown()))
                .at(word.at(), "");
        }
        Some(word.as_str().to_ascii_lowercase().into())
    });
    let verify = match (verify, authorities) {
        (false, None) => Verify::Not,
        (true, None) => Verify::BySystem,
        (true, Some(authorities)) => Verify::By(authorities?.1),
        (false, Some(_)) => {
            let remark = "with `verify = false` nobody looks at `ca`";
            problems.error("certificates are verified, or they are not").at(entry.key.at(), remark);
            return None;
        }
    };
    Some(ServiceTls { verify, name })
}

const PROTOCOLS: [(&str, Speaks); 2] = [("h1", Speaks::Http1), ("h2", Speaks::Http2)];
const BALANCES: [(&str, Balance); 6] = [
    ("random", Balance::Random),
    ("round_robin", Balance::RoundRobin),
    ("least_conn", Balance::LeastConn),
    ("least_time", Balance::LeastTime),
    ("first", Balance::First),
    ("ip_hash", Balance::IpHash),
];

/// What requests with the same value have in common.
fn hash(entry: &Entry, problems: &mut Problems) -> Option<Template> {
    let word = read::string_for(entry, "a text with a variable", problems)?;
    // A service does not know by which routes it is reached, so that a path's variables have no meaning here.
    let template = Templates::default().parse(word, problems)?;
    if template.as_literal().is_some() {
        let title = format!("`{}` is the same for every request", word.shown());
        problems.error(title).at(word.at(), "write \"{header.x-user}\"");
        return None;
    }
    Some(template)
}

/// `100 wait 2s`, the words of DESIGN §5.
fn queue(entry: &Entry, problems: &mut Problems) -> Option<Queue> {
    let line = read::string_for(entry, "a number and a time", problems)?;
    let mut words = line.words();
    let (most, wait, time, more) = (words.next(), words.next(), words.next(), words.next());
    let (Some(most), Some(wait), Some(time), None) = (most, wait, time, more) else {
        let title = format!("`{}` is no queue", line.shown());
        problems.error(title).at(line.at(), "write \"100 wait 2s\": requests, and how long each may wait");
        return None;
    };
    if wait.as_str() != "wait" {
        problems
            .error(format!("`{}` is no word of a queue", wait.shown()))
            .at(wait.at(), "write \"100 wait 2s\"");
        return None;
    }
    let most = number("queue", most, 1, QUEUE_MAX, problems);
    let wait = read::duration_in("queue", time, QUEUE_WAIT_MIN..=QUEUE_WAIT_MAX, problems)?;
    Some(Queue { most, wait })
}

/// There must be an endpoint to use, as in nginx.
fn check_endpoints(entry: &Entry, endpoints: &[Endpoint], problems: &mut Problems) {
    let name = entry.key.as_str();
    let place = entry.key.at();
    if endpoints.is_empty() {
        let title = format!("service `{name}` has no servers");
        problems.error(title).at(place, "write servers = [\"http://127.0.0.1:3000\"]");
    } else if endpoints.iter().all(|endpoint| endpoint.backup) {
        problems.error(format!("every server of service `{name}` is `backup`")).at(place, "backup of what?");
    } else if endpoints.iter().all(|endpoint| endpoint.down) {
        problems
            .warning(format!("every server of service `{name}` is `down`"))
            .at(place, "requests get a 503");
    }
}

fn servers(node: &Node, problems: &mut Problems) -> Vec<Endpoint> {
    let endpoints = node.items().iter().filter_map(|node| match &node.value {
        Value::String(text) => line(text.word(), problems),
        Value::Table(table) => server_table(node, table, problems),
        Value::Integer(_) | Value::Float(_) | Value::Bool(_) | Value::List(_) => {
            read::wrong_kind("servers", "server lines or tables", node, problems);
            None
        }
    });
    endpoints.collect()
}

/// nginx's `server` line: a URL and flags.
fn line(line: Word<'_>, problems: &mut Problems) -> Option<Endpoint> {
    let mut words = line.words();
    let Some(first) = words.next() else {
        problems.error("an empty server line").at(line.at(), "write \"http://127.0.0.1:3000\"");
        return None;
    };
    let server = Server::new(first, problems);
    // The flags are looked at even if the URL is wrong, so that one run shows every mistake.
    let mut flags = Flags::default();
    for word in words {
        flags.read(word, problems);
    }
    let mut server = server?;
    server.flags = flags;
    Some(server.endpoint())
}

fn server_table(node: &Node, table: &Table, problems: &mut Problems) -> Option<Endpoint> {
    let fields = Fields::new(table, &keys::SERVER, problems);
    let mut flags = Flags::default();
    let weight = |entry| read::integer(entry, 1..=WEIGHT_MAX, problems);
    flags.weight = fields.or("weight", flags.weight, weight);
    flags.max_fails =
        fields.or("max_fails", flags.max_fails, |entry| read::integer(entry, 0..=FAILS_MAX, problems));
    flags.fail_timeout = fields.or("fail_timeout", flags.fail_timeout, |entry| {
        read::duration(entry, FAIL_TIMEOUT_MIN..=FAIL_TIMEOUT_MAX, problems)
    });
    flags.backup = fields.or("backup", false, |entry| read::boolean(entry, problems));
    flags.down = fields.or("down", false, |entry| read::boolean(entry, problems));
    fields.get("resolve").and_then(|entry| read::boolean(entry, problems));
    flags.max_conns =
        fields.or("max_conns", flags.max_conns, |entry| read::integer(entry, 0..=CONNS_MAX, problems));
    flags.slow_start = fields.or("slow_start", flags.slow_start, |entry| {
        read::duration(entry, Duration::ZERO..=SLOW_START_MAX, problems)
    });
    let Some(entry) = fields.get("url") else {
        problems.error("a server needs a `url`").at(node.at, "");
        return None;
    };
    let word = read::string(entry, problems)?;
    if let Some(flag) = word.words().nth(1) {
        problems.error("in a table, a server's flags are keys of their own").at(flag.at(), "");
        return None;
    }
    let mut server = Server::new(word, problems)?;
    server.flags = flags;
    Some(server.endpoint())
}

struct Server {
    shown: Arc<str>,
    url: url::Url,
    flags: Flags,
}

impl Server {
    fn new(word: Word<'_>, problems: &mut Problems) -> Option<Self> {
        let url = url::service(word, problems)?;
        Some(Self { shown: word.shown().into(), url, flags: Flags::default() })
    }

    fn endpoint(self) -> Endpoint {
        let Self { shown, url, flags } = self;
        Endpoint {
            url: shown,
            address: url.address,
            authority: url.authority,
            tls: url.tls,
            prefix: url.prefix,
            speaks: url.speaks,
            weight: flags.weight,
            max_fails: flags.max_fails,
            fail_timeout: flags.fail_timeout,
            backup: flags.backup,
            down: flags.down,
            max_conns: flags.max_conns,
            slow_start: flags.slow_start,
        }
    }
}

struct Flags {
    weight: u32,
    max_fails: u32,
    fail_timeout: Duration,
    backup: bool,
    down: bool,
    max_conns: u32,
    slow_start: Duration,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            weight: 1,
            max_fails: FAILS_DEFAULT,
            fail_timeout: FAIL_TIMEOUT_DEFAULT,
            backup: false,
            down: false,
            max_conns: 0,
            slow_start: Duration::ZERO,
        }
    }
}

impl Flags {
    /// One word of a server line.
    fn read(&mut self, word: Word<'_>, problems: &mut Problems) {
        let (key, value) = word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value)));
        let name = key.as_str();
        match (name, value) {
            // Names are followed without being told to.
            ("resolve", None) => {}
            ("backup", None) => self.backup = true,
            ("down", None) => self.down = true,
            ("backup" | "down" | "resolve", Some(value)) => {
                problems.error(format!("`{name}` takes no value")).at(value.at(), "");
            }
            ("weight" | "max_fails" | "fail_timeout" | "max_conns" | "slow_start", None) => {
                let example = match name {
                    "fail_timeout" => "5s",
                    "slow_start" => "30s",
                    _ => "3",
                };
                problems
                    .error(format!("`{name}` needs a value"))
                    .at(word.at(), format!("write {name}={example}"));
            }
            ("weight", Some(value)) => self.weight = number(name, value, 1, WEIGHT_MAX, problems),
            ("max_fails", Some(value)) => self.max_fails = number(name, value, 0, FAILS_MAX, problems),
            ("max_conns", Some(value)) => self.max_conns = number(name, value, 0, CONNS_MAX, problems),
            ("slow_start", Some(value)) => {
                let range = Duration::ZERO..=SLOW_START_MAX;
                self.slow_start = read::duration_in(name, value, range, problems).unwrap_or_default();
            }
            ("fail_timeout", Some(value)) => {
                let range = FAIL_TIMEOUT_MIN..=FAIL_TIMEOUT_MAX;
                self.fail_timeout =
                    read::duration_in(name, value, range, problems).unwrap_or(FAIL_TIMEOUT_DEFAULT);
            }
            _ => read::unknown_key(key, &keys::SERVER, problems),
        }
    }
}

/// `least`, with a problem, for what is no number within the bounds.
fn number(key: &str, value: Word<'_>, least: u32, most: u32, problems: &mut Problems) -> u32 {
    let number = units::digits(value.as_str()).and_then(|number| u32::try_from(number).ok());
    number.filter(|number| (least..=most).contains(number)).unwrap_or_else(|| {
        read::out_of_range(key, &value.shown(), &(least..=most), problems).at(value.at(), "");
        least
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        Address,
        load::testing::{check_problems, good},
    };

    fn text(service: &str) -> String {
        format!("listen = ':80'\n[services]\ns = {service}\n[routes]\n'/' = 's'\n")
    }

    #[track_caller]
    fn check_wrong(service: &str, expected: &[&str]) {
        check_problems(&text(service), expected);
    }

    #[track_caller]
    fn check_url(url: &str, address: &Address, authority: &str, prefix: &str) {
        let service = good(&text(&format!("'{url}'"))).services.remove(0);
        let endpoint = &service.endpoints[0];
        assert_eq!(
            (&endpoint.address, &*endpoint.authority, &*endpoint.prefix),
            (address, authority, prefix)
        );
        assert_eq!(&*endpoint.url, url);
    }

    #[test]
    fn a_url_has_many_forms() {
        let ip = |text: &str| Address::Tcp(text.parse().unwrap());
        let name = |name: &str, port| Address::Name(name.into(), port);
        let unix = || Address::Unix("/run/a.sock".into());
        check_url("http://10.0.0.1:3000", &ip("10.0.0.1:3000"), "10.0.0.1:3000", "");
        check_url("http://10.0.0.1", &ip("10.0.0.1:80"), "10.0.0.1", "");
        check_url("http://[::1]:3000/", &ip("[::1]:3000"), "[::1]:3000", "");
        check_url("http://App.internal:80/v1/x/", &name("app.internal", 80), "app.internal", "/v1/x");
        check_url("http://my_app.", &name("my_app.", 80), "my_app.", "");
        check_url("http://unix:/run/a.sock", &unix(), "localhost", "");
        check_url("http://unix:/run/a.sock:/v1/", &unix(), "localhost", "/v1");
        check_url("unix:/run/a.sock", &unix(), "localhost", "");
    }

    #[test]
    fn https_names_the_certificate() {
        let endpoint = |url: &str| {
            let endpoint = good(&text(&format!("'{url}'"))).services.remove(0).endpoints.remove(0);
            (endpoint.tls.as_deref().map(str::to_owned), endpoint.authority.to_string())
        };
        let expected = |host: &str, authority: &str| (Some(host.to_owned()), authority.to_owned());
        assert_eq!(endpoint("https://App.internal"), expected("app.internal", "app.internal"));
        assert_eq!(endpoint("https://app:80"), expected("app", "app:80"));
        assert_eq!(endpoint("https://[::1]:3000/x"), expected("::1", "[::1]:3000"));
        assert_eq!(endpoint("http://app:443"), (None, "app:443".to_owned()));
    }

    #[test]
    fn certificates_are_verified_unless_somebody_says_not_to() {
        let service =
            |tls: &str| good(&text(&format!("{{ servers = 'https://a'{tls} }}"))).services.remove(0).tls;
        assert!(matches!(service("").verify, Verify::BySystem));
        assert!(matches!(service(", tls = { verify = false }").verify, Verify::Not));
        let named = service(", tls = { name = 'B.example' }");
        assert!(matches!(named.verify, Verify::BySystem));
        assert_eq!(named.name.as_deref(), Some("b.example"));

        let check = |server: &str, tls: &str, expected: &str| {
            check_wrong(&format!("{{ servers = '{server}', tls = {tls} }}"), &[expected]);
        };
        check("https://a", "{ name = 'a b' }", "a b -> `a b` is neither an address nor a host name");
        check("https://a", "{ ca = '/x.pem' }", "/x.pem -> cannot read /x.pem: entity not found");
        check(
            "http://a",
            "{ verify = false }",
            "tls -> no server of service `s` is spoken to over TLS [write https:// in its URL]",
        );
        check("https://a", "true", "true -> `tls` must be a table, not a boolean");
    }

    #[test]
    fn a_wrong_url_is_an_error() {
        let check = |url: &str, expected: &str| check_wrong(&format!("'{url}'"), &[expected]);
        check("10.0.0.1:80", "10.0.0.1:80 -> `10.0.0.1:80` is not a URL [write `http://10.0.0.1:80`]");
        let spoken = "[http://, h2://, https:// and amqp:// are spoken to services]";
        check(
            "https://unix:/a",
            "https -> a service on a unix socket is not spoken to over TLS [write http://unix:…]",
        );
        check("ftp://r/q", &format!("ftp -> a service cannot be reached by ftp:// {spoken}"));
        check("http://:80", ":80 -> `http://:80` names no host");
        check("http://a:x", "x -> `x` is not a port [a number up to 65535]");
        check("http://a:0", "0 -> a server cannot have port 0");
        check("http://10.0.1", "10.0.1 -> `10.0.1` is neither an address nor a host name");
        check("http://a..b", "a..b -> `a..b` is neither an address nor a host name");
        check("http://[::1", "[::1 -> `[::1` is not an IPv6 address [write [::1]:8080]");
        check("http://u:p@a", "u:* -> user information in a URL is not sent to a service");
        check("http://a/b?c", "?c -> a service's URL has no query and no fragment");
        check("http://a/{b}", "{ -> a character that must be percent-encoded in a path");
        check("http://a/b/../c", "/b/../c -> a path without empty segments, `.` and `..` is wanted here");
        check("http://unix:/a:b", "b -> the path of a URL begins with a slash");
        check("http://unix:a", "a -> the path of a unix socket must be absolute [write unix:/run/app.sock]");
        check("", "'' -> an empty server line [write \"http://127.0.0.1:3000\"]");
    }

    #[test]
    fn line_list_and_table_say_the_same() {
        let line = "'http://a weight=3 max_fails=0 fail_timeout=1m backup down max_conns=9 slow_start=30s'";
        let table = "{ url = 'http://a', weight = 3, max_fails = 0, fail_timeout = '1m', backup = true, down = true, max_conns = 9, slow_start = '30s' }";
        let services = [format!("['http://b', {line}]"), format!("{{ servers = ['http://b', {table}] }}")];
        for service in services {
            let found = &good(&text(&service)).services[0].endpoints[1];
            assert_eq!((found.weight, found.max_fails, found.fail_timeout.as_secs()), (3, 0, 60));
            assert!(found.backup && found.down);
            assert_eq!((found.max_conns, found.slow_start.as_secs()), (9, 30));
        }
    }

    #[test]
    fn a_service_has_defaults_and_inherits() {
        let service = &good(&text("'http://a'")).services[0];
        assert_eq!((service.balance, service.keepalive, service.connect.as_secs()), (Balance::Random, 64, 2));
        let endpoint = &service.endpoints[0];
        assert_eq!((endpoint.weight, endpoint.max_fails, endpoint.fail_timeout.as_secs()), (1, 3, 5));

        let service = text("{ servers = 'http://a', balance = 'round_robin', keepalive = 0 }");
        let config = good(&format!("{service}[defaults]\nconnect = '1s'\nkeepalive = 9"));
        let service = &config.services[0];
        assert_eq!(
            (service.balance, service.keepalive, service.connect.as_secs()),
            (Balance::RoundRobin, 0, 1)
        );
    }

    #[test]
    fn a_wrong_flag_is_an_error() {
        let check = |flag: &str, expected: &str| check_wrong(&format!("'http://a {flag}'"), &[expected]);
        check("wieght=3", "wieght -> unknown key `wieght` in a server line [did you mean `weight`?]");
        let known =
            "[known are url, weight, max_fails, fail_timeout, backup, down, max_conns, resolve, slow_start]";
        check("sticky", &format!("sticky -> unknown key `sticky` in a server line {known}"));
        check("max_conns", "max_conns -> `max_conns` needs a value [write max_conns=3]");
        check("max_conns=-1", "-1 -> `max_conns`: -1 is not within 0 and 1000000");
        check("slow_start=2h", "2h -> `slow_start`: 2h is not within 0 and 1h");
        check("weight", "weight -> `weight` needs a value [write weight=3]");
        check("weight=0", "0 -> `weight`: 0 is not within 1 and 65535");
        check("weight=+1", "+1 -> `weight`: +1 is not within 1 and 65535");
        check("backup=1", "1 -> `backup` takes no value");
        check("fail_timeout=5", "5 -> `fail_timeout`: `5` is not a duration [the unit is missing: 5s]");
        check("fail_timeout=0s", "0s -> `fail_timeout`: 0s is not within 1ms and 1d");
    }

    #[test]
    fn a_wrong_table_is_an_error() {
        check_wrong("3", &["3 -> `s` must be a server line, a list of them, or a table, not an integer"]);
        check_wrong("{}", &["s -> service `s` has no servers [write servers = [\"http://127.0.0.1:3000\"]]"]);
        check_wrong("[3]", &["3 -> `servers` must be server lines or tables, not an integer"]);
        check_wrong("[{}]", &["{} -> a server needs a `url`"]);
        check_wrong(
            "[{ url = 'http://a down' }]",
            &["down -> in a table, a server's flags are keys of their own"],
        );
        check_wrong(
            "{ servers = 'http://a', balance = 'leastconns' }",
            &["leastconns -> `balance` cannot be `leastconns` [did you mean `least_conn`?]"],
        );
        check_wrong(
            "{ servers = 'http://a', helth = 1, keepalive = -1 }",
            &[
                "helth -> unknown key `helth` in a service [known are servers, balance, hash, queue, keepalive, connect, tls, protocol]",
                "-1 -> `keepalive`: -1 is not within 0 and 65536",
            ],
        );
    }

    #[test]
    fn a_hash_has_a_value_of_the_request() {
        let service = good(&text("{ servers = 'http://a', hash = '{header.x-user}' }")).services.remove(0);
        assert!(service.balance == Balance::Hash && service.hash.is_some());
        let check = |keys: &str, expected: &str| {
            check_wrong(&format!("{{ servers = 'http://a', {keys} }}"), &[expected])
        };
        check("hash = 'x'", "x -> `x` is the same for every request [write \"{header.x-user}\"]");
        check("hash = 3", "3 -> `hash` must be a text with a variable, not an integer");
        check(
            "hash = '{id}'",
            "id -> unknown variable `id` [write `{{` for a brace] [here are {query.NAME}, {header.NAME}, {cookie.NAME} and {jwt.CLAIM}]",
        );
        check(
            "hash = '{query.q}', balance = 'random'",
            "balance -> `hash` is a way to balance of its own [remove this, or `hash`]",
        );
        check_wrong(
            "{ servers = 'http://a slow_start=3s', balance = 'ip_hash' }",
            &[
                "s -> `slow_start` does not go with the hash of service `s` [a hash gives a server its keys at once]",
            ],
        );
    }

    #[test]
    fn a_queue_has_a_length_and_a_time() {
        let service = |queue: &str| format!("{{ servers = 'http://a max_conns=2', queue = {queue} }}");
        let queue = good(&text(&service("'100 wait 2s'"))).services.remove(0).queue;
        assert_eq!(queue, Some(Queue { most: 100, wait: Duration::from_secs(2) }));
        let check = |queue: &str, expected: &str| check_wrong(&service(queue), &[expected]);
        let remedy = "[write \"100 wait 2s\": requests, and how long each may wait]";
        check("'100'", &format!("100 -> `100` is no queue {remedy}"));
        check("'100 timeout 2s'", "timeout -> `timeout` is no word of a queue [write \"100 wait 2s\"]");
        check("'0 wait 2s'", "0 -> `queue`: 0 is not within 1 and 1000000");
        check("'9 wait 2'", "2 -> `queue`: `2` is not a duration [the unit is missing: 2s]");
        check("true", "true -> `queue` must be a number and a time, not a boolean");
        check_wrong(
            "{ servers = 'http://a', queue = '9 wait 2s' }",
            &["queue -> no server of service `s` has `max_conns` [nobody will ever wait]"],
        );
    }

    #[test]
    fn a_service_needs_an_endpoint_to_use() {
        check_wrong("'http://a backup'", &["s -> every server of service `s` is `backup` [backup of what?]"]);
        check_wrong("'http://a down'", &["s -> every server of service `s` is `down` [requests get a 503]"]);
    }

    #[test]
    fn a_service_has_a_name_that_can_be_told_from_a_url() {
        check_problems(
            "listen = ':80'\n[services]\n'a b' = 'http://a'\n[routes]\n'/' = 'a b'",
            &["'a b' -> `a b` is no name for a service [up to 64 letters, digits, `-`, `_` and `.`]"],
        );
    }

    #[test]
    fn a_url_in_two_routes_is_one_service() {
        let config =
            good("listen = ':80'\n[routes]\n'/' = 'http://a/x'\n'/b' = 'http://a/x'\n'/c' = 'http://b'");
        let names: Vec<_> = config.services.iter().map(|service| &*service.name).collect();
        assert_eq!(names, ["http://a/x", "http://b"]);
    }

    #[test]
    fn a_service_nobody_uses_is_a_warning() {
        check_problems(
            "listen = ':80'\n[services]\ns = 'http://a'\n[routes]\n'/' = 'http://b'",
            &["s -> no route uses service `s`"],
        );
    }
}
