//! What `run`'s arguments ask to be sent, and where.

use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;

use crate::Failure;
use crate::cli::Run;
use crate::load::{Expect, Form, Pace, Plan, Requests, Tls};

/// What the arguments ask to be sent, and where.
pub(super) fn plan(arguments: &Run) -> Result<Plan, Failure> {
    let mut urls = arguments.url.clone();
    if let Some(file) = &arguments.urls {
        urls.extend(lines(file)?);
    }
    let parsed: Vec<Url> = urls.iter().map(|url| Url::read(url)).collect::<Result<_, _>>()?;
    let Some(first) = parsed.first() else { return Err(Failure("no URL".to_owned())) };
    if let Some(other) =
        parsed.iter().find(|url| (url.secure, &url.authority) != (first.secure, &first.authority))
    {
        return Err(Failure(format!(
            "all URLs must be on one server: {} and {}; a header `Host: name` asks for others there",
            first.authority, other.authority
        )));
    }
    if arguments.rate.is_some_and(|rate| !(rate.is_finite() && rate > 0.0)) {
        return Err(Failure("--rate must be more than 0".to_owned()));
    }
    if arguments.connections == 0 {
        return Err(Failure("--connections must be more than 0".to_owned()));
    }
    if arguments.streams == 0 {
        return Err(Failure("--streams must be more than 0".to_owned()));
    }
    let body = match (&arguments.body, &arguments.body_file) {
        (Some(text), _) => text.clone().into_bytes(),
        (None, Some(file)) => fs::read(file).map_err(|error| Failure::io(file, &error))?,
        (None, None) => Vec::new(),
    };
    let mut headers = Vec::new();
    for header in &arguments.header {
        let Some((name, value)) = header.split_once(':') else {
            return Err(Failure(format!(
                "header `{header}`: a name and a value with `:` between them are needed"
            )));
        };
        headers.push((name.trim().to_owned(), value.trim().to_owned()));
    }
    if arguments.new_connections {
        // The server closes first, so that its side keeps the port and ours do not run out.
        headers.push(("Connection".to_owned(), "close".to_owned()));
    }
    let places: Vec<(String, String)> =
        parsed.iter().map(|url| (url.authority.clone(), url.path.clone())).collect();
    let form = Form { method: arguments.method.clone(), headers, body };
    let tokens = arguments.tokens.as_deref().map(lines).transpose()?.unwrap_or_default();
    Ok(Plan {
        target: first.address()?,
        requests: Requests::with_tokens(&form, &places, &tokens),
        connections: arguments.connections,
        pace: arguments.rate.map_or(Pace::Closed, |per_second| Pace::Open { per_second }),
        expect: Expect {
            status: arguments.expect,
            body_bytes: arguments.expect_size.map(|size| size as u64),
            body: arguments.expect_body.clone().map(String::into_bytes),
        },
        timeout: arguments.timeout,
        new_connections: arguments.new_connections,
        tls: if first.secure {
            let tls = Tls::new(first.host(), arguments.ca.as_deref(), !arguments.full_handshakes)?;
            Some(if arguments.h2 { tls.for_h2() } else { tls })
        } else {
            None
        },
        streams: arguments.h2.then_some(arguments.streams),
    })
}

/// The lines of a file that are not empty.
fn lines(file: &Path) -> Result<Vec<String>, Failure> {
    let text = fs::read_to_string(file).map_err(|error| Failure::io(file, &error))?;
    let lines: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
    if lines.is_empty() { Err(Failure(format!("{}: nothing in it", file.display()))) } else { Ok(lines) }
}

#[derive(Debug, PartialEq, Eq)]
struct Url {
    secure: bool,
    authority: String,
    path: String,
}

impl Url {
    fn read(text: &str) -> Result<Self, Failure> {
        let plain = text.strip_prefix("http://").map(|rest| (false, rest));
        let Some((secure, rest)) = plain.or_else(|| text.strip_prefix("https://").map(|rest| (true, rest)))
        else {
            return Err(Failure(format!("`{text}`: a URL that starts with http:// or https:// is needed")));
        };
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        if authority.is_empty() || authority.contains('@') {
            return Err(Failure(format!("`{text}`: which host?")));
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        // A fragment is not sent (RFC 9110 §4.2.5).
        let path = path.split('#').next().unwrap_or_default().to_owned();
        Ok(Self { secure, authority: authority.to_owned(), path })
    }

    /// The host without its port, and an IPv6 address without its brackets.
    fn host(&self) -> &str {
        match self.authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => self.authority.split(':').next().unwrap_or_default(),
        }
    }

    fn address(&self) -> Result<SocketAddr, Failure> {
        let last = self.authority.rsplit(']').next().unwrap_or_default();
        let with_port = if last.contains(':') {
            self.authority.clone()
        } else {
            format!("{}:{}", self.authority, if self.secure { 443 } else { 80 })
        };
        let found = with_port.to_socket_addrs().map(|mut addresses| addresses.next());
        match found {
            Ok(Some(address)) => Ok(address),
            Ok(None) => Err(Failure(format!("{with_port}: no address"))),
            Err(error) => Err(Failure(format!("{with_port}: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_and_a_path() {
        let check = |text: &str, authority: &str, path: &str| {
            let url = Url::read(text).unwrap();
            assert_eq!((url.authority.as_str(), url.path.as_str()), (authority, path), "{text}");
        };
        check("http://127.0.0.1:8080", "127.0.0.1:8080", "/");
        check("http://host/a/b?c=d#e", "host", "/a/b?c=d");
        check("http://host?q=1", "host", "/?q=1");
        for text in ["host/path", "ftp://host/", "http:///path", "http://user@host/"] {
            assert!(Url::read(text).is_err(), "{text}");
        }
        assert_eq!(Url::read("https://[::1]:8443/").unwrap().host(), "::1");
        assert_eq!(Url::read("https://a.example:8443/").unwrap().host(), "a.example");
        let address = Url::read("http://[::1]/").unwrap().address().unwrap();
        assert_eq!(address, "[::1]:80".parse().unwrap());
    }

    #[test]
    fn tokens_and_places_take_turns() {
        let form = Form { method: "GET".to_owned(), ..Form::default() };
        let places = [("h".to_owned(), "/a".to_owned()), ("h".to_owned(), "/b".to_owned())];
        let tokens = ["x", "y", "z"].map(str::to_owned);
        let texts = Requests::with_tokens(&form, &places, &tokens).texts;
        let text = |at: usize| String::from_utf8(texts[at].clone()).unwrap();
        assert_eq!(texts.len(), 3);
        assert!(
            text(1).starts_with("GET /b HTTP/1.1\r\n") && text(1).contains("Authorization: Bearer y\r\n")
        );
        assert!(
            text(2).starts_with("GET /a HTTP/1.1\r\n") && text(2).contains("Authorization: Bearer z\r\n")
        );
    }
}
