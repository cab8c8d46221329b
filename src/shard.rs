//! One core: its runtime, what it owns, how it starts and ends.

use std::{
    cell::{Cell, RefCell},
    io,
    ops::ControlFlow,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use rustls::ServerConfig;
use tokio::sync::{mpsc, oneshot};

use crate::{
    aggregate,
    auth::Desk,
    bus,
    clock::Tick,
    control::{Report, accounts},
    http::{date, id},
    listener::{self, HandedOver, Spread},
    observe::{Ended, Gauges, Metrics, access, event},
    runtime::{
        Answer, Buffers, DriverUsed, ListenerHandle, Mailbox, Peer, Postbox, Runtime, Socket, Stream,
        StreamHandle, Timers, Turnstile, Waiting, pin_to_core, sleep, spawn,
    },
    snapshot::{HeldSnapshot, SnapshotCell, SnapshotReader},
    tls,
    upstream::Upstreams,
};

/// What other threads tell a shard.
pub enum Message {
    /// Hand over what was counted since the last time; count on with this one.
    Report(Box<Metrics>, oneshot::Sender<Report>),
    /// There is a new snapshot: let go of the old one, busy or not.
    NewSnapshot,
    /// A connection that another shard accepted.
    HandedOver(HandedOver),
    /// A service has a place for the first request that waits for one here.
    Called(usize),
    /// Accept nothing more, end connections at their next message boundary, and say when none is left. The listeners named by
    /// their index in the configuration are left as they are: somebody else accepts there.
    Drain(Arc<[usize]>, std::sync::mpsc::Sender<()>),
    /// What a question of this shard's was answered with.
    Answer(Answer),
    /// End everything now.
    Stop,
}

/// How a shard is to run.
pub struct Plan {
    pub number: usize,
    /// Where to run; `None` leaves it to the kernel.
    pub core: Option<usize>,
    pub driver: DriverUsed,
    /// Listening sockets, with their index in the configuration.
    pub sockets: Vec<(usize, Socket)>,
    pub snapshot: Arc<SnapshotCell>,
    pub mailbox: Mailbox<Message>,
    /// All shards' boxes, this one's included, by number.
    pub shards: Arc<[Postbox<Message>]>,
    pub spread: Arc<Spread>,
    /// Of the same mailbox, for the answers to this shard's questions.
    pub postbox: Postbox<Message>,
    /// Where issuers of our own are asked.
    pub accounts: mpsc::Sender<accounts::Question>,
    /// Where calls to brokers go.
    pub bus: bus::Postbox,
    pub access: access::Log,
    pub events: event::Events,
    pub connections_max: usize,
    /// Seed for load spreading and ids; different on every shard.
    pub seed: u64,
    /// Told once the shard listens, or that it cannot.
    pub ready: std::sync::mpsc::Sender<io::Result<()>>,
}

/// Everything a shard owns. Nothing in it is shared with another thread but the snapshot, and the counts of connections.
pub struct Shard {
    pub number: usize,
    pub timers: Rc<Timers>,
    pub buffers: Rc<Buffers>,
    pub metrics: Rc<RefCell<Metrics>>,
    pub upstreams: Rc<Upstreams>,
    /// For aggregates.
    pub room: aggregate::Room,
    /// Bounds the handshakes of one turn.
    pub handshakes: Rc<Turnstile>,
    /// What other threads were asked.
    pub waiting: Rc<Waiting>,
    /// Where issuers of our own are asked.
    pub accounts: mpsc::Sender<accounts::Question>,
    /// Where tokens are looked at.
    pub desk: RefCell<Desk>,
    pub bus: bus::Postbox,
    pub connections_max: usize,
    /// How many connections each shard has.
    pub spread: Arc<Spread>,
    shards: Arc<[Postbox<Message>]>,
    snapshot: RefCell<SnapshotReader>,
    access: RefCell<access::Log>,
    date: RefCell<(u64, [u8; 29])>,
    draining: Cell<bool>,
    /// How long connections may rest; set when the shard drains.
    idle_until: Cell<Tick>,
    drained: RefCell<Option<std::sync::mpsc::Sender<()>>>,
    /// With their index in the configuration.
    listeners: RefCell<Vec<(usize, ListenerHandle)>>,
    accepting: Cell<usize>,
    /// Connections that are being turned away.
    refusing: Cell<usize>,
    connections: RefCell<Vec<Option<Rc<Live>>>>,
    free: RefCell<Vec<usize>>,
    open: Cell<usize>,
    in_flight: Cell<usize>,
}

/// A connection as its shard sees it.
pub struct Live {
    shard: Rc<Shard>,
    place: Cell<usize>,
    handle: StreamHandle,
    /// Requests under way.
    serving: Cell<u32>,
    /// Told when the shard begins to drain.
    at_drain: RefCell<Option<Box<dyn Fn()>>>,
    request_id: Cell<[u8; 36]>,
    counted: Cell<bool>,
}

/// How long a shard waits for its connections to end when it is told to stop.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection between requests is kept when the shard drains. A client under load sends its next request within it and
/// is told `Connection: close`, where a close at once would cross that request and lose it.
pub const DRAIN_GRACE: Duration = Duration::from_secs(2);
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Runs a shard on this thread until it is told to stop.
pub fn run(plan: Plan) {
    let Plan {
        number,
        core,
        driver,
        sockets,
        snapshot,
        mailbox,
        shards,
        spread,
        postbox,
        accounts,
        bus,
        access,
        events,
        connections_max,
        seed,
        ready,
    } = plan;
    event::attach(&events, event::Origin::Shard);
    if core.is_some_and(|core| !pin_to_core(core)) {
        event::warn("shard", format_args!("cannot be pinned to its core; the kernel decides where it runs"));
    }
    let runtime = match driver {
        DriverUsed::IoUring { .. } => Runtime::io_uring(),
        DriverUsed::Epoll => Runtime::epoll(),
    };
    let mut runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let clean = runtime.block_on(async move {
        let timers = Timers::new();
        let buffers = Rc::new(Buffers::new());
        let metrics = Rc::new(RefCell::new(Metrics::new()));
        let handshakes = Turnstile::new(snapshot.load().limits.handshakes_per_turn);
        let callers = Arc::clone(&shards);
        let upstreams = Upstreams::new(
            Rc::clone(&timers),
            Rc::clone(&buffers),
            Rc::clone(&metrics),
            Rc::clone(&handshakes),
            number,
            Box::new(move |shard, service| {
                // Where the box is full that shard looks by itself before long.
                let _ = callers[shard].post(Message::Called(service));
            }),
            seed,
        );
        let shard = Rc::new(Shard {
            number,
            timers,
            buffers,
            metrics,
            upstreams,
            room: aggregate::Room::new(seed),
            handshakes,
            desk: RefCell::new(Desk::new(seed.rotate_left(17))),
            waiting: Waiting::new(postbox, Message::Answer),
            accounts,
            bus,
            connections_max,
            spread,
            shards,
            snapshot: RefCell::new(SnapshotReader::new(snapshot)),
            access: RefCell::new(access),
            date: RefCell::new((0, [b' '; 29])),
            draining: Cell::new(false),
            idle_until: Cell::new(Tick::NEVER),
            drained: RefCell::default(),
            listeners: RefCell::default(),
            accepting: Cell::new(0),
            refusing: Cell::new(0),
            connections: RefCell::default(),
            free: RefCell::default(),
            open: Cell::new(0),
            in_flight: Cell::new(0),
        });
        Shard::live(&shard, sockets, mailbox, ready).await
    });
    if !clean {
        // Operations are still in the kernel's hands, and so are their buffers.
        std::mem::forget(runtime);
    }
}

impl Shard {
    /// Starts listening and serves until it is told to stop. Returns whether everything has ended.
    async fn live(
        shard: &Rc<Self>,
        sockets: Vec<(usize, Socket)>,
        mailbox: Mailbox<Message>,
        ready: std::sync::mpsc::Sender<io::Result<()>>,
    ) -> bool {
        let number = shard.number;
        spawn(Rc::clone(&shard.timers).turn(), move |text| {
            event::error("shard", format_args!("shard {number}: the timers stopped: {text}"));
        });
        let turnstile = Rc::clone(&shard.handshakes);
        spawn(
            async move {
                if let Err(error) = turnstile.turn().await {
                    event::error("shard", format_args!("shard {number}: handshakes stopped: {error}"));
                }
            },
            move |text| event::error("shard", format_args!("shard {number}: handshakes stopped: {text}")),
        );
        for (listener, socket) in sockets {
            if let Err(error) = listener::start(shard, listener, socket) {
                let _ = ready.send(Err(error));
                return shard.end().await;
            }
        }
        let sweeper = Rc::clone(shard);
        spawn(
            async move {
                loop {
                    sleep(SWEEP_EVERY).await;
                    sweeper.timers.clock.now_us();
                    let snapshot = sweeper.snapshot();
                    sweeper.upstreams.sweep(&snapshot);
                    sweeper.handshakes.widen(snapshot.limits.handshakes_per_turn);
                    sweeper.desk.borrow_mut().sweep(sweeper.unix_s());
                    sweeper.let_go_of_the_gone();
                    sweeper.buffers.trim();
                }
            },
            |text| event::error("shard", format_args!("the sweep of idle connections stopped: {text}")),
        );
        let _ = ready.send(Ok(()));

        if let Err(error) = mailbox.receive(|message| shard.receive(message)).await {
            event::error("shard", format_args!("shard {number}: the mailbox broke: {error}"));
        }
        shard.end().await
    }

    fn receive(self: &Rc<Self>, message: Message) -> ControlFlow<()> {
        match message {
            Message::Report(spare, answer) => {
                let tokens = self.desk.borrow_mut().take_counts();
                let mut metrics = self.metrics.borrow_mut().hand_over(*spare);
                metrics.counters.tokens_known = tokens.known;
                metrics.counters.tokens_verified = tokens.verified;
                // Refused only when control has ended.
                let _ = answer.send(Report { metrics, gauges: self.gauges() });
                ControlFlow::Continue(())
            }
            Message::NewSnapshot => {
                drop(self.snapshot());
                ControlFlow::Continue(())
            }
            Message::HandedOver(connection) => {
                listener::receive(self, connection);
                ControlFlow::Continue(())
            }
            Message::Called(service) => {
                self.upstreams.call_first(service);
                ControlFlow::Continue(())
            }
            Message::Drain(handed_over, done) => {
                self.drain(&handed_over);
                *self.drained.borrow_mut() = Some(done);
                self.say_when_drained();
                ControlFlow::Continue(())
            }
            Message::Answer(answer) => {
                self.waiting.arrived(answer);
                ControlFlow::Continue(())
            }
            Message::Stop => ControlFlow::Break(()),
        }
    }

    fn gauges(&self) -> Gauges {
        let (idle, open) = self.upstreams.connections();
        let (tokens, token_bytes) = self.desk.borrow().kept();
        Gauges {
            connections: self.open.get() as u64,
            requests_in_flight: self.in_flight.get() as u64,
            upstream_idle: idle as u64,
            upstream_open: open as u64,
            buffer_bytes: self.buffers.lent_bytes(),
            buffer_stock_bytes: self.buffers.stock_bytes(),
            tokens: tokens as u64,
            token_bytes: token_bytes as u64,
            snapshot_version: self.snapshot().version,
        }
    }

    /// Closes the listeners when everybody who waits has been accepted. Connections end at their next message boundary; those
    /// between requests get [`DRAIN_GRACE`].
    fn drain(&self, handed_over: &[usize]) {
        if !self.draining.replace(true) {
            self.spread.close(self.number);
            for (number, handle) in self.listeners.borrow().iter() {
                if handed_over.contains(number) {
                    handle.leave();
                    continue;
                }
                spawn(listener::close(handle.clone()), |text| {
                    event::error("shard", format_args!("a listener is not closed: {text}"));
                });
            }
        }
        self.timers.clock.now_us();
        let until = self.timers.clock.after(DRAIN_GRACE);
        self.idle_until.set(until);
        for live in self.connections.borrow().iter().flatten() {
            if let Some(tell) = &*live.at_drain.borrow() {
                tell();
            }
            if live.serving.get() == 0 {
                live.handle.expect_until(until, &self.timers);
            }
        }
    }

    /// Ends what is done for clients that have reset their connection. Nothing reads from a client while its service is waited
    /// for, so this is how it is noticed.
    fn let_go_of_the_gone(&self) {
        let connections = self.connections.borrow();
        connections.iter().flatten().filter(|live| live.serving.get() > 0).for_each(|live| {
            live.handle.end_partner_if_broken();
        });
    }

    fn say_when_drained(&self) {
        // One that is on its way here comes by the same mailbox.
        if self.open.get() + self.accepting.get() == 0
            && !self.spread.awaits(self.number)
            && let Some(done) = self.drained.borrow_mut().take()
        {
            // Who asked may have given up.
            let _ = done.send(());
        }
    }

    /// Ends every connection and waits until nothing is in the kernel's hands. Returns whether that was so in time.
    async fn end(&self) -> bool {
        self.draining.set(true);
        self.spread.close(self.number);
        self.listeners.borrow().iter().for_each(|(_, handle)| handle.stop());
        self.timers.clock.now_us();
        let give_up = self.timers.clock.after(STOP_PATIENCE);
        self.waiting.end();
        loop {
            // In every round: one may have been accepted, or connected, since the last.
            for live in self.connections.borrow().iter().flatten() {
                live.handle.end();
            }
            // Ended streams complete their reads; only then may the idle ones be dropped.
            self.upstreams.end_all();
            sleep(Duration::from_millis(5)).await;
            self.upstreams.close_idle();
            self.timers.clock.now_us();
            if !self.busy() {
                break;
            }
            if self.timers.clock.tick() > give_up {
                return false;
            }
        }
        self.timers.stop();
        self.handshakes.stop();
        true
    }

    /// How a listener speaks TLS; `None` where it does not.
    pub fn tls_of(&self, listener: usize) -> Option<Arc<ServerConfig>> {
        let snapshot = self.snapshot();
        if !snapshot.listeners[listener].tls {
            return None;
        }
        // This shard's own: nobody else counts these references.
        let config = snapshot.tls.get(self.number)?;
        let http2 = snapshot.listeners[listener].http2;
        Some(if http2 { Arc::clone(config) } else { tls::without_http2(config) })
    }

    /// Whether a connection begins with a proxy's header: where the listener says so, and a trusted proxy made it. Who comes by a
    /// Unix socket was let in by its permissions.
    pub fn expects_announcement(&self, listener: usize, peer: Peer) -> bool {
        let snapshot = self.snapshot();
        let trusted = match peer {
            Peer::Tcp(address) => snapshot.trusts(address),
            Peer::Unix => true,
        };
        snapshot.listeners[listener].proxy_protocol && trusted
    }

    /// Whether anything may be in the kernel's hands.
    fn busy(&self) -> bool {
        let clients = self.open.get() + self.refusing.get();
        clients + self.accepting.get() + self.upstreams.connections().1 > 0
    }

    /// The newest snapshot, for a request to hold to its end.
    pub fn snapshot(&self) -> HeldSnapshot {
        self.snapshot.borrow_mut().read()
    }

    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Until when connections may rest at most.
    pub fn idle_until(&self) -> Tick {
        self.idle_until.get()
    }

    /// Whether there is room for another client connection.
    pub fn has_room(&self) -> bool {
        self.open.get() < self.connections_max
    }

    /// The shard that should rather serve the next connection, if there is one; it counts that connection from now on.
    pub fn idler(&self) -> Option<usize> {
        if self.shards.len() < 2 || self.draining.get() {
            return None;
        }
        self.spread.give(self.number, self.connections_max)
    }

    /// Passes a connection on to another shard. `false` when that one takes no messages.
    pub fn hand_over(&self, to: usize, connection: HandedOver) -> bool {
        self.shards[to].post(Message::HandedOver(connection)).is_ok()
    }

    pub(crate) fn listening(&self, number: usize, handle: ListenerHandle) {
        self.listeners.borrow_mut().push((number, handle));
        self.accepting.set(self.accepting.get() + 1);
    }

    pub(crate) fn not_listening(&self) {
        self.accepting.set(self.accepting.get() - 1);
        self.say_when_drained();
    }

    pub(crate) fn refuses(&self) {
        self.refusing.set(self.refusing.get() + 1);
    }

    pub(crate) fn has_refused(&self) {
        self.refusing.set(self.refusing.get() - 1);
    }

    /// Registers a connection until [`Live::ended`] or [`Live::panicked`].
    pub fn enter(self: &Rc<Self>, stream: &Stream) -> Rc<Live> {
        // The last reading may be a second old; its first deadline is not to start then.
        self.timers.clock.now_us();
        self.metrics.borrow_mut().connection_opened();
        self.open.set(self.open.get() + 1);
        self.spread.enter(self.number);
        let mut connections = self.connections.borrow_mut();
        let place = self.free.borrow_mut().pop().unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        let live = Rc::new(Live {
            shard: Rc::clone(self),
            place: Cell::new(place),
            handle: stream.handle(),
            serving: Cell::new(0),
            at_drain: RefCell::new(None),
            request_id: Cell::new([b'-'; 36]),
            counted: Cell::new(true),
        });
        connections[place] = Some(Rc::clone(&live));
        live
    }

    /// The current date as a field value; made anew once a second.
    pub fn date(&self) -> [u8; 29] {
        let now = self.timers.clock.unix(self.timers.clock.recent_us()).as_secs();
        let mut date = self.date.borrow_mut();
        if date.0 != now {
            *date = (now, date::imf_fixdate(now));
        }
        date.1
    }

    /// Unix time in seconds, as of the last reading of the clock.
    pub fn unix_s(&self) -> u64 {
        self.timers.clock.unix(self.timers.clock.recent_us()).as_secs()
    }

    /// A request id: UUIDv7 (RFC 9562 §5.7).
    pub fn new_id(&self, at_us: u64) -> [u8; 36] {
        let millis = u64::try_from(self.timers.clock.unix(at_us).as_millis()).unwrap_or_default();
        let mut random = [0; 10];
        random[..8].copy_from_slice(&self.upstreams.random().to_le_bytes());
        random[8..].copy_from_slice(&self.upstreams.random().to_le_bytes()[..2]);
        id::uuid_v7(millis, random)
    }

    /// Queues an access record, if there is an access log. Never waits.
    pub fn write_access<'r>(&self, record: impl FnOnce() -> access::Record<'r>) {
        let mut access = self.access.borrow_mut();
        if access.enabled() {
            access.write(&record());
        }
    }
}

impl Live {
    /// A request begins; from now on draining waits for it.
    pub fn begin(&self) {
        self.serving.set(self.serving.get() + 1);
        self.shard.in_flight.set(self.shard.in_flight.get() + 1);
    }

    pub fn end(&self) {
        if self.serving.get() > 0 {
            self.serving.set(self.serving.get() - 1);
            self.shard.in_flight.set(self.shard.in_flight.get() - 1);
        }
    }

    /// Has `tell` told when the shard begins to drain. It may be told more than once.
    pub fn at_drain(&self, tell: impl Fn() + 'static) {
        *self.at_drain.borrow_mut() = Some(Box::new(tell));
    }

    /// The task of one of several requests panicked; the connection goes on.
    pub fn request_panicked(&self, text: &str) {
        let id = self.request_id.get();
        self.shard.metrics.borrow_mut().counters.panics += 1;
        event::error("connection", format_args!("panic: {text} request_id={}", String::from_utf8_lossy(&id)));
    }

    /// Notes the id of the request being served, for the report of a panic.
    pub fn serving(&self, id: &[u8; 36]) {
        self.request_id.set(*id);
    }

    /// The connection has ended.
    pub fn ended(&self, ended: Ended) {
        if !self.counted.replace(false) {
            return;
        }
        while self.serving.get() > 0 {
            self.end();
        }
        *self.at_drain.borrow_mut() = None;
        let shard = &self.shard;
        shard.metrics.borrow_mut().connection_closed(ended);
        shard.open.set(shard.open.get() - 1);
        shard.spread.leave(shard.number);
        let place = self.place.get();
        shard.connections.borrow_mut()[place] = None;
        shard.free.borrow_mut().push(place);
        shard.say_when_drained();
    }

    /// The connection's task panicked.
    pub fn panicked(&self, text: &str) {
        if !self.counted.get() {
            return;
        }
        let id = self.request_id.get();
        self.shard.metrics.borrow_mut().counters.panics += 1;
        // What was started for it, a body that is being sent, ends as well.
        self.handle.end();
        event::error("connection", format_args!("panic: {text} request_id={}", String::from_utf8_lossy(&id)));
        self.ended(Ended::Panic);
    }
}
