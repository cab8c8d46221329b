//! One request, top to bottom.

use std::rc::Rc;

use crate::{
    aggregate::{self, Document},
    connection::{BodyState, Place, Request},
    failure::{ClientFault, Failure},
    http::{Method, Target as Form},
    route::Found,
    runtime::Ending,
    shard::Shard,
    snapshot::{Aggregate, Route, Service, Snapshot, Target},
    upstream::{self, Asker, Body, Connection},
};

/// What a client gets.
pub enum Reply<'s> {
    /// A service's response, to be passed on.
    Response(Box<Connection>, &'s Route),
    Fixed(&'s crate::config::Fixed),
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
            let document = Box::pin(gather(request, route, parts, snapshot, shard)).await?; // 502, 504
            Ok(Reply::Document(Box::new(document)))
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
        request_id: made_id,
        upgrade: view.upgrade(route),
        expect: view.head.expect_continue && streamed,
        loop_mark: Some(&listener.loop_mark),
        asker: Asker::Client(client),
        rules: listener.rules,
        retry: &route.retry,
        key,
        timeout: route.timeout,
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

/// Asks the services of an aggregate and makes one document of their answers.
async fn gather(
    request: &mut Request<'_>,
    route: &Route,
    aggregate: &Aggregate,
    snapshot: &Snapshot,
    shard: &Shard,
) -> Result<Document, Failure> {
    let listener = &snapshot.listeners[request.client.listener];
    let trusted = request.client.peer.is_some_and(|peer| snapshot.trusts(peer));
    let is_secure = request.client.is_secure;
    let id = request.id().to_vec();
    let gone = Rc::new(Ending::default());
    let peer_address = request.client.peer;
    let (view, made_id, peer, identity, client) = request.split();
    client.pair_with_wait(&gone);
    let ask = aggregate::Ask {
        aggregate,
        services: &snapshot.services,
        route: &route.pattern,
        client: &view,
        head: view.head,
        bytes: view.bytes,
        fields: view.fields,
        host: route.host,
        client_host: view.host(),
        host_differs: matches!(view.head.target, Form::Absolute { .. }),
        peer,
        proto: if is_secure { b"https" } else { b"http" },
        trusted,
        certificate: identity.map(|identity| (&*identity.subject, &*identity.fingerprint)),
        request_id: made_id,
        id: &id,
        key: &|service| view.hash_key(service, peer_address),
        loop_mark: &listener.loop_mark,
        rules: listener.rules,
        retry: &route.retry,
        timeout: route.timeout,
        patience: snapshot.limits.body_timeout,
    };
    // A client that is gone is not worth the services' work.
    let gathered = gone.unless(aggregate::gather(&ask, &shard.upstreams, &shard.room)).await;
    let Some((made, effort)) = gathered else { return Err(Failure::Client(ClientFault::Closed)) };
    request.facts.attempts = effort.attempts;
    request.facts.waited_us = effort.waited_us;
    request.facts.upstream_us = Some(effort.waited_us);
    made.map_err(Failure::from)
}
