//! One request, top to bottom.

mod accounts;
mod authenticate;
mod gather;

use std::{sync::Arc, time::Duration};

use crate::{
    aggregate::Document,
    bus::{self, Call},
    connection::{BodyState, Place, Request},
    failure::{ClientFault, Failure, UpstreamFault},
    http::{Method, Target as Form, reply::Made},
    observe::Outcome,
    route::Found,
    shard::Shard,
    snapshot::{AmqpService, Route, Service, Snapshot, Target},
    template::{Escape, Template},
    upstream::{self, Asker, Body, Connection},
};

/// What a client gets.
pub enum Reply<'s> {
    /// A service's response, to be passed on.
    Response(Box<Connection>, &'s Route),
    Fixed(&'s crate::config::Fixed),
    /// Made for this request.
    Made(Box<Made>),
    Redirect {
        code: u16,
        location: Vec<u8>,
    },
    /// The answers of several services as one document.
    Document(Box<Document>),
    /// The gateway is here (`OPTIONS *`, RFC 9110 §9.3.7).
    Empty,
}

/// Serves one request. Every step a request can take is here, in the order it happens.
///
/// A step that says no returns a [`Failure`]; `connection` writes the reply for it, counts it and decides whether the connection
/// may be kept.
pub async fn request<'s>(
    request: &mut Request<'_>,
    snapshot: &'s Snapshot,
    shard: &Shard,
) -> Result<Reply<'s>, Failure> {
    if request.head.target == Form::Asterisk {
        return Ok(Reply::Empty);
    }
    refuse_what_is_not_for_gateways(request)?; // 405
    refuse_what_comes_back(request, snapshot)?; // 508
    let (route, needs_slash) = find_route(request, snapshot)?; // 400, 404, 405
    request.facts.route = route.metric;
    if let Some(guard) = route.guard {
        authenticate::authenticate(request, guard, snapshot, shard).await?; // 400, 401, 403, 503
    }
    if needs_slash {
        return Ok(Reply::Redirect { code: 308, location: with_slash(request) });
    }
    request.check_body_length(route)?; // 413: before anyone is asked to send it

    match &route.target {
        Target::Service(index) => {
            let response = call(request, route, &snapshot.services[*index], snapshot, shard).await?; // 408, 413, 502…504
            Ok(Reply::Response(response, route))
        }
        Target::Aggregate(parts) => {
            // Boxed: requests to one service must not pay for those to several.
            let document = Box::pin(gather::document(request, route, parts, snapshot, shard)).await?; // 502, 504
            Ok(Reply::Document(Box::new(document)))
        }
        Target::Accounts { issuer, action } => {
            let made = accounts::answer(request, route, issuer, *action, snapshot, shard).await?; // 400, 401, 413, 415, 429, 503
            Ok(Reply::Made(Box::new(made)))
        }
        Target::Amqp(index) => {
            let made = publish(request, route, &snapshot.amqp[*index], snapshot, shard).await?; // 408, 413, 502…504
            Ok(Reply::Made(Box::new(made)))
        }
        Target::Fixed(fixed) => Ok(Reply::Fixed(fixed)),
        Target::Redirect { code, location } => {
            let mut target = Vec::with_capacity(64);
            request.view().render(location, Place::Target, &mut target);
            Ok(Reply::Redirect { code: *code, location: target })
        }
    }
}

/// CONNECT would make the gateway a tunnel to anywhere; TRACE would show clients what the services see.
fn refuse_what_is_not_for_gateways(request: &Request<'_>) -> Result<(), Failure> {
    let not_for_us = matches!(request.head.method, Method::Connect | Method::Trace);
    if not_for_us { Err(Failure::Client(ClientFault::MethodNotServed)) } else { Ok(()) }
}

/// A request that left from the listener it arrives at (RFC 8586).
fn refuse_what_comes_back(request: &Request<'_>, snapshot: &Snapshot) -> Result<(), Failure> {
    if !snapshot.calls_itself {
        return Ok(());
    }
    let mark = &*snapshot.listeners[request.client.listener].loop_mark;
    let bytes = request.bytes();
    let comes_back = request
        .client
        .fields
        .iter()
        .filter(|field| field.name.of(bytes).eq_ignore_ascii_case(b"cdn-loop"))
        .any(|field| crate::http::headers::list(field.value.of(bytes)).any(|element| element == mark));
    if comes_back { Err(Failure::Client(ClientFault::Loop)) } else { Ok(()) }
}

/// The most specific route, and whether the request lacks the slash of a prefix.
fn find_route<'s>(request: &mut Request<'_>, snapshot: &'s Snapshot) -> Result<(&'s Route, bool), Failure> {
    let normal = request.normalise_path();
    if normal.is_err() {
        // Only a route that asks for paths as they are gets one that has no normal form.
        request.keep_raw_path()?;
    }
    let found = request.route(&snapshot.index);
    let (route, needs_slash) = match found {
        Found::Route { index, needs_slash } => (&snapshot.routes[index], needs_slash),
        Found::MethodNotAllowed => {
            normal?;
            return Err(Failure::Client(ClientFault::MethodNotAllowed));
        }
        Found::None => {
            normal?;
            return Err(Failure::Client(ClientFault::NoRoute));
        }
    };
    if !route.raw_path {
        normal?;
    }
    Ok((route, needs_slash))
}

/// The path with a slash at its end, for a prefix that was named without it.
fn with_slash(request: &Request<'_>) -> Vec<u8> {
    let mut location = [request.view().path, b"/"].concat();
    if let Some(query) = request.view().query() {
        location.push(b'?');
        location.extend_from_slice(query);
    }
    location
}

/// Sends the request to the route's service.
async fn call(
    request: &mut Request<'_>,
    route: &Route,
    service: &Service,
    snapshot: &Snapshot,
    shard: &Shard,
) -> Result<Box<Connection>, Failure> {
    request.facts.service = service.metric;
    let upload = request.prepare_body(route, snapshot, shard).await?; // 408, 413
    let streamed = upload.is_some();
    let length = match &request.body {
        BodyState::Whole(length) => *length,
        BodyState::Untouched | BodyState::Streamed | BodyState::Ended(..) => 0,
    };
    let listener = &snapshot.listeners[request.client.listener];
    let trusted = request.client.peer.is_some_and(|peer| snapshot.trusts(peer));

    let is_secure = request.client.is_secure;
    let verified = request.verified.clone();
    let peer_address = request.client.peer;
    let (view, made_id, peer, identity, client) = request.split();
    let target = view.path_to_send(route);
    let (path, query) = match (route.rewrite.is_some(), memchr::memchr(b'?', &target)) {
        (true, Some(at)) => (&target[..at], Some(&target[at + 1..])),
        (_, _) => (&target[..], view.query()),
    };
    let body = match upload {
        Some(upload) => Body::Stream(Some(Box::new(upload))),
        None => Body::Whole(&view.bytes[view.head.len..view.head.len + length]),
    };
    let bearer = authenticate::bearer(&view, verified.as_deref(), route, snapshot);
    let key = view.hash_key(service, peer_address);
    let sending_us = shard.timers.clock.recent_us();
    let mut outgoing = upstream::Request {
        head: view.head,
        method: view.head.method_text.of(view.bytes),
        bytes: view.bytes,
        fields: view.fields,
        extra: b"",
        path,
        query,
        body,
        host: route.host,
        client_host: view.host(),
        host_differs: matches!(view.head.target, Form::Absolute { .. }),
        peer,
        proto: if is_secure { b"https" } else { b"http" },
        trusted,
        certificate: identity.map(|identity| (&*identity.subject, &*identity.fingerprint)),
        bearer,
        request_id: made_id,
        upgrade: view.upgrade(route),
        expect: view.head.expect_continue && streamed,
        loop_mark: Some(&listener.loop_mark),
        asker: Asker::Client(client),
        rules: listener.rules,
        retry: &route.retry,
        key,
        timeout: view.grpc_timeout().map_or(route.timeout, |limit| limit.min(route.timeout)),
        patience: snapshot.limits.body_timeout,
    };
    let result = upstream::send(&shard.upstreams, service, &mut outgoing).await;
    let unsent = match outgoing.body {
        Body::Stream(upload) => upload,
        Body::Whole(_) => None,
    };
    let ended_us = shard.timers.clock.recent_us();
    if let Some(upload) = unsent {
        request.take_back(*upload, shard);
    }
    match result {
        Ok(response) => {
            request.facts.endpoint = response.lease().metric;
            request.facts.upstream_status = response.head.status;
            request.facts.attempts = response.attempts;
            request.facts.upstream_us = Some(response.head_us - sending_us.min(response.head_us));
            request.facts.waited_us = response.head_us - response.sent_us.min(response.head_us);
            Ok(response)
        }
        Err(failed) => {
            request.facts.endpoint = failed.endpoint;
            request.facts.attempts = failed.attempts;
            request.facts.upstream_us = Some(ended_us - sending_us.min(ended_us));
            request.facts.waited_us = ended_us - sending_us.min(ended_us);
            if let Some(uploaded) = failed.uploaded {
                request.take_over(*uploaded, shard);
            }
            Err(failed.fault.into())
        }
    }
}

/// Sends the request as a message, and waits for what comes back.
async fn publish(
    request: &mut Request<'_>,
    route: &Route,
    queue: &Arc<AmqpService>,
    snapshot: &Snapshot,
    shard: &Shard,
) -> Result<Made, Failure> {
    request.facts.service = queue.metric;
    let started_us = shard.timers.clock.recent_us();
    let body = request.whole_body(route, snapshot, shard).await?; // 400, 408, 413
    let sending_us = shard.timers.clock.now_us();
    // The whole is what the route's `timeout` is for.
    let patience = route.timeout.saturating_sub(Duration::from_micros(sending_us.saturating_sub(started_us)));
    let call = message(request, route, queue, body, snapshot, patience)?;
    let answer = bus::call(&shard.bus, call, &shard.waiting).await;
    let waited_us = shard.timers.clock.now_us() - sending_us;
    request.facts.endpoint = queue.endpoint;
    request.facts.attempts = 1;
    request.facts.upstream_us = Some(waited_us);
    request.facts.waited_us = waited_us;
    let outcome = match &answer {
        Ok(made) if made.status < 500 => Outcome::Ok,
        Ok(_) | Err(bus::Fault::Failed) => Outcome::Status5xx,
        Err(bus::Fault::Late) => Outcome::Timeout,
        Err(bus::Fault::Lost) => Outcome::Reset,
        Err(bus::Fault::BadReply) => Outcome::Bad,
        Err(bus::Fault::Down | bus::Fault::Busy | bus::Fault::Unroutable | bus::Fault::Refused) => {
            Outcome::Connect
        }
    };
    shard.metrics.borrow_mut().attempt(queue.endpoint, outcome);
    if let Ok(made) = &answer {
        request.facts.upstream_status = made.status;
    }
    answer.map_err(|fault| Failure::Upstream(UpstreamFault::Broker(fault)))
}

fn message(
    request: &Request<'_>,
    route: &Route,
    queue: &Arc<AmqpService>,
    body: Vec<u8>,
    snapshot: &Snapshot,
    patience: Duration,
) -> Result<Call, Failure> {
    let view = request.view();
    let name = |template: &Template| {
        let mut text = Vec::new();
        view.render(template, Place::Body(Escape::None), &mut text);
        // No queue is bound by what AMQP cannot say.
        let fits = String::from_utf8(text).ok().filter(|text| text.len() <= bus::NAME_BYTES_MAX);
        fits.ok_or(Failure::Upstream(UpstreamFault::Broker(bus::Fault::Unroutable)))
    };
    let (exchange, key) = (name(&queue.config.exchange)?, name(&queue.config.key)?);
    let target = view.path_to_send(route);
    let (path, query) = match (route.rewrite.is_some(), memchr::memchr(b'?', &target)) {
        (true, Some(at)) => (&target[..at], Some(&target[at + 1..])),
        (_, _) => (&target[..], view.query()),
    };
    let bearer = authenticate::bearer(&view, view.verified, route, snapshot);
    let facts = bus::Facts {
        method: view.head.method_text.of(view.bytes),
        path,
        query,
        host: view.host(),
        proto: if request.client.is_secure { "https" } else { "http" },
        forwarded_for: &request.client.peer_text,
        bearer,
        id: request.id(),
    };
    let message = bus::message(&facts, view.bytes, view.fields, &queue.config.headers, body);
    Ok(Call { queue: Arc::clone(queue), exchange, key, message, patience })
}
