//! Tasks on a shard: started so that a panic ends only the task.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Starts `future` on this shard. When it panics, `on_panic` gets the message and nothing else ends.
pub fn spawn(future: impl Future<Output = ()> + 'static, on_panic: impl FnOnce(&str) + 'static) {
    let task = Caught { future, on_panic: Some(on_panic) };
    // The handle goes at once: monoio forgets nothing then, and a later drop would be a race with the feature `sync`.
    drop(monoio::spawn(task));
}

/// Completes after `wait`.
pub async fn sleep(wait: Duration) {
    monoio::time::sleep(wait).await;
}

struct Caught<F, P> {
    future: F,
    on_panic: Option<P>,
}

impl<F: Future<Output = ()>, P: FnOnce(&str)> Future for Caught<F, P> {
    type Output = ();

    #[expect(unsafe_code, reason = "pin projection; pin-project would be a dependency for one field")]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // JUSTIFICATION: boxing the future instead costs an allocation per connection.
        // SAFETY: `future` is never moved out of `self`, which is pinned, and `Caught` has no `Drop`; `on_panic` is not pinned.
        let this = unsafe { self.get_unchecked_mut() };
        // SAFETY: as above: the field of a pinned struct, never moved.
        let future = unsafe { Pin::new_unchecked(&mut this.future) };
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(poll) => poll,
            Err(payload) => {
                if let Some(on_panic) = this.on_panic.take() {
                    let text = payload
                        .downcast_ref::<&str>()
                        .copied()
                        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
                        .unwrap_or("a panic without a message");
                    on_panic(text);
                }
                Poll::Ready(())
            }
        }
    }
}

/// Wakes tasks of this shard that wait for something to change.
#[derive(Default)]
pub struct Notify {
    waiting: RefCell<Vec<Waker>>,
    count: Cell<u64>,
}

impl Notify {
    /// Wakes everyone who waits.
    pub fn notify(&self) {
        self.count.set(self.count.get() + 1);
        for waker in self.waiting.take() {
            waker.wake();
        }
    }

    /// Completes at the first [`Notify::notify`] after it is first polled.
    pub async fn notified(&self) {
        let seen = self.count.get();
        poll_fn(|cx| {
            if self.count.get() != seen {
                return Poll::Ready(());
            }
            self.waiting.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A place where one task leaves a value for another on the same shard.
pub struct Gate<T>(Rc<GateInner<T>>);

struct GateInner<T> {
    value: RefCell<Option<T>>,
    waker: RefCell<Option<Waker>>,
}

impl<T> Clone for Gate<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Self(Rc::new(GateInner { value: RefCell::new(None), waker: RefCell::new(None) }))
    }
}

impl<T> Gate<T> {
    /// Leaves the value and wakes who waits for it.
    pub fn put(&self, value: T) {
        *self.0.value.borrow_mut() = Some(value);
        if let Some(waker) = self.0.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Whether a value lies here.
    pub fn is_ready(&self) -> bool {
        self.0.value.borrow().is_some()
    }

    /// Waits for the value and takes it.
    pub async fn take(&self) -> T {
        poll_fn(|cx| match self.0.value.borrow_mut().take() {
            Some(value) => Poll::Ready(value),
            None => {
                *self.0.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}
