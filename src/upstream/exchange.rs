//! One attempt: a request head (and body) out on one connection, a response head in.

use std::rc::Rc;

use super::{
    Body, Fault, Lease, Request, UploadEnd, Uploaded, Upstreams,
    pool::Connection,
    upload::{self, Upload},
};
use crate::{
    config::HostHeader,
    http::{BodyLength, Field, ResponseHead, Version, parse_response, rewrite},
    limits::INFORMATIONAL_MAX,
    runtime::{Buffer, Gate, IoFault, Reader, StreamHandle, Writer},
    snapshot::Endpoint,
};

/// A response whose head is here and whose body may still be on its way.
pub struct Response {
    pub head: ResponseHead,
    pub fields: Vec<Field>,
    /// The head (`head.len` bytes) and what came behind it.
    pub buffer: Buffer,
    pub lease: Lease,
    pub(super) reader: Reader,
    /// `None` while the request body is still being sent.
    pub(super) writer: Option<Writer>,
    pub(super) open: super::pool::OpenMark,
    /// Where a streamed request body ends up.
    pub(super) upload: Option<Uploading>,
    /// More came than the response, or it ended with its connection.
    pub(super) left_over: bool,
    /// When the request had been sent, and when this head was here (µs of the shard's clock).
    pub sent_us: u64,
    pub head_us: u64,
    /// Attempts it took, this one included.
    pub attempts: u32,
}

/// A streamed request body under way, and the handle of the client's stream.
pub(super) type Uploading = (Gate<Option<Uploaded>>, StreamHandle);

/// An attempt that brought no response.
pub(super) struct Failed {
    pub fault: Fault,
    /// No byte of the request was taken by the connection.
    pub nothing_sent: bool,
    /// Whether the request body went with the attempt and is gone.
    pub body_gone: Option<Uploaded>,
}

/// Sends `request` on `connection` and waits for the head of the final response.
pub(super) async fn exchange(
    upstreams: &Rc<Upstreams>,
    endpoint: &Endpoint,
    lease: Lease,
    connection: Connection,
    request: &mut Request<'_>,
) -> Result<Response, (Failed, Lease)> {
    let (stream, open) = connection.into_parts();
    let (mut reader, mut writer) = (stream.reader, stream.writer);
    let sent_before = writer.sent();

    let mut out = upstreams.buffers.small();
    write_head(out.start_writing(), endpoint, request);
    if let Body::Whole(bytes) = &request.body {
        out.extend(bytes);
    }
    let written = writer.write_all(&mut out, request.patience).await;
    upstreams.buffers.give_back(out);
    let sent_us = upstreams.timers.clock.now_us();

    // A service may answer and close without reading everything: what it said counts more than that it did not listen.
    let nothing_sent = written.is_err() && writer.sent() == sent_before;
    let mut writer = Some(writer);
    let mut upload = None;
    if written.is_ok()
        && let Body::Stream(body) = &mut request.body
        && let Some(body) = body.take()
    {
        let writer = writer.take().expect("the writer was put there above");
        upload = Some(start_upload(upstreams, body, writer, &reader, request));
    }

    let mut buffer = upstreams.buffers.large();
    let mut fields = upstreams.fields();
    match response_head(upstreams, &mut reader, &mut buffer, &mut fields, upload.is_some(), request).await {
        Ok(head) => {
            let head_us = upstreams.timers.clock.now_us();
            let attempts = 0;
            Ok(Response {
                head,
                fields,
                buffer,
                lease,
                reader,
                writer,
                open,
                upload,
                left_over: false,
                sent_us,
                head_us,
                attempts,
            })
        }
        Err(fault) => {
            upstreams.buffers.give_back(buffer);
            upstreams.give_back_fields(fields);
            let mut fault = fault;
            let mut body_gone = None;
            if let Some((gate, client)) = upload {
                // Nobody will answer: the rest of the body is of no use.
                if !gate.is_ready() {
                    reader.handle().end();
                    client.release();
                }
                let uploaded = gate.take().await;
                if let Some(Uploaded { end: UploadEnd::Client(client), .. }) = &uploaded {
                    fault = *client;
                }
                body_gone = uploaded;
            }
            Err((Failed { fault, nothing_sent, body_gone }, lease))
        }
    }
}

fn start_upload(
    upstreams: &Rc<Upstreams>,
    body: Upload,
    writer: Writer,
    reader: &Reader,
    request: &Request<'_>,
) -> Uploading {
    let client = body.reader.handle();
    let gate =
        upload::start(body, writer, reader.handle(), request.timeout, &upstreams.timers, &upstreams.buffers);
    (gate, client)
}

/// Reads until the head of the final response is complete. Informational ones are passed on to HTTP/1.1 clients.
async fn response_head(
    upstreams: &Upstreams,
    reader: &mut Reader,
    buffer: &mut Buffer,
    fields: &mut Vec<Field>,
    uploading: bool,
    request: &mut Request<'_>,
) -> Result<ResponseHead, Fault> {
    let clock = &upstreams.timers.clock;
    // While a body is being sent its progress is watched; the time for the answer starts when it is complete.
    let until = if uploading { crate::clock::Tick::NEVER } else { clock.after(request.timeout) };
    let mut scanned = 0;
    let mut informational = 0;
    loop {
        if !buffer.is_empty() {
            let parsed = parse_response(
                buffer.unread_mut(),
                &mut scanned,
                request.head.method,
                &request.rules,
                fields,
            );
            match parsed {
                Err(_) => return Err(Fault::BadResponse),
                Ok(Some(head)) if head.status == 101 => {
                    let asked = request.upgrade.is_some() && head.upgrade;
                    return if asked { Ok(head) } else { Err(Fault::BadResponse) };
                }
                Ok(Some(head)) if head.status >= 200 => return Ok(head),
                Ok(Some(head)) => {
                    informational += 1;
                    if informational > INFORMATIONAL_MAX {
                        return Err(Fault::BadResponse);
                    }
                    pass_informational(upstreams, &head, buffer, fields, request).await?;
                    buffer.consume(head.len);
                    scanned = 0;
                    continue;
                }
                Ok(None) => {}
            }
            if buffer.len() > request.rules.head_bytes_max {
                return Err(Fault::BadResponse);
            }
            buffer.reserve(4096);
        }
        match reader.read(buffer, until).await {
            Ok(0) => return Err(Fault::Reset),
            Ok(_) => {}
            Err(IoFault::TooSlow) => return Err(Fault::Timeout),
            Err(IoFault::Broken(_)) => return Err(Fault::Reset),
        }
    }
}

async fn pass_informational(
    upstreams: &Upstreams,
    head: &ResponseHead,
    buffer: &Buffer,
    fields: &[Field],
    request: &mut Request<'_>,
) -> Result<(), Fault> {
    // RFC 9110 §15.2: never to an HTTP/1.0 client. A 100 that nobody asked for is ours to keep.
    if request.head.version == Version::Http10 || (head.status == 100 && !request.expect) {
        return Ok(());
    }
    let mut out = upstreams.buffers.small();
    let bytes = buffer.unread();
    rewrite::write_informational(out.start_writing(), head.status, head.reason.of(bytes), bytes, fields);
    let written = request.client.write_all(&mut out, request.patience).await;
    upstreams.buffers.give_back(out);
    written.map_err(|_| Fault::ClientClosed)
}

/// The request head as this endpoint gets it.
fn write_head(out: &mut Vec<u8>, endpoint: &Endpoint, request: &Request<'_>) {
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
            method: request.head.method_text.of(request.bytes),
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
            request_id: request.request_id,
            body,
            upgrade: request.upgrade,
            expect: request.expect,
            loop_mark: endpoint.own_listener.and(request.loop_mark),
        },
    );
}
