//! How a running gateway can be found: its number in a file, and a socket for commands, both in `state`.

use std::{
    fs, io,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use crate::control::{pid_path, socket_path};

/// The two files. Dropped, they go, unless a successor has put its own there.
pub(super) struct Presence {
    pid: PathBuf,
    socket: PathBuf,
    /// Of the socket: device and inode.
    identity: (u64, u64),
}

impl Presence {
    /// Makes both. `succeeds` says that the process which may be found there is the one whose place is taken. The error says what
    /// that means for the operator.
    pub(super) fn announce(state: &Path, succeeds: bool) -> Result<(Self, UnixListener), String> {
        let (pid, socket) = (pid_path(state), socket_path(state));
        if !succeeds && UnixStream::connect(&socket).is_ok() {
            let number = fs::read_to_string(&pid).unwrap_or_default();
            return Err(format!(
                "process {} uses {}, too: `coregate reload` and `coregate upgrade` reach that one; give one of them a `state` of its own",
                number.trim(),
                state.display()
            ));
        }
        let made = Self::make(state, pid, socket);
        made.map_err(|error| {
            format!(
                "`coregate reload` and `coregate upgrade` will not find this process: {}: {error}",
                state.display()
            )
        })
    }

    fn make(state: &Path, pid: PathBuf, socket: PathBuf) -> io::Result<(Self, UnixListener)> {
        let number = std::process::id();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(state)?;
        // Made beside and renamed, so that whoever looks finds a whole one, the old or the new.
        let draft = state.join(format!("control.sock.{number}"));
        // A process of the same number may have been killed.
        drop(fs::remove_file(&draft));
        let listener = UnixListener::bind(&draft)?;
        let renamed = fs::set_permissions(&draft, fs::Permissions::from_mode(0o600))
            .and_then(|()| fs::metadata(&draft))
            .and_then(|metadata| {
                fs::rename(&draft, &socket)?;
                Ok((metadata.dev(), metadata.ino()))
            });
        let identity = renamed.inspect_err(|_| drop(fs::remove_file(&draft)))?;
        let presence = Self { pid, socket, identity };
        presence.write_pid()?;
        Ok((presence, listener))
    }

    /// Puts this process's number into the file.
    pub(super) fn write_pid(&self) -> io::Result<()> {
        let draft = self.pid.with_extension("pid.new");
        fs::write(&draft, format!("{}\n", std::process::id()))?;
        fs::rename(&draft, &self.pid)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let own = std::process::id().to_string();
        if fs::read_to_string(&self.pid).is_ok_and(|number| number.trim() == own) {
            drop(fs::remove_file(&self.pid));
        }
        let is_ours = |metadata: fs::Metadata| (metadata.dev(), metadata.ino()) == self.identity;
        if fs::symlink_metadata(&self.socket).is_ok_and(is_ours) {
            drop(fs::remove_file(&self.socket));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("coregate-presence-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&folder));
        folder
    }

    #[test]
    fn a_process_can_be_found_until_it_ends_and_its_socket_is_its_own() {
        let state = folder("found");
        let (presence, _listener) = Presence::announce(&state, false).unwrap();
        assert_eq!(fs::read_to_string(pid_path(&state)).unwrap(), format!("{}\n", std::process::id()));
        assert!(UnixStream::connect(socket_path(&state)).is_ok());
        assert_eq!(fs::metadata(socket_path(&state)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
        drop(presence);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 0);
        fs::remove_dir_all(&state).unwrap();
    }

    #[test]
    fn a_second_process_leaves_the_first_ones_files_alone_and_a_successor_replaces_them() {
        let state = folder("second");
        let (first, _accepting) = Presence::announce(&state, false).unwrap();
        assert!(Presence::announce(&state, false).is_err_and(|why| why.contains("`state` of its own")));
        let (_second, listener) = Presence::announce(&state, true).unwrap();
        drop(first);
        // Both are this process here, so its number goes; the socket is the second one's.
        let connected = UnixStream::connect(socket_path(&state)).unwrap();
        drop((listener.accept().unwrap(), connected));
        fs::remove_dir_all(&state).unwrap();
    }

    #[test]
    fn where_nothing_can_be_written_it_is_said() {
        let why = Presence::announce(Path::new("/proc/nothing"), false).err().unwrap();
        assert!(why.contains("/proc/nothing"), "{why}");
    }

    #[test]
    fn what_a_killed_process_left_does_not_count() {
        let state = folder("killed");
        let (presence, listener) = Presence::announce(&state, false).unwrap();
        std::mem::forget(presence);
        drop(listener);
        assert!(Presence::announce(&state, false).is_ok());
        fs::remove_dir_all(&state).unwrap();
    }
}
