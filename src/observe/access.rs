//! The access log's shard side: a record per request, in compact form, in a ring of bytes.
//!
//! Writing one costs about as much as copying its strings. When the ring is full (a slow sink), the newest
//! record is dropped and counted.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use super::{Protocol, Why, bell::Bell};

/// Bytes of records waiting in one shard. A record has at least 104, so these are at most 65,536
/// records (DESIGN §15).
pub const RING_BYTES: usize = 4 * 1024 * 1024;
/// A record whose strings are empty.
const RECORD_BYTES_MIN: usize = FIXED_BYTES + 2 * STRINGS;
const _: () = assert!(RING_BYTES / RECORD_BYTES_MIN <= 65_536);
/// Longer strings are cut.
pub const STRING_BYTES_MAX: usize = 2048;

/// One request that has ended, as the access log tells it. Strings are as received, not yet escaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// When the request ended, in µs since 1970.
    pub time_us: u64,
    /// The client's address; `None` on a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Empty when no head could be read; `target` is then what was received of its first line.
    pub method: &'a [u8],
    pub target: &'a [u8],
    pub protocol: Protocol,
    pub host: Option<&'a [u8]>,
    pub referer: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
    /// Who the token says it is.
    pub user: Option<&'a [u8]>,
    pub request_id: &'a [u8],
    /// 0 when no reply head was sent.
    pub status: u16,
    /// Body bytes sent to the client.
    pub body_bytes: u64,
    /// All bytes sent to the client, heads included.
    pub sent_bytes: u64,
    /// Numbers from [`super::Names`].
    pub route: u32,
    pub service: u32,
    pub endpoint: u32,
    /// 0 when there was no response.
    pub upstream_status: u16,
    /// From the first byte of the head to the last of the reply.
    pub duration_us: u64,
    /// From the first attempt to the end of the response; `None` when no service was asked.
    pub upstream_us: Option<u64>,
    /// Time spent in the gateway itself.
    pub added_us: u64,
    /// Attempts at an endpoint.
    pub attempts: u32,
    pub why: Why,
}

/// A shard's end of its ring.
pub struct Log {
    ring: rtrb::Producer<u8>,
    scratch: Vec<u8>,
    shared: Arc<Shared>,
    bell: Arc<Bell>,
}

/// The log thread's end.
pub(super) struct Ring {
    pub(super) bytes: rtrb::Consumer<u8>,
    pub(super) shared: Arc<Shared>,
}

/// What both ends look at.
#[derive(Default)]
pub(super) struct Shared {
    /// Whether there is an access log at all.
    pub(super) enabled: AtomicBool,
    pub(super) dropped: AtomicU64,
}

pub(super) fn ring(bytes: usize, bell: Arc<Bell>) -> (Log, Ring) {
    let (producer, consumer) = rtrb::RingBuffer::new(bytes);
    let shared = Arc::new(Shared::default());
    let log = Log { ring: producer, scratch: Vec::with_capacity(1024), shared: Arc::clone(&shared), bell };
    (log, Ring { bytes: consumer, shared })
}

impl Log {
    /// Whether records are wanted: the caller need not build one otherwise.
    pub fn enabled(&self) -> bool {
        self.shared.enabled.load(Ordering::Relaxed)
    }

    /// Queues a record for the log thread, or drops and counts it when the ring is full. Never waits.
    pub fn write(&mut self, record: &Record<'_>) {
        if !self.enabled() {
            return;
        }
        self.scratch.clear();
        encode(record, &mut self.scratch);
        if self.ring.push_entire_slice(&self.scratch).is_err() {
            // Only this shard writes it, so no read-modify-write is needed.
            let dropped = self.shared.dropped.load(Ordering::Relaxed);
            self.shared.dropped.store(dropped + 1, Ordering::Relaxed);
        }
        // The cached count is a lower bound; only when it is low is the other end's cache line read.
        let low = self.ring.buffer().capacity() / 4 * 3;
        let urgent = self.ring.cached_slots() < low && self.ring.slots() < low;
        self.bell.ring(urgent);
    }
}

/// Bytes of a record before its strings.
const FIXED_BYTES: usize = 90;
/// Strings of a record, each after a length of two bytes.
const STRINGS: usize = 7;
/// As a length: the field was not there at all.
const ABSENT: u16 = u16::MAX;
/// As a time: there is none.
const NO_TIME: u64 = u64::MAX;

fn encode(record: &Record<'_>, out: &mut Vec<u8>) {
    let mut fixed = [0; FIXED_BYTES];
    let mut rest = fixed.as_mut_slice();
    // The length goes first and is written last.
    put(&mut rest, [0; 4]);
    put(&mut rest, record.time_us.to_le_bytes());
    let (address, port, family) = match record.peer {
        Some(SocketAddr::V4(peer)) => (peer.ip().to_ipv6_mapped(), peer.port(), 4),
        Some(SocketAddr::V6(peer)) => (*peer.ip(), peer.port(), 6),
        None => (Ipv6Addr::UNSPECIFIED, 0, 0),
    };
    put(&mut rest, address.octets());
    put(&mut rest, port.to_le_bytes());
    put(&mut rest, [family, record.protocol as u8, record.why as u8]);
    put(&mut rest, record.status.to_le_bytes());
    put(&mut rest, record.upstream_status.to_le_bytes());
    put(&mut rest, record.body_bytes.to_le_bytes());
    put(&mut rest, record.sent_bytes.to_le_bytes());
    put(&mut rest, record.route.to_le_bytes());
    put(&mut rest, record.service.to_le_bytes());
    put(&mut rest, record.endpoint.to_le_bytes());
    put(&mut rest, record.duration_us.to_le_bytes());
    put(&mut rest, record.upstream_us.unwrap_or(NO_TIME).to_le_bytes());
    put(&mut rest, record.added_us.to_le_bytes());
    put(&mut rest, u8::try_from(record.attempts).unwrap_or(u8::MAX).to_le_bytes());
    debug_assert!(rest.is_empty());
    out.extend_from_slice(&fixed);

    let strings: [_; STRINGS] = [
        Some(record.method),
        Some(record.target),
        Some(record.request_id),
        record.host,
        record.referer,
        record.user_agent,
        record.user,
    ];
    for string in strings {
        let Some(string) = string else {
            out.extend_from_slice(&ABSENT.to_le_bytes());
            continue;
        };
        let string = &string[..string.len().min(STRING_BYTES_MAX)];
        let length = u16::try_from(string.len()).expect("STRING_BYTES_MAX fits in 16 bits");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(string);
    }
    let length = u32::try_from(out.len()).expect("bounded strings fit in 32 bits");
    out[..4].copy_from_slice(&length.to_le_bytes());
}

/// Reads what [`encode`] wrote.
pub(super) fn decode(mut bytes: &[u8]) -> Record<'_> {
    let from = &mut bytes;
    let _length = take::<4>(from);
    let time_us = u64::from_le_bytes(take(from));
    let address = Ipv6Addr::from(take::<16>(from));
    let port = u16::from_le_bytes(take(from));
    let [family, protocol, why] = take(from);
    let peer = match family {
        4 => address.to_ipv4_mapped().map(|address| SocketAddr::new(IpAddr::V4(address), port)),
        6 => Some(SocketAddr::new(IpAddr::V6(address), port)),
        _ => None,
    };
    let status = u16::from_le_bytes(take(from));
    let upstream_status = u16::from_le_bytes(take(from));
    let body_bytes = u64::from_le_bytes(take(from));
    let sent_bytes = u64::from_le_bytes(take(from));
    let route = u32::from_le_bytes(take(from));
    let service = u32::from_le_bytes(take(from));
    let endpoint = u32::from_le_bytes(take(from));
    let duration_us = u64::from_le_bytes(take(from));
    let upstream_us = Some(u64::from_le_bytes(take(from))).filter(|&time| time != NO_TIME);
    let added_us = u64::from_le_bytes(take(from));
    let [attempts] = take(from);
    Record {
        time_us,
        peer,
        method: string(from).unwrap_or_default(),
        target: string(from).unwrap_or_default(),
        protocol: Protocol::ALL.get(usize::from(protocol)).copied().unwrap_or_default(),
        request_id: string(from).unwrap_or_default(),
        host: string(from),
        referer: string(from),
        user_agent: string(from),
        user: string(from),
        status,
        body_bytes,
        sent_bytes,
        route,
        service,
        endpoint,
        upstream_status,
        duration_us,
        upstream_us,
        added_us,
        attempts: u32::from(attempts),
        why: Why::numbered(why),
    }
}

/// The bytes of the record that starts here, its length included.
pub(super) fn length(first: [u8; 4]) -> usize {
    usize::try_from(u32::from_le_bytes(first)).expect("a record is shorter than its ring")
}

fn put<const N: usize>(rest: &mut &mut [u8], bytes: [u8; N]) {
    let (here, after) = std::mem::take(rest).split_at_mut(N);
    here.copy_from_slice(&bytes);
    *rest = after;
}

fn take<const N: usize>(from: &mut &[u8]) -> [u8; N] {
    let (here, after) = from.split_first_chunk().expect("encode wrote every field");
    *from = after;
    *here
}

fn string<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u16::from_le_bytes(take(from));
    if length == ABSENT {
        return None;
    }
    let (here, after) = from.split_at(usize::from(length));
    *from = after;
    Some(here)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record<'static> {
        Record {
            time_us: 1_763_838_000_000_123,
            peer: Some("192.0.2.7:4711".parse().unwrap()),
            method: b"GET",
            target: b"/a?b=c",
            protocol: Protocol::Http10,
            host: Some(b"example.com"),
            referer: None,
            user_agent: Some(b""),
            user: Some(b"alice"),
            request_id: b"0199",
            status: 200,
            body_bytes: 1024,
            sent_bytes: 1300,
            route: 7,
            service: 2,
            endpoint: 3,
            upstream_status: 201,
            duration_us: 1500,
            upstream_us: None,
            added_us: 15,
            attempts: 2,
            why: Why::UpstreamTruncated,
        }
    }

    fn check(record: &Record<'_>) {
        let mut bytes = Vec::new();
        encode(record, &mut bytes);
        assert_eq!(length(*bytes.first_chunk().unwrap()), bytes.len());
        assert_eq!(decode(&bytes), *record);
    }

    #[test]
    fn a_record_comes_out_as_it_went_in() {
        check(&record());
        check(&Record { peer: None, upstream_us: Some(0), ..record() });
        check(&Record { peer: Some("[2001:db8::1]:443".parse().unwrap()), ..record() });
        check(&Record::default());
    }

    #[test]
    fn a_long_string_is_cut() {
        let long = vec![b'a'; STRING_BYTES_MAX + 1];
        let mut bytes = Vec::new();
        encode(&Record { target: &long, ..record() }, &mut bytes);
        assert_eq!(decode(&bytes).target, &long[..STRING_BYTES_MAX]);
        assert_eq!(decode(&bytes).user_agent, Some(&b""[..]));
    }

    #[test]
    fn a_full_ring_drops_the_newest_and_counts_it() {
        let (mut log, mut ring) = ring(400, Arc::new(Bell::new()));
        log.write(&record());
        assert_eq!(ring.bytes.slots(), 0, "not enabled");

        log.shared.enabled.store(true, Ordering::Relaxed);
        for status in 200..205 {
            log.write(&Record { status, ..record() });
        }
        let chunk = ring.bytes.read_chunk(ring.bytes.slots()).unwrap();
        let (bytes, _) = chunk.as_slices();
        let first = length(*bytes.first_chunk().unwrap());
        let kept = bytes.len() / first;
        assert_eq!(decode(bytes).status, 200);
        assert_eq!(decode(&bytes[first * (kept - 1)..]).status, 199 + u16::try_from(kept).unwrap());
        assert_eq!(ring.shared.dropped.load(Ordering::Relaxed), 5 - u64::try_from(kept).unwrap());
    }
}
