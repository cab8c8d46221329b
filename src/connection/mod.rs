//! One client connection: its requests one after the other, and why it ended.

mod announced;
mod document;
mod h1;
mod h2;
mod local;
mod request;
mod secure;
mod tunnel;
mod turn;
mod whole;

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use rustls::ServerConfig;

pub use self::{
    request::{BodyState, Place, Request, View, cookie},
    secure::Identity,
};
use crate::{
    failure::{Failure, Overload},
    http::Field,
    limits::REFUSAL_TIMEOUT,
    observe::Ended,
    route::Captures,
    runtime::{Buffer, Peer, Stream, spawn},
    shard::{Live, Shard},
    wire::{Inbound, Outbound},
};

/// What a connection owns between and during requests.
pub struct Client {
    /// `None` while a streamed request body is being passed on.
    pub reader: Option<Inbound>,
    pub writer: Outbound,
    /// Bytes received and not dealt with. Without memory while the connection rests.
    pub buffer: Buffer,
    pub fields: Vec<Field>,
    /// Where the path's variables lie.
    pub captures: Captures,
    pub peer: Option<SocketAddr>,
    /// The peer's address as text, for the services.
    pub peer_text: Rc<[u8]>,
    /// Whether the client speaks TLS with us.
    pub is_secure: bool,
    /// Who the client proved to be, by a certificate.
    pub identity: Option<Rc<Identity>>,
    /// Index into the configuration's listeners.
    pub listener: usize,
    pub live: Rc<Live>,
    requests: u64,
}

/// What came with a connection before its first request.
#[derive(Default)]
pub struct Arrived {
    identity: Option<Rc<Identity>>,
    /// Received behind a proxy's header.
    buffer: Buffer,
}

/// Reads a proxy's header, completes the handshake if `config` is there, and serves a connection to its end.
pub async fn serve_announced(
    shard: Rc<Shard>,
    mut stream: Stream,
    peer: Peer,
    listener: usize,
    live: Rc<Live>,
    config: Option<Arc<ServerConfig>>,
) {
    match (Box::pin(announced::announced(&shard, &mut stream, peer)).await, config) {
        (Ok((peer, buffer)), None) => {
            let arrived = Some(Box::new(Arrived { identity: None, buffer }));
            serve(shard, stream, peer, listener, live, arrived).await;
        }
        (Ok((peer, buffer)), Some(config)) => {
            serve_tls(shard, stream, peer, listener, live, config, buffer).await;
        }
        (Err(ended), _) => {
            drop(stream);
            live.ended(ended);
        }
    }
}

/// Completes the handshake and serves a connection to its end. Apart from [`serve`] so that plain connections do not pay for it.
pub async fn serve_tls(
    shard: Rc<Shard>,
    stream: Stream,
    peer: Peer,
    listener: usize,
    live: Rc<Live>,
    config: Arc<ServerConfig>,
    received: Buffer,
) {
    // Boxed: a connection must not pay for its handshake as long as it lives.
    match Box::pin(secure::secure(&shard, stream, config, received)).await {
        Ok((stream, identity)) => {
            let arrived = identity.map(|identity| {
                Box::new(Arrived { identity: Some(Rc::new(identity)), ..Arrived::default() })
            });
            serve(shard, stream, peer, listener, live, arrived).await;
        }
        Err(ended) => live.ended(ended),
    }
}

/// Serves a connection to its end. No `async fn`: that would keep its arguments beside what becomes of them.
pub fn serve(
    shard: Rc<Shard>,
    stream: Stream,
    peer: Peer,
    listener: usize,
    live: Rc<Live>,
    arrived: Option<Box<Arrived>>,
) -> impl Future<Output = ()> {
    let Arrived { identity, buffer } = arrived.map(|arrived| *arrived).unwrap_or_default();
    let peer = match peer {
        Peer::Tcp(address) => Some(address),
        Peer::Unix => None,
    };
    let is_http2 = stream.reader.tls_facts().is_some_and(|facts| facts.is_http2);
    let mut client = Client {
        is_secure: stream.is_secure(),
        reader: Some(Inbound::Socket(stream.reader)),
        writer: Outbound::Socket(stream.writer),
        buffer,
        fields: Vec::new(),
        captures: Captures::default(),
        peer,
        peer_text: peer.map_or_else(|| b"unix:".to_vec(), |peer| peer.ip().to_string().into_bytes()).into(),
        identity,
        listener,
        live,
        requests: 0,
    };
    async move {
        let spoken = if is_http2 { Spoken::Http2 } else { h1::run(&mut client, &shard).await };
        let live = Rc::clone(&client.live);
        let ended = match spoken {
            Spoken::Http1(ended) => {
                shard.buffers.give_back(std::mem::take(&mut client.buffer));
                shard.upstreams.give_back_fields(std::mem::take(&mut client.fields));
                drop(client);
                ended
            }
            // Boxed: other connections must not pay for it.
            Spoken::Http2 => Box::pin(h2::run(client, shard)).await,
        };
        live.ended(ended);
    }
}

/// Turns a connection away for which there is no room: 503, best effort, in the background; over TLS it would cost a handshake,
/// and is left unsaid.
pub fn refuse(shard: &Rc<Shard>, stream: Stream, listener: usize) {
    if shard.tls_of(listener).is_some() {
        return;
    }
    let on_shard = Rc::clone(shard);
    let panicked = Rc::clone(shard);
    let Stream { reader, writer } = stream;
    let mut writer = Outbound::Socket(writer);
    shard.refuses();
    spawn(
        async move {
            let _reader = reader;
            let id = on_shard.new_id(on_shard.timers.clock.now_us());
            let failure = Failure::Overload(Overload::Connections);
            let _ = local::refuse_connection(&mut writer, failure, &id, &on_shard, REFUSAL_TIMEOUT).await;
            on_shard.has_refused();
        },
        move |_| panicked.has_refused(),
    );
}

/// What a connection turned out to speak.
enum Spoken {
    /// It has ended.
    Http1(Ended),
    /// The client's preface is in the buffer, or yet to come.
    Http2,
}

/// Whether a connection goes on after a request.
enum Next {
    Keep,
    End(Ended),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, D, E, F, G>(_: fn(A, B, C, D, E, F) -> G) -> usize {
        size_of::<G>()
    }

    #[test]
    fn a_connection_at_rest_fits_its_budget() {
        // DESIGN §16: at most 4 KiB for an idle connection, all that belongs to it included.
        let bytes = size_of_future(serve);
        assert!(bytes <= 1024, "{bytes} bytes");
    }
}
