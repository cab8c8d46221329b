//! Before the first request: the TLS handshake.

use std::{rc::Rc, sync::Arc};

use rustls::ServerConfig;

use super::local;
use crate::{
    failure::{ClientFault, Failure},
    limits::REFUSAL_TIMEOUT,
    observe::{Ended, event},
    runtime::{Buffer, HandshakeFault, Reader, Stream},
    shard::Shard,
    tls,
    wire::Outbound,
};

const LINGER_BYTES_MAX: usize = 64 * 1024;

/// What a connection over TLS knows about its client.
pub struct Identity {
    /// The certificate's subject (RFC 4514).
    pub subject: Box<[u8]>,
    /// SHA-256 of the certificate, in hexadecimal digits.
    pub fingerprint: Box<[u8]>,
}

/// The stream over TLS and, if it showed a certificate, its client's identity. `received` is what has arrived of the handshake. `Err` when there is no TLS: the client has been told.
pub(super) async fn secure(
    shard: &Rc<Shard>,
    stream: Stream,
    config: Arc<ServerConfig>,
    received: Buffer,
) -> Result<(Stream, Option<Identity>), Ended> {
    shard.timers.clock.now_us();
    let patience = shard.snapshot().limits.head_timeout;
    let until = shard.timers.clock.after(patience);
    let accepted =
        stream.accept_tls(config, received, &shard.buffers, &shard.handshakes, until, patience).await;
    let (fault, stream) = match accepted {
        Ok(stream) => {
            let facts = stream.reader.tls_facts();
            let mut metrics = shard.metrics.borrow_mut();
            metrics.counters.tls_handshakes += 1;
            metrics.counters.tls_resumed += u64::from(facts.is_some_and(|facts| facts.is_resumed));
            drop(metrics);
            let identity = identity(shard, &stream)?;
            return Ok((stream, identity));
        }
        Err(failed) => failed,
    };
    shard.metrics.borrow_mut().counters.tls_failed += 1;
    match fault {
        HandshakeFault::TooSlow => Err(Ended::Timeout),
        HandshakeFault::Broken(_) => Err(Ended::Client),
        HandshakeFault::PlainHttp => {
            let id = shard.new_id(shard.timers.clock.now_us());
            let failure = Failure::Client(ClientFault::PlainHttp);
            // It may have left.
            let mut writer = Outbound::Socket(stream.writer);
            let _ = local::refuse_connection(&mut writer, failure, &id, shard, REFUSAL_TIMEOUT).await;
            take_leave(stream.reader, writer, shard).await;
            Err(Ended::BadRequest)
        }
        HandshakeFault::Refused(error) => {
            event::debug("tls", format_args!("handshake failed: {error}"));
            take_leave(stream.reader, Outbound::Socket(stream.writer), shard).await;
            Err(Ended::BadRequest)
        }
    }
}

/// Ends a connection so that the client can read what it was told: a close with unread bytes would be a reset (RFC 9112 §9.6).
async fn take_leave(mut reader: Reader, mut writer: Outbound, shard: &Shard) {
    writer.finish().await;
    let mut sink = shard.buffers.small();
    let until = shard.timers.clock.after(REFUSAL_TIMEOUT);
    let mut left = LINGER_BYTES_MAX;
    while let Ok(count @ 1..) = reader.read(&mut sink, until).await
        && count < left
    {
        left -= count;
        sink.clear();
    }
    shard.buffers.give_back(sink);
}

/// Who the client proved to be. A ticket may be younger than the certificate's end: that is looked at again.
fn identity(shard: &Shard, stream: &Stream) -> Result<Option<Identity>, Ended> {
    let Some(certificate) = stream.reader.peer_certificate() else { return Ok(None) };
    let Some((subject, not_after)) = tls::subject(&certificate) else { return Err(Ended::BadRequest) };
    if shard.timers.clock.unix(shard.timers.clock.recent_us()) > not_after {
        shard.metrics.borrow_mut().counters.tls_failed += 1;
        return Err(Ended::BadRequest);
    }
    Ok(Some(Identity {
        subject: printable(&subject).into(),
        fingerprint: tls::hex(&tls::fingerprint(&certificate)).into_bytes().into(),
    }))
}

/// What a field value can carry (RFC 9110 §5.5); other bytes as RFC 4514 §2.4 escapes them.
fn printable(subject: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(subject.len());
    for byte in subject.bytes() {
        if byte.is_ascii_graphic() || byte == b' ' {
            out.push(byte);
        } else {
            out.extend_from_slice(format!("\\{byte:02X}").as_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_cannot_break_a_header() {
        assert_eq!(printable("CN=a b,O=x\r\nY: z\u{e9}"), b"CN=a b,O=x\\0D\\0AY: z\\C3\\A9");
    }
}
