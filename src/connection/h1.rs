//! HTTP/1.1 with a client: a head, a request, a reply, again.

use std::{rc::Rc, time::Duration};

use super::{
    Client, Next, Request, Spoken,
    local::{self, Sent},
    turn::{self, Refused},
};
use crate::{
    clock::Tick,
    failure::{ClientFault, Failure},
    http::{RequestHead, h2::PREFACE, parse_request},
    observe::{Ended, Protocol, Why},
    runtime::{Buffer, Idle, IoFault, Reader},
    shard::{self, Shard},
    wire::Inbound,
};

/// A connection that is quiet for longer than this holds no read buffer.
const REST_AFTER: Duration = Duration::from_secs(1);
/// How long a client may go on sending after the last reply, so that it can read it (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// Serves requests until the connection ends.
///
/// What serving needs is boxed and goes when the connection comes to rest: 3 KiB that an idle connection does without. Under load
/// the box stays, so that a request allocates nothing.
pub(super) async fn run(client: &mut Client, shard: &Rc<Shard>) -> Spoken {
    loop {
        match Box::pin(serve_while_busy(client, shard)).await {
            Busy::Ended(ended) => return Spoken::Http1(ended),
            Busy::Http2 => return Spoken::Http2,
            Busy::Rests { until } => {
                if let Err(ended) = rest(client, until, shard).await {
                    return Spoken::Http1(ended);
                }
            }
        }
    }
}

/// How a busy time of a connection ends.
enum Busy {
    Ended(Ended),
    Http2,
    /// Nothing came for a while. The connection may go on resting until then.
    Rests {
        until: Tick,
    },
}

async fn serve_while_busy(client: &mut Client, shard: &Rc<Shard>) -> Busy {
    loop {
        let head = match next_head(client, shard).await {
            Ok(head) => head,
            Err(NoHead::Ended(ended)) => return Busy::Ended(ended),
            Err(NoHead::Http2) => return Busy::Http2,
            Err(NoHead::Rests { until }) => return Busy::Rests { until },
            Err(NoHead::Failed(failure)) => return Busy::Ended(refuse_head(client, failure, shard).await),
        };
        client.requests += 1;
        client.live.begin();
        let next = one_request(client, head, shard).await;
        client.live.end();
        match next {
            Next::Keep => {}
            Next::End(ended) => return Busy::Ended(ended),
        }
    }
}

/// Waits at rest for the next bytes, without a buffer.
async fn rest(client: &mut Client, until: Tick, shard: &Shard) -> Result<(), Ended> {
    let until = until.min(shard.idle_until());
    let (reader, buffer) = socket(client);
    let read = reader.read_after_rest(buffer, || shard.buffers.small(), until).await;
    client.fields = shard.upstreams.fields();
    shard.timers.clock.now_us();
    arrived(read, shard)
}

/// The socket and the buffer between requests.
fn socket(client: &mut Client) -> (&mut Reader, &mut Buffer) {
    match &mut client.reader {
        Some(Inbound::Socket(reader)) => (reader, &mut client.buffer),
        Some(Inbound::Ahead(_) | Inbound::Exchange(_)) | None => {
            unreachable!("no body is being passed on between requests")
        }
    }
}

/// What a wait between requests has brought.
fn arrived(read: Result<usize, IoFault>, shard: &Shard) -> Result<(), Ended> {
    match read {
        Ok(1..) => Ok(()),
        Ok(0) | Err(_) if shard.is_draining() => Err(Ended::Drain),
        Err(IoFault::TooSlow) => Err(Ended::Idle),
        Ok(0) | Err(IoFault::Broken(_)) => Err(Ended::Client),
    }
}

/// Why there is no next request.
enum NoHead {
    Ended(Ended),
    /// The first bytes are those of HTTP/2 (RFC 9113 §3.3).
    Http2,
    /// Nothing has come; the buffer has been given back.
    Rests {
        until: Tick,
    },
    Failed(Failure),
}

/// Waits for the next request head. What a pipelining client has already sent is in the buffer.
async fn next_head(client: &mut Client, shard: &Shard) -> Result<RequestHead, NoHead> {
    let clock = &shard.timers.clock;
    let mut scanned = 0;
    let mut complete_by = None;
    loop {
        let snapshot = shard.snapshot();
        let limits = &snapshot.limits;
        if client.buffer.is_empty() {
            let wait = if client.requests == 0 { limits.head_timeout } else { limits.idle_timeout };
            drop(snapshot);
            wait_for_bytes(client, wait, shard).await?;
            clock.now_us();
            continue;
        }
        let rules = &snapshot.listeners[client.listener].rules;
        match parse_request(client.buffer.unread(), &mut scanned, rules, &mut client.fields) {
            Ok(Some(head)) => return Ok(head),
            Ok(None) => {}
            Err(_)
                if client.requests == 0
                    && snapshot.listeners[client.listener].http2
                    && is_preface(client.buffer.unread()) =>
            {
                return Err(NoHead::Http2);
            }
            Err(bad) => return Err(NoHead::Failed(Failure::Client(ClientFault::Head(bad)))),
        }
        let until = *complete_by.get_or_insert_with(|| clock.after(limits.head_timeout));
        client.buffer.reserve(4096);
        drop(snapshot);
        let (reader, buffer) = socket(client);
        match reader.read(buffer, until).await {
            Ok(0) => return Err(NoHead::Ended(Ended::Reset)),
            Ok(_) => {
                clock.now_us();
            }
            Err(IoFault::TooSlow) => return Err(NoHead::Failed(Failure::Client(ClientFault::HeadTooSlow))),
            Err(IoFault::Broken(_)) => return Err(NoHead::Ended(Ended::Reset)),
        }
    }
}

/// Whether a connection begins as those of HTTP/2 do.
fn is_preface(bytes: &[u8]) -> bool {
    bytes.starts_with(PREFACE) || PREFACE.starts_with(bytes)
}

/// Waits between requests. After a second the buffer goes back to the stock.
async fn wait_for_bytes(client: &mut Client, wait: Duration, shard: &Shard) -> Result<(), NoHead> {
    let clock = &shard.timers.clock;
    let wait = if shard.is_draining() { wait.min(shard::DRAIN_GRACE) } else { wait };
    let until = clock.after(wait);
    if client.buffer.capacity() == 0 {
        client.buffer = shard.buffers.small();
    }
    if client.fields.capacity() == 0 {
        client.fields = shard.upstreams.fields();
    }
    let release = clock.after(REST_AFTER).min(until);
    let (reader, buffer) = socket(client);
    let read = match reader.read_or_release(buffer, release, until).await {
        Ok(Idle::Quiet) => {
            shard.buffers.give_back(std::mem::take(&mut client.buffer));
            shard.upstreams.give_back_fields(std::mem::take(&mut client.fields));
            return Err(NoHead::Rests { until });
        }
        Ok(Idle::Bytes(count)) => Ok(count),
        Err(fault) => Err(fault),
    };
    arrived(read, shard).map_err(NoHead::Ended)
}

/// Answers a head that is no request, and ends the connection: where the next one would begin cannot be known.
async fn refuse_head(client: &mut Client, failure: Failure, shard: &Rc<Shard>) -> Ended {
    let started_us = shard.timers.clock.now_us();
    let snapshot = shard.snapshot();
    let id = shard.new_id(started_us);
    let patience = snapshot.limits.body_timeout;
    let sent = local::refuse_connection(&mut client.writer, failure, &id, shard, patience).await;
    let status = failure.status();
    let sent = sent.unwrap_or(Sent { status, body_bytes: 0, head_bytes: 0 });
    let refused = Refused {
        peer: client.peer,
        target: request_line(client.buffer.unread()),
        protocol: Protocol::Http11,
        id: &id,
        status: sent.status,
        body_bytes: sent.body_bytes,
        head_bytes: sent.head_bytes,
        started_us,
        why: failure.why(),
    };
    turn::record_refused(&refused, shard);
    linger(client, shard).await;
    let too_slow = failure == Failure::Client(ClientFault::HeadTooSlow);
    if too_slow { Ended::Timeout } else { Ended::BadRequest }
}

/// What can be shown of a request line that was not understood.
fn request_line(bytes: &[u8]) -> &[u8] {
    let end = memchr::memchr2(b'\r', b'\n', bytes).unwrap_or(bytes.len());
    &bytes[..end.min(256)]
}

/// Serves one request whose head is in the buffer.
async fn one_request(client: &mut Client, head: RequestHead, shard: &Rc<Shard>) -> Next {
    let started_us = shard.timers.clock.recent_us();
    let mut request = Request::new(head, client, shard, started_us);
    let done = turn::take(&mut request, shard).await;
    match done.next {
        Next::Keep => {
            if request.finish_body(shard).await {
                return Next::Keep;
            }
            linger(request.client, shard).await;
            Next::End(Ended::Requested)
        }
        Next::End(ended @ (Ended::BadRequest | Ended::Requested | Ended::Timeout))
            if done.why != Why::ClientClosed =>
        {
            linger(request.client, shard).await;
            Next::End(ended)
        }
        next => next,
    }
}

/// Ends a connection on which the client may still be sending: says that nothing more will come, and reads on for a while, because
/// a close with unread bytes would be a reset that takes the reply with it (RFC 9112 §9.6).
async fn linger(client: &mut Client, shard: &Shard) {
    let Some(reader) = &mut client.reader else { return };
    client.writer.finish().await;
    let mut left = LINGER_BYTES_MAX;
    let until = shard.timers.clock.after(LINGER);
    let mut sink = std::mem::take(&mut client.buffer);
    loop {
        sink.clear();
        sink.reserve(Buffer::HEADROOM);
        match reader.read_unless_released(&mut sink, until).await {
            Ok(Idle::Bytes(count @ 1..)) if count < left => left -= count,
            Ok(_) | Err(_) => break,
        }
    }
    client.buffer = sink;
}
