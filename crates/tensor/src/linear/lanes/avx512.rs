//! One 512-bit register a vector: AVX-512 with VBMI and VNNI.
use std::arch::x86_64::*;

use chalot_simd::Isa;
use half::bf16;

use super::{Kernel, ProductLanes, Quad, Range};
use crate::{
    math::lanes::avx512::Avx512,
    matrix::{BLOCK, TILE_ROWS},
};

/// Proof that this CPU has all that [`chalot_simd::IsaKind::Avx512`] stands for.
#[derive(Clone, Copy)]
pub(crate) struct Avx512Products(Avx512);

impl Avx512Products {
    /// `None` when `isa` does not promise it.
    pub(crate) fn new(isa: Isa) -> Option<Self> {
        Avx512::new(isa).map(Self)
    }
}

/// # Safety
/// The CPU has all that `IsaKind::Avx512` stands for.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vnni,avx2,fma,f16c")]
unsafe fn call<K: Kernel>(lanes: Avx512Products, kernel: K) {
    // 4 x 6 sums, 4 weights and an activation: 29 of 32 registers. With companions, 2 x 2 x 6 and as many.
    kernel.run::<_, 4, 2>(lanes)
}

/// For every byte of `Trit5` its four trailing digits, as a byte of `Trit2`.
static TRAILING: [[u8; BLOCK]; 4] = trailing_digits();

const fn trailing_digits() -> [[u8; BLOCK]; 4] {
    let mut table = [[0; BLOCK]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut fraction = byte;
        let mut quad = 0;
        while quad < 4 {
            fraction = fraction * 3 % 256; // without its leading digit
            table[byte / BLOCK][byte % BLOCK] |= ((fraction * 3 / 256) as u8) << (2 * quad);
            quad += 1;
        }
        byte += 1;
    }
    table
}

impl Avx512Products {
    /// The leading digits of a block of `Trit5`, and the other four as a block of `Trit2`.
    #[inline(always)]
    fn digits(self, block: __m512i) -> (__m512i, __m512i) {
        // The leading digit by its two thresholds (ceil(256 / 3) and ceil(512 / 3)), the other four by table.
        // SAFETY: the instructions exist (`self`).
        unsafe {
            let one = _mm512_cmpge_epu8_mask(block, _mm512_set1_epi8(86));
            let two = _mm512_cmpge_epu8_mask(block, _mm512_set1_epi8(171_u8 as i8));
            let leading = _mm512_maskz_mov_epi8(one, _mm512_set1_epi8(1));
            let leading = _mm512_mask_mov_epi8(leading, two, _mm512_set1_epi8(2));
            // Each look-up goes by the lower seven bits; the eighth chooses between them.
            let low = _mm512_permutex2var_epi8(self.load(&TRAILING[0]), block, self.load(&TRAILING[1]));
            let high = _mm512_permutex2var_epi8(self.load(&TRAILING[2]), block, self.load(&TRAILING[3]));
            let trailing = _mm512_mask_mov_epi8(low, _mm512_movepi8_mask(block), high);
            (leading, trailing)
        }
    }
}

impl ProductLanes for Avx512Products {
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
        unsafe { call(self, kernel) }
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
    fn prefetch(self, address: *const u8) {
        // SAFETY: a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(address.cast()) }
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
    fn trit5_in_place(self, block: __m512i) -> [__m512i; 5] {
        let (leading, trailing) = self.digits(block);
        let [a, b, c, d] = self.trit2_in_place(trailing);
        [leading, a, b, c, d]
    }
    #[inline(always)]
    fn shift_right<const BITS: u32>(self, sums: __m512i) -> __m512i {
        // SAFETY: the instructions exist (`self`).
        unsafe { _mm512_srai_epi32::<BITS>(sums) }
    }
    #[inline(always)]
    fn unpack_trit5(self, block: __m512i) -> [__m512i; 5] {
        let (leading, trailing) = self.digits(block);
        let [a, b, c, d] = self.unpack_trit2(trailing);
        [leading, a, b, c, d]
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
