//! The bitmaps of a block by AVX2, and the grammar compiled for the machines that have it.
#![expect(
    unsafe_code,
    reason = "vector loads and calls that only some processors can run; see JUSTIFICATION below"
)]
#![cfg(target_arch = "x86_64")]

use std::arch::x86_64::{
    __m256i, _mm_clmulepi64_si128, _mm_cvtsi128_si64, _mm_set_epi64x, _mm_set1_epi8, _mm256_cmpeq_epi8,
    _mm256_loadu_si256, _mm256_max_epu8, _mm256_min_epu8, _mm256_movemask_epi8, _mm256_or_si256,
    _mm256_set1_epi8, _mm256_setr_epi8, _mm256_shuffle_epi8,
};

use super::{
    block::{Bits, Block, Classify, Escapes, Exponents, Numbers},
    grammar::{self, BadJson, Read},
};

/// The proof that this processor has AVX2, BMI1, BMI2, LZCNT, POPCNT and PCLMULQDQ: only [`Avx2::detect`] makes one.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let here = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt")
            && is_x86_feature_detected!("pclmulqdq");
        here.then_some(Self(()))
    }

    /// [`grammar::read`] on this processor.
    pub(super) fn read<const MEMBERS: bool>(
        self,
        body: &[u8],
        marks: &mut Vec<u32>,
    ) -> Result<Read, BadJson> {
        #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,pclmulqdq")]
        fn read<const MEMBERS: bool>(avx2: Avx2, body: &[u8], marks: &mut Vec<u32>) -> Result<Read, BadJson> {
            grammar::read::<_, MEMBERS>(avx2, body, marks)
        }
        // JUSTIFICATION: `cargo bench --bench json`, 10 KiB: 1.8 GB/s, and 0.48 GB/s by the portable twin, which is all
        // that safe code can do here: there is no safe way to say what the processor has.
        // SAFETY: `self` exists, so the processor has these features.
        unsafe { read::<MEMBERS>(self, body, marks) }
    }
}

impl Classify for Avx2 {
    #[inline(always)]
    fn bits(self, block: &Block) -> Bits {
        // JUSTIFICATION: as above.
        // SAFETY: `self` exists, so the processor has AVX2.
        unsafe { bits(block) }
    }

    #[inline(always)]
    fn numbers(self, block: &Block) -> Numbers {
        // JUSTIFICATION: as above.
        // SAFETY: `self` exists, so the processor has AVX2.
        unsafe { numbers(block) }
    }

    #[inline(always)]
    fn exponents(self, block: &Block) -> Exponents {
        // JUSTIFICATION: as above.
        // SAFETY: `self` exists, so the processor has AVX2.
        unsafe { exponents(block) }
    }

    #[inline(always)]
    fn escapes(self, block: &Block) -> Escapes {
        // JUSTIFICATION: as above.
        // SAFETY: `self` exists, so the processor has AVX2.
        unsafe { escapes(block) }
    }

    #[inline(always)]
    fn parity(self, bits: u64) -> u64 {
        // JUSTIFICATION: as above.
        // SAFETY: `self` exists, so the processor has PCLMULQDQ.
        unsafe { parity(bits) }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn bits(block: &Block) -> Bits {
    let both = load(block);
    let folded = both.map(|half| _mm256_or_si256(half, _mm256_set1_epi8(0x20)));
    // The white space with each low half byte, or what no byte equals: those above 0x7f look up 0.
    let spaces = table(*b" \xff\xff\xff\xff\xff\xff\xff\xff\t\n\xff\xff\r\xff\xff");
    Bits {
        quote: equal(both, b'"'),
        backslash: equal(both, b'\\'),
        control: mask(
            both.map(|half| _mm256_cmpeq_epi8(_mm256_min_epu8(half, _mm256_set1_epi8(0x1f)), half)),
        ),
        space: mask(both.map(|half| _mm256_cmpeq_epi8(_mm256_shuffle_epi8(spaces, half), half))),
        open: equal(folded, b'{'),
        close: equal(folded, b'}'),
        colon: equal(both, b':'),
        comma: equal(both, b','),
        has_non_ascii: _mm256_movemask_epi8(_mm256_or_si256(both[0], both[1])) != 0,
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn numbers(block: &Block) -> Numbers {
    let both = load(block);
    Numbers {
        digit: mask(both.map(|half| {
            let clamped = _mm256_max_epu8(
                _mm256_min_epu8(half, _mm256_set1_epi8(b'9'.cast_signed())),
                _mm256_set1_epi8(b'0'.cast_signed()),
            );
            _mm256_cmpeq_epi8(clamped, half)
        })),
        zero: equal(both, b'0'),
        minus: equal(both, b'-'),
        point: equal(both, b'.'),
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn exponents(block: &Block) -> Exponents {
    let both = load(block);
    let folded = both.map(|half| _mm256_or_si256(half, _mm256_set1_epi8(0x20)));
    Exponents { exponent: equal(folded, b'e'), plus: equal(both, b'+') }
}

#[inline]
#[target_feature(enable = "avx2")]
fn escapes(block: &Block) -> Escapes {
    let both = load(block);
    // By the low half byte, as above. Three end in 2.
    let most = table(*b"\xff\xffb\xfft\xfff\xff\xff\xff\xff\xff\\\xffn/");
    Escapes {
        simple: mask(both.map(|half| _mm256_cmpeq_epi8(_mm256_shuffle_epi8(most, half), half)))
            | equal(both, b'"')
            | equal(both, b'r'),
        unicode: equal(both, b'u'),
    }
}

/// A product without carries by all ones adds up, modulo 2, each bit and all those below it.
#[inline]
#[target_feature(enable = "pclmulqdq")]
fn parity(bits: u64) -> u64 {
    let product = _mm_clmulepi64_si128::<0>(_mm_set_epi64x(0, bits.cast_signed()), _mm_set1_epi8(-1));
    _mm_cvtsi128_si64(product).cast_unsigned()
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(block: &Block) -> [__m256i; 2] {
    let (halves, _) = block.as_chunks::<32>();
    // JUSTIFICATION: there is no safe load of 32 bytes.
    // SAFETY: each reference is to 32 bytes, and the load asks for no alignment.
    [&halves[0], &halves[1]].map(|half| unsafe { _mm256_loadu_si256(half.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx2")]
fn equal(both: [__m256i; 2], byte: u8) -> u64 {
    mask(both.map(|half| _mm256_cmpeq_epi8(half, _mm256_set1_epi8(byte.cast_signed()))))
}

/// The high bit of each byte.
#[inline]
#[target_feature(enable = "avx2")]
fn mask(both: [__m256i; 2]) -> u64 {
    let [low, high] = both.map(|half| _mm256_movemask_epi8(half).cast_unsigned());
    u64::from(low) | u64::from(high) << 32
}

/// A table for `_mm256_shuffle_epi8`, the same in both lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn table(t: [u8; 16]) -> __m256i {
    let t = t.map(u8::cast_signed);
    _mm256_setr_epi8(
        t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8], t[9], t[10], t[11], t[12], t[13], t[14], t[15],
        t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8], t[9], t[10], t[11], t[12], t[13], t[14], t[15],
    )
}
