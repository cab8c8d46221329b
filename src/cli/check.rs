//! `coregate check`, and `-t` and `-T` of the nginx door.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use crate::config::load::load;

/// Where a configuration is looked for if none is named.
const DEFAULT_PATHS: [&str; 2] = ["config.toml", "/etc/coregate/config.toml"];

/// The configuration that is meant: the one named, else the first of the usual ones that exists.
pub fn config_path(named: Option<&Path>) -> PathBuf {
    let usual = || DEFAULT_PATHS.iter().map(Path::new).find(|path| path.exists());
    named.or_else(usual).unwrap_or(Path::new(DEFAULT_PATHS[0])).to_owned()
}

/// Checks a configuration and says on stderr what is wrong with it; with `print`, it goes to stdout if it is good.
///
/// Returns the exit code: 0 if it can be used, 1 if it has errors, 2 if it cannot be read.
pub fn check(path: Option<&Path>, print: bool) -> u8 {
    let path = config_path(path);
    let mut out = io::stdout().lock();
    let mut err = io::stderr().lock();
    let colour = err.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // A closed pipe is no reason to answer anything else.
    match load(&path) {
        Ok(loaded) => {
            if !loaded.warnings.is_empty() {
                let _ = err.write_all(loaded.warnings.render(colour).as_bytes());
            }
            let config = &loaded.config;
            let routes = counted(config.routes.len(), "route");
            let services = counted(config.services.len(), "service");
            let _ = writeln!(err, "{}: ok ({routes}, {services})", path.display());
            if print {
                let _ = out.write_all(loaded.print().as_bytes());
            }
            0
        }
        Err(problems) => {
            let _ = err.write_all(problems.render(colour).as_bytes());
            if problems.unreadable() { 2 } else { 1 }
        }
    }
}

fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}
