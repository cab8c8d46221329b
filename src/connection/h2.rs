//! HTTP/2 with a client: one task reads, one writes, one serves each request.

use std::{cell::Cell, net::SocketAddr, rc::Rc, time::Duration};

use super::{
    Client, Identity, Request, local,
    turn::{self, Refused},
};
use crate::{
    clock::Tick,
    failure::{ClientFault, Failure},
    http::{
        BadHead, Field, RequestHead,
        h2::{Bounds, Code},
    },
    observe::{Ended, Protocol, event},
    route::Captures,
    runtime::{Buffer, Gate, Idle, Reader, spawn},
    shard::{Live, Shard},
    wire::{Arrival, Inbound, Incoming, Mux, Outbound, Over},
};

/// How long a client may take to read the last words (RFC 9112 §9.6 has the reason).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// What the requests of one connection have in common.
struct Session {
    mux: Rc<Mux>,
    shard: Rc<Shard>,
    live: Rc<Live>,
    peer: Option<SocketAddr>,
    peer_text: Rc<[u8]>,
    is_secure: bool,
    identity: Option<Rc<Identity>>,
    listener: usize,
    /// When a connection without exchanges ends.
    idle_until: Cell<Tick>,
    /// Tasks that serve a request.
    running: Cell<usize>,
    /// Rung when the last of them has ended.
    rested: Gate<()>,
    is_draining: Cell<bool>,
}

/// Serves a connection to its end. What it has received is in the client's buffer.
pub(super) async fn run(client: Client, shard: Rc<Shard>) -> Ended {
    let Client {
        reader, writer, buffer, fields, peer, peer_text, is_secure, identity, listener, live, ..
    } = client;
    let (Some(Inbound::Socket(mut reader)), Outbound::Socket(writer)) = (reader, writer) else {
        unreachable!("a connection begins with a socket")
    };
    shard.upstreams.give_back_fields(fields);
    let clock = &shard.timers.clock;
    let snapshot = shard.snapshot();
    // Tunnels go over HTTP/1.1 only: clients are not offered RFC 8441's.
    let bounds =
        Bounds { rules: snapshot.listeners[listener].rules, extended_connect: false, ..Bounds::default() };
    let (patience, head_timeout) = (snapshot.limits.body_timeout, snapshot.limits.head_timeout);
    drop(snapshot);
    let session = Rc::new(Session {
        mux: Mux::server(bounds, reader.handle(), &shard.timers, &shard.buffers),
        live: Rc::clone(&live),
        peer,
        peer_text,
        is_secure,
        identity,
        listener,
        idle_until: Cell::new(clock.after(head_timeout)),
        running: Cell::new(0),
        rested: Gate::default(),
        is_draining: Cell::new(false),
        shard: Rc::clone(&shard),
    });
    let draining = Rc::downgrade(&session);
    live.at_drain(move || {
        if let Some(session) = draining.upgrade() {
            session.drain();
        }
    });
    let written = session.mux.start_writing(writer, patience, false);
    if shard.is_draining() {
        session.drain();
    }

    let ended = session.read_on(&mut reader, buffer).await;
    // Who waits for something from the client waits in vain.
    session.mux.stop_reading();
    while session.running.get() > 0 {
        session.rested.take().await;
    }
    session.mux.close();
    written.take().await;
    if ended != Ended::Client {
        linger(&mut reader, &shard).await;
    }
    ended
}

impl Session {
    /// Reads until the connection is to end. The last words are ready then.
    async fn read_on(self: &Rc<Self>, reader: &mut Reader, buffer: Buffer) -> Ended {
        let until = || if self.mux.exchanges() == 0 { self.idle_until.get() } else { Tick::NEVER };
        match self.mux.read_on(reader, buffer, until, |arrival| self.arrived(arrival)).await {
            Over::Finished => Ended::Drain,
            Over::Fault(fault) => {
                event::debug("http2", format_args!("connection ended: {fault:?}"));
                Ended::BadRequest
            }
            Over::Closed => Ended::Client,
            Over::Stuck => Ended::Reset,
            Over::TooSlow => {
                self.mux.go_away(Code::NoError);
                if self.is_draining.get() { Ended::Drain } else { Ended::Idle }
            }
        }
    }

    fn arrived(self: &Rc<Self>, arrival: Arrival) {
        match arrival {
            Arrival::Request { exchange, head, buffer, fields, .. } => {
                self.start(Work::Serve { exchange, head, buffer, fields });
            }
            Arrival::TooLarge { exchange, why } => self.start(Work::Refuse { exchange, why }),
            Arrival::Malformed(_) => {
                let id = self.shard.new_id(self.shard.timers.clock.recent_us());
                self.refused(&id, 400, Failure::Client(ClientFault::Head(BadHead::Malformed)), 0);
            }
            Arrival::Leaving | Arrival::Pong => {}
        }
    }

    /// Starts the task of one request.
    fn start(self: &Rc<Self>, work: Work) {
        self.running.set(self.running.get() + 1);
        self.live.begin();
        let (session, panicked) = (Rc::clone(self), Rc::clone(self));
        spawn(
            async move {
                match work {
                    Work::Serve { exchange, head, buffer, fields } => {
                        session.serve(exchange, head, buffer, fields).await;
                    }
                    Work::Refuse { exchange, why } => session.refuse(exchange, why).await,
                }
                session.has_ended();
            },
            move |text| {
                panicked.live.request_panicked(text);
                panicked.has_ended();
            },
        );
    }

    async fn serve(&self, exchange: Incoming, head: RequestHead, buffer: Buffer, fields: Vec<Field>) {
        let shard = &self.shard;
        let mut client = Client {
            writer: Outbound::Exchange(exchange.outgoing()),
            reader: Some(Inbound::Exchange(exchange)),
            buffer,
            fields,
            captures: Captures::default(),
            peer: self.peer,
            peer_text: Rc::clone(&self.peer_text),
            is_secure: self.is_secure,
            identity: self.identity.clone(),
            listener: self.listener,
            live: Rc::clone(&self.live),
            requests: 1,
        };
        let mut request = Request::new(head, &mut client, shard, shard.timers.clock.recent_us());
        turn::take(&mut request, shard).await;
        shard.buffers.give_back(std::mem::take(&mut client.buffer));
        shard.upstreams.give_back_fields(std::mem::take(&mut client.fields));
    }

    /// Answers a head that exceeds the rules.
    async fn refuse(&self, exchange: Incoming, why: BadHead) {
        let shard = &self.shard;
        let failure = Failure::Client(ClientFault::Head(why));
        let id = shard.new_id(shard.timers.clock.recent_us());
        let patience = shard.snapshot().limits.body_timeout;
        let mut writer = Outbound::Exchange(exchange.outgoing());
        let sent = local::refuse_connection(&mut writer, failure, &id, shard, patience).await;
        self.refused(&id, failure.status(), failure, sent.map_or(0, |sent| sent.body_bytes));
    }

    fn refused(&self, id: &[u8], status: u16, failure: Failure, body_bytes: u64) {
        let refused = Refused {
            peer: self.peer,
            target: b"",
            protocol: Protocol::Http2,
            id,
            status,
            body_bytes,
            head_bytes: 0,
            started_us: self.shard.timers.clock.recent_us(),
            why: failure.why(),
        };
        turn::record_refused(&refused, &self.shard);
    }

    /// A request's task is over.
    fn has_ended(&self) {
        self.live.end();
        self.running.set(self.running.get() - 1);
        if self.running.get() > 0 {
            return;
        }
        self.rested.put(());
        let clock = &self.shard.timers.clock;
        let until = if self.is_draining.get() {
            // Looked at again at once.
            if self.mux.is_finished() { clock.tick() } else { clock.after(LINGER) }
        } else {
            clock.after(self.shard.snapshot().limits.idle_timeout)
        };
        self.idle_until.set(until);
        if self.mux.exchanges() == 0 {
            self.mux.handle().expect_until(until, &self.shard.timers);
        }
    }

    /// Tells the client to send no more requests here. Those it has sent are served.
    fn drain(&self) {
        if !self.is_draining.replace(true) {
            self.mux.drain();
        }
    }
}

/// What there is to do for an exchange.
enum Work {
    Serve { exchange: Incoming, head: RequestHead, buffer: Buffer, fields: Vec<Field> },
    Refuse { exchange: Incoming, why: BadHead },
}

/// Reads on for a while: a close with unread bytes would be a reset that takes the last words with it.
async fn linger(reader: &mut Reader, shard: &Shard) {
    let until = shard.timers.clock.after(LINGER);
    let mut sink = shard.buffers.small();
    let mut left = LINGER_BYTES_MAX;
    while let Ok(Idle::Bytes(count @ 1..)) = reader.read_or_release(&mut sink, Tick::NEVER, until).await
        && count < left
    {
        left -= count;
        sink.clear();
    }
    shard.buffers.give_back(sink);
}
