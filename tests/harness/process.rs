//! The real binary, for what only a process has: arguments, signals, limits, an exit code.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use super::{
    directory::Directory,
    wait::{PATIENCE, now, pause},
};

/// A running `coregate`; killed when dropped.
pub struct Coregate {
    child: Child,
    directory: Directory,
}

impl Coregate {
    pub fn binary() -> &'static Path {
        Path::new(env!("CARGO_BIN_EXE_coregate"))
    }

    /// `coregate ARGUMENTS` to its end.
    #[track_caller]
    pub fn output(arguments: &[&str]) -> Output {
        Command::new(Self::binary())
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("the binary is built")
    }

    /// Starts `coregate run FILE` in a folder of its own, whose files are kept until the end. `before` is a program
    /// with its arguments that starts the gateway, as `prlimit --nofile=50` does.
    #[track_caller]
    pub fn run(file: &str, text: &str, before: &[&str]) -> Self {
        let directory = Directory::new();
        directory.write(file, text);
        let binary = Self::binary().to_str().expect("the path is text");
        let mut words = ["setpriv", "--pdeathsig", "KILL", "--"]
            .iter()
            .chain(before)
            .copied()
            .chain([binary, "run", file]);
        let output = |name: &str| File::create(directory.path().join(name)).expect("a writable folder");
        let child = Command::new(words.next().expect("the list starts with setpriv"))
            .args(words)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn()
            .expect("setpriv is part of every Debian");
        Self { child, directory }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Everything printed so far.
    pub fn printed(&self) -> String {
        let read = |name| fs::read_to_string(self.path(name)).unwrap_or_default();
        read("stdout") + &read("stderr")
    }

    /// Waits until `find` finds something in what was printed.
    #[track_caller]
    pub fn wait_for<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let end = now() + PATIENCE;
        loop {
            let printed = self.printed();
            if let Some(found) = find(&printed) {
                return found;
            }
            let over = self.child.try_wait().expect("our own child");
            assert!(over.is_none() && now() < end, "no {what}; {over:?}; printed:\n{printed}");
            pause(std::time::Duration::from_millis(5));
        }
    }

    /// Waits for the address behind `mark`, as in `listening on 127.0.0.1:4711`.
    #[track_caller]
    pub fn address(&mut self, mark: &str) -> SocketAddr {
        self.wait_for(mark, |printed| {
            let (_, rest) = printed.split_once(mark)?;
            let start = rest.find("127.0.0.1:")?;
            let end = rest[start + 10..].find(|c: char| !c.is_ascii_digit())?;
            rest[start..start + 10 + end].parse().ok()
        })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    #[track_caller]
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).expect("our own child");
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let end = now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status;
            }
            assert!(now() < end, "still running; printed:\n{}", self.printed());
            pause(std::time::Duration::from_millis(5));
        }
    }
}

impl Drop for Coregate {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
