//! Lets only so many costly computations run in one turn of a shard's loop, so that a storm of them does not hold up what is cheap.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    io::{self, Write},
    os::unix::net::UnixStream as StdUnixStream,
    rc::Rc,
    task::{Poll, Waker},
};

use monoio::{io::AsyncReadRent, net::UnixStream};

/// One shard's turnstile.
pub struct Turnstile {
    /// Computations in one turn.
    most: Cell<u32>,
    left: Cell<u32>,
    waiting: RefCell<VecDeque<Waker>>,
    /// Wakes [`Turnstile::turn`].
    turner: RefCell<Option<Waker>>,
    stopped: Cell<bool>,
}

impl Turnstile {
    /// Lets `most` pass in a turn, at least one.
    pub fn new(most: u32) -> Rc<Self> {
        Rc::new(Self {
            most: Cell::new(most.max(1)),
            left: Cell::new(most.max(1)),
            waiting: RefCell::default(),
            turner: RefCell::default(),
            stopped: Cell::new(false),
        })
    }

    /// From the next turn on lets `most` pass.
    pub fn widen(&self, most: u32) {
        self.most.set(most.max(1));
    }

    /// Completes when there is room in this turn, first come, first served.
    pub async fn pass(&self) {
        let mut queued = false;
        poll_fn(|cx| {
            let may_pass = self.left.get() > 0 && (queued || self.waiting.borrow().is_empty());
            if may_pass {
                self.left.set(self.left.get() - 1);
                self.wake();
                return Poll::Ready(());
            }
            queued = true;
            self.waiting.borrow_mut().push_back(cx.waker().clone());
            self.wake();
            Poll::Pending
        })
        .await;
    }

    /// Begins a new turn whenever the ring has been looked at. One task of every shard; ends after [`Turnstile::stop`].
    ///
    /// A byte that comes back through the ring tells: everything that had completed before it has been run by then.
    pub async fn turn(self: Rc<Self>) -> io::Result<()> {
        let (mut near, far) = StdUnixStream::pair()?;
        near.set_nonblocking(true)?;
        far.set_nonblocking(true)?;
        let mut far = UnixStream::from_std(far)?;
        let mut byte = Vec::with_capacity(1);
        while !self.stopped.get() {
            let mut first = true;
            poll_fn(|cx| {
                let is_idle = self.left.get() == self.most.get() && self.waiting.borrow().is_empty();
                if !is_idle || !first {
                    return Poll::Ready(());
                }
                first = false;
                *self.turner.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
            near.write_all(&[1])?;
            let (result, buffer) = far.read(byte).await;
            result?;
            byte = buffer;
            byte.clear();
            self.left.set(self.most.get());
            let count = self.waiting.borrow().len().min(self.most.get() as usize);
            let next: Vec<Waker> = self.waiting.borrow_mut().drain(..count).collect();
            next.into_iter().for_each(Waker::wake);
        }
        Ok(())
    }

    pub fn stop(&self) {
        self.stopped.set(true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(turner) = self.turner.borrow_mut().take() {
            turner.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Gate, Runtime, spawn};

    #[test]
    fn nobody_passes_twice_in_a_turn_and_everybody_passes_in_the_end() {
        let mut runtime = Runtime::io_uring().or_else(|_| Runtime::epoll()).expect("one of the drivers");
        runtime.block_on(async {
            let turnstile = Turnstile::new(4);
            let turning = Rc::clone(&turnstile);
            let failed = Rc::new(Cell::new(false));
            let noted = Rc::clone(&failed);
            spawn(async move { noted.set(turning.turn().await.is_err()) }, |text| panic!("{text}"));

            let passed = Rc::new(RefCell::new(Vec::new()));
            let done = Gate::default();
            for number in 0..10 {
                let (turnstile, passed, done) = (Rc::clone(&turnstile), Rc::clone(&passed), done.clone());
                spawn(
                    async move {
                        turnstile.pass().await;
                        passed.borrow_mut().push((number, turnstile.left.get()));
                        if passed.borrow().len() == 10 {
                            done.put(());
                        }
                    },
                    |text| panic!("{text}"),
                );
            }
            done.take().await;
            let order: Vec<_> = passed.borrow().iter().map(|(number, _)| *number).collect();
            assert_eq!(order, (0..10).collect::<Vec<_>>());
            let left: Vec<_> = passed.borrow().iter().map(|(_, left)| *left).collect();
            assert_eq!(left, [3, 2, 1, 0, 3, 2, 1, 0, 3, 2]);
            turnstile.stop();
            assert!(!failed.get());
        });
    }
}
