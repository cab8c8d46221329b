//! Several services, one document.

use std::rc::Rc;

use super::authenticate;
use crate::{
    aggregate::{self, Document},
    connection::Request,
    failure::{ClientFault, Failure},
    http::Target as Form,
    runtime::Ending,
    shard::Shard,
    snapshot::{Aggregate, Route, Snapshot},
    wire::Handle,
};

/// Asks the services of an aggregate and makes one document of their answers.
pub(super) async fn document(
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
    let verified = request.verified.clone();
    let (view, made_id, peer, identity, client) = request.split();
    client.pair_with(&Handle::Wait(Rc::clone(&gone)));
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
        bearer: authenticate::bearer(&view, verified.as_deref(), route, snapshot),
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
