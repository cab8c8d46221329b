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
    let id = request.id().to_vec();
    let length = body.len() as u64;
    let completed: &[u8] = if is_complete { b"true" } else { b"false" };
    let mut fields: Vec<(&[u8], &[u8])> = vec![(b"Gateway-Completed", completed)];
    if !timing.is_empty() {
        fields.push((b"Server-Timing", &timing));
    }
    fields.push((b"X-Request-Id", &id));
    let head_only = request.head.method == Method::Head;
    let reply = reply::Reply {
        status,
        version: request.head.version,
        keep_alive,
        head_only,
        date: &shard.date(),
        content_type: &content_type,
        fields: &fields,
        body: b"",
    };
    let patience = snapshot.limits.body_timeout;
    let written = request.client.writer.reply_gathered(&reply, &mut body, patience).await;
    body.give_back(&shard.buffers);
    Ok(Sent { status, body_bytes: if head_only { 0 } else { length }, head_bytes: written? })
}
