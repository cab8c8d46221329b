//! Header compression (RFC 7541), as much as a load generator needs: requests that refer to the fields of earlier ones, as those of
//! browsers do, and of responses the status.

use std::collections::VecDeque;

use crate::wire::Malformed;

/// Bytes of the dynamic table in either direction: the default (RFC 9113 §6.5.2), as in browsers.
pub(super) const TABLE_BYTES: usize = 4096;

/// What an entry takes besides its name and value (RFC 7541 §4.1).
const ENTRY_BYTES: usize = 32;

/// Entries of the static table; the dynamic one is numbered behind it (RFC 7541 §2.3.3).
const STATIC: usize = 61;

/// Names of the static table, from index 1 (RFC 7541 Appendix A).
#[rustfmt::skip]
const NAMES: [&str; STATIC] = [
    ":authority", ":method", ":method", ":path", ":path", ":scheme", ":scheme", ":status", ":status", ":status",
    ":status", ":status", ":status", ":status", "accept-charset", "accept-encoding", "accept-language",
    "accept-ranges", "accept", "access-control-allow-origin", "age", "allow", "authorization", "cache-control",
    "content-disposition", "content-encoding", "content-language", "content-length", "content-location",
    "content-range", "content-type", "cookie", "date", "etag", "expect", "expires", "from", "host", "if-match",
    "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "last-modified", "link", "location",
    "max-forwards", "proxy-authenticate", "proxy-authorization", "range", "referer", "refresh", "retry-after",
    "server", "set-cookie", "strict-transport-security", "transfer-encoding", "user-agent", "vary", "via",
    "www-authenticate",
];

/// Fields that the static table has as a whole.
const WHOLE: [(&str, &str, u8); 5] = [
    (":method", "GET", 2),
    (":method", "POST", 3),
    (":path", "/", 4),
    (":scheme", "http", 6),
    (":scheme", "https", 7),
];

/// The statuses in the static table, from index 8.
const STATUSES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];

/// Field blocks of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blocks {
    /// For the first request of a connection: it fills the server's table.
    pub(super) first: Vec<u8>,
    /// For those after it.
    pub(super) later: Vec<u8>,
}

/// Encodes requests, each a list of names (in lower case) and values. What all have in common is said once for each connection.
pub(super) fn encode(requests: &[Vec<(String, String)>]) -> Vec<Blocks> {
    let common = |field: &(String, String)| requests.iter().all(|request| request.contains(field));
    let Some(request) = requests.first() else { return Vec::new() };
    let whole = |field: &(String, String)| {
        WHOLE
            .iter()
            .find(|(name, value, _)| (*name, *value) == (&*field.0, &*field.1))
            .map(|(_, _, index)| *index)
    };
    // What is put into the table, in this order, as far as it has room.
    let mut kept: Vec<(String, String)> = Vec::new();
    let mut bytes = 0;
    for field in request.iter().filter(|field| whole(field).is_none() && common(field)) {
        bytes += field.0.len() + field.1.len() + ENTRY_BYTES;
        if bytes > TABLE_BYTES {
            break;
        }
        if !kept.contains(field) {
            kept.push(field.clone());
        }
    }
    let block = |request: &[(String, String)], is_first: bool| {
        let mut block = Vec::new();
        // In the order of the table first: then a connection's first request may be any of them.
        if is_first {
            let ordered = |field: &&(String, String)| !kept.contains(field);
            let pseudo = |field: &&(String, String)| field.0.starts_with(':');
            // Pseudo-header fields come before all others (RFC 9113 §8.3).
            let varying: Vec<_> = request.iter().filter(ordered).collect();
            kept.iter().filter(pseudo).for_each(|field| literal(&mut block, field, true));
            varying.iter().copied().filter(pseudo).for_each(|field| plain(&mut block, field, whole(field)));
            kept.iter().filter(|field| !pseudo(field)).for_each(|field| literal(&mut block, field, true));
            varying
                .iter()
                .copied()
                .filter(|field| !pseudo(field))
                .for_each(|field| plain(&mut block, field, None));
            return block;
        }
        for field in request {
            match kept.iter().position(|known| known == field) {
                // The newest entry has the lowest number.
                Some(place) => number(&mut block, 0x80, 7, STATIC + kept.len() - place),
                None => plain(&mut block, field, whole(field)),
            }
        }
        block
    };
    requests
        .iter()
        .map(|request| Blocks { first: block(request, true), later: block(request, false) })
        .collect()
}

/// A field that is not put into the table.
fn plain(block: &mut Vec<u8>, field: &(String, String), whole: Option<u8>) {
    match whole {
        Some(index) => number(block, 0x80, 7, index.into()),
        None => literal(block, field, false),
    }
}

/// A literal field with its name from the static table where that has it (RFC 7541 §6.2.1, §6.2.2). Not in Huffman's code:
/// servers then have less to do, all of them alike.
fn literal(block: &mut Vec<u8>, (name, value): &(String, String), keep: bool) {
    let (pattern, bits) = if keep { (0x40, 6) } else { (0, 4) };
    match NAMES.iter().position(|known| known == name) {
        Some(before) => number(block, pattern, bits, before + 1),
        None => {
            number(block, pattern, bits, 0);
            text(block, name);
        }
    }
    text(block, value);
}

fn text(block: &mut Vec<u8>, text: &str) {
    number(block, 0, 7, text.len());
    block.extend_from_slice(text.as_bytes());
}

/// A number behind `pattern` in the last `bits` of a byte, and on (RFC 7541 §5.1).
#[expect(clippy::cast_possible_truncation, reason = "each byte takes what fits into it")]
fn number(block: &mut Vec<u8>, pattern: u8, bits: u8, value: usize) {
    let most = (1_usize << bits) - 1;
    if value < most {
        block.push(pattern | value as u8);
        return;
    }
    block.push(pattern | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 0x80);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// Follows a server's table and finds the status of its responses.
#[derive(Debug)]
pub(super) struct Decoder {
    /// Newest first.
    table: VecDeque<Entry>,
    bytes: usize,
    bytes_max: usize,
}

/// As much of a field as matters here.
#[derive(Debug, Clone, Copy)]
struct Entry {
    name_bytes: usize,
    value_bytes: usize,
    is_status: bool,
    /// If it is one.
    status: u16,
}

impl Entry {
    const fn bytes(&self) -> usize {
        self.name_bytes + self.value_bytes + ENTRY_BYTES
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self { table: VecDeque::new(), bytes: 0, bytes_max: TABLE_BYTES }
    }
}

impl Decoder {
    /// The status in a complete field block; `None` where there is none, as in trailers.
    pub(super) fn status(&mut self, mut block: &[u8]) -> Result<Option<u16>, Malformed> {
        let mut status = None;
        while let Some(&byte) = block.first() {
            if byte & 0x80 != 0 {
                let entry = self.entry(take_number(&mut block, 7)?)?;
                status = status.or_else(|| entry.is_status.then_some(entry.status));
            } else if byte & 0xe0 == 0x20 {
                self.bytes_max = take_number(&mut block, 5)?;
                if self.bytes_max > TABLE_BYTES {
                    return Err(Malformed);
                }
                self.evict();
            } else {
                let keep = byte & 0x40 != 0;
                let (is_status, name_bytes) = match take_number(&mut block, if keep { 6 } else { 4 })? {
                    0 => {
                        let name = Text::take(&mut block)?;
                        (false, if keep { name.length()? } else { 0 })
                    }
                    index => {
                        let entry = self.entry(index)?;
                        (entry.is_status, entry.name_bytes)
                    }
                };
                let value = Text::take(&mut block)?;
                let found = if is_status { value.status()? } else { 0 };
                status = status.or_else(|| is_status.then_some(found));
                if keep {
                    let entry = Entry { name_bytes, value_bytes: value.length()?, is_status, status: found };
                    self.table.push_front(entry);
                    self.bytes += entry.bytes();
                    self.evict();
                }
            }
        }
        Ok(status)
    }

    /// The field with this number, in the static or the dynamic table.
    fn entry(&self, index: usize) -> Result<Entry, Malformed> {
        let before = index.checked_sub(1).ok_or(Malformed)?;
        if let Some(name) = NAMES.get(before) {
            let status = before.checked_sub(7).and_then(|at| STATUSES.get(at)).copied();
            // Only a name is ever taken from these, and from a status its value.
            return Ok(Entry {
                name_bytes: name.len(),
                value_bytes: 0,
                is_status: status.is_some(),
                status: status.unwrap_or(0),
            });
        }
        self.table.get(before - STATIC).copied().ok_or(Malformed)
    }

    fn evict(&mut self) {
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.table.pop_back() else { return };
            self.bytes -= oldest.bytes();
        }
    }
}

/// A number in the last `bits` of the first byte, and on (RFC 7541 §5.1).
fn take_number(block: &mut &[u8], bits: u8) -> Result<usize, Malformed> {
    let most = (1_usize << bits) - 1;
    let mut take = || {
        let (first, rest) = block.split_first().ok_or(Malformed)?;
        *block = rest;
        Ok(usize::from(*first))
    };
    let mut value = take()? & most;
    if value < most {
        return Ok(value);
    }
    for shift in [0, 7, 14, 21] {
        let byte = take()?;
        value += (byte & 127) << shift;
        if byte < 128 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// A name or a value in a block.
#[derive(Clone, Copy)]
struct Text<'a> {
    bytes: &'a [u8],
    huffman: bool,
}

impl<'a> Text<'a> {
    fn take(block: &mut &'a [u8]) -> Result<Self, Malformed> {
        let huffman = block.first().is_some_and(|byte| byte & 0x80 != 0);
        let length = take_number(block, 7)?;
        let (bytes, rest) = block.split_at_checked(length).ok_or(Malformed)?;
        *block = rest;
        Ok(Self { bytes, huffman })
    }

    /// Bytes of the text itself.
    fn length(self) -> Result<usize, Malformed> {
        if !self.huffman {
            return Ok(self.bytes.len());
        }
        let mut count = 0;
        huffman(self.bytes, |_| count += 1)?;
        Ok(count)
    }

    fn status(self) -> Result<u16, Malformed> {
        let mut digits = Vec::with_capacity(3);
        if self.huffman {
            huffman(self.bytes, |place| digits.push(DIGITS.iter().position(|digit| *digit == place)))?;
        } else {
            digits.extend(self.bytes.iter().map(|byte| byte.checked_sub(b'0').map(usize::from)));
        }
        let number = digits
            .iter()
            .try_fold(0, |number, digit| Some(number * 10 + (*digit).filter(|digit| *digit < 10)?));
        let status = number.filter(|_| digits.len() == 3).ok_or(Malformed)?;
        u16::try_from(status).map_err(|_| Malformed)
    }
}

/// How many symbols have a code of each length, from 5 bits (RFC 7541 Appendix B). The code is canonical: codes of a length follow
/// each other, and begin where the shorter ones end. So this table is enough to tell symbols apart.
const CODES: [u32; 26] =
    [10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4];

/// Places of the digits 0 to 9 among all symbols, in the order of their codes.
const DIGITS: [u32; 10] = [0, 1, 2, 15, 16, 17, 18, 19, 20, 21];

/// Calls `each` with every symbol's place in the order of codes.
fn huffman(bytes: &[u8], mut each: impl FnMut(u32)) -> Result<(), Malformed> {
    // `first` and `place`: of the first code that has `bits` bits.
    let (mut code, mut bits, mut first, mut place) = (0_u32, 0, 0_u32, 0_u32);
    for byte in bytes {
        for at in (0..8).rev() {
            code = code << 1 | u32::from(byte >> at & 1);
            bits += 1;
            if bits < 5 {
                continue;
            }
            let count = *CODES.get(bits - 5).ok_or(Malformed)?;
            if code - first < count {
                each(place + code - first);
                (code, bits, first, place) = (0, 0, 0, 0);
            } else {
                (first, place) = ((first + count) << 1, place + count);
            }
        }
    }
    // What is left are ones, fewer than eight (RFC 7541 §5.2).
    if bits < 8 && code + 1 == 1 << bits { Ok(()) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            hex.bytes().filter_map(|byte| char::from(byte).to_digit(16)?.try_into().ok()).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }

    fn fields(text: &[(&str, &str)]) -> Vec<(String, String)> {
        text.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// The responses of RFC 7541 Appendix C.5 and C.6: a table of 256 bytes, from which entries fall.
    fn check(blocks: [&str; 3]) {
        let mut decoder = Decoder { bytes_max: 256, ..Decoder::default() };
        let expected = [(Some(302), 4, 222), (Some(307), 4, 222), (Some(200), 3, 215)];
        for (block, (status, entries, size)) in blocks.iter().zip(expected) {
            assert_eq!(decoder.status(&bytes(block)), Ok(status), "{block}");
            assert_eq!((decoder.table.len(), decoder.bytes), (entries, size), "{block}");
        }
    }

    #[test]
    fn the_responses_of_the_rfc_are_understood() {
        check([
            "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e \
             1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d \
             4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 \
             7369 6f6e 3d31",
        ]);
        check([
            "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b \
             97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf \
             cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
        ]);
    }

    #[test]
    fn every_code_has_its_place() {
        // Kraft's sum of a complete code is one.
        let sum: f64 = (5..).zip(CODES).map(|(bits, count)| f64::from(count) / 2_f64.powi(bits)).sum();
        assert_eq!((sum, CODES.iter().sum::<u32>()), (1.0, 257));
    }

    #[test]
    fn half_a_block_is_malformed() {
        for block in
            ["48", "4803 33", "ff", "ffff ffff ff7f", "80", "be", "4882 6403", "3fff ff7f", "5882 ffff"]
        {
            assert_eq!(Decoder::default().status(&bytes(block)), Err(Malformed), "{block}");
        }
    }

    #[test]
    fn what_requests_have_in_common_is_said_once() {
        let request = |path: &str| {
            fields(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", path),
                (":authority", "a"),
                ("x-y", "z"),
            ])
        };
        let blocks = encode(&[request("/"), request("/b")]);
        assert_eq!(blocks[0].first, bytes("41 01 61 82 87 84 40 03 78 2d 79 01 7a"));
        assert_eq!(blocks[0].later, bytes("82 87 84 bf be"));
        assert_eq!(blocks[1].later, bytes("82 87 04 02 2f 62 bf be"));
        assert_eq!(encode(&[request("/b")])[0].later, bytes("82 87 c0 bf be"));
    }

    #[test]
    fn what_does_not_fit_into_the_table_is_said_each_time() {
        let long = "v".repeat(3000);
        let request = fields(&[(":authority", "a"), ("a", &long), ("b", &long)]);
        let blocks = &encode(std::slice::from_ref(&request))[0];
        assert!((6000..6100).contains(&blocks.first.len()) && (3000..3050).contains(&blocks.later.len()));
    }
}
