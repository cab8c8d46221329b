//! The loop that offers the load: one thread, one epoll, no allocation per request.

use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;

use super::connection::{Connection, Established, Progress, State};
use super::{Failed, Pace, Plan, Tally, Tls};

/// Bytes read at once. Big enough that a 10 MiB body is not a thousand reads.
const READ_BYTES: usize = 256 * 1024;

/// How often connections are looked over for timeouts and for another attempt to connect.
const ROUND: Duration = Duration::from_millis(50);

/// Connections begun at once: more than that fill the queues of listeners, and their clients wait a second for the
/// kernel's next try.
const ATTEMPTS_MAX: usize = 400;

/// Offers the load of a [`Plan`] while [`drive`](Generator::drive) is called.
pub struct Generator {
    plan: Plan,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    /// Open loop: connections without a request, the one that waits longest first.
    idle: VecDeque<usize>,
    /// Number of the next request, and of the first that is not to be sent.
    next: u64,
    end: u64,
    /// Open loop: request number n is due n / rate after this.
    started: Instant,
    buffer: Vec<u8>,
    next_round: Instant,
    /// What was counted so far; its owner may replace it between calls.
    pub tally: Tally,
}

impl Generator {
    /// Connections are made while the load runs. Fails when the kernel refuses an epoll.
    pub fn new(plan: Plan) -> io::Result<Self> {
        // Timers of ordinary threads are up to 50 µs late; an open loop at 20,000 requests a second sends every 50 µs.
        rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let now = Instant::now();
        Ok(Self {
            connections: (0..plan.connections).map(|_| Connection::new(now)).collect(),
            idle: VecDeque::with_capacity(plan.connections),
            next: 0,
            end: u64::MAX,
            started: now,
            buffer: vec![0; READ_BYTES],
            next_round: now,
            tally: Tally::default(),
            epoll,
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
            let mut wake = until.min(self.next_round);
            if !self.idle.is_empty() && self.next < self.end {
                wake = wake.min(self.due(self.next));
            }
            self.turn(wake.saturating_duration_since(now))?;
        }
    }

    /// Sends nothing more, and waits up to `patience` for the answers to what is under way. What is still unanswered
    /// then counts with its age; in open loop also what was due and never sent.
    pub fn finish(&mut self, patience: Duration) -> io::Result<()> {
        let end = Instant::now();
        let Pace::Open { .. } = self.plan.pace else { return Ok(()) };
        // Requests due until now are owed an answer; those due later are not sent.
        let owed = self.numbered_at(end);
        while self.next < owed || self.busy() > 0 {
            let now = Instant::now();
            if now >= end + patience {
                break;
            }
            if now >= self.next_round {
                self.look_over(now);
                self.next_round = now + ROUND;
            }
            if self.next < owed {
                self.send_due(end);
            }
            self.turn(Duration::from_millis(1))?;
        }
        let now = Instant::now();
        for connection in &self.connections {
            if matches!(connection.state, State::Busy | State::Connecting { busy: true }) {
                self.tally.unanswered(now.saturating_duration_since(connection.due));
            }
        }
        for number in self.next..owed {
            self.tally.unanswered(now.saturating_duration_since(self.due(number)));
        }
        self.next = self.next.max(owed);
        Ok(())
    }

    /// From now on sends only so many requests more.
    pub fn limit(&mut self, more: u64) {
        self.end = self.next.saturating_add(more);
    }

    /// Whether every request up to the limit has had its end.
    pub fn is_done(&self) -> bool {
        self.next >= self.end && self.busy() == 0
    }

    /// Connections that are open now, with or without a request.
    pub fn open(&self) -> usize {
        self.connections.iter().filter(|connection| connection.is_open()).count()
    }

    fn busy(&self) -> usize {
        let busy = |connection: &&Connection| {
            matches!(connection.state, State::Busy | State::Connecting { busy: true })
        };
        self.connections.iter().filter(busy).count()
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
            self.handle(usize::try_from(data.u64()).expect("we gave it an index"), flags);
        }
        Ok(())
    }

    fn handle(&mut self, index: usize, flags: EventFlags) {
        let connection = &mut self.connections[index];
        match connection.state {
            State::Closed => {}
            State::Connecting { busy } => {
                match connection.establish() {
                    Ok(Established::NotYet) => return,
                    Ok(Established::Plain) => {}
                    Ok(Established::Secured { resumed }) => {
                        self.tally.handshakes += 1;
                        self.tally.resumed += u64::from(resumed);
                    }
                    Err(failed) => return self.no_connection(index, busy, failed),
                }
                if busy { self.send(index) } else { self.rest(index) }
            }
            State::Idle => {
                // Nothing is expected: the server closes an idle connection, which is its right.
                if flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
                    // It stays in the queue, and connects when its turn comes.
                    connection.close();
                    connection.state = State::Idle;
                }
            }
            State::Busy => {
                let text = &self.plan.requests.texts[connection.request];
                let mut progress = Progress::Pending;
                if flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
                    let to_head = self.plan.requests.to_head;
                    let expect = &self.plan.expect;
                    let bytes = &mut self.tally.bytes;
                    progress = connection.receive(&mut self.buffer, to_head, text.len(), expect, bytes);
                }
                if let (Progress::Pending, true) = (&progress, flags.contains(EventFlags::OUT))
                    && let Err(failed) = connection.send(text)
                {
                    progress = Progress::Done { outcome: Err(failed), keep: false };
                }
                if let Progress::Done { outcome, keep } = progress {
                    self.count(index, outcome);
                    let closed = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
                    self.go_on(index, keep && !closed && !self.plan.new_connections);
                }
            }
        }
    }

    fn count(&mut self, index: usize, outcome: Result<(), Failed>) {
        match outcome {
            Ok(()) => self.tally.success(self.connections[index].due.elapsed()),
            Err(failed) => self.tally.failure(failed),
        }
    }

    /// What a connection does after a request: the next one, at once or when it is due.
    fn go_on(&mut self, index: usize, keep: bool) {
        if !keep {
            self.connections[index].close();
        }
        match self.plan.pace {
            Pace::Closed => self.start_next(index),
            Pace::Open { .. } if keep => self.rest(index),
            Pace::Open { .. } if self.plan.new_connections => self.rest(index),
            Pace::Open { .. } => self.connect(index, false),
        }
    }

    /// Open loop: sends everything that is due, as far as connections are free.
    fn send_due(&mut self, now: Instant) {
        while !self.idle.is_empty() && self.next < self.end && self.due(self.next) <= now {
            let Some(index) = self.idle.pop_front() else { return };
            let due = self.due(self.next);
            self.start(index, due);
        }
    }

    fn start_next(&mut self, index: usize) {
        self.start(index, Instant::now());
    }

    /// Starts request number `next` on a connection that is free, connecting first if it has to.
    fn start(&mut self, index: usize, due: Instant) {
        if self.next >= self.end {
            self.connections[index].state = State::Idle;
            return;
        }
        let texts = self.plan.requests.texts.len() as u64;
        let request = usize::try_from(self.next % texts).expect("below a length");
        self.next += 1;
        let connection = &mut self.connections[index];
        connection.request = request;
        connection.due = due;
        if connection.is_open() { self.send(index) } else { self.connect(index, true) }
    }

    fn send(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let text = &self.plan.requests.texts[connection.request];
        if let Err(failed) = connection.begin(connection.request, text, connection.due) {
            self.tally.failure(failed);
            // Not at once again: `look_over` connects anew.
            self.connections[index].close();
        }
    }

    fn connect(&mut self, index: usize, busy: bool) {
        let token = index as u64;
        let connection = &mut self.connections[index];
        connection.close();
        let session = match self.plan.tls.as_ref().map(Tls::session).transpose() {
            Ok(session) => session,
            Err(failed) => return self.no_connection(index, busy, failed),
        };
        if connection.connect(self.plan.target, &self.epoll, token, busy, session).is_err() {
            self.no_connection(index, busy, Failed::Connect);
        }
    }

    fn no_connection(&mut self, index: usize, busy: bool, failed: Failed) {
        self.connections[index].close();
        self.tally.refused += 1;
        if busy {
            self.tally.failure(failed);
        }
    }

    fn rest(&mut self, index: usize) {
        self.connections[index].state = State::Idle;
        self.idle.push_back(index);
    }

    /// Ends requests that take too long, and connects again where an attempt failed.
    fn look_over(&mut self, now: Instant) {
        let mut attempts = 0;
        for index in 0..self.connections.len() {
            let connection = &self.connections[index];
            match connection.state {
                State::Busy | State::Connecting { busy: true }
                    if now > connection.due + self.plan.timeout =>
                {
                    self.tally.timeout(now.saturating_duration_since(connection.due));
                    self.connections[index].close();
                    self.go_on(index, false);
                }
                State::Closed if attempts < ATTEMPTS_MAX => {
                    attempts += 1;
                    match self.plan.pace {
                        Pace::Closed => self.start_next(index),
                        Pace::Open { .. } if self.plan.new_connections => self.rest(index),
                        Pace::Open { .. } => self.connect(index, false),
                    }
                }
                State::Closed | State::Busy | State::Idle | State::Connecting { .. } => {}
            }
        }
    }

    /// Open loop: when request `number` is due.
    fn due(&self, number: u64) -> Instant {
        match self.plan.pace {
            Pace::Closed => self.started,
            #[expect(clippy::cast_precision_loss, reason = "2^53 requests are more than a run has")]
            Pace::Open { per_second } => self.started + Duration::from_secs_f64(number as f64 / per_second),
        }
    }

    /// Open loop: how many requests are due before `moment`.
    fn numbered_at(&self, moment: Instant) -> u64 {
        match self.plan.pace {
            Pace::Closed => self.next,
            Pace::Open { per_second } => {
                let seconds = moment.saturating_duration_since(self.started).as_secs_f64();
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "positive and small"
                )]
                let number = (seconds * per_second).ceil() as u64;
                number.clamp(self.next, self.end)
            }
        }
    }
}
