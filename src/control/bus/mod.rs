//! The bus thread: connections to brokers, apart from everything that may be slow elsewhere.
//!
//! A `link` is a connection to the first broker of a list that can be reached; services with the same list share one. A
//! `station` is one service's channel on it: it publishes, remembers who waits for what, and hands replies out.

mod link;
mod station;

use std::{
    collections::HashMap,
    io,
    sync::{Arc, mpsc as std_mpsc},
    thread,
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

use self::{
    link::{Link, LinkKey},
    station::Station,
};
use crate::{
    bus::{Call, Fault, Postbox},
    http::reply::Made,
    observe::event::{self, Events, Origin},
    runtime::Question,
    snapshot::AmqpService,
};

pub(crate) type Asked = Question<Call, Result<Made, Fault>>;

/// Calls on their way to the thread: what a burst may bring between two turns of it.
const WAITING_MAX: usize = 4096;
/// How long the end waits for connections to be closed politely.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The thread, which is there from the first configuration on that names a broker.
pub struct Bus {
    events: Events,
    postbox: Postbox,
    amqp: watch::Sender<Vec<Arc<AmqpService>>>,
    /// What the thread takes over when it starts.
    ahead: Option<Ahead>,
    thread: Option<(thread::JoinHandle<()>, std_mpsc::Receiver<()>)>,
}

type Ahead = (mpsc::Receiver<Asked>, watch::Receiver<Vec<Arc<AmqpService>>>);

impl Bus {
    pub fn new(events: Events) -> Self {
        let (postbox, calls) = mpsc::channel(WAITING_MAX);
        let (amqp, configured) = watch::channel(Vec::new());
        Self { events, postbox, amqp, ahead: Some((calls, configured)), thread: None }
    }

    /// Where shards send their calls.
    pub fn postbox(&self) -> Postbox {
        self.postbox.clone()
    }

    /// From now on these services are served; connections that none of them needs are closed once their calls are answered.
    /// Fails when the system refuses a thread.
    pub fn configure(&mut self, amqp: Vec<Arc<AmqpService>>) -> io::Result<()> {
        let needed = !amqp.is_empty();
        self.amqp.send_replace(amqp);
        if !needed || self.thread.is_some() {
            return Ok(());
        }
        let Some((calls, configured)) = self.ahead.take() else { return Ok(()) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let events = self.events.clone();
        let (over, ended) = std_mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("bus".to_owned()).spawn(move || {
            event::attach(&events, Origin::Control);
            runtime.block_on(run(calls, configured));
            runtime.shutdown_timeout(STOP_TIMEOUT);
            let _ = over.send(());
        })?;
        self.thread = Some((thread, ended));
        Ok(())
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        // The thread ends when it sees that nobody configures it any more.
        self.amqp = watch::channel(Vec::new()).0;
        if let Some((thread, ended)) = self.thread.take()
            && ended.recv_timeout(2 * STOP_TIMEOUT).is_ok()
            && thread.join().is_err()
        {
            event::error("bus", format_args!("the bus thread panicked"));
        }
    }
}

/// Stations by the service they are for: the same pointer as long as the service did not change.
type Stations = HashMap<*const AmqpService, mpsc::Sender<Asked>>;

async fn run(mut calls: mpsc::Receiver<Asked>, mut configured: watch::Receiver<Vec<Arc<AmqpService>>>) {
    let mut links: HashMap<LinkKey, Arc<Link>> = HashMap::new();
    let mut stations = Stations::new();
    let mut tasks = JoinSet::new();
    configured.mark_changed();
    loop {
        tokio::select! {
            changed = configured.changed() => {
                if changed.is_err() {
                    break;
                }
                let amqp = configured.borrow_and_update().clone();
                arrange(&amqp, &mut links, &mut stations, &mut tasks);
            }
            Some(asked) = calls.recv() => hand_over(asked, &stations),
            Some(ended) = tasks.join_next() => {
                if ended.is_err_and(|error| error.is_panic()) {
                    event::error("bus", format_args!("bug: a task of the bus thread panicked"));
                }
            }
        }
    }
    // Stations end when nobody can send to them; links when no station uses them.
    stations.clear();
    links.clear();
    let _ = tokio::time::timeout(STOP_TIMEOUT, async { while tasks.join_next().await.is_some() {} }).await;
}

fn arrange(
    amqp: &[Arc<AmqpService>],
    links: &mut HashMap<LinkKey, Arc<Link>>,
    stations: &mut Stations,
    tasks: &mut JoinSet<()>,
) {
    stations.retain(|known, _| amqp.iter().any(|queue| Arc::as_ptr(queue) == *known));
    for queue in amqp {
        let place = Arc::as_ptr(queue);
        if stations.contains_key(&place) {
            continue;
        }
        let key = LinkKey::of(&queue.config);
        let link = links.entry(key.clone()).or_insert_with(|| {
            let (link, task) = link::start(key);
            tasks.spawn(task);
            link
        });
        let (send, receive) = mpsc::channel(WAITING_MAX);
        tasks.spawn(Station::new(Arc::clone(queue), Arc::clone(link)).run(receive));
        stations.insert(place, send);
    }
    links.retain(|key, _| amqp.iter().any(|queue| LinkKey::of(&queue.config) == *key));
}

fn hand_over(asked: Asked, stations: &Stations) {
    let Some(station) = stations.get(&Arc::as_ptr(&asked.asked.queue)) else {
        // A request that began under an earlier configuration.
        asked.answer.send(Err(Fault::Down));
        return;
    };
    if let Err(mpsc::error::TrySendError::Full(asked) | mpsc::error::TrySendError::Closed(asked)) =
        station.try_send(asked)
    {
        asked.answer.send(Err(Fault::Busy));
    }
}
