//! A response body as a whole, in the buffer it was read into.
//!
//! A body that fits the buffer of its head stays where it is. One that does not goes on in a larger buffer, of its own length where that
//! is known; what had come before that is moved, once, and the connection remembers to begin with a large buffer next time.

use super::{Connection, Upstreams};
use crate::{
    clock::Tick,
    http::{BodyLength, Decoder},
    runtime::{Buffer, Buffers, IoFault},
};

/// A response body: the unread bytes of `buffer`.
pub struct Collected {
    pub buffer: Buffer,
    /// Bytes that were moved from one buffer to another meanwhile.
    pub moved: usize,
}

/// Why there is no whole body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBody {
    /// More than was asked for.
    TooLarge,
    /// It broke off.
    Truncated,
    Malformed,
    TooSlow,
}

/// Reads the body of `response` to its end, and gives its connection back to the pool. It has to be there by `until` and have at most
/// `bytes_max` bytes; what comes beyond that is not read.
pub async fn collect(
    mut response: Box<Connection>,
    bytes_max: usize,
    until: Tick,
) -> Result<Collected, NoBody> {
    let upstreams = std::rc::Rc::clone(response.lease().upstreams());
    let mut body = Body { buffer: std::mem::take(&mut response.buffer), end: 0, moved: 0 };
    body.buffer.consume(response.head.len);
    let read = match response.head.body {
        BodyLength::Exact(length) => match usize::try_from(length).ok().filter(|length| *length <= bytes_max)
        {
            Some(length) => exactly(length, &mut response, &mut body, &upstreams, until).await,
            None => Err(NoBody::TooLarge),
        },
        BodyLength::Chunked => chunks(bytes_max, &mut response, &mut body, &upstreams, until).await,
        BodyLength::UntilClose => to_the_end(bytes_max, &mut response, &mut body, &upstreams, until).await,
    };
    response.settle(read.is_ok(), None);
    match read {
        Ok(()) => Ok(Collected { buffer: body.buffer, moved: body.moved }),
        Err(why) => {
            upstreams.buffers.give_back(body.buffer);
            Err(why)
        }
    }
}

/// A body on its way in.
struct Body {
    /// Its first `end` unread bytes are the body, what follows has not been looked at.
    buffer: Buffer,
    end: usize,
    moved: usize,
}

async fn exactly(
    length: usize,
    response: &mut Connection,
    body: &mut Body,
    upstreams: &Upstreams,
    until: Tick,
) -> Result<(), NoBody> {
    if body.buffer.len() < length {
        body.make_room(length - body.buffer.len(), length, response, upstreams);
    }
    while body.buffer.len() < length {
        if read(response, &mut body.buffer, until).await? == 0 {
            return Err(NoBody::Truncated);
        }
    }
    // Bytes behind it belong to no response.
    response.left_over = body.buffer.len() > length;
    body.buffer.truncate(length);
    Ok(())
}

async fn chunks(
    bytes_max: usize,
    response: &mut Connection,
    body: &mut Body,
    upstreams: &Upstreams,
    until: Tick,
) -> Result<(), NoBody> {
    let mut decoder = Decoder::new(BodyLength::Chunked);
    loop {
        let raw = &mut body.buffer.unread_mut()[body.end..];
        let decoded = decoder.decode(raw).map_err(|_| NoBody::Malformed)?;
        let (data, consumed) = (decoded.data, decoded.consumed);
        if body.end == 0 && !data.is_empty() {
            // The first data stays where it is: the body begins there.
            let rest = consumed - data.end;
            body.buffer.consume(data.start);
            body.end = data.len();
            body.buffer.remove(body.end..body.end + rest);
        } else {
            body.buffer.remove(body.end + data.end..body.end + consumed);
            body.buffer.remove(body.end..body.end + data.start);
            body.end += data.len();
        }
        let announced = usize::try_from(decoder.announced()).unwrap_or(usize::MAX);
        if body.end.saturating_add(announced) > bytes_max {
            return Err(NoBody::TooLarge);
        }
        if decoded.finished {
            response.left_over = body.buffer.len() > body.end;
            body.buffer.truncate(body.end);
            return Ok(());
        }
        let wanted = announced.clamp(4096, bytes_max.max(4096));
        body.make_room(1, body.buffer.len() + wanted, response, upstreams);
        if read(response, &mut body.buffer, until).await? == 0 {
            return Err(NoBody::Truncated);
        }
    }
}

async fn to_the_end(
    bytes_max: usize,
    response: &mut Connection,
    body: &mut Body,
    upstreams: &Upstreams,
    until: Tick,
) -> Result<(), NoBody> {
    response.left_over = true; // It ends with the connection: nothing to keep.
    loop {
        if body.buffer.len() > bytes_max {
            return Err(NoBody::TooLarge);
        }
        body.make_room(1, body.buffer.len() * 2, response, upstreams);
        if read(response, &mut body.buffer, until).await? == 0 {
            // A connection that we ended ourselves does not end a body.
            let is_ours = response.reader.handle().was_ended();
            return if is_ours { Err(NoBody::Truncated) } else { Ok(()) };
        }
    }
}

impl Body {
    /// Makes room for `count` bytes more, in another buffer if need be: one for `whole` bytes.
    fn make_room(&mut self, count: usize, whole: usize, response: &mut Connection, upstreams: &Upstreams) {
        if self.buffer.room() >= count {
            return;
        }
        let whole = whole.max(self.buffer.len() + count);
        let large = &upstreams.buffers;
        let mut larger = if whole <= Buffers::LARGE {
            large.large()
        } else {
            // Twice as much each time, where the length is not known.
            Buffer::with_capacity(whole.max(self.buffer.len() * 2))
        };
        larger.extend(self.buffer.unread());
        self.moved += self.buffer.len();
        upstreams.buffers.give_back(std::mem::replace(&mut self.buffer, larger));
        response.large = true;
    }
}

async fn read(response: &mut Connection, buffer: &mut Buffer, until: Tick) -> Result<usize, NoBody> {
    match response.reader.read(buffer, until).await {
        Ok(count) => Ok(count),
        Err(IoFault::TooSlow) => Err(NoBody::TooSlow),
        Err(IoFault::Broken(_)) => Err(NoBody::Truncated),
    }
}
