//! A request body in one piece, for targets that are no stream: a message, a login.

use super::request::{BodyState, Request};
use crate::{
    failure::{ClientFault, Failure},
    http::{BodyLength, Decoder},
    runtime::IoFault,
    shard::Shard,
    snapshot::{Route, Snapshot},
    upstream::Pace,
};

/// Bytes of a body that are expected where its head does not say how many there are.
const FIRST_GUESS: usize = 4096;

impl Request<'_> {
    /// Reads the body to its end and returns it without its framing: at most the route's `max_body`.
    ///
    /// A client that waits for it is told to go on (RFC 9110 §10.1.1). Fails as a streamed body would: 400, 408, 413.
    pub async fn whole_body(
        &mut self,
        route: &Route,
        snapshot: &Snapshot,
        shard: &Shard,
    ) -> Result<Vec<u8>, Failure> {
        self.check_body_length(route)?;
        let mut decoder = Decoder::new(self.head.body);
        let mut body = Vec::with_capacity(match self.head.body {
            BodyLength::Exact(length) => usize::try_from(length).unwrap_or(usize::MAX),
            BodyLength::Chunked | BodyLength::UntilClose => FIRST_GUESS,
        });
        let mut pace = Pace::new(snapshot.limits.body_timeout, snapshot.limits.body_rate_min);
        let clock = &shard.timers.clock;
        // The head stays where it is, since everything refers to it; what was decoded behind it is dropped at the end.
        let mut done = self.head.len;
        let mut told = !self.head.expect_continue;
        loop {
            let here = &mut self.client.buffer.unread_mut()[done..];
            let decoded = decoder.decode(here).map_err(|bad| Failure::Client(ClientFault::Body(bad)))?;
            body.extend_from_slice(&here[decoded.data]);
            done += decoded.consumed;
            let announced = (body.len() as u64).saturating_add(decoder.announced());
            if announced > route.max_body {
                return Err(Failure::Client(ClientFault::BodyTooLarge));
            }
            if decoded.finished || decoder.is_finished() {
                break;
            }
            if !std::mem::replace(&mut told, true) {
                self.tell_to_go_on(snapshot, shard).await?;
            }
            self.client.buffer.reserve(FIRST_GUESS);
            let before_us = clock.now_us();
            let until = clock.after(pace.patience);
            let reader = self.client.reader.as_mut().expect("the body is not being passed on");
            match reader.read(&mut self.client.buffer, until).await {
                Ok(0) | Err(IoFault::Broken(_)) => return Err(Failure::Client(ClientFault::Closed)),
                Ok(count) if pace.moves(count, clock.now_us() - before_us) => {}
                Ok(_) | Err(IoFault::TooSlow) => return Err(Failure::Client(ClientFault::BodyTooSlow)),
            }
        }
        self.body = BodyState::Whole(done - self.head.len);
        self.facts.bytes_in = body.len() as u64;
        Ok(body)
    }

    async fn tell_to_go_on(&mut self, snapshot: &Snapshot, shard: &Shard) -> Result<(), Failure> {
        let patience = snapshot.limits.body_timeout;
        let told = self.client.writer.inform(100, b"Continue", b"", &[], &shard.buffers, patience).await;
        told.map_err(|_| Failure::Client(ClientFault::Closed))
    }
}
