//! A request body on its way to the service, in a task of its own, so that the response can come while it is still sent.
//!
//! The task owns the client's reading half and the service's writing half until it ends; then it gives them back through a
//! gate. It is never dropped in the middle: who wants it to end shuts a socket down.

use std::{cell::Cell, rc::Rc, time::Duration};

use super::{Fault, relay::section_of};
use crate::{
    clock::Tick,
    http::{BadBody, BodyLength, Decoder, Rules},
    runtime::{Buffer, Buffers, Gate, Idle, IoFault, Timers, spawn},
    wire::{Handle, Inbound, Outbound, Piece},
};

/// A request body that is to be passed on as it arrives.
pub struct Upload {
    pub reader: Inbound,
    /// What has arrived of it; after the end, what belongs to the next request.
    pub buffer: Buffer,
    pub length: BodyLength,
    /// The route's `max_body`.
    pub bytes_max: u64,
    pub pace: Pace,
    pub rules: Rules,
}

/// How a body must move on.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The longest wait for a byte; `Duration::MAX` where quiet is normal.
    pub patience: Duration,
    /// Bytes a second, over every `patience` of waiting after the first.
    pub rate_min: u64,
    waited_us: u64,
    bytes: u64,
    first: bool,
}

impl Pace {
    pub fn new(patience: Duration, rate_min: u64) -> Self {
        Self { patience, rate_min, waited_us: 0, bytes: 0, first: true }
    }

    /// Notes that `bytes` came after a wait. False when the body is too slow.
    pub fn moves(&mut self, bytes: usize, waited_us: u64) -> bool {
        self.waited_us += waited_us;
        self.bytes += bytes as u64;
        let window_us = u64::try_from(self.patience.as_micros()).unwrap_or(u64::MAX);
        if self.waited_us < window_us {
            return true;
        }
        let least = u128::from(self.rate_min) * u128::from(self.waited_us) / 1_000_000;
        let enough = self.first || u128::from(self.bytes) >= least;
        (self.waited_us, self.bytes, self.first) = (0, 0, false);
        enough
    }
}

/// What an upload gives back.
pub struct Uploaded {
    pub reader: Inbound,
    /// Bytes behind the body.
    pub buffer: Buffer,
    /// The service's, taken when its connection is kept.
    pub writer: Option<Outbound>,
    /// Where in the body the upload stands.
    pub decoder: Decoder,
    pub end: UploadEnd,
    /// Body bytes received, without framing.
    pub bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadEnd {
    /// The service has the whole body.
    Complete,
    /// The client's side failed: it is its fault, whatever the service says now.
    Client(Fault),
    /// The service does not take any more. It may have answered already.
    Upstream,
    /// The answer was complete before the body was.
    Stopped,
}

/// An upload under way.
pub(super) struct Uploading {
    /// Holds `None` after a panic.
    gate: Gate<Option<Box<Uploaded>>>,
    watch: Rc<Watch>,
}

/// What an upload and who waits for the answer know of each other.
struct Watch {
    client: Handle,
    /// Nobody wants the rest of the body.
    stopped: Cell<bool>,
    /// The response head is still awaited.
    awaited: Cell<bool>,
    /// When it must be here; `NEVER` while the body is being sent.
    answer_by: Cell<Tick>,
}

impl Uploading {
    pub(super) fn has_ended(&self) -> bool {
        self.gate.is_ready()
    }

    /// When the response head must be here. Ask before every read: it changes when the upload ends.
    pub(super) fn answer_by(&self) -> Tick {
        self.watch.answer_by.get()
    }

    /// The response head is here; what follows it has deadlines of its own.
    pub(super) fn is_answered(&self) {
        self.watch.awaited.set(false);
    }

    /// Waits for the end of the upload. When there is an answer already, the rest of the body is of no use to the service: the
    /// upload is stopped where it stands, and its connection with it.
    pub(super) async fn end(self, upstream: &Handle) -> Option<Box<Uploaded>> {
        if !self.has_ended() {
            // Two ways, because it may be at either of two waits, or between them.
            upstream.end();
            self.watch.stopped.set(true);
            self.watch.client.release();
        }
        self.gate.take().await
    }
}

/// Starts the upload. `upstream` is told to end when the client fails; when the body is complete its answer is expected
/// within `timeout`.
pub(super) fn start(
    upload: Upload,
    writer: Outbound,
    upstream: Handle,
    timeout: Duration,
    timers: &Rc<Timers>,
    buffers: &Rc<Buffers>,
) -> Uploading {
    let gate = Gate::default();
    let watch = Rc::new(Watch {
        client: upload.reader.handle(),
        stopped: Cell::new(false),
        awaited: Cell::new(true),
        answer_by: Cell::new(Tick::NEVER),
    });
    let (done, broken, watched) = (gate.clone(), gate.clone(), Rc::clone(&watch));
    let (timers, buffers) = (Rc::clone(timers), Rc::clone(buffers));
    let on_panic = upstream.clone();
    spawn(
        async move {
            let uploaded = run(upload, writer, &watched, &timers, &buffers).await;
            timers.clock.now_us();
            let answer_by = match uploaded.end {
                UploadEnd::Complete => timers.clock.after(timeout),
                UploadEnd::Upstream => timers.clock.after(timeout.min(PARTING)),
                UploadEnd::Client(_) | UploadEnd::Stopped => {
                    upstream.end();
                    Tick::NEVER
                }
            };
            watched.answer_by.set(answer_by);
            if watched.awaited.get() {
                upstream.expect_until(answer_by, &timers);
            }
            done.put(Some(Box::new(uploaded)));
        },
        move |_| {
            on_panic.end();
            broken.put(None);
        },
    );
    Uploading { gate, watch }
}

/// How long an answer is awaited from a service that refuses the rest of the body.
const PARTING: Duration = Duration::from_secs(1);

async fn run(
    upload: Upload,
    mut writer: Outbound,
    watch: &Watch,
    timers: &Timers,
    buffers: &Buffers,
) -> Uploaded {
    let Upload { mut reader, mut buffer, length, bytes_max, mut pace, rules } = upload;
    let mut decoder = reader.decoder(length);
    let mut bytes = 0;
    let end = loop {
        if reader.is_at_end() && decoder.end_of_stream().is_err() {
            break UploadEnd::Client(Fault::ClientClosed);
        }
        let decoded = match decoder.decode(buffer.unread_mut()) {
            Ok(decoded) => decoded,
            Err(bad) => break UploadEnd::Client(Fault::BadBody(bad)),
        };
        bytes += decoded.data.len() as u64;
        if bytes.saturating_add(decoder.announced()) > bytes_max {
            break UploadEnd::Client(Fault::BodyTooLarge);
        }

        let rest = buffer.unread()[decoded.consumed..].to_vec();
        let section = decoded.trailers.map(|section| &buffer.unread()[section]);
        let Ok(trailers) = section_of(section, decoded.finished, &mut reader, &rules) else {
            break UploadEnd::Client(Fault::BadBody(BadBody::BadTrailers));
        };
        let piece = Piece {
            buffer: &mut buffer,
            data: decoded.data,
            is_last: decoded.finished,
            trailers: trailers.as_ref().map(|trailers| (&*trailers.bytes, &*trailers.fields)),
            head: None,
            is_chunked: length == BodyLength::Chunked,
        };
        let written = writer.pass(piece, pace.patience).await;
        // Also when that failed: what the decoder has dealt with must not be there for it a second time.
        buffer.clear();
        buffer.extend(&rest);
        if written.is_err() {
            break UploadEnd::Upstream;
        }
        if decoded.finished {
            break UploadEnd::Complete;
        }

        if buffer.capacity() < Buffers::LARGE && reader.fills_large_buffers() {
            // A body that does not end with its first read deserves fewer, larger ones.
            let mut large = buffers.large();
            large.extend(buffer.unread());
            buffers.give_back(std::mem::replace(&mut buffer, large));
        }
        if watch.stopped.get() {
            break UploadEnd::Stopped;
        }
        buffer.reserve(1);
        let before_us = timers.clock.now_us();
        let until = timers.clock.after(pace.patience);
        match reader.read_unless_released(&mut buffer, until).await {
            Ok(Idle::Quiet) => break UploadEnd::Stopped,
            Ok(Idle::Bytes(0)) if !reader.is_at_end() => break UploadEnd::Client(Fault::ClientClosed),
            Ok(Idle::Bytes(count)) => {
                if !pace.moves(count, timers.clock.now_us() - before_us) {
                    break UploadEnd::Client(Fault::ClientTooSlow);
                }
            }
            Err(IoFault::TooSlow) => break UploadEnd::Client(Fault::ClientTooSlow),
            Err(IoFault::Broken(_)) => break UploadEnd::Client(Fault::ClientClosed),
        }
    };
    Uploaded { reader, buffer, writer: Some(writer), decoder, end, bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_under_the_least_rate_is_too_slow_after_the_first_window() {
        let second = 1_000_000;
        let mut pace = Pace::new(Duration::from_secs(15), 1000);
        assert!(pace.moves(1, 14 * second));
        assert!(pace.moves(1, 2 * second), "the first window is free");
        assert!(pace.moves(15_000, 15 * second));
        assert!(!pace.moves(14_000, 15 * second));
    }

    #[test]
    fn waiting_for_the_other_side_does_not_count() {
        let mut pace = Pace::new(Duration::from_secs(15), 1000);
        for _ in 0..1000 {
            assert!(pace.moves(1, 10));
        }
    }
}
