//! HTTP/1.1 with a client: a head, a request, a reply, again.

use std::{rc::Rc, time::Duration};

use super::{
    Client, Next, Request,
    local::{self, Sent},
    request::{BodyState, Facts},
    tunnel,
};
use crate::{
    clock::Tick,
    failure::{ClientFault, Failure, UpstreamFault},
    http::{
        Known, RequestHead, Version, parse_request, reply,
        rewrite::{self, ConnectionField, ReplyFraming},
    },
    observe::{Ended, Finished, Protocol, Why, access::Record},
    runtime::{Buffer, Idle, IoFault},
    serve::{self, Reply},
    shard::{self, Shard},
    snapshot::{HeldSnapshot, Snapshot},
    upstream::{Connection, Pace, Passing, RelayEnd, UploadEnd, relay},
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
pub(super) async fn run(client: &mut Client, shard: &Rc<Shard>) -> Ended {
    loop {
        match Box::pin(serve_while_busy(client, shard)).await {
            Busy::Ended(ended) => return ended,
            Busy::Rests { until } => {
                if let Err(ended) = rest(client, until, shard).await {
                    return ended;
                }
            }
        }
    }
}

/// How a busy time of a connection ends.
enum Busy {
    Ended(Ended),
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
    let reader = client.reader.as_mut().expect("no body is being passed on between requests");
    let read = reader.read_after_rest(&mut client.buffer, || shard.buffers.small(), until).await;
    client.fields = shard.upstreams.fields();
    shard.timers.clock.now_us();
    arrived(read, shard)
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
            Err(bad) => return Err(NoHead::Failed(Failure::Client(ClientFault::Head(bad)))),
        }
        let until = *complete_by.get_or_insert_with(|| clock.after(limits.head_timeout));
        client.buffer.reserve(4096);
        drop(snapshot);
        let reader = client.reader.as_mut().expect("no body is being passed on between requests");
        match reader.read(&mut client.buffer, until).await {
            Ok(0) => return Err(NoHead::Ended(Ended::Reset)),
            Ok(_) => {
                clock.now_us();
            }
            Err(IoFault::TooSlow) => return Err(NoHead::Failed(Failure::Client(ClientFault::HeadTooSlow))),
            Err(IoFault::Broken(_)) => return Err(NoHead::Ended(Ended::Reset)),
        }
    }
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
    let reader = client.reader.as_mut().expect("no body is being passed on between requests");
    let release = clock.after(REST_AFTER).min(until);
    let read = match reader.read_or_release(&mut client.buffer, release, until).await {
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
    let ended_us = shard.timers.clock.now_us();
    let added_us = ended_us - started_us;
    shard.metrics.borrow_mut().request(&Finished {
        route: 0,
        service: 0,
        status: sent.status,
        why: failure.why(),
        protocol: Protocol::Http11,
        duration_us: added_us,
        added_us,
        bytes_in: 0,
        bytes_out: sent.body_bytes,
    });
    shard.write_access(|| Record {
        time_us: unix_us(shard, ended_us),
        peer: client.peer,
        method: b"",
        target: request_line(client.buffer.unread()),
        protocol: Protocol::Http11,
        host: None,
        referer: None,
        user_agent: None,
        request_id: &id,
        status: sent.status,
        body_bytes: sent.body_bytes,
        sent_bytes: sent.head_bytes + sent.body_bytes,
        route: 0,
        service: 0,
        endpoint: 0,
        upstream_status: 0,
        duration_us: added_us,
        upstream_us: None,
        added_us,
        attempts: 0,
        why: failure.why(),
    });
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
    // One snapshot to the end: a reload must not change the rules half-way.
    let snapshot = shard.snapshot();
    let mut request = Request::new(head, client, shard, started_us);
    let result = serve::request(&mut request, &snapshot, shard).await;
    let done = match result {
        Ok(Reply::Response(response, _)) if response.head.status == 101 => {
            return upgrade(request, response, snapshot, shard).await;
        }
        Ok(Reply::Response(response, route)) => {
            let may_stream = route.stream;
            pass_on(&mut request, response, may_stream, &snapshot, shard).await
        }
        Ok(reply) => answer(&mut request, &reply, &snapshot, shard).await,
        Err(failure) => refuse(&mut request, failure, &snapshot, shard).await,
    };
    request.client.writer.unpair();
    record(&request, &done, shard);
    match done.next {
        Next::Keep => {
            if request.finish_body(shard).await {
                return Next::Keep;
            }
            linger(request.client, shard).await;
            Next::End(Ended::Requested)
        }
        Next::End(Ended::BadRequest | Ended::Requested | Ended::Timeout) if done.why != Why::ClientClosed => {
            let Next::End(ended) = done.next else { return done.next };
            linger(request.client, shard).await;
            Next::End(ended)
        }
        next => next,
    }
}

/// How a request ended.
struct Done {
    next: Next,
    why: Why,
    status: u16,
    body_bytes: u64,
    head_bytes: u64,
}

/// Whether the connection may outlive this request, as far as the client and the shard are concerned.
fn may_keep(request: &Request<'_>, shard: &Shard) -> bool {
    request.head.keep_alive && !shard.is_draining()
}

async fn answer(request: &mut Request<'_>, reply: &Reply<'_>, snapshot: &Snapshot, shard: &Shard) -> Done {
    let keep = may_keep(request, shard) && body_is_bounded(request);
    let sent = local::answer(request, reply, keep, snapshot, shard).await;
    written(sent, keep, Why::Ok)
}

async fn refuse(request: &mut Request<'_>, failure: Failure, snapshot: &Snapshot, shard: &Shard) -> Done {
    if failure == Failure::Client(ClientFault::Closed) {
        let status = failure.status();
        return Done {
            next: Next::End(Ended::Reset),
            why: failure.why(),
            status,
            body_bytes: 0,
            head_bytes: 0,
        };
    }
    let keep = may_keep(request, shard) && !failure.loses_framing() && body_is_bounded(request);
    let sent = local::refuse(request, failure, keep, snapshot, shard).await;
    let mut done = written(sent, keep, failure.why());
    if failure.loses_framing() && matches!(done.next, Next::End(Ended::Requested)) {
        done.next = Next::End(Ended::BadRequest);
    }
    done
}

/// Whether what is left of the request body is worth reading to keep the connection.
fn body_is_bounded(request: &Request<'_>) -> bool {
    use crate::http::BodyLength;
    match (&request.body, request.head.body) {
        (BodyState::Whole(_), _) | (_, BodyLength::Exact(0)) => true,
        (BodyState::Untouched, BodyLength::Exact(length)) => {
            length <= 64 * 1024 && !request.head.expect_continue
        }
        (BodyState::Ended(_, UploadEnd::Complete, _), _) => true,
        (BodyState::Untouched | BodyState::Streamed | BodyState::Ended(..), _) => false,
    }
}

fn written(sent: Result<Sent, IoFault>, keep: bool, why: Why) -> Done {
    match sent {
        Ok(Sent { status, body_bytes, head_bytes }) => {
            let next = if keep { Next::Keep } else { Next::End(Ended::Requested) };
            Done { next, why, status, body_bytes, head_bytes }
        }
        Err(_) => Done {
            next: Next::End(Ended::Reset),
            why: Why::ClientClosed,
            status: 0,
            body_bytes: 0,
            head_bytes: 0,
        },
    }
}

/// Passes a service's response on.
async fn pass_on(
    request: &mut Request<'_>,
    response: Box<Connection>,
    stream: bool,
    snapshot: &Snapshot,
    shard: &Shard,
) -> Done {
    let framing = response.framing(request.http10());
    let status = response.head.status;
    let early = response.is_early();
    let keep = may_keep(request, shard) && framing != ReplyFraming::UntilClose && !early;
    let limits = &snapshot.limits;
    let patience = limits.body_timeout;

    let mut head = shard.buffers.small();
    write_reply_head(head.start_writing(), request, &response, framing, keep, shard);
    let head_bytes = head.len() as u64;
    let quiet = stream || is_stream(&response);
    let pace =
        if quiet { Pace::new(limits.tunnel_idle, 0) } else { Pace::new(patience, limits.body_rate_min) };
    let rules = snapshot.listeners[request.client.listener].rules;
    let passing = Passing { head: &mut head, framing, patience, pace, rules };
    let relayed = relay(response, &mut request.client.writer, passing).await;
    shard.buffers.give_back(head);
    if let Some(uploaded) = relayed.uploaded {
        request.take_over(*uploaded, shard);
    }

    if relayed.end == RelayEnd::Unsent {
        let failure = Failure::Upstream(UpstreamFault::BadResponse);
        return refuse(request, failure, snapshot, shard).await;
    }
    let (next, why) = match relayed.end {
        RelayEnd::Complete if keep => (Next::Keep, Why::Ok),
        RelayEnd::Complete => (Next::End(Ended::Requested), Why::Ok),
        RelayEnd::Truncated | RelayEnd::Unsent => (Next::End(Ended::Upstream), Why::UpstreamTruncated),
        RelayEnd::Stalled => (Next::End(Ended::Upstream), Why::UpstreamStalled),
        RelayEnd::ClientGone => (Next::End(Ended::Reset), Why::ClientClosed),
        RelayEnd::ClientTooSlow => (Next::End(Ended::Timeout), Why::ClientClosed),
    };
    if matches!(relayed.end, RelayEnd::Truncated | RelayEnd::Stalled) {
        // The client must see a broken message, also where the end of the connection is the end of the body.
        request.client.writer.reset_on_close();
    }
    Done { next, why, status, body_bytes: relayed.bytes, head_bytes }
}

fn write_reply_head(
    out: &mut Vec<u8>,
    request: &Request<'_>,
    response: &Connection,
    framing: ReplyFraming,
    keep: bool,
    shard: &Shard,
) {
    let bytes = response.buffer.unread();
    let connection = if response.head.status == 101 {
        let protocol = response.fields.iter().find(|field| field.known == Known::Upgrade);
        ConnectionField::Upgrade(protocol.map_or(b"websocket" as &[u8], |field| field.value.of(bytes)))
    } else {
        match (keep, request.head.version) {
            (true, Version::Http11) => ConnectionField::Absent,
            (true, Version::Http10) => ConnectionField::KeepAlive,
            (false, _) => ConnectionField::Close,
        }
    };
    let reason = match response.head.reason.of(bytes) {
        [] => reply::reason(response.head.status).as_bytes(),
        reason => reason,
    };
    rewrite::write_reply(
        out,
        &rewrite::Return {
            bytes,
            fields: &response.fields,
            status: response.head.status,
            reason,
            framing,
            connection,
            request_id: Some(request.id()),
            date: &shard.date(),
        },
    );
}

/// Whether quiet is normal for this response: events, and calls that stream.
fn is_stream(response: &Connection) -> bool {
    let bytes = response.buffer.unread();
    let content_type = response.fields.iter().find(|field| field.known == Known::ContentType);
    content_type.is_some_and(|field| {
        let value = field.value.of(bytes);
        starts_with(value, b"text/event-stream") || starts_with(value, b"application/grpc")
    })
}

fn starts_with(value: &[u8], prefix: &[u8]) -> bool {
    value.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Becomes a tunnel: both sides have agreed to another protocol.
async fn upgrade(
    mut request: Request<'_>,
    response: Box<Connection>,
    snapshot: HeldSnapshot,
    shard: &Rc<Shard>,
) -> Next {
    let mut head = Vec::with_capacity(512);
    write_reply_head(&mut head, &request, &response, ReplyFraming::AsReceived, true, shard);
    let head_bytes = head.len() as u64;
    let idle = snapshot.limits.tunnel_idle;
    // A tunnel may outlive many snapshots and needs none.
    drop(snapshot);
    shard.metrics.borrow_mut().counters.tunnels += 1;
    // What the client sent behind its head is the new protocol's.
    let head_len = request.head.len;
    let moved = tunnel::run(&mut *request.client, head_len, &head, response, idle, shard).await;
    let done = Done {
        next: Next::End(Ended::Tunnel),
        why: moved.why,
        status: 101,
        body_bytes: moved.to_client,
        head_bytes,
    };
    request.facts.bytes_in = moved.to_service;
    record(&request, &done, shard);
    done.next
}

/// Counts and logs a request that has ended. The only place that does.
fn record(request: &Request<'_>, done: &Done, shard: &Shard) {
    let Facts {
        started_us,
        route,
        service,
        endpoint,
        upstream_status,
        waited_us,
        upstream_us,
        attempts,
        bytes_in,
    } = request.facts;
    let ended_us = shard.timers.clock.now_us();
    let duration_us = ended_us.saturating_sub(started_us);
    let added_us = duration_us.saturating_sub(waited_us);
    let protocol = if request.http10() { Protocol::Http10 } else { Protocol::Http11 };
    shard.metrics.borrow_mut().request(&Finished {
        route,
        service,
        status: done.status,
        why: done.why,
        protocol,
        duration_us,
        added_us,
        bytes_in,
        bytes_out: done.body_bytes,
    });
    shard.write_access(|| {
        let view = request.view();
        Record {
            time_us: unix_us(shard, ended_us),
            peer: request.client.peer,
            method: view.head.method_text.of(view.bytes),
            target: view.head.target_text.of(view.bytes),
            protocol,
            host: Some(view.host()).filter(|host| !host.is_empty()),
            referer: view.field(Known::Referer),
            user_agent: view.field(Known::UserAgent),
            request_id: request.id(),
            status: done.status,
            body_bytes: done.body_bytes,
            sent_bytes: done.head_bytes + done.body_bytes,
            route,
            service,
            endpoint,
            upstream_status,
            duration_us,
            upstream_us,
            added_us,
            attempts,
            why: done.why,
        }
    });
}

fn unix_us(shard: &Shard, at_us: u64) -> u64 {
    u64::try_from(shard.timers.clock.unix(at_us).as_micros()).unwrap_or(u64::MAX)
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
        match reader.read_or_release(&mut sink, Tick::NEVER, until).await {
            Ok(Idle::Bytes(count @ 1..)) if count < left => left -= count,
            Ok(_) | Err(_) => break,
        }
    }
    client.buffer = sink;
}
