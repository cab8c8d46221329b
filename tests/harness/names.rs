//! A name server: dnsmasq, with names that a test can change.

use std::{
    fmt, fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::{Child, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    directory::Directory,
    program::{command, free_ports},
    wait::wait_until,
};

/// Answers for names below `.test`, and knows that others do not exist. Records are valid for a second.
pub struct Names {
    address: SocketAddr,
    child: Option<Child>,
    directory: Directory,
}

impl Names {
    /// `hosts` has lines as in /etc/hosts: an address and a name.
    #[track_caller]
    pub fn start(hosts: &str) -> Self {
        let mut names = Self { address: free(), child: None, directory: Directory::new() };
        names.write(hosts);
        names.run();
        names
    }

    /// Answers again after [`Names::stop`].
    #[track_caller]
    pub fn run(&mut self) {
        let hosts = self.directory.path().join("hosts");
        let child = command("dnsmasq", "dnsmasq-base")
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=", "--group="])
            .args(["--no-resolv", "--no-hosts", "--local=/#/", "--local-ttl=1", "--neg-ttl=1"])
            .args(["--listen-address=127.0.0.1", "--bind-interfaces", "--log-queries", "--log-facility=-"])
            .arg(format!("--port={}", self.address.port()))
            .arg(format!("--addn-hosts={}", hosts.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.directory.path().join("log")).expect("a new folder"))
            .spawn()
            .expect("setpriv is part of every Debian");
        self.child = Some(child);
        wait_until("dnsmasq to answer", || {
            let ended = self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            assert!(!ended, "dnsmasq did not start: {}", self.log());
            self.answers()
        });
    }

    /// Answers nothing any more; its port is closed.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// From now on these are the names.
    #[track_caller]
    pub fn change(&self, hosts: &str) {
        self.write(hosts);
        let child = self.child.as_ref().expect("it runs");
        let reads = || self.log().matches("hosts - ").count();
        let before = reads();
        kill_process(Pid::from_child(child), Signal::HUP).expect("it runs");
        wait_until("dnsmasq to read its names", || reads() > before);
    }

    fn write(&self, hosts: &str) {
        self.directory.write("hosts", hosts);
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// How often `name` was asked for.
    pub fn questions(&self, name: &str) -> usize {
        let end = format!("] {name} from");
        self.log().lines().filter(|line| line.contains("query[") && line.contains(&end)).count()
    }

    fn answers(&self) -> bool {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a UDP socket");
        // One question: the addresses of the root.
        let question = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1];
        let mut answer = [0; 512];
        socket.send_to(&question, self.address).is_ok() && socket.recv(&mut answer).is_ok()
    }
}

/// `127.0.0.1:PORT`, so that it can be written into a configuration.
impl fmt::Display for Names {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(out)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.stop();
    }
}

/// dnsmasq cannot say which port it was given.
fn free() -> SocketAddr {
    let [port] = free_ports();
    (Ipv4Addr::LOCALHOST, port).into()
}
