//! HTTP/1.1: one request at a time on each connection.

use std::time::Instant;

use rustix::event::epoll::EventFlags;

use super::connection::{Connection, Established, Progress, State};
use super::generator::{ATTEMPTS_MAX, Shared, is_readable};
use super::{Failed, Plan, Tls};

/// All connections; each is a place for a request.
pub(super) struct Lanes {
    connections: Vec<Connection>,
}

impl Lanes {
    pub(super) fn new(plan: &Plan, now: Instant) -> Self {
        Self { connections: (0..plan.connections).map(|_| Connection::new(now)).collect() }
    }

    pub(super) fn open(&self) -> usize {
        self.connections.iter().filter(|connection| connection.is_open()).count()
    }

    /// When the requests under way were due.
    pub(super) fn busy(&self) -> impl Iterator<Item = Instant> {
        let busy = |connection: &&Connection| {
            matches!(connection.state, State::Busy | State::Connecting { busy: true })
        };
        self.connections.iter().filter(busy).map(|connection| connection.due)
    }

    /// Does what the events of a connection ask for.
    pub(super) fn handle(&mut self, index: usize, flags: EventFlags, shared: &mut Shared<'_>) {
        let connection = &mut self.connections[index];
        match connection.state {
            State::Closed => {}
            State::Connecting { busy } => {
                match connection.establish() {
                    Ok(Established::NotYet) => return,
                    Ok(Established::Plain) => {}
                    Ok(Established::Secured { resumed }) => {
                        shared.tally.handshakes += 1;
                        shared.tally.resumed += u64::from(resumed);
                    }
                    Err(failed) => return self.no_connection(index, busy, failed, shared),
                }
                if busy { self.send(index, shared) } else { self.rest(index, shared) }
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
                let text = &shared.plan.requests.texts[connection.request];
                let mut progress = Progress::Pending;
                if is_readable(flags) {
                    let (to_head, expect) = (shared.plan.requests.to_head, &shared.plan.expect);
                    let bytes = &mut shared.tally.bytes;
                    progress = connection.receive(shared.buffer, to_head, text.len(), expect, bytes);
                }
                if let (Progress::Pending, true) = (&progress, flags.contains(EventFlags::OUT))
                    && let Err(failed) = connection.send(text)
                {
                    progress = Progress::Done { outcome: Err(failed), keep: false };
                }
                if let Progress::Done { outcome, keep } = progress {
                    match outcome {
                        Ok(()) => shared.tally.success(connection.due.elapsed()),
                        Err(failed) => shared.tally.failure(failed),
                    }
                    let closed = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
                    self.go_on(index, keep && !closed && !shared.plan.new_connections, shared);
                }
            }
        }
    }

    /// What a connection does after a request: the next one, at once or when it is due.
    fn go_on(&mut self, index: usize, keep: bool, shared: &mut Shared<'_>) {
        if !keep {
            self.connections[index].close();
        }
        self.free(index, keep, shared);
    }

    /// A connection without a request gets one, or waits for one.
    fn free(&mut self, index: usize, is_open: bool, shared: &mut Shared<'_>) {
        if !shared.pacer.is_open_loop() {
            self.start(index, Instant::now(), shared);
        } else if is_open || shared.plan.new_connections {
            self.rest(index, shared);
        } else {
            self.connect(index, false, shared);
        }
    }

    /// Starts the next request on a connection that is free, connecting first if it has to.
    pub(super) fn start(&mut self, index: usize, due: Instant, shared: &mut Shared<'_>) {
        let connection = &mut self.connections[index];
        let Some(request) = shared.pacer.take(shared.plan.requests.texts.len()) else {
            connection.state = State::Idle;
            return;
        };
        connection.request = request;
        connection.due = due;
        if connection.is_open() { self.send(index, shared) } else { self.connect(index, true, shared) }
    }

    fn send(&mut self, index: usize, shared: &mut Shared<'_>) {
        let connection = &mut self.connections[index];
        let text = &shared.plan.requests.texts[connection.request];
        if let Err(failed) = connection.begin(connection.request, text, connection.due) {
            shared.tally.failure(failed);
            // Not at once again: `look_over` connects anew.
            self.connections[index].close();
        }
    }

    fn connect(&mut self, index: usize, busy: bool, shared: &mut Shared<'_>) {
        let connection = &mut self.connections[index];
        connection.close();
        let session = match shared.plan.tls.as_ref().map(Tls::session).transpose() {
            Ok(session) => session,
            Err(failed) => return self.no_connection(index, busy, failed, shared),
        };
        if connection.connect(shared.plan.target, shared.epoll, index as u64, busy, session).is_err() {
            self.no_connection(index, busy, Failed::Connect, shared);
        }
    }

    fn no_connection(&mut self, index: usize, busy: bool, failed: Failed, shared: &mut Shared<'_>) {
        self.connections[index].close();
        shared.tally.refused += 1;
        if busy {
            shared.tally.failure(failed);
        }
    }

    fn rest(&mut self, index: usize, shared: &mut Shared<'_>) {
        self.connections[index].state = State::Idle;
        shared.pacer.idle.push_back(index);
    }

    /// Ends requests that take too long, and connects again where an attempt failed.
    pub(super) fn look_over(&mut self, now: Instant, shared: &mut Shared<'_>) {
        let connecting = |connection: &&Connection| matches!(connection.state, State::Connecting { .. });
        let mut attempts = self.connections.iter().filter(connecting).count();
        for index in 0..self.connections.len() {
            let connection = &self.connections[index];
            match connection.state {
                State::Busy | State::Connecting { busy: true }
                    if now > connection.due + shared.plan.timeout =>
                {
                    shared.tally.timeout(now.saturating_duration_since(connection.due));
                    self.connections[index].close();
                    self.go_on(index, false, shared);
                }
                State::Closed if attempts < ATTEMPTS_MAX => {
                    attempts += 1;
                    self.free(index, false, shared);
                }
                State::Closed | State::Busy | State::Idle | State::Connecting { .. } => {}
            }
        }
    }
}
