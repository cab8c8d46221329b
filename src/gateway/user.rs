//! Root's rights are given up once the ports are open, and before a thread starts.

use std::{
    ffi::CString,
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown, lchown},
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, Group, Uid, User, initgroups, setgid, setuid};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use super::StartError;
use crate::config::{self, Config, Sink};

/// How deep `state` is looked through.
const DEPTH_MAX: u32 = 4;

/// What whoever starts the gateway as root should know.
const AS_ROOT: &str = "runs as root: write user = \"coregate\" (useradd --system coregate), and root's rights are given up once the ports are \
     open; or start it as that user, with CAP_NET_BIND_SERVICE for ports below 1024 (src/manual/systemd has a unit)";

/// Becomes the user of the configuration, whose are `state` and the log files from then on. `files` is what was read and will be read
/// again.
pub(super) fn settle(config: &Config, files: &[PathBuf], notes: &mut Vec<String>) -> Result<(), StartError> {
    let is_root = rustix::process::geteuid().is_root();
    match (&config.user, is_root) {
        (None, false) => Ok(()),
        (None, true) => {
            notes.push(AS_ROOT.to_owned());
            Ok(())
        }
        (Some(user), false) => {
            // Whoever was started by one that gave its rights up is that user already.
            let is_meant = User::from_uid(Uid::effective())
                .is_ok_and(|own| own.is_some_and(|own| own.name == *user.name));
            if !is_meant {
                notes.push(format!(
                    "`user = \"{}\"` has no effect: only root can become somebody else",
                    user.name
                ));
            }
            Ok(())
        }
        (Some(user), true) => {
            let (uid, gid) = find(user)?;
            own(config, uid, gid, notes);
            change(user, uid, gid)?;
            notes.extend(files.iter().filter_map(|path| unreadable(path, &user.name)));
            Ok(())
        }
    }
}

fn find(user: &config::User) -> Result<(Uid, Gid), StartError> {
    let system =
        |error: nix::Error| StartError::System { what: "`user` cannot be looked up", error: error.into() };
    let Some(found) = User::from_name(&user.name).map_err(system)? else {
        return Err(StartError::User(format!(
            "there is no user `{0}`: useradd --system --shell /usr/sbin/nologin {0}",
            user.name
        )));
    };
    if found.uid.is_root() {
        return Err(StartError::User(format!("`user = \"{}\"` is root", user.name)));
    }
    let Some(name) = &user.group else { return Ok((found.uid, found.gid)) };
    match Group::from_name(name).map_err(system)? {
        Some(group) => Ok((found.uid, group.gid)),
        None => Err(StartError::User(format!("there is no group `{name}`: groupadd --system {name}"))),
    }
}

/// Gives the new user what it has to write. Only what is root's is given away, no link is followed, and nothing that has a second
/// name: in a folder that others may write to, all else could be somebody's trap.
fn own(config: &Config, uid: Uid, gid: Gid, notes: &mut Vec<String>) {
    let mut note = |path: &Path, error: io::Error| {
        notes.push(format!("{} is not given to the new user: {error}", path.display()));
    };
    let state = &config.state;
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .and_then(|()| give_folder(state, uid, gid, DEPTH_MAX));
    made.unwrap_or_else(|error| note(state, error));
    let access = config.log.access.as_ref().map(|access| &access.to);
    for sink in access.into_iter().chain([&config.log.events.to]) {
        if let Sink::File(path) = sink {
            give_log(path, uid, gid).unwrap_or_else(|error| note(path, error));
        }
    }
}

fn give_folder(folder: &Path, uid: Uid, gid: Gid, depth: u32) -> io::Result<()> {
    if depth == 0 || fs::symlink_metadata(folder)?.uid() != 0 {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.is_dir() {
            give_folder(&path, uid, gid, depth - 1)?;
        } else if metadata.is_file() && metadata.nlink() == 1 && metadata.uid() == 0 {
            lchown(&path, Some(uid.as_raw()), Some(gid.as_raw()))?;
        }
    }
    lchown(folder, Some(uid.as_raw()), Some(gid.as_raw()))
}

fn give_log(path: &Path, uid: Uid, gid: Gid) -> io::Result<()> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = fs::OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.nlink() == 1 && metadata.uid() == 0 {
        fchown(&file, Some(uid.as_raw()), Some(gid.as_raw()))?;
    }
    Ok(())
}

/// Groups first: afterwards there is no right to change them.
fn change(user: &config::User, uid: Uid, gid: Gid) -> Result<(), StartError> {
    let system =
        |error: nix::Error| StartError::System { what: "`user` cannot be changed to", error: error.into() };
    let name = CString::new(&*user.name).map_err(|_| system(nix::Error::EINVAL))?;
    initgroups(&name, gid).map_err(system)?;
    setgid(gid).map_err(system)?;
    setuid(uid).map_err(system)?;
    if setuid(Uid::from_raw(0)).is_ok() {
        return Err(system(nix::Error::EPERM));
    }
    // Else what /proc says about this process would be root's, and could not be counted in the metrics.
    let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
    Ok(())
}

/// What a reload will complain about.
fn unreadable(path: &Path, user: &str) -> Option<String> {
    let refused = fs::File::open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    refused.then(|| {
        format!(
            "{} cannot be read by the user `{user}`: reloads and upgrades will fail; chgrp and chmod g+r",
            path.display()
        )
    })
}
