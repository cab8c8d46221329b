//! A request body on its way to the service, in a task of its own, so that the response can come while it is still sent.
//!
//! The task owns the client's reading half and the service's writing half until it ends; then it gives them back through a
//! gate. It is never dropped in the middle: who wants it to end shuts a socket down.

use std::{rc::Rc, time::Duration};

use super::Fault;
use crate::{
    clock::Tick,
    http::{BodyLength, CHUNK_HEADER_MAX, Decoder, Field, Rules, chunk_header, parse_trailers, rewrite},
    runtime::{Buffer, Buffers, Gate, Idle, IoFault, Reader, StreamHandle, Timers, Writer, spawn},
};

/// A request body that is to be passed on as it arrives.
pub struct Upload {
    pub reader: Reader,
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
    pub reader: Reader,
    /// Bytes behind the body.
    pub buffer: Buffer,
    /// The service's, taken when its connection is kept.
    pub writer: Option<Writer>,
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

/// Starts the upload. `upstream` is told to end when the client fails; when the body is complete its answer is expected
/// within `timeout`. The gate holds `None` after a panic.
pub fn start(
    upload: Upload,
    writer: Writer,
    upstream: StreamHandle,
    timeout: Duration,
    timers: &Rc<Timers>,
    buffers: &Rc<Buffers>,
) -> Gate<Option<Box<Uploaded>>> {
    let gate = Gate::default();
    let (done, broken) = (gate.clone(), gate.clone());
    let (timers, buffers) = (Rc::clone(timers), Rc::clone(buffers));
    let on_panic = upstream.clone();
    spawn(
        async move {
            let uploaded = run(upload, writer, &timers, &buffers).await;
            match uploaded.end {
                UploadEnd::Complete => upstream.expect_until(timers.clock.after(timeout), &timers),
                UploadEnd::Client(_) | UploadEnd::Stopped => upstream.end(),
                UploadEnd::Upstream => {
                    upstream.expect_until(timers.clock.after(timeout.min(PARTING)), &timers)
                }
            }
            done.put(Some(Box::new(uploaded)));
        },
        move |_| {
            on_panic.end();
            broken.put(None);
        },
    );
    gate
}

/// How long an answer is awaited from a service that refuses the rest of the body.
const PARTING: Duration = Duration::from_secs(1);

async fn run(upload: Upload, mut writer: Writer, timers: &Timers, buffers: &Buffers) -> Uploaded {
    let Upload { mut reader, mut buffer, length, bytes_max, mut pace, rules } = upload;
    let mut decoder = Decoder::new(length);
    let mut bytes = 0;
    let mut fields: Vec<Field> = Vec::new();
    let end = loop {
        let decoded = match decoder.decode(buffer.unread_mut()) {
            Ok(decoded) => decoded,
            Err(bad) => break UploadEnd::Client(Fault::BadBody(bad)),
        };
        bytes += decoded.data.len() as u64;
        if bytes.saturating_add(decoder.announced()) > bytes_max {
            break UploadEnd::Client(Fault::BodyTooLarge);
        }

        let rest = buffer.unread()[decoded.consumed..].to_vec();
        let mut suffix = Vec::new();
        let mut header = [0; CHUNK_HEADER_MAX];
        let mut prefix: &[u8] = b"";
        if length == BodyLength::Chunked {
            if !decoded.data.is_empty() {
                let len = chunk_header(decoded.data.len(), &mut header);
                prefix = &header[CHUNK_HEADER_MAX - len..];
                suffix.extend_from_slice(b"\r\n");
            }
            if decoded.finished {
                suffix.extend_from_slice(b"0\r\n");
                match &decoded.trailers {
                    None => suffix.extend_from_slice(b"\r\n"),
                    Some(section) => {
                        let section = &buffer.unread()[section.clone()];
                        if parse_trailers(section, &rules, &mut fields).is_err() {
                            break UploadEnd::Client(Fault::BadBody(crate::http::BadBody::BadTrailers));
                        }
                        rewrite::write_trailers(&mut suffix, section, &fields);
                    }
                }
            }
        }
        let place = buffer
            .frame(decoded.data, prefix, &suffix)
            .expect("a chunk header fits into the headroom of a buffer");
        if writer.write(&mut buffer, place, pace.patience).await.is_err() {
            break UploadEnd::Upstream;
        }
        buffer.clear();
        buffer.extend(&rest);
        if decoded.finished {
            break UploadEnd::Complete;
        }

        if buffer.capacity() < Buffers::LARGE {
            // A body that does not end with its first read deserves fewer, larger ones.
            let mut large = buffers.large();
            large.extend(buffer.unread());
            buffers.give_back(std::mem::replace(&mut buffer, large));
        }
        buffer.reserve(1);
        let before_us = timers.clock.now_us();
        let until = timers.clock.after(pace.patience);
        match reader.read_or_release(&mut buffer, Tick::NEVER, until).await {
            Ok(Idle::Quiet) => break UploadEnd::Stopped,
            Ok(Idle::Bytes(0)) => break UploadEnd::Client(Fault::ClientClosed),
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
