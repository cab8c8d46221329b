//! `resolver`: who is asked for the addresses of services.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::read;
use crate::config::{Resolver, problem::Problems, raw::Entry, raw::Word};

const DNS_PORT: u16 = 53;
const SERVERS_MAX: usize = 8;
const VALID_MIN: Duration = Duration::from_secs(1);
const VALID_MAX: Duration = Duration::from_secs(24 * 3600);

/// nginx's words: addresses, `valid=`, `ipv4=off` and `ipv6=off`, in one string or several.
pub(super) fn resolver(entry: &Entry, problems: &mut Problems) -> Resolver {
    let mut resolver = Resolver::default();
    for line in read::strings(entry, problems) {
        for word in line.words() {
            match word.split_once('=') {
                Some((key, value)) => flag(key, value, &mut resolver, problems),
                None => resolver.servers.extend(server(word, problems)),
            }
        }
    }
    if !resolver.ipv4 && !resolver.ipv6 {
        problems.error("a `resolver` without IPv4 and IPv6 finds nothing").at(entry.node.at, "");
    }
    if resolver.servers.len() > SERVERS_MAX {
        let title = format!("{} servers in `resolver`", resolver.servers.len());
        problems.error(title).at(entry.node.at, format!("at most {SERVERS_MAX}"));
    }
    resolver
}

fn server(word: Word<'_>, problems: &mut Problems) -> Option<SocketAddr> {
    let text = word.as_str();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let address = text.parse().ok().or_else(|| {
        let address: IpAddr = bare.parse().ok()?;
        Some(SocketAddr::new(address, DNS_PORT))
    });
    if address.is_none() {
        let title = format!("`{}` is not the address of a name server", word.shown());
        problems.error(title).at(word.at(), "write 10.0.0.2, 127.0.0.1:5353 or [::1]:53");
    }
    address
}

fn flag(key: Word<'_>, value: Word<'_>, resolver: &mut Resolver, problems: &mut Problems) {
    match (key.as_str(), value.as_str()) {
        ("valid", _) => {
            resolver.valid = read::duration_in("valid", value, VALID_MIN..=VALID_MAX, problems);
        }
        ("ipv4", on @ ("on" | "off")) => resolver.ipv4 = on == "on",
        ("ipv6", on @ ("on" | "off")) => resolver.ipv6 = on == "on",
        ("ipv4" | "ipv6", _) => {
            problems.error(format!("`{}` is on or off", key.as_str())).at(value.at(), "");
        }
        _ => {
            let title = format!("`resolver` has no `{}`", key.shown());
            problems.error(title).at(key.at(), "known: valid=30s, ipv4=off, ipv6=off");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::testing::{check_problems, good};

    fn text(resolver: &str) -> String {
        format!("listen = ':80'\nresolver = {resolver}\n[routes]\n'/' = 'http://a'\n")
    }

    #[track_caller]
    fn check_wrong(resolver: &str, expected: &str) {
        check_problems(&text(resolver), &[expected]);
    }

    #[test]
    fn servers_have_a_port_or_53() {
        let check = |resolver: &str, expected: &[&str]| {
            let servers: Vec<_> =
                good(&text(resolver)).resolver.servers.iter().map(SocketAddr::to_string).collect();
            assert_eq!(servers, expected);
        };
        check("'127.0.0.1:5353'", &["127.0.0.1:5353"]);
        check("'10.0.0.2 10.0.0.3'", &["10.0.0.2:53", "10.0.0.3:53"]);
        check("['::1', '[fd00::1]', '[::1]:5353']", &["[::1]:53", "[fd00::1]:53", "[::1]:5353"]);
        check("'valid=30s'", &[]);
    }

    #[test]
    fn flags_are_nginxs() {
        let resolver = good(&text("'10.0.0.2 valid=30s ipv6=off'")).resolver;
        assert_eq!(
            (resolver.valid, resolver.ipv4, resolver.ipv6),
            (Some(Duration::from_secs(30)), true, false)
        );
        assert_eq!(good("listen = ':80'\n[routes]\n'/' = 'http://a'\n").resolver, Resolver::default());
    }

    #[test]
    fn a_wrong_resolver_is_an_error() {
        let remedy = "[write 10.0.0.2, 127.0.0.1:5353 or [::1]:53]";
        check_wrong(
            "'dns.example'",
            &format!("dns.example -> `dns.example` is not the address of a name server {remedy}"),
        );
        check_wrong("3", "3 -> `resolver` must be a string or a list of strings, not an integer");
        check_wrong("'::1 valid=5'", "5 -> `valid`: `5` is not a duration [the unit is missing: 5s]");
        check_wrong("'::1 valid=1ms'", "1ms -> `valid`: 1ms is not within 1s and 1d");
        check_wrong("'::1 ipv6=no'", "no -> `ipv6` is on or off");
        check_wrong(
            "'::1 zone=x'",
            "zone -> `resolver` has no `zone` [known: valid=30s, ipv4=off, ipv6=off]",
        );
        check_wrong(
            "'::1 ipv4=off ipv6=off'",
            "'::1 ipv4=off ipv6=off' -> a `resolver` without IPv4 and IPv6 finds nothing",
        );
    }
}
