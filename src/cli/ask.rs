//! `coregate reload` and `coregate upgrade`: what a running gateway is asked by its command socket.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use super::check::find;
use crate::{
    config,
    control::{Command, socket_path},
};

/// An upgrade takes as long as the new process needs to start.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks the gateway of `config`, or the one whose `state` is named, and says on stdout what it did, on stderr why it did not.
///
/// Returns the exit code: 0 when it did, 1 when it refused (nothing changed), 2 when there is no gateway to be asked.
pub fn ask(command: Command, config: Option<&Path>, state: Option<PathBuf>) -> u8 {
    // A closed pipe is no reason to answer anything else.
    match state.map_or_else(|| state_of(config), Ok).and_then(|state| answer(command, &state)) {
        Ok((0, text)) => {
            let _ = writeln!(io::stdout(), "{}", text.trim_end());
            0
        }
        Ok((code, text)) => {
            let _ = writeln!(io::stderr(), "coregate: {} refused\n{}", command.word(), text.trim_end());
            code
        }
        Err(remedy) => {
            let _ = writeln!(io::stderr(), "coregate: {remedy}");
            2
        }
    }
}

/// Where the gateway of a configuration keeps its state. A configuration with mistakes is no hindrance: it is the gateway that is
/// to speak of them.
fn state_of(config: Option<&Path>) -> Result<PathBuf, String> {
    let path = find(config)?;
    config::state_of(&path).ok_or_else(|| {
        format!(
            "`state` cannot be read from {}: `coregate check` says why; or name it with --state",
            path.display()
        )
    })
}

fn answer(command: Command, state: &Path) -> Result<(u8, String), String> {
    let path = socket_path(state);
    let absent = |error: io::Error| {
        let remedy = if error.kind() == io::ErrorKind::PermissionDenied {
            "it belongs to another user: try sudo"
        } else {
            "it does not run, runs as another user, or has another `state` (--state)"
        };
        format!("no gateway can be asked at {}: {error}; {remedy}", path.display())
    };
    let mut stream = UnixStream::connect(&path).map_err(absent)?;
    let broken = |error: io::Error| format!("the gateway gave no answer: {error}");
    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    writeln!(stream, "{}", command.word()).map_err(broken)?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(broken)?;
    let (code, text) = text.split_once('\n').ok_or("the gateway ended before it gave an answer")?;
    let code = code.parse().map_err(|_| format!("the gateway's answer is not understood: {code}"))?;
    Ok((code, text.to_owned()))
}
