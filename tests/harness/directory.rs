//! A temporary directory that goes away with its value.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

static NEXT: AtomicU32 = AtomicU32::new(0);

pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("coregate-test-{}-{number}", process::id()));
        // A process of the same number may have been killed before it could clean up.
        drop(fs::remove_dir_all(&path));
        fs::create_dir_all(&path).expect("the temporary directory is writable");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file whole and gives its path. It is renamed into place, as an editor would.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let (path, half) = (self.0.join(name), self.0.join(format!("{name}.new")));
        fs::write(&half, text).expect("the temporary directory is writable");
        fs::rename(&half, &path).expect("a file may be renamed within its directory");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
