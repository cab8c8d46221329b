//! Replies that the gateway writes itself: fixed ones, redirects, failures.

use super::Request;
use crate::{
    failure::Failure,
    http::{Known, Method, grpc, headers, reply},
    runtime::IoFault,
    serve::Reply,
    shard::Shard,
    snapshot::Snapshot,
    template::Escape,
    wire::Outbound,
};

use super::request::Place;

/// What was sent, for the log.
pub(super) struct Sent {
    pub status: u16,
    pub body_bytes: u64,
    pub head_bytes: u64,
}

/// Writes a fixed reply, a redirect or an empty one.
pub(super) async fn answer(
    request: &mut Request<'_>,
    answer: &Reply<'_>,
    keep_alive: bool,
    snapshot: &Snapshot,
    shard: &Shard,
) -> Result<Sent, IoFault> {
    let mut body = Vec::new();
    let mut fields: Vec<(&[u8], &[u8])> = Vec::new();
    let (status, content_type): (u16, &[u8]) = match answer {
        Reply::Fixed(fixed) => {
            let json = fixed.content_type.contains("json");
            let escape = if json { Escape::Json } else { Escape::None };
            request.view().render(&fixed.body, Place::Body(escape), &mut body);
            for (name, value) in &fixed.headers {
                fields.push((name.as_bytes(), value.as_bytes()));
            }
            (fixed.status, fixed.content_type.as_bytes())
        }
        Reply::Made(made) => {
            fields.extend(made.fields.iter().map(|(name, value)| (name.as_bytes(), &value[..])));
            body.extend_from_slice(&made.body);
            (made.status, made.content_type.as_bytes())
        }
        Reply::Redirect { code, location } => {
            fields.push((b"Location", location));
            (*code, b"")
        }
        Reply::Empty => (204, b""),
        Reply::Response(..) | Reply::Document(_) => {
            unreachable!("a service's response and a document are passed on, not written")
        }
    };
    write(request, status, content_type, fields, &body, keep_alive, snapshot, shard).await
}

/// Writes the reply for a failure: a problem document (RFC 9457), or a page where the client prefers HTML.
pub(super) async fn refuse(
    request: &mut Request<'_>,
    failure: Failure,
    keep_alive: bool,
    snapshot: &Snapshot,
    shard: &Shard,
) -> Result<Sent, IoFault> {
    if request.is_grpc() {
        return refuse_call(request, failure, keep_alive, snapshot, shard).await;
    }
    let status = failure.status();
    let view = request.view();
    let html = view.field(Known::Accept).is_some_and(headers::prefers_html);
    let allow = match status {
        405 => allowed(request, snapshot),
        _ => String::new(),
    };
    let (body, content_type) = explain(failure, html, request.id());
    let retry_after = failure.retry_after().map(|seconds| seconds.to_string());
    let challenge = match failure {
        Failure::Denied { reject, guard } => snapshot.guards[guard].challenge(reject),
        // RFC 9110 §15.5.2 wants a challenge; which scheme, the client knows best.
        Failure::Account(_) if status == 401 => Some("Bearer".to_owned()),
        Failure::Account(_)
        | Failure::Client(_)
        | Failure::Upstream(_)
        | Failure::Overload(_)
        | Failure::Bug(_) => None,
    };
    let mut fields: Vec<(&[u8], &[u8])> = Vec::new();
    if let Some(challenge) = &challenge {
        fields.push((b"WWW-Authenticate", challenge.as_bytes()));
    }
    if status == 405 {
        fields.push((b"Allow", allow.as_bytes()));
    }
    if let Some(seconds) = &retry_after {
        fields.push((b"Retry-After", seconds.as_bytes()));
    }
    write(request, status, content_type, fields, &body, keep_alive, snapshot, shard).await
}

/// Says what failed in the way of gRPC: with success as HTTP has it, and the status among the fields.
async fn refuse_call(
    request: &mut Request<'_>,
    failure: Failure,
    keep_alive: bool,
    snapshot: &Snapshot,
    shard: &Shard,
) -> Result<Sent, IoFault> {
    let status = grpc::status_of(failure.status()).to_string();
    let mut message = Vec::with_capacity(64);
    grpc::push_message(&failure.detail(), &mut message);
    let fields: Vec<(&[u8], &[u8])> = vec![(b"Grpc-Status", status.as_bytes()), (b"Grpc-Message", &message)];
    let sent = write(request, 200, b"application/grpc", fields, b"", keep_alive, snapshot, shard).await?;
    // What the client understands is in the fields; the log says what it means.
    Ok(Sent { status: failure.status(), ..sent })
}

/// Writes the reply for a head that could not be understood, or for a connection there is no room for.
pub(super) async fn refuse_connection(
    writer: &mut Outbound,
    failure: Failure,
    id: &[u8],
    shard: &Shard,
    patience: std::time::Duration,
) -> Result<Sent, IoFault> {
    let (body, content_type) = explain(failure, false, id);
    let retry_after = failure.retry_after().map(|seconds| seconds.to_string());
    let mut fields: Vec<(&[u8], &[u8])> = vec![(b"X-Request-Id", id)];
    if let Some(seconds) = &retry_after {
        fields.push((b"Retry-After", seconds.as_bytes()));
    }
    let reply = reply::Reply {
        status: failure.status(),
        version: crate::http::Version::Http11,
        keep_alive: false,
        head_only: false,
        date: &shard.date(),
        content_type,
        fields: &fields,
        body: &body,
    };
    let head_bytes = writer.reply(&reply, &shard.buffers, patience).await?;
    Ok(Sent { status: failure.status(), body_bytes: body.len() as u64, head_bytes })
}

fn explain(failure: Failure, html: bool, id: &[u8]) -> (Vec<u8>, &'static [u8]) {
    let status = failure.status();
    let mut body = Vec::with_capacity(512);
    if html {
        reply::page(status, reply::reason(status), &failure.detail(), id, &mut body);
        (body, b"text/html; charset=utf-8")
    } else {
        reply::problem(status, reply::reason(status), &failure.detail(), id, &mut body);
        (body, b"application/problem+json")
    }
}

fn allowed(request: &Request<'_>, snapshot: &Snapshot) -> String {
    let view = request.view();
    snapshot.index.allowed(request.client.listener, view.host(), view.path).join(", ")
}

async fn write(
    request: &mut Request<'_>,
    status: u16,
    content_type: &[u8],
    mut fields: Vec<(&[u8], &[u8])>,
    body: &[u8],
    keep_alive: bool,
    snapshot: &Snapshot,
    shard: &Shard,
) -> Result<Sent, IoFault> {
    let (version, head_only) = (request.head.version, request.head.method == Method::Head);
    let (id, writer) = request.id_and_writer();
    fields.push((b"X-Request-Id", id));
    let reply = reply::Reply {
        status,
        version,
        keep_alive,
        head_only,
        date: &shard.date(),
        content_type,
        fields: &fields,
        body,
    };
    let head_bytes = writer.reply(&reply, &shard.buffers, snapshot.limits.body_timeout).await?;
    let bodyless = head_only || matches!(status, 204 | 304);
    let body_bytes = if bodyless { 0 } else { body.len() as u64 };
    Ok(Sent { status, body_bytes, head_bytes })
}
