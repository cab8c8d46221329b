//! The real binary, for what only a process has: arguments, signals, limits, an exit code.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use super::{
    client::Client,
    directory::Directory,
    gateway::complete,
    wait::{PATIENCE, now, pause, wait_until},
};

/// A running `coregate`; killed when dropped.
pub struct Coregate {
    child: Child,
    directory: Directory,
    /// Where it listens first; known when it accepts connections.
    address: Option<SocketAddr>,
}

impl Coregate {
    pub fn binary() -> &'static Path {
        Path::new(env!("CARGO_BIN_EXE_coregate"))
    }

    /// `coregate ARGUMENTS` to its end, which must come: killed, it has no exit code.
    #[track_caller]
    pub fn output(arguments: &[&str]) -> Output {
        let mut child = Command::new("timeout");
        child.args(["--signal", "KILL", "10"]).arg(Self::binary()).args(arguments);
        child.stdin(Stdio::null()).output().expect("coreutils are part of every Debian")
    }

    /// `coregate run config.toml` in a folder of its own, with `toml` and what no test cares about, as soon as it
    /// accepts connections. `before` is a program with its arguments that starts it, as `prlimit --nofile=50` does.
    #[track_caller]
    pub fn serving(toml: &str, before: &[&str]) -> Self {
        let mut coregate = Self::start(toml, before);
        coregate.accepts();
        coregate
    }

    /// The same from a binary of its own, which may be replaced ([`Coregate::replace_binary`]).
    #[track_caller]
    pub fn replaceable(toml: &str) -> Self {
        let mut coregate = Self::begin(toml, &[], Stdio::null());
        coregate.accepts();
        coregate
    }

    /// The same without waiting, started by `before` and with a standard input of the test's choice.
    #[track_caller]
    pub fn begin(toml: &str, before: &[&str], stdin: impl Into<Stdio>) -> Self {
        let directory = Directory::new();
        let text = complete(toml, &directory);
        let own = directory.path().join("coregate");
        place(Self::binary(), &own);
        Self::spawn_from(&own, directory, &text, before, stdin.into())
    }

    /// Puts another program in the place of its binary, as a package manager does.
    pub fn replace_binary(&self, program: &Path) {
        let (own, draft) = (self.path("coregate"), self.path("coregate.new"));
        place(program, &draft);
        fs::rename(&draft, &own).expect("a file may be renamed within its folder");
    }

    /// Replaces its configuration and tells nobody.
    pub fn rewrite(&self, toml: &str) {
        self.directory.write("config.toml", complete(toml, &self.directory));
    }

    /// The number of the process that serves.
    pub fn serving_id(&self) -> u32 {
        let text = fs::read_to_string(self.path("coregate.pid")).unwrap_or_default();
        text.trim().parse().unwrap_or_default()
    }

    /// `coregate COMMAND` about this gateway: its exit code and what it said.
    #[track_caller]
    pub fn command(&self, command: &str) -> (i32, String) {
        let output = Command::new("timeout")
            .args(["--signal", "KILL", "90"])
            .arg(Self::binary())
            .args([command, "--state"])
            .arg(self.directory.path())
            .stdin(Stdio::null())
            .output()
            .expect("coreutils are part of every Debian");
        let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
        (output.status.code().unwrap_or(-1), said.concat())
    }

    /// The same without waiting.
    #[track_caller]
    pub fn start(toml: &str, before: &[&str]) -> Self {
        let directory = Directory::new();
        let text = complete(&format!("admin = false\n{toml}"), &directory);
        Self::spawn(directory, &text, before)
    }

    /// `coregate run config.toml` with exactly `text`.
    #[track_caller]
    pub fn demo(text: &str) -> Self {
        Self::spawn(Directory::new(), text, &[])
    }

    #[track_caller]
    fn spawn(directory: Directory, text: &str, before: &[&str]) -> Self {
        Self::spawn_from(Self::binary(), directory, text, before, Stdio::null())
    }

    #[track_caller]
    fn spawn_from(binary: &Path, directory: Directory, text: &str, before: &[&str], stdin: Stdio) -> Self {
        directory.write("config.toml", text);
        let binary = binary.to_str().expect("the path is text");
        let mut words = before.iter().copied().chain([binary, "run", "config.toml"]);
        let output = |name: &str| File::create(directory.path().join(name)).expect("a writable folder");
        let child = Command::new(words.next().expect("there is the binary at least"))
            .args(words)
            .current_dir(directory.path())
            .stdin(stdin)
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn()
            .expect("util-linux is part of every Debian");
        Self { child, directory, address: None }
    }

    /// Waits until it says where it listens.
    #[track_caller]
    pub fn accepts(&mut self) {
        self.address = Some(self.wait_for("the gateway to listen", |printed| {
            let (_, rest) = printed.split_once("listening on ")?;
            rest.split_once('\n')?.0.trim().parse().ok()
        }));
    }

    pub fn address(&self) -> SocketAddr {
        self.address.expect("the test waited for it to accept connections")
    }

    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.address())
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

/// Puts a program there. Linked where that is possible: a file that was just written cannot be started while a process that another test
/// starts at that moment has it open.
fn place(program: &Path, there: &Path) {
    let copied = |_| fs::copy(program, there).map(drop);
    fs::hard_link(program, there).or_else(copied).expect("a folder of our own");
}

impl Drop for Coregate {
    fn drop(&mut self) {
        let successor = i32::try_from(self.serving_id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(successor) = successor {
            // It may have ended.
            let _ = rustix::process::kill_process(successor, rustix::process::Signal::KILL);
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
