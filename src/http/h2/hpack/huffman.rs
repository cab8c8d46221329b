//! The Huffman code of RFC 7541 Appendix B, both ways.

/// Bits in the code of each byte, and of EOS. The code is canonical: shorter codes first, equally long ones in order.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];
const EOS: usize = 256;
const LENGTH_MAX: usize = 30;
const LENGTH_MIN: usize = 5;

/// Bits looked at in one step of decoding. Two of the commonest symbols fit.
const STEP_BITS: usize = 11;

/// Each byte's code and its length.
static CODES: [(u32, u8); 257] = codes();

/// For each `STEP_BITS` bits: up to two symbols they begin with, how many there are, and their bits together. None where the first
/// code is longer.
#[derive(Clone, Copy)]
struct Step {
    symbols: [u8; 2],
    count: u8,
    bits: u8,
}
static STEPS: [Step; 1 << STEP_BITS] = steps();

/// For each length: the first code that is longer, in the highest bits of a word; and what to add to a code of this length for its
/// place in `SYMBOLS`.
static LIMITS: [(u32, i32); LENGTH_MAX + 1] = limits();
/// All symbols by their codes.
static SYMBOLS: [u16; 257] = symbols();

const fn codes() -> [(u32, u8); 257] {
    let mut codes = [(0, 0); 257];
    let (mut code, mut length) = (0, 1);
    while length <= LENGTH_MAX {
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                codes[symbol] = (code, LENGTHS[symbol]);
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        length += 1;
    }
    codes
}

const fn symbols() -> [u16; 257] {
    let mut symbols = [0; 257];
    let (mut place, mut length) = (0, 1);
    while length <= LENGTH_MAX {
        let mut symbol = 0u16;
        while symbol < 257 {
            if LENGTHS[symbol as usize] as usize == length {
                symbols[place] = symbol;
                place += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    symbols
}

#[expect(clippy::cast_possible_truncation, reason = "numbers of codes, symbols and bits are small")]
const fn limits() -> [(u32, i32); LENGTH_MAX + 1] {
    let mut limits = [(0, 0); LENGTH_MAX + 1];
    let (mut code, mut place, mut length) = (0u32, 0i32, 1);
    while length <= LENGTH_MAX {
        code <<= 1;
        let first = code;
        let first_place = place;
        let mut symbol = 0;
        while symbol < 257 {
            if LENGTHS[symbol] as usize == length {
                code += 1;
                place += 1;
            }
            symbol += 1;
        }
        // The last length's limit is 2^32, which nothing reaches.
        let limit = (code as u64) << (32 - length);
        let limit = if limit > u32::MAX as u64 { u32::MAX } else { limit as u32 };
        limits[length] = (limit, first_place - first as i32);
        length += 1;
    }
    limits
}

#[expect(clippy::cast_possible_truncation, reason = "numbers of codes, symbols and bits are small")]
const fn steps() -> [Step; 1 << STEP_BITS] {
    let codes = codes();
    let mut steps = [Step { symbols: [0; 2], count: 0, bits: 0 }; 1 << STEP_BITS];
    let mut first = 0;
    while first < EOS {
        let (code, length) = codes[first];
        let left = STEP_BITS as i32 - length as i32;
        if left >= 0 {
            let base = (code as usize) << left;
            let mut rest = 0;
            while rest < 1 << left {
                steps[base + rest] = Step { symbols: [first as u8, 0], count: 1, bits: length };
                rest += 1;
            }
            let mut second = 0;
            while second < EOS {
                let (code, second_length) = codes[second];
                let left = left - second_length as i32;
                if left >= 0 {
                    let base = base + ((code as usize) << left);
                    let mut rest = 0;
                    while rest < 1 << left {
                        steps[base + rest] = Step {
                            symbols: [first as u8, second as u8],
                            count: 2,
                            bits: length + second_length,
                        };
                        rest += 1;
                    }
                }
                second += 1;
            }
        }
        first += 1;
    }
    steps
}

/// Appends what `coded` says. False, with something appended, when it has EOS in it or is not padded as RFC 7541 §5.2 wants: fewer
/// than 8 bits, all ones.
pub(super) fn decode(coded: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    // Room for the shortest codes, and for the second half of a last step.
    out.resize(start + coded.len() * 8 / LENGTH_MIN + 2, 0);
    let room = &mut out[start..];
    let mut len = 0;
    // The next bits, from the highest on; `have` of them count, zeros follow.
    let (mut bits, mut have) = (0u64, 0usize);
    let mut rest = coded;

    let sound = loop {
        if have <= 32 {
            match rest.split_first_chunk::<4>() {
                Some((four, after)) => {
                    bits |= u64::from(u32::from_be_bytes(*four)) << (32 - have);
                    have += 32;
                    rest = after;
                }
                None => {
                    while let ([byte, after @ ..], true) = (rest, have <= 56) {
                        bits |= u64::from(*byte) << (56 - have);
                        have += 8;
                        rest = after;
                    }
                }
            }
        }
        let step = STEPS[(bits >> (64 - STEP_BITS)) as usize];
        let step_bits = usize::from(step.bits);
        if step.count > 0 && step_bits <= have {
            room[len..len + 2].copy_from_slice(&step.symbols);
            len += usize::from(step.count);
            bits <<= step_bits;
            have -= step_bits;
            continue;
        }
        match one(bits, have) {
            Some((symbol, length)) => {
                room[len] = symbol;
                len += 1;
                bits <<= length;
                have -= length;
            }
            // Ones to the end, which is the beginning of EOS.
            None => break have < 8 && rest.is_empty() && bits >> (64 - have.max(1)) == (1 << have) - 1,
        }
    };
    out.truncate(start + len);
    sound
}

/// The first symbol of `bits` and its length. `None` when it is cut, or EOS.
fn one(bits: u64, have: usize) -> Option<(u8, usize)> {
    let word = (bits >> 32) as u32;
    let length = (LENGTH_MIN..=LENGTH_MAX).find(|length| word < LIMITS[*length].0)?;
    if length > have {
        return None;
    }
    let code = i32::try_from(word >> (32 - length)).ok()?;
    let symbol = SYMBOLS[usize::try_from(code + LIMITS[length].1).ok()?];
    Some((u8::try_from(symbol).ok()?, length))
}

/// Bytes that [`encode`] makes of `text`.
pub(super) fn encoded_len(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|byte| usize::from(LENGTHS[usize::from(*byte)])).sum();
    bits.div_ceil(8)
}

/// Appends `text` in the code, padded with ones.
pub(super) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut have) = (0u64, 0u32);
    for byte in text {
        let (code, length) = CODES[usize::from(*byte)];
        bits = bits << length | u64::from(code);
        have += u32::from(length);
        if have >= 32 {
            have -= 32;
            out.extend_from_slice(&low_word(bits >> have).to_be_bytes());
        }
    }
    if have > 0 {
        let padding = 32 - have;
        let word = low_word(bits << padding | ((1 << padding) - 1));
        out.extend_from_slice(&word.to_be_bytes()[..have.div_ceil(8) as usize]);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the higher bits have been written already")]
const fn low_word(bits: u64) -> u32 {
    bits as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, coded: &[u8]) {
        let mut out = Vec::new();
        encode(text.as_bytes(), &mut out);
        assert_eq!(out, coded, "{text}");
        assert_eq!(encoded_len(text.as_bytes()), coded.len(), "{text}");
        let mut back = Vec::new();
        assert!(decode(coded, &mut back), "{text}");
        assert_eq!(back, text.as_bytes());
    }

    fn check_refused(coded: &[u8]) {
        assert!(!decode(coded, &mut Vec::new()), "{coded:x?}");
    }

    // RFC 7541 Appendix B, C.4, C.6

    #[test]
    fn the_code_is_complete_and_its_symbols_are_those_of_the_appendix() {
        let used: f64 = LENGTHS.iter().map(|length| 0.5f64.powi(i32::from(*length))).sum();
        assert!((used - 1.0).abs() < f64::EPSILON, "every bit string begins with one code");
        assert_eq!(CODES[usize::from(b'0')], (0x0, 5));
        assert_eq!(CODES[usize::from(b' ')], (0x14, 6));
        assert_eq!(CODES[usize::from(b'X')], (0xfc, 8));
        assert_eq!(CODES[usize::from(b'\\')], (0x7fff0, 19));
        assert_eq!(CODES[195], (0x7fff1, 19));
        assert_eq!(CODES[255], (0x3ffffee, 26));
        assert_eq!(CODES[usize::from(b'\n')], (0x3ffffffc, 30));
        assert_eq!(CODES[EOS], (0x3fffffff, 30));
    }

    #[test]
    fn the_examples_of_the_rfc_read_as_they_should() {
        check("", b"");
        check("www.example.com", b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff");
        check("no-cache", b"\xa8\xeb\x10\x64\x9c\xbf");
        check("custom-key", b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f");
        check("custom-value", b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf");
        check("302", b"\x64\x02");
        check("private", b"\xae\xc3\x77\x1a\x4b");
        check(
            "https://www.example.com",
            b"\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3",
        );
    }

    // RFC 7541 §5.2

    #[test]
    fn padding_is_less_than_a_byte_of_ones() {
        check("0", b"\x07");
        check_refused(b"\x06");
        check_refused(b"\x00\x00");
        check_refused(b"\x07\xff");
        check_refused(b"\xff");
        check_refused(b"\xfe");
        // `a` and its padding, then eight ones more.
        check_refused(b"\x1f\xff");
    }

    #[test]
    fn the_end_symbol_is_not_in_a_string() {
        check_refused(b"\xff\xff\xff\xff");
        check_refused(b"\xff\xff\xff\xfc");
        check_refused(b"\x07\xff\xff\xff\xff");
    }

    proptest! {
        #[test]
        fn every_string_comes_back(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let (mut coded, mut back) = (Vec::new(), b"x".to_vec());
            encode(&text, &mut coded);
            prop_assert_eq!(coded.len(), encoded_len(&text));
            prop_assert!(decode(&coded, &mut back));
            prop_assert_eq!(&back[1..], &text[..]);
        }

        #[test]
        fn what_is_accepted_is_what_encoding_gives(coded in proptest::collection::vec(any::<u8>(), 0..40)) {
            let (mut text, mut again) = (Vec::new(), Vec::new());
            if decode(&coded, &mut text) {
                encode(&text, &mut again);
                prop_assert_eq!(again, coded);
            }
        }
    }
}
