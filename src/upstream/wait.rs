//! A request that waits for a place at a service whose endpoints have all they may (`max_conns`, `queue`).

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use super::{
    Fault, Lease, Upstreams,
    pool::{Found, micros},
};
use crate::{
    balance::{Queue, Tried},
    runtime::sleep,
    snapshot::{Service, Waits},
};

/// The first in line looks by itself this often: an endpoint may be back in rotation, or a call may not have got through to us.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The requests of one shard that wait, by service.
#[derive(Default)]
pub(super) struct Lines(RefCell<Vec<VecDeque<Rc<Waiter>>>>);

struct Waiter {
    since_us: u64,
    called: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Waits for a place in the order of arrival, over all shards. `Full` when too many wait already, or none came free in time.
pub(super) async fn wait(
    upstreams: &Rc<Upstreams>,
    service: &Service,
    waits: &Waits,
    key: Option<u64>,
) -> Result<Lease, Fault> {
    if !waits.queue.enter(waits.most) {
        return Err(Fault::Full);
    }
    upstreams.metrics.borrow_mut().counters.queued += 1;
    let seat = Seat::take(upstreams, service, &waits.queue);
    let give_up_us = seat.waiter.since_us.saturating_add(micros(waits.wait));
    // Our wait is known by now: a place that came free before that is still there, one that comes free later is told to us.
    let mut may_look = waits.queue.longest() == Some(upstreams.shard);
    if !may_look {
        upstreams.call_longest(&waits.queue, service.slot);
    }
    loop {
        if may_look && seat.is_first() {
            match upstreams.pick(service, &Tried::default(), key) {
                Found::Lease(lease) => return Ok(lease),
                Found::Full => {}
                Found::Nowhere => return Err(Fault::NoEndpoint),
            }
        }
        let left_us = give_up_us.saturating_sub(upstreams.timers.clock.now_us());
        if left_us == 0 {
            return Err(Fault::Full);
        }
        let longest = LOOK_EVERY.min(Duration::from_micros(left_us));
        if upstreams.ending.unless(seat.waiter.called_within(longest)).await.is_none() {
            return Err(Fault::NoEndpoint);
        }
        upstreams.timers.clock.now_us();
        may_look = true;
    }
}

impl Waiter {
    /// Completes when it is called, at the latest after `longest`.
    async fn called_within(&self, longest: Duration) {
        let mut sleep = pin!(sleep(longest));
        poll_fn(|cx| {
            if self.called.replace(false) {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            sleep.as_mut().poll(cx)
        })
        .await;
    }

    fn call(&self) {
        self.called.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// A place in the line, left when it is dropped.
struct Seat<'s> {
    upstreams: &'s Upstreams,
    service: &'s Service,
    queue: &'s Queue,
    waiter: Rc<Waiter>,
}

impl<'s> Seat<'s> {
    fn take(upstreams: &'s Upstreams, service: &'s Service, queue: &'s Queue) -> Self {
        let since_us = upstreams.timers.clock.now_us();
        let waiter = Rc::new(Waiter { since_us, called: Cell::new(false), waker: RefCell::default() });
        let mut lines = upstreams.lines.0.borrow_mut();
        if lines.len() <= service.slot {
            lines.resize_with(service.slot + 1, VecDeque::new);
        }
        let line = &mut lines[service.slot];
        line.push_back(Rc::clone(&waiter));
        if line.len() == 1 {
            queue.set_first(upstreams.shard, Some(since_us));
        }
        Self { upstreams, service, queue, waiter }
    }

    fn is_first(&self) -> bool {
        let lines = self.upstreams.lines.0.borrow();
        lines[self.service.slot].front().is_some_and(|first| Rc::ptr_eq(first, &self.waiter))
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut lines = self.upstreams.lines.0.borrow_mut();
        let line = &mut lines[self.service.slot];
        line.retain(|waiter| !Rc::ptr_eq(waiter, &self.waiter));
        self.queue.set_first(self.upstreams.shard, line.front().map(|first| first.since_us));
        drop(lines);
        self.queue.leave();
        // A call that came for us, or a place that is left over, is the next one's.
        if self.upstreams.has_room(self.service) {
            self.upstreams.call_longest(self.queue, self.service.slot);
        }
    }
}

impl Upstreams {
    /// Calls the request that has waited longest for a place at a service, on whichever shard it is.
    pub(super) fn call_longest(&self, queue: &Queue, service: usize) {
        if queue.waiting() == 0 {
            return;
        }
        match queue.longest() {
            Some(shard) if shard == self.shard => self.call_first(service),
            // A shard whose mailbox is full looks by itself before long.
            Some(shard) => (self.call_shard)(shard, service),
            None => {}
        }
    }

    /// Calls the first of this shard that waits for a place at a service.
    pub fn call_first(&self, service: usize) {
        let lines = self.lines.0.borrow();
        let first = lines.get(service).and_then(VecDeque::front).map(Rc::clone);
        drop(lines);
        if let Some(first) = first {
            first.call();
        }
    }

    /// Whether an endpoint may be sent a request.
    fn has_room(&self, service: &Service) -> bool {
        service.facts.iter().zip(&service.shared).any(|(facts, shared)| {
            !facts.down && (facts.max_conns == 0 || shared.room.taken() < facts.max_conns)
        })
    }
}
