//! `listen`: a line, a list of lines, or tables.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    read::{self, Fields},
    units,
    url::{self, Host},
};
use crate::config::{
    Address, Listen, keys,
    problem::Problems,
    raw::{Entry, Node, Place, Value, Word},
};

/// nginx's default on Linux; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG_DEFAULT: u32 = 4096;
const BACKLOG_MAX: u32 = 65_535;

const EXAMPLE: &str = "the smallest configuration is
listen = \":8080\"
[routes]
\"/\" = \"http://127.0.0.1:3000\"";

/// All listeners. None at all is an error.
pub(super) fn all(entry: Option<&Entry>, problems: &mut Problems) -> Vec<Listen> {
    let Some(entry) = entry else {
        problems.error("`listen` is missing").help(EXAMPLE);
        return Vec::new();
    };
    let nodes = entry.node.items();
    if nodes.is_empty() {
        problems.error("`listen` is empty").at(entry.node.at, "").help(EXAMPLE);
    }
    let mut found: Vec<(Listen, Place)> = Vec::new();
    for node in nodes {
        let Some(listen) = one(node, problems) else { continue };
        let port_is_free = matches!(listen.address, Address::Tcp(address) if address.port() == 0);
        let same = found.iter().find(|(other, _)| collide(&other.address, &listen.address));
        match same {
            Some((_, first)) if !port_is_free => {
                problems
                    .error("two listeners have the same address")
                    .at(node.at, "")
                    .at(*first, "first here");
            }
            _ => found.push((listen, node.at)),
        }
    }
    found.into_iter().map(|(listen, _)| listen).collect()
}

fn one(node: &Node, problems: &mut Problems) -> Option<Listen> {
    match &node.value {
        Value::String(text) => line(text.word(), problems),
        Value::Table(table) => {
            let fields = Fields::new(table, &keys::LISTEN, problems);
            let Some(entry) = fields.get("address") else {
                problems.error("a listener needs an `address`").at(node.at, "");
                return None;
            };
            let word = read::string(entry, problems)?;
            let (address, tls) = listener(word, problems)?;
            let mut listen = Listen {
                name: word.shown().into(),
                address,
                backlog: BACKLOG_DEFAULT,
                lenient: false,
                tls,
                proxy_protocol: false,
                http2: true,
            };
            listen.backlog =
                fields.or("backlog", listen.backlog, |entry| read::integer(entry, 1..=BACKLOG_MAX, problems));
            listen.lenient = fields.or("lenient", false, |entry| read::boolean(entry, problems));
            listen.proxy_protocol =
                fields.or("proxy_protocol", false, |entry| read::boolean(entry, problems));
            listen.http2 = fields.or("http2", true, |entry| read::boolean(entry, problems));
            Some(listen)
        }
        Value::Integer(port) => {
            let title = format!("`listen` must be an address, not {}", node.value.kind());
            problems.error(title).at(node.at, format!("write \":{port}\""));
            None
        }
        Value::Float(_) | Value::Bool(_) | Value::List(_) => {
            read::wrong_kind("listen", "an address such as \":8080\"", node, problems);
            None
        }
    }
}

/// `:8080 backlog=1024 lenient`.
fn line(line: Word<'_>, problems: &mut Problems) -> Option<Listen> {
    let mut words = line.words();
    let Some(first) = words.next() else {
        problems.error("an empty listen line").at(line.at(), "write \":8080\"");
        return None;
    };
    let place = listener(first, problems);
    let (mut backlog, mut lenient, mut proxy_protocol, mut http2) = (BACKLOG_DEFAULT, false, false, true);
    for word in words {
        let (key, value) = word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value)));
        match (key.as_str(), value) {
            ("lenient", None) => lenient = true,
            ("proxy_protocol", None) => proxy_protocol = true,
            ("http2", Some(value)) if matches!(value.as_str(), "on" | "off") => {
                http2 = value.as_str() == "on"
            }
            ("http2", value) => {
                let at = value.map_or_else(|| word.at(), |value| value.at());
                problems.error("`http2` is on or off").at(at, "write http2=off");
            }
            (flag @ ("lenient" | "proxy_protocol"), Some(value)) => {
                problems.error(format!("`{flag}` takes no value")).at(value.at(), "");
            }
            ("backlog", None) => {
                problems.error("`backlog` needs a value").at(word.at(), "write backlog=1024");
            }
            ("backlog", Some(value)) => {
                let number = units::digits(value.as_str()).and_then(|number| u32::try_from(number).ok());
                match number.filter(|number| (1..=BACKLOG_MAX).contains(number)) {
                    Some(number) => backlog = number,
                    None => {
                        read::out_of_range("backlog", &value.shown(), &(1..=BACKLOG_MAX), problems)
                            .at(value.at(), "");
                    }
                }
            }
            _ => read::unknown_key(key, &keys::LISTEN_FLAGS, problems),
        }
    }
    let (address, tls) = place?;
    Some(Listen { name: first.shown().into(), address, backlog, lenient, tls, proxy_protocol, http2 })
}

/// An address, and whether TLS is spoken there: `https://:443`.
fn listener(word: Word<'_>, problems: &mut Problems) -> Option<(Address, bool)> {
    match url::scheme(word) {
        Some((scheme, rest)) if scheme.as_str() == "https" => Some((plain(rest, 443, problems)?, true)),
        _ => Some((address(word, problems)?, false)),
    }
}

/// `:8080`, `127.0.0.1:8080`, `[::]:80`, `http://…`, `unix:/path`.
pub(super) fn address(word: Word<'_>, problems: &mut Problems) -> Option<Address> {
    let Some((scheme, rest)) = url::scheme(word) else { return plain(word, 80, problems) };
    if scheme.as_str() != "http" {
        let title = format!("a listener cannot speak {}://", scheme.shown());
        problems.error(title).at(scheme.at(), "http:// and https:// are spoken here");
        return None;
    }
    plain(rest, 80, problems)
}

/// What stands behind a scheme.
fn plain(rest: Word<'_>, port_default: u16, problems: &mut Problems) -> Option<Address> {
    if let Some(path) = rest.strip_prefix("unix:") {
        return url::unix(path, problems);
    }
    if let Some(at) = rest.as_str().find(['/', '?', '#', '@']) {
        let surplus = rest.slice(at..rest.as_str().len());
        problems.error("a listener has an address and a port, nothing else").at(surplus.at(), "");
        return None;
    }
    if !rest.as_str().is_empty() && rest.as_str().bytes().all(|byte| byte.is_ascii_digit()) {
        let title = format!("`{}` is not an address", rest.shown());
        problems.error(title).at(rest.at(), format!("write \":{}\"", rest.shown()));
        return None;
    }
    let (host, port) = url::host_and_port(rest, problems)?;
    let port = match port {
        Some(port) => url::port_number(port, problems)?,
        None => port_default,
    };
    let ip = match host {
        Host::Ip(ip) => ip,
        // Both families: the listener takes IPv4 on it as well.
        Host::Any => Ipv6Addr::UNSPECIFIED.into(),
        Host::Name(name) => {
            let title = format!("`{}`: a listener needs an address, not a name", name.shown());
            let problem = problems.error(title);
            if name.as_str() == "localhost" {
                problem.at(name.at(), "write 127.0.0.1 or [::1]");
            } else {
                problem.at(name.at(), "");
            }
            return None;
        }
    };
    Some(Address::Tcp(SocketAddr::new(ip, port)))
}

/// Whether both cannot be bound: the same address, or every IPv4 address beside `[::]`, which has them too.
pub(super) fn collide(a: &Address, b: &Address) -> bool {
    let everywhere = |ip: IpAddr| ip == Ipv4Addr::UNSPECIFIED || ip == Ipv6Addr::UNSPECIFIED;
    match (a, b) {
        (Address::Tcp(a), Address::Tcp(b)) => {
            a == b || a.port() == b.port() && everywhere(a.ip()) && everywhere(b.ip())
        }
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::testing::{check_problems, good};

    const ROUTES: &str = "\n[routes]\n\"/\" = \"http://a\"\n";

    #[track_caller]
    fn check(listen: &str, expected: &[(&str, &str)]) {
        let config = good(&format!("listen = {listen}{ROUTES}"));
        let found: Vec<_> =
            config.listen.iter().map(|one| (&*one.name, format!("{:?}", one.address))).collect();
        let expected: Vec<_> = expected.iter().map(|&(name, address)| (name, address.to_owned())).collect();
        assert_eq!(found, expected);
    }

    #[track_caller]
    fn check_wrong(listen: &str, expected: &[&str]) {
        check_problems(&format!("listen = {listen}{ROUTES}"), expected);
    }

    #[test]
    fn an_address_has_many_forms() {
        check("':8080'", &[(":8080", "Tcp([::]:8080)")]);
        check("'*:8080'", &[("*:8080", "Tcp([::]:8080)")]);
        check("'http://:8080'", &[("http://:8080", "Tcp([::]:8080)")]);
        check("'127.0.0.1:8080'", &[("127.0.0.1:8080", "Tcp(127.0.0.1:8080)")]);
        check("'[::1]:80'", &[("[::1]:80", "Tcp([::1]:80)")]);
        check("'127.0.0.1'", &[("127.0.0.1", "Tcp(127.0.0.1:80)")]);
        check("'unix:/run/x.sock'", &[("unix:/run/x.sock", "Unix(\"/run/x.sock\")")]);
        check("[':80', ':81']", &[(":80", "Tcp([::]:80)"), (":81", "Tcp([::]:81)")]);
        check("{ address = ':80' }", &[(":80", "Tcp([::]:80)")]);
    }

    #[test]
    fn a_narrower_address_may_share_a_port() {
        check("[':80', '127.0.0.1:80']", &[(":80", "Tcp([::]:80)"), ("127.0.0.1:80", "Tcp(127.0.0.1:80)")]);
        check("['127.0.0.1:0', '127.0.0.1:0']", &[("127.0.0.1:0", "Tcp(127.0.0.1:0)"); 2]);
    }

    #[test]
    fn https_speaks_tls_on_port_443() {
        check("'https://'", &[("https://", "Tcp([::]:443)")]);
        check("'https://127.0.0.1:8443'", &[("https://127.0.0.1:8443", "Tcp(127.0.0.1:8443)")]);
        let config = good(&format!("listen = ['https://:443', ':80', 'https://unix:/run/x']{ROUTES}"));
        let tls: Vec<_> = config.listen.iter().map(|listen| listen.tls).collect();
        assert_eq!(tls, [true, false, true]);
    }

    #[test]
    fn flags_follow_the_address_or_are_keys() {
        for listen in ["':80 backlog=7 lenient'", "{ address = ':80', backlog = 7, lenient = true }"] {
            let config = good(&format!("listen = {listen}{ROUTES}"));
            assert_eq!((config.listen[0].backlog, config.listen[0].lenient), (7, true));
            assert!(config.listen[0].http2);
        }
        let config = good(&format!("listen = ':80'{ROUTES}"));
        assert_eq!((config.listen[0].backlog, config.listen[0].lenient), (BACKLOG_DEFAULT, false));
    }

    #[test]
    fn a_wrong_address_is_an_error() {
        check_wrong("8080", &["8080 -> `listen` must be an address, not an integer [write \":8080\"]"]);
        check_wrong("'8080'", &["8080 -> `8080` is not an address [write \":8080\"]"]);
        check_wrong("true", &["true -> `listen` must be an address such as \":8080\", not a boolean"]);
        check_wrong("':80808'", &["80808 -> `80808` is not a port [a number up to 65535]"]);
        check_wrong("':'", &[" -> `` is not a port [a number up to 65535]"]);
        check_wrong("'::1'", &["::1 -> `::1`: an IPv6 address stands in brackets [write [::1]:8080]"]);
        check_wrong("'[::1]80'", &["[::1]80 -> `[::1]80` is not an IPv6 address [write [::1]:8080]"]);
        check_wrong("'10.0.0.256:80'", &["10.0.0.256 -> `10.0.0.256` is neither an address nor a host name"]);
        check_wrong("'app:80'", &["app -> `app`: a listener needs an address, not a name"]);
        check_wrong(
            "'localhost:80'",
            &["localhost -> `localhost`: a listener needs an address, not a name [write 127.0.0.1 or [::1]]"],
        );
        check_wrong("':80/x'", &["/x -> a listener has an address and a port, nothing else"]);
        check_wrong("''", &["'' -> an empty listen line [write \":8080\"]"]);
        check_wrong("{}", &["{} -> a listener needs an `address`"]);
        check_wrong(
            "'unix:x.sock'",
            &["x.sock -> the path of a unix socket must be absolute [write unix:/run/app.sock]"],
        );
        check_wrong(
            "'quic://:443'",
            &["quic -> a listener cannot speak quic:// [http:// and https:// are spoken here]"],
        );
    }

    #[test]
    fn a_wrong_flag_is_an_error() {
        check_wrong(
            "':80 lenint'",
            &["lenint -> unknown key `lenint` in a listen line [did you mean `lenient`?]"],
        );
        check_wrong(
            "':80 reuseport'",
            &[
                "reuseport -> unknown key `reuseport` in a listen line [known are backlog, lenient, proxy_protocol, http2]",
            ],
        );
        check_wrong("':80 backlog'", &["backlog -> `backlog` needs a value [write backlog=1024]"]);
        check_wrong("':80 backlog=0'", &["0 -> `backlog`: 0 is not within 1 and 65535"]);
        check_wrong("':80 proxy_protocol=v2'", &["v2 -> `proxy_protocol` takes no value"]);
        check_wrong("':80 http2=no'", &["no -> `http2` is on or off [write http2=off]"]);
        check_wrong("':80 http2'", &["http2 -> `http2` is on or off [write http2=off]"]);
        check_wrong("':80 lenient=yes'", &["yes -> `lenient` takes no value"]);
        check_wrong(
            "{ address = ':80', backlog = '7' }",
            &["'7' -> `backlog` must be an integer, not a string"],
        );
    }

    #[test]
    fn two_listeners_on_one_address_are_an_error() {
        let expected = ["':80' -> two listeners have the same address [first here]"];
        check_wrong("['http://:80', ':80']", &expected);
        check_wrong("['0.0.0.0', ':80']", &expected);
    }

    #[test]
    fn listen_must_be_there() {
        check_wrong("[]", &[&format!("[] -> `listen` is empty [{EXAMPLE}]")]);
        check_problems("[routes]\n'/' = 'http://a'", &[&format!("`listen` is missing [{EXAMPLE}]")]);
    }
}
