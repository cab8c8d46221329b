//! The real binary, for what only a process has: arguments, signals, limits, an exit code.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use socket2::Socket;

use super::{
    client::Client,
    directory::Directory,
    gateway::complete,
    program::reserve,
    wait::{PATIENCE, now, pause, wait_until},
};

/// A running `coregate`; killed when dropped.
pub struct Coregate {
    child: Child,
    directory: Directory,
    address: SocketAddr,
    _reserved: Socket,
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

    /// `coregate run config.toml` in a folder of its own, with `toml` and what no test cares about, as soon as it
    /// accepts connections. `before` is a program with its arguments that starts it, as `prlimit --nofile=50` does.
    #[track_caller]
    pub fn serving(toml: &str, before: &[&str]) -> Self {
        let mut coregate = Self::start(toml, before);
        coregate.accepts();
        coregate
    }

    /// The same without waiting.
    #[track_caller]
    pub fn start(toml: &str, before: &[&str]) -> Self {
        let (reserved, address) = reserve();
        let directory = Directory::new();
        let text = complete(&format!("listen = \"{address}\"\nadmin = false\n{toml}"), &directory);
        Self::spawn(directory, &text, before, reserved, address)
    }

    /// `coregate run config.toml` with exactly `text`.
    #[track_caller]
    pub fn demo(text: &str) -> Self {
        let (reserved, address) = reserve();
        Self::spawn(Directory::new(), text, &[], reserved, address)
    }

    #[track_caller]
    fn spawn(
        directory: Directory,
        text: &str,
        before: &[&str],
        reserved: Socket,
        address: SocketAddr,
    ) -> Self {
        directory.write("config.toml", text);
        let binary = Self::binary().to_str().expect("the path is text");
        let mut words = before.iter().copied().chain([binary, "run", "config.toml"]);
        let output = |name: &str| File::create(directory.path().join(name)).expect("a writable folder");
        let child = Command::new(words.next().expect("there is the binary at least"))
            .args(words)
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn()
            .expect("util-linux is part of every Debian");
        Self { child, directory, address, _reserved: reserved }
    }

    /// Waits until connections are accepted.
    #[track_caller]
    pub fn accepts(&mut self) {
        wait_until("the gateway to listen", || {
            let over = self.child.try_wait().expect("our own child");
            assert!(over.is_none(), "{over:?}; printed:\n{}", self.printed());
            TcpStream::connect(self.address).is_ok()
        });
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.address)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Everything it said so far, on whichever way.
    pub fn printed(&self) -> String {
        ["stdout", "stderr", "events.log"]
            .map(|name| fs::read_to_string(self.path(name)).unwrap_or_default())
            .concat()
    }

    /// Waits until `find` finds something in what was said.
    #[track_caller]
    pub fn wait_for<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let mut found = None;
        wait_until(what, || {
            let over = self.child.try_wait().expect("our own child");
            assert!(over.is_none(), "{over:?}; printed:\n{}", self.printed());
            found = find(&self.printed());
            found.is_some()
        });
        found.expect("waited for it")
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
