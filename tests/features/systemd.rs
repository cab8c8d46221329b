//! Under a service manager: what it is told, the sockets it passes, the units for it.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::{Path, PathBuf},
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Client, Coregate, Directory, PATIENCE, now, program, wait_until};

const HELLO: &str = "[routes]\n\"/\" = { status = 200, body = \"hello\" }\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// Who is told by datagrams.
struct Supervisor {
    socket: UnixDatagram,
    path: PathBuf,
    _directory: Directory,
}

impl Supervisor {
    fn new() -> Self {
        let directory = Directory::new();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a folder of our own");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self { socket, path, _directory: directory }
    }

    /// The next message that is not about the watchdog.
    #[track_caller]
    fn next(&self) -> String {
        loop {
            let word = self.any();
            if word != "WATCHDOG=1" {
                return word;
            }
        }
    }

    #[track_caller]
    fn any(&self) -> String {
        let mut bytes = [0; 4096];
        let count = self.socket.recv(&mut bytes).expect("it is told something");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }
}

fn send(coregate: &Coregate, signal: Signal) {
    let id = i32::try_from(coregate.serving_id()).ok().and_then(Pid::from_raw).expect("it serves");
    kill_process(id, signal).expect("our own process");
}

#[test]
fn a_supervisor_is_told_how_it_goes() {
    let supervisor = Supervisor::new();
    let place = format!("NOTIFY_SOCKET={}", supervisor.path.display());
    let mut coregate = Coregate::begin(HELLO, &["env", &place, "WATCHDOG_USEC=200000"], Stdio::null());
    coregate.accepts();
    assert!(supervisor.next().starts_with("READY=1\nSTATUS="));
    let (end, mut fed) = (now() + PATIENCE, 0);
    while fed < 3 {
        fed += usize::from(supervisor.any() == "WATCHDOG=1");
        assert!(now() < end, "the watchdog is not fed");
    }

    coregate.signal(Signal::HUP);
    let reloading = supervisor.next();
    let time = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
    assert!(reloading.starts_with("RELOADING=1\n"), "{reloading}");
    assert!(time.is_some_and(|time| time.parse::<u64>().is_ok_and(|us| us > 0)), "{reloading}");
    assert_eq!(supervisor.next(), "READY=1\nSTATUS=configuration 1 serves");

    coregate.rewrite("[routes]\n\"/\" = \"nowhere\"\n");
    let (code, _) = coregate.command("reload");
    assert_eq!(code, 1);
    assert!(supervisor.next().starts_with("RELOADING=1\n"));
    let ready = supervisor.next();
    assert!(
        ready.starts_with("READY=1\n") && ready.contains("refused") && ready.contains("nowhere"),
        "{ready}"
    );

    coregate.rewrite(HELLO);
    wait_until("no more news of that", || coregate.command("reload").0 == 0);
    let (code, said) = coregate.command("upgrade");
    assert_eq!(code, 0, "{said}");
    let main = format!("MAINPID={}", coregate.serving_id());
    let mut told = supervisor.next();
    while told != main {
        assert!(told.starts_with("RELOADING=1\n") || told.starts_with("READY=1\n"), "{told}");
        told = supervisor.next();
    }
    assert!(supervisor.next().starts_with("READY=1\n"), "the new process speaks for itself");
    assert!(coregate.ended().success());
    send(&coregate, Signal::QUIT);
    // The old process has not said that it stops: the service goes on.
    assert!(supervisor.next().starts_with("STOPPING=1\n"));
}

/// Starts a gateway as systemd does, with one socket.
fn activated(listener: &TcpListener, toml: &str) -> Coregate {
    const PASS: &str =
        "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web.socket; exec \"$@\" 3<&0 0</dev/null";
    let passed: OwnedFd = listener.try_clone().expect("a socket").into();
    Coregate::begin(toml, &["sh", "-c", PASS, "sh"], passed)
}

fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket").to_string();
    (listener, address)
}

#[test]
fn a_socket_that_is_passed_is_served_and_outlives_the_gateway() {
    let (socket, address) = listener();
    let mut early = Client::connect(socket.local_addr().expect("a bound socket"));
    early.send(GET);
    let mut coregate = activated(&socket, &format!("listen = [\"{address}\", \"127.0.0.2:0\"]\n{HELLO}"));
    coregate.accepts();
    assert_eq!(early.reply().text(), "hello", "who came before the gateway is served");
    let get = || Client::connect(socket.local_addr().expect("a bound socket")).send(GET).reply().body;
    assert!((0..20).all(|_| get() == b"hello"));

    let (code, said) = coregate.command("upgrade");
    assert_eq!(code, 0, "{said}");
    assert!((0..20).all(|_| get() == b"hello"));
    assert!(coregate.ended().success(), "{}", coregate.printed());
    send(&coregate, Signal::QUIT);
    wait_until("the new process to end", || coregate.serving_id() == 0);

    // The socket is the manager's: who comes now waits for the next start.
    let waiting = TcpStream::connect(&address).expect("it listens still");
    let accepted = socket.accept().map(|(_, peer)| peer);
    assert_eq!(accepted.ok(), waiting.local_addr().ok());
}

#[test]
fn a_socket_that_nobody_wants_is_an_error_that_names_both_sides() {
    let (socket, address) = listener();
    let mut coregate = activated(&socket, &format!("listen = \"127.0.0.2:0\"\n{HELLO}"));
    assert_eq!(coregate.ended().code(), Some(2));
    let printed = coregate.printed();
    for part in [&*address, "web.socket", "127.0.0.2:0", "ListenStream="] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
}

#[test]
fn sockets_for_another_process_are_left_alone() {
    let (socket, address) = listener();
    let mut coregate = Coregate::begin(
        &format!("listen = \"127.0.0.2:0\"\n{HELLO}"),
        &["env", "LISTEN_PID=1", "LISTEN_FDS=1"],
        Stdio::null(),
    );
    coregate.accepts();
    assert_eq!(coregate.client().send(GET).reply().text(), "hello");
    drop((socket, address));
}

#[test]
fn the_units_are_right_and_tight() {
    let directory = Directory::new();
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/manual/systemd");
    for name in ["coregate.service", "coregate.socket"] {
        let unit = fs::read_to_string(units.join(name)).expect("a file of the repository");
        // What is there on every machine.
        let here =
            unit.replace("/usr/bin/coregate", "/bin/true").replace("=coregate\nGroup=coregate", "=root");
        directory.write(name, here);
    }
    let paths = ["coregate.service", "coregate.socket"].map(|name| directory.path().join(name));
    let verify =
        program::command("systemd-analyze", "systemd").args(["verify", "--man=no"]).args(&paths).output();
    let verify = verify.expect("setpriv is part of every Debian");
    let said = String::from_utf8_lossy(&verify.stderr);
    assert!(verify.status.success() && !said.contains("coregate."), "{said}");

    let judged = program::command("systemd-analyze", "systemd")
        .args(["security", "--offline=true", "--no-pager", "--threshold=25"])
        .arg(&paths[0])
        .output()
        .expect("setpriv is part of every Debian");
    let said = String::from_utf8_lossy(&judged.stdout);
    assert!(judged.status.success(), "{said}");
}
