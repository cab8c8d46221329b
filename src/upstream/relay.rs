//! A response body on its way to the client: read, framed, written, one buffer at a time.
//!
//! Bodies are passed on as they lie: what was read is what is written, with the reply head or a chunk header put before it in
//! the same buffer. At most one buffer of a body is in memory, so a slow client slows the service down.

use std::time::Duration;

use super::{Connection, UploadEnd, Uploaded, upload::Pace};
use crate::{
    http::{BodyLength, Rules, parse_trailers, rewrite::ReplyFraming},
    runtime::{Buffer, Buffers, IoFault},
    wire::{Outbound, Piece},
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
    /// A streamed request body, once it has ended.
    pub uploaded: Option<Box<Uploaded>>,
}

/// How a response is to be passed on.
pub struct Passing<'a> {
    /// The reply head, written.
    pub head: &'a mut Buffer,
    pub framing: ReplyFraming,
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
    let mut bytes = 0;
    let end = pass_body(&mut response, client, &mut passing, &mut bytes).await;
    let mut uploaded = response.end_upload().await;
    response.settle(end == RelayEnd::Complete, uploaded.as_deref_mut());
    Relayed { end, bytes, uploaded }
}

async fn pass_body(
    response: &mut Connection,
    client: &mut Outbound,
    passing: &mut Passing<'_>,
    bytes: &mut u64,
) -> RelayEnd {
    let upstreams = std::rc::Rc::clone(response.lease().upstreams());
    let (timers, buffers) = (&upstreams.timers, &upstreams.buffers);
    let clock = &timers.clock;
    let mut decoder = response.reader.decoder(response.head.body);
    response.buffer.consume(response.head.len);
    let mut head_waits = true;
    loop {
        let unsendable = if head_waits { RelayEnd::Unsent } else { RelayEnd::Truncated };
        let Connection { buffer, fields, .. } = &mut *response;
        let Ok(decoded) = decoder.decode(buffer.unread_mut()) else { return unsendable };
        let is_last = decoded.finished;
        *bytes += decoded.data.len() as u64;
        let rest = buffer.unread()[decoded.consumed..].to_vec();
        // Two bytes are an empty section.
        let section = decoded.trailers.filter(|section| section.len() > 2);
        let section = section.map(|section| buffer.unread()[section].to_vec());
        if let Some(section) = &section
            && parse_trailers(section, &passing.rules, fields).is_err()
        {
            return unsendable;
        }
        let piece = Piece {
            buffer,
            data: decoded.data,
            is_last,
            trailers: section.as_deref().map(|section| (section, &**fields)),
            head: head_waits.then_some(&mut *passing.head),
            is_chunked: passing.framing == ReplyFraming::Chunked,
        };
        head_waits = false;
        match client.pass(piece, passing.patience).await {
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

        if response.buffer.capacity() < Buffers::LARGE {
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
                if passing.framing != ReplyFraming::Chunked {
                    return RelayEnd::Complete;
                }
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

impl Connection {
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
