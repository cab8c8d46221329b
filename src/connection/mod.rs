//! One client connection: its requests one after the other, and why it ended.

mod h1;
mod local;
mod request;
mod tunnel;

use std::{net::SocketAddr, rc::Rc, time::Duration};

pub use self::request::{BodyState, Place, Request, View};
use crate::{
    failure::{Failure, Overload},
    http::Field,
    observe::Ended,
    route::Captures,
    runtime::{Buffer, Peer, Reader, Stream, Writer, spawn},
    shard::{Live, Shard},
};

/// What a connection owns between and during requests.
pub struct Client {
    /// `None` while a streamed request body is being passed on.
    pub reader: Option<Reader>,
    pub writer: Writer,
    /// Bytes received and not dealt with. Without memory while the connection rests.
    pub buffer: Buffer,
    pub fields: Vec<Field>,
    /// Where the path's variables lie.
    pub captures: Captures,
    pub peer: Option<SocketAddr>,
    /// The peer's address as text, for the services.
    pub peer_text: Box<[u8]>,
    /// Index into the configuration's listeners.
    pub listener: usize,
    pub live: Rc<Live>,
    requests: u64,
}

/// Serves a connection to its end.
pub async fn serve(shard: Rc<Shard>, stream: Stream, peer: Peer, listener: usize, live: Rc<Live>) {
    let peer = match peer {
        Peer::Tcp(address) => Some(address),
        Peer::Unix => None,
    };
    let mut client = Client {
        reader: Some(stream.reader),
        writer: stream.writer,
        buffer: Buffer::default(),
        fields: Vec::new(),
        captures: Captures::default(),
        peer,
        peer_text: peer.map_or_else(|| b"unix:".to_vec(), |peer| peer.ip().to_string().into_bytes()).into(),
        listener,
        live: Rc::clone(&live),
        requests: 0,
    };
    let ended = h1::run(&mut client, &shard).await;
    shard.buffers.give_back(std::mem::take(&mut client.buffer));
    shard.upstreams.give_back_fields(std::mem::take(&mut client.fields));
    drop(client);
    live.ended(ended);
}

/// Turns a connection away for which there is no room: 503, best effort, in the background.
pub fn refuse(shard: &Rc<Shard>, stream: Stream) {
    let on_shard = Rc::clone(shard);
    let Stream { reader, mut writer } = stream;
    spawn(
        async move {
            let _reader = reader;
            let id = on_shard.new_id(on_shard.timers.clock.now_us());
            let failure = Failure::Overload(Overload::Connections);
            let _ = local::refuse_connection(&mut writer, failure, &id, &on_shard, REFUSAL).await;
        },
        |_| {},
    );
}

/// How long a client that is turned away may take to read why.
const REFUSAL: Duration = Duration::from_secs(1);

/// Whether a connection goes on after a request.
enum Next {
    Keep,
    End(Ended),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, D, E, F>(_: fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_at_rest_fits_its_budget() {
        // DESIGN §16: at most 4 KiB for an idle connection, all that belongs to it included.
        let bytes = size_of_future(serve);
        assert!(bytes <= 1024, "{bytes} bytes");
    }
}
