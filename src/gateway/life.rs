//! The life of a process: it starts, perhaps in the place of another, serves, and ends or hands over.

use std::{
    io::Write as _,
    path::Path,
    process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use tokio::sync::oneshot;

use super::{
    Gateway, Options, Source, StartError,
    presence::Presence,
    sockets::{Inherited, Taken},
    upgrade::{self, Predecessor, Program, Successor, Wish},
};
use crate::{
    control::{Notifier, Signal},
    observe::event,
};

/// What may happen to a process that serves.
enum Event {
    Signal(Signal),
    /// A new process listens, or does not.
    Successor(Result<Box<Successor>, String>),
}

/// Events that may wait.
const EVENTS_MAX: usize = 16;

type Answer = oneshot::Sender<Result<String, String>>;

/// Serves the configuration at `path` until a signal. `greet` is called when it does.
///
/// Returns the exit code: 0 after a stop, 1 when the configuration is wrong or connections had to be cut, 2 when the system refuses
/// something.
pub fn live(path: &Path, greet: impl FnOnce(&Gateway)) -> u8 {
    let program = Program::of_this_process();
    let refused = |why: &str| {
        say(&format!("coregate: {why}"));
        2
    };
    let (predecessor, inherited) = match inherit() {
        Ok(found) => found,
        Err(why) => return refused(&why),
    };
    let notifier = match Notifier::from_env() {
        Ok(notifier) => notifier.map(Arc::new),
        Err(why) => return refused(&why),
    };
    let (happens, events) = sync_channel(EVENTS_MAX);
    let told = happens.clone();
    let options = Options {
        // A full queue means that the process is about to end.
        signals: Some(Arc::new(move |signal| drop(told.try_send(Event::Signal(signal))))),
        watch: true,
        inherited,
        notifier: notifier.clone(),
        ..Options::new(Source::File(path.to_owned()))
    };
    let gateway = match Gateway::start(options) {
        Ok(gateway) => gateway,
        Err(error) => {
            let why = error.to_string();
            if let Some(predecessor) = predecessor {
                predecessor.failed(&why);
            }
            say(&format!("coregate: {why}"));
            return match error {
                StartError::Config(_) => 1,
                StartError::Bind { .. }
                | StartError::Driver(_)
                | StartError::Inherited(_)
                | StartError::User(_)
                | StartError::System { .. } => 2,
            };
        }
    };
    if let Some(predecessor) = &predecessor
        && predecessor.ready(&gateway.taken) == Wish::Stop
    {
        gateway.stop();
        return 0;
    }
    let presence = match Presence::announce(&gateway.state, predecessor.is_some()) {
        Ok((presence, commands)) => {
            gateway.serve_commands(commands);
            Some(presence)
        }
        Err(why) => {
            say(&format!("coregate: warning: {why}"));
            None
        }
    };
    if let Some(notifier) = &notifier {
        notifier.ready("serving");
    }
    if let Some(predecessor) = predecessor {
        predecessor.serving();
    }
    greet(&gateway);
    Process { program, gateway, notifier, presence, happens, events, upgrade: None }.live()
}

/// What listens already, and the process that listens there.
fn inherit() -> Result<(Option<Predecessor>, Inherited), String> {
    match Predecessor::meet()? {
        Some((predecessor, inherited)) => Ok((Some(predecessor), inherited)),
        None => Ok((None, Inherited::from_systemd()?)),
    }
}

/// A process that serves.
struct Process {
    program: Program,
    gateway: Gateway,
    notifier: Option<Arc<Notifier>>,
    presence: Option<Presence>,
    happens: SyncSender<Event>,
    events: Receiver<Event>,
    upgrade: Option<Upgrade>,
}

/// A new process that is being started.
struct Upgrade {
    give_up: Arc<AtomicBool>,
    thread: JoinHandle<()>,
    answer: Option<Answer>,
}

impl Process {
    fn live(mut self) -> u8 {
        loop {
            // Nobody can send only when the control thread has ended, which it does not by itself.
            match self.events.recv().unwrap_or(Event::Signal(Signal::Fast)) {
                Event::Signal(Signal::Fast) => {
                    self.say_stopping("ending at once");
                    self.give_up();
                    self.gateway.stop();
                    return 0;
                }
                Event::Signal(Signal::Graceful) => {
                    self.say_stopping("letting connections end");
                    self.give_up();
                    return self.drain(&Taken::default());
                }
                Event::Signal(Signal::Upgrade(answer)) => self.begin(answer),
                Event::Successor(Err(why)) => self.stay(&why),
                Event::Successor(Ok(successor)) => {
                    if let Some(taken) = self.hand_over(*successor) {
                        return self.drain(&taken);
                    }
                }
            }
        }
    }

    fn say_stopping(&self, status: &str) {
        if let Some(notifier) = &self.notifier {
            notifier.stopping(status);
        }
    }

    /// Starts a new process, unless one is being started.
    fn begin(&mut self, answer: Option<Answer>) {
        if self.upgrade.is_some() {
            return refuse(answer, "an upgrade is under way already");
        }
        let give_up = Arc::new(AtomicBool::new(false));
        let Some(held) = self.gateway.held.clone() else { return refuse(answer, "the sockets are gone") };
        let (program, happens, abandoned) =
            (self.program.clone(), self.happens.clone(), Arc::clone(&give_up));
        event::info("upgrade", format_args!("{} is started", program.path().display()));
        let started = thread::Builder::new().name("upgrade".to_owned()).spawn(move || {
            let outcome = upgrade::start(&program, &held, &abandoned).map(Box::new);
            // Whoever does not listen any more ends, and the new process with it.
            drop(happens.send(Event::Successor(outcome)));
        });
        match started {
            Ok(thread) => self.upgrade = Some(Upgrade { give_up, thread, answer }),
            Err(error) => refuse(answer, &format!("no thread for it: {error}")),
        }
    }

    /// The upgrade has failed: everything is as before.
    fn stay(&mut self, why: &str) {
        let answer = self.upgrade.take().and_then(|upgrade| upgrade.answer);
        event::error("upgrade", format_args!("{why}\nthis process goes on serving"));
        refuse(answer, &format!("{why}\nprocess {} goes on serving", process::id()));
    }

    /// Lets the new process serve. Returns what it took; `None` when it did not come to that.
    fn hand_over(&mut self, successor: Successor) -> Option<Taken> {
        let id = successor.id();
        // Before the new one speaks for itself: a supervisor listens to nobody else.
        if let Some(notifier) = &self.notifier {
            notifier.is_now(id);
        }
        match successor.serve() {
            Ok(taken) => {
                event::info("upgrade", format_args!("process {id} serves; this one drains"));
                if let Some(answer) = self.upgrade.take().and_then(|upgrade| upgrade.answer) {
                    // Whoever asked may have gone.
                    drop(answer.send(Ok(format!("process {id} serves; {} drains", process::id()))));
                }
                Some(taken)
            }
            Err(why) => {
                if let Some(notifier) = &self.notifier {
                    notifier.is_now(process::id());
                    notifier.ready("serving; an upgrade has failed");
                }
                if let Some(presence) = &self.presence
                    && let Err(error) = presence.write_pid()
                {
                    event::warn("upgrade", format_args!("the pid file is not written: {error}"));
                }
                self.stay(&why);
                None
            }
        }
    }

    /// Ends a new process that does not serve yet.
    fn give_up(&mut self) {
        let Some(Upgrade { give_up, thread, answer }) = self.upgrade.take() else { return };
        give_up.store(true, Ordering::Relaxed);
        refuse(answer, "the gateway is about to end");
        drop(thread.join());
        while let Ok(event) = self.events.try_recv() {
            if let Event::Successor(Ok(successor)) = event {
                successor.stop();
            }
        }
    }

    /// Waits for every connection to end, and ends.
    fn drain(self, taken: &Taken) -> u8 {
        let Self { mut gateway, events, presence, .. } = self;
        // What is open here as well would look as if somebody listened.
        gateway.held = None;
        say("coregate: draining; a second signal ends it at once");
        // Whoever waits for connections to end can be told not to.
        let impatient = thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for event in events {
                match event {
                    Event::Signal(Signal::Fast | Signal::Graceful) => process::exit(1),
                    Event::Signal(Signal::Upgrade(answer)) => {
                        refuse(answer, "this process drains already");
                    }
                    Event::Successor(Ok(successor)) => successor.stop(),
                    Event::Successor(Err(_)) => {}
                }
            }
        });
        let all = gateway.leave(taken);
        if !all {
            say("coregate: connections were still open after `drain`; they are cut");
        }
        gateway.stop();
        drop((impatient, presence));
        u8::from(!all)
    }
}

fn refuse(answer: Option<Answer>, why: &str) {
    if let Some(answer) = answer {
        // Whoever asked may have gone.
        drop(answer.send(Err(why.to_owned())));
    }
}

/// Says something to whoever started the process.
pub fn say(text: &str) {
    // A closed stderr must not stop the gateway.
    let _ = writeln!(std::io::stderr(), "{text}");
}
