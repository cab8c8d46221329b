//! What the 64 bytes of a block are, as bitmaps: bit `n` speaks of byte `n`.

/// The bytes looked at at once: as many as a `u64` has bits.
pub(super) const BLOCK_BYTES: usize = 64;

pub(super) type Block = [u8; BLOCK_BYTES];

/// What the grammar needs to know of every block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bits {
    pub(super) quote: u64,
    pub(super) backslash: u64,
    /// Below 0x20: not allowed in strings (RFC 8259 §7).
    pub(super) control: u64,
    /// Space, tab, LF, CR (§2).
    pub(super) space: u64,
    /// `{` and `[`.
    pub(super) open: u64,
    /// `}` and `]`.
    pub(super) close: u64,
    pub(super) colon: u64,
    pub(super) comma: u64,
    /// Whether a byte has its bit 0x80.
    pub(super) has_non_ascii: bool,
}

/// What it needs of blocks with numbers in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) digit: u64,
    pub(super) zero: u64,
    pub(super) minus: u64,
    pub(super) point: u64,
}

/// What it needs of blocks with exponents in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Exponents {
    /// `e` and `E`.
    pub(super) exponent: u64,
    pub(super) plus: u64,
}

/// What it needs of blocks with escapes in them (§7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Escapes {
    /// What may follow a backslash, except `u`.
    pub(super) simple: u64,
    pub(super) unicode: u64,
}

/// Turns bytes into bitmaps. All implementations give the same bits.
pub(super) trait Classify: Copy {
    fn bits(self, block: &Block) -> Bits;
    fn numbers(self, block: &Block) -> Numbers;
    fn exponents(self, block: &Block) -> Exponents;
    fn escapes(self, block: &Block) -> Escapes;
    /// Bit `n` is whether an odd number of the bits up to and with `n` are set.
    fn parity(self, bits: u64) -> u64;
}

/// For every machine.
#[derive(Clone, Copy)]
pub(super) struct Portable;

impl Classify for Portable {
    #[inline(always)]
    fn bits(self, block: &Block) -> Bits {
        Bits {
            quote: equal(block, b'"'),
            backslash: equal(block, b'\\'),
            control: map(block, |bytes| !at_least(bytes, 0x20)),
            space: equal(block, b' ') | equal(block, b'\n') | equal(block, b'\r') | equal(block, b'\t'),
            open: equal_folded(block, b'{'),
            close: equal_folded(block, b'}'),
            colon: equal(block, b':'),
            comma: equal(block, b','),
            has_non_ascii: !block.is_ascii(),
        }
    }

    #[inline(always)]
    fn numbers(self, block: &Block) -> Numbers {
        Numbers {
            digit: map(block, |bytes| at_least(bytes, b'0') & !at_least(bytes, b'9' + 1)),
            zero: equal(block, b'0'),
            minus: equal(block, b'-'),
            point: equal(block, b'.'),
        }
    }

    #[inline(always)]
    fn exponents(self, block: &Block) -> Exponents {
        Exponents { exponent: equal_folded(block, b'e'), plus: equal(block, b'+') }
    }

    #[inline(always)]
    fn escapes(self, block: &Block) -> Escapes {
        Escapes {
            simple: b"\"\\/bfnrt".iter().fold(0, |all, &byte| all | equal(block, byte)),
            unicode: equal(block, b'u'),
        }
    }

    #[inline(always)]
    fn parity(self, mut bits: u64) -> u64 {
        for shift in [1, 2, 4, 8, 16, 32] {
            bits ^= bits << shift;
        }
        bits
    }
}

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// Collects the high bit of each byte of what `test` makes of eight bytes.
#[inline(always)]
fn map(block: &Block, test: impl Fn(u64) -> u64) -> u64 {
    let mut bits = 0;
    for (index, bytes) in block.as_chunks::<8>().0.iter().enumerate() {
        let high = (test(u64::from_le_bytes(*bytes)) & HIGH) >> 7;
        // Each factor bit moves one byte's bit to its place in the top byte.
        bits |= (high.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * index);
    }
    bits
}

#[inline(always)]
fn equal(block: &Block, byte: u8) -> u64 {
    map(block, |bytes| !at_least(bytes ^ (ONES * u64::from(byte)), 1))
}

/// The same, with bit 0x20 of each byte set before.
#[inline(always)]
fn equal_folded(block: &Block, byte: u8) -> u64 {
    map(block, |bytes| !at_least((bytes | (ONES * 0x20)) ^ (ONES * u64::from(byte)), 1))
}

/// Sets the high bit of each byte of at least `least`, which is within 1..=127.
#[inline(always)]
fn at_least(bytes: u64, least: u8) -> u64 {
    // Without their high bits, the bytes do not carry into each other.
    ((bytes & !HIGH) + ONES * u64::from(0x80 - least)) | bytes
}
