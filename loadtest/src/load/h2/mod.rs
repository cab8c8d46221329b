//! HTTP/2: several requests at a time on each connection.

mod connection;
mod hpack;

use std::time::Instant;

use self::connection::{Connection, Event, Stage, State};
use self::hpack::Blocks;
use super::generator::{ATTEMPTS_MAX, Shared};
use super::{Failed, Plan, Tls};

/// All connections; each has `streams` places for requests.
pub(super) struct Lanes {
    connections: Vec<Connection>,
    streams: usize,
    requests: Vec<Blocks>,
    /// Connections with frames that were not sent yet.
    unsent: Vec<usize>,
    /// Kept for their memory.
    events: Vec<Event>,
}

impl Lanes {
    pub(super) fn new(plan: &Plan, streams: usize, now: Instant) -> Self {
        let scheme = if plan.tls.is_some() { "https" } else { "http" };
        Self {
            connections: (0..plan.connections).map(|_| Connection::new(streams, now)).collect(),
            streams,
            requests: hpack::encode(&plan.requests.fields(scheme)),
            unsent: Vec::with_capacity(plan.connections),
            events: Vec::new(),
        }
    }

    pub(super) fn open(&self) -> usize {
        self.connections.iter().filter(|connection| connection.is_open()).count()
    }

    /// When the requests under way were due.
    pub(super) fn busy(&self) -> impl Iterator<Item = Instant> {
        let slots = self.connections.iter().flat_map(|connection| &connection.slots);
        slots.filter(|slot| matches!(slot.state, State::Busy | State::Waiting)).map(|slot| slot.due)
    }

    /// Does what the events of a connection ask for.
    pub(super) fn handle(&mut self, index: usize, shared: &mut Shared<'_>) {
        let connection = &mut self.connections[index];
        if connection.stage == Stage::Closed {
            return;
        }
        let mut events = std::mem::take(&mut self.events);
        let (body, expect) = (&shared.plan.requests.body, &shared.plan.expect);
        let bytes = &mut shared.tally.bytes;
        let read = connection.receive(shared.buffer, body, expect, bytes, &mut events);
        for event in events.drain(..) {
            match event {
                Event::Shaken { resumed } => {
                    shared.tally.handshakes += 1;
                    shared.tally.resumed += u64::from(resumed);
                }
                Event::Open => self.opened(index, shared),
                Event::Done { slot, outcome } => {
                    match outcome {
                        Ok(()) => shared.tally.success(self.connections[index].slots[slot].due.elapsed()),
                        Err(failed) => shared.tally.failure(failed),
                    }
                    self.go_on(index, slot, shared);
                }
            }
        }
        self.events = events;
        // All that was started meanwhile is on this connection.
        self.unsent.clear();
        if let Err(failed) = read.and_then(|()| self.connections[index].flush()) {
            self.broke(index, failed, shared);
        }
        let connection = &mut self.connections[index];
        if connection.stage == Stage::Leaving && connection.is_quiet() {
            connection.close();
        }
    }

    /// A connection can carry requests: those that wait go out.
    fn opened(&mut self, index: usize, shared: &mut Shared<'_>) {
        for slot in 0..self.connections[index].usable() {
            match self.connections[index].slots[slot].state {
                State::Waiting => self.send(index, slot, shared),
                State::Resting => self.go_on(index, slot, shared),
                State::Idle | State::Busy => {}
            }
        }
        // The server takes fewer requests at once than there are places.
        for slot in self.connections[index].usable()..self.streams {
            let place = &mut self.connections[index].slots[slot];
            if place.state == State::Waiting {
                shared.tally.failure(Failed::Connect);
            }
            place.state = State::Resting;
        }
    }

    /// What a place does after a request: the next one, at once or when it is due.
    fn go_on(&mut self, index: usize, slot: usize, shared: &mut Shared<'_>) {
        let connection = &mut self.connections[index];
        if connection.stage != Stage::Open {
            connection.slots[slot].state = State::Resting;
        } else if shared.pacer.is_open_loop() {
            connection.slots[slot].state = State::Idle;
            shared.pacer.idle.push_back(index * self.streams + slot);
        } else {
            self.start(index * self.streams + slot, Instant::now(), shared);
        }
    }

    /// Starts the next request in a place that is free.
    pub(super) fn start(&mut self, place: usize, due: Instant, shared: &mut Shared<'_>) {
        let (index, slot) = (place / self.streams, place % self.streams);
        let connection = &mut self.connections[index];
        if connection.slots[slot].state == State::Busy {
            return;
        }
        if connection.stage != Stage::Open {
            // It was free when the connection still stood. The request stays due, for another place.
            connection.slots[slot].state = State::Resting;
            return;
        }
        let Some(request) = shared.pacer.take(self.requests.len()) else {
            connection.slots[slot].state = State::Idle;
            return;
        };
        connection.slots[slot].request = request;
        connection.slots[slot].due = due;
        self.send(index, slot, shared);
    }

    fn send(&mut self, index: usize, slot: usize, shared: &Shared<'_>) {
        let connection = &mut self.connections[index];
        let request = connection.slots[slot].request;
        connection.begin(slot, &self.requests[request], &shared.plan.requests.body);
        if self.unsent.last() != Some(&index) {
            self.unsent.push(index);
        }
    }

    /// Sends what was started.
    pub(super) fn flush(&mut self, shared: &mut Shared<'_>) {
        for at in 0..self.unsent.len() {
            let index = self.unsent[at];
            if let Err(failed) = self.connections[index].flush() {
                self.broke(index, failed, shared);
            }
        }
        self.unsent.clear();
    }

    /// A connection ended: what was under way failed. `look_over` connects anew.
    fn broke(&mut self, index: usize, failed: Failed, shared: &mut Shared<'_>) {
        let connection = &mut self.connections[index];
        let failed = if connection.stage == Stage::Connecting {
            shared.tally.refused += 1;
            if failed == Failed::Closed { Failed::Connect } else { failed }
        } else {
            failed
        };
        connection.close();
        for slot in &mut connection.slots {
            if matches!(slot.state, State::Busy | State::Waiting) {
                shared.tally.failure(failed);
            }
            slot.state = State::Resting;
        }
    }

    /// Ends requests that take too long, and connects where there is no connection.
    pub(super) fn look_over(&mut self, now: Instant, shared: &mut Shared<'_>) {
        let connecting = |connection: &&Connection| connection.stage == Stage::Connecting;
        let mut attempts = self.connections.iter().filter(connecting).count();
        for index in 0..self.connections.len() {
            for slot in 0..self.streams {
                let place = &self.connections[index].slots[slot];
                if matches!(place.state, State::Busy | State::Waiting)
                    && now > place.due + shared.plan.timeout
                {
                    shared.tally.timeout(now.saturating_duration_since(place.due));
                    self.connections[index].cancel(slot);
                    if self.connections[index].stage == Stage::Open {
                        self.go_on(index, slot, shared);
                    }
                }
            }
            if self.connections[index].stage == Stage::Closed
                && attempts < ATTEMPTS_MAX
                && !shared.pacer.is_over()
            {
                attempts += 1;
                self.connect(index, shared);
            }
        }
        self.flush(shared);
    }

    fn connect(&mut self, index: usize, shared: &mut Shared<'_>) {
        // In closed loop every place has a request at once: that nobody answers must be seen.
        if !shared.pacer.is_open_loop() {
            for slot in &mut self.connections[index].slots {
                let Some(request) = shared.pacer.take(self.requests.len()) else { break };
                (slot.state, slot.request, slot.due) = (State::Waiting, request, Instant::now());
            }
        }
        let connected = match shared.plan.tls.as_ref().map(Tls::session).transpose() {
            Ok(session) => self.connections[index]
                .connect(shared.plan.target, shared.epoll, index as u64, session)
                .map_err(|_| Failed::Connect),
            Err(failed) => Err(failed),
        };
        if let Err(failed) = connected {
            self.connections[index].stage = Stage::Connecting;
            self.broke(index, failed, shared);
        }
    }
}
