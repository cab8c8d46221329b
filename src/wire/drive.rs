//! What drives an HTTP/2 connection: reading, and a task that writes.

use std::{rc::Rc, time::Duration};

use super::mux::{Arrival, Fed, Mux};
use crate::{
    clock::Tick,
    http::h2,
    runtime::{Buffer, Gate, Idle, IoFault, Reader, Writer, spawn},
};

/// A connection that is quiet for longer than this holds no read buffer.
const REST_AFTER: Duration = Duration::from_secs(1);

/// Why nothing more is read from a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Both have said that they leave, and nothing is under way.
    Finished,
    /// The peer broke the protocol. It has been told.
    Fault(h2::Fault),
    /// The peer has closed, or the connection broke.
    Closed,
    /// The peer does not take what is written.
    Stuck,
    /// Nothing came in time.
    TooSlow,
}

impl Mux {
    /// Reads until the connection is over. `buffer` is what has been received of it; `until` says before every read how long it
    /// may take.
    pub async fn read_on(
        self: &Rc<Self>,
        reader: &mut Reader,
        mut buffer: Buffer,
        until: impl Fn() -> Tick,
        mut arrived: impl FnMut(Arrival),
    ) -> Over {
        let over = loop {
            let mut at = 0;
            let fed = self.feed(buffer.unread(), &mut at, &mut arrived);
            buffer.consume(at);
            match fed {
                Ok(Fed::All) => {}
                Ok(Fed::Flush) => self.flushed().await,
                Err(fault) => break Over::Fault(fault),
            }
            if self.is_broken() {
                break Over::Stuck;
            }
            if fed == Ok(Fed::Flush) {
                continue;
            }
            if self.is_finished() {
                break Over::Finished;
            }
            let clock = &self.timers.clock;
            let read = if buffer.capacity() == 0 {
                reader.read_after_rest(&mut buffer, || self.buffers.small(), until()).await
            } else {
                buffer.reserve(4096);
                match reader.read_or_release(&mut buffer, clock.after(REST_AFTER), until()).await {
                    Ok(Idle::Bytes(count)) => Ok(count),
                    Ok(Idle::Quiet) => {
                        self.buffers.give_back(std::mem::take(&mut buffer));
                        self.rest();
                        continue;
                    }
                    Err(fault) => Err(fault),
                }
            };
            clock.now_us();
            match read {
                Ok(1..) => {}
                Ok(0) | Err(IoFault::Broken(_)) if self.is_broken() => break Over::Stuck,
                Ok(0) | Err(IoFault::Broken(_)) => break Over::Closed,
                Err(IoFault::TooSlow) if self.is_finished() => break Over::Finished,
                Err(IoFault::TooSlow) => break Over::TooSlow,
            }
        };
        self.buffers.give_back(buffer);
        self.rest();
        over
    }

    /// Starts the task that writes. Returns where it says that it has ended, by [`Mux::close`] or because the peer takes nothing for
    /// `patience`. `ends` = the whole connection ends with it.
    pub fn start_writing(self: &Rc<Self>, mut writer: Writer, patience: Duration, ends: bool) -> Gate<()> {
        let written = Gate::default();
        let (done, broken) = (written.clone(), written.clone());
        let (mux, on_panic) = (Rc::clone(self), Rc::clone(self));
        spawn(
            async move {
                if mux.write_on(&mut writer, patience).await {
                    writer.finish().await;
                }
                if ends {
                    mux.handle().end();
                }
                drop(writer);
                done.put(());
            },
            move |_| {
                on_panic.break_off();
                broken.put(());
            },
        );
        written
    }
}
