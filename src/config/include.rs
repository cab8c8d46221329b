//! One tree from a file and the files it includes.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use super::{
    check::read::strings,
    load::World,
    problem::Problems,
    raw::{Entry, Place, Table, Value, Word},
    source::Sources,
    toml,
};

/// One configuration file, in bytes.
const FILE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Files that includes may bring in, and how deep they may nest.
const FILES_MAX: usize = 1000;
const DEPTH_MAX: usize = 8;
/// Tables that several files may contribute to.
const SHARED: [&str; 5] = ["auth", "services", "routes", "defaults", "log"];

/// What was read, whether or not it is good.
pub(super) struct Included {
    /// `None` if the file itself could not be read.
    pub tree: Option<Table>,
    pub sources: Sources,
    pub problems: Problems,
    /// Everything to be watched: files, read or not, and directories that a glob looked through.
    pub files: Vec<PathBuf>,
}

/// Reads a file and all it includes.
pub(super) fn read(path: &Path, world: &World<'_>) -> Included {
    let mut loading = Loading {
        world,
        sources: Sources::default(),
        problems: Problems::default(),
        files: Vec::new(),
        open: Vec::new(),
        read: Vec::new(),
    };
    let tree = match (world.read)(path) {
        Ok(text) => Some(loading.file(path, &text)),
        Err(error) => {
            loading.problems.error(format!("cannot read {}: {error}", path.display()));
            loading.problems.set_unreadable();
            loading.files.push(path.to_owned());
            None
        }
    };
    let Loading { sources, problems, files, .. } = loading;
    Included { tree, sources, problems, files }
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
        self.include(&include, path.parent().unwrap_or_else(|| Path::new("")), &mut tree);
        self.open.pop();
        tree
    }

    fn include(&mut self, include: &Entry, base: &Path, tree: &mut Table) {
        for pattern in strings(include, &mut self.problems) {
            for path in self.matching(base, pattern) {
                self.included(&path, pattern.at(), tree);
            }
        }
    }

    /// The files a pattern names: itself, or what is in its directory if its last part has a `*` or `?`, sorted.
    fn matching(&mut self, base: &Path, pattern: Word<'_>) -> Vec<PathBuf> {
        let (directory, name) = pattern.as_str().rsplit_once('/').unwrap_or(("", pattern.as_str()));
        let is_glob = |part: &str| part.contains(['*', '?']);
        let wrong = if is_glob(directory) {
            Some("only the last part of an included path may have a `*` or `?`")
        } else if is_glob(name) && name.contains(['[', '{']) {
            Some("a pattern of included files has `*` and `?`, no `[` or `{`")
        } else {
            None
        };
        if let Some(title) = wrong {
            self.problems.error(title).at(pattern.at(), "");
            return Vec::new();
        }
        if !is_glob(name) {
            return vec![base.join(pattern.as_str())];
        }
        // `rsplit_once` took the slash of `/*.toml`.
        let directory =
            if directory.is_empty() && pattern.as_str().starts_with('/') { "/" } else { directory };
        let directory = base.join(directory);
        let listed = if directory.as_os_str().is_empty() { Path::new(".") } else { &directory };
        self.files.push(listed.to_owned());
        let listing = match (self.world.list)(listed) {
            Ok(listing) => listing,
            // A directory that is not there has no files either: a glob may match nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                let title = format!("cannot list {}: {error}", listed.display());
                self.problems.error(title).at(pattern.at(), "");
                Vec::new()
            }
        };
        let names =
            listing.iter().filter_map(|path| path.file_name()).map(|file| (file, file.to_string_lossy()));
        // As in a shell, hidden files (an editor's, say) have to be asked for.
        let fits = |file: &str| {
            matches(name.as_bytes(), file.as_bytes()) && (name.starts_with('.') || !file.starts_with('.'))
        };
        let mut found: Vec<_> =
            names.filter(|(_, shown)| fits(shown)).map(|(file, _)| directory.join(file)).collect();
        found.sort();
        found
    }

    fn included(&mut self, path: &Path, written: Place, tree: &mut Table) {
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
            self.problems.error(title).at(written, "");
            return;
        }
        match (self.world.read)(path) {
            Ok(text) => {
                let included = self.file(path, &text);
                self.merge(tree, included, true);
            }
            Err(error) => {
                self.files.push(path.to_owned());
                self.problems.error(format!("cannot read {shown}: {error}")).at(written, "included here");
            }
        }
    }

    /// Adds the entries of an included file. Only the tables of [`SHARED`] may be in several.
    fn merge(&mut self, into: &mut Table, from: Table, top: bool) {
        // A set, so that 10,000 routes from a second file do not cost 10,000 walks over the first.
        let known: HashMap<String, usize> =
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
    use crate::config::load::testing::{check_error, load_files};

    #[track_caller]
    fn check_files(files: &[(&str, &str)], expected: &[&str]) {
        let loaded = load_files(files).unwrap();
        let found: Vec<_> = loaded.files.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(found, expected);
        assert_eq!(loaded.warnings.render(false), "\n");
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
 --> /etc/c/config.toml:1:13
  |
1 | include = ["x.toml"]
  |             ^^^^^^ included here
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
 --> /etc/c/a.toml:1:12
  |
1 | include = "config.toml"
  |            ^^^^^^^^^^^
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
    fn a_pattern_that_could_never_match_is_an_error() {
        let check = |include: &str, expected: &str| {
            let problems = load_files(&[("config.toml", &format!("include = {include}"))]).unwrap_err();
            assert_eq!(problems.brief(), [expected]);
        };
        check("'*/x.toml'", "*/x.toml -> only the last part of an included path may have a `*` or `?`");
        check("'[ab]*.toml'", "[ab]*.toml -> a pattern of included files has `*` and `?`, no `[` or `{`");
        check("3", "3 -> `include` must be a string or a list of strings, not an integer");
    }

    #[test]
    fn a_pattern_that_fits_its_own_file_is_an_error() {
        let problems = load_files(&[("config.toml", "include = '*.toml'")]).unwrap_err();
        assert_eq!(problems.brief(), ["*.toml -> /etc/c/config.toml includes itself"]);
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
