//! The loop that offers the load: one thread, one epoll, no allocation per request.

use std::io;
use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;

use super::pacer::Pacer;
use super::{Plan, Tally, h1, h2};

/// Bytes read at once. Big enough that a 10 MiB body is not a thousand reads.
const READ_BYTES: usize = 256 * 1024;

/// How often connections are looked over for timeouts and for another attempt to connect.
const ROUND: Duration = Duration::from_millis(50);

/// Connections that are being made at once: more than that fill the queues of listeners, and their clients wait a second
/// for the kernel's next try.
pub(super) const ATTEMPTS_MAX: usize = 400;

/// Offers the load of a [`Plan`] while [`drive`](Generator::drive) is called.
pub struct Generator {
    plan: Plan,
    epoll: OwnedFd,
    pacer: Pacer,
    lanes: Lanes,
    buffer: Vec<u8>,
    next_round: Instant,
    /// What was counted so far; its owner may replace it between calls.
    pub tally: Tally,
}

/// The connections, by protocol.
enum Lanes {
    H1(h1::Lanes),
    H2(h2::Lanes),
}

/// What lanes share with the loop.
pub(super) struct Shared<'a> {
    pub(super) plan: &'a Plan,
    pub(super) epoll: &'a OwnedFd,
    pub(super) pacer: &'a mut Pacer,
    pub(super) buffer: &'a mut [u8],
    pub(super) tally: &'a mut Tally,
}

impl Generator {
    /// Connections are made while the load runs. Fails when the kernel refuses an epoll.
    pub fn new(plan: Plan) -> io::Result<Self> {
        // Timers of ordinary threads are up to 50 µs late; an open loop at 20,000 requests a second sends every 50 µs.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        let now = Instant::now();
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            pacer: Pacer::new(plan.pace, plan.connections * plan.streams.unwrap_or(1), now),
            lanes: match plan.streams {
                None => Lanes::H1(h1::Lanes::new(&plan, now)),
                Some(streams) => Lanes::H2(h2::Lanes::new(&plan, streams, now)),
            },
            buffer: vec![0; READ_BYTES],
            next_round: now,
            tally: Tally::default(),
            plan,
        })
    }

    /// Offers load until `until`.
    pub fn drive(&mut self, until: Instant) -> io::Result<()> {
        loop {
            let mut now = Instant::now();
            self.send_due(now);
            if now >= until || self.is_done() {
                return Ok(());
            }
            if now >= self.next_round {
                self.look_over(now);
                now = Instant::now();
                self.next_round = now + ROUND;
            }
            let wake = until.min(self.next_round);
            let wake = self.pacer.next_due().map_or(wake, |due| wake.min(due));
            self.turn(wake.saturating_duration_since(now))?;
        }
    }

    /// Sends nothing more, and waits up to `patience` for the answers to what is under way. What is still unanswered
    /// then counts with its age; in open loop also what was due and never sent.
    pub fn finish(&mut self, patience: Duration) -> io::Result<()> {
        let end = Instant::now();
        if !self.pacer.is_open_loop() {
            return Ok(());
        }
        // Requests due until now are owed an answer; those due later are not sent.
        let owed = self.pacer.numbered_at(end);
        while self.pacer.next < owed || self.busy().next().is_some() {
            let now = Instant::now();
            if now >= end + patience {
                break;
            }
            if now >= self.next_round {
                self.look_over(now);
                self.next_round = now + ROUND;
            }
            if self.pacer.next < owed {
                self.send_due(end);
            }
            self.turn(Duration::from_millis(1))?;
        }
        let now = Instant::now();
        let ages: Vec<Duration> = self.busy().map(|due| now.saturating_duration_since(due)).collect();
        ages.into_iter().for_each(|age| self.tally.unanswered(age));
        for number in self.pacer.next..owed {
            self.tally.unanswered(now.saturating_duration_since(self.pacer.due(number)));
        }
        self.pacer.next = self.pacer.next.max(owed);
        Ok(())
    }

    /// From now on sends only so many requests more.
    pub fn limit(&mut self, more: u64) {
        self.pacer.limit(more);
    }

    /// Whether every request up to the limit has had its end.
    pub fn is_done(&self) -> bool {
        self.pacer.is_over() && self.busy().next().is_none()
    }

    /// Connections that are open now, with or without a request.
    pub fn open(&self) -> usize {
        match &self.lanes {
            Lanes::H1(lanes) => lanes.open(),
            Lanes::H2(lanes) => lanes.open(),
        }
    }

    /// When the requests under way were due.
    fn busy(&self) -> Box<dyn Iterator<Item = Instant> + '_> {
        match &self.lanes {
            Lanes::H1(lanes) => Box::new(lanes.busy()),
            Lanes::H2(lanes) => Box::new(lanes.busy()),
        }
    }

    /// Waits up to `patience` for events and handles them.
    fn turn(&mut self, patience: Duration) -> io::Result<()> {
        let timeout = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: patience.subsec_nanos().into(),
        };
        let mut space = [MaybeUninit::uninit(); 256];
        let events = match epoll::wait(&self.epoll, &mut space, Some(&timeout)) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in events {
            let (flags, data) = (event.flags, event.data);
            let token = usize::try_from(data.u64()).expect("we gave it an index");
            self.with_lanes(|lanes, shared| match lanes {
                Lanes::H1(lanes) => lanes.handle(token, flags, shared),
                Lanes::H2(lanes) => lanes.handle(token, shared),
            });
        }
        Ok(())
    }

    /// Open loop: sends everything that is due, as far as places are free.
    fn send_due(&mut self, now: Instant) {
        if !self.pacer.is_open_loop() {
            return;
        }
        self.with_lanes(|lanes, shared| {
            while let Some((place, due)) = shared.pacer.due_place(now) {
                match lanes {
                    Lanes::H1(lanes) => lanes.start(place, due, shared),
                    Lanes::H2(lanes) => lanes.start(place, due, shared),
                }
            }
            if let Lanes::H2(lanes) = lanes {
                lanes.flush(shared);
            }
        });
    }

    fn look_over(&mut self, now: Instant) {
        self.with_lanes(|lanes, shared| match lanes {
            Lanes::H1(lanes) => lanes.look_over(now, shared),
            Lanes::H2(lanes) => lanes.look_over(now, shared),
        });
    }

    fn with_lanes(&mut self, work: impl FnOnce(&mut Lanes, &mut Shared<'_>)) {
        let Self { plan, epoll, pacer, lanes, buffer, tally, .. } = self;
        work(lanes, &mut Shared { plan, epoll, pacer, buffer, tally });
    }
}

/// Whether a socket's events say that there is something to read, an end or an error included.
pub(super) fn is_readable(flags: EventFlags) -> bool {
    flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
}
