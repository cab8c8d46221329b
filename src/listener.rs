//! Accepts connections on one listening socket, and refuses them when there is no room.

use std::{io, rc::Rc, time::Duration};

use crate::{
    connection,
    observe::event,
    runtime::{Buffer, Listener, Socket, sleep, spawn},
    shard::Shard,
};

/// Waited after an `accept` that failed for lack of descriptors or memory: trying at once would only burn the core.
const BACK_OFF: Duration = Duration::from_millis(50);

/// Starts accepting on `socket`, the listener number `number` of the configuration.
pub fn start(shard: &Rc<Shard>, number: usize, socket: Socket) -> io::Result<()> {
    let listener = Listener::adopt(socket, &shard.timers)?;
    shard.listening(listener.handle());
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

async fn accept(shard: &Rc<Shard>, listener: &Listener, number: usize) {
    loop {
        // Who was accepted as the shard began to drain is still served.
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(_) if shard.is_draining() => return,
            Err(error) => {
                shard.metrics.borrow_mut().counters.accept_errors += 1;
                // A client that left before it was accepted is nobody's error (accept(2)).
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    event::warn("listener", format_args!("accept: {error}"));
                    sleep(BACK_OFF).await;
                }
                continue;
            }
        };
        if !shard.has_room() {
            shard.metrics.borrow_mut().counters.connections_refused += 1;
            connection::refuse(shard, stream, number);
            continue;
        }
        let live = shard.enter(&stream);
        let panicked = Rc::clone(&live);
        let on_panic = move |text: &str| panicked.panicked(text);
        let on_shard = Rc::clone(shard);
        let config = shard.tls_of(number);
        if shard.expects_announcement(number, peer) {
            spawn(connection::serve_announced(on_shard, stream, peer, number, live, config), on_panic);
            continue;
        }
        match config {
            None => spawn(connection::serve(on_shard, stream, peer, number, live, None), on_panic),
            Some(config) => spawn(
                connection::serve_tls(on_shard, stream, peer, number, live, config, Buffer::default()),
                on_panic,
            ),
        }
    }
}
