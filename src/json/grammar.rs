//! The grammar of RFC 8259 as operations on bitmaps, 64 bytes at a time.
//!
//! Whether a token may stand where it stands depends on the token before it and on the container around it, and on
//! nothing else. "Right after" is a shift by one; "after, but for white space" is an addition, whose carry runs through
//! the ones of the white space. So every rule is a handful of operations for 64 bytes whatever they hold. Only brackets
//! and literal names are looked at one by one.

use std::fmt;

use super::{
    block::{BLOCK_BYTES, Block, Classify, Numbers},
    members::is_space,
};

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
            return Err(failure(start, wrong, body.len(), state.stack.was_too_deep));
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
    /// Bit 0 each: but for white space, the next byte follows a bracket that opens or a comma; a colon, or nothing at
    /// all; a name.
    after_start: u64,
    after_colon: u64,
    after_name: u64,
    scalar: Scalar,
    /// Where the second half of a surrogate pair must be.
    surrogate: Option<usize>,
    stack: Stack,
    has_non_ascii: bool,
    backslash: u64,
}

impl Default for State {
    fn default() -> Self {
        Self {
            escaped: 0,
            in_string: 0,
            in_name: 0,
            after_start: 0,
            after_colon: 1,
            after_name: 0,
            scalar: Scalar::default(),
            surrogate: None,
            stack: Stack::new(),
            has_non_ascii: false,
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
        self.has_non_ascii |= bits.has_non_ascii;
        self.backslash |= bits.backslash;
        let mut wrong = 0;

        // Strings: from the opening quote on, without the closing one.
        let escaped = self.escaped_bytes(bits.backslash);
        let quote = bits.quote & !escaped;
        let in_string = classify.parity(quote) ^ self.in_string;
        self.in_string = 0u64.wrapping_sub(in_string >> 63);
        let opening = quote & in_string;
        let closing = quote & !in_string;
        let outside = !(quote | in_string);
        wrong |= bits.control & in_string;
        if bits.backslash | escaped != 0 {
            wrong |= bits.backslash & outside;
            wrong |= escapes(classify, block, body, start, escaped & in_string, &mut self.surrogate);
        }

        let space = bits.space & outside;
        let open = bits.open & outside;
        let close = bits.close & outside;
        let colon = bits.colon & outside;
        let comma = bits.comma & outside;
        let scalar = outside & !(space | open | close | colon | comma);
        let scalar_start = scalar & !((scalar << 1) | self.scalar.is_open);
        self.scalar.is_open = scalar >> 63;

        let places = self.stack.block(block, open, close, comma);
        wrong |= places.wrong;

        // A value is what follows one of these, and nothing else does, but a bracket that closes an empty container.
        let after_start = after(open | comma, space, &mut self.after_start);
        let after_colon = after(colon, space, &mut self.after_colon);
        let expected = after_start | after_colon;
        let empty = after_start & close;
        wrong |= (opening | open | scalar_start) & !expected;
        wrong |= expected & (comma | colon);
        wrong |= after_colon & close;
        if empty != 0 {
            wrong |= after_comma(body, start, empty);
        }

        // In an object, what follows a bracket or a comma is a name, and a colon follows each name and nothing else.
        let name = after_start & !close & places.object;
        let (end, in_name) = in_string.overflowing_add((name & opening) | self.in_name);
        self.in_name = u64::from(in_name);
        let after_name = after(end & closing, space, &mut self.after_name);
        wrong |= name & !opening;
        wrong |= after_name ^ colon;

        wrong |= self.scalar.block(classify, block, body, start, scalar, scalar_start);

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

    fn end(&self) -> Result<Read, BadJson> {
        if self.in_string != 0 || self.stack.depth != 0 || self.after_colon != 0 {
            return Err(BadJson::Truncated);
        }
        Ok(Read { has_non_ascii: self.has_non_ascii, has_backslash: self.backslash != 0 })
    }
}

/// `escaped` are the escaped bytes within strings. Returns those that cannot be. `second` is where the second half of a
/// surrogate pair must be.
#[inline(always)]
fn escapes<C: Classify>(
    classify: C,
    block: &Block,
    body: &[u8],
    start: usize,
    escaped: u64,
    second: &mut Option<usize>,
) -> u64 {
    let classes = classify.escapes(block);
    let mut wrong = escaped & !(classes.simple | classes.unicode);
    for bit in ones(escaped & classes.unicode) {
        wrong |= u64::from(!unicode(body, start + bit as usize, second)) << bit;
    }
    wrong
}

/// Whether there are four digits after the `u` at `at`, and the other half beside each surrogate (RFC 8259 §7).
/// `second` is where one must be next.
fn unicode(body: &[u8], at: usize, second: &mut Option<usize>) -> bool {
    let Some(unit) = body.get(at + 1..at + 5).and_then(hex) else { return false };
    let is_second = second.take() == Some(at);
    match unit {
        0xd800..=0xdbff => {
            *second = Some(at + 6);
            body.get(at + 5..at + 7) == Some(b"\\u")
                && matches!(body.get(at + 7..at + 11).and_then(hex), Some(0xdc00..=0xdfff))
        }
        0xdc00..=0xdfff => is_second,
        _ => true,
    }
}

/// Why the block at `start` has wrong bytes.
#[cold]
fn failure(start: usize, wrong: u64, len: usize, was_too_deep: bool) -> BadJson {
    let at = start + wrong.trailing_zeros() as usize;
    if was_too_deep {
        BadJson::TooDeep { at: start }
    } else if at < len {
        BadJson::Unexpected { at }
    } else {
        BadJson::Truncated
    }
}

/// The first bytes after each of `tokens` that are not white space.
///
/// Where the block ends before that, the carry goes to the next one.
#[inline(always)]
fn after(tokens: u64, space: u64, carry: &mut u64) -> u64 {
    let (sum, reaches_end) = space.overflowing_add((tokens << 1) | *carry);
    *carry = (tokens >> 63) | u64::from(reaches_end);
    sum & !space
}

/// Those of `closing`, brackets after an opening one or a comma, that come after a comma.
#[cold]
fn after_comma(body: &[u8], start: usize, mut closing: u64) -> u64 {
    let mut wrong = 0;
    while closing != 0 {
        let bit = closing & closing.wrapping_neg();
        closing ^= bit;
        let before = body.get(..start + bit.trailing_zeros() as usize).unwrap_or_default();
        if before.iter().rfind(|&&byte| !is_space(byte)) == Some(&b',') {
            wrong |= bit;
        }
    }
    wrong
}

/// The number that four hexadecimal digits stand for.
fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |all, &digit| Some(all * 16 + char::from(digit).to_digit(16)?))
}

#[expect(clippy::cast_possible_truncation, reason = "bodies are shorter than 4 GiB")]
const fn offset(at: usize) -> u32 {
    at as u32
}

/// Numbers and literal names. Bit 0 of a field speaks of the last byte of the block before.
#[derive(Default)]
struct Scalar {
    is_open: u64,
    /// The bytes of a literal name that reach into the next block.
    name: u64,
    name_end: u64,
    minus: u64,
    zero_first: u64,
    digit: u64,
    point: u64,
    /// A run of digits after a point reaches it.
    fraction: u64,
    exponent: Exponent,
}

#[derive(Default)]
struct Exponent {
    /// Whether any of the others is set.
    is_open: bool,
    exponent: u64,
    sign: u64,
    /// A run of digits after an exponent reaches it.
    power: u64,
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
            if bit > 59 {
                self.name = bytes >> (64 - bit);
            }
        }
        wrong |= next(names, &mut self.name_end) & !names & scalar;
        wrong | self.numbers(classify, block, &numbers, scalar & !names, scalar_start)
    }

    /// `number` are the bytes that must be of numbers, `start` the first ones, and maybe others (RFC 8259 §6).
    #[inline(always)]
    fn numbers<C: Classify>(
        &mut self,
        classify: C,
        block: &Block,
        numbers: &Numbers,
        number: u64,
        start: u64,
    ) -> u64 {
        let digit = numbers.digit & number;
        let minus = numbers.minus & number;
        let point = numbers.point & number;
        let mut wrong = 0;

        // The first digit is the only one if it is zero.
        let after_minus = next(minus & start, &mut self.minus);
        let zero_first = digit & numbers.zero & (start | after_minus);
        wrong |= next(zero_first, &mut self.zero_first) & digit;
        wrong |= after_minus & !digit;

        // Digits on both sides of a point, and no other point after them.
        let after_digit = next(digit, &mut self.digit);
        let after_point = next(point, &mut self.point);
        wrong |= point & !after_digit;
        wrong |= after_point & !digit;
        let fraction_end = run_end(after_point & digit, digit, &mut self.fraction);
        wrong |= fraction_end & point;

        let other = number & !(digit | minus | point);
        let minus_later = minus & !start;
        if other | minus_later != 0 || self.exponent.is_open {
            wrong |= self.exponent.block(classify, block, digit, minus_later, point, other, after_digit);
        }
        wrong
    }
}

impl Exponent {
    /// `minus` are those that do not begin a number.
    #[inline(always)]
    fn block<C: Classify>(
        &mut self,
        classify: C,
        block: &Block,
        digit: u64,
        minus: u64,
        point: u64,
        other: u64,
        after_digit: u64,
    ) -> u64 {
        let exponents = classify.exponents(block);
        let exponent = exponents.exponent & other;
        let plus = exponents.plus & other;
        let sign = plus | minus;
        let mut wrong = other & !(exponent | plus);

        let after_exponent = next(exponent, &mut self.exponent);
        let after_sign = next(sign, &mut self.sign);
        wrong |= exponent & !after_digit;
        wrong |= after_exponent & !(digit | sign);
        wrong |= sign & !after_exponent;
        wrong |= after_sign & !digit;
        // Neither a point nor another exponent after it.
        let power_end = run_end((after_exponent | after_sign) & digit, digit, &mut self.power);
        wrong |= power_end & (point | exponent);
        self.is_open = self.exponent | self.sign | self.power != 0;
        wrong
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

/// Bit 0x20 of a bracket tells `{` from `[` and `}` from `]`.
const CURLY: u8 = 0x20;

/// The containers around a byte, innermost last.
struct Stack {
    /// [`CURLY`] or 0 for what is open at each depth. One block can open 64 more than [`DEPTH_MAX`] before it is refused.
    kinds: [u8; 256],
    depth: u8,
    was_too_deep: bool,
}

/// Where the bytes of a block are. A bracket counts as within the container around it when it opens one, and as within
/// the one that it ends when it closes one.
#[derive(Clone, Copy)]
struct Places {
    wrong: u64,
    /// Directly in an object.
    object: u64,
    /// Directly in the outermost container, which is an object.
    top: u64,
}

impl Stack {
    const fn new() -> Self {
        Self { kinds: [0; 256], depth: 0, was_too_deep: false }
    }

    /// All ones directly in an object.
    #[inline(always)]
    fn object(&self) -> u64 {
        0u64.wrapping_sub(u64::from(self.kinds[usize::from(self.depth)] / CURLY))
    }

    #[inline(always)]
    fn block(&mut self, block: &Block, open: u64, close: u64, comma: u64) -> Places {
        let mut places = Places { wrong: 0, object: self.object(), top: 0 };
        let before = self.depth;
        let mut shallowest = before;
        let mut brackets = open | close;
        while brackets != 0 {
            let bit = brackets.trailing_zeros();
            brackets &= brackets - 1;
            let opens = u8::from((open >> bit) & 1 == 1);
            let curly = block[bit as usize & 63] & CURLY;

            // Written whether it opens or closes, so that there is no branch on what cannot be foretold.
            let slot = self.depth.wrapping_add(opens);
            let known = std::mem::replace(&mut self.kinds[usize::from(slot)], curly);
            places.wrong |= u64::from(((known ^ curly) / CURLY) & (opens ^ 1)) << bit;
            self.depth = slot.wrapping_sub(opens ^ 1);
            shallowest = shallowest.min(self.depth);

            let later = u64::MAX << bit << 1;
            places.object = (places.object & !later) | (self.object() & later);
        }
        if shallowest <= 1 {
            places = outermost(places, open, close, comma, before);
        }
        if usize::from(before) > DEPTH_MAX - BLOCK_BYTES && deepest(open, close, before) > DEPTH_MAX {
            self.was_too_deep = true;
            places.wrong |= 1;
        }
        places
    }
}

/// What there is to know of a block that begins at `depth` and that is partly in no container or in only one.
#[inline]
fn outermost(mut places: Places, open: u64, close: u64, comma: u64, mut depth: u8) -> Places {
    let (mut root, mut top) = (ones_if(depth == 0), ones_if(depth == 1));
    for bit in ones(open | close) {
        let opens = u8::from((open >> bit) & 1 == 1);
        // Nothing is open that it could close.
        places.wrong |= u64::from(depth == 0 && opens == 0) << bit;
        depth = depth.wrapping_add(opens).wrapping_sub(opens ^ 1);
        let later = u64::MAX << bit << 1;
        root = (root & !later) | (ones_if(depth == 0) & later);
        top = (top & !later) | (ones_if(depth == 1) & later);
    }
    places.wrong |= root & comma;
    places.top = top & places.object;
    places
}

/// The greatest depth in a block that begins at `depth`.
#[cold]
fn deepest(open: u64, close: u64, depth: u8) -> usize {
    let depths = ones(open | close).scan(usize::from(depth), |depth, bit| {
        *depth = if open >> bit & 1 == 1 { *depth + 1 } else { depth.saturating_sub(1) };
        Some(*depth)
    });
    depths.max().unwrap_or_default().max(depth.into())
}

fn ones(mut bits: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (bits != 0).then(|| bits.trailing_zeros())?;
        bits &= bits - 1;
        Some(bit)
    })
}

#[inline(always)]
fn ones_if(condition: bool) -> u64 {
    0u64.wrapping_sub(u64::from(condition))
}
