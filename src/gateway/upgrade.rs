//! A new binary takes the place of this process: the sockets go over, and nobody waits for an answer that does not come.
//!
//! The running process starts the new one and is its standard input: a socket, over which the listening sockets travel
//! (`SCM_RIGHTS`) and what the two have to say. A message is one JSON object.
//!
//! ```text
//! running                                      new
//!   {"listener": 0, "name": ":80", …} ──────▶          one or more for each listener, with its sockets
//!   {"complete": 1}                   ──────▶          reads its configuration, opens what is missing, starts its shards
//!                                     ◀──────  {"ready": …} or {"failed": "…"}
//!   {"serve": true} or {"stop": true} ──────▶          takes the pid file and the command socket
//!                                     ◀──────  {"serving": true}
//!   drains, as after QUIT
//! ```
//!
//! Until `serving` has come, whatever goes wrong leaves the running process as it was. A new process that loses the running one
//! before `serve` goes on alone: that one has crashed.

use std::{
    env,
    ffi::OsString,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rustix::{
    cmsg_space,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use serde_json::{Value, json};

use super::sockets::{Held, Inherited, Seat, Taken};
use crate::{
    clock::Clock,
    runtime::{Others, Socket},
};

/// Says that standard input is the running process.
const VARIABLE: &str = "COREGATE_HANDOVER";
/// Which form of the messages is meant; another one is refused.
const FORM: u64 = 1;
/// Sockets in one message; the kernel takes at most 253 (unix(7)).
const SOCKETS_MAX: usize = 64;
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// How long a new process may take until it listens.
const READY_PATIENCE: Duration = Duration::from_secs(60);
/// How long the other side may take for a message that it only has to write.
const WORD_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether the upgrade is to be given up.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What this process was started as, to be started again.
#[derive(Clone)]
pub(super) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// By the path by which it was called, not by the file: an upgrade puts another file, or another link, there.
    pub(super) fn of_this_process() -> Self {
        let mut arguments = env::args_os();
        let called = PathBuf::from(arguments.next().unwrap_or_default());
        let here = env::current_dir().unwrap_or_default();
        let path = match called.components().count() {
            // As the shell finds it.
            0 | 1 if !called.is_absolute() && !called.starts_with(".") => env::var_os("PATH")
                .and_then(|folders| {
                    env::split_paths(&folders).map(|folder| folder.join(&called)).find(|path| path.is_file())
                })
                .or_else(|| env::current_exe().ok())
                .unwrap_or(called),
            _ => here.join(called),
        };
        Self { path, arguments: arguments.collect() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// A new process that listens and waits for its turn.
pub(super) struct Successor {
    talk: Talk,
    child: Child,
    taken: Taken,
}

/// Starts a new process with all sockets and waits until it listens. The error says why it does not; nothing has changed then.
/// Blocks for as long as that takes. When `give_up` becomes true the new process is ended.
pub(super) fn start(program: &Program, held: &Held, give_up: &AtomicBool) -> Result<Successor, String> {
    let shown = program.path.display();
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(|error| format!("no socket for the hand-over: {error}"))?;
    let talk = Talk(near);
    let child = spawn(program, far).map_err(|error| format!("{shown} cannot be started: {error}"))?;
    let mut starting = Starting(Some(child));
    offer(&talk, held).map_err(|error| starting.explain(&talk, &error))?;
    let clock = Clock::start();
    let begun_us = clock.now_us();
    loop {
        if give_up.load(Ordering::Relaxed) {
            return Err("given up, because this process is to end".to_owned());
        }
        match talk.receive(LOOK_EVERY) {
            Ok((word, _)) => {
                if let Some(why) = word["failed"].as_str() {
                    return Err(format!("{shown} does not start:\n{}", why.trim_end()));
                }
                let ready = &word["ready"];
                let listeners = ready["listeners"].as_array().into_iter().flatten();
                let numbers = listeners.filter_map(|number| usize::try_from(number.as_u64()?).ok());
                let taken =
                    Taken { listeners: numbers.collect(), admin: ready["admin"].as_bool() == Some(true) };
                let child = starting.0.take().expect("only taken here");
                return Ok(Successor { talk, child, taken });
            }
            Err(error) if is_silence(&error) => {
                let waited = Duration::from_micros(clock.now_us() - begun_us);
                if waited > READY_PATIENCE {
                    return Err(format!(
                        "{shown} did not say within {} s that it listens; it was ended",
                        READY_PATIENCE.as_secs()
                    ));
                }
            }
            Err(error) => return Err(starting.explain(&talk, &error)),
        }
    }
}

/// A new process of which nothing is known. Dropped, it is ended.
struct Starting(Option<Child>);

impl Starting {
    /// Why a process that does not talk does not: how it ended, if it has.
    fn explain(&mut self, talk: &Talk, error: &io::Error) -> String {
        // What it said before it ended counts more than how.
        if let Ok((word, _)) = talk.receive(LOOK_EVERY)
            && let Some(why) = word["failed"].as_str()
        {
            return format!("the new process does not start:\n{}", why.trim_end());
        }
        let Some(child) = &mut self.0 else { return error.to_string() };
        // Whoever has closed its side is about to end, or is not Coregate.
        drop(child.kill());
        match child.wait() {
            Ok(status) => format!("the new process ended before it listened ({})", told(status)),
            Err(error) => error.to_string(),
        }
    }
}

fn told(status: ExitStatus) -> String {
    status.to_string()
}

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Successor {
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Lets the new process serve. Returns what it took when it has said that it does; the rest of the sockets is still ours alone.
    pub(super) fn serve(self) -> Result<Taken, String> {
        let Self { talk, child, taken } = self;
        let mut starting = Starting(Some(child));
        let said = talk.send(&json!({ "serve": true }), &[]).and_then(|()| talk.receive(WORD_PATIENCE));
        match said {
            Ok((word, _)) if word["serving"].as_bool() == Some(true) => {
                // It outlives us; whoever becomes its parent reaps it.
                drop(starting.0.take());
                Ok(taken)
            }
            Ok(_) => Err("the new process says something else than that it serves".to_owned()),
            Err(error) => Err(starting.explain(&talk, &error)),
        }
    }

    /// Ends the new process, which has not served yet.
    pub(super) fn stop(self) {
        let _ = self.talk.send(&json!({ "stop": true }), &[]);
        drop(Starting(Some(self.child)));
    }
}

fn spawn(program: &Program, far: OwnedFd) -> io::Result<Child> {
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).stdin(Stdio::from(far)).env(VARIABLE, FORM.to_string());
    for systemd in ["WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"] {
        command.env_remove(systemd);
    }
    keep_descriptors_from(&mut command);
    command.spawn()
}

/// Lets the new process have its standard streams and nothing else.
#[expect(unsafe_code, reason = "std can only mark the descriptors it knows")]
fn keep_descriptors_from(command: &mut Command) {
    let close_the_rest = || {
        // SAFETY: a system call without pointers, on the descriptors of the process that is about to become another program.
        let result = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, CLOSE_RANGE_CLOEXEC) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // JUSTIFICATION: on io_uring monoio accepts without SOCK_CLOEXEC. A connection that the new process had open as well would
    // never end for its client. Marking each as it is accepted costs a system call (0.2 µs), and leaves out those that are
    // accepted at this very moment.
    // SAFETY: between fork and exec only a system call is made; nothing is allocated, no lock is taken.
    unsafe { command.pre_exec(close_the_rest) };
}

/// close_range(2), since Linux 5.11; not in every version of libc.
const CLOSE_RANGE_CLOEXEC: libc::c_uint = 4;

fn offer(talk: &Talk, held: &Held) -> io::Result<()> {
    let listeners = held.listeners.iter().enumerate();
    for (number, (name, sockets)) in listeners {
        for sockets in sockets.chunks(SOCKETS_MAX) {
            let word = json!({ "listener": number, "name": name, "others": keeps_others(sockets) });
            talk.send(&word, sockets)?;
        }
    }
    if let Some(admin) = &held.admin {
        let sockets = std::slice::from_ref(admin);
        talk.send(&json!({ "admin": true, "others": keeps_others(sockets) }), sockets)?;
    }
    talk.send(&json!({ "complete": FORM }), &[])
}

/// Whether somebody besides the two processes listens there.
fn keeps_others(sockets: &[Socket]) -> bool {
    sockets.iter().any(|socket| socket.others().are_there())
}

/// The process that serves while this one starts.
pub(super) struct Predecessor {
    talk: Talk,
    /// It accepts from the sockets, too, until this process serves.
    others: Others,
}

/// What a predecessor wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Serve,
    /// The gateway is being stopped.
    Stop,
}

impl Predecessor {
    /// The process that has started this one to take its place, with its sockets; `None` where nobody did. Call it first of all, and
    /// once: standard input is empty afterwards.
    pub(super) fn meet() -> Result<Option<(Self, Inherited)>, String> {
        let Some(form) = env::var_os(VARIABLE) else { return Ok(None) };
        let bad =
            |error: io::Error| format!("{VARIABLE} is set, and standard input is no hand-over: {error}");
        let stdin = io::stdin().as_fd().try_clone_to_owned().map_err(bad)?;
        let empty = std::fs::File::open("/dev/null").map_err(bad)?;
        rustix::stdio::dup2_stdin(&empty).map_err(|error| bad(error.into()))?;
        let predecessor = Self { talk: Talk(stdin), others: Others::there() };
        if form.to_str() != Some(&FORM.to_string()) {
            let why = format!("the hand-over has form {}; this binary knows {FORM}", form.to_string_lossy());
            predecessor.failed(&why);
            return Err(why);
        }
        let inherited = predecessor.sockets().map_err(bad)?;
        Ok(Some((predecessor, inherited)))
    }

    fn sockets(&self) -> io::Result<Inherited> {
        let mut inherited = Inherited::default();
        loop {
            let (word, descriptors) = self.talk.receive(WORD_PATIENCE)?;
            if word["complete"].is_u64() {
                return Ok(inherited);
            }
            let seat = match word["listener"].as_u64().and_then(|number| usize::try_from(number).ok()) {
                Some(number) => Seat::Listener(number),
                None => Seat::Admin,
            };
            let name = word["name"].as_str().unwrap_or_default();
            // What systemd keeps stays open there when the predecessor has gone.
            let others =
                if word["others"].as_bool() == Some(true) { Others::there() } else { self.others.clone() };
            for descriptor in descriptors {
                inherited.push(seat, name, Socket::inherit(descriptor, others.clone())?);
            }
        }
    }

    /// Says why this process does not start.
    pub(super) fn failed(&self, why: &str) {
        // A message has a bound; its beginning says what matters.
        let beginning: String = why.chars().take(MESSAGE_BYTES_MAX / 16).collect();
        // Who does not listen learns it from the end of this process.
        let _ = self.talk.send(&json!({ "failed": beginning }), &[]);
    }

    /// Says that this process listens, and waits for its turn.
    pub(super) fn ready(&self, taken: &Taken) -> Wish {
        let word = json!({ "ready": { "listeners": taken.listeners, "admin": taken.admin } });
        if self.talk.send(&word, &[]).is_err() {
            return Wish::Serve;
        }
        loop {
            match self.talk.receive(WORD_PATIENCE) {
                Ok((word, _)) if word["stop"].as_bool() == Some(true) => return Wish::Stop,
                // Whoever has gone without a word has crashed, and somebody must serve.
                Ok(_) => return Wish::Serve,
                Err(error) if is_silence(&error) => {}
                Err(_) => return Wish::Serve,
            }
        }
    }

    /// Says that this process serves: the other one accepts nothing more.
    pub(super) fn serving(self) {
        self.others.have_gone();
        // Fails when it has crashed.
        let _ = self.talk.send(&json!({ "serving": true }), &[]);
    }
}

/// One end of the hand-over.
struct Talk(OwnedFd);

impl Talk {
    fn send(&self, word: &Value, sockets: &[Socket]) -> io::Result<()> {
        set_socket_timeout(&self.0, Timeout::Send, Some(WORD_PATIENCE))?;
        let text = word.to_string();
        let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !rights.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("too many sockets in one message"));
        }
        sendmsg(&self.0, &[IoSlice::new(text.as_bytes())], &mut rights, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// The next message. Fails with `UnexpectedEof` when the other side has gone, and as [`is_silence`] says after `patience`.
    fn receive(&self, patience: Duration) -> io::Result<(Value, Vec<OwnedFd>)> {
        set_socket_timeout(&self.0, Timeout::Recv, Some(patience))?;
        let mut text = vec![0; MESSAGE_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(SOCKETS_MAX))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let received =
            recvmsg(&self.0, &mut [IoSliceMut::new(&mut text)], &mut rights, RecvFlags::CMSG_CLOEXEC)?;
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut descriptors = Vec::new();
        for message in rights.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        let word = serde_json::from_slice(&text[..received.bytes]).map_err(io::Error::other)?;
        Ok((word, descriptors))
    }
}

/// Whether a message has just not come yet.
fn is_silence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}
