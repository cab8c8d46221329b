//! The only folder that names monoio. Everything above it speaks of streams, buffers, deadlines and mailboxes.
//!
//! monoio 0.2.4 has faults that this folder works around, so that no one above has to know them:
//!
//! * a panic in a task ends the thread → [`spawn`] catches it;
//! * a dropped `accept` leaks the descriptor it would have returned → [`Listener::accept`] is never dropped: it is cancelled and
//!   awaited, or ends because its socket is shut down;
//! * a task that wakes itself is run first and, with `DEFER_TASKRUN`, keeps completions from arriving → nothing here yields
//!   by waking itself;
//! * dropping a `JoinHandle` late is a race (with the feature `sync`, which is off) → [`spawn`] drops it at once;
//! * a dropped runtime frees buffers that the kernel may still fill → [`Runtime::block_on`] ends only after every stream has
//!   ended, and a process that cannot wait for that leaves by `_exit`;
//! * a dropped read may lose bytes → no read is ever dropped: deadlines shut the socket down, which completes the read
//!   ([`deadline`]), and a read that should only give its buffer back is cancelled and awaited.

mod ahead;
mod ask;
mod buffer;
pub mod deadline;
mod gathered;
mod handshake;
mod listener;
mod mailbox;
mod pages;
mod session;
mod start;
mod stream;
mod task;
#[cfg(test)]
mod tests;
mod turnstile;

pub use self::{
    ahead::ReadAhead,
    ask::{Answer, AnswerTo, Question, Unanswered, Waiting},
    buffer::{Buffer, Buffers},
    deadline::{Alarm, Timers},
    gathered::{Gathered, Held},
    handshake::HandshakeFault,
    listener::{Listener, ListenerHandle, Others, Peer, Socket},
    mailbox::{Mailbox, Postbox, mailbox},
    session::Facts as TlsFacts,
    start::{DriverUsed, Runtime, pin_to_core, why_blocked},
    stream::{Accepted, Detached, Idle, IoFault, Reader, Stream, StreamHandle, Writer},
    task::{Ending, Gate, sleep, spawn},
    turnstile::Turnstile,
};
