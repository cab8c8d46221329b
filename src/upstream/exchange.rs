//! One attempt: a request head (and body) out on one connection, a response head in.

use std::{rc::Rc, time::Duration};

use super::{
    Asker, Body, Fault, Request, UploadEnd, Uploaded, Upstreams,
    pool::Connection,
    upload::{self, Uploading},
};
use crate::{
    config::HostHeader,
    http::{BodyLength, Field, Known, ResponseHead, Version, parse_response, rewrite},
    limits::INFORMATIONAL_MAX,
    runtime::{Buffer, IoFault},
    snapshot::Endpoint,
    wire::Inbound,
};

/// An attempt that brought no response.
pub(super) struct Failed {
    pub fault: Fault,
    /// No byte of the request was taken by the connection.
    pub nothing_sent: bool,
    /// What is left of a request body that went with the attempt.
    pub body_gone: Option<Box<Uploaded>>,
}

/// Sends `request` on `connection` and waits for the head of the final response. The connection comes back with it.
pub(super) async fn exchange(
    upstreams: &Rc<Upstreams>,
    endpoint: &Endpoint,
    mut connection: Box<Connection>,
    request: &mut Request<'_>,
) -> Result<Box<Connection>, Failed> {
    let mut writer = connection.writer.take().expect("no body is being streamed before the exchange");
    let sent_before = writer.sent();
    let mut out = upstreams.buffers.small();
    write_head(out.start_writing(), endpoint, request);
    if let Body::Whole(bytes) = &request.body {
        out.extend(bytes);
    }
    let written = writer.write_all(&mut out, request.patience).await;
    upstreams.buffers.give_back(out);
    connection.sent_us = upstreams.timers.clock.now_us();

    // A service may answer and close without reading everything: what it said counts more than that it did not listen.
    let nothing_sent = written.is_err() && writer.sent() == sent_before;
    match &mut request.body {
        Body::Stream(body) if written.is_ok() && body.is_some() => {
            let body = body.take().expect("it was just seen");
            let Upstreams { timers, buffers, .. } = &**upstreams;
            let reader = connection.reader.handle();
            connection.upload = Some(upload::start(*body, writer, reader, request.timeout, timers, buffers));
        }
        Body::Stream(_) | Body::Whole(_) => connection.writer = Some(writer),
    }

    // A client that is gone must not keep the service busy.
    request.asker.pair_with(&connection.reader.handle());
    if !connection.is_read_ahead() {
        connection.buffer = upstreams.buffers.small();
    }
    connection.fields = upstreams.fields();
    let Err(mut fault) = response_head(upstreams, &mut connection, request).await else {
        connection.head_us = upstreams.timers.clock.now_us();
        if let Some(upload) = &connection.upload {
            upload.is_answered();
        }
        // A service that did not get the whole request may take the next one for the rest of it.
        connection.head.keep_alive &= written.is_ok();
        return Ok(connection);
    };
    let mut body_gone = None;
    if let Some(uploaded) = connection.end_upload().await {
        if let UploadEnd::Client(client) = uploaded.end {
            fault = client;
        }
        body_gone = Some(uploaded);
    }
    upstreams.buffers.give_back(std::mem::take(&mut connection.buffer));
    upstreams.give_back_fields(std::mem::take(&mut connection.fields));
    Err(Failed { fault, nothing_sent, body_gone })
}

/// Reads until the head of the final response is complete. Informational ones are passed on to HTTP/1.1 clients.
async fn response_head(
    upstreams: &Upstreams,
    connection: &mut Connection,
    request: &mut Request<'_>,
) -> Result<(), Fault> {
    let clock = &upstreams.timers.clock;
    let in_time = clock.after(request.timeout);
    let mut scanned = 0;
    let mut informational = 0;
    let mut continued = false;
    loop {
        let Connection { buffer, fields, .. } = connection;
        if !buffer.is_empty() {
            let method = request.head.method;
            let parsed = parse_response(buffer.unread_mut(), &mut scanned, method, &request.rules, fields);
            let Ok(head) = parsed else { return Err(Fault::BadResponse) };
            if let Some(head) = head {
                let switched = head.status == 101;
                if switched && !(head.upgrade && switches_as_asked(request, buffer.unread(), fields)) {
                    return Err(Fault::BadResponse);
                }
                if switched || head.status >= 200 {
                    connection.head = head;
                    return Ok(());
                }
                informational += 1;
                if informational > INFORMATIONAL_MAX {
                    return Err(Fault::BadResponse);
                }
                let again = head.status == 100 && std::mem::replace(&mut continued, true);
                if !again {
                    pass_informational(upstreams, &head, buffer, fields, request).await?;
                }
                buffer.consume(head.len);
                scanned = 0;
                continue;
            }
            buffer.reserve(4096);
        }
        // While a body is being sent its progress is watched; the time for the answer starts when it is complete.
        let until = connection.upload.as_ref().map_or(in_time, Uploading::answer_by);
        let Connection { reader, buffer, .. } = connection;
        let read = if let (true, false, Inbound::Ahead(reader)) = (request.expect, continued, &mut *reader) {
            // A service that does not know the expectation waits for the body, and the client for us.
            match reader.read_within(CONTINUE_AFTER, buffer, until).await {
                Some(read) => read,
                None => {
                    continued = true;
                    send_continue(upstreams, request).await?;
                    continue;
                }
            }
        } else {
            reader.read(buffer, until).await
        };
        match read {
            Ok(0) => return Err(Fault::Reset),
            Ok(_) => {}
            Err(IoFault::TooSlow) => return Err(Fault::Timeout),
            Err(IoFault::Broken(_)) => return Err(Fault::Reset),
        }
    }
}

/// How long a client that expects a 100 waits for the service's before it gets ours.
const CONTINUE_AFTER: Duration = Duration::from_millis(500);

pub(super) async fn send_continue(upstreams: &Upstreams, request: &mut Request<'_>) -> Result<(), Fault> {
    let Asker::Client(client) = &mut request.asker else { return Ok(()) };
    let informed = client.inform(100, b"Continue", b"", &[], &upstreams.buffers, request.patience).await;
    informed.map_err(|_| Fault::ClientClosed)
}

/// Whether a 101 names the protocol that was asked for (RFC 9110 §7.8).
fn switches_as_asked(request: &Request<'_>, bytes: &[u8], fields: &[Field]) -> bool {
    let named = fields.iter().find(|field| field.known == Known::Upgrade);
    match (request.upgrade, named) {
        (Some(asked), Some(field)) => field.value.of(bytes).eq_ignore_ascii_case(asked),
        _ => false,
    }
}

pub(super) async fn pass_informational(
    upstreams: &Upstreams,
    head: &ResponseHead,
    buffer: &Buffer,
    fields: &[Field],
    request: &mut Request<'_>,
) -> Result<(), Fault> {
    // RFC 9110 §15.2: never to an HTTP/1.0 client. A 100 that nobody asked for is ours to keep.
    let Asker::Client(client) = &mut request.asker else { return Ok(()) };
    if request.head.version == Version::Http10 || (head.status == 100 && !request.expect) {
        return Ok(());
    }
    let (bytes, buffers, patience) = (buffer.unread(), &upstreams.buffers, request.patience);
    let informed = client.inform(head.status, head.reason.of(bytes), bytes, fields, buffers, patience).await;
    informed.map_err(|_| Fault::ClientClosed)
}

/// The request head as this endpoint gets it.
pub(super) fn write_head(out: &mut Vec<u8>, endpoint: &Endpoint, request: &Request<'_>) {
    let host = match request.host {
        HostHeader::Upstream => Some(endpoint.authority.as_bytes()),
        HostHeader::Client if request.host_differs || request.client_host.is_empty() => {
            // In absolute form the authority replaces Host (RFC 9112 §3.2.2); HTTP/1.0 may have none.
            let absent = request.client_host.is_empty();
            Some(if absent { endpoint.authority.as_bytes() } else { request.client_host })
        }
        HostHeader::Client => None,
    };
    let body = match &request.body {
        Body::Whole(_) => BodyLength::Exact(0),
        Body::Stream(_) => request.head.body,
    };
    rewrite::write_request(
        out,
        &rewrite::Onward {
            bytes: request.bytes,
            fields: request.fields,
            method: request.method,
            extra: request.extra,
            prefix: endpoint.prefix.as_bytes(),
            path: request.path,
            query: request.query,
            host,
            forwarded: rewrite::Forwarded {
                peer: request.peer,
                proto: request.proto,
                host: request.client_host,
                trusted: request.trusted,
                certificate: request.certificate,
            },
            bearer: request.bearer,
            request_id: request.request_id,
            body,
            upgrade: request.upgrade,
            expect: request.expect,
            loop_mark: endpoint.own_listener.and(request.loop_mark),
        },
    );
}
