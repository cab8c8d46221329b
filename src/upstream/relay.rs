//! A response body on its way to the client: read, framed, written, one buffer at a time.
//!
//! Bodies are passed on as they lie: what was read is what is written, with the reply head or a chunk header put before it in
//! the same buffer. At most one buffer of a body is in memory, so a slow client slows the service down.

use std::time::Duration;

use super::{Connection, UploadEnd, Uploaded, upload::Pace};
use crate::{
    http::{
        BadHead, BodyLength, Rules,
        h2::Message,
        parse_trailers, reply,
        rewrite::{self, ConnectionField, ReplyFraming},
    },
    runtime::{Buffer, Buffers, IoFault},
    wire::{Inbound, Outbound, Piece},
};

/// How passing a response on ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayEnd {
    /// The client has all of it.
    Complete,
    /// The service broke off; the client must see a broken message.
    Truncated,
    /// The body was malformed before anything was sent: another reply can still be given.
    Unsent,
    /// The service made no progress.
    Stalled,
    /// The client went away, or does not read.
    ClientGone,
    ClientTooSlow,
}

/// What is left when a response has been passed on.
pub struct Relayed {
    pub end: RelayEnd,
    /// Body bytes sent to the client.
    pub bytes: u64,
    /// Bytes of the reply head, as far as they are known.
    pub head_bytes: u64,
    /// A streamed request body, once it has ended.
    pub uploaded: Option<Box<Uploaded>>,
}

/// How a response is to be passed on.
pub struct Passing<'a> {
    pub framing: ReplyFraming,
    /// What the head says about the connection, the request and the time.
    pub connection: ConnectionField<'a>,
    pub request_id: &'a [u8],
    pub date: &'a [u8],
    /// Towards the client.
    pub patience: Duration,
    /// Of the service.
    pub pace: Pace,
    pub rules: Rules,
}

/// Sends the reply head and the body of `response` to `client`. Gives the upstream connection back to the pool when the
/// response ended where it should.
pub async fn relay(
    mut response: Box<Connection>,
    client: &mut Outbound,
    mut passing: Passing<'_>,
) -> Relayed {
    let mut relayed = Relayed { end: RelayEnd::Complete, bytes: 0, head_bytes: 0, uploaded: None };
    relayed.end = pass_body(&mut response, client, &mut passing, &mut relayed).await;
    relayed.uploaded = response.end_upload().await;
    response.settle(relayed.end == RelayEnd::Complete, relayed.uploaded.as_deref_mut());
    relayed
}

async fn pass_body(
    response: &mut Connection,
    client: &mut Outbound,
    passing: &mut Passing<'_>,
    relayed: &mut Relayed,
) -> RelayEnd {
    let upstreams = std::rc::Rc::clone(response.lease().upstreams());
    let (timers, buffers) = (&upstreams.timers, &upstreams.buffers);
    let clock = &timers.clock;
    let mut decoder = response.reader.decoder(response.head.body);
    // Of the head, until it is written.
    let mut head_len = response.head.len;
    let mut head_waits = true;
    loop {
        let unsendable = if head_waits { RelayEnd::Unsent } else { RelayEnd::Truncated };
        if response.reader.is_at_end() && decoder.end_of_stream().is_err() {
            return unsendable;
        }
        let Ok(decoded) = decoder.decode(&mut response.buffer.unread_mut()[head_len..]) else {
            return unsendable;
        };
        let is_last = decoded.finished;
        relayed.bytes += decoded.data.len() as u64;
        let behind_head = &response.buffer.unread()[head_len..];
        let rest = behind_head[decoded.consumed..].to_vec();
        let section = decoded.trailers.map(|section| &behind_head[section]);
        let Ok(trailers) = section_of(section, is_last, &mut response.reader, &passing.rules) else {
            return unsendable;
        };
        let mut head = None;
        if head_waits {
            head_waits = false;
            let ends = is_last && decoded.data.is_empty() && trailers.is_none();
            head = write_head(response, client, passing, ends);
            relayed.head_bytes = head.as_ref().map_or(0, |head| head.len() as u64);
            response.buffer.consume(head_len);
            head_len = 0;
        }
        let piece = Piece {
            buffer: &mut response.buffer,
            data: decoded.data,
            is_last,
            trailers: trailers.as_ref().map(|trailers| (&*trailers.bytes, &*trailers.fields)),
            head: head.as_mut(),
            is_chunked: passing.framing == ReplyFraming::Chunked,
        };
        let passed = client.pass(piece, passing.patience).await;
        if let Some(head) = head {
            buffers.give_back(head);
        }
        match passed {
            Ok(()) => {}
            Err(IoFault::TooSlow) => return RelayEnd::ClientTooSlow,
            Err(IoFault::Broken(_)) => return RelayEnd::ClientGone,
        }
        response.buffer.clear();
        response.buffer.extend(&rest);
        if is_last {
            response.left_over |= !rest.is_empty();
            return RelayEnd::Complete;
        }

        if response.buffer.capacity() < Buffers::LARGE && response.reader.fills_large_buffers() {
            // A body that does not end with its first read deserves fewer, larger ones.
            let mut large = buffers.large();
            large.extend(response.buffer.unread());
            buffers.give_back(std::mem::replace(&mut response.buffer, large));
            response.large = true;
        }
        response.buffer.reserve(1);
        let before_us = clock.now_us();
        match response.reader.read(&mut response.buffer, clock.after(passing.pace.patience)).await {
            Ok(0) => {
                // A connection that we ended, because its upload failed, does not end a body.
                if decoder.end_of_stream().is_err() || response.reader.handle().was_ended() {
                    return RelayEnd::Truncated;
                }
                response.left_over = true; // Ended with the connection: nothing to keep.
            }
            Ok(count) => {
                if !passing.pace.moves(count, clock.now_us() - before_us) {
                    return RelayEnd::Stalled;
                }
            }
            Err(IoFault::TooSlow) => return RelayEnd::Stalled,
            Err(IoFault::Broken(_)) => return RelayEnd::Truncated,
        }
    }
}

/// Writes the reply head: into a buffer that is to leave with the first piece, or at once where that is not yet a send.
fn write_head(
    response: &Connection,
    client: &mut Outbound,
    passing: &Passing<'_>,
    ends: bool,
) -> Option<Buffer> {
    let head = response.reply_head(passing.framing, passing.connection, passing.request_id, passing.date);
    match client {
        Outbound::Socket(_) => {
            let mut buffer = response.lease().upstreams().buffers.small();
            rewrite::write_reply(buffer.start_writing(), &head);
            Some(buffer)
        }
        Outbound::Exchange(outgoing) => {
            // When nobody is there to get it, the first piece says so.
            outgoing.respond(head.status, ends, |out| {
                rewrite::each_reply_field(&head, |name, value| out.field(name, value));
            });
            None
        }
    }
}

/// The trailers that come with a piece: in `section`, or beside the body.
pub(super) fn section_of(
    section: Option<&[u8]>,
    is_last: bool,
    reader: &mut Inbound,
    rules: &Rules,
) -> Result<Option<Message>, BadHead> {
    match section {
        // An empty one.
        Some([_, _]) => Ok(None),
        Some(section) => {
            let mut trailers = Message { bytes: section.to_vec(), fields: Vec::new() };
            parse_trailers(section, rules, &mut trailers.fields)?;
            Ok(Some(trailers))
        }
        None if is_last => Ok(reader.take_trailers()),
        None => Ok(None),
    }
}

impl Connection {
    /// The head as the client is to get it.
    pub fn reply_head<'a>(
        &'a self,
        framing: ReplyFraming,
        connection: ConnectionField<'a>,
        request_id: &'a [u8],
        date: &'a [u8],
    ) -> rewrite::Return<'a> {
        let bytes = self.buffer.unread();
        let reason = match self.head.reason.of(bytes) {
            [] => reply::reason(self.head.status).as_bytes(),
            reason => reason,
        };
        rewrite::Return {
            bytes,
            fields: &self.fields,
            status: self.head.status,
            reason,
            framing,
            connection,
            request_id: Some(request_id),
            date,
        }
    }

    /// How the body is framed towards a client of this version.
    pub fn framing(&self, http10: bool) -> ReplyFraming {
        match self.head.body {
            BodyLength::Exact(_) => ReplyFraming::AsReceived,
            BodyLength::Chunked | BodyLength::UntilClose if http10 => ReplyFraming::UntilClose,
            BodyLength::Chunked | BodyLength::UntilClose => ReplyFraming::Chunked,
        }
    }

    /// Whether the request body is still being sent.
    pub fn is_early(&self) -> bool {
        self.upload.as_ref().is_some_and(|upload| !upload.has_ended())
    }

    /// Waits for the end of a streamed request body; one that goes on is stopped.
    pub(super) async fn end_upload(&mut self) -> Option<Box<Uploaded>> {
        let upload = self.upload.take()?;
        upload.end(&self.reader.handle()).await
    }

    /// Puts the connection back into the pool if it is at a message boundary, and gives the buffers back.
    pub(super) fn settle(mut self: Box<Self>, complete: bool, uploaded: Option<&mut Uploaded>) {
        let upstreams = std::rc::Rc::clone(self.lease().upstreams());
        upstreams.buffers.give_back(std::mem::take(&mut self.buffer));
        upstreams.give_back_fields(std::mem::take(&mut self.fields));
        if let Some(uploaded) = uploaded
            && uploaded.end == UploadEnd::Complete
        {
            self.writer = uploaded.writer.take();
        }
        if complete && self.head.keep_alive && !self.left_over && self.writer.is_some() {
            upstreams.keep(self);
        }
    }

    /// Gives up an exchange: the connection ends.
    pub fn discard(mut self: Box<Self>) {
        let Some(lease) = &self.lease else { return };
        let upstreams = std::rc::Rc::clone(lease.upstreams());
        upstreams.buffers.give_back(std::mem::take(&mut self.buffer));
        upstreams.give_back_fields(std::mem::take(&mut self.fields));
    }
}
