//! One 512-bit register a vector: AVX-512 with VNNI, with and without VBMI.
use std::arch::x86_64::*;

use chalot_simd::{Isa, IsaKind};
use half::bf16;

use super::{Kernel, ProductLanes, Quad, Range, digit_of_two};
use crate::{
    math::lanes::avx512::Avx512,
    matrix::{BLOCK, TILE_ROWS},
};

/// Proof that this CPU has all that [`IsaKind::Avx512`] stands for, or if `VBMI`, [`IsaKind::Avx512Vbmi`].
#[derive(Clone, Copy)]
pub(crate) struct Avx512Products<const VBMI: bool>(Avx512);

impl<const VBMI: bool> Avx512Products<VBMI> {
    /// `None` when `isa` does not promise it.
    pub(crate) fn new(isa: Isa) -> Option<Self> {
        let promised = !VBMI || isa.kind().includes(IsaKind::Avx512Vbmi);
        Avx512::new(isa).filter(|_| promised).map(Self)
    }
}

/// # Safety
/// The CPU has all that [`IsaKind::Avx512`] stands for.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn call<K: Kernel, P: ProductLanes>(lanes: P, kernel: K) {
    // 4 x 6 sums, 4 weights and an activation: 29 of 32 registers. With companions, 2 x 2 x 6 and as many.
    kernel.run::<_, 4, 2>(lanes)
}

/// # Safety
/// The CPU has all that [`IsaKind::Avx512Vbmi`] stands for.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,avx2,fma,f16c")]
unsafe fn call_vbmi<K: Kernel, P: ProductLanes>(lanes: P, kernel: K) {
    kernel.run::<_, 4, 2>(lanes)
}

/// What finds the digits of a byte of `Trit5` by look-ups in 64 bytes: one operation each, where one in 256 is seven.
///
/// The two leading digits change at the multiples of 256/9, rounded up. For `byte + 3 - byte / 64` these are the multiples of 28,
/// so a quarter of it, the byte's *cell*, tells both. Within a cell numbers follow one another, so the byte and a shift of the cell's own
/// (modulo 64: its *slot*) tell the three others.
struct Digits {
    /// By cells.
    shifts: [u8; BLOCK],
    /// By cells.
    leading: [[u8; BLOCK]; 2],
    /// By slots.
    trailing: [[u8; BLOCK]; 3],
}

static DIGITS: Digits = Digits::of([
    7, 42, 42, 10, 10, 10, 14, 14, 14, 14, 14, 45, 45, 50, 50, 14, 49, 17, 17, 22, 45, 21, 21, 21, 53, 41,
    52, 57, 57, 57, 12, 56, 24, 29, 53, 28, 28, 28, 60, 49, 59, 0, 0, 0, 20, 63, 31, 31, 36, 51, 35, 35, 3,
    3, 7, 7, 7, 7, 7, 38, 38, 38, 43, 43,
]);

impl Digits {
    /// Found by search: with these shifts no slot has two meanings. Which is checked here, at compile time.
    const fn of(shifts: [u8; BLOCK]) -> Self {
        const UNKNOWN: u8 = 3;
        let mut tables = [[UNKNOWN; BLOCK]; 5];
        let mut byte = 0;
        while byte < 256 {
            let cell = (byte + 3 - byte / 64) / 4;
            let slot = (byte + shifts[cell] as usize) % BLOCK;
            let (mut fraction, mut quad) = (byte, 0);
            while quad < 5 {
                let digit = (fraction * 3 / 256) as u8;
                let entry = &mut tables[quad][if quad < 2 { cell } else { slot }];
                assert!(*entry == UNKNOWN || *entry == digit);
                *entry = digit;
                (fraction, quad) = (fraction * 3 % 256, quad + 1);
            }
            byte += 1;
        }
        let [a, b, c, d, e] = tables;
        Self { shifts, leading: [a, b], trailing: [c, d, e] }
    }
}

impl<const VBMI: bool> Avx512Products<VBMI> {
    /// With `VBMI`: the quads of a block of `Trit5`.
    #[inline(always)]
    fn digits_by_table(self, block: __m512i) -> [__m512i; 5] {
        // SAFETY: the instructions exist (`self`).
        unsafe {
            // Look-ups go by the lower six bits, so it does not matter that shifts are of 16 bits.
            let less = _mm512_andnot_si512(_mm512_srli_epi16::<6>(block), _mm512_set1_epi8(3));
            let cell = _mm512_srli_epi16::<2>(_mm512_add_epi8(block, less));
            let slot = _mm512_add_epi8(block, _mm512_permutexvar_epi8(cell, self.load(&DIGITS.shifts)));
            let [a, b] =
                DIGITS.leading.each_ref().map(|table| _mm512_permutexvar_epi8(cell, self.load(table)));
            let [c, d, e] =
                DIGITS.trailing.each_ref().map(|table| _mm512_permutexvar_epi8(slot, self.load(table)));
            [a, b, c, d, e]
        }
    }

    /// Without `VBMI`: the same.
    #[inline(always)]
    fn digits_by_multiplication(self, block: __m512i) -> [__m512i; 5] {
        // SAFETY: the instructions exist (`self`).
        unsafe {
            let tables = const { [digit_of_two(0), digit_of_two(1)] };
            let [high, low] =
                tables.map(|table| _mm512_broadcast_i32x4(_mm_loadu_si128(table.as_ptr().cast())));
            // Even bytes and odd ones in 16 bits each: a fraction times nine is its first two digits and, in the lower
            // byte, the fraction behind them.
            let (nine, three) = (_mm512_set1_epi16(9), _mm512_set1_epi16(3));
            let join = |even, odd| {
                // (odd & 0xff00) | (even >> 8)
                _mm512_ternarylogic_epi32::<0xea>(odd, _mm512_set1_epi16(-256), _mm512_srli_epi16::<8>(even))
            };
            let even = _mm512_maddubs_epi16(block, nine);
            let odd = _mm512_maddubs_epi16(block, _mm512_slli_epi16::<8>(nine));
            let first = join(even, odd);
            let (even, odd) = (_mm512_maddubs_epi16(even, nine), _mm512_maddubs_epi16(odd, nine));
            let second = join(even, odd);
            let last = join(_mm512_maddubs_epi16(even, three), _mm512_maddubs_epi16(odd, three));
            [
                _mm512_shuffle_epi8(high, first),
                _mm512_shuffle_epi8(low, first),
                _mm512_shuffle_epi8(high, second),
                _mm512_shuffle_epi8(low, second),
                last,
            ]
        }
    }
}

impl<const VBMI: bool> ProductLanes for Avx512Products<VBMI> {
    type Floats = Avx512;
    type Codes = __m512i;
    type Sums = __m512i;
    type Dots = __m512i;

    #[inline(always)]
    fn floats(self) -> Avx512 {
        self.0
    }
    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) {
        // SAFETY: the instructions exist (`self`).
        unsafe { if VBMI { call_vbmi(self, kernel) } else { call(self, kernel) } }
    }

    #[inline(always)]
    fn load(self, bytes: &[u8; BLOCK]) -> __m512i {
        // SAFETY: the instructions exist (`self`); the load is the 64 bytes.
        unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
    }
    #[inline(always)]
    fn store(self, codes: __m512i, bytes: &mut [u8; BLOCK]) {
        // SAFETY: the instructions exist (`self`); the store is the 64 bytes.
        unsafe { _mm512_storeu_si512(bytes.as_mut_ptr().cast(), codes) }
    }
    #[inline(always)]
    fn unpack_trit2(self, block: __m512i) -> [__m512i; 4] {
        // SAFETY: the instructions exist (`self`).
        unsafe {
            let mask = _mm512_set1_epi8(3);
            [
                _mm512_and_si512(block, mask),
                _mm512_and_si512(_mm512_srli_epi16::<2>(block), mask),
                _mm512_and_si512(_mm512_srli_epi16::<4>(block), mask),
                _mm512_and_si512(_mm512_srli_epi16::<6>(block), mask),
            ]
        }
    }
    const IN_PLACE: bool = true;
    #[inline(always)]
    fn trit2_in_place(self, block: __m512i) -> [__m512i; 4] {
        // SAFETY: the instructions exist (`self`).
        unsafe { [3, 12, 48, 192_u8].map(|mask| _mm512_and_si512(block, _mm512_set1_epi8(mask as i8))) }
    }
    #[inline(always)]
    fn shift_right<const BITS: u32>(self, sums: __m512i) -> __m512i {
        // SAFETY: the instructions exist (`self`).
        unsafe { _mm512_srai_epi32::<BITS>(sums) }
    }
    #[inline(always)]
    fn unpack_trit5(self, block: __m512i) -> [__m512i; 5] {
        if VBMI { self.digits_by_table(block) } else { self.digits_by_multiplication(block) }
    }
    #[inline(always)]
    fn unpack_int4(self, block: __m512i) -> [__m512i; 2] {
        // SAFETY: the instructions exist (`self`).
        unsafe {
            let mask = _mm512_set1_epi8(15);
            [_mm512_and_si512(block, mask), _mm512_and_si512(_mm512_srli_epi16::<4>(block), mask)]
        }
    }

    #[inline(always)]
    fn steps<R: Range>(self) -> usize {
        usize::MAX
    }
    #[inline(always)]
    fn begin<R: Range>(self, sums: __m512i) -> __m512i {
        sums
    }
    #[inline(always)]
    fn dot<R: Range>(self, dots: __m512i, codes: __m512i, x: Quad) -> __m512i {
        // SAFETY: the instructions exist (`self`).
        unsafe { _mm512_dpbusd_epi32(dots, codes, _mm512_set1_epi32(i32::from_le_bytes(x.map(|x| x as u8)))) }
    }
    #[inline(always)]
    fn finish<R: Range>(self, dots: __m512i, _: __m512i) -> __m512i {
        dots
    }

    #[inline(always)]
    fn splat(self, x: i32) -> __m512i {
        // SAFETY: the instructions exist (`self`).
        unsafe { _mm512_set1_epi32(x) }
    }
    #[inline(always)]
    fn add(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: the instructions exist (`self`).
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    fn load_sums(self, x: &[i32; TILE_ROWS]) -> __m512i {
        // SAFETY: the instructions exist (`self`); the load is the sixteen elements.
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }
    #[inline(always)]
    fn store_sums(self, sums: __m512i, x: &mut [i32; TILE_ROWS]) {
        // SAFETY: the instructions exist (`self`); the store is the sixteen elements.
        unsafe { _mm512_storeu_si512(x.as_mut_ptr().cast(), sums) }
    }
    #[inline(always)]
    fn total(self, sums: __m512i) -> i32 {
        // SAFETY: the instructions exist (`self`).
        unsafe { _mm512_reduce_add_epi32(sums) }
    }
    #[inline(always)]
    fn to_floats(self, sums: __m512i) -> __m512 {
        // SAFETY: the instructions exist (`self`).
        unsafe { _mm512_cvtepi32_ps(sums) }
    }
    #[inline(always)]
    fn to_ints(self, x: __m512) -> __m512i {
        // SAFETY: the instructions exist (`self`).
        unsafe { _mm512_cvttps_epi32(x) }
    }
    #[inline(always)]
    fn narrow(self, x: __m512i) -> [i8; TILE_ROWS] {
        let mut bytes = [0; TILE_ROWS];
        // SAFETY: the instructions exist (`self`); the store is the sixteen bytes.
        unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(x)) };
        bytes
    }
    #[inline(always)]
    fn load_bf16(self, x: &[bf16; TILE_ROWS]) -> __m512 {
        // SAFETY: the instructions exist (`self`); the load is the sixteen elements.
        unsafe {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        }
    }
}
