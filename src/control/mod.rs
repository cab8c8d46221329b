//! The control thread: everything that is not serving requests.
//!
//! One thread named `control` with a tokio runtime: the admin port, reloads, retired snapshots, DNS, signals.
//! What belongs to the gateway proper (loading, building and storing a snapshot, talking to a shard) comes in
//! through [`Parts`], because those live in layers above or are the caller's to decide. Nothing here is waited
//! for by a shard.

pub mod accounts;
mod admin;
pub mod bus;
mod collect;
mod commands;
mod dns;
mod door;
mod jwks;
mod logs;
mod notify;
mod page;
mod reload;
mod resolve;
mod retire;
mod shards;
mod signals;
mod status;
#[cfg(test)]
mod tests;
mod users;
mod watch;

use std::{
    io,
    net::TcpListener,
    os::unix::net::UnixListener,
    path::PathBuf,
    sync::{Arc, mpsc::SyncSender},
    thread,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch as tokio_watch};

use crate::auth::revocation::RevocationCell;
use crate::observe::{NamesCell, event, event::Origin, writer::Handle as LogHandle};

pub use commands::{Command, pid_path, socket_path};
pub use jwks::FetchedKeys;
pub use logs::settings as log_settings;
pub use notify::Notifier;
pub use reload::{Build, Built, Cause, CertificateFacts, Inputs, Refused};
pub use resolve::{Follow, Followed, resolve_now};
pub use retire::Retired;
pub use shards::{Report, Shards};
pub use signals::{Signal, Signals};

use self::{
    collect::Collector,
    door::Door,
    reload::{Reloader, Trigger},
    resolve::Follower,
    retire::Retirement,
    status::Status,
};

/// Reloads waiting for their turn.
const TRIGGERS_MAX: usize = 16;
/// Threads for what blocks: building a snapshot, getaddrinfo.
const BLOCKING_THREADS_MAX: usize = 32;
/// How long a stop waits for them.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// Shards are asked for what they counted at least so often, so that no count can grow without bound.
const COLLECT_EVERY: Duration = Duration::from_secs(60);

/// What the control thread is given.
pub struct Parts {
    /// Bound by the caller, so that a port in use is found before anything starts.
    pub admin: Option<TcpListener>,
    /// Where its token and its socket are.
    pub state: PathBuf,
    pub shards: Arc<dyn Shards>,
    pub log: LogHandle,
    /// The build closure stores new names here before it stores the snapshot that uses them.
    pub names: Arc<NamesCell>,
    /// Loads, checks, builds and stores a snapshot. Called on a thread that may block, one call at a time.
    pub build: Arc<Build>,
    /// What serves already.
    pub first: Built,
    /// The host names in the configuration, looked up again from time to time.
    pub follow: Option<Arc<dyn Follow>>,
    /// Keys that are to be fetched, now and after every reload.
    pub keys: tokio_watch::Receiver<Vec<Arc<FetchedKeys>>>,
    pub accounts: Accounts,
    /// What is to be done from time to time.
    pub chores: Vec<Chore>,
    /// Whether to look for changes of the files.
    pub watch: bool,
    /// Where stop signals go; `None` leaves the process's signals alone. HUP and USR1 are dealt with here.
    pub signals: Option<Signals>,
    /// Who is told how it goes; `None` where nobody asks.
    pub notifier: Option<Arc<Notifier>>,
}

/// What the issuers of our own work with.
pub struct Accounts {
    pub settings: tokio_watch::Receiver<Vec<Arc<accounts::Settings>>>,
    pub questions: mpsc::Receiver<accounts::Question>,
    pub revocations: Arc<RevocationCell>,
}

/// Something short that is done again and again.
pub struct Chore {
    pub every: Duration,
    pub run: Box<dyn Fn() + Send>,
}

/// The running control thread. Dropping it ends the thread.
pub struct Control {
    status: Arc<Status>,
    triggers: mpsc::Sender<Trigger>,
    retirement: mpsc::Sender<Retired>,
    stop: tokio_watch::Sender<bool>,
    leave: tokio_watch::Sender<bool>,
    commands: mpsc::Sender<UnixListener>,
    thread: Option<thread::JoinHandle<()>>,
}

/// The control thread no longer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped;

impl Control {
    /// Starts the thread. Fails when the system refuses a thread, a timer or the signals.
    pub fn start(parts: Parts) -> io::Result<Self> {
        let events = parts.log.events();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .on_thread_start(move || event::attach(&events, Origin::Control))
            .build()?;
        let (triggers, triggers_in) = mpsc::channel(TRIGGERS_MAX);
        let (retirement, retired) = mpsc::channel(TRIGGERS_MAX);
        let (stop, stopped) = tokio_watch::channel(false);
        let (leave, left) = tokio_watch::channel(false);
        let (commands, commands_in) = mpsc::channel(1);
        let status = Arc::new(Status::new(&parts.first));
        let (ready, started) = std::sync::mpsc::sync_channel(1);

        let control = (Arc::clone(&status), triggers.clone(), retirement.clone());
        let thread = thread::Builder::new().name("control".to_owned()).spawn(move || {
            event::attach(&parts.log.events(), Origin::Control);
            let told = Told { stopped, left, commands: commands_in };
            let run = run(parts, control.0, (control.1, triggers_in), (control.2, retired), told, ready);
            runtime.block_on(run);
            runtime.shutdown_timeout(STOP_TIMEOUT);
        })?;
        let control = Self { status, triggers, retirement, stop, leave, commands, thread: Some(thread) };
        match started.recv() {
            Ok(Ok(())) => Ok(control),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the control thread did not start")),
        }
    }

    /// Loads the configuration again and waits for it. `Ok` says what changed, in one line, empty when nothing did;
    /// `Err` has the problems, and the running configuration is unchanged. Not for use on an async thread.
    pub fn reload(&self) -> Result<Result<String, String>, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.triggers
            .blocking_send(Trigger { cause: Cause::Asked, answer: Some(answer) })
            .map_err(|_| Stopped)?;
        answered.blocking_recv().map_err(|_| Stopped)
    }

    /// Takes care of a snapshot that is no longer served: it is dropped on the control thread once nobody else
    /// holds it. One returned in [`Built::retired`] need not be given again.
    pub fn retire(&self, retired: Retired) {
        // Refused only when the thread has ended or a reload storm filled the queue; the last holder drops it then.
        _ = self.retirement.try_send(retired);
    }

    /// From now on `/readyz` says no: connections are being drained.
    pub fn drain(&self) {
        self.status.drain();
    }

    /// Accepts no more at the admin port: somebody else does.
    pub fn leave_admin(&self) {
        // Fails when the thread has ended by itself.
        _ = self.leave.send(true);
    }

    /// Answers commands from now on. Not for use on an async thread.
    pub fn serve_commands(&self, listener: UnixListener) {
        // As above.
        _ = self.commands.blocking_send(listener);
    }

    /// Ends the thread and waits for it, at most for a running build or name lookup to time out.
    pub fn shutdown(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Fails when the thread has ended by itself.
        _ = self.stop.send(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            event::error("control", format_args!("the control thread panicked"));
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.end();
    }
}

/// What comes from the other side of [`Control`].
struct Told {
    stopped: tokio_watch::Receiver<bool>,
    left: tokio_watch::Receiver<bool>,
    commands: mpsc::Receiver<UnixListener>,
}

/// Runs every task until told to stop. Reports through `ready` whether all could be started.
async fn run(
    parts: Parts,
    status: Arc<Status>,
    (triggers, triggers_in): (mpsc::Sender<Trigger>, mpsc::Receiver<Trigger>),
    (retirement, retired): (mpsc::Sender<Retired>, mpsc::Receiver<Retired>),
    Told { mut stopped, left, mut commands }: Told,
    ready: SyncSender<io::Result<()>>,
) {
    let issuers = accounts::Issuers::default();
    let collector = Arc::new(Collector::new(Arc::clone(&parts.shards)));
    let mut tasks = tokio::task::JoinSet::new();
    let started = (|| {
        if let Some(listener) = parts.admin {
            let admin = admin::Admin {
                status: Arc::clone(&status),
                collector: Arc::clone(&collector),
                names: Arc::clone(&parts.names),
                log: parts.log.clone(),
                issuers: issuers.clone(),
            };
            listener.set_nonblocking(true)?;
            let port = admin::Listener::Port(tokio::net::TcpListener::from_std(listener)?);
            let closed =
                |error| event::warn("admin", format_args!("the API is closed: admin.token: {error}"));
            let token = door::token(&parts.state).map_err(closed).ok();
            tasks.spawn(admin::serve(port, admin.clone(), Door::Port(token), left.clone()));
            match door::socket(&parts.state).and_then(tokio::net::UnixListener::from_std) {
                Ok(socket) => {
                    tasks.spawn(admin::serve(admin::Listener::Socket(socket), admin, Door::Socket, left));
                }
                Err(error) => event::warn("admin", format_args!("no socket: admin.sock: {error}")),
            }
        }
        if let Some(signals) = parts.signals.clone() {
            tasks.spawn(signals::listen(signals, triggers.clone(), parts.log.clone())?);
        }
        Ok(())
    })();
    let failed = started.is_err();
    // Before the caller goes on: a change of the files after that is seen.
    let notifier = parts.notifier.clone();
    let reloader =
        Reloader::new(parts.build, parts.first, Arc::clone(&status), retirement, parts.watch, notifier);
    // Nobody listens any more only when the caller has gone, and then `stopped` says so too.
    _ = ready.send(started);
    if failed {
        return;
    }

    if let Some(follow) = parts.follow {
        tasks.spawn(Follower::new(follow, triggers.clone()).run());
    }
    tasks.spawn(jwks::run(parts.keys));
    let Accounts { settings, questions, revocations } = parts.accounts;
    tasks.spawn(accounts::run(settings, questions, revocations, issuers));
    tasks.spawn(reloader.run(triggers_in));
    tasks.spawn(Retirement::new(Arc::clone(&parts.shards), Arc::clone(&status)).run(retired));
    for Chore { every, run } in parts.chores {
        tasks.spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                run();
            }
        });
    }
    if let Some(notifier) = parts.notifier
        && let Some(every) = notifier.watchdog()
    {
        tasks.spawn(feed(notifier, every, Arc::clone(&collector)));
    }
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(COLLECT_EVERY).await;
            drop(collector.collect().await);
        }
    });

    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            Some(listener) = commands.recv() => {
                let Some(signals) = parts.signals.clone() else { continue };
                match listen(listener) {
                    Ok(listener) => {
                        let respondents = commands::Respondents { triggers: triggers.clone(), signals };
                        tasks.spawn(commands::serve(listener, respondents));
                    }
                    Err(error) => event::warn("control", format_args!("no commands are answered: {error}")),
                }
            }
            // None ends by itself; the others go on without it.
            Some(_) = tasks.join_next() => {
                event::error("control", format_args!("bug: a task of the control thread panicked"));
            }
        }
    }
    tasks.shutdown().await;
}

fn listen(listener: UnixListener) -> io::Result<tokio::net::UnixListener> {
    listener.set_nonblocking(true)?;
    tokio::net::UnixListener::from_std(listener)
}

/// Tells the supervisor that the process is alive, as long as every shard answers.
async fn feed(notifier: Arc<Notifier>, every: Duration, collector: Arc<Collector>) {
    loop {
        let silent: Vec<_> = collector.collect().await.silent().collect();
        match silent.first() {
            None => notifier.alive(),
            Some(shard) => {
                event::error(
                    "control",
                    format_args!("shard {shard} does not answer; the watchdog is not told otherwise"),
                );
            }
        }
        tokio::time::sleep(every).await;
    }
}
