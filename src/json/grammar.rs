//! The grammar of RFC 8259 as operations on bitmaps, 64 bytes at a time.
//!
//! Whether a token may stand where it stands depends on the token before it and on the container around it, and on
//! nothing else. "Right after" is a shift by one; "after, but for white space" is an addition, whose carry runs through
//! the ones of the white space. So every rule is a handful of operations for 64 bytes whatever they hold. Only brackets
//! and literal names are looked at one by one.

use std::fmt;

use super::block::{BLOCK_BYTES, Block, Classify, Numbers};

/// Arrays and objects within each other.
pub const DEPTH_MAX: usize = 128;

/// Why bytes are not JSON. Offsets are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadJson {
    /// The first byte that cannot stand where it stands.
    Unexpected { at: usize },
    /// More than [`DEPTH_MAX`] arrays and objects within each other, in the 64 bytes from here.
    TooDeep { at: usize },
    /// The end came first.
    Truncated,
    /// A string is not UTF-8.
    NotUtf8 { at: usize },
    /// 4 GiB or more.
    TooLong,
}

impl fmt::Display for BadJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unexpected { at } => write!(f, "byte {at} is not JSON"),
            Self::TooDeep { at } => write!(f, "more than {DEPTH_MAX} levels from byte {at} on"),
            Self::Truncated => write!(f, "the JSON ends too early"),
            Self::NotUtf8 { at } => write!(f, "byte {at} is not UTF-8"),
            Self::TooLong => write!(f, "4 GiB or more"),
        }
    }
}

impl std::error::Error for BadJson {}

/// What was seen in passing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) has_non_ascii: bool,
    pub(super) has_backslash: bool,
}

/// Reads a body of less than 4 GiB. Whether what is not ASCII is UTF-8 is left to the caller.
///
/// With `MEMBERS`, appends to `marks` where the colons and commas of the outermost object are: by turns.
#[inline(always)]
pub(super) fn read<C: Classify, const MEMBERS: bool>(
    classify: C,
    body: &[u8],
    marks: &mut Vec<u32>,
) -> Result<Read, BadJson> {
    let (blocks, rest) = body.as_chunks::<BLOCK_BYTES>();
    // At least one byte of white space after the last token, so that every rule about what follows is applied.
    let mut last = [b' '; BLOCK_BYTES];
    last[..rest.len()].copy_from_slice(rest);

    let mut state = State::default();
    for index in 0..=blocks.len() {
        let block = blocks.get(index).unwrap_or(&last);
        let start = index * BLOCK_BYTES;
        let wrong = state.block::<C, MEMBERS>(classify, block, body, start, marks);
        if wrong != 0 {
            return Err(state.failure(start, wrong, body.len()));
        }
    }
    state.end()
}

/// What one block leaves for the next.
struct State {
    /// Bit 0: the next byte is escaped.
    escaped: u64,
    /// All ones within a string, else 0.
    in_string: u64,
    /// Bit 0: the string we are in is a name.
    in_name: u64,
    /// Bit 0 each: but for white space, the next byte follows such a token.
    after_open: u64,
    after_comma: u64,
    after_name: u64,
    after_value: u64,
    scalar: Scalar,
    surrogate: Option<usize>,
    stack: Stack,
    has_token: bool,
    non_ascii: u64,
    backslash: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            escaped: 0,
            in_string: 0,
            in_name: 0,
            after_open: 0,
            after_comma: 0,
            after_name: 0,
            after_value: 0,
            scalar: Scalar::default(),
            surrogate: None,
            stack: Stack::new(),
            has_token: false,
            non_ascii: 0,
            backslash: 0,
        }
    }
}

impl State {
    /// Returns the bytes that are wrong.
    #[inline(always)]
    fn block<C: Classify, const MEMBERS: bool>(
        &mut self,
        classify: C,
        block: &Block,
        body: &[u8],
        start: usize,
        marks: &mut Vec<u32>,
    ) -> u64 {
        let bits = classify.bits(block);
        self.non_ascii |= bits.non_ascii;
        self.backslash |= bits.backslash;
        let mut wrong = 0;

        // Strings: from the opening quote on, without the closing one.
        let escaped = self.escaped_bytes(bits.backslash);
        let quote = bits.quote & !escaped;
        let in_string = prefix_xor(quote) ^ self.in_string;
        self.in_string = 0u64.wrapping_sub(in_string >> 63);
        let opening = quote & in_string;
        let closing = quote & !in_string;
        let outside = !(quote | in_string);
        wrong |= bits.control & in_string;
        if bits.backslash | escaped != 0 {
            wrong |= bits.backslash & outside;
            wrong |= self.escapes(classify, block, body, start, escaped & in_string);
        }

        let space = bits.space & outside;
        let open = bits.open & outside;
        let close = bits.close & outside;
        let colon = bits.colon & outside;
        let comma = bits.comma & outside;
        let scalar = outside & !(space | open | close | colon | comma);

        let follows_scalar = (scalar << 1) | self.scalar.is_open;
        let scalar_start = scalar & !follows_scalar;
        self.scalar.is_open = scalar >> 63;
        wrong |= self.scalar.block(classify, block, body, start, scalar, scalar_start);

        let places = self.stack.block(open, close, bits.curly);
        wrong |= places.wrong;

        let value_start = opening | open | scalar_start;
        self.has_token |= value_start != 0;
        let after_open = after(open << 1, open >> 63, space, &mut self.after_open);
        let after_comma = after(comma << 1, comma >> 63, space, &mut self.after_comma);
        let value_end = closing | close;
        let after_value = after(
            (value_end << 1) | (follows_scalar & !scalar),
            value_end >> 63,
            space,
            &mut self.after_value,
        );

        // In an object, what follows `{` or a comma is a name, and a colon follows each name and nothing else.
        let name = ((after_open & !close) | after_comma) & places.object;
        let (end, in_name) = in_string.overflowing_add((name & opening) | self.in_name);
        self.in_name = u64::from(in_name);
        let name_end = end & closing;
        let after_name = after(name_end << 1, name_end >> 63, space, &mut self.after_name);

        wrong |= name & !opening;
        wrong |= after_name ^ colon;
        wrong |= after_open & !(value_start | close);
        wrong |= after_comma & !value_start;
        wrong |= after_value & !(comma | close | colon);
        // A value is what follows a colon or comes first: whatever does not follow one of these three.
        wrong |= (close | colon | comma) & !(after_open | after_comma | after_value);
        wrong |= comma & places.root;

        if MEMBERS {
            let mut found = (colon | comma) & places.top;
            while found != 0 {
                marks.push(offset(start) + found.trailing_zeros());
                found &= found - 1;
            }
        }
        wrong
    }

    /// The bytes after a backslash that is not itself escaped.
    ///
    /// In a run of backslashes every second one escapes. Runs are told apart by whether they begin at an odd or an even
    /// place: subtracting the run's first bit from the odd bits flips those within the run
    /// (Langdale and Lemire, "Parsing Gigabytes of JSON per Second", §3.1.1, as simdjson does it today).
    #[inline(always)]
    fn escaped_bytes(&mut self, backslash: u64) -> u64 {
        const ODD: u64 = 0xaaaa_aaaa_aaaa_aaaa;
        if backslash == 0 {
            return std::mem::take(&mut self.escaped);
        }
        let escaping = backslash & !self.escaped;
        let flipped = ((escaping << 1) | ODD).wrapping_sub(escaping) ^ ODD;
        let escaped = flipped ^ (backslash | self.escaped);
        self.escaped = (flipped & backslash) >> 63;
        escaped
    }

    /// `escaped` are the escaped bytes within strings. Returns those that cannot be.
    #[inline(always)]
    fn escapes<C: Classify>(
        &mut self,
        classify: C,
        block: &Block,
        body: &[u8],
        start: usize,
        escaped: u64,
    ) -> u64 {
        let classes = classify.escapes(block);
        let mut wrong = escaped & !(classes.simple | classes.unicode);
        let mut unicode = escaped & classes.unicode;
        while unicode != 0 {
            let bit = unicode & unicode.wrapping_neg();
            unicode ^= bit;
            if !self.unicode(body, start + bit.trailing_zeros() as usize) {
                wrong |= bit;
            }
        }
        wrong
    }

    /// Whether there are four digits after the `u` at `at`, and the other half beside each surrogate (RFC 8259 §7).
    #[inline]
    fn unicode(&mut self, body: &[u8], at: usize) -> bool {
        let Some(unit) = body.get(at + 1..at + 5).and_then(hex) else { return false };
        let is_second = self.surrogate.take() == Some(at);
        match unit {
            0xd800..=0xdbff => {
                self.surrogate = Some(at + 6);
                body.get(at + 5..at + 7) == Some(b"\\u")
                    && matches!(body.get(at + 7..at + 11).and_then(hex), Some(0xdc00..=0xdfff))
            }
            0xdc00..=0xdfff => is_second,
            _ => true,
        }
    }

    /// Why the block at `start` has wrong bytes.
    #[cold]
    fn failure(&self, start: usize, wrong: u64, len: usize) -> BadJson {
        let at = start + wrong.trailing_zeros() as usize;
        if self.stack.was_too_deep {
            BadJson::TooDeep { at: start }
        } else if at < len {
            BadJson::Unexpected { at }
        } else {
            BadJson::Truncated
        }
    }

    fn end(&self) -> Result<Read, BadJson> {
        if self.in_string != 0 || self.stack.depth != 0 || !self.has_token {
            return Err(BadJson::Truncated);
        }
        Ok(Read { has_non_ascii: self.non_ascii != 0, has_backslash: self.backslash != 0 })
    }
}

/// The first bytes that are not white space at or after each of `next`, which are the bytes right after a token.
///
/// `last` is whether the block's last byte ends such a token. Where white space reaches the end of the block, the carry
/// goes to the next one.
#[inline(always)]
fn after(next: u64, last: u64, space: u64, carry: &mut u64) -> u64 {
    let (sum, reaches_end) = space.overflowing_add(next | *carry);
    *carry = last | u64::from(reaches_end);
    sum & !space
}

/// Bit `n` is whether an odd number of the bits up to and with `n` are set.
#[inline(always)]
fn prefix_xor(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

/// The number that four hexadecimal digits stand for.
fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |all, &digit| Some(all * 16 + char::from(digit).to_digit(16)?))
}

#[expect(clippy::cast_possible_truncation, reason = "bodies are shorter than 4 GiB")]
const fn offset(at: usize) -> u32 {
    at as u32
}

/// Numbers and literal names.
#[derive(Default)]
struct Scalar {
    /// Bit 0: the last byte was one of a scalar.
    is_open: u64,
    /// The bytes of a literal name that reach into the next block.
    name: u64,
    /// Bit 0 each: the last byte was this, or a run of digits after a point or an exponent reaches it.
    name_end: u64,
    sign: u64,
    minus_first: u64,
    zero_first: u64,
    digit: u64,
    point: u64,
    exponent: u64,
    fraction_run: u64,
    exponent_run: u64,
}

impl Scalar {
    #[inline(always)]
    fn block<C: Classify>(
        &mut self,
        classify: C,
        block: &Block,
        body: &[u8],
        start: usize,
        scalar: u64,
        scalar_start: u64,
    ) -> u64 {
        let numbers = classify.numbers(block);
        let mut wrong = 0;

        let mut names = std::mem::take(&mut self.name);
        let mut starts = scalar_start & !(numbers.digit | numbers.minus);
        while starts != 0 {
            let bit = starts.trailing_zeros();
            starts &= starts - 1;
            let Some(length) = name_length(body, start + bit as usize) else {
                wrong |= 1 << bit;
                continue;
            };
            let bytes = (1u64 << length) - 1;
            names |= bytes << bit;
            self.name = (u128::from(bytes) << bit >> 64) as u64;
        }
        wrong |= ((names << 1) | self.name_end) & !names & scalar;
        self.name_end = names >> 63;
        wrong | self.numbers(&numbers, scalar & !names, scalar_start & !names)
    }

    /// `number` are the bytes that must be of numbers, `first` the first ones (RFC 8259 §6).
    #[inline(always)]
    fn numbers(&mut self, numbers: &Numbers, number: u64, first: u64) -> u64 {
        let digit = numbers.digit & number;
        let minus = numbers.minus & number;
        let plus = numbers.plus & number;
        let point = numbers.point & number;
        let exponent = numbers.exponent & number;
        let sign = minus | plus;
        let mut wrong = number & !(digit | sign | point | exponent);

        let minus_first = minus & first;
        let integer_first = (first & !minus) | next(minus_first, &mut self.minus_first);
        let zero_first = numbers.zero & integer_first;
        wrong |= next(zero_first, &mut self.zero_first) & digit;

        let after_digit = next(digit, &mut self.digit);
        let after_point = next(point, &mut self.point);
        let after_exponent = next(exponent, &mut self.exponent);
        let after_sign = next(sign, &mut self.sign);
        wrong |= (point | exponent) & !after_digit;
        wrong |= (after_point | after_sign) & !digit;
        wrong |= after_exponent & !(digit | sign);
        wrong |= (sign & !minus_first) & !after_exponent;

        // One point, and none after the exponent, of which there is one too.
        let fraction_end = run_end(after_point & digit, digit, &mut self.fraction_run);
        let power = (after_exponent | (after_sign & !integer_first)) & digit;
        let exponent_end = run_end(power, digit, &mut self.exponent_run);
        wrong | (fraction_end & point) | (exponent_end & (point | exponent))
    }
}

/// The bytes after `bits`; `carry` is the last one of the block before.
#[inline(always)]
fn next(bits: u64, carry: &mut u64) -> u64 {
    let next = (bits << 1) | *carry;
    *carry = bits >> 63;
    next
}

/// The bytes after those runs of `digit` that begin at `start`.
#[inline(always)]
fn run_end(start: u64, digit: u64, carry: &mut u64) -> u64 {
    let (sum, reaches_end) = digit.overflowing_add(start | *carry);
    *carry = u64::from(reaches_end);
    sum & !digit
}

/// The length of the literal name at `at` (RFC 8259 §3).
#[inline(always)]
fn name_length(body: &[u8], at: usize) -> Option<u32> {
    match body.get(at..at + 4)? {
        b"true" | b"null" => Some(4),
        b"fals" if body.get(at + 4) == Some(&b'e') => Some(5),
        _ => None,
    }
}

const ARRAY: u8 = 0;
const OBJECT: u8 = 1;
const ROOT: u8 = 2;

/// The containers around a byte, innermost last.
struct Stack {
    /// What is open at each depth. One block can open 64 more than [`DEPTH_MAX`] before it is refused.
    kinds: [u8; 256],
    depth: usize,
    was_too_deep: bool,
}

/// Where the bytes of a block are. A bracket is in the container that it opens or closes only when it closes it.
struct Places {
    wrong: u64,
    /// Directly in an object.
    object: u64,
    /// Directly in the outermost container, which is an object.
    top: u64,
    /// Outside of all containers.
    root: u64,
}

impl Stack {
    fn new() -> Self {
        let mut kinds = [0; 256];
        kinds[0] = ROOT;
        Self { kinds, depth: 0, was_too_deep: false }
    }

    #[inline(always)]
    fn kind(&mut self, depth: usize) -> &mut u8 {
        &mut self.kinds[depth & 255]
    }

    #[inline(always)]
    fn block(&mut self, open: u64, close: u64, curly: u64) -> Places {
        let kind = *self.kind(self.depth);
        let object = mask(kind & 1);
        let top = object & mask(u8::from(self.depth == 1));
        let mut places = Places { wrong: 0, object, top, root: mask(kind >> 1) };
        let mut brackets = open | close;
        let mut deepest = 0;
        while brackets != 0 {
            let bit = brackets.trailing_zeros();
            brackets &= brackets - 1;
            let opens = (open >> bit) & 1;
            let kind = (curly >> bit) as u8 & 1;

            // Written whether it opens or closes: no branch on what cannot be foretold.
            let slot = self.depth.wrapping_add(opens as usize);
            deepest = deepest.max(slot);
            let known = self.kind(slot);
            let differs = (*known ^ kind) & (opens as u8 ^ 1 | (opens as u8 ^ 1) << 1);
            places.wrong |= u64::from(differs != 0) << bit;
            *known = kind;
            self.depth = slot.wrapping_sub(opens as usize ^ 1);

            let kind = *self.kind(self.depth);
            let later = u64::MAX << bit << 1;
            let object = mask(kind & 1);
            let top = object & mask(u8::from(self.depth == 1));
            places.object = (places.object & !later) | (object & later);
            places.top = (places.top & !later) | (top & later);
            places.root = (places.root & !later) | (mask(kind >> 1) & later);
        }
        if deepest > DEPTH_MAX && deepest < usize::MAX / 2 {
            self.was_too_deep = true;
            places.wrong |= 1 << 63;
        }
        places
    }
}

#[inline(always)]
fn mask(bit: u8) -> u64 {
    0u64.wrapping_sub(u64::from(bit))
}
