//! Signals, with nginx's meanings.

use std::{future::Future, io, sync::Arc};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
};

use super::{Cause, reload::Trigger};
use crate::observe::{event, writer::Handle as LogHandle};

/// What a process is asked to do with itself.
#[derive(Debug)]
pub enum Signal {
    /// QUIT: accept no more, let connections finish.
    Graceful,
    /// TERM or INT: stop now.
    Fast,
    /// USR2, or a command: let a new binary take the sockets. Whoever waits is told which process serves, or why none does.
    Upgrade(Option<oneshot::Sender<Result<String, String>>>),
}

/// Where signals go. Never blocks; what cannot be dealt with is dropped.
pub type Signals = Arc<dyn Fn(Signal) + Send + Sync>;

/// Takes over the process's signals: HUP reloads, USR1 reopens the log files, the others go to `signals`.
pub(super) fn listen(
    signals: Signals,
    triggers: mpsc::Sender<Trigger>,
    log: LogHandle,
) -> io::Result<impl Future<Output = ()>> {
    let mut reload = signal(SignalKind::hangup())?;
    let mut reopen = signal(SignalKind::user_defined1())?;
    let mut upgrade = signal(SignalKind::user_defined2())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        loop {
            let asked = tokio::select! {
                _ = reload.recv() => {
                    // A full queue means that a reload is about to happen anyway.
                    _ = triggers.try_send(Trigger { cause: Cause::Signal, answer: None });
                    continue;
                }
                _ = reopen.recv() => {
                    log.reopen();
                    event::info("control", format_args!("log files reopened"));
                    continue;
                }
                _ = upgrade.recv() => Signal::Upgrade(None),
                _ = quit.recv() => Signal::Graceful,
                _ = terminate.recv() => Signal::Fast,
                _ = interrupt.recv() => Signal::Fast,
            };
            signals(asked);
        }
    })
}
