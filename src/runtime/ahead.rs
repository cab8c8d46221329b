//! Reading ahead: the read for the next message is under way while its connection rests in a pool.
//!
//! A kept connection must be known to be quiet when it is used again: closed, it is of no use, and bytes that came in between
//! belong to no request. Asking the kernel costs a system call for each request (4 % of a proxied one, measured with `perf`).
//! A read that has been under way since the last response answers the same question for nothing, because it would be needed
//! anyway.

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{Buffer, IoFault, Reader, StreamHandle, Timers};
use crate::clock::Tick;

/// A receiving half whose next read can be started before anyone waits for it.
pub struct ReadAhead {
    /// Reads as long as it is given buffers. Made once per connection, so that a read allocates nothing.
    reading: Pin<Box<dyn Future<Output = ()>>>,
    exchange: Rc<Desk>,
    handle: StreamHandle,
    timers: Rc<Timers>,
    under_way: bool,
}

/// Where buffers change hands.
#[derive(Default)]
struct Desk {
    empty: RefCell<Option<Buffer>>,
    filled: RefCell<Option<(Buffer, Result<usize, IoFault>)>>,
}

impl ReadAhead {
    pub fn new(mut reader: Reader) -> Self {
        let exchange: Rc<Desk> = Rc::default();
        let desk = Rc::clone(&exchange);
        let handle = reader.handle();
        let timers = reader.timers();
        let reading = Box::pin(async move {
            loop {
                let mut buffer = poll_fn(|_| match desk.empty.borrow_mut().take() {
                    Some(buffer) => Poll::Ready(buffer),
                    None => Poll::Pending, // Who gives one polls.
                })
                .await;
                let read = reader.read(&mut buffer, Tick::NEVER).await;
                *desk.filled.borrow_mut() = Some((buffer, read));
            }
        });
        Self { reading, exchange, handle, timers, under_way: false }
    }

    /// Starts the next read, into `buffer`. Nothing waits for it until [`ReadAhead::read`].
    pub fn start(&mut self, buffer: Buffer) {
        debug_assert!(!self.under_way, "one read at a time");
        *self.exchange.empty.borrow_mut() = Some(buffer);
        self.under_way = true;
        let _ = self.reading.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }

    /// Whether the read that was started is still waiting: nothing has arrived, and the peer has not closed. As of the last turn of
    /// the loop.
    pub fn is_quiet(&mut self) -> bool {
        self.under_way && !self.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// As [`StreamHandle::is_quiet`]: asks the kernel. For a connection that carries something which cannot be sent twice.
    pub fn is_certainly_quiet(&mut self) -> bool {
        self.is_quiet() && self.handle.is_quiet()
    }

    /// Reads behind the unread bytes of `buffer`, as [`Reader::read`] does. A read that was started fills its own buffer, which
    /// takes the place of `buffer`.
    pub async fn read(&mut self, buffer: &mut Buffer, until: Tick) -> Result<usize, IoFault> {
        self.begin(buffer);
        self.handle.expect_until(until, &self.timers);
        poll_fn(|cx| if self.poll(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
        self.handle.expect_until(Tick::NEVER, &self.timers);
        self.under_way = false;
        let filled = self.exchange.filled.borrow_mut().take();
        let (full, read) = filled.expect("the read is ready");
        *buffer = full;
        read
    }

    /// Like [`ReadAhead::read`], but gives up after `wait` with `None`. Nothing is lost: the read stays under way.
    pub async fn read_within(
        &mut self,
        wait: Duration,
        buffer: &mut Buffer,
        until: Tick,
    ) -> Option<Result<usize, IoFault>> {
        let mut sleep = pin!(super::sleep(wait));
        let mut read = pin!(self.read(buffer, until));
        poll_fn(|cx| match read.as_mut().poll(cx) {
            Poll::Ready(read) => Poll::Ready(Some(read)),
            Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
        })
        .await
    }

    /// Whether a read is under way that brings its own buffer.
    pub fn is_started(&self) -> bool {
        self.under_way
    }

    fn begin(&mut self, buffer: &mut Buffer) {
        if !self.under_way {
            self.start(std::mem::take(buffer));
        }
    }

    /// Whether the read under way has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if self.exchange.filled.borrow().is_none() {
            let _ = self.reading.as_mut().poll(cx);
        }
        self.exchange.filled.borrow().is_some()
    }

    /// A way to end this stream from elsewhere on the shard.
    pub fn handle(&self) -> StreamHandle {
        self.handle.clone()
    }
}
