//! Tasks on a shard: started so that a panic ends only the task.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
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

/// Something that comes once, and that no wait may outlast: the end of the shard.
#[derive(Default)]
pub struct Ending {
    has_come: Cell<bool>,
    waiting: RefCell<Vec<Option<Waker>>>,
}

impl Ending {
    /// Ends every [`Ending::unless`], now and later.
    pub fn come(&self) {
        self.has_come.set(true);
        for waker in self.waiting.borrow_mut().iter_mut().filter_map(Option::take) {
            waker.wake();
        }
    }

    /// What `future` returns, or `None` once the end has come; then `future` is dropped, so it must bear that.
    pub async fn unless<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let mut seat = Seat { ending: self, number: None };
        poll_fn(|cx| {
            if self.has_come.get() {
                return Poll::Ready(None);
            }
            let polled = future.as_mut().poll(cx).map(Some);
            if polled.is_pending() {
                seat.take(cx.waker());
            }
            polled
        })
        .await
    }
}

/// One waiter's place, free again when it is dropped.
struct Seat<'e> {
    ending: &'e Ending,
    number: Option<usize>,
}

impl Seat<'_> {
    fn take(&mut self, waker: &Waker) {
        let mut seats = self.ending.waiting.borrow_mut();
        let number = *self.number.get_or_insert_with(|| {
            seats.iter().position(Option::is_none).unwrap_or_else(|| {
                seats.push(None);
                seats.len() - 1
            })
        });
        seats[number] = Some(waker.clone());
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.ending.waiting.borrow_mut()[number] = None;
        }
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
