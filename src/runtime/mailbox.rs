//! Messages from other threads to a shard: a bounded queue and one byte on a socket pair that wakes the shard.
//!
//! monoio's own cross-thread wakers (its feature `sync`) would be checked in every turn of the loop; this costs nothing while
//! there is no message, and works on both drivers.

use std::{
    io::{self, Write},
    ops::ControlFlow,
    os::unix::net::UnixStream as StdUnixStream,
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    sync::{Arc, Weak},
};

use monoio::{io::AsyncReadRent, net::UnixStream};

/// The sending side. The shard's [`Mailbox::receive`] ends when the last one is dropped.
pub struct Postbox<T>(Arc<Slit<T>>);

struct Slit<T> {
    queue: SyncSender<T>,
    bell: StdUnixStream,
}

impl<T> Clone for Postbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Postbox<T> {
    /// Leaves a message and wakes the shard. Never blocks; a full box or one without a shard gives the message back.
    pub fn post(&self, message: T) -> Result<(), T> {
        let Slit { queue, bell } = &*self.0;
        queue.try_send(message).map_err(|error| match error {
            TrySendError::Full(message) | TrySendError::Disconnected(message) => message,
        })?;
        // A full socket buffer means the bell has rung already.
        let _ = (&*bell).write(&[1]);
        Ok(())
    }

    /// For a shard that writes to another: it must not keep that one's box open.
    pub fn downgrade(&self) -> WeakPostbox<T> {
        WeakPostbox(Arc::downgrade(&self.0))
    }
}

/// A [`Postbox`] that ends with the last real one.
pub struct WeakPostbox<T>(Weak<Slit<T>>);

impl<T> WeakPostbox<T> {
    /// As [`Postbox::post`].
    pub fn post(&self, message: T) -> Result<(), T> {
        match self.0.upgrade() {
            Some(slit) => Postbox(slit).post(message),
            None => Err(message),
        }
    }
}

/// The shard's side, before it is on its thread.
pub struct Mailbox<T> {
    queue: Receiver<T>,
    bell: StdUnixStream,
}

/// Makes both sides of a mailbox for `capacity` messages.
pub fn mailbox<T>(capacity: usize) -> io::Result<(Postbox<T>, Mailbox<T>)> {
    let (queue, receiver) = sync_channel(capacity);
    let (near, far) = StdUnixStream::pair()?;
    near.set_nonblocking(true)?;
    far.set_nonblocking(true)?;
    Ok((Postbox(Arc::new(Slit { queue, bell: near })), Mailbox { queue: receiver, bell: far }))
}

impl<T> Mailbox<T> {
    /// Hands every message to `receive`, until it breaks off or the last postbox is gone.
    pub async fn receive(self, mut receive: impl FnMut(T) -> ControlFlow<()>) -> io::Result<()> {
        let mut bell = UnixStream::from_std(self.bell)?;
        let mut rings = Vec::with_capacity(256);
        loop {
            while let Ok(message) = self.queue.try_recv() {
                if receive(message).is_break() {
                    return Ok(());
                }
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
