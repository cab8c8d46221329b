//! Servers under test: how each is started, and how it is known to be ready.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;
use crate::compare::Given;
use crate::compare::certificate::Files;
use crate::compare::scenario::Scenario;
use crate::load::Tls;
use crate::proc;
use crate::wire::{self, Body};

/// How long a server may take until it answers.
const START_PATIENCE: Duration = Duration::from_secs(15);

/// The file beside `haproxy.cfg` that maps hosts and paths to backends.
const HAPROXY_MAP: &str = "haproxy.map";

/// A program that can stand between the generator and the upstreams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    pub name: String,
    program: PathBuf,
    arguments: Arguments,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arguments {
    /// A configuration file of the scenario, and the arguments around its path.
    File { name: &'static str, before: &'static [&'static str] },
    /// The address to listen on and the upstreams' addresses; `one`: it takes only one of them.
    Addresses { one: bool },
}

impl Kind {
    /// Finds the program `name`; the error says why it cannot take part.
    pub fn find(name: &str, gateway: Option<&Path>) -> Result<Self, String> {
        let kind = |program, arguments| Self { name: name.to_owned(), program, arguments };
        match name {
            "coregate" => {
                let program = gateway.map_or_else(|| beside("coregate"), Path::to_owned);
                if !program.exists() {
                    return Err(format!("{} is not built (cargo build --release)", program.display()));
                }
                Ok(kind(program, Arguments::File { name: "coregate.toml", before: &["run"] }))
            }
            "nginx" => Ok(kind(installed("nginx")?, Arguments::File { name: "nginx.conf", before: &["-c"] })),
            "haproxy" => Ok(kind(
                installed("haproxy")?,
                Arguments::File { name: "haproxy.cfg", before: &["-W", "-db", "-f"] },
            )),
            "node" => Ok(kind(installed("node")?, Arguments::File { name: "gateway.mjs", before: &[] })),
            "forward_epoll" | "forward_monoio" => {
                let program =
                    bench(name).ok_or_else(|| format!("not built (cargo build --release --bench {name})"))?;
                Ok(kind(program, Arguments::Addresses { one: true }))
            }
            "baseline" => {
                let program = beside("baseline");
                if !program.exists() {
                    return Err("not built (cargo build --release -p baseline)".to_owned());
                }
                Ok(kind(program, Arguments::Addresses { one: false }))
            }
            _ => Err("not a peer we know".to_owned()),
        }
    }

    /// Its version, in its own words.
    pub fn version(&self) -> String {
        let flag = match self.name.as_str() {
            "nginx" | "haproxy" => "-v",
            "coregate" | "node" => "--version",
            _ => return String::new(),
        };
        let Ok(output) = Command::new(&self.program).arg(flag).output() else { return String::new() };
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
    }

    /// Where nginx keeps its modules; empty for others.
    fn modules(&self) -> String {
        if self.name != "nginx" {
            return String::new();
        }
        let Ok(output) = Command::new(&self.program).arg("-V").output() else { return String::new() };
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let path = text.split_whitespace().find_map(|word| word.strip_prefix("--modules-path="));
        path.unwrap_or_default().to_owned()
    }

    /// Starts it for `scenario` on `core`, and waits until it answers through to the upstreams.
    pub fn start(
        &self,
        scenario: &Scenario,
        folder: &Path,
        upstreams: &[SocketAddr],
        given: &Given,
        core: usize,
    ) -> Result<Server, Failure> {
        let front = free_address()?;
        let folder = folder.join(&self.name);
        fs::create_dir_all(&folder).map_err(|error| Failure::io(&folder, &error))?;
        let mut command = Command::new(&self.program);
        match self.arguments {
            Arguments::File { name, before } => {
                let mut values = vec![
                    ("front", front.to_string()),
                    ("admin", free_address()?.to_string()),
                    ("folder", folder.display().to_string()),
                ];
                let keys = ["upstream1", "upstream2", "upstream3", "upstream4"];
                values.extend(keys.into_iter().zip(upstreams.iter().map(SocketAddr::to_string)));
                let text = |file: &Path| file.display().to_string();
                values.push(("shared", text(scenario.folder.parent().unwrap_or(&scenario.folder))));
                values.push(("modules", self.modules()));
                if let Some(made) = &given.tokens {
                    values.extend([("secret", made.secret.clone()), ("public", text(&made.public))]);
                }
                if let Some(Files { cert, key, cert_and_key }) = &given.files {
                    values.extend([
                        ("cert", text(cert)),
                        ("key", text(key)),
                        ("cert_and_key", text(cert_and_key)),
                    ]);
                }
                let file = folder.join(name);
                write(&file, &scenario.configuration(name, &values)?)?;
                if self.name == "haproxy" && scenario.folder.join(HAPROXY_MAP).exists() {
                    write(&folder.join(HAPROXY_MAP), &scenario.configuration(HAPROXY_MAP, &values)?)?;
                }
                command.args(before).arg(&file);
                if self.name == "nginx" {
                    command.arg("-p").arg(&folder);
                }
            }
            Arguments::Addresses { one } => {
                command.arg(front.to_string());
                command.args(
                    upstreams.iter().take(if one { 1 } else { upstreams.len() }).map(SocketAddr::to_string),
                );
            }
        }
        let log = folder.join("output.log");
        let output = File::create(&log).map_err(|error| Failure::io(&log, &error))?;
        let errors = output.try_clone().map_err(|error| Failure::io(&log, &error))?;
        // A group of its own: Ctrl-C is for us, who end the servers when the result is written.
        command.process_group(0).stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = proc::on_core(core, || command.spawn())
            .and_then(|child| child)
            .map_err(|error| Failure::io(&self.program, &error))?;
        let mut server = Server { kind: self.clone(), front, answer_bytes: 0, child, log };
        server.wait_until_ready(scenario, given)?;
        Ok(server)
    }

    /// Whether `scenario` has what this program needs.
    pub fn takes_part(&self, scenario: &Scenario) -> Result<(), String> {
        match self.arguments {
            Arguments::File { name, .. } if !scenario.folder.join(name).exists() => {
                Err(format!("the scenario has no {name}"))
            }
            Arguments::Addresses { .. } if !scenario.is_plain() => Err("it only passes on".to_owned()),
            Arguments::File { .. } | Arguments::Addresses { .. } => Ok(()),
        }
    }
}

/// A running server; ends with this value.
pub struct Server {
    pub kind: Kind,
    pub front: SocketAddr,
    /// Bytes of the body of a right answer.
    pub answer_bytes: u64,
    child: Child,
    log: PathBuf,
}

impl Server {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it read its configuration again, in the way it is told to.
    pub fn reload(&self) -> Result<(), Failure> {
        let signal = if self.kind.name == "haproxy" { Signal::USR2 } else { Signal::HUP };
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let sent = pid.map_or(Err(rustix::io::Errno::SRCH), |pid| kill_process(pid, signal));
        sent.map_err(|error| Failure(format!("no reload: {error}")))
    }

    fn wait_until_ready(&mut self, scenario: &Scenario, given: &Given) -> Result<(), Failure> {
        let tls = given.tls(false)?;
        let token = given.tokens().first().map(String::as_str);
        let start = Instant::now();
        let mut last = String::new();
        while start.elapsed() < START_PATIENCE {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(Failure(format!("ended with {status}\n{}", self.output())));
            }
            match answer_of(self.front, &scenario.places[0], tls.as_ref(), token) {
                Ok((200, body)) => match scenario.is_right(&body) {
                    Ok(()) => {
                        self.answer_bytes = body.len() as u64;
                        return Ok(());
                    }
                    Err(why) => return Err(Failure(format!("wrong answer: {why}\n{}", self.output()))),
                },
                Ok((status, _)) => last = format!("it answers {status}"),
                Err(error) => last = error.to_string(),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(Failure(format!("not ready: {last}\n{}", self.output())))
    }

    fn output(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        text.lines().take(20).map(|line| format!("    {line}\n")).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    fs::write(file, text).map_err(|error| Failure::io(file, &error))
}

/// Asks a process and its children to end, and makes it so after two seconds.
pub fn end(child: &mut Child) {
    for pid in proc::family(child.id()) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            // It may have ended already.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Status and body of the answer to one GET, over a connection of its own.
fn answer_of(
    address: SocketAddr,
    (host, path): &(String, String),
    tls: Option<&Tls>,
    token: Option<&str>,
) -> std::io::Result<(u16, Vec<u8>)> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let token = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{token}\r\n");
    match tls {
        None => ask(stream, &request),
        Some(tls) => ask(tls.over(stream)?, &request),
    }
}

/// Sends `request` and reads the answer.
fn ask(mut stream: impl Read + Write, request: &str) -> std::io::Result<(u16, Vec<u8>)> {
    let broken = || std::io::Error::other("the answer is not HTTP");
    stream.write_all(request.as_bytes())?;
    stream.flush()?;
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    let mut head = None;
    let mut content = Vec::new();
    loop {
        let count = stream.read(&mut buffer)?;
        bytes.extend_from_slice(&buffer[..count]);
        if head.is_none() {
            head = wire::response(&bytes, false).map_err(|_| broken())?;
            if let Some(head) = &head {
                bytes.drain(..head.bytes);
            }
        }
        let Some(head) = &mut head else {
            if count == 0 {
                return Err(broken());
            }
            continue;
        };
        let taken = head.body.take(&bytes, |part| content.extend_from_slice(part)).map_err(|_| broken())?;
        bytes.drain(..taken);
        if head.body.is_done() || (count == 0 && head.body == Body::UntilClose) {
            return Ok((head.status, content));
        }
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// An address on loopback that nobody listens on now.
pub fn free_address() -> Result<SocketAddr, Failure> {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let found = TcpListener::bind(any).and_then(|listener| listener.local_addr());
    found.map_err(|error| Failure(format!("no free port on loopback: {error}")))
}

/// The program `name` in the folder of this one.
fn beside(name: &str) -> PathBuf {
    std::env::current_exe().unwrap_or_default().with_file_name(name)
}

/// The newest build of a bench.
fn bench(name: &str) -> Option<PathBuf> {
    let files = fs::read_dir(beside("deps")).ok()?;
    let built = files.filter_map(|file| {
        let path = file.ok()?.path();
        let stem = path.file_name()?.to_str()?.strip_prefix(name)?.strip_prefix('-')?;
        if stem.contains('.') {
            return None;
        }
        Some((path.metadata().ok()?.modified().ok()?, path))
    });
    built.max().map(|(_, path)| path)
}

/// The program `name` in `PATH` or where Debian keeps servers.
fn installed(name: &str) -> Result<PathBuf, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    folders.push(PathBuf::from("/usr/sbin"));
    folders
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|file| file.exists())
        .ok_or_else(|| "not installed".to_owned())
}
