//! Notices that files of the configuration changed, through inotify on their folders.
//!
//! On folders, not on files: editors, `mv` and Kubernetes put a new file or link in the old one's place, and a watch
//! on a file would keep looking at the old one.

use std::{
    collections::BTreeSet,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

use super::reload::Inputs;
use crate::observe::event;

/// A change is looked at once nothing has happened for so long: an editor writes in several steps.
const QUIET: Duration = Duration::from_millis(100);
/// But no later than this, in a folder where something happens all the time.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Watch {
    watcher: RecommendedWatcher,
    folders: BTreeSet<PathBuf>,
    changed: Arc<Notify>,
}

impl Watch {
    /// Fails when the system has no inotify instance left.
    pub(super) fn new() -> notify::Result<Self> {
        let changed = Arc::new(Notify::new());
        let sender = Arc::clone(&changed);
        // Runs on the watcher's own thread.
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error is an overflow or a vanished folder: better look.
            if event.map_or(true, |event| is_change(event.kind)) {
                sender.notify_one();
            }
        })?;
        Ok(Self { watcher, folders: BTreeSet::new(), changed })
    }

    /// Watches the folders of these, and no others.
    pub(super) fn follow(&mut self, inputs: &Inputs) {
        let folders = folders_of(inputs);
        for gone in self.folders.difference(&folders) {
            // Fails when the folder itself is gone.
            _ = self.watcher.unwatch(gone);
        }
        for folder in &folders {
            // Also those watched already: the folder may be another one under the same name.
            if let Err(error) = self.watcher.watch(folder, RecursiveMode::NonRecursive) {
                event::debug("control", format_args!("{} is not watched: {error}", folder.display()));
            }
        }
        self.folders = folders;
    }

    /// Waits until something happened in a folder and it has been quiet since.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
        let patience = Instant::now() + PATIENCE;
        while Instant::now() < patience {
            let quiet = Instant::now() + QUIET;
            if timeout_at(quiet.min(patience), self.changed.notified()).await.is_err() {
                return;
            }
        }
    }
}

/// Reading the files, ours included, is an event as well and no change.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(kind) => kind == AccessKind::Close(AccessMode::Write),
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

fn folders_of(inputs: &Inputs) -> BTreeSet<PathBuf> {
    let mut folders: BTreeSet<PathBuf> = inputs.folders.iter().cloned().collect();
    for file in &inputs.files {
        folders.insert(folder_of(file));
        // A link's target may be replaced without the link's folder noticing.
        if let Ok(target) = fs::canonicalize(file) {
            folders.insert(folder_of(&target));
        }
    }
    folders
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A number for the contents of all files and the names in all folders; other contents give another number, as far
/// as 64 bits can. `None` when it could not be made.
pub(super) async fn digest(inputs: &Inputs) -> Option<u64> {
    let inputs = inputs.clone();
    spawn_blocking(move || digest_now(&inputs)).await.ok()
}

fn digest_now(inputs: &Inputs) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in &inputs.files {
        file.hash(&mut hasher);
        fs::read(file).map_err(|error| error.kind()).hash(&mut hasher);
    }
    for folder in &inputs.folders {
        folder.hash(&mut hasher);
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let names: BTreeSet<_> = entries.map(|entry| entry.file_name()).collect();
        names.hash(&mut hasher);
    }
    hasher.finish()
}
