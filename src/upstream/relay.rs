//! A response body on its way to the client: read, framed, written, one buffer at a time.
//!
//! Bodies are passed on as they lie: what was read is what is written, with the reply head or a chunk header put before it in
//! the same buffer. At most one buffer of a body is in memory, so a slow client slows the service down.

use std::time::Duration;

use super::{Connection, UploadEnd, Uploaded, upload::Pace};
use crate::{
    http::{
        BodyLength, CHUNK_HEADER_MAX, Decoder, Rules, chunk_header, parse_trailers,
        rewrite::{self, ReplyFraming},
    },
    runtime::{Buffer, Buffers, IoFault, Writer},
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
pub async fn relay(mut response: Box<Connection>, client: &mut Writer, mut passing: Passing<'_>) -> Relayed {
    let mut bytes = 0;
    let end = pass_body(&mut response, client, &mut passing, &mut bytes).await;
    let mut uploaded = response.end_upload().await;
    response.settle(end == RelayEnd::Complete, uploaded.as_deref_mut());
    Relayed { end, bytes, uploaded }
}

async fn pass_body(
    response: &mut Connection,
    client: &mut Writer,
    passing: &mut Passing<'_>,
    bytes: &mut u64,
) -> RelayEnd {
    let upstreams = std::rc::Rc::clone(response.lease().upstreams());
    let (timers, buffers) = (&upstreams.timers, &upstreams.buffers);
    let clock = &timers.clock;
    let mut decoder = Decoder::new(response.head.body);
    response.buffer.consume(response.head.len);
    let mut prefix_waits = true;
    loop {
        let buffer = &mut response.buffer;
        let Ok(decoded) = decoder.decode(buffer.unread_mut()) else {
            return if prefix_waits { RelayEnd::Unsent } else { RelayEnd::Truncated };
        };
        let finished = decoded.finished;
        *bytes += decoded.data.len() as u64;
        let rest = buffer.unread()[decoded.consumed..].to_vec();

        let mut header = [0; CHUNK_HEADER_MAX];
        let mut prefix: &[u8] = b"";
        let mut suffix: &[u8] = b"";
        let mut trailing = Vec::new();
        if passing.framing == ReplyFraming::Chunked {
            if !decoded.data.is_empty() {
                let len = chunk_header(decoded.data.len(), &mut header);
                prefix = &header[CHUNK_HEADER_MAX - len..];
                suffix = b"\r\n";
            }
            if finished {
                suffix = match (&decoded.trailers, decoded.data.is_empty()) {
                    (None, false) => b"\r\n0\r\n\r\n",
                    (None, true) => b"0\r\n\r\n",
                    (Some(section), _) => {
                        trailing.extend_from_slice(suffix);
                        trailing.extend_from_slice(b"0\r\n");
                        let section = &buffer.unread()[section.clone()];
                        if parse_trailers(section, &passing.rules, &mut response.fields).is_err() {
                            return if prefix_waits { RelayEnd::Unsent } else { RelayEnd::Truncated };
                        }
                        rewrite::write_trailers(&mut trailing, section, &response.fields);
                        &trailing
                    }
                };
            }
        }
        if prefix_waits {
            passing.head.vec().extend_from_slice(prefix);
            prefix = passing.head.unread();
        }

        let written = if prefix_waits && decoded.data.is_empty() && suffix.is_empty() {
            let place = passing.head.place(0..passing.head.len());
            client.write(passing.head, place, passing.patience).await
        } else {
            match buffer.frame(decoded.data.clone(), prefix, suffix) {
                Some(place) => client.write(buffer, place, passing.patience).await,
                None => {
                    // An unusually long head goes alone.
                    let body = buffer.place(decoded.data.start..decoded.data.end + suffix.len());
                    let place = passing.head.place(0..passing.head.len());
                    match client.write(passing.head, place, passing.patience).await {
                        Ok(()) => client.write(buffer, body, passing.patience).await,
                        fault => fault,
                    }
                }
            }
        };
        prefix_waits = false;
        match written {
            Ok(()) => {}
            Err(IoFault::TooSlow) => return RelayEnd::ClientTooSlow,
            Err(IoFault::Broken(_)) => return RelayEnd::ClientGone,
        }
        response.buffer.clear();
        response.buffer.extend(&rest);
        if finished {
            response.left_over = !rest.is_empty();
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
                return end_of_body(client, passing).await;
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

/// Tells the client that a body which ended with its connection has ended.
async fn end_of_body(client: &mut Writer, passing: &mut Passing<'_>) -> RelayEnd {
    if passing.framing != ReplyFraming::Chunked {
        return RelayEnd::Complete;
    }
    let out = passing.head.start_writing();
    out.extend_from_slice(b"0\r\n\r\n");
    match client.write_all(passing.head, passing.patience).await {
        Ok(()) => RelayEnd::Complete,
        Err(IoFault::TooSlow) => RelayEnd::ClientTooSlow,
        Err(IoFault::Broken(_)) => RelayEnd::ClientGone,
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
