//! Addresses: `host:port`, `http://host:port/prefix`, `unix:/path`.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use super::units;
use crate::config::{Address, Speaks, problem::Problems, raw::Word};

/// Bytes of a socket's path: `sun_path` of unix(7) less its NUL.
const UNIX_PATH_MAX: usize = 107;

/// Where a service's URL points.
pub(super) struct Url {
    pub address: Address,
    /// As the Host header would have it.
    pub authority: Arc<str>,
    /// The path, without a trailing slash.
    pub prefix: Arc<str>,
    /// The host of `https://`.
    pub tls: Option<Arc<str>>,
    pub speaks: Speaks,
}

/// Whether a route's target is an address, as against the name of a service.
pub(super) fn is_url(text: &str) -> bool {
    text.contains("://") || text.starts_with("unix:")
}

/// The URL of a service; what is wrong with it becomes a problem.
pub(super) fn service(word: Word<'_>, problems: &mut Problems) -> Option<Url> {
    if let Some(path) = word.strip_prefix("unix:") {
        return unix_service(path, problems);
    }
    let Some((scheme, rest)) = scheme(word) else {
        let title = format!("`{}` is not a URL", word.shown());
        problems.error(title).at(word.at(), format!("write `http://{}`", word.shown()));
        return None;
    };
    let (port_default, is_tls, speaks) = match scheme.as_str() {
        "http" => (80, false, Speaks::Http1),
        "h2" => (80, false, Speaks::Http2),
        "https" => (443, true, Speaks::Either),
        _ => {
            let title = format!("a service cannot be reached by {}://", scheme.shown());
            problems
                .error(title)
                .at(scheme.at(), "http://, h2://, https:// and amqp:// are spoken to services");
            return None;
        }
    };
    if let Some(path) = rest.strip_prefix("unix:") {
        if is_tls {
            let title = "a service on a unix socket is not spoken to over TLS";
            problems.error(title).at(scheme.at(), "write http://unix:…");
            return None;
        }
        return unix_service(path, problems).map(|url| Url { speaks, ..url });
    }
    let path_start = rest.as_str().find(['/', '?', '#']).unwrap_or(rest.as_str().len());
    let authority = rest.slice(0..path_start);
    let prefix = prefix(rest.slice(path_start..rest.as_str().len()), problems)?;
    if let Some(at) = authority.as_str().rfind('@') {
        let title = "user information in a URL is not sent to a service";
        problems.error(title).at(authority.slice(0..at).at(), "");
        return None;
    }
    let (host, port) = host_and_port(authority, problems)?;
    let port = match port {
        None => port_default,
        Some(port) => port_number(port, problems).filter(|&number| {
            if number == 0 {
                problems.error("a server cannot have port 0").at(port.at(), "");
            }
            number != 0
        })?,
    };
    let (address, host) = match host {
        Host::Ip(ip @ IpAddr::V6(_)) => (Address::Tcp(SocketAddr::new(ip, port)), format!("[{ip}]")),
        Host::Ip(ip @ IpAddr::V4(_)) => (Address::Tcp(SocketAddr::new(ip, port)), ip.to_string()),
        Host::Any => {
            problems.error(format!("`{}` names no host", word.shown())).at(authority.at(), "");
            return None;
        }
        Host::Name(name) => {
            let name = name.as_str().to_ascii_lowercase();
            (Address::Name(name.as_str().into(), port), name)
        }
    };
    // A certificate is for an address without its brackets.
    let tls = is_tls.then(|| host.trim_matches(['[', ']']).into());
    let authority = if port == port_default { host } else { format!("{host}:{port}") };
    Some(Url { address, authority: authority.into(), prefix, tls, speaks })
}

/// `/path/sock[:/prefix]`, as nginx writes it.
fn unix_service(rest: Word<'_>, problems: &mut Problems) -> Option<Url> {
    let (path, prefix_) = match rest.split_once(':') {
        None => (rest, None),
        Some((path, prefix)) => (path, Some(prefix)),
    };
    let prefix = match prefix_ {
        None => "".into(),
        Some(word) => prefix(word, problems)?,
    };
    // nginx sends the same name for a socket.
    let address = unix(path, problems)?;
    Some(Url { address, authority: "localhost".into(), prefix, tls: None, speaks: Speaks::Http1 })
}

/// The absolute path of a socket.
pub(super) fn unix(path: Word<'_>, problems: &mut Problems) -> Option<Address> {
    let text = path.as_str();
    let what = if !text.starts_with('/') {
        "must be absolute"
    } else if text.len() > UNIX_PATH_MAX {
        "is longer than 107 bytes"
    } else if text.ends_with('/') || text.contains('\0') {
        "is no file name"
    } else {
        return Some(Address::Unix(PathBuf::from(text)));
    };
    problems.error(format!("the path of a unix socket {what}")).at(path.at(), "write unix:/run/app.sock");
    None
}

/// The path of a service's URL: literal, and already in the form in which it is sent.
fn prefix(word: Word<'_>, problems: &mut Problems) -> Option<Arc<str>> {
    let text = word.as_str();
    let wrong = if let Some(at) = text.find(['?', '#']) {
        Some((at..text.len(), "a service's URL has no query and no fragment"))
    } else if !text.is_empty() && !text.starts_with('/') {
        Some((0..text.len(), "the path of a URL begins with a slash"))
    } else if let Some((at, c)) =
        text.char_indices().find(|&(_, c)| !c.is_ascii_graphic() || "\"<>\\^`{}|".contains(c))
    {
        Some((at..at + c.len_utf8(), "a character that must be percent-encoded in a path"))
    } else if text.split('/').any(|segment| matches!(segment, "." | "..")) || text.contains("//") {
        Some((0..text.len(), "a path without empty segments, `.` and `..` is wanted here"))
    } else {
        None
    };
    if let Some((range, title)) = wrong {
        problems.error(title).at(word.slice(range).at(), "");
        return None;
    }
    Some(text.trim_end_matches('/').into())
}

pub(super) fn scheme(word: Word<'_>) -> Option<(Word<'_>, Word<'_>)> {
    let at = word.as_str().find("://")?;
    Some((word.slice(0..at), word.slice(at + 3..word.as_str().len())))
}

pub(super) enum Host<'a> {
    Ip(IpAddr),
    Name(Word<'a>),
    /// None written, or `*`.
    Any,
}

/// `host`, `host:port`, `[::1]:port`, `:port`.
pub(super) fn host_and_port<'a>(
    word: Word<'a>,
    problems: &mut Problems,
) -> Option<(Host<'a>, Option<Word<'a>>)> {
    let text = word.as_str();
    if let Some(inside) = text.strip_prefix('[') {
        let close = inside.find(']').map(|at| at + 1);
        let address = close.and_then(|close| text[1..close].parse().ok());
        let behind = close.map(|close| word.slice(close + 1..text.len()));
        let port = behind.and_then(|behind| behind.strip_prefix(":"));
        return match (address, behind) {
            (Some(ip), Some(behind)) if port.is_some() || behind.as_str().is_empty() => {
                Some((Host::Ip(IpAddr::V6(ip)), port))
            }
            _ => {
                let title = format!("`{}` is not an IPv6 address", word.shown());
                problems.error(title).at(word.at(), "write [::1]:8080");
                None
            }
        };
    }
    if text.parse::<std::net::Ipv6Addr>().is_ok() {
        let title = format!("`{}`: an IPv6 address stands in brackets", word.shown());
        problems.error(title).at(word.at(), format!("write [{}]:8080", word.shown()));
        return None;
    }
    let (host, port) = match word.split_once(':') {
        None => (word, None),
        Some((host, port)) => (host, Some(port)),
    };
    let name = host.as_str();
    if name.is_empty() || name == "*" {
        return Some((Host::Any, port));
    }
    if let Ok(ip) = name.parse() {
        return Some((Host::Ip(IpAddr::V4(ip)), port));
    }
    let labels = || name.strip_suffix('.').unwrap_or(name).split('.');
    let labels_fit = labels().all(|label| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    });
    // What looks like an address but is none must not go to DNS (RFC 3696 §2: a top-level domain is not all digits).
    let numeric = labels().next_back().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if !labels_fit || numeric || name.len() > 253 {
        let title = format!("`{}` is neither an address nor a host name", host.shown());
        problems.error(title).at(host.at(), "");
        return None;
    }
    Some((Host::Name(host), port))
}

pub(super) fn port_number(word: Word<'_>, problems: &mut Problems) -> Option<u16> {
    let number = units::digits(word.as_str()).and_then(|number| u16::try_from(number).ok());
    if number.is_none() {
        problems.error(format!("`{}` is not a port", word.shown())).at(word.at(), "a number up to 65535");
    }
    number
}
