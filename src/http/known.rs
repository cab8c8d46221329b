//! Field names the gateway has a meaning for.

use super::head::Span;

/// A field name the gateway knows. Whatever is not `Other` and not hop-by-hop is end-to-end: `Connection` cannot
/// remove it, and it is not allowed in trailers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Known {
    Other,
    Accept,
    AcceptEncoding,
    AcceptLanguage,
    Age,
    Authorization,
    CacheControl,
    Connection,
    ContentEncoding,
    ContentLanguage,
    ContentLength,
    ContentLocation,
    ContentRange,
    ContentType,
    Cookie,
    Date,
    Etag,
    Expect,
    Expires,
    Forwarded,
    Host,
    Http2Settings,
    IfMatch,
    IfModifiedSince,
    IfNoneMatch,
    IfRange,
    IfUnmodifiedSince,
    KeepAlive,
    LastModified,
    Location,
    MaxForwards,
    Origin,
    Pragma,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    Range,
    Referer,
    RetryAfter,
    Server,
    SetCookie,
    Te,
    Traceparent,
    Tracestate,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
    Vary,
    Via,
    WwwAuthenticate,
    XForwardedFor,
    XForwardedHost,
    XForwardedPort,
    XForwardedProto,
    XRealIp,
    XRequestId,
}

impl Known {
    /// Whether the field never goes further than this connection (RFC 9110 §7.6.1; RFC 9113 §3.1 for
    /// `HTTP2-Settings`). `Trailer` is not one of them: trailers are forwarded.
    #[inline]
    pub const fn is_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::Te
                | Self::TransferEncoding
                | Self::Upgrade
                | Self::Http2Settings
        )
    }
}

/// The names, in lower case.
const NAMES: [(&str, Known); Known::XRequestId as usize] = [
    ("accept", Known::Accept),
    ("accept-encoding", Known::AcceptEncoding),
    ("accept-language", Known::AcceptLanguage),
    ("age", Known::Age),
    ("authorization", Known::Authorization),
    ("cache-control", Known::CacheControl),
    ("connection", Known::Connection),
    ("content-encoding", Known::ContentEncoding),
    ("content-language", Known::ContentLanguage),
    ("content-length", Known::ContentLength),
    ("content-location", Known::ContentLocation),
    ("content-range", Known::ContentRange),
    ("content-type", Known::ContentType),
    ("cookie", Known::Cookie),
    ("date", Known::Date),
    ("etag", Known::Etag),
    ("expect", Known::Expect),
    ("expires", Known::Expires),
    ("forwarded", Known::Forwarded),
    ("host", Known::Host),
    ("http2-settings", Known::Http2Settings),
    ("if-match", Known::IfMatch),
    ("if-modified-since", Known::IfModifiedSince),
    ("if-none-match", Known::IfNoneMatch),
    ("if-range", Known::IfRange),
    ("if-unmodified-since", Known::IfUnmodifiedSince),
    ("keep-alive", Known::KeepAlive),
    ("last-modified", Known::LastModified),
    ("location", Known::Location),
    ("max-forwards", Known::MaxForwards),
    ("origin", Known::Origin),
    ("pragma", Known::Pragma),
    ("proxy-authenticate", Known::ProxyAuthenticate),
    ("proxy-authorization", Known::ProxyAuthorization),
    ("proxy-connection", Known::ProxyConnection),
    ("range", Known::Range),
    ("referer", Known::Referer),
    ("retry-after", Known::RetryAfter),
    ("server", Known::Server),
    ("set-cookie", Known::SetCookie),
    ("te", Known::Te),
    ("traceparent", Known::Traceparent),
    ("tracestate", Known::Tracestate),
    ("trailer", Known::Trailer),
    ("transfer-encoding", Known::TransferEncoding),
    ("upgrade", Known::Upgrade),
    ("user-agent", Known::UserAgent),
    ("vary", Known::Vary),
    ("via", Known::Via),
    ("www-authenticate", Known::WwwAuthenticate),
    ("x-forwarded-for", Known::XForwardedFor),
    ("x-forwarded-host", Known::XForwardedHost),
    ("x-forwarded-port", Known::XForwardedPort),
    ("x-forwarded-proto", Known::XForwardedProto),
    ("x-real-ip", Known::XRealIp),
    ("x-request-id", Known::XRequestId),
];

/// The known field of this name, in any case; `Other` otherwise.
#[inline]
pub fn classify(name: &[u8]) -> Known {
    let mut padded = [b' '; NAME_ROOM];
    let Some(room) = padded.get_mut(..name.len()) else { return Known::Other };
    room.copy_from_slice(name);
    // `look_up` would take CR for `-`. In ASCII, control bytes are those without bits 5 and 6.
    let printable = padded.iter().fold(0xff, |all, byte| all & (byte | byte << 1)) & 0x40 != 0;
    if printable { look_up(&padded, name.len()) } else { Known::Other }
}

/// The same for a token that lies in `window`, as a parsed field name does.
#[inline]
pub(super) fn classify_in(window: &[u8], name: Span) -> Known {
    let rest = &window[usize::from(name.start)..];
    match rest.first_chunk() {
        Some(padded) => look_up(padded, usize::from(name.len)),
        None => classify(name.of(window)),
    }
}

/// Bytes of three words, which hold every name.
const NAME_ROOM: usize = 24;
const SLOT_BITS: u32 = 7;
/// Found by trial: sends each of [`NAMES`] to a slot of its own. `place_names` refuses to compile when it does not.
const MULTIPLIER: u64 = 0x4613_9c8b_0429_17a1;

#[derive(Clone, Copy)]
struct Slot {
    words: [u64; 3],
    len: u64,
    known: Known,
}

static SLOTS: [Slot; 1 << SLOT_BITS] = place_names();

/// For each length, the bits of three words that belong to a name of that length.
static KEEP: [[u64; 3]; NAME_ROOM + 1] = {
    let mut keep = [[0; 3]; NAME_ROOM + 1];
    let mut len = 0;
    while len <= NAME_ROOM {
        let mut byte = 0;
        while byte < len {
            keep[len][byte / 8] |= 0xff << (byte % 8 * 8);
            byte += 1;
        }
        len += 1;
    }
    keep
};

/// One comparison with the only name it can be. A `match` on length and first letter costs a mispredicted branch and a
/// comparison byte by byte: with it, and without the short cut in `read_connection`, bench `head`'s `request/browser`
/// took 343 ns, and 268 as it is.
#[inline]
fn look_up(bytes: &[u8; NAME_ROOM], len: usize) -> Known {
    let Some(keep) = KEEP.get(len) else { return Known::Other };
    let words = fold(bytes, keep);
    let slot = &SLOTS[slot_of(words)];
    // Word by word: comparing the arrays goes through memory.
    let same = slot.len == len as u64
        && slot.words[0] == words[0]
        && slot.words[1] == words[1]
        && slot.words[2] == words[2];
    if same { slot.known } else { Known::Other }
}

#[inline]
const fn fold(bytes: &[u8; NAME_ROOM], keep: &[u64; 3]) -> [u64; 3] {
    const LOWER: u64 = 0x2020_2020_2020_2020;
    let (words, _) = bytes.as_chunks::<8>();
    [
        (u64::from_le_bytes(words[0]) | LOWER) & keep[0],
        (u64::from_le_bytes(words[1]) | LOWER) & keep[1],
        (u64::from_le_bytes(words[2]) | LOWER) & keep[2],
    ]
}

#[inline]
const fn slot_of(words: [u64; 3]) -> usize {
    let mixed = words[0].wrapping_add(words[1].rotate_left(1)).wrapping_mul(MULTIPLIER);
    (mixed >> (u64::BITS - SLOT_BITS)) as usize
}

const fn place_names() -> [Slot; 1 << SLOT_BITS] {
    let mut slots = [Slot { words: [0; 3], len: 0, known: Known::Other }; 1 << SLOT_BITS];
    let mut at = 0;
    while at < NAMES.len() {
        let (name, known) = NAMES[at];
        let mut bytes = [0; NAME_ROOM];
        bytes.split_at_mut(name.len()).0.copy_from_slice(name.as_bytes());
        let words = fold(&bytes, &KEEP[name.len()]);
        let slot = &mut slots[slot_of(words)];
        assert!(slot.len == 0, "two names in one slot: try another MULTIPLIER");
        *slot = Slot { words, len: name.len() as u64, known };
        at += 1;
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_in_any_case_and_nothing_like_it_is() {
        for (name, known) in NAMES {
            assert_eq!(
                format!("{known:?}").to_ascii_lowercase(),
                name.replace('-', ""),
                "called like its name"
            );
            assert_eq!(classify(name.as_bytes()), known, "{name}");
            assert_eq!(classify(name.to_ascii_uppercase().as_bytes()), known, "{name}");
            for at in 0..name.len() {
                for byte in (0..=255u8).filter(|byte| !byte.eq_ignore_ascii_case(&name.as_bytes()[at])) {
                    let mut other = name.as_bytes().to_vec();
                    other[at] = byte;
                    let found = classify(&other);
                    let is_name = NAMES.iter().any(|(name, _)| name.as_bytes().eq_ignore_ascii_case(&other));
                    assert_eq!(found != Known::Other, is_name, "{}", other.escape_ascii());
                }
            }
            assert_eq!(classify(format!("{name}s").as_bytes()), Known::Other);
            assert_eq!(classify(format!("{name}\0").as_bytes()), Known::Other);
        }
        assert_eq!(classify(b""), Known::Other);
        assert_eq!(classify(&[b'x'; 100]), Known::Other);
    }

    #[test]
    fn a_name_in_a_head_is_known_by_its_own_bytes_only() {
        let head = b"Host: a\r\nHosts: b\r\nContent-Length: 0\r\nTE:c\r\n\r\n";
        for (name, known) in [
            ("Host:", Known::Host),
            ("Hosts:", Known::Other),
            ("Content-Length:", Known::ContentLength),
            ("TE:", Known::Te),
        ] {
            let start = head.windows(name.len()).position(|part| part == name.as_bytes()).unwrap();
            assert_eq!(classify_in(head, Span::new(start, name.len() - 1)), known, "{name}");
        }
    }

    #[test]
    fn trailer_is_forwarded_and_framing_is_not() {
        let hops: Vec<_> = NAMES.iter().filter(|(_, known)| known.is_hop()).map(|(name, _)| *name).collect();
        let expected = [
            "connection",
            "http2-settings",
            "keep-alive",
            "proxy-connection",
            "te",
            "transfer-encoding",
            "upgrade",
        ];
        assert_eq!(hops, expected);
    }
}
