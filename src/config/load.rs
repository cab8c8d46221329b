//! Files → one tree → [`Config`]: includes, references, and the check.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Config, check,
    problem::Problems,
    raw::{Entry, Node, Table, Value},
    resolve::resolve,
    source::Sources,
    toml,
};

/// One configuration file, in bytes.
const FILE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Files that includes may bring in, and how deep they may nest.
const FILES_MAX: usize = 1000;
const DEPTH_MAX: usize = 8;
/// Tables that several files may contribute to.
const SHARED: [&str; 4] = ["services", "routes", "defaults", "log"];

/// A checked configuration and what it was made from.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// Everything that was read, to be watched: files, and directories that a glob looked through.
    pub files: Vec<PathBuf>,
    /// Warnings only.
    pub warnings: Problems,
    pub(super) sources: Arc<Sources>,
}

/// What a configuration depends on besides its own text.
pub struct World<'a> {
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
    /// The files in a directory, in any order.
    pub list: &'a dyn Fn(&Path) -> io::Result<Vec<PathBuf>>,
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Whether the process runs as root, which decides where `state` is.
    pub root: bool,
}

/// The configuration in a file, read from this machine.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let read = |path: &Path| std::fs::read_to_string(path);
    let list = |path: &Path| std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect();
    let env = |name: &str| std::env::var(name).ok();
    load_from(
        path,
        &World { read: &read, list: &list, env: &env, root: rustix::process::geteuid().is_root() },
    )
}

/// The configuration in a text that depends on nothing else: no files, no variables, not root.
pub fn from_text(text: &str) -> Result<Loaded, Problems> {
    let read = |path: &Path| match path.to_str() {
        Some("config.toml") => Ok(text.to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let list = |_: &Path| Err(io::ErrorKind::NotFound.into());
    load_from(Path::new("config.toml"), &World { read: &read, list: &list, env: &|_| None, root: false })
}

/// The configuration in a file of `world`.
pub fn load_from(path: &Path, world: &World<'_>) -> Result<Loaded, Problems> {
    let mut loading = Loading {
        world,
        sources: Sources::default(),
        problems: Problems::default(),
        files: Vec::new(),
        open: Vec::new(),
        read: Vec::new(),
    };
    let tree = match (world.read)(path) {
        Ok(text) => loading.file(path, &text),
        Err(error) => {
            loading.problems.error(format!("cannot read {}: {error}", path.display()));
            loading.problems.set_unreadable();
            loading.files.push(path.to_owned());
            return Err(loading.problems);
        }
    };
    let Loading { sources, mut problems, mut files, .. } = loading;
    // What follows from half a file would only hide what is wrong with it.
    let config = (problems.errors() == 0).then(|| {
        let mut tree = tree;
        resolve(&mut tree, world, &mut files, &mut problems);
        check::config(&tree, &sources, world, &mut problems)
    });
    files.sort();
    files.dedup();
    let sources = Arc::new(sources);
    let problems = problems.finish(Arc::clone(&sources));
    match config.flatten() {
        Some(config) if problems.errors() == 0 => Ok(Loaded { config, files, warnings: problems, sources }),
        _ => Err(problems),
    }
}

struct Loading<'a> {
    world: &'a World<'a>,
    sources: Sources,
    problems: Problems,
    files: Vec<PathBuf>,
    /// The files whose includes are being read, outermost first.
    open: Vec<PathBuf>,
    /// All that were read.
    read: Vec<PathBuf>,
}

impl Loading<'_> {
    /// The tree of one file and of all it includes.
    fn file(&mut self, path: &Path, text: &str) -> Table {
        self.files.push(path.to_owned());
        self.read.push(path.to_owned());
        if text.len() > FILE_BYTES_MAX {
            self.problems.error(format!("{} is larger than 64 MiB", path.display()));
            return Table::default();
        }
        let source = self.sources.add(&path.display().to_string(), text);
        let mut tree = toml::parse(source, text, &mut self.problems);
        let Some(at) = tree.entries.iter().position(|entry| entry.key.as_str() == "include") else {
            return tree;
        };
        let include = tree.entries.remove(at);
        self.open.push(path.to_owned());
        self.include(&include, path.parent().unwrap_or(Path::new("")), &mut tree);
        self.open.pop();
        tree
    }

    fn include(&mut self, include: &Entry, directory: &Path, tree: &mut Table) {
        let patterns = match &include.node.value {
            Value::List(list) => list.iter().collect(),
            Value::String(_) => vec![&include.node],
            _ => {
                let title =
                    format!("`include` must be a list of file names, not {}", include.node.value.kind());
                self.problems.error(title).at(include.node.at, "write [\"conf.d/*.toml\"]");
                return;
            }
        };
        for pattern in patterns {
            let Value::String(text) = &pattern.value else {
                let title =
                    format!("`include` must be a list of file names, not of {}", pattern.value.kind());
                self.problems.error(title).at(pattern.at, "");
                continue;
            };
            for path in self.matching(&directory.join(text.as_str()), pattern) {
                self.included(&path, pattern, tree);
            }
        }
    }

    /// The files a pattern names: itself, or what is in its directory if its last part has a `*` or `?`, sorted.
    fn matching(&mut self, pattern: &Path, written: &Node) -> Vec<PathBuf> {
        let is_glob = |part: &str| part.contains(['*', '?']);
        let directory = pattern.parent().unwrap_or(Path::new(""));
        if is_glob(&directory.to_string_lossy()) {
            self.problems.error("only the last part of an included path may have a `*`").at(written.at, "");
            return Vec::new();
        }
        let name = pattern.file_name().unwrap_or_default().to_string_lossy();
        if !is_glob(&name) {
            return vec![pattern.to_owned()];
        }
        self.files.push(directory.to_owned());
        let mut found = match (self.world.list)(directory) {
            Ok(found) => found,
            // A directory that is not there has no files either: a glob may match nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let title = format!("cannot list {}: {error}", directory.display());
                self.problems.error(title).at(written.at, "");
                Vec::new()
            }
        };
        found.retain(|path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            // As in a shell, hidden files (an editor's, say) have to be asked for.
            matches(name.as_bytes(), file.as_bytes()) && (name.starts_with('.') || !file.starts_with('.'))
        });
        found.sort();
        found
    }

    fn included(&mut self, path: &Path, written: &Node, tree: &mut Table) {
        let shown = path.display();
        let refusal = if self.open.iter().any(|open| open == path) {
            Some(format!("{shown} includes itself"))
        } else if self.read.iter().any(|read| read == path) {
            Some(format!("{shown} is included twice"))
        } else if self.open.len() > DEPTH_MAX {
            Some(format!("{shown}: includes nest deeper than {DEPTH_MAX}"))
        } else if self.read.len() > FILES_MAX {
            Some(format!("{shown}: more than {FILES_MAX} included files"))
        } else {
            None
        };
        if let Some(title) = refusal {
            self.problems.error(title).at(written.at, "");
            return;
        }
        match (self.world.read)(path) {
            Ok(text) => {
                let included = self.file(path, &text);
                self.merge(tree, included, true);
            }
            Err(error) => {
                self.files.push(path.to_owned());
                self.problems.error(format!("cannot read {shown}: {error}")).at(written.at, "included here");
            }
        }
    }

    /// Adds the entries of an included file. Only the tables of [`SHARED`] may be in several.
    fn merge(&mut self, into: &mut Table, from: Table, top: bool) {
        // A set, so that 10,000 routes from a second file do not cost 10,000 walks over the first.
        let known: std::collections::HashMap<String, usize> =
            into.entries.iter().enumerate().map(|(at, entry)| (entry.key.as_str().to_owned(), at)).collect();
        for entry in from.entries {
            let key = entry.key.as_str();
            let Some(&at) = known.get(key) else {
                into.entries.push(entry);
                continue;
            };
            let first = &mut into.entries[at];
            match (&mut first.node.value, entry.node.value) {
                (Value::Table(first), Value::Table(second)) if top && SHARED.contains(&key) => {
                    self.merge(first, second, false);
                }
                _ => {
                    let title = format!("`{key}` is defined twice");
                    self.problems.error(title).at(entry.key.at(), "").at(first.key.at(), "first here");
                }
            }
        }
    }
}

/// Whether a file name fits a pattern of literals, `*` (any bytes) and `?` (one byte).
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    // Where to go on if what follows the last `*` does not fit: that star, and one more byte given to it.
    let mut retry = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(&byte) if byte == b'?' || byte == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((star, given)) = retry else { return false };
                retry = Some((star, given + 1));
                p = star;
                n = given + 1;
            }
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Loads `/etc/c/config.toml` of these files, with `HOST` and `PASSWORD` set.
    fn load_files(files: &[(&str, &str)]) -> Result<Loaded, Problems> {
        let files: BTreeMap<PathBuf, &str> =
            files.iter().map(|&(name, text)| (Path::new("/etc/c").join(name), text)).collect();
        let read = |path: &Path| {
            files.get(path).map(|&text| text.to_owned()).ok_or_else(|| io::ErrorKind::NotFound.into())
        };
        let list = |directory: &Path| {
            Ok(files.keys().filter(|path| path.parent() == Some(directory)).cloned().rev().collect())
        };
        let env = |name: &str| match name {
            "HOST" => Some("10.0.0.7".to_owned()),
            "PASSWORD" => Some("hunter2".to_owned()),
            _ => None,
        };
        load_from(Path::new("/etc/c/config.toml"), &World { read: &read, list: &list, env: &env, root: true })
    }

    #[track_caller]
    fn check_files(files: &[(&str, &str)], expected: &[&str]) {
        let loaded = load_files(files).unwrap();
        let found: Vec<_> = loaded.files.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(found, expected);
        assert_eq!(loaded.warnings.render(false), "\n");
    }

    #[track_caller]
    fn check_error(files: &[(&str, &str)], expected: &str) {
        assert_eq!(load_files(files).unwrap_err().to_string(), expected.trim_start_matches('\n'));
    }

    const FRONT: &str = "include = [\"conf.d/*.toml\"]\nlisten = \":80\"\n";

    #[test]
    fn included_files_add_to_the_shared_tables() {
        check_files(
            &[
                (
                    "config.toml",
                    "include = [\"conf.d/*.toml\", \"more.toml\"]\nlisten = \":80\"\n[routes]\n\"/\" = \"a\"",
                ),
                ("conf.d/a.toml", "[services]\na = \"http://a\"\n[defaults]\ntimeout = \"1s\""),
                (
                    "conf.d/b.toml",
                    "[services]\nb = \"http://b\"\n[routes]\n\"/b\" = \"b\"\n[defaults]\nconnect = \"1s\"",
                ),
                ("conf.d/.hidden.toml", "nonsense"),
                ("conf.d/readme.md", "nonsense"),
                ("more.toml", "include = \"deep.toml\""),
                ("deep.toml", "shards = 2"),
            ],
            &[
                "/etc/c/conf.d",
                "/etc/c/conf.d/a.toml",
                "/etc/c/conf.d/b.toml",
                "/etc/c/config.toml",
                "/etc/c/deep.toml",
                "/etc/c/more.toml",
            ],
        );
    }

    #[test]
    fn a_glob_may_match_nothing() {
        let routes = "[routes]\n\"/\" = \"http://a\"";
        check_files(
            &[("config.toml", &format!("{FRONT}{routes}"))],
            &["/etc/c/conf.d", "/etc/c/config.toml"],
        );
    }

    #[test]
    fn a_missing_file_is_an_error() {
        check_error(
            &[("config.toml", "include = [\"x.toml\"]\nlisten = \":80\"")],
            r#"
error: cannot read /etc/c/x.toml: entity not found
 --> /etc/c/config.toml:1:12
  |
1 | include = ["x.toml"]
  |            ^^^^^^^^ included here
1 error
"#,
        );
    }

    #[test]
    fn a_key_in_two_files_is_an_error_that_shows_both() {
        check_error(
            &[
                ("config.toml", &format!("{FRONT}[services]\na = \"http://a\"\n")),
                ("conf.d/a.toml", "listen = \":81\"\n[services]\nb = \"http://b\"\na = \"http://c\"\n"),
            ],
            r#"
error: `listen` is defined twice
 --> /etc/c/conf.d/a.toml:1:1
  |
1 | listen = ":81"
  | ^^^^^^
  |
 ::: /etc/c/config.toml:2:1
  |
2 | listen = ":80"
  | ------ first here
error: `a` is defined twice
 --> /etc/c/conf.d/a.toml:4:1
  |
4 | a = "http://c"
  | ^
  |
 ::: /etc/c/config.toml:4:1
  |
4 | a = "http://a"
  | - first here
2 errors
"#,
        );
    }

    #[test]
    fn an_include_that_comes_back_is_an_error() {
        check_error(
            &[
                ("config.toml", "include = \"a.toml\"\nlisten = \":80\""),
                ("a.toml", "include = \"config.toml\""),
            ],
            r#"
error: /etc/c/config.toml includes itself
 --> /etc/c/a.toml:1:11
  |
1 | include = "config.toml"
  |           ^^^^^^^^^^^^^
1 error
"#,
        );
    }

    #[test]
    fn includes_nest_up_to_a_bound() {
        let names: Vec<_> = (0..=9).map(|depth| format!("{depth}.toml")).collect();
        let texts: Vec<_> = names.iter().skip(1).map(|name| format!("include = \"{name}\"")).collect();
        let mut files = vec![("config.toml", "include = \"0.toml\"")];
        files.extend(names.iter().zip(&texts).map(|(name, text)| (&**name, &**text)));
        let problems = load_files(&files).unwrap_err();
        assert_eq!(problems.iter().next().unwrap().title, "/etc/c/8.toml: includes nest deeper than 8");
    }

    #[test]
    fn a_file_that_is_not_there_is_no_configuration() {
        let problems = load_files(&[]).unwrap_err();
        assert!(problems.unreadable());
        assert_eq!(
            problems.to_string(),
            "error: cannot read /etc/c/config.toml: entity not found\n1 error\n"
        );
    }

    #[test]
    fn no_secret_is_ever_shown() {
        let good = "listen = \":80\"\n[routes]\n\"/\" = \"http://${HOST}/${PASSWORD}\"\n";
        let loaded = load_files(&[("config.toml", good)]).unwrap();
        assert_eq!(loaded.print(), format!("# configuration file /etc/c/config.toml:\n{good}\n"));
        assert_eq!(&*loaded.config.services[0].endpoints[0].url, "http://${HOST}/${PASSWORD}");
        assert_eq!(&*loaded.config.services[0].endpoints[0].prefix, "/hunter2");

        check_error(
            &[(
                "config.toml",
                "listen = \":80\"\n[routes]\n\"/\" = \"amqp://u:${PASSWORD}@${HOST} x=${PASSWORD}\"\n\"/x\" = \"http://u:hunter3@h\"\n\"/y\" = { to = \"http://a\", timeout = \"${PASSWORD}\" }",
            )],
            r#"
error: a server's flags belong into [services]
 --> /etc/c/config.toml:3:37
  |
3 | "/" = "amqp://u:${PASSWORD}@${HOST} x=${PASSWORD}"
  |                                     ^^^^^^^^^^^^^ a route has a service's name or a URL alone
error: user information in a URL is not sent to a service
 --> /etc/c/config.toml:4:16
  |
4 | "/x" = "http://u:*******@h"
  |                ^^^^^^^^^
error: `timeout`: `${PASSWORD}` is not a duration
 --> /etc/c/config.toml:5:38
  |
5 | "/y" = { to = "http://a", timeout = "${PASSWORD}" }
  |                                      ^^^^^^^^^^^ write a number and ms, s, m, h or d: 400ms, 2s, 30d
3 errors
"#,
        );
    }

    #[test]
    fn a_glob_is_a_shells() {
        let check = |pattern: &str, name: &str, expected| {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        };
        check("*.toml", "a.toml", true);
        check("*.toml", ".toml", true);
        check("*.toml", "a.toml~", false);
        check("a*b*c", "axxbxbyc", true);
        check("a*b*c", "axxbxby", false);
        check("?.toml", "ab.toml", false);
        check("", "", true);
        check("**", "x", true);
    }
}
