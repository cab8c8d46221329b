//! Files → one tree → [`Config`]: includes, references, and the check.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{
    Config, Tls, check,
    include::{self, Included},
    problem::Problems,
    resolve::resolve,
    source::Sources,
};
use crate::clock::Clock;

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
    /// The unix time, for certificates.
    pub now: Duration,
}

/// The configuration in a file, read from this machine.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    let read = |path: &Path| std::fs::read_to_string(path);
    let list = |path: &Path| std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect();
    let env = |name: &str| std::env::var(name).ok();
    load_from(
        path,
        &World {
            read: &read,
            list: &list,
            env: &env,
            root: rustix::process::geteuid().is_root(),
            now: now(),
        },
    )
}

/// The `state` that a file says, or its default, whatever else is wrong; `None` when that cannot be told.
pub fn state_of(path: &Path) -> Option<PathBuf> {
    let read = |path: &Path| std::fs::read_to_string(path);
    let list = |path: &Path| std::fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect();
    let env = |name: &str| std::env::var(name).ok();
    let root = rustix::process::geteuid().is_root();
    let world = World { read: &read, list: &list, env: &env, root, now: Duration::ZERO };
    let Included { tree, mut problems, mut files, .. } = include::read(path, &world);
    let mut tree = tree?;
    resolve(&mut tree, &world, &mut files, &mut problems);
    check::state_of(&tree, &world, &mut problems)
}

/// What the files of `[tls]` say now. A file that is not good keeps what was read from it before; the texts say why.
pub fn refresh_tls(tls: &Tls) -> (Tls, Vec<String>) {
    let read = |path: &Path| std::fs::read_to_string(path);
    let world = World { read: &read, list: &|_| Ok(Vec::new()), env: &|_| None, root: false, now: now() };
    check::refresh_tls(tls, &world)
}

fn now() -> Duration {
    let clock = Clock::start();
    clock.unix(clock.now_us())
}

/// The configuration in a text that depends on nothing else: no files, no variables, not root.
pub fn from_text(text: &str) -> Result<Loaded, Problems> {
    let read = |path: &Path| match path.to_str() {
        Some("config.toml") => Ok(text.to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let list = |_: &Path| Err(io::ErrorKind::NotFound.into());
    let world = World { read: &read, list: &list, env: &|_| None, root: false, now: Duration::ZERO };
    load_from(Path::new("config.toml"), &world)
}

/// The configuration in a file of `world`.
pub fn load_from(path: &Path, world: &World<'_>) -> Result<Loaded, Problems> {
    let Included { tree, sources, mut problems, mut files } = include::read(path, world);
    // What follows from half a file would only hide what is wrong with it.
    let config = match tree {
        Some(mut tree) if problems.errors() == 0 => {
            resolve(&mut tree, world, &mut files, &mut problems);
            let unresolved = problems.len();
            let config = check::config(&tree, &sources, world, &mut files, &mut problems);
            problems.drop_consequences_of(unresolved);
            Some(config)
        }
        _ => None,
    };
    files.sort();
    files.dedup();
    let sources = Arc::new(sources);
    let problems = problems.finish(Arc::clone(&sources), files);
    match config {
        Some(config) if problems.errors() == 0 => {
            Ok(Loaded { config, files: problems.files().to_vec(), warnings: problems, sources })
        }
        _ => Err(problems),
    }
}

#[cfg(test)]
pub(super) mod testing {
    use std::collections::BTreeMap;

    use super::*;

    /// What is wrong with a text, one line each: what is pointed at, the title, the remarks.
    #[track_caller]
    pub(crate) fn check_problems(text: &str, expected: &[&str]) {
        let problems = match from_text(text) {
            Ok(loaded) => loaded.warnings,
            Err(problems) => problems,
        };
        assert_eq!(problems.brief(), expected, "{problems}");
    }

    /// The configuration a text says, without a warning.
    #[track_caller]
    pub(crate) fn good(text: &str) -> Config {
        let loaded = from_text(text).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
        loaded.config
    }

    /// Loads `/etc/c/config.toml` of these files, with `HOST` and `PASSWORD` set.
    pub(crate) fn load_files(files: &[(&str, &str)]) -> Result<Loaded, Problems> {
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
            "BRACES" => Some("{id}".to_owned()),
            "PASSWORD" => Some("hunter2".to_owned()),
            _ => None,
        };
        let now = Duration::from_secs(1_767_225_600); // 2026-01-01
        let world = World { read: &read, list: &list, env: &env, root: true, now };
        load_from(Path::new("/etc/c/config.toml"), &world)
    }

    #[track_caller]
    pub(crate) fn check_error(files: &[(&str, &str)], expected: &str) {
        assert_eq!(load_files(files).unwrap_err().to_string(), expected.trim_start_matches('\n'));
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{check_error, load_files};

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
    fn what_follows_from_a_missing_variable_is_not_said() {
        let text =
            "listen = ':${PORT}'\n[routes]\n'/' = { to = 'http://${NAME}:80/a?b', timeout = '${T}', x = 1 }";
        let problems = load_files(&[("config.toml", text)]).unwrap_err();
        let brief: Vec<_> =
            problems.brief().into_iter().filter(|line| !line.contains("unknown key")).collect();
        assert_eq!(
            brief,
            [
                "${PORT} -> environment variable `PORT` is not set",
                "${NAME} -> environment variable `NAME` is not set",
                "?b -> a service's URL has no query and no fragment",
                "${T} -> environment variable `T` is not set",
            ]
        );
        assert_eq!(problems.errors(), 5);
    }

    #[test]
    fn what_a_reference_brings_is_no_template() {
        let text = "listen = ':80'\n[routes]\n'/{id}' = { body = '{id} ${BRACES} $${' }";
        let loaded = load_files(&[("config.toml", text)]).unwrap();
        let crate::config::Target::Fixed(fixed) = &loaded.config.routes[0].target else { panic!("no reply") };
        let mut body = Vec::new();
        fixed.body.render(&mut body, |_, out| out.push(b'7'));
        assert_eq!(body, b"7 {id} ${");
    }

    #[test]
    fn a_secret_in_a_wrong_template_is_not_shown() {
        let text = "listen = ':80'\n[routes]\n'/' = { body = 'a {x.${PASSWORD}}' }";
        let problems = load_files(&[("config.toml", text)]).unwrap_err();
        assert_eq!(problems.brief(), ["x.${PASSWORD} -> unknown variable in `a {x.${PASSWORD}}`"]);
    }

    #[test]
    fn the_files_to_watch_are_known_also_after_an_error() {
        let files = [("config.toml", "include = 'a.toml'"), ("a.toml", "nonsense")];
        let problems = load_files(&files).unwrap_err();
        let found: Vec<_> = problems.files().iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(found, ["/etc/c/a.toml", "/etc/c/config.toml"]);
    }
}
