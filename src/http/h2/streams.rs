//! The exchanges of one connection: their states and windows (RFC 9113 §5.1, §5.2).

use super::Stream;
use crate::http::Method;

/// How far one direction of an exchange is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The head has not come, or gone, yet.
    Head,
    /// Data may follow.
    Body,
    Ended,
}

/// Whether a stream has data to send that could not go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    No,
    /// In line, for its turn or for the connection's window.
    Line,
    /// For its own window.
    Window,
}

/// One exchange. A window is below zero when the peer has made it smaller after it was used (RFC 9113 §6.9.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    pub(super) local: Side,
    pub(super) remote: Side,
    pub(super) waiting: Waiting,
    /// What we may send.
    pub(super) send_window: i64,
    /// What the peer may send.
    pub(super) receive_window: i64,
    /// Received, not yet released.
    pub(super) held: u32,
    /// Released, not yet offered to the peer again.
    pub(super) returned: u32,
    /// Body bytes that are still to come, where that was announced.
    pub(super) expected: Option<u64>,
    /// Of the request, where a response is read by it.
    pub(super) method: Method,
}

/// Exchanges by slot. Few enough that a frame's stream is found by looking through the identifiers, which lie side by side.
pub(super) struct Streams {
    /// 0 = free.
    ids: Vec<u32>,
    exchanges: Vec<Exchange>,
    free: Vec<u16>,
    /// The slot of the last frame, mostly that of the next one, too.
    recent: usize,
}

impl Streams {
    pub(super) const fn new() -> Self {
        Self { ids: Vec::new(), exchanges: Vec::new(), free: Vec::new(), recent: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len() - self.free.len()
    }

    /// The slot of this identifier.
    #[inline]
    pub(super) fn find(&mut self, id: u32) -> Option<Stream> {
        if self.ids.get(self.recent) != Some(&id) {
            self.recent = self.ids.iter().position(|known| *known == id)?;
        }
        Some(Stream { id, slot: u16::try_from(self.recent).ok()? })
    }

    #[inline]
    pub(super) fn exchange(&mut self, stream: Stream) -> Option<&mut Exchange> {
        let slot = usize::from(stream.slot);
        (self.ids.get(slot) == Some(&stream.id)).then(|| &mut self.exchanges[slot])
    }

    pub(super) fn peek(&self, stream: Stream) -> Option<&Exchange> {
        let slot = usize::from(stream.slot);
        (self.ids.get(slot) == Some(&stream.id)).then(|| &self.exchanges[slot])
    }

    /// Adds an exchange in the lowest slot that was freed last.
    pub(super) fn add(&mut self, id: u32, exchange: Exchange) -> Stream {
        if let Some(slot) = self.free.pop() {
            self.ids[usize::from(slot)] = id;
            self.exchanges[usize::from(slot)] = exchange;
            return Stream { id, slot };
        }
        let slot = u16::try_from(self.ids.len()).expect("streams_max fits");
        self.ids.push(id);
        self.exchanges.push(exchange);
        Stream { id, slot }
    }

    pub(super) fn remove(&mut self, stream: Stream) -> Option<Exchange> {
        let exchange = *self.exchange(stream)?;
        self.ids[usize::from(stream.slot)] = 0;
        self.free.push(stream.slot);
        Some(exchange)
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = (Stream, &mut Exchange)> {
        let numbered = (0..).zip(self.ids.iter()).zip(self.exchanges.iter_mut());
        numbered
            .filter(|((_, id), _)| **id != 0)
            .map(|((slot, id), exchange)| (Stream { id: *id, slot }, exchange))
    }
}

/// How a stream that is gone went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// By our reset: what the peer sent before it knew is ignored (RFC 9113 §5.4.2).
    Dropped,
    /// To its end, or by the peer's reset.
    Ended,
}

/// The streams that went last.
pub(super) struct History {
    /// The identifier; the highest bit marks those that were dropped.
    ids: [u32; HISTORY],
    next: usize,
}

/// More than can be on their way at once, unless a peer opens far more than it may.
const HISTORY: usize = 128;
const DROPPED: u32 = 1 << 31;

impl History {
    pub(super) const fn new() -> Self {
        Self { ids: [0; HISTORY], next: 0 }
    }

    pub(super) fn add(&mut self, id: u32, past: Past) {
        self.ids[self.next] = if past == Past::Dropped { id | DROPPED } else { id };
        self.next = (self.next + 1) % HISTORY;
    }

    /// `None`: too long ago, or never there.
    pub(super) fn find(&self, id: u32) -> Option<Past> {
        let found = self.ids.iter().find(|entry| **entry & !DROPPED == id)?;
        Some(if found & DROPPED != 0 { Past::Dropped } else { Past::Ended })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXCHANGE: Exchange = Exchange {
        local: Side::Head,
        remote: Side::Head,
        waiting: Waiting::No,
        send_window: 0,
        receive_window: 0,
        held: 0,
        returned: 0,
        expected: None,
        method: Method::Get,
    };

    #[test]
    fn a_slot_is_used_again_and_an_old_handle_is_dead() {
        let mut streams = Streams::new();
        let [one, three] = [1, 3].map(|id| streams.add(id, EXCHANGE));
        assert_eq!((one.slot, three.slot, streams.find(3)), (0, 1, Some(three)));
        assert!(streams.remove(one).is_some());
        let five = streams.add(5, EXCHANGE);
        assert_eq!((five.slot, streams.len()), (0, 2));
        assert!(
            streams.exchange(one).is_none() && streams.peek(one).is_none() && streams.remove(one).is_none()
        );
        assert_eq!((streams.find(1), streams.find(5)), (None, Some(five)));
        assert_eq!(streams.all().map(|(stream, _)| stream).collect::<Vec<_>>(), [five, three]);
    }

    #[test]
    fn the_last_streams_are_remembered_by_how_they_went() {
        let mut history = History::new();
        for id in 0..1000 {
            history.add(2 * id + 1, if id % 2 == 0 { Past::Ended } else { Past::Dropped });
        }
        assert_eq!(history.find(1), None);
        assert_eq!(history.find(1999), Some(Past::Dropped));
        assert_eq!(history.find(1997), Some(Past::Ended));
        assert_eq!(history.find(0), None);
    }
}
