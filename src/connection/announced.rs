//! Before anything else: what a proxy says about the connection it made (PROXY protocol).

use std::rc::Rc;

use crate::{
    http::{Announced, parse_announcement},
    observe::{Ended, event},
    runtime::{Buffer, IoFault, Peer, Stream},
    shard::Shard,
};

/// Reads a proxy's header. Returns from where the connection comes, and what was received behind the header. `Err` when there is
/// none: who is to send one and does not is not talked to.
pub(super) async fn announced(
    shard: &Rc<Shard>,
    stream: &mut Stream,
    peer: Peer,
) -> Result<(Peer, Buffer), Ended> {
    shard.timers.clock.now_us();
    let until = shard.timers.clock.after(shard.snapshot().limits.head_timeout);
    let mut buffer = shard.buffers.small();
    let ended = loop {
        match parse_announcement(buffer.unread()) {
            Ok(Announced::Itself(length)) => {
                buffer.consume(length);
                return Ok((peer, buffer));
            }
            Ok(Announced::From(address, length)) => {
                buffer.consume(length);
                return Ok((Peer::Tcp(address), buffer));
            }
            Ok(Announced::Partial) => {}
            Err(_) => {
                event::warn(
                    "listener",
                    format_args!("no PROXY header came from the proxy at {}", shown(peer)),
                );
                break Ended::BadRequest;
            }
        }
        match stream.reader.read(&mut buffer, until).await {
            Ok(0) => break Ended::Client,
            Ok(_) => {}
            Err(IoFault::TooSlow) => break Ended::Timeout,
            Err(IoFault::Broken(_)) => break Ended::Client,
        }
    };
    shard.buffers.give_back(buffer);
    Err(ended)
}

fn shown(peer: Peer) -> String {
    match peer {
        Peer::Tcp(address) => address.to_string(),
        Peer::Unix => "unix:".to_owned(),
    }
}
