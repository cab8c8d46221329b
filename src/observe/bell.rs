//! How a shard wakes the log thread: almost never.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU8, Ordering, fence},
    },
    thread::Thread,
};

/// What the log thread is doing, so that a shard makes no system call for a thread that is awake.
pub(super) struct Bell {
    state: AtomicU8,
    /// A command waits.
    told: AtomicBool,
    thread: OnceLock<Thread>,
}

/// Working, or told to.
const AWAKE: u8 = 0;
/// Back by itself in a moment; to be woken only when a ring fills up.
const DOZING: u8 = 1;
/// Nothing came for a while; to be woken by the next record.
const ASLEEP: u8 = 2;

impl Bell {
    pub(super) fn new() -> Self {
        Self { state: AtomicU8::new(AWAKE), told: AtomicBool::new(false), thread: OnceLock::new() }
    }

    /// To be called by the log thread before anything else.
    pub(super) fn answered_by(&self, thread: Thread) {
        _ = self.thread.set(thread);
    }

    /// Wakes the log thread if it sleeps, or if it dozes and this is `urgent`.
    ///
    /// To be called after a record was written. The fence pairs with the one in [`Bell::sleep`]: either the
    /// log thread sees the record before it sleeps, or this sees it asleep.
    pub(super) fn ring(&self, urgent: bool) {
        fence(Ordering::SeqCst);
        let state = self.state.load(Ordering::Relaxed);
        if state == ASLEEP || (urgent && state == DOZING) {
            self.wake();
        }
    }

    /// Wakes the log thread for a command, whatever it does.
    pub(super) fn tell(&self) {
        self.told.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Whether a command came since the last call. To be asked after [`Bell::doze`] or [`Bell::sleep`].
    pub(super) fn told(&self) -> bool {
        self.told.swap(false, Ordering::SeqCst)
    }

    #[cold]
    fn wake(&self) {
        if self.state.swap(AWAKE, Ordering::SeqCst) != AWAKE
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }

    /// Announces a doze. What came before may be seen only after it.
    pub(super) fn doze(&self) {
        self.state.store(DOZING, Ordering::SeqCst);
    }

    /// Announces sleep. The caller looks once more whether there is something to do, then parks.
    pub(super) fn sleep(&self) {
        self.state.store(ASLEEP, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    pub(super) fn awake(&self) {
        self.state.store(AWAKE, Ordering::SeqCst);
    }

    #[cfg(test)]
    pub(super) fn is_asleep(&self) -> bool {
        self.state.load(Ordering::SeqCst) == ASLEEP
    }
}
