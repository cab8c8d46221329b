//! `coregate check`, and `-t` and `-T` of the nginx door.

use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use crate::config::load::load;

/// Where a configuration is looked for if none is named.
const DEFAULT_PATHS: [&str; 2] = ["config.toml", "/etc/coregate/config.toml"];

/// The configuration that is meant: the one named, else the first of the usual ones that exists. The error says what to do when there is
/// none, or when it cannot be opened.
pub fn find(named: Option<&Path>) -> Result<PathBuf, String> {
    let Some(path) = named else {
        let usual = DEFAULT_PATHS.iter().map(Path::new).find(|path| path.exists());
        return usual.map(Path::to_owned).ok_or_else(|| NO_CONFIGURATION.to_owned());
    };
    let word = path.to_string_lossy();
    match File::open(path) {
        Ok(_) => Ok(path.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !word.contains(['.', '/']) => {
            Err(format!("`{word}` is neither a command (run, check, reload, upgrade) nor a file"))
        }
        Err(error) => Err(format!("cannot read {word}: {error}")),
    }
}

const NO_CONFIGURATION: &str =
    "no configuration: neither ./config.toml nor /etc/coregate/config.toml is there. Name one, or write
  listen = \":8080\"
  [routes]
  \"/\" = \"http://127.0.0.1:3000\"";

/// Checks a configuration and says on stderr what is wrong with it; with `print`, it goes to stdout if it is good.
///
/// Returns the exit code: 0 if it can be used, 1 if it has errors, 2 if it cannot be read.
pub fn check(path: Option<&Path>, print: bool) -> u8 {
    let mut err = io::stderr().lock();
    let path = match find(path) {
        Ok(path) => path,
        Err(remedy) => {
            let _ = writeln!(err, "coregate: {remedy}");
            return 2;
        }
    };
    let answer = answer(&path, print, wants_colour(&err));
    // A closed pipe is no reason to answer anything else.
    let _ = err.write_all(answer.err.as_bytes());
    let _ = io::stdout().lock().write_all(answer.out.as_bytes());
    answer.code
}

/// Whether messages are in colour: on a terminal, unless NO_COLOR asks for none (no-color.org).
fn wants_colour(err: &impl IsTerminal) -> bool {
    err.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

struct Answer {
    code: u8,
    out: String,
    err: String,
}

fn answer(path: &Path, print: bool, colour: bool) -> Answer {
    let loaded = match load(path) {
        Ok(loaded) => loaded,
        Err(problems) => {
            let code = if problems.unreadable() { 2 } else { 1 };
            return Answer { code, out: String::new(), err: problems.render(colour) };
        }
    };
    let mut err = if loaded.warnings.is_empty() { String::new() } else { loaded.warnings.render(colour) };
    let routes = counted(loaded.config.routes.len(), "route");
    let services = counted(loaded.config.services.len(), "service");
    err.push_str(&format!("{}: ok ({routes}, {services})\n", path.display()));
    Answer { code: 0, out: if print { loaded.print() } else { String::new() }, err }
}

fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Tests run where Cargo.toml is.

    #[test]
    fn the_file_in_this_directory_comes_first_and_what_is_no_file_is_named() {
        let check = |named: &str, expected: Result<&str, &str>| {
            let found = find(Some(Path::new(named)));
            let found = found.as_ref().map(|path| path.to_str().unwrap()).map_err(String::as_str);
            assert_eq!(found, expected);
        };
        check("Cargo.toml", Ok("Cargo.toml"));
        check("relaod", Err("`relaod` is neither a command (run, check, reload, upgrade) nor a file"));
        check("nope.toml", Err("cannot read nope.toml: No such file or directory (os error 2)"));
        assert_eq!(find(None), Ok(PathBuf::from("config.toml")));
    }

    #[test]
    fn a_good_configuration_is_ok_and_can_be_printed() {
        let answer = answer(Path::new("config.toml"), true, false);
        // What the repository's own file has is not what is tested.
        assert!(answer.code == 0 && answer.err.starts_with("config.toml: ok ("), "{}", answer.err);
        assert!(answer.out.starts_with("# configuration file config.toml:\n# Coregate runs"));
    }

    #[test]
    fn a_wrong_configuration_is_1_and_a_missing_one_2() {
        let wrong = answer(Path::new("Cargo.toml"), true, false);
        assert_eq!((wrong.code, &*wrong.out), (1, ""));
        assert!(
            wrong.err.starts_with("error: unknown key `package` in the configuration\n --> Cargo.toml:1:2\n")
        );
        assert_eq!(answer(Path::new("src/nothing.toml"), true, false).code, 2);
    }
}
