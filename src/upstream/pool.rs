//! What a shard knows of the endpoints: idle connections, requests in flight, and who is next.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use rustls::pki_types::ServerName;

use super::{
    Fault,
    shared::{self, Line},
    upload::Uploading,
    wait::Lines,
};
use crate::{
    balance::{Choice, Picked, Policy, Queue, Shared, State, Tried},
    clock::Tick,
    config::Speaks,
    http::{BodyLength, Field, ResponseHead, Span, Version},
    observe::{Metrics, Outcome, event},
    runtime::{
        Buffer, Buffers, Ending, HandshakeFault, IoFault, ReadAhead, Stream, StreamHandle, Timers, Turnstile,
    },
    snapshot::{Dial, Endpoint, Service, Snapshot},
    tls,
    wire::{Inbound, Outbound},
};

/// Before the first exchange.
const NO_HEAD: ResponseHead = ResponseHead {
    status: 0,
    reason: Span { start: 0, len: 0 },
    version: Version::Http11,
    body: BodyLength::Exact(0),
    keep_alive: false,
    upgrade: false,
    len: 0,
};

/// An idle connection is closed after this; nginx's `keepalive_timeout` in an upstream block.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Retries that are always allowed, for each service and second, in hundredths.
const RETRIES_FREE: u64 = 300;
/// Retry allowance that can be saved up, in hundredths of a retry: an endpoint that dies takes all its requests in flight with it
/// at once.
const RETRIES_SAVED_MAX: u64 = 10_000;
/// Lists of header fields kept for reuse.
const FIELDS_KEPT: usize = 256;

/// One shard's side of all services.
pub struct Upstreams {
    pub timers: Rc<Timers>,
    pub buffers: Rc<Buffers>,
    pub metrics: Rc<RefCell<Metrics>>,
    handshakes: Rc<Turnstile>,
    /// Which of a service's TLS configurations is ours.
    pub(super) shard: usize,
    /// Tells another shard that a service has a place for the first who waits there.
    pub(super) call_shard: CallShard,
    pub(super) lines: Lines,
    tables: RefCell<Tables>,
    fields: RefCell<Vec<Vec<Field>>>,
    random: Cell<u64>,
    idle: Cell<usize>,
    open: Rc<Open>,
    pub(super) ending: Ending,
    pub(super) shared: shared::Connections,
}

/// Calls the first request that waits on a shard for a service, by its slot.
pub type CallShard = Box<dyn Fn(usize, usize)>;

/// Whether there is an endpoint for a request.
pub(super) enum Found {
    Lease(Lease),
    /// Those that are left have as many requests as they may.
    Full,
    Nowhere,
}

#[derive(Default)]
struct Tables {
    /// By [`Service::slot`].
    services: Vec<ServiceState>,
    /// By [`Endpoint::slot`](crate::snapshot::Endpoint::slot); the connection used last is the last.
    #[expect(clippy::vec_box, reason = "a request moves the box, not the half kilobyte in it")]
    pools: Vec<Vec<Box<Connection>>>,
}

#[derive(Default)]
struct ServiceState {
    revision: u64,
    /// The endpoints' ids, in the order of `states`.
    ids: Vec<u64>,
    states: Vec<State>,
    idle: usize,
    /// In hundredths of a retry.
    allowance: u64,
    allowance_at_us: u64,
}

/// A connection to an endpoint, with the exchange that is under way on it.
///
/// It lies in one box as long as it lives, so that a request moves a pointer through its steps, not the half kilobyte that
/// belongs to it.
pub struct Connection {
    pub(super) reader: Inbound,
    /// `None` while a request body is being streamed.
    pub(super) writer: Option<Outbound>,
    /// `None` on a connection that is shared.
    open: Option<OpenMark>,
    /// When it became idle.
    since_us: u64,
    /// Of the service it idles for.
    service: usize,
    /// Of the endpoint it was made to: its slot may be another's by now.
    endpoint: u64,
    /// The head of the response under way.
    pub head: ResponseHead,
    pub fields: Vec<Field>,
    /// The head (`head.len` bytes) and what came behind it.
    pub buffer: Buffer,
    pub(super) lease: Option<Lease>,
    /// Where a streamed request body ends up.
    pub(super) upload: Option<Uploading>,
    /// The last response did not fit a small buffer, so the next one will hardly.
    pub(super) large: bool,
    /// More came than the response, or it ended with its connection.
    pub(super) left_over: bool,
    /// When the request had been sent, and when this head was here (µs of the shard's clock).
    pub sent_us: u64,
    pub head_us: u64,
    /// Attempts it took, this one included.
    pub attempts: u32,
}

impl Connection {
    fn new(stream: Stream, open: OpenMark) -> Box<Self> {
        let reader = Inbound::Ahead(ReadAhead::new(stream.reader));
        Self::with(reader, Outbound::Socket(stream.writer), Some(open))
    }

    /// One exchange of a connection that is shared.
    pub(super) fn shared(reader: Inbound, writer: Outbound) -> Box<Self> {
        Self::with(reader, writer, None)
    }

    fn with(reader: Inbound, writer: Outbound, open: Option<OpenMark>) -> Box<Self> {
        Box::new(Self {
            reader,
            large: false,
            writer: Some(writer),
            open,
            since_us: 0,
            service: 0,
            endpoint: 0,
            head: NO_HEAD,
            fields: Vec::new(),
            buffer: Buffer::default(),
            lease: None,
            upload: None,
            left_over: false,
            sent_us: 0,
            head_us: 0,
            attempts: 0,
        })
    }

    /// Whether nothing has come since the last response, and the peer has not closed; `certain` asks the kernel.
    fn is_quiet(&mut self, certain: bool) -> bool {
        match &mut self.reader {
            Inbound::Ahead(reader) if certain => reader.is_certainly_quiet(),
            Inbound::Ahead(reader) => reader.is_quiet(),
            Inbound::Socket(_) | Inbound::Exchange(_) => false,
        }
    }

    /// Starts the read for the next response.
    fn read_ahead(&mut self, buffer: Buffer) {
        if let Inbound::Ahead(reader) = &mut self.reader {
            reader.start(buffer);
        }
    }

    /// Whether a read is under way that brings its own buffer.
    pub(super) fn is_read_ahead(&self) -> bool {
        matches!(&self.reader, Inbound::Ahead(reader) if reader.is_started())
    }

    /// The endpoint this exchange is with.
    pub fn lease(&self) -> &Lease {
        self.lease.as_ref().expect("a connection with an exchange under way is leased")
    }

    /// Gives the parts of a connection that has become a tunnel. The lease counts the tunnel as in flight.
    pub fn into_tunnel(mut self) -> (Inbound, Outbound, Buffer, (Option<Lease>, Option<OpenMark>)) {
        self.buffer.consume(self.head.len);
        let upstreams = Rc::clone(&self.lease().upstreams);
        upstreams.give_back_fields(self.fields);
        let writer = self.writer.expect("a request for a tunnel has no body to be streamed");
        (self.reader, writer, self.buffer, (self.lease, self.open))
    }
}

/// A connection that was made.
pub(super) enum Connected {
    Own(Box<Connection>),
    Shared(Rc<Line>),
}

fn speaks_http2(stream: &Stream) -> bool {
    stream.reader.tls_facts().is_some_and(|facts| facts.is_http2)
}

/// Counts a connection as open, and lets the shard end it, until it is dropped.
pub struct OpenMark {
    all: Rc<Open>,
    place: usize,
}

/// Every connection to an endpoint, idle or not.
#[derive(Default)]
struct Open {
    handles: RefCell<Vec<Option<StreamHandle>>>,
    free: RefCell<Vec<usize>>,
    count: Cell<usize>,
}

impl OpenMark {
    fn new(all: &Rc<Open>, handle: StreamHandle) -> Self {
        let mut handles = all.handles.borrow_mut();
        let place = all.free.borrow_mut().pop().unwrap_or_else(|| {
            handles.push(None);
            handles.len() - 1
        });
        handles[place] = Some(handle);
        all.count.set(all.count.get() + 1);
        Self { all: Rc::clone(all), place }
    }
}

impl Drop for OpenMark {
    fn drop(&mut self) {
        self.all.handles.borrow_mut()[self.place] = None;
        self.all.free.borrow_mut().push(self.place);
        self.all.count.set(self.all.count.get() - 1);
    }
}

impl Upstreams {
    pub fn new(
        timers: Rc<Timers>,
        buffers: Rc<Buffers>,
        metrics: Rc<RefCell<Metrics>>,
        handshakes: Rc<Turnstile>,
        shard: usize,
        call_shard: CallShard,
        seed: u64,
    ) -> Rc<Self> {
        Rc::new(Self {
            timers,
            buffers,
            metrics,
            handshakes,
            shard,
            call_shard,
            lines: Lines::default(),
            tables: RefCell::default(),
            fields: RefCell::default(),
            random: Cell::new(seed | 1),
            idle: Cell::new(0),
            open: Rc::default(),
            ending: Ending::default(),
            shared: shared::Connections::default(),
        })
    }

    /// The next number of this shard's sequence (xorshift64*). For spreading load and making ids, not for secrets.
    pub fn random(&self) -> u64 {
        let mut x = self.random.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.random.set(x);
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Picks an endpoint that was not tried for this request, and counts the request as in flight there.
    pub(super) fn pick(self: &Rc<Self>, service: &Service, tried: &Tried, key: Option<u64>) -> Found {
        let now_ms = self.timers.clock.recent_us() / 1000;
        let mut tables = self.tables.borrow_mut();
        let state = tables.service(service);
        let draw = |below: usize| {
            // The high half of a product: no division, and the bias is under 2^-32 for any list of endpoints.
            let product = u128::from(self.random()) * below as u128;
            usize::try_from(product >> 64).expect("below the bound, which is a usize")
        };
        let choice = Choice {
            policy: service.policy,
            facts: &service.facts,
            shared: &service.shared,
            tried,
            key,
            can_wait: service.waits.is_some(),
            now_ms,
        };
        let index = match choice.pick(&mut state.states, draw) {
            Picked::At(index) => index,
            Picked::Full => return Found::Full,
            Picked::Nowhere => return Found::Nowhere,
        };
        state.states[index].in_flight += 1;
        let place = (service.facts[index].max_conns > 0).then(|| Place {
            shared: Arc::clone(&service.shared[index]),
            queue: service.waits.as_ref().map(|waits| Arc::clone(&waits.queue)),
        });
        Found::Lease(Lease {
            upstreams: Rc::clone(self),
            service: service.slot,
            endpoint: service.endpoints[index].slot,
            id: service.endpoints[index].id,
            metric: service.endpoints[index].metric,
            index,
            keepalive: service.keepalive,
            in_flight: true,
            place,
        })
    }

    /// An idle connection that can be used, the one used last first: closed ones are of no use, and bytes that came in between
    /// must not be taken for the answer to the next request. `certain` asks the kernel as well (0.4 µs): for a request that cannot be
    /// sent a second time.
    pub(super) fn reuse(&self, lease: &Lease, certain: bool) -> Option<Box<Connection>> {
        loop {
            let mut idle = self.tables.borrow_mut().take_idle(lease.endpoint)?;
            self.idle.set(self.idle.get() - 1);
            let age_us = self.timers.clock.recent_us().saturating_sub(idle.since_us);
            let quiet = idle.is_quiet(certain);
            if quiet && idle.endpoint == lease.id && age_us < micros(IDLE_MAX) {
                self.metrics.borrow_mut().counters.upstream_reused += 1;
                return Some(idle);
            }
            self.metrics.borrow_mut().counters.upstream_stale += 1;
        }
    }

    /// A new connection to an endpoint, within the service's `connect`. `shares` = HTTP/2 will do, where the endpoint speaks it.
    pub(super) async fn connect(
        self: &Rc<Self>,
        service: &Service,
        endpoint: &Endpoint,
        shares: bool,
    ) -> Result<Connected, Fault> {
        let speaks = if shares { endpoint.speaks } else { Speaks::Http1 };
        let (limit, timers) = (service.connect, &self.timers);
        let until = timers.clock.after(limit);
        let connected = match &endpoint.dial {
            Dial::Tcp(address) => self.ending.unless(Stream::connect(*address, limit, timers)).await,
            Dial::Unix(path) => self.ending.unless(Stream::connect_unix(path, limit, timers)).await,
            Dial::Unresolved => return Err(Fault::NoEndpoint),
        };
        // That took a while; the deadlines that follow start now.
        timers.clock.now_us();
        let Some(connected) = connected else { return Err(Fault::NoEndpoint) };
        let stream = match (connected, &endpoint.tls) {
            (Ok(stream), None) => stream,
            // Boxed: requests to services without TLS must not pay for it.
            (Ok(stream), Some(name)) => Box::pin(self.secure(stream, service, name, speaks, until)).await?,
            (Err(IoFault::TooSlow), _) => return Err(Fault::ConnectTimeout),
            (Err(IoFault::Broken(_)), _) => return Err(Fault::ConnectRefused),
        };
        self.metrics.borrow_mut().counters.upstream_opened += 1;
        let open = OpenMark::new(&self.open, stream.handle());
        let is_http2 = match stream.reader.tls_facts() {
            None => speaks == Speaks::Http2,
            Some(facts) => facts.is_http2,
        };
        if is_http2 {
            return Ok(Connected::Shared(shared::open(self, endpoint.slot, stream, open)));
        }
        Ok(Connected::Own(Connection::new(stream, open)))
    }

    async fn secure(
        &self,
        stream: Stream,
        service: &Service,
        name: &ServerName<'static>,
        speaks: Speaks,
        until: Tick,
    ) -> Result<Stream, Fault> {
        let Some(config) = service.tls.get(self.shard) else { return Err(Fault::Tls) };
        // Counted meanwhile, so that a shard that ends can end it.
        let _open = OpenMark::new(&self.open, stream.handle());
        let config = match speaks {
            Speaks::Http1 => Arc::clone(config),
            Speaks::Http2 => tls::offering(config, &[b"h2"]),
            Speaks::Either => tls::offering(config, &[b"h2", b"http/1.1"]),
        };
        let name = name.clone();
        let secured =
            stream.connect_tls(config, name, &self.buffers, &self.handshakes, until, service.connect).await;
        match secured {
            Ok(stream) if speaks == Speaks::Http2 && !speaks_http2(&stream) => {
                let title = "it does not speak HTTP/2, as `protocol` says";
                event::warn("upstream", format_args!("service {}: TLS: {title}", service.name));
                Err(Fault::Tls)
            }
            Ok(stream) => Ok(stream),
            Err((HandshakeFault::TooSlow, _)) => Err(Fault::ConnectTimeout),
            Err((HandshakeFault::Refused(error), _)) => {
                event::warn("upstream", format_args!("service {}: TLS: {error}", service.name));
                Err(Fault::Tls)
            }
            Err((HandshakeFault::Broken(error), _)) => {
                event::warn("upstream", format_args!("service {}: TLS: broken off: {error}", service.name));
                Err(Fault::Tls)
            }
            Err((HandshakeFault::PlainHttp, _)) => Err(Fault::Tls),
        }
    }

    /// Keeps a connection whose response was read to its end, unless the service has enough of them.
    pub(super) fn keep(&self, mut connection: Box<Connection>) {
        let Some(lease) = connection.lease.take() else { return };
        let mut tables = self.tables.borrow_mut();
        let state = &mut tables.services[lease.service];
        state.land(&lease);
        if state.idle >= lease.keepalive {
            lease.landed();
            return;
        }
        state.idle += 1;
        self.idle.set(self.idle.get() + 1);
        connection.since_us = self.timers.clock.recent_us();
        connection.service = lease.service;
        connection.endpoint = lease.id;
        let buffer = if connection.large { self.buffers.large() } else { self.buffers.small() };
        connection.read_ahead(buffer);
        if tables.pools.len() <= lease.endpoint {
            tables.pools.resize_with(lease.endpoint + 1, Vec::new);
        }
        tables.pools[lease.endpoint].push(connection);
        lease.landed();
    }

    /// Closes idle connections that are too old, that the other side closed, or whose endpoint is no longer configured. Run
    /// about once a second.
    pub fn sweep(&self, snapshot: &Snapshot) {
        let now_us = self.timers.clock.recent_us();
        let mut configured = vec![0; self.tables.borrow().pools.len()];
        for endpoint in snapshot.services.iter().flat_map(|service| &service.endpoints) {
            if let Some(known) = configured.get_mut(endpoint.slot) {
                *known = endpoint.id;
            }
        }
        self.shared.sweep(now_us, micros(IDLE_MAX), |slot| {
            snapshot.services.iter().flat_map(|service| &service.endpoints).any(|known| known.slot == slot)
        });
        let mut dropped = Vec::new();
        let mut tables = self.tables.borrow_mut();
        let Tables { services, pools } = &mut *tables;
        for (slot, pool) in pools.iter_mut().enumerate() {
            let gone = pool.extract_if(.., |idle| {
                configured[slot] != idle.endpoint
                    || now_us.saturating_sub(idle.since_us) > micros(IDLE_MAX)
                    || !idle.is_quiet(false)
            });
            for idle in gone {
                services[idle.service].idle -= 1;
                dropped.push(idle);
            }
        }
        self.idle.set(self.idle.get() - dropped.len());
    }

    /// Ends every connection to every endpoint, and every attempt to make one: who waits for one gets the end of the stream.
    pub fn end_all(&self) {
        self.ending.come();
        self.open.handles.borrow().iter().flatten().for_each(StreamHandle::end);
    }

    /// Closes every idle connection: the shard ends.
    pub fn close_idle(&self) {
        let mut tables = self.tables.borrow_mut();
        tables.pools.clear();
        tables.services.iter_mut().for_each(|state| state.idle = 0);
        self.idle.set(0);
    }

    /// Whether an endpoint is left that was not tried, and may be sent a request.
    pub(super) fn has_other(&self, service: &Service, tried: &Tried) -> bool {
        service.facts.iter().zip(&service.shared).enumerate().any(|(index, (facts, shared))| {
            let is_full = || facts.max_conns > 0 && shared.room.taken() >= facts.max_conns;
            !facts.down && !tried.contains(index) && !is_full()
        })
    }

    /// Notes how long an attempt took, where that counts.
    pub(super) fn timed(&self, service: &Service, lease: &Lease, took_us: u64) {
        if service.policy != Policy::LeastTime {
            return;
        }
        let now_ms = self.timers.clock.recent_us() / 1000;
        let mut tables = self.tables.borrow_mut();
        if let Some(state) = tables.services[lease.service].state(lease) {
            state.answered(took_us, now_ms);
        }
    }

    /// Counts a request against the service's retry budget.
    pub(super) fn earn_retries(&self, service: &Service, percent: u32) {
        let now_us = self.timers.clock.recent_us();
        let mut tables = self.tables.borrow_mut();
        let state = tables.service(service);
        let free = now_us.saturating_sub(state.allowance_at_us).saturating_mul(RETRIES_FREE) / 1_000_000;
        if free > 0 {
            state.allowance_at_us = now_us;
        }
        let most = RETRIES_SAVED_MAX.max(RETRIES_FREE);
        state.allowance = (state.allowance + free + u64::from(percent)).min(most);
    }

    /// Takes one retry from the budget, if there is one.
    pub(super) fn may_retry(&self, service: &Service) -> bool {
        let mut tables = self.tables.borrow_mut();
        let state = tables.service(service);
        let allowed = state.allowance >= 100;
        if allowed {
            state.allowance -= 100;
        }
        let mut metrics = self.metrics.borrow_mut();
        if allowed {
            metrics.counters.retries += 1;
        } else {
            metrics.counters.retries_refused += 1;
        }
        allowed
    }

    pub(super) fn count_attempt(&self, lease: &Lease, outcome: Outcome) {
        self.metrics.borrow_mut().attempt(lease.metric, outcome);
    }

    /// An empty list of header fields with memory from earlier ones.
    pub fn fields(&self) -> Vec<Field> {
        self.fields.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(32))
    }

    pub fn give_back_fields(&self, mut fields: Vec<Field>) {
        let mut stock = self.fields.borrow_mut();
        if fields.capacity() > 0 && stock.len() < FIELDS_KEPT {
            fields.clear();
            stock.push(fields);
        }
    }

    /// Idle connections, and connections in all.
    pub fn connections(&self) -> (usize, usize) {
        (self.idle.get(), self.open.count.get())
    }
}

impl Tables {
    /// The state of a service, brought in line with its present list of endpoints.
    fn service(&mut self, service: &Service) -> &mut ServiceState {
        if self.services.len() <= service.slot {
            // A gateway that has just started may retry, too.
            let state = || ServiceState { allowance: RETRIES_FREE, ..ServiceState::default() };
            self.services.resize_with(service.slot + 1, state);
        }
        let state = &mut self.services[service.slot];
        if state.revision != service.revision {
            state.adopt(service);
        }
        state
    }

    fn take_idle(&mut self, endpoint: usize) -> Option<Box<Connection>> {
        let idle = self.pools.get_mut(endpoint)?.pop()?;
        self.services[idle.service].idle -= 1;
        Some(idle)
    }
}

impl ServiceState {
    /// Takes over a new list of endpoints; what is known of those that stay is kept.
    #[cold]
    fn adopt(&mut self, service: &Service) {
        let states = service
            .endpoints
            .iter()
            .map(|endpoint| {
                let known = self.ids.iter().position(|id| *id == endpoint.id);
                known.map(|index| std::mem::take(&mut self.states[index])).unwrap_or_default()
            })
            .collect();
        self.states = states;
        self.ids = service.endpoints.iter().map(|endpoint| endpoint.id).collect();
        self.revision = service.revision;
    }

    /// A request is no longer in flight.
    fn land(&mut self, lease: &Lease) {
        if let Some(state) = self.state(lease) {
            state.in_flight = state.in_flight.saturating_sub(1);
        }
    }

    /// The state of a request's endpoint. After a reload that may have another index, or be gone.
    fn state(&mut self, lease: &Lease) -> Option<&mut State> {
        let index = if self.ids.get(lease.index) == Some(&lease.id) {
            lease.index
        } else {
            self.ids.iter().position(|id| *id == lease.id)?
        };
        self.states.get_mut(index)
    }
}

/// One request in flight at one endpoint. Counted until it is dropped.
pub struct Lease {
    upstreams: Rc<Upstreams>,
    service: usize,
    /// The endpoint's slot and id.
    endpoint: usize,
    id: u64,
    /// The endpoint's number in metrics and logs.
    pub metric: u32,
    /// Index into the service's endpoints, in the snapshot it was picked from.
    pub index: usize,
    keepalive: usize,
    in_flight: bool,
    place: Option<Place>,
}

/// A place at an endpoint that has only so many.
struct Place {
    shared: Arc<Shared>,
    /// Where others wait for one.
    queue: Option<Arc<Queue>>,
}

impl Lease {
    pub fn upstreams(&self) -> &Rc<Upstreams> {
        &self.upstreams
    }
}

impl Lease {
    /// It was counted as landed while the tables were at hand.
    fn landed(mut self) {
        self.in_flight = false;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.in_flight {
            self.upstreams.tables.borrow_mut().services[self.service].land(self);
        }
        if let Some(Place { shared, queue }) = self.place.take() {
            shared.room.give_back();
            if let Some(queue) = queue {
                self.upstreams.call_longest(&queue, self.service);
            }
        }
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
