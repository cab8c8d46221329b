//! Accepts connections on one listening socket, hands them over when another shard is idler, and refuses them when there is no room.

mod spread;

use std::{io, rc::Rc, time::Duration};

pub use self::spread::Spread;
use crate::{
    connection,
    observe::event,
    runtime::{Accepted, Buffer, Detached, Listener, ListenerHandle, Peer, Socket, Stream, sleep, spawn},
    shard::Shard,
};

/// A connection that another shard accepted for this one.
pub struct HandedOver {
    connection: Detached,
    peer: Peer,
    /// Index into the configuration's listeners.
    listener: usize,
}

/// Waited after an `accept` that failed for lack of descriptors or memory: trying at once would only burn the core.
const BACK_OFF: Duration = Duration::from_millis(50);

/// How long clients that have been answered have to complete the opening of their connection, before the socket is closed: what
/// a round trip takes at most.
const HANDSHAKES_END: Duration = Duration::from_millis(500);

/// Connections that are taken when a listener is left. Where more wait, more come, and wake whoever else listens there.
const SWEEP_MAX: usize = 64;

/// Starts accepting on `socket`, the listener number `number` of the configuration.
pub fn start(shard: &Rc<Shard>, number: usize, socket: Socket) -> io::Result<()> {
    let listener = Listener::adopt(socket)?;
    shard.listening(number, listener.handle());
    let accepting = Rc::clone(shard);
    let broken = Rc::clone(shard);
    spawn(
        async move {
            accept(&accepting, &listener, number).await;
            drop(listener);
            accepting.not_listening();
        },
        move |text| {
            event::error("listener", format_args!("stopped accepting: {text}"));
            broken.not_listening();
        },
    );
    Ok(())
}

/// Closes a listener without losing anybody whom the kernel has told that the connection stands.
pub async fn close(listener: ListenerHandle) {
    if listener.has_others() {
        // Who waits there is theirs now.
        return listener.leave();
    }
    listener.refuse_new();
    sleep(HANDSHAKES_END).await;
    // Nobody can come to who is waiting now; the listener's own task takes them.
    while listener.has_waiting() {
        sleep(Duration::from_millis(1)).await;
    }
    listener.stop();
}

async fn accept(shard: &Rc<Shard>, listener: &Listener, number: usize) {
    loop {
        // Who was accepted as the shard began to drain is still served.
        let (accepted, peer) = match listener.accept().await {
            Ok(arrived) => arrived,
            Err(_) if listener.is_over() => return sweep(shard, listener, number),
            Err(error) => {
                // A Unix socket that is being closed says so.
                if !shard.is_draining() {
                    shard.metrics.borrow_mut().counters.accept_errors += 1;
                }
                // A client that left before it was accepted is nobody's error (accept(2)).
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    if !shard.is_draining() {
                        event::warn("listener", format_args!("accept: {error}"));
                    }
                    sleep(BACK_OFF).await;
                }
                continue;
            }
        };
        if give_away(shard, &accepted, peer, number) {
            continue;
        }
        let stream = accepted.into_stream(&shard.timers);
        if !shard.has_room() {
            shard.metrics.borrow_mut().counters.connections_refused += 1;
            connection::refuse(shard, stream, number);
            continue;
        }
        admit(shard, stream, peer, number);
    }
}

/// Takes who came at the very moment at which the listener was left.
fn sweep(shard: &Rc<Shard>, listener: &Listener, number: usize) {
    for _ in 0..SWEEP_MAX {
        let Some((accepted, peer)) = listener.accept_waiting() else { return };
        admit(shard, accepted.into_stream(&shard.timers), peer, number);
    }
}

/// Hands a connection over, before a byte of it is read, if another shard has clearly fewer. Where that fails for any reason it stays.
fn give_away(shard: &Rc<Shard>, accepted: &Accepted, peer: Peer, listener: usize) -> bool {
    let Some(idlest) = shard.idler() else { return false };
    let handed_over = match accepted.detach() {
        Ok(connection) => shard.hand_over(idlest, HandedOver { connection, peer, listener }),
        Err(_) => false,
    };
    if handed_over {
        shard.metrics.borrow_mut().counters.connections_handed_over += 1;
    } else {
        shard.spread.take_back(idlest);
    }
    handed_over
}

/// Serves a connection that another shard accepted.
pub fn receive(shard: &Rc<Shard>, HandedOver { connection, peer, listener }: HandedOver) {
    shard.spread.arrived(shard.number);
    match connection.attach() {
        Ok(accepted) => admit(shard, accepted.into_stream(&shard.timers), peer, listener),
        Err(error) => {
            shard.metrics.borrow_mut().counters.accept_errors += 1;
            event::warn("listener", format_args!("a connection from another shard: {error}"));
        }
    }
}

/// Starts the task of a connection.
fn admit(shard: &Rc<Shard>, stream: Stream, peer: Peer, number: usize) {
    let live = shard.enter(&stream);
    let panicked = Rc::clone(&live);
    let on_panic = move |text: &str| panicked.panicked(text);
    let on_shard = Rc::clone(shard);
    let config = shard.tls_of(number);
    if shard.expects_announcement(number, peer) {
        spawn(connection::serve_announced(on_shard, stream, peer, number, live, config), on_panic);
        return;
    }
    match config {
        None => spawn(connection::serve(on_shard, stream, peer, number, live, None), on_panic),
        Some(config) => spawn(
            connection::serve_tls(on_shard, stream, peer, number, live, config, Buffer::default()),
            on_panic,
        ),
    }
}
