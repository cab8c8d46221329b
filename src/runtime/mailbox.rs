//! Messages from other threads to a shard: a bounded queue and one byte on a socket pair that wakes the shard.
//!
//! monoio's own cross-thread wakers (its feature `sync`) would be checked in every turn of the loop; this costs nothing while
//! there is no message, and works on both drivers.

use std::{
    io::{self, Write},
    ops::ControlFlow,
    os::unix::net::UnixStream as StdUnixStream,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
};

use monoio::{io::AsyncReadRent, net::UnixStream};

/// The sending side. The shard's [`Mailbox::receive`] ends when the last one is dropped, or one is closed.
pub struct Postbox<T> {
    queue: SyncSender<T>,
    bell: Arc<Bell>,
}

struct Bell {
    stream: StdUnixStream,
    closed: AtomicBool,
}

impl<T> Clone for Postbox<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), bell: Arc::clone(&self.bell) }
    }
}

impl<T> Postbox<T> {
    /// Leaves a message and wakes the shard. Never blocks; a full box or one without a shard gives the message back.
    pub fn post(&self, message: T) -> Result<(), T> {
        self.queue.try_send(message).map_err(|error| match error {
            TrySendError::Full(message) | TrySendError::Disconnected(message) => message,
        })?;
        // A full socket buffer means the bell has rung already.
        let _ = (&self.bell.stream).write(&[1]);
        Ok(())
    }

    /// Ends the shard's [`Mailbox::receive`], also when the box is full.
    pub fn close(&self) {
        self.bell.closed.store(true, Ordering::Release);
        let _ = (&self.bell.stream).write(&[1]);
    }
}

/// The shard's side, before it is on its thread.
pub struct Mailbox<T> {
    queue: Receiver<T>,
    bell: StdUnixStream,
    postboxes: Weak<Bell>,
}

/// Makes both sides of a mailbox for `capacity` messages.
pub fn mailbox<T>(capacity: usize) -> io::Result<(Postbox<T>, Mailbox<T>)> {
    let (queue, receiver) = sync_channel(capacity);
    let (near, far) = StdUnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    let bell = Arc::new(Bell { stream: near, closed: AtomicBool::new(false) });
    let postboxes = Arc::downgrade(&bell);
    Ok((Postbox { queue, bell }, Mailbox { queue: receiver, bell: far, postboxes }))
}

impl<T> Mailbox<T> {
    /// Hands every message to `receive`, until it breaks off, a postbox is closed, or the last one is gone.
    pub async fn receive(self, mut receive: impl FnMut(T) -> ControlFlow<()>) -> io::Result<()> {
        let mut bell = UnixStream::from_std(self.bell)?;
        let mut rings = Vec::with_capacity(256);
        loop {
            while let Ok(message) = self.queue.try_recv() {
                if receive(message).is_break() {
                    return Ok(());
                }
            }
            if self.postboxes.upgrade().is_none_or(|bell| bell.closed.load(Ordering::Acquire)) {
                return Ok(());
            }
            let (result, buffer) = bell.read(rings).await;
            rings = buffer;
            rings.clear();
            if result? == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;

    #[test]
    fn a_full_box_can_be_closed() {
        for runtime in [Runtime::io_uring(), Runtime::epoll()] {
            let Ok(mut runtime) = runtime else { continue };
            runtime.block_on(async {
                let (postbox, mailbox) = mailbox(1).expect("a socket pair");
                assert_eq!(postbox.post(1), Ok(()));
                assert_eq!(postbox.post(2), Err(2));
                postbox.close();
                let mut received = Vec::new();
                let ended = mailbox.receive(|message| {
                    received.push(message);
                    ControlFlow::Continue(())
                });
                assert!(ended.await.is_ok());
                assert_eq!(received, [1]);
            });
        }
    }
}
