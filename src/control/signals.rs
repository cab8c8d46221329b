//! Signals, with nginx's meanings.

use std::{future::Future, io, sync::mpsc::SyncSender};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{Cause, reload::Trigger};
use crate::observe::{event, writer::Handle as LogHandle};

/// A request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// QUIT: accept no more, let connections finish.
    Graceful,
    /// TERM or INT: stop now.
    Fast,
}

/// Takes over the process's signals: HUP reloads, USR1 reopens the log files, the others go to `stops`.
pub(super) fn listen(
    stops: SyncSender<Signal>,
    triggers: mpsc::Sender<Trigger>,
    log: LogHandle,
) -> io::Result<impl Future<Output = ()>> {
    let mut reload = signal(SignalKind::hangup())?;
    let mut reopen = signal(SignalKind::user_defined1())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        loop {
            let stop = tokio::select! {
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
                _ = quit.recv() => Signal::Graceful,
                _ = terminate.recv() => Signal::Fast,
                _ = interrupt.recv() => Signal::Fast,
            };
            // A full queue means that a stop is being worked on.
            _ = stops.try_send(stop);
        }
    })
}
