//! Real programs of the distribution: nginx as a backend, wrk as a load.

use std::{
    fmt, fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use socket2::{Domain, SockAddr, Socket, Type};

use super::{directory::Directory, wait::wait_until};

/// A command that dies with the thread that starts it, however the test ends.
///
/// Fails the test with the way to get `package` when `program` is not installed.
#[track_caller]
pub fn command(program: &str, package: &str) -> Command {
    let found = ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/usr/local/sbin", "/sbin", "/bin"]
        .map(|folder| format!("{folder}/{program}"))
        .into_iter()
        .find(|path| fs::metadata(path).is_ok());
    let Some(path) = found else { panic!("`{program}` is missing: apt-get install -y {package}") };
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", &path]);
    command
}

/// An nginx of one process in a folder of its own.
pub struct Nginx {
    address: SocketAddr,
    child: Child,
    directory: Directory,
    _reserved: Socket,
}

impl Nginx {
    /// Runs one `server` with `directives`, and `above` in the `http` block.
    #[track_caller]
    pub fn start(above: &str, directives: &str) -> Self {
        let directory = Directory::new();
        let (reserved, address) = reserve();
        let config = format!(
            "worker_processes 1; daemon off; master_process off; pid nginx.pid; error_log error.log warn;\n\
             events {{ worker_connections 512; }}\n\
             http {{ access_log access.log; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
             uwsgi_temp_path uwsgi; scgi_temp_path scgi; {above}\n\
             server {{ listen {address} reuseport; root html; {directives} }} }}\n"
        );
        directory.write("nginx.conf", config);
        fs::create_dir(directory.path().join("html")).expect("a new folder");
        let child = command("nginx", "nginx-light")
            .arg("-p")
            .arg(directory.path())
            .args(["-c", "nginx.conf", "-e", "error.log"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("setpriv is part of every Debian");
        let mut nginx = Self { address, child, directory, _reserved: reserved };
        wait_until("nginx to listen", || {
            if nginx.child.try_wait().is_ok_and(|status| status.is_some()) {
                let error = fs::read_to_string(nginx.directory.path().join("error.log")).unwrap_or_default();
                panic!("nginx did not start: {error}");
            }
            TcpStream::connect(address).is_ok()
        });
        nginx
    }

    /// Puts a file into what nginx serves.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        self.directory.write(&format!("html/{name}"), content);
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl fmt::Display for Nginx {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(out)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A port for a program that cannot say which one it was given. It stays free for who sets SO_REUSEPORT, as nginx is
/// told to, and for nobody else, while the socket is held.
pub fn reserve() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_port(true).expect("Linux has SO_REUSEPORT");
    socket.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).expect("a free port");
    let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("a bound socket");
    (socket, address)
}

/// Ports for programs that must get the same one again after they ended: nobody has them, each is given out once, and no
/// outgoing connection of this machine is given one (`ip_local_port_range` begins at 32768).
pub fn free_ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    [(); N].map(|()| {
        loop {
            let number = (process::id() + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
            let port = u16::try_from(20_000 + number).expect("less than 30,000");
            let address = (Ipv4Addr::LOCALHOST, port);
            if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
                return port;
            }
        }
    })
}

/// What wrk counted.
#[derive(Debug)]
pub struct Wrk {
    pub requests: u64,
    /// Replies that were neither 2xx nor 3xx.
    pub refused: u64,
    /// Connections that failed, and reads and writes, and timeouts.
    pub broken: u64,
}

impl Wrk {
    /// Loads `url` with `connections` for `seconds`.
    #[track_caller]
    pub fn run(url: &str, connections: u32, seconds: u32) -> Self {
        let output = command("wrk", "wrk")
            .args(["-t1", &format!("-c{connections}"), &format!("-d{seconds}s"), url])
            .output()
            .expect("setpriv is part of every Debian");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "wrk failed: {text}{}", String::from_utf8_lossy(&output.stderr));
        Self::parse(&text)
    }

    fn parse(text: &str) -> Self {
        let line = |mark: &str| text.lines().find(|line| line.contains(mark)).unwrap_or_default();
        let numbers = |line: &str| -> Vec<u64> {
            line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok()).collect()
        };
        Self {
            requests: numbers(line("requests in")).first().copied().unwrap_or(0),
            refused: numbers(line("Non-2xx")).last().copied().unwrap_or(0),
            broken: numbers(line("Socket errors")).iter().sum(),
        }
    }
}

#[test]
fn wrk_reports_are_read() {
    let text = "  1234 requests in 1.00s, 2.00MB read\n  Socket errors: connect 0, read 2, write 0, timeout 1\n  Non-2xx or 3xx responses: 7\n";
    let report = Wrk::parse(text);
    assert_eq!((report.requests, report.refused, report.broken), (1234, 7, 3));
}
