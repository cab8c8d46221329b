//! One request's turn: it is served, what came of it is written, counted and logged. The same for every protocol.

use std::{net::SocketAddr, rc::Rc};

use super::{
    Next, Request, document,
    local::{self, Sent},
    request::{BodyState, Facts},
    tunnel,
};
use crate::{
    aggregate::Document,
    failure::{ClientFault, Failure, UpstreamFault},
    http::{
        BodyLength, Known, Version,
        rewrite::{self, ConnectionField, ReplyFraming},
    },
    observe::{Ended, Finished, Protocol, Why, access::Record},
    runtime::IoFault,
    serve::{self, Reply},
    shard::Shard,
    snapshot::{HeldSnapshot, Snapshot},
    upstream::{Connection, Pace, Passing, RelayEnd, UploadEnd, relay},
};

/// Serves one request. What is left of its body is for the caller to deal with.
pub(super) async fn take(request: &mut Request<'_>, shard: &Rc<Shard>) -> Done {
    // One snapshot to the end: a reload must not change the rules half-way.
    let snapshot = shard.snapshot();
    let result = serve::request(request, &snapshot, shard).await;
    let done = match result {
        Ok(Reply::Response(response, _)) if response.head.status == 101 => {
            upgrade(request, response, snapshot, shard).await
        }
        Ok(Reply::Response(response, route)) => {
            let may_stream = route.stream;
            pass_on(request, response, may_stream, &snapshot, shard).await
        }
        Ok(Reply::Document(document)) => deliver(request, *document, &snapshot, shard).await,
        Ok(reply) => answer(request, &reply, &snapshot, shard).await,
        Err(failure) => refuse(request, failure, &snapshot, shard).await,
    };
    request.client.writer.unpair();
    record(request, &done, shard);
    done
}

/// How a request ended.
pub(super) struct Done {
    pub(super) next: Next,
    pub(super) why: Why,
    status: u16,
    body_bytes: u64,
    head_bytes: u64,
}

/// Whether the connection may outlive this request, as far as the client and the shard are concerned.
fn may_keep(request: &Request<'_>, shard: &Shard) -> bool {
    request.head.keep_alive && !shard.is_draining()
}

async fn deliver(request: &mut Request<'_>, document: Document, snapshot: &Snapshot, shard: &Shard) -> Done {
    let keep = may_keep(request, shard) && body_is_bounded(request);
    // Boxed: requests that are no aggregate must not pay for it.
    let sent = Box::pin(document::send(request, document, keep, snapshot, shard)).await;
    written(sent, keep, Why::Ok)
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

    let quiet = stream || is_stream(&response);
    let pace =
        if quiet { Pace::new(limits.tunnel_idle, 0) } else { Pace::new(patience, limits.body_rate_min) };
    let rules = snapshot.listeners[request.client.listener].rules;
    let connection = match (keep, request.head.version) {
        (true, Version::Http11) => ConnectionField::Absent,
        (true, Version::Http10) => ConnectionField::KeepAlive,
        (false, _) => ConnectionField::Close,
    };
    let (request_id, client) = request.id_and_writer();
    let date = shard.date();
    let passing = Passing { framing, connection, request_id, date: &date, patience, pace, rules };
    let relayed = relay(response, client, passing).await;
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
        request.client.writer.break_off();
    }
    Done { next, why, status, body_bytes: relayed.bytes, head_bytes: relayed.head_bytes }
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
    request: &mut Request<'_>,
    response: Box<Connection>,
    snapshot: HeldSnapshot,
    shard: &Rc<Shard>,
) -> Done {
    let mut head = Vec::with_capacity(512);
    let protocol = response.fields.iter().find(|field| field.known == Known::Upgrade);
    let protocol = protocol.map_or(b"websocket" as &[u8], |field| field.value.of(response.buffer.unread()));
    let connection = ConnectionField::Upgrade(protocol);
    let date = shard.date();
    let reply = response.reply_head(ReplyFraming::AsReceived, connection, request.id(), &date);
    rewrite::write_reply(&mut head, &reply);
    let head_bytes = head.len() as u64;
    let idle = snapshot.limits.tunnel_idle;
    // A tunnel may outlive many snapshots and needs none.
    drop(snapshot);
    shard.metrics.borrow_mut().counters.tunnels += 1;
    // What the client sent behind its head is the new protocol's.
    let head_len = request.head.len;
    let moved = tunnel::run(&mut *request.client, head_len, &head, response, idle, shard).await;
    request.facts.bytes_in = moved.to_service;
    Done {
        next: Next::End(Ended::Tunnel),
        why: moved.why,
        status: 101,
        body_bytes: moved.to_client,
        head_bytes,
    }
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
    let protocol = request.protocol();
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
            user: view.verified.and_then(|verified| verified.sub()).map(str::as_bytes),
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

/// A head that was no request, or none we serve.
pub(super) struct Refused<'a> {
    pub(super) peer: Option<SocketAddr>,
    /// What can be shown of it.
    pub(super) target: &'a [u8],
    pub(super) protocol: Protocol,
    pub(super) id: &'a [u8],
    pub(super) status: u16,
    pub(super) body_bytes: u64,
    pub(super) head_bytes: u64,
    pub(super) started_us: u64,
    pub(super) why: Why,
}

/// Counts and logs a head that was refused.
pub(super) fn record_refused(refused: &Refused<'_>, shard: &Shard) {
    let ended_us = shard.timers.clock.now_us();
    let added_us = ended_us.saturating_sub(refused.started_us);
    shard.metrics.borrow_mut().request(&Finished {
        route: 0,
        service: 0,
        status: refused.status,
        why: refused.why,
        protocol: refused.protocol,
        duration_us: added_us,
        added_us,
        bytes_in: 0,
        bytes_out: refused.body_bytes,
    });
    shard.write_access(|| Record {
        time_us: unix_us(shard, ended_us),
        peer: refused.peer,
        method: b"",
        target: refused.target,
        protocol: refused.protocol,
        host: None,
        referer: None,
        user_agent: None,
        user: None,
        request_id: refused.id,
        status: refused.status,
        body_bytes: refused.body_bytes,
        sent_bytes: refused.head_bytes + refused.body_bytes,
        route: 0,
        service: 0,
        endpoint: 0,
        upstream_status: 0,
        duration_us: added_us,
        upstream_us: None,
        added_us,
        attempts: 0,
        why: refused.why,
    });
}
