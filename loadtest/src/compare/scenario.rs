//! A scenario: a folder with `load.toml` and one configuration file for each server.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::cli::size;

/// What `load.toml` says: the load, and what the upstreams answer.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// One line for the reader of a result.
    pub about: String,
    pub connections: usize,
    #[serde(default = "get")]
    pub method: String,
    pub path: String,
    /// `Name: value`
    #[serde(default)]
    pub headers: Vec<String>,
    /// Size of a request's body, such as `4k`.
    #[serde(default = "nothing")]
    pub body: String,
    /// Size of every response's body.
    pub response: String,
}

fn get() -> String {
    "GET".to_owned()
}

fn nothing() -> String {
    "0".to_owned()
}

#[derive(Debug, Clone)]
pub struct Scenario {
    pub name: String,
    pub folder: PathBuf,
    pub load: Load,
    pub body_bytes: usize,
    pub response_bytes: usize,
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
            folder,
            body_bytes: size(&load.body).map_err(broken)?,
            response_bytes: size(&load.response).map_err(broken)?,
            load,
        })
    }

    /// The request's headers, with their names apart.
    pub fn headers(&self) -> Vec<(String, String)> {
        let split = |line: &String| {
            let (name, value) = line.split_once(':').unwrap_or((line, ""));
            (name.trim().to_owned(), value.trim().to_owned())
        };
        self.load.headers.iter().map(split).collect()
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

/// Replaces `{{name}}` in `text` by its value. A name without a value stays, and the server will complain about it.
pub fn fill(text: &str, values: &[(&str, String)]) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{{{name}}}}}"), value))
}
