//! A PostgreSQL server of the distribution, in a folder of its own.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{directory::Directory, wait::wait_until};

/// Runs until it is dropped, or the thread ends that started it.
pub struct Postgres {
    url: String,
    child: Child,
    _directory: Directory,
}

impl Postgres {
    #[track_caller]
    pub fn start() -> Self {
        let programs = programs();
        let directory = Directory::new();
        let data = directory.path().join("data");
        let user = owner(directory.path());
        let initdb = command(&programs, "initdb", user)
            .arg("-D")
            .arg(&data)
            .args(["--auth=trust", "--username=gate", "--encoding=UTF8", "--no-locale", "--no-sync"])
            .output()
            .expect("setpriv is part of every Debian");
        assert!(initdb.status.success(), "initdb: {}", String::from_utf8_lossy(&initdb.stderr));
        // Taken again at once by the server, which cannot be asked for any port.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = free.local_addr().expect("a bound socket").port();
        drop(free);
        let log = fs::File::create(directory.path().join("log")).expect("a new file");
        let child = command(&programs, "postgres", user)
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
            .args(["-c", "unix_socket_directories="])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("setpriv is part of every Debian");
        let url = format!("postgresql://gate@127.0.0.1:{port}/postgres");
        let mut postgres = Self { url, child, _directory: directory };
        wait_until("PostgreSQL to take connections", || {
            if postgres.child.try_wait().is_ok_and(|status| status.is_some()) {
                let log = fs::read_to_string(postgres._directory.path().join("log")).unwrap_or_default();
                panic!("PostgreSQL did not start: {log}");
            }
            let ready = command(&programs, "pg_isready", None)
                .args(["-q", "-h", "127.0.0.1", "-p"])
                .arg(port.to_string())
                .status();
            ready.is_ok_and(|status| status.success())
        });
        postgres
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// Makes a database and gives its URL.
    #[track_caller]
    pub fn create(&self, name: &str) -> String {
        // Names are cut at 63 bytes.
        let name = &name[..name.len().min(63)];
        self.sql(&format!("CREATE DATABASE \"{name}\""));
        self.url.replace("/postgres", &format!("/{name}"))
    }

    /// Ends every connection, as a restart does.
    #[track_caller]
    pub fn end_connections(&self) {
        self.sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
             WHERE pid <> pg_backend_pid() AND usename = 'gate'",
        );
    }

    #[track_caller]
    fn sql(&self, sql: &str) {
        let output = command(&programs(), "psql", None).args(["-qAt", "-c", sql, &self.url]).output();
        let output = output.expect("setpriv is part of every Debian");
        assert!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Debian keeps them beside each other by version.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin")).find(|bin| bin.join("initdb").exists());
    found.expect("PostgreSQL is missing: apt-get install -y postgresql")
}

/// PostgreSQL does not run as root: then the package's own user gets the folder.
fn owner(directory: &Path) -> Option<u32> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("every system has it");
    let line = users.lines().find(|line| line.starts_with("postgres:")).expect("the package makes this user");
    let user: u32 =
        line.split(':').nth(2).and_then(|id| id.parse().ok()).expect("the third field is a number");
    chown(directory, Some(user), None).expect("root may");
    Some(user)
}

fn command(programs: &Path, name: &str, user: Option<u32>) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(user) = user {
        command.args(["--reuid", &user.to_string(), "--clear-groups"]);
    }
    command.args(["--pdeathsig", "KILL", "--"]).arg(programs.join(name));
    command
}
