//! Header blocks as they are sent (RFC 7541 §6).

use super::{Kind, huffman, statics::NAMES, table::Table};
use crate::http::Known;

/// Bytes of the dynamic table that we use of what the peer offers: what an API repeats fits, and a connection stays small.
const TABLE_BYTES: usize = 2048;
/// Places by which entries are found, and of fields seen once.
const PLACES: usize = 64;
/// Longer fields are not looked for.
const INDEXED_BYTES_MAX: usize = 256;

/// The encoder of one connection.
///
/// A field enters the table when it is sent a second time: what is sent once (identifiers, dates, lengths) would only push out what
/// repeats.
pub(in crate::http::h2) struct Encoder {
    table: Table,
    /// The smallest and the last size the peer has asked for since the last block (RFC 7541 §4.2).
    resized: Option<(usize, usize)>,
    /// By hash, [`Table::inserted`] when the entry was inserted, in 32 bits; 0 = none.
    places: [u32; PLACES],
    /// By hash, its other half for a field that was sent once.
    seen: [u32; PLACES],
}

/// How a field's value may be kept by others on the way (RFC 7541 §7.1).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeats {
    Perhaps,
    Never,
    /// Secrets: whoever sends fields of his own through the same connection could guess at them by the lengths that come out.
    Secret,
}

impl Encoder {
    pub(in crate::http::h2) fn new() -> Self {
        Self {
            table: Table::new(TABLE_BYTES),
            resized: Some((TABLE_BYTES, TABLE_BYTES)),
            places: [0; PLACES],
            seen: [0; PLACES],
        }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE. Takes effect, and is answered, with the next block.
    pub(in crate::http::h2) fn resize(&mut self, size: usize) {
        let size = size.min(TABLE_BYTES);
        let least = self.resized.map_or(size, |(least, _)| least.min(size));
        self.resized = Some((least, size));
    }

    /// Begins a block: says how large the table is from now on.
    pub(in crate::http::h2) fn begin(&mut self, out: &mut Vec<u8>) {
        let Some((least, last)) = self.resized.take() else { return };
        for size in [least, last] {
            self.table.resize(size);
        }
        if least < last {
            integer(out, 0x20, 5, least);
        }
        integer(out, 0x20, 5, last);
    }

    /// `:status`.
    pub(in crate::http::h2) fn status(&mut self, status: u16, out: &mut Vec<u8>) {
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => {
                let digit = |value: u16| b'0' + u8::try_from(value % 10).unwrap_or_default();
                let digits = [digit(status / 100), digit(status / 10), digit(status)];
                return self.named(8, b":status", &digits, out);
            }
        };
        out.push(0x80 | index);
    }

    /// `:method`.
    pub(in crate::http::h2) fn method(&mut self, method: &[u8], out: &mut Vec<u8>) {
        match method {
            b"GET" => out.push(0x82),
            b"POST" => out.push(0x83),
            _ => self.named(2, b":method", method, out),
        }
    }

    /// `:scheme`.
    pub(in crate::http::h2) fn scheme(&mut self, scheme: &[u8], out: &mut Vec<u8>) {
        match scheme {
            b"http" => out.push(0x86),
            b"https" => out.push(0x87),
            _ => self.named(6, b":scheme", scheme, out),
        }
    }

    /// `:path`.
    pub(in crate::http::h2) fn path(&mut self, path: &[u8], out: &mut Vec<u8>) {
        match path {
            b"/" => out.push(0x84),
            _ => self.named(4, b":path", path, out),
        }
    }

    /// `:authority`.
    pub(in crate::http::h2) fn authority(&mut self, authority: &[u8], out: &mut Vec<u8>) {
        self.named(1, b":authority", authority, out);
    }

    /// `:protocol` (RFC 8441).
    pub(in crate::http::h2) fn protocol(&mut self, protocol: &[u8], out: &mut Vec<u8>) {
        self.named(0, b":protocol", protocol, out);
    }

    /// A pseudo-header with a value of its own; `index` = a static entry of its name, or 0.
    fn named(&mut self, index: usize, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        self.put(index, name, index as u64, Repeats::Perhaps, value, out);
    }

    /// A field whose name is `known`. The name is written in lower case.
    pub(in crate::http::h2) fn field(&mut self, name: &[u8], known: Known, value: &[u8], out: &mut Vec<u8>) {
        let index = usize::from(NAMES[usize::from(known as u8)]);
        let seed = 256 + u64::from(known as u8);
        self.put(index, name, seed, repeats(known), value, out);
    }

    /// `seed` stands for the name, unless `index` is 0.
    fn put(
        &mut self,
        index: usize,
        name: &[u8],
        seed: u64,
        repeats: Repeats,
        value: &[u8],
        out: &mut Vec<u8>,
    ) {
        let is_short = name.len() + value.len() <= INDEXED_BYTES_MAX;
        match repeats {
            Repeats::Perhaps if is_short && self.table.size_max() > 0 => {}
            Repeats::Perhaps => return literal(out, 0x00, 4, index, name, value, Coding::Shorter),
            // Coding costs 2 ns a byte at each end and saves a fifth of what looks random.
            Repeats::Never => return literal(out, 0x00, 4, index, name, value, Coding::Plain),
            Repeats::Secret => return literal(out, 0x10, 4, index, name, value, Coding::Plain),
        }

        let seed = if index == 0 { hash(seed, name, 0x2020_2020_2020_2020) } else { seed };
        let hash = hash(seed, value, 0);
        let (place, mark) = split(hash);
        if self.places[place] != 0 {
            let inserted = low(self.table.inserted());
            let age = inserted.wrapping_sub(self.places[place]) as usize;
            let found = self.table.look(age);
            if found.is_some_and(|entry| entry.value == value && entry.name.eq_ignore_ascii_case(name)) {
                return integer(out, 0x80, 7, age + 62);
            }
        }
        if self.seen[place] != mark {
            self.seen[place] = mark;
            return literal(out, 0x00, 4, index, name, value, Coding::Shorter);
        }
        literal(out, 0x40, 6, index, name, value, Coding::Shorter);
        let mut lower = [0; INDEXED_BYTES_MAX];
        let lower = &mut lower[..name.len()];
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.table.insert(lower, value, Kind::BadName, true);
        self.places[place] = low(self.table.inserted());
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "most fields may repeat")]
const fn repeats(known: Known) -> Repeats {
    match known {
        Known::Authorization | Known::ProxyAuthorization | Known::Cookie | Known::SetCookie => {
            Repeats::Secret
        }
        Known::XRequestId | Known::Traceparent | Known::Tracestate => Repeats::Never,
        _ => Repeats::Perhaps,
    }
}

/// Not one that withstands an attack: whoever makes two fields fall together only loses compression.
#[inline]
fn hash(seed: u64, bytes: &[u8], lower: u64) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = seed.wrapping_add(bytes.len() as u64).wrapping_mul(MULTIPLIER);
    for word in words {
        hash = (hash.rotate_left(29) ^ (u64::from_le_bytes(*word) | lower)).wrapping_mul(MULTIPLIER);
    }
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    (hash.rotate_left(29) ^ (u64::from_le_bytes(last) | lower)).wrapping_mul(MULTIPLIER)
}

/// A place, and a mark that is not 0.
#[expect(clippy::cast_possible_truncation, reason = "pieces of a hash")]
const fn split(hash: u64) -> (usize, u32) {
    ((hash >> 58) as usize, (hash >> 16) as u32 | 1)
}

#[expect(clippy::cast_possible_truncation, reason = "ages are small; the rest is the same for all entries")]
const fn low(count: u64) -> u32 {
    count as u32
}

/// A literal field: `first` with the name's index in its low `prefix_bits`, or the name itself in lower case.
fn literal(
    out: &mut Vec<u8>,
    first: u8,
    prefix_bits: u32,
    index: usize,
    name: &[u8],
    value: &[u8],
    coding: Coding,
) {
    integer(out, first, prefix_bits, index);
    if index == 0 {
        integer(out, 0, 7, name.len());
        let start = out.len();
        out.extend_from_slice(name);
        out[start..].make_ascii_lowercase();
    }
    string(out, value, coding);
}

/// Whether a string is written in the Huffman code.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    Plain,
    /// If that makes it shorter.
    Shorter,
}

fn string(out: &mut Vec<u8>, text: &[u8], coding: Coding) {
    let coded_len = if coding == Coding::Plain { text.len() } else { huffman::encoded_len(text) };
    if coded_len < text.len() {
        integer(out, 0x80, 7, coded_len);
        huffman::encode(text, out);
    } else {
        integer(out, 0, 7, text.len());
        out.extend_from_slice(text);
    }
}

/// RFC 7541 §5.1.
#[inline]
fn integer(out: &mut Vec<u8>, first: u8, prefix_bits: u32, value: usize) {
    let mask = (1 << prefix_bits) - 1;
    let byte = |value: usize| u8::try_from(value & 0xff).unwrap_or_default();
    if value < mask {
        out.push(first | byte(value));
        return;
    }
    out.push(first | byte(mask));
    let mut rest = value - mask;
    while rest >= 0x80 {
        out.push(0x80 | byte(rest & 0x7f));
        rest >>= 7;
    }
    out.push(byte(rest));
}

#[cfg(test)]
mod tests {
    use super::{super::Decoder, *};
    use crate::http::classify;
    use proptest::prelude::*;

    fn encode(encoder: &mut Encoder, fields: &[(&str, &str)]) -> Vec<u8> {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        for (name, value) in fields {
            encoder.field(name.as_bytes(), classify(name.as_bytes()), value.as_bytes(), &mut out);
        }
        out
    }

    fn decode(decoder: &mut Decoder, block: &[u8]) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let decoded = decoder.decode(block, |field| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            found.push((text(field.name), text(field.value)));
        });
        assert_eq!(decoded, Ok(()));
        found
    }

    fn new() -> Encoder {
        let mut encoder = Encoder::new();
        encoder.begin(&mut Vec::new());
        encoder
    }

    #[test]
    fn a_field_is_one_byte_when_it_is_sent_the_third_time() {
        let mut encoder = new();
        let fields = [("Server", "nginx/1.22.1"), ("X-Customer", "12345")];
        let lens: Vec<_> = (0..4).map(|_| encode(&mut encoder, &fields).len()).collect();
        assert!(lens[0] > 20 && lens[1] > 20, "{lens:?}");
        assert_eq!(lens[2..], [2, 2]);
    }

    #[test]
    fn secrets_are_never_indexed_by_anybody() {
        let mut encoder = new();
        for _ in 0..3 {
            for name in ["authorization", "Cookie", "set-cookie", "Proxy-Authorization"] {
                let block = encode(&mut encoder, &[(name, "secret")]);
                assert_eq!(block[0] & 0xf0, 0x10, "{name}");
            }
        }
    }

    #[test]
    fn names_go_in_lower_case() {
        let mut decoder = Decoder::new();
        let block = encode(&mut new(), &[("X-Customer", "A"), ("Content-Type", "B"), ("Set-Cookie", "C")]);
        let expected = [("x-customer", "A"), ("content-type", "B"), ("set-cookie", "C")];
        assert_eq!(decode(&mut decoder, &block), expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    // RFC 7541 §4.2

    #[test]
    fn the_table_is_as_large_as_the_peer_lets_it_be_and_the_block_says_so() {
        let mut encoder = Encoder::new();
        assert_eq!(encode(&mut encoder, &[]), b"\x3f\xe1\x0f", "2048, less than the 4096 a peer begins with");
        assert_eq!(encode(&mut encoder, &[]), b"");
        encoder.resize(100_000);
        assert_eq!(encode(&mut encoder, &[]), b"\x3f\xe1\x0f");
        encoder.resize(10);
        encoder.resize(64);
        assert_eq!(encode(&mut encoder, &[]), b"\x2a\x3f\x21");
        encoder.resize(0);
        assert_eq!(encode(&mut encoder, &[]), b"\x20");
        for _ in 0..3 {
            assert!(encode(&mut encoder, &[("a", "b")]).len() > 1, "without a table nothing is indexed");
        }
    }

    proptest! {
        #[test]
        fn every_block_comes_back(
            blocks in proptest::collection::vec(
                (
                    proptest::collection::vec(
                        (
                            prop_oneof![Just("server"), Just("x-a"), Just("X-B"), Just("cookie"), Just("date"), Just("x-request-id")],
                            prop_oneof![3 => "[a-c]{0,3}", 1 => "[ -~]{0,300}"],
                        ),
                        0..20,
                    ),
                    proptest::option::of(0usize..5000),
                ),
                1..20,
            ),
        ) {
            let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
            for (fields, size) in &blocks {
                if let Some(size) = size {
                    encoder.resize(*size);
                }
                let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
                let block = encode(&mut encoder, &fields);
                let expected: Vec<_> =
                    fields.iter().map(|(name, value)| (name.to_ascii_lowercase(), (*value).to_owned())).collect();
                prop_assert_eq!(decode(&mut decoder, &block), expected);
            }
        }
    }
}
