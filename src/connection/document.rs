//! A document made of parts, on its way to the client.

use super::{Request, local::Sent};
use crate::{
    aggregate::Document,
    http::{Method, reply},
    runtime::IoFault,
    shard::Shard,
    snapshot::Snapshot,
};

/// Sends the head and the slices behind it in one gathered write.
pub(super) async fn send(
    request: &mut Request<'_>,
    document: Document,
    keep_alive: bool,
    snapshot: &Snapshot,
    shard: &Shard,
) -> Result<Sent, IoFault> {
    let Document { status, content_type, is_complete, timing, mut body } = document;
    let length = body.len() as u64;
    let mut head = Vec::with_capacity(512);
    reply::write_status_line(status, &mut head);
    reply::write_field(b"Date", &shard.date(), &mut head);
    if !content_type.is_empty() {
        reply::write_field(b"Content-Type", &content_type, &mut head);
    }
    let mut digits = [0; 20];
    reply::write_field(b"Content-Length", reply::decimal(length, &mut digits), &mut head);
    if let Some(option) = reply::connection_option(request.head.version, keep_alive) {
        reply::write_field(b"Connection", option, &mut head);
    }
    reply::write_field(b"Gateway-Completed", if is_complete { b"true" } else { b"false" }, &mut head);
    if !timing.is_empty() {
        reply::write_field(b"Server-Timing", &timing, &mut head);
    }
    reply::write_field(b"X-Request-Id", request.id(), &mut head);
    head.extend_from_slice(b"\r\n");
    let head_bytes = head.len() as u64;
    let is_bodyless = request.head.method == Method::Head;
    if is_bodyless {
        body.advance(body.len());
    }
    body.put_first(head);
    let written = request.client.writer.write_gathered(&mut body, snapshot.limits.body_timeout).await;
    body.give_back(&shard.buffers);
    written?;
    Ok(Sent { status, body_bytes: if is_bodyless { 0 } else { length }, head_bytes })
}
