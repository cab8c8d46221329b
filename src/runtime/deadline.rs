//! Deadlines of streams, coarse and shared: arming one is two stores.
//!
//! A stream has a slot with a deadline for reading and one for writing. The slot waits in a wheel of 10 ms steps, at or
//! before its earliest deadline; a later deadline is only noted, and the slot finds its new place when the old one comes up. So a
//! connection under load touches the wheel about once in four seconds, however many requests it carries.
//!
//! When a deadline passes, that direction of the socket is shut down. The kernel then completes the pending operation, the
//! buffer comes home with every byte it received, and the other direction can still carry an answer (a 408, say).

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    os::fd::{BorrowedFd, RawFd},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use monoio::io::{CancelHandle, Canceller};
use rustix::net::Shutdown;

use super::Ending;
use crate::clock::{Clock, Tick};

const WHEEL: usize = 512;
/// How far ahead a slot may wait in the wheel before it is looked at again.
const HORIZON: u64 = 400;

/// One stream's deadlines.
pub(super) struct Slot {
    fd: Cell<RawFd>,
    halves: Cell<u8>,
    read_at: Cell<Tick>,
    write_at: Cell<Tick>,
    /// When the pending read should give its buffer back.
    release_at: Cell<Tick>,
    released: Cell<bool>,
    /// Where in the wheel the slot waits; `NEVER` when it does not.
    waits_at: Cell<Tick>,
    reading: Cell<bool>,
    read_expired: Cell<bool>,
    write_expired: Cell<bool>,
    /// We have ended the stream: what looks like its end is not the peer's.
    ended: Cell<bool>,
    /// Made when the stream first waits between requests.
    canceller: RefCell<Option<Canceller>>,
    /// Who works on behalf of this one.
    partner: RefCell<Option<Partner>>,
    /// Who waits for an [`Alarm`].
    waiter: RefCell<Option<Waker>>,
    is_alarm: bool,
}

/// What ends when a client is gone.
#[derive(Clone)]
pub(super) enum Partner {
    /// The stream that is read for it.
    Stream(Rc<Slot>),
    /// A wait that ends with this.
    Wait(Rc<Ending>),
}

impl Slot {
    pub(super) fn new(fd: RawFd) -> Rc<Self> {
        Rc::new(Self::with(fd, false))
    }

    fn with(fd: RawFd, is_alarm: bool) -> Self {
        Self {
            fd: Cell::new(fd),
            halves: Cell::new(0),
            read_at: Cell::new(Tick::NEVER),
            write_at: Cell::new(Tick::NEVER),
            release_at: Cell::new(Tick::NEVER),
            released: Cell::new(false),
            waits_at: Cell::new(Tick::NEVER),
            reading: Cell::new(false),
            read_expired: Cell::new(false),
            write_expired: Cell::new(false),
            ended: Cell::new(false),
            canceller: RefCell::new(None),
            partner: RefCell::new(None),
            waiter: RefCell::new(None),
            is_alarm,
        }
    }

    /// Runs `f` with the socket, unless the stream has ended.
    #[expect(unsafe_code, reason = "monoio's halves do not lend their descriptor")]
    pub(super) fn with_socket<R>(&self, f: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
        let fd = self.fd.get();
        if fd < 0 {
            return None;
        }
        // JUSTIFICATION: the alternative is a duplicated descriptor per connection.
        // SAFETY: the descriptor is open while a half of the stream lives; the last half to go sets `fd` to -1 before
        // the descriptor is closed (`HalfGuard::drop` runs before the half it guards is dropped).
        Some(f(unsafe { BorrowedFd::borrow_raw(fd) }))
    }

    pub(super) fn set_partner(&self, partner: Option<Partner>) {
        *self.partner.borrow_mut() = partner;
    }

    pub(super) fn partner(&self) -> Option<Partner> {
        self.partner.borrow().clone()
    }

    /// The descriptor is about to be closed.
    pub(super) fn close(&self) {
        self.fd.set(-1);
    }

    fn shut(&self, how: Shutdown) {
        // The peer may be gone already; then the operation has completed by itself.
        let _ = self.with_socket(|socket| rustix::net::shutdown(socket, how));
    }

    fn earliest(&self) -> Tick {
        self.read_at.get().min(self.write_at.get()).min(self.release_at.get())
    }

    fn canceller(&self) -> CancelHandle {
        self.canceller.borrow_mut().get_or_insert_default().handle()
    }

    /// The deadline of the read that is under way; others may have moved it.
    pub(super) fn read_until(&self) -> Tick {
        self.read_at.get()
    }

    /// Whether the last read was asked for its buffer.
    pub(super) fn was_released(&self) -> bool {
        self.released.get()
    }

    /// Shuts both directions.
    pub(super) fn end(&self) {
        self.ended.set(true);
        self.shut(Shutdown::Both);
    }

    pub(super) fn was_ended(&self) -> bool {
        self.ended.get()
    }

    /// Asks the pending read for its buffer.
    pub(super) fn release(&self) {
        self.release_at.set(Tick::NEVER);
        self.released.set(true);
        let canceller = self.canceller.borrow_mut().take();
        if let Some(canceller) = canceller {
            canceller.cancel();
        }
    }

    /// Acts on every deadline that has come.
    fn fire(&self, now: Tick) {
        if self.release_at.get() <= now {
            self.release();
        }
        if self.read_at.get() <= now {
            self.read_at.set(Tick::NEVER);
            self.read_expired.set(true);
            self.shut(Shutdown::Read);
            if let Some(waiter) = self.waiter.borrow_mut().take() {
                waiter.wake();
            }
        }
        if self.write_at.get() <= now {
            self.write_at.set(Tick::NEVER);
            self.write_expired.set(true);
            self.shut(Shutdown::Both);
        }
    }
}

/// Keeps a slot's descriptor valid while a half of the stream lives.
pub(super) struct HalfGuard(Rc<Slot>);

impl HalfGuard {
    pub(super) fn new(slot: &Rc<Slot>) -> Self {
        slot.halves.set(slot.halves.get() + 1);
        Self(Rc::clone(slot))
    }

    pub(super) fn rc(&self) -> &Rc<Slot> {
        &self.0
    }

    pub(super) fn slot(&self) -> &Slot {
        &self.0
    }
}

impl Drop for HalfGuard {
    fn drop(&mut self) {
        let left = self.0.halves.get() - 1;
        self.0.halves.set(left);
        if left == 0 {
            self.0.fd.set(-1);
        }
    }
}

/// A shard's clock and the deadlines of its streams.
pub struct Timers {
    pub clock: Clock,
    wheel: RefCell<Wheel>,
    /// When the task that turns the wheel will wake up by itself.
    wakes_at: Cell<Tick>,
    waker: RefCell<Option<Waker>>,
    stopped: Cell<bool>,
}

struct Wheel {
    buckets: Vec<Vec<Rc<Slot>>>,
    /// Everything before this tick has been fired.
    done: u64,
    waiting: usize,
    firing: Vec<Rc<Slot>>,
}

impl Timers {
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            clock: Clock::start(),
            wheel: RefCell::new(Wheel {
                buckets: (0..WHEEL).map(|_| Vec::new()).collect(),
                done: 0,
                waiting: 0,
                firing: Vec::new(),
            }),
            wakes_at: Cell::new(Tick::NEVER),
            waker: RefCell::new(None),
            stopped: Cell::new(false),
        })
    }

    /// Lets [`Timers::turn`] end.
    pub fn stop(&self) {
        self.stopped.set(true);
        self.wake();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn enqueue(&self, slot: &Rc<Slot>, at: Tick) {
        let mut wheel = self.wheel.borrow_mut();
        let now = self.clock.tick().0;
        if wheel.waiting == 0 {
            // Nobody turned it while nobody waited.
            wheel.done = wheel.done.max(now);
        }
        // Within one turn of the wheel from where it stands, which may be behind the clock: a bucket must not come up before
        // the tick it was chosen for.
        let last = (now + HORIZON).min(wheel.done + WHEEL as u64 - 1).max(wheel.done);
        let at = at.0.clamp(wheel.done, last);
        slot.waits_at.set(Tick(at));
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is below the number of buckets")]
        let bucket = (at % WHEEL as u64) as usize;
        wheel.buckets[bucket].push(Rc::clone(slot));
        wheel.waiting += 1;
        drop(wheel);
        if Tick(at) < self.wakes_at.get() {
            self.wake();
        }
    }

    fn arm(&self, slot: &Rc<Slot>, which: &Cell<Tick>, at: Tick) {
        which.set(at);
        if at < slot.waits_at.get() {
            // The place further ahead stays; it is recognised as stale when it comes up.
            self.enqueue(slot, at);
        }
    }

    /// Moves the deadline of the read that is under way, if there is one.
    pub(super) fn move_read(&self, slot: &Rc<Slot>, until: Tick) {
        if slot.reading.get() {
            self.arm(slot, &slot.read_at, until);
        }
    }

    /// Turns the wheel until [`Timers::stop`]. One task of every shard.
    pub async fn turn(self: Rc<Self>) {
        let mut sleep = pin!(monoio::time::sleep_until(self.clock.instant(Tick(0)).into()));
        while !self.stopped.get() {
            self.clock.now_us();
            self.fire();
            let next = self.next();
            self.wakes_at.set(next);
            if next != Tick::NEVER {
                sleep.as_mut().reset(self.clock.instant(next).into());
            }
            let mut first = true;
            poll_fn(|cx| {
                let slept = next != Tick::NEVER && sleep.as_mut().poll(cx).is_ready();
                if slept || !first {
                    return Poll::Ready(());
                }
                // Whoever arms an earlier deadline, or stops us, wakes this task a second time.
                first = false;
                *self.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
        }
    }

    /// The next tick at which a slot waits.
    fn next(&self) -> Tick {
        let wheel = self.wheel.borrow();
        if wheel.waiting == 0 {
            return Tick::NEVER;
        }
        (wheel.done..wheel.done + WHEEL as u64)
            .find(|tick| {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "the remainder is below the number of buckets"
                )]
                let bucket = (tick % WHEEL as u64) as usize;
                !wheel.buckets[bucket].is_empty()
            })
            .map_or(Tick::NEVER, Tick)
    }

    /// Fires what is due now.
    fn fire(&self) {
        let now = self.clock.tick();
        loop {
            let mut wheel = self.wheel.borrow_mut();
            if wheel.done > now.0 {
                return;
            }
            if wheel.waiting == 0 || now.0 - wheel.done > WHEEL as u64 * 2 {
                // After a long sleep every bucket is due once.
                let skip = if wheel.waiting == 0 { now.0 + 1 } else { now.0 - WHEEL as u64 };
                wheel.done = wheel.done.max(skip);
                if wheel.waiting == 0 {
                    return;
                }
            }
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the remainder is below the number of buckets"
            )]
            let bucket = (wheel.done % WHEEL as u64) as usize;
            wheel.done += 1;
            let mut due = std::mem::take(&mut wheel.firing);
            std::mem::swap(&mut due, &mut wheel.buckets[bucket]);
            wheel.waiting -= due.len();
            drop(wheel);

            for slot in due.drain(..) {
                if slot.waits_at.get() > now {
                    continue; // A stale place: the slot waits elsewhere, or nowhere.
                }
                slot.waits_at.set(Tick::NEVER);
                if slot.fd.get() < 0 && !slot.is_alarm {
                    continue;
                }
                slot.fire(now);
                let next = slot.earliest();
                if next != Tick::NEVER {
                    self.enqueue(&slot, next);
                }
            }
            self.wheel.borrow_mut().firing = due;
        }
    }

    /// Slots waiting in the wheel, stale places included.
    pub fn waiting(&self) -> usize {
        self.wheel.borrow().waiting
    }
}

/// A deadline for a wait that no socket ends.
pub struct Alarm {
    slot: Rc<Slot>,
    timers: Rc<Timers>,
}

impl Alarm {
    pub fn new(timers: &Rc<Timers>) -> Self {
        Self { slot: Rc::new(Slot::with(-1, true)), timers: Rc::clone(timers) }
    }

    /// What `poll` comes to, or `None` once `until` has passed. `poll` is asked first, and sees to its own waking.
    pub async fn within<T>(
        &self,
        until: Tick,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        let slot = &self.slot;
        slot.read_expired.set(false);
        slot.reading.set(false);
        let outcome = poll_fn(|cx| {
            if let Poll::Ready(outcome) = poll(cx) {
                return Poll::Ready(Some(outcome));
            }
            if slot.read_expired.get() {
                return Poll::Ready(None);
            }
            if !slot.reading.replace(true) {
                self.timers.arm(slot, &slot.read_at, until);
            }
            *slot.waiter.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        slot.reading.set(false);
        slot.read_at.set(Tick::NEVER);
        outcome
    }

    /// Moves the deadline of the wait that is under way, if there is one.
    pub fn expect_until(&self, until: Tick) {
        self.timers.move_read(&self.slot, until);
    }
}

/// What a half of a stream does with its deadline.
pub(super) struct Armed<'a> {
    pub(super) timers: &'a Rc<Timers>,
    pub(super) guard: &'a HalfGuard,
}

impl Armed<'_> {
    pub(super) fn reading(&self, until: Tick) {
        self.guard.0.reading.set(true);
        self.timers.arm(&self.guard.0, &self.guard.0.read_at, until);
    }

    pub(super) fn writing(&self, until: Tick) {
        self.timers.arm(&self.guard.0, &self.guard.0.write_at, until);
    }

    /// Asks for the read's buffer back at `at`. The handle goes into the read.
    pub(super) fn releasing(&self, at: Tick) -> CancelHandle {
        self.guard.0.released.set(false);
        self.timers.arm(&self.guard.0, &self.guard.0.release_at, at);
        self.guard.0.canceller()
    }

    pub(super) fn read_done(&self) {
        self.guard.0.reading.set(false);
        self.guard.0.read_at.set(Tick::NEVER);
        self.guard.0.release_at.set(Tick::NEVER);
    }

    pub(super) fn write_done(&self) {
        self.guard.0.write_at.set(Tick::NEVER);
    }

    pub(super) fn read_expired(&self) -> bool {
        self.guard.0.read_expired.get()
    }

    pub(super) fn write_expired(&self) -> bool {
        self.guard.0.write_expired.get()
    }
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsRawFd, unix::net::UnixStream};

    use super::*;

    const TICK_US: u64 = crate::clock::TICK_MS * 1000;

    /// The wheel without its task: time is what the test says.
    struct Turned {
        timers: Rc<Timers>,
        socket: UnixStream,
    }

    impl Turned {
        fn new() -> Self {
            let timers = Timers::new();
            timers.clock.pretend(0);
            Self { timers, socket: UnixStream::pair().expect("descriptors are left").0 }
        }

        fn slot(&self, read_at: u64) -> Rc<Slot> {
            let slot = Slot::new(self.socket.as_raw_fd());
            self.timers.arm(&slot, &slot.read_at, Tick(read_at));
            slot
        }

        /// Moves the clock, and turns the wheel whenever its task would have woken up.
        fn advance(&self, tick: u64) {
            loop {
                let next = self.timers.next();
                if next > Tick(tick) {
                    break;
                }
                self.timers.clock.pretend(next.0.max(self.timers.clock.tick().0) * TICK_US);
                self.timers.fire();
            }
            self.timers.clock.pretend(tick * TICK_US);
        }
    }

    #[track_caller]
    fn check_fires(turned: &Turned, slot: &Slot, at: u64) {
        turned.advance(at - 1);
        assert!(!slot.read_expired.get(), "before {at}");
        turned.advance(at);
        assert!(slot.read_expired.get(), "not at {at}");
    }

    #[test]
    fn a_deadline_set_while_the_wheel_stands_still_is_kept() {
        // The wheel sleeps until 400; what is put in at 300 must not be taken for something that is due before.
        for (set_at, until) in [(300, 2_000), (399, 799), (150, 661), (113, 514)] {
            let turned = Turned::new();
            let _first = turned.slot(6_000);
            turned.advance(set_at);
            let second = turned.slot(until);
            check_fires(&turned, &second, until);
        }
    }

    #[test]
    fn a_deadline_set_after_a_long_sleep_is_kept() {
        for slept in [1, 511, 512, 513, 1_024, 1_025, 100_000] {
            let turned = Turned::new();
            turned.advance(slept);
            let slot = turned.slot(slept + 700);
            check_fires(&turned, &slot, slept + 700);
        }
    }

    #[test]
    fn an_earlier_deadline_beside_a_later_one_comes_first() {
        let turned = Turned::new();
        let slot = turned.slot(3_000);
        turned.timers.arm(&slot, &slot.release_at, Tick(100));
        turned.timers.arm(&slot, &slot.write_at, Tick(50));
        turned.advance(50);
        assert!(slot.write_expired.get() && slot.release_at.get() == Tick(100));
        turned.advance(100);
        assert!(slot.release_at.get() == Tick::NEVER && !slot.read_expired.get());
        check_fires(&turned, &slot, 3_000);
    }

    #[test]
    fn thousands_of_deadlines_come_in_time_and_never_early() {
        let turned = Turned::new();
        let mut seed = 88_172_645_463_325_252_u64;
        let mut draw = |below: usize| {
            // xorshift64 (Marsaglia 2003)
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % below as u64).expect("it is below the bound")
        };
        let mut slots: Vec<(Rc<Slot>, u64)> = Vec::new();
        let mut tick = 0;
        for _ in 0..4_000 {
            tick += [0, 1, draw(5), draw(300)][draw(4)] as u64;
            turned.advance(tick);
            let until = tick + 1 + [draw(20), draw(400), draw(7_000)][draw(3)] as u64;
            match slots.len() {
                // Moved nearer or further, as a connection does with every request.
                count @ 1.. if draw(2) == 0 => {
                    let (slot, at) = &mut slots[draw(count)];
                    if !slot.read_expired.get() {
                        turned.timers.arm(slot, &slot.read_at, Tick(until));
                        *at = until;
                    }
                }
                _ => slots.push((turned.slot(until), until)),
            }
            for (slot, at) in &slots {
                assert_eq!(slot.read_expired.get(), *at <= tick, "due at {at}, now {tick}");
            }
            slots.retain(|(slot, _)| !slot.read_expired.get());
        }
        turned.advance(tick + 8_000);
        assert!(slots.iter().all(|(slot, _)| slot.read_expired.get()));
        assert_eq!(turned.timers.waiting(), 0, "and nothing is left in the wheel");
    }
}
