//! Two 256-bit registers a vector: AVX2, with or without the dot product of AVX-VNNI.
use std::arch::x86_64::*;

use chalot_simd::{Isa, IsaKind};
use half::bf16;

use super::{Kernel, ProductLanes, Quad, Range, digit_of_two};
use crate::{
    math::lanes::avx2::Avx2,
    matrix::{BLOCK, TILE_ROWS},
};

/// Rows 0..8 and 8..16.
type Pair = [__m256i; 2];

/// Proof that this CPU has AVX2, FMA and F16C, and if `VNNI`, also AVX-VNNI.
#[derive(Clone, Copy)]
pub(crate) struct Avx2Products<const VNNI: bool>(Avx2);

impl<const VNNI: bool> Avx2Products<VNNI> {
    /// `None` when `isa` does not promise it.
    pub(crate) fn new(isa: Isa) -> Option<Self> {
        let promised = !VNNI || isa.kind() == IsaKind::AvxVnni;
        Avx2::new(isa).filter(|_| promised).map(Self)
    }
}

/// # Safety
/// The CPU has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn call_avx2<K: Kernel, P: ProductLanes>(lanes: P, kernel: K) {
    // 2 x 6 sums, 2 weights and an activation: 15 of 16 registers.
    kernel.run::<_, 1, 1>(lanes)
}

/// # Safety
/// The CPU has AVX2, FMA, F16C and AVX-VNNI.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
unsafe fn call_vnni<K: Kernel, P: ProductLanes>(lanes: P, kernel: K) {
    // 2 x 6 sums, 2 weights and an activation: 15 of 16 registers.
    kernel.run::<_, 1, 1>(lanes)
}

impl<const VNNI: bool> ProductLanes for Avx2Products<VNNI> {
    type Floats = Avx2;
    type Codes = Pair;
    type Sums = Pair;
    /// With VNNI, or for 8-bit codes, sums as they are; otherwise each sum is a pair of 16-bit halves.
    type Dots = Pair;

    #[inline(always)]
    fn floats(self) -> Avx2 {
        self.0
    }
    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) {
        if VNNI {
            // SAFETY: the instructions exist (`self`).
            unsafe { call_vnni(self, kernel) }
        } else {
            // SAFETY: the instructions exist (`self`).
            unsafe { call_avx2(self, kernel) }
        }
    }

    #[inline(always)]
    fn load(self, bytes: &[u8; BLOCK]) -> Pair {
        let halves = bytes.as_chunks::<32>().0;
        // SAFETY: the instructions exist (`self`); each load is one half of the bytes.
        unsafe {
            [_mm256_loadu_si256(halves[0].as_ptr().cast()), _mm256_loadu_si256(halves[1].as_ptr().cast())]
        }
    }
    #[inline(always)]
    fn store(self, codes: Pair, bytes: &mut [u8; BLOCK]) {
        for (half, codes) in bytes.as_chunks_mut::<32>().0.iter_mut().zip(codes) {
            // SAFETY: the instructions exist (`self`); the store is the 32 bytes of the half.
            unsafe { _mm256_storeu_si256(half.as_mut_ptr().cast(), codes) }
        }
    }
    #[inline(always)]
    fn unpack_trit2(self, block: Pair) -> [Pair; 4] {
        // SAFETY: the instructions exist (`self`).
        unsafe {
            let mask = _mm256_set1_epi8(3);
            let [a, b] = block;
            [
                [_mm256_and_si256(a, mask), _mm256_and_si256(b, mask)],
                [
                    _mm256_and_si256(_mm256_srli_epi16::<2>(a), mask),
                    _mm256_and_si256(_mm256_srli_epi16::<2>(b), mask),
                ],
                [
                    _mm256_and_si256(_mm256_srli_epi16::<4>(a), mask),
                    _mm256_and_si256(_mm256_srli_epi16::<4>(b), mask),
                ],
                [
                    _mm256_and_si256(_mm256_srli_epi16::<6>(a), mask),
                    _mm256_and_si256(_mm256_srli_epi16::<6>(b), mask),
                ],
            ]
        }
    }
    #[inline(always)]
    fn unpack_trit5(self, block: Pair) -> [Pair; 5] {
        // Even bytes and odd ones in 16 bits each: a fraction of 256 times nine is its first two digits and, in the lower
        // byte, the fraction behind them.
        let mut quads = [block; 5];
        for half in 0..2 {
            // SAFETY: the instructions exist (`self`).
            unsafe {
                let tables = const { [digit_of_two(0), digit_of_two(1)] };
                let [one, two] =
                    tables.map(|table| _mm256_broadcastsi128_si256(_mm_loadu_si128(table.as_ptr().cast())));
                let (nine, three) = (_mm256_set1_epi16(9), _mm256_set1_epi16(3));
                let join = |even, odd| {
                    let odd = _mm256_and_si256(odd, _mm256_set1_epi16(-256));
                    _mm256_or_si256(odd, _mm256_srli_epi16::<8>(even))
                };
                let even = _mm256_maddubs_epi16(block[half], nine);
                let odd = _mm256_maddubs_epi16(block[half], _mm256_slli_epi16::<8>(nine));
                let first = join(even, odd);
                let (even, odd) = (_mm256_maddubs_epi16(even, nine), _mm256_maddubs_epi16(odd, nine));
                let second = join(even, odd);
                let last = join(_mm256_maddubs_epi16(even, three), _mm256_maddubs_epi16(odd, three));
                quads[0][half] = _mm256_shuffle_epi8(one, first);
                quads[1][half] = _mm256_shuffle_epi8(two, first);
                quads[2][half] = _mm256_shuffle_epi8(one, second);
                quads[3][half] = _mm256_shuffle_epi8(two, second);
                quads[4][half] = last;
            }
        }
        quads
    }
    #[inline(always)]
    fn unpack_int4(self, block: Pair) -> [Pair; 2] {
        // SAFETY: the instructions exist (`self`).
        unsafe {
            let mask = _mm256_set1_epi8(15);
            let [a, b] = block;
            [
                [_mm256_and_si256(a, mask), _mm256_and_si256(b, mask)],
                [
                    _mm256_and_si256(_mm256_srli_epi16::<4>(a), mask),
                    _mm256_and_si256(_mm256_srli_epi16::<4>(b), mask),
                ],
            ]
        }
    }

    #[inline(always)]
    fn steps<R: Range>(self) -> usize {
        if VNNI || R::MAX > 15 {
            usize::MAX
        } else {
            // Each step adds at most 2 * MAX * 128 to a 16-bit half.
            i16::MAX as usize / (2 * R::MAX as usize * 128)
        }
    }
    #[inline(always)]
    fn begin<R: Range>(self, sums: Pair) -> Pair {
        if VNNI || R::MAX > 15 { sums } else { self.splat(0) }
    }
    #[inline(always)]
    fn dot<R: Range>(self, dots: Pair, codes: Pair, x: Quad) -> Pair {
        let mut out = dots;
        for half in 0..2 {
            // SAFETY: the instructions exist (`self`).
            unsafe {
                let x = _mm256_set1_epi32(i32::from_le_bytes(x.map(|x| x as u8)));
                out[half] = if VNNI {
                    _mm256_dpbusd_avx_epi32(dots[half], codes[half], x)
                } else if R::MAX > 15 {
                    // 8-bit codes times 8-bit activations, added in pairs, do not fit 16 bits: columns 0 and 2, then
                    // 1 and 3, are widened first.
                    let even = _mm256_madd_epi16(
                        _mm256_and_si256(codes[half], _mm256_set1_epi16(255)),
                        _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(x)),
                    );
                    let odd =
                        _mm256_madd_epi16(_mm256_srli_epi16::<8>(codes[half]), _mm256_srai_epi16::<8>(x));
                    _mm256_add_epi32(dots[half], _mm256_add_epi32(even, odd))
                } else {
                    _mm256_add_epi16(dots[half], _mm256_maddubs_epi16(codes[half], x))
                };
            }
        }
        out
    }
    #[inline(always)]
    fn finish<R: Range>(self, dots: Pair, sums: Pair) -> Pair {
        if VNNI || R::MAX > 15 {
            return dots;
        }
        // SAFETY: the instructions exist (`self`).
        let widened = unsafe {
            let ones = _mm256_set1_epi16(1);
            [_mm256_madd_epi16(dots[0], ones), _mm256_madd_epi16(dots[1], ones)]
        };
        self.add(widened, sums)
    }

    #[inline(always)]
    fn splat(self, x: i32) -> Pair {
        // SAFETY: the instructions exist (`self`).
        unsafe { [_mm256_set1_epi32(x); 2] }
    }
    #[inline(always)]
    fn add(self, a: Pair, b: Pair) -> Pair {
        // SAFETY: the instructions exist (`self`).
        unsafe { [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])] }
    }
    #[inline(always)]
    fn load_sums(self, x: &[i32; TILE_ROWS]) -> Pair {
        let halves = x.as_chunks::<8>().0;
        // SAFETY: the instructions exist (`self`); each load is eight elements.
        unsafe {
            [_mm256_loadu_si256(halves[0].as_ptr().cast()), _mm256_loadu_si256(halves[1].as_ptr().cast())]
        }
    }
    #[inline(always)]
    fn store_sums(self, sums: Pair, x: &mut [i32; TILE_ROWS]) {
        for (half, sums) in x.as_chunks_mut::<8>().0.iter_mut().zip(sums) {
            // SAFETY: the instructions exist (`self`); the store is the eight elements of the half.
            unsafe { _mm256_storeu_si256(half.as_mut_ptr().cast(), sums) }
        }
    }
    #[inline(always)]
    fn total(self, sums: Pair) -> i32 {
        let mut lanes = [0; TILE_ROWS];
        self.store_sums(sums, &mut lanes);
        lanes.into_iter().fold(0, i32::wrapping_add)
    }
    #[inline(always)]
    fn to_floats(self, sums: Pair) -> [__m256; 2] {
        // SAFETY: the instructions exist (`self`).
        unsafe { [_mm256_cvtepi32_ps(sums[0]), _mm256_cvtepi32_ps(sums[1])] }
    }
    #[inline(always)]
    fn to_ints(self, x: [__m256; 2]) -> Pair {
        // SAFETY: the instructions exist (`self`).
        unsafe { [_mm256_cvttps_epi32(x[0]), _mm256_cvttps_epi32(x[1])] }
    }
    #[inline(always)]
    fn narrow(self, x: Pair) -> [i8; TILE_ROWS] {
        let mut bytes = [0; TILE_ROWS];
        // SAFETY: the instructions exist (`self`); the store is the sixteen bytes.
        unsafe {
            // Saturation changes nothing here; packing goes by 128-bit halves: x0 x1 | x2 x3 in groups of four.
            let words = _mm256_packs_epi32(x[0], x[1]);
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(words);
            let packed = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(bytes.as_mut_ptr().cast(), packed);
        }
        bytes
    }
    #[inline(always)]
    fn load_bf16(self, x: &[bf16; TILE_ROWS]) -> [__m256; 2] {
        let halves = x.as_chunks::<8>().0;
        let mut out = [self.to_floats(self.splat(0))[0]; 2];
        for (out, half) in out.iter_mut().zip(halves) {
            // SAFETY: the instructions exist (`self`); the load is the eight elements of the half.
            unsafe {
                let bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(half.as_ptr().cast()));
                *out = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits));
            }
        }
        out
    }
}
