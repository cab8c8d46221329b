//! Requests at the paths of an issuer of our own: handed to the control thread, which has users and keys.

use std::net::IpAddr;

use crate::{
    config::issuing::Action,
    connection::Request,
    control::accounts::{Asked, Refusal},
    failure::Failure,
    http::{Known, headers, reply::Made},
    runtime::Unanswered,
    shard::Shard,
    snapshot::{Route, Snapshot},
};

/// What the issuer answers. Fails with 503 at once when too many ask, and when no answer comes within the route's `timeout`.
pub(super) async fn answer(
    request: &mut Request<'_>,
    route: &Route,
    issuer: &std::sync::Arc<str>,
    action: Action,
    snapshot: &Snapshot,
    shard: &Shard,
) -> Result<Made, Failure> {
    let body = request.whole_body(route, snapshot, shard).await?; // 400, 408, 413
    let view = request.view();
    let text = |known: Known| {
        let value = view.field(known).and_then(|value| str::from_utf8(value).ok());
        value.map(str::to_owned)
    };
    let asked = Asked {
        issuer: std::sync::Arc::clone(issuer),
        action,
        body,
        content_type: text(Known::ContentType),
        accept: text(Known::Accept),
        token: text(Known::Authorization).and_then(|value| bearer(&value)),
        client: client(request, snapshot),
    };
    match shard.waiting.ask(&shard.accounts, asked, route.timeout).await {
        Ok(Ok(document)) => Ok(Made {
            status: document.status,
            content_type: document.content_type.to_owned(),
            fields: vec![("Cache-Control".to_owned(), document.cache_control.as_bytes().to_vec())],
            body: document.body,
        }),
        Ok(Err(refusal)) => Err(Failure::Account(refusal)),
        Err(Unanswered::Busy | Unanswered::Late | Unanswered::Lost) => {
            Err(Failure::Account(Refusal::Unavailable))
        }
    }
}

/// RFC 6750 §2.1; the scheme's case does not count (RFC 9110 §11.1).
fn bearer(value: &str) -> Option<String> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

/// Who asks: the last address in X-Forwarded-For that is not one of our proxies, as far as these are believed.
fn client(request: &Request<'_>, snapshot: &Snapshot) -> Option<IpAddr> {
    let peer = request.client.peer;
    let is_proxy = |address: IpAddr| snapshot.trusted_proxies.iter().any(|network| network.contains(address));
    if peer.is_some_and(|peer| !is_proxy(peer.ip())) {
        return peer.map(|peer| peer.ip());
    }
    let view = request.view();
    let forwarded = view.fields.iter().filter(|field| field.known == Known::XForwardedFor);
    let addresses: Vec<IpAddr> = forwarded
        .flat_map(|field| headers::list(field.value.of(view.bytes)))
        .map_while(|element| str::from_utf8(element).ok()?.trim().parse().ok())
        .collect();
    let first = addresses.first().copied();
    let client = addresses.into_iter().rev().find(|address| !is_proxy(*address));
    client.or(first).or_else(|| peer.map(|peer| peer.ip()))
}
