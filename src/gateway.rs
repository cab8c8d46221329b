//! A running gateway: configuration → sockets → shards and control, and back.

mod auth;
mod build;
pub mod life;
mod presence;
mod sockets;
mod tls;
mod upgrade;
mod user;

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    io,
    net::SocketAddr,
    os::unix::net::UnixListener,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::oneshot;

pub use self::sockets::Inherited;
use self::{
    build::Builder,
    sockets::{Held, Opened, Taken},
    tls::Tls,
};
use crate::{
    config::{Config, Driver, Loaded, Shards},
    control::{self, Chore, Control, Notifier, Report, Signals, accounts},
    listener::Spread,
    observe::{Metrics, NamesCell, event, writer},
    runtime::{DriverUsed, Postbox, Runtime, Socket, mailbox, why_blocked},
    shard::{self, Message, Plan},
};

/// Where a configuration comes from.
#[derive(Clone, Debug)]
pub enum Source {
    File(PathBuf),
    /// The text of a file that depends on nothing else.
    Text(String),
}

/// How to start a gateway.
pub struct Options {
    pub source: Source,
    /// Where QUIT, TERM, INT and USR2 go; with it HUP reloads and USR1 reopens the logs. `None` leaves signals alone.
    pub signals: Option<Signals>,
    /// Whether changes of the files are followed.
    pub watch: bool,
    /// Sockets that listen already.
    pub inherited: Inherited,
    /// Who is told how it goes.
    pub notifier: Option<Arc<Notifier>>,
}

impl Options {
    pub fn new(source: Source) -> Self {
        Self { source, signals: None, watch: false, inherited: Inherited::default(), notifier: None }
    }
}

/// Why a gateway did not start. The text is for the operator.
#[derive(Debug)]
pub enum StartError {
    /// The configuration is wrong, rendered with all its problems.
    Config(String),
    /// An address cannot be bound.
    Bind { address: String, error: io::Error },
    /// `user` is nobody, or root.
    User(String),
    /// Sockets were passed that are not wanted.
    Inherited(String),
    /// The driver that was asked for cannot be had.
    Driver(String),
    /// A log file, a thread, the control thread's own needs.
    System { what: &'static str, error: io::Error },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(problems) => f.write_str(problems.trim_end()),
            Self::Bind { address, error } => {
                write!(f, "cannot listen on {address}: {error}")?;
                f.write_str(&bind_remedy(address, error.kind()))
            }
            Self::Driver(text) | Self::Inherited(text) | Self::User(text) => f.write_str(text),
            Self::System { what, error } => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// What to do about an address that cannot be bound; empty when that is not known.
fn bind_remedy(address: &str, kind: io::ErrorKind) -> String {
    match (address.strip_prefix("unix:"), kind) {
        (Some(path), io::ErrorKind::AddrInUse) => format!("; `ss -lxp src {path}` shows by whom"),
        (Some(_), io::ErrorKind::PermissionDenied) => "; the folder must be writable".to_owned(),
        (Some(_), io::ErrorKind::NotFound) => "; the folder must exist".to_owned(),
        (None, io::ErrorKind::AddrInUse) => {
            let tcp = address.trim_end_matches(" (admin)");
            let port = tcp.rsplit(':').next().unwrap_or(tcp);
            let other = if tcp == address { "" } else { "; `admin` takes another address, or false" };
            format!("; `ss -ltnp 'sport = :{port}'` shows by whom{other}")
        }
        (None, io::ErrorKind::PermissionDenied) => {
            "; ports below 1024 need CAP_NET_BIND_SERVICE, or net.ipv4.ip_unprivileged_port_start lowered"
                .to_owned()
        }
        (None, io::ErrorKind::AddrNotAvailable) => "; this machine has no such address".to_owned(),
        _ => String::new(),
    }
}

/// A gateway that serves. Dropping it ends everything at once.
pub struct Gateway {
    control: Option<Control>,
    shards: Vec<Postbox<Message>>,
    threads: Vec<JoinHandle<()>>,
    addresses: Vec<(Arc<str>, Option<SocketAddr>)>,
    admin: Option<SocketAddr>,
    driver: DriverUsed,
    drain: Duration,
    warnings: Vec<String>,
    state: PathBuf,
    /// For a successor; `None` once they are left.
    held: Option<Arc<Held>>,
    /// What the process before has given.
    taken: Taken,
    /// Last: it writes what the others still have to say.
    log: Option<writer::Writer>,
}

/// Messages that may wait for a shard.
const MAILBOX: usize = 1024;
/// Descriptors kept free for files, the control thread and the logs.
const DESCRIPTORS_KEPT: u64 = 128;

impl Gateway {
    /// Reads the configuration, binds every address, and returns when all shards listen.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let loaded = build::load(&options.source).map_err(StartError::Config)?;
        let Loaded { config, files, warnings, .. } = loaded;
        let mut notes: Vec<String> = Vec::new();
        if !warnings.is_empty() {
            notes.push(warnings.render(false));
        }

        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let count = match config.shards {
            Shards::Auto => cores.len().max(1),
            Shards::Count(count) => count,
        };
        let Opened { listeners: mut sockets, admin, held, taken } =
            sockets::open(&config, options.inherited, count)?;
        let addresses: Vec<_> = config
            .listen
            .iter()
            .zip(&sockets)
            .map(|(listen, shards)| {
                let first = shards.first().and_then(|sockets| sockets.first());
                (Arc::clone(&listen.name), first.and_then(Socket::address))
            })
            .collect();
        let admin_address = admin.as_ref().and_then(Socket::address);
        // No thread has started yet, and what another user may not have is found now.
        user::settle(&config, &files, &mut notes)?;
        let driver = choose_driver(config.driver, &mut notes)?;
        let state = config.state.clone();
        let connections_max = connections_max(&config, count);

        let names = Arc::new(NamesCell::default());
        let settings = control::log_settings(&config.log);
        let (log, access) = writer::Writer::start(&settings, count, Arc::clone(&names))
            .map_err(|error| StartError::System { what: "the log cannot be opened", error })?;
        event::attach(&log.handle().events(), event::Origin::Control);

        let admin_state = config.state.clone();
        let drain = config.limits.drain;
        let bound: Vec<_> = addresses.iter().map(|(_, address)| *address).collect();
        let seed = random_seed();
        let system = |error| StartError::System { what: "TLS cannot be prepared", error };
        let tls = Tls::new(count).map_err(system)?;
        let ticket_keys = tls.keys();
        let (builder, first) = Builder::start(
            options.source,
            config,
            files,
            bound,
            Arc::clone(&names),
            log.handle(),
            tls,
            count,
            seed,
        )
        .map_err(StartError::Config)?;
        notes.extend(first.warnings.iter().cloned());
        let builder = Arc::new(builder);

        // From here on a failure must end what was started: the parts are put into the gateway as they come.
        let mut gateway = Self {
            control: None,
            shards: Vec::with_capacity(count),
            threads: Vec::with_capacity(count),
            addresses,
            admin: admin_address,
            driver: driver.clone(),
            drain,
            warnings: notes,
            state,
            held: Some(Arc::new(held)),
            taken,
            log: None,
        };
        let system = |error| StartError::System { what: "a shard cannot start", error };
        let mut mailboxes = Vec::with_capacity(count);
        for _ in 0..count {
            let (postbox, own) = mailbox(MAILBOX).map_err(system)?;
            gateway.shards.push(postbox);
            mailboxes.push(own);
        }
        let neighbours: Arc<[_]> = gateway.shards.iter().cloned().collect();
        let spread = Arc::new(Spread::new(count));
        let (ask_accounts, questions) = tokio::sync::mpsc::channel(accounts::QUESTIONS_MAX);
        let pinned = matches!(options_shards(count, cores.len()), Pinning::OnePerCore);
        for (number, (access, mailbox)) in access.into_iter().zip(mailboxes).enumerate() {
            let own: Vec<_> = sockets
                .iter_mut()
                .enumerate()
                .filter_map(|(listener, shards)| Some((listener, shards.pop()?)))
                .flat_map(|(listener, sockets)| sockets.into_iter().map(move |socket| (listener, socket)))
                .collect();
            let core = pinned.then(|| cores[number].id);
            let plan = |postbox, ready| Plan {
                number,
                core,
                driver: driver.clone(),
                sockets: own,
                snapshot: builder.cell(),
                bus: builder.bus(),
                mailbox,
                shards: Arc::clone(&neighbours),
                spread: Arc::clone(&spread),
                postbox,
                accounts: ask_accounts.clone(),
                access,
                events: log.handle().events(),
                connections_max: connections_max.div_ceil(count),
                seed: seed.wrapping_add(number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15),
                ready,
            };
            gateway.start_shard(number, plan)?;
        }
        let handle = log.handle();
        gateway.log = Some(log);

        let shards = ShardMailboxes { shards: gateway.shards.clone() };
        let builder_keys = builder.keys();
        let (build, follow) = (Arc::clone(&builder), Arc::clone(&builder));
        let control = Control::start(control::Parts {
            admin: admin.map(Socket::into_tcp),
            state: admin_state,
            shards: Arc::new(shards),
            log: handle,
            names,
            build: Arc::new(move |cause| build.rebuild(cause)),
            first,
            follow: Some(follow),
            keys: builder_keys,
            accounts: control::Accounts {
                settings: builder.accounts(),
                questions,
                revocations: builder.revocations(),
            },
            chores: vec![Chore {
                every: tls::ROTATE_EVERY,
                run: Box::new(move || tls::rotate(&ticket_keys)),
            }],
            watch: options.watch,
            signals: options.signals,
            notifier: options.notifier,
        })
        .map_err(|error| StartError::System { what: "the control thread cannot start", error })?;
        gateway.control = Some(control);
        Ok(gateway)
    }

    fn start_shard(
        &mut self,
        number: usize,
        plan: impl FnOnce(Postbox<Message>, mpsc::Sender<io::Result<()>>) -> Plan,
    ) -> Result<(), StartError> {
        let system = |error| StartError::System { what: "a shard cannot start", error };
        let (ready, started) = mpsc::channel();
        let plan = plan(self.shards[number].clone(), ready);
        let thread = thread::Builder::new()
            .name(format!("shard-{number}"))
            .spawn(move || shard::run(plan))
            .map_err(system)?;
        self.threads.push(thread);
        match started.recv() {
            Ok(result) => result.map_err(system),
            Err(_) => Err(system(io::Error::other("its thread ended"))),
        }
    }

    /// The bound address of the listener written as `name`; `None` when there is none, or it is a Unix socket.
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.addresses.iter().find(|(written, _)| &**written == name)?.1
    }

    /// All listeners as written and, for TCP, as bound.
    pub fn addresses(&self) -> &[(Arc<str>, Option<SocketAddr>)] {
        &self.addresses
    }

    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    pub fn driver(&self) -> &DriverUsed {
        &self.driver
    }

    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// What the operator should know although the gateway has started.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Does what SIGHUP does and waits for it. `Ok` says what changed; `Err` holds the problems, and nothing changed.
    pub fn reload(&self) -> Result<String, String> {
        let control = self.control.as_ref().expect("a gateway that started has a control thread");
        control.reload().unwrap_or_else(|_| Err("the control thread has ended".to_owned()))
    }

    /// Accepts nothing more and waits until every connection has come to an end, at most as long as `drain` says. Returns whether
    /// all have.
    pub fn drain(&self) -> bool {
        self.leave(&Taken::default())
    }

    /// The same when a successor accepts at what it has `taken`.
    fn leave(&self, taken: &Taken) -> bool {
        if let Some(control) = &self.control {
            // Who asks at a port that both have wants to know whether the gateway serves: it does.
            match taken.admin {
                true => control.leave_admin(),
                false => control.drain(),
            }
        }
        let handed_over: Arc<[usize]> = taken.listeners.as_slice().into();
        let (done, drained) = mpsc::channel();
        for shard in &self.shards {
            // A full mailbox belongs to a shard that does not run; `stop` deals with that.
            let _ = shard.post(Message::Drain(Arc::clone(&handed_over), done.clone()));
        }
        drop(done);
        let mut left = self.shards.len();
        let clock = crate::clock::Clock::start();
        let begun_us = clock.now_us();
        while left > 0 {
            let waited = Duration::from_micros(clock.now_us() - begun_us);
            match drained.recv_timeout(self.drain.saturating_sub(waited)) {
                Ok(()) => left -= 1,
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => return false,
            }
        }
        true
    }

    /// Answers commands that come by this socket.
    fn serve_commands(&self, listener: UnixListener) {
        if let Some(control) = &self.control {
            control.serve_commands(listener);
        }
    }

    /// Ends everything: connections are cut, threads are joined, what was logged is written.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.control.take());
        drop(self.held.take());
        for shard in self.shards.drain(..) {
            if shard.post(Message::Stop).is_err() {
                shard.close();
            }
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                event::error("gateway", format_args!("a shard's thread panicked"));
            }
        }
        drop(self.log.take());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.end();
    }
}

/// The shards as control sees them.
struct ShardMailboxes {
    shards: Vec<Postbox<Message>>,
}

impl control::Shards for ShardMailboxes {
    fn count(&self) -> usize {
        self.shards.len()
    }

    fn report(&self, shard: usize, spare: Metrics) -> Option<oneshot::Receiver<Report>> {
        let (answer, answered) = oneshot::channel();
        self.shards.get(shard)?.post(Message::Report(Box::new(spare), answer)).ok()?;
        Some(answered)
    }

    fn nudge(&self) {
        for shard in &self.shards {
            // A shard with a full mailbox is awake and reads the snapshot anyway.
            let _ = shard.post(Message::NewSnapshot);
        }
    }
}

/// Which driver the shards get. A driver that cannot be had is an error when it was asked for by name.
fn choose_driver(asked: Driver, notes: &mut Vec<String>) -> Result<DriverUsed, StartError> {
    if asked == Driver::Epoll {
        return Ok(DriverUsed::Epoll);
    }
    // Nothing is in flight in a runtime that never ran, so it may be dropped.
    match Runtime::io_uring() {
        Ok(runtime) => Ok(runtime.driver().clone()),
        Err(error) => {
            let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
            let why = why_blocked(&error, sysctl.as_deref());
            if asked == Driver::IoUring {
                return Err(StartError::Driver(format!("driver = \"io_uring\": {why}")));
            }
            notes
                .push(format!("io_uring cannot be used, epoll is used instead, which costs more CPU: {why}"));
            Ok(DriverUsed::Epoll)
        }
    }
}

enum Pinning {
    OnePerCore,
    LeftToKernel,
}

/// More shards than cores cannot each have one.
fn options_shards(count: usize, cores: usize) -> Pinning {
    if count <= cores { Pinning::OnePerCore } else { Pinning::LeftToKernel }
}

/// How many client connections the process may hold: as configured, or what the descriptors allow less the pools and a
/// reserve. The soft limit is raised to the hard one first.
fn connections_max(config: &Config, shards: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // Where it is refused the soft limit stays, and is respected below.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    let kept: u64 = config.services.iter().map(|service| (service.keepalive * shards) as u64).sum();
    let room = descriptors.saturating_sub(DESCRIPTORS_KEPT).saturating_sub(kept.min(descriptors / 4));
    let room = usize::try_from(room).unwrap_or(usize::MAX).max(1);
    config.limits.connections_max.map_or(room, |configured| configured.min(room))
}

/// A number that differs between processes and starts.
fn random_seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
