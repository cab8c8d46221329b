//! A scenario: a folder with `load.toml` and one configuration file for each server.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::tokens::Tokens;
use crate::Failure;
use crate::cli::size;

/// What `load.toml` says: the load, and what the upstreams answer.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// One line for the reader of a result.
    pub about: String,
    #[serde(default)]
    pub kind: Kind,
    pub connections: usize,
    #[serde(default = "get")]
    pub method: String,
    /// With `{n}` for the route's number where there are many.
    pub path: String,
    /// Routes that the servers know; requests ask for each in turn. They are spread over `hosts`.
    #[serde(default = "one")]
    pub routes: usize,
    #[serde(default = "one")]
    pub hosts: usize,
    /// `Name: value`
    #[serde(default)]
    pub headers: Vec<String>,
    /// TLS between generator and server, and how connections begin. Plain TCP without it.
    #[serde(default)]
    pub tls: Option<Handshakes>,
    /// What requests show to be let in.
    #[serde(default)]
    pub tokens: Option<Tokens>,
    /// The scenario whose configurations these servers have too.
    #[serde(default)]
    pub like: Option<String>,
    /// Parts of the JSON document that answers are; upstreams then send JSON objects.
    #[serde(default)]
    pub parts: Option<usize>,
    /// HTTP/2 with so many requests at a time on each connection.
    #[serde(default)]
    pub streams: Option<usize>,
    /// Size of a request's body, such as `4k`.
    #[serde(default = "nothing")]
    pub body: String,
    /// Size of every response's body.
    pub response: String,
}

const fn one() -> usize {
    1
}

fn get() -> String {
    "GET".to_owned()
}

fn nothing() -> String {
    "0".to_owned()
}

/// What is done with the load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// As much as goes, then a fixed rate.
    #[default]
    Steady,
    /// Connections that fall silent.
    Idle,
    /// A fixed rate, and reloads.
    Reload,
    /// A fixed rate, and an upstream that dies and comes back.
    Killed,
}

/// What a request over TLS has to do first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Handshakes {
    /// Nothing: connections are kept.
    Kept,
    /// Each has a connection of its own, and a full handshake.
    Full,
    /// Each has a connection of its own, which continues an earlier session.
    Resumed,
}

#[derive(Debug, Clone)]
pub struct Scenario {
    pub name: String,
    pub folder: PathBuf,
    pub load: Load,
    pub body_bytes: usize,
    pub response_bytes: usize,
    /// Host and path of each request in turn.
    pub places: Vec<(String, String)>,
}

impl Scenario {
    /// Reads the scenario `name` below `root`. Says which scenarios there are when there is none of that name.
    pub fn read(root: &Path, name: &str) -> Result<Self, Failure> {
        let folder = root.join(name);
        let file = folder.join("load.toml");
        let text = fs::read_to_string(&file).map_err(|error| {
            let known = names(root).join(", ");
            Failure(format!("scenario `{name}`: {}: {error}; there are: {known}", file.display()))
        })?;
        let broken = |error: String| Failure(format!("{}: {error}", file.display()));
        let load: Load = toml::from_str(&text).map_err(|error| broken(error.to_string()))?;
        Ok(Self {
            name: name.to_owned(),
            folder: load.like.as_ref().map_or(folder, |like| root.join(like)),
            body_bytes: size(&load.body).map_err(broken)?,
            response_bytes: size(&load.response).map_err(broken)?,
            places: places(&load),
            load,
        })
    }

    /// The text of a server's configuration file, with `values` filled in and its routes written out.
    pub fn configuration(&self, file: &str, values: &[(&str, String)]) -> Result<String, Failure> {
        let path = self.folder.join(file);
        let text = fs::read_to_string(&path).map_err(|error| Failure::io(&path, &error))?;
        let text =
            match text.split_once(REPEAT).and_then(|(before, rest)| Some((before, rest.split_once(END)?))) {
                Some((before, (block, after))) => format!("{before}{}{after}", self.repeat(block)),
                None => text,
            };
        Ok(values.iter().fold(text, |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value)))
    }

    /// `block` once for each host, and in it the lines with `{{n}}` once for each of the host's routes.
    fn repeat(&self, block: &str) -> String {
        let mut text = String::new();
        for host in 0..self.load.hosts {
            for line in block.lines().filter(|line| !line.trim().is_empty()) {
                let line = line.replace("{{host}}", &host_name(host));
                if !line.contains("{{n}}") {
                    text += &format!("{line}\n");
                    continue;
                }
                for n in (host..self.load.routes).step_by(self.load.hosts) {
                    text += &format!("{}\n", line.replace("{{n}}", &n.to_string()));
                }
            }
        }
        text
    }

    /// The request's headers, with their names apart.
    pub fn headers(&self) -> Vec<(String, String)> {
        let split = |line: &String| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.trim().to_owned(), value.trim().to_owned())
        };
        let mut headers: Vec<_> = self.load.headers.iter().map(split).collect();
        if self.new_connections() {
            // The server closes first, so that its side keeps the port and ours do not run out.
            headers.push(("Connection".to_owned(), "close".to_owned()));
        }
        headers
    }

    /// Whether servers have only to pass on, over TCP.
    pub fn is_plain(&self) -> bool {
        let Load { tls, tokens, parts, streams, .. } = &self.load;
        tls.is_none() && tokens.is_none() && parts.is_none() && streams.is_none()
    }

    /// Whether `body` is what a server has to answer; the error says what is wrong.
    pub fn is_right(&self, body: &[u8]) -> Result<(), String> {
        let Some(parts) = self.load.parts else {
            let expected = self.response_bytes;
            let right = body.len() == expected;
            return right.then_some(()).ok_or_else(|| format!("{} bytes instead of {expected}", body.len()));
        };
        let document: serde_json::Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        let whole = |part: &serde_json::Value| part.as_object().is_some_and(|part| !part.is_empty());
        let members = document.as_object().filter(|members| members.values().all(whole));
        match members.map(serde_json::Map::len) {
            Some(found) if found == parts => Ok(()),
            Some(found) => Err(format!("{found} parts instead of {parts}")),
            None => Err("its parts are not all JSON objects".to_owned()),
        }
    }

    /// Whether every request has a connection of its own.
    pub fn new_connections(&self) -> bool {
        matches!(self.load.tls, Some(Handshakes::Full | Handshakes::Resumed))
    }
}

fn names(root: &Path) -> Vec<String> {
    let Ok(folders) = fs::read_dir(root) else { return Vec::new() };
    let mut names: Vec<String> = folders
        .filter_map(|folder| folder.ok())
        .filter(|folder| folder.path().join("load.toml").exists())
        .map(|folder| folder.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Marks of a block that is written out for every host.
const REPEAT: &str = "# repeat\n";
const END: &str = "# end";

fn host_name(host: usize) -> String {
    format!("h{host}.example")
}

/// Every route's host and path. Neighbours in time are far apart in the table, as with real clients.
fn places(load: &Load) -> Vec<(String, String)> {
    let stride = 7919; // prime, so that every route comes once
    let place = |turn: usize| {
        let n = turn * stride % load.routes;
        (host_name(n % load.hosts), load.path.replace("{n}", &n.to_string()))
    };
    (0..load.routes).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_in_the_tree_can_be_read() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let names = names(&root);
        assert!(names.len() > 3, "{names:?}");
        for name in names {
            let scenario = Scenario::read(&root, &name).unwrap();
            let upstream = |number| (number, "127.0.0.1:1".to_owned());
            let mut values = ["upstream1", "upstream2", "upstream3", "upstream4"].map(upstream).to_vec();
            values.extend(
                [
                    "front",
                    "admin",
                    "folder",
                    "cert",
                    "key",
                    "cert_and_key",
                    "shared",
                    "modules",
                    "secret",
                    "public",
                ]
                .map(upstream),
            );
            for file in ["coregate.toml", "nginx.conf", "haproxy.cfg"] {
                // Not every server can do everything.
                if !scenario.folder.join(file).exists() {
                    continue;
                }
                let text = scenario.configuration(file, &values).unwrap();
                assert!(!text.contains("{{"), "{name}/{file} has a place that nothing fills");
            }
            let mut places = scenario.places;
            places.sort();
            places.dedup();
            assert_eq!(places.len(), scenario.load.routes, "{name}: a route is asked for twice");
        }
    }
}
