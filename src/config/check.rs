//! The tree as written → a [`Config`]. Every function here goes on after a mistake, so that one run shows them all.

mod amqp;
mod auth;
mod defaults;
mod graph;
mod issuing;
mod json;
mod listen;
mod log;
mod part;
pub(super) mod read;
mod reply;
mod resolver;
mod route;
mod service;
mod template;
mod tls;
mod units;
mod url;
mod user;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
};

pub(super) use self::tls::refresh as refresh_tls;
use self::{defaults::Defaults, read::Fields, service::Services};
use super::{
    Address, Config, Driver, Listen, Network, Shards, keys,
    load::World,
    problem::Problems,
    raw::{Entry, Table, Value, Word},
    source::Sources,
};

const SHARDS_MAX: u32 = 1024;
const ADMIN_DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9180);

/// The configuration a tree says. It is good only if no errors were found: a wrong value is replaced by its default.
pub(super) fn config(
    tree: &Table,
    sources: &Sources,
    world: &World<'_>,
    files: &mut Vec<PathBuf>,
    problems: &mut Problems,
) -> Config {
    let fields = Fields::new(tree, &keys::TOP, problems);
    let listen = listen::all(fields.get("listen"), problems);
    let admin = fields.or("admin", Some(ADMIN_DEFAULT), |entry| admin(entry, &listen, problems));
    let shards = fields.or("shards", Shards::Auto, |entry| shards(entry, problems));
    let driver = fields.or("driver", Driver::Auto, |entry| read::one_of(entry, &DRIVERS, problems));
    let user = fields.or("user", None, |entry| user::user(entry, problems).map(Some));
    let state = fields.or("state", None, |entry| state(entry, problems).map(Some));
    let tls = tls::read(fields.get("tls"), world, files, problems);
    if let (Some(entry), false) = (fields.get("tls"), listen.iter().any(|listen| listen.tls)) {
        let remark = "write listen = \"https://:443\"";
        problems.warning("no listener uses [tls]").at(entry.key.at(), remark);
    }
    let trusted_proxies = fields.get("trusted_proxies").map_or_else(Vec::new, |entry| {
        let networks = read::strings(entry, problems);
        networks.into_iter().filter_map(|word| network(word, problems)).collect()
    });
    if let (Some(entry), true) = (fields.get("listen"), trusted_proxies.is_empty())
        && listen.iter().any(|listen| listen.proxy_protocol && !matches!(listen.address, Address::Unix(_)))
    {
        let remark = "write trusted_proxies = [\"10.0.0.0/8\"], the networks of the proxies";
        problems
            .error("`proxy_protocol` believes nobody without `trusted_proxies`")
            .at(entry.node.at, remark);
    }
    let resolver = fields.get("resolver").map(|entry| resolver::resolver(entry, problems));
    let defaults = Defaults::read(fields.get("defaults"), problems);
    let mut services = Services::read(fields.get("services"), &defaults, world, files, problems);
    let state = state.unwrap_or_else(|| state_default(world));
    let auths = auth::all(fields.get("auth"), &state, world, files, problems);
    let own = issuing::routes(fields.get("auth"), &auths, problems);
    let mut context = route::Context {
        listen: &listen,
        defaults: &defaults,
        services: &mut services,
        auths: &auths,
        sources,
    };
    let routes = route::all(fields.get("routes"), own, &mut context, problems);
    // After an error, the route that uses a service may just not have been understood.
    if problems.errors() == 0 {
        services.warn_of_unused(problems);
    }
    let (services, amqp) = (services.list, services.amqp.list);
    let log = log::read(fields.get("log"), problems);
    Config {
        listen,
        admin,
        shards,
        driver,
        user,
        state,
        tls,
        trusted_proxies,
        resolver: resolver.unwrap_or_default(),
        limits: defaults.limits,
        auths,
        services,
        amqp,
        routes,
        log,
    }
}

const DRIVERS: [(&str, Driver); 3] =
    [("auto", Driver::Auto), ("io_uring", Driver::IoUring), ("epoll", Driver::Epoll)];

/// An address, or `false`; the outer `None` if it is neither.
fn admin(entry: &Entry, listen: &[Listen], problems: &mut Problems) -> Option<Option<SocketAddr>> {
    if matches!(entry.node.value, Value::Bool(false)) {
        return Some(None);
    }
    let word = read::string_for(entry, "an address or false", problems)?;
    let Address::Tcp(address) = listen::address(word, problems)? else {
        problems.error("`admin` must be an address and a port").at(word.at(), "");
        return None;
    };
    let taken = listen.iter().find(|listen| match &listen.address {
        // Unlike listeners, the admin server does not share a port with a narrower address.
        Address::Tcp(other) if other.port() == address.port() => {
            other.ip() == address.ip() || other.ip().is_unspecified() || address.ip().is_unspecified()
        }
        Address::Tcp(_) | Address::Name(..) | Address::Unix(_) => false,
    });
    if let Some(taken) = taken.filter(|_| address.port() != 0) {
        let title = format!("`admin` takes the port of listener `{}`", taken.name);
        problems.error(title).at(word.at(), "");
    }
    if !address.ip().is_loopback() {
        let title = "the admin page asks for no password and can be reached from other machines";
        problems.warning(title).at(word.at(), "127.0.0.1 keeps it to this one");
    }
    Some(Some(address))
}

fn shards(entry: &Entry, problems: &mut Problems) -> Option<Shards> {
    match &entry.node.value {
        Value::String(text) if text.as_str() == "auto" => Some(Shards::Auto),
        Value::Integer(_) => {
            let count = read::integer(entry, 1..=SHARDS_MAX, problems)?;
            usize::try_from(count).ok().map(Shards::Count)
        }
        Value::String(text) => {
            let title = format!("`shards` cannot be `{}`", text.word().shown());
            problems.error(title).at(entry.node.at, "\"auto\" or a number without quotes");
            None
        }
        Value::Float(_) | Value::Bool(_) | Value::List(_) | Value::Table(_) => {
            read::wrong_kind("shards", "\"auto\" or a number", &entry.node, problems);
            None
        }
    }
}

fn state(entry: &Entry, problems: &mut Problems) -> Option<PathBuf> {
    let word = read::string_for(entry, "a directory", problems)?;
    if word.as_str().is_empty() {
        problems.error("`state` must be a directory").at(word.at(), "");
        return None;
    }
    Some(PathBuf::from(word.as_str()))
}

/// `state` alone.
pub(super) fn state_of(tree: &Table, world: &World<'_>, problems: &mut Problems) -> Option<PathBuf> {
    match tree.get("state") {
        Some(entry) => state(entry, problems),
        None => Some(state_default(world)),
    }
}

/// What systemd made for us, root's place, or the user's (XDG Base Directory Specification).
fn state_default(world: &World<'_>) -> PathBuf {
    let variable = |name: &str| (world.env)(name).filter(|value| value.starts_with('/'));
    if let Some(directories) = variable("STATE_DIRECTORY") {
        // systemd.exec(5): several are separated by colons.
        return PathBuf::from(directories.split(':').next().unwrap_or(""));
    }
    let user = || {
        let home = || variable("HOME").map(|home| PathBuf::from(home).join(".local/state"));
        variable("XDG_STATE_HOME").map(PathBuf::from).or_else(home)
    };
    let directory = if world.root { None } else { user() };
    directory.unwrap_or_else(|| PathBuf::from("/var/lib")).join("coregate")
}

/// `10.0.0.0/8`, or an address alone. Bits behind the prefix are a mistake somewhere.
fn network(word: Word<'_>, problems: &mut Problems) -> Option<Network> {
    let text = word.as_str();
    let (address, prefix) =
        text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let parsed = address.parse::<IpAddr>().ok().and_then(|address| {
        let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(prefix) => units::digits(prefix).and_then(|prefix| u8::try_from(prefix).ok())?,
        };
        (prefix <= bits).then_some(Network { address, prefix })
    });
    let Some(network) = parsed else {
        let title = format!("`{}` is not a network", word.shown());
        problems.error(title).at(word.at(), "write 10.0.0.0/8 or fd00::/8");
        return None;
    };
    let masked = masked(network);
    if masked != network.address {
        let title = format!("`{}` has bits behind its prefix", word.shown());
        let remark = if word.is_as_written() {
            format!("taken as {masked}/{}", network.prefix)
        } else {
            String::new()
        };
        problems.warning(title).at(word.at(), remark);
    }
    Some(Network { address: masked, ..network })
}

fn masked(network: Network) -> IpAddr {
    let prefix = u32::from(network.prefix);
    match network.address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::load::{
        load_from,
        testing::{check_problems, good},
    };

    const REST: &str = "\nlisten = ':80'\n[routes]\n'/' = 'http://a'\n";

    #[track_caller]
    fn check_wrong(line: &str, expected: &str) {
        check_problems(&format!("{line}{REST}"), &[expected]);
    }

    #[test]
    fn three_lines_are_a_configuration() {
        let config = good("listen = \":8080\"\n[routes]\n\"/\" = \"http://127.0.0.1:3000\"\n");
        assert_eq!((config.listen.len(), config.services.len(), config.routes.len()), (1, 1, 1));
        assert_eq!((config.shards, config.driver), (Shards::Auto, Driver::Auto));
        assert_eq!(config.admin, Some(ADMIN_DEFAULT));
    }

    #[test]
    fn every_key_arrives() {
        let text = "admin = false\nshards = 3\ndriver = 'epoll'\nstate = '/s'\ntrusted_proxies = ['10.0.0.0/8', '::1']";
        let config = good(&format!("{text}{REST}"));
        assert_eq!((config.admin, config.shards, config.driver), (None, Shards::Count(3), Driver::Epoll));
        assert_eq!(config.state, Path::new("/s"));
        let expected = [
            Network { address: "10.0.0.0".parse().unwrap(), prefix: 8 },
            Network { address: "::1".parse().unwrap(), prefix: 128 },
        ];
        assert_eq!(config.trusted_proxies, expected);
    }

    #[test]
    fn a_wrong_value_is_an_error() {
        check_wrong(
            "listn = ':80'",
            "listn -> unknown key `listn` in the configuration [did you mean `listen`?]",
        );
        check_wrong("shards = 0", "0 -> `shards`: 0 is not within 1 and 1024");
        check_wrong("shards = '3'", "'3' -> `shards` cannot be `3` [\"auto\" or a number without quotes]");
        check_wrong("shards = true", "true -> `shards` must be \"auto\" or a number, not a boolean");
        check_wrong("driver = 'uring'", "uring -> `driver` cannot be `uring` [known: auto, io_uring, epoll]");
        check_wrong("state = ''", "'' -> `state` must be a directory");
        check_wrong("admin = true", "true -> `admin` must be an address or false, not a boolean");
        check_wrong("admin = 'unix:/a'", "unix:/a -> `admin` must be an address and a port");
        check_wrong("admin = '127.0.0.1:80'", "127.0.0.1:80 -> `admin` takes the port of listener `:80`");
        check_problems("listen = ':80'\nroutes = 3", &["3 -> `routes` must be a table, not an integer"]);
    }

    #[test]
    fn a_wrong_network_is_an_error() {
        for network in ["10.0.0.0/33", "10.0.0/8", "x", "::/129", "10.0.0.0/+8", ""] {
            let pointed = if network.is_empty() { "''" } else { network };
            let title = format!("`{network}` is not a network [write 10.0.0.0/8 or fd00::/8]");
            check_wrong(&format!("trusted_proxies = '{network}'"), &format!("{pointed} -> {title}"));
        }
        check_wrong(
            "trusted_proxies = '10.1.2.3/8'",
            "10.1.2.3/8 -> `10.1.2.3/8` has bits behind its prefix [taken as 10.0.0.0/8]",
        );
        check_wrong(
            "trusted_proxies = '::1/0'",
            "::1/0 -> `::1/0` has bits behind its prefix [taken as ::/0]",
        );
    }

    #[test]
    fn an_open_admin_page_is_a_warning() {
        check_wrong(
            "admin = ':9180'",
            ":9180 -> the admin page asks for no password and can be reached from other machines \
             [127.0.0.1 keeps it to this one]",
        );
    }

    #[test]
    fn state_is_where_this_user_may_write() {
        let check = |root: bool, variables: &[(&str, &str)], expected: &str| {
            let read = |_: &Path| Ok(REST.to_owned());
            let list = |_: &Path| Ok(Vec::new());
            let env = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            let world = World { read: &read, list: &list, env: &env, root, now: std::time::Duration::ZERO };
            let loaded = load_from(Path::new("c.toml"), &world).unwrap();
            assert_eq!(loaded.config.state, Path::new(expected));
        };
        check(true, &[("HOME", "/root")], "/var/lib/coregate");
        check(false, &[("HOME", "/home/u")], "/home/u/.local/state/coregate");
        check(false, &[("HOME", "/home/u"), ("XDG_STATE_HOME", "/x")], "/x/coregate");
        check(false, &[("HOME", "/home/u"), ("XDG_STATE_HOME", "relative")], "/home/u/.local/state/coregate");
        check(true, &[("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")], "/var/lib/a");
        check(false, &[], "/var/lib/coregate");
    }
}
