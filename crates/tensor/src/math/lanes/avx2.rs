//! Sixteen lanes as two 256-bit registers: AVX2 with FMA and F16C.
use std::arch::x86_64::*;

use chalot_simd::{Isa, IsaKind};
use half::f16;

use super::{Kernel, LANES, Lanes, Pair};

/// Proof that this CPU has AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

/// Lanes 0..8 and 8..16.
type V = [__m256; 2];

impl Avx2 {
    /// `None` when `isa` does not promise AVX2.
    pub(crate) fn new(isa: Isa) -> Option<Self> {
        matches!(isa.kind(), IsaKind::Avx2 | IsaKind::AvxVnni).then_some(Self(()))
    }
}

/// # Safety
/// The CPU has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn call<K: Kernel>(lanes: Avx2, kernel: K) -> K::Output {
    kernel.run(lanes)
}

/// An operation on both registers.
macro_rules! both {
    ($intrinsic:ident($($v:ident),+)) => {
        // SAFETY: an `Avx2` exists only on a CPU that has the instructions.
        unsafe { [$intrinsic($($v[0]),+), $intrinsic($($v[1]),+)] }
    };
}

/// The pairwise tree over the lanes.
macro_rules! tree {
    ($v:ident, $wide:ident, $narrow:ident, $single:ident) => {
        // SAFETY: an `Avx2` exists only on a CPU that has the instructions.
        unsafe {
            let eight = $wide($v[0], $v[1]);
            let four = $narrow(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = $narrow(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32($single(two, _mm_movehdup_ps(two)))
        }
    };
}

impl Lanes for Avx2 {
    type V = V;
    type M = V;
    type I = [__m256i; 2];
    type P = [__m256i; 2];
    const REGISTERS: usize = 8;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: an `Avx2` exists only on a CPU that has the instructions.
        unsafe { call(self, kernel) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        // SAFETY: an `Avx2` exists only on a CPU that has the instructions.
        unsafe { [_mm256_set1_ps(x); 2] }
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> V {
        let p = x.as_ptr();
        // SAFETY: the instructions exist (`self`); both loads lie in the sixteen elements of `x`.
        unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] }
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16; LANES]) -> V {
        let p = x.as_ptr().cast::<__m128i>();
        // SAFETY: the instructions exist (`self`); both loads lie in the sixteen elements of `x`.
        unsafe { [_mm256_cvtph_ps(_mm_loadu_si128(p)), _mm256_cvtph_ps(_mm_loadu_si128(p.add(1)))] }
    }
    #[inline(always)]
    fn store(self, v: V, x: &mut [f32; LANES]) {
        let p = x.as_mut_ptr();
        // SAFETY: the instructions exist (`self`); both stores lie in the sixteen elements of `x`.
        unsafe {
            _mm256_storeu_ps(p, v[0]);
            _mm256_storeu_ps(p.add(8), v[1]);
        }
    }
    #[inline(always)]
    fn store_f16(self, v: V, x: &mut [f16; LANES]) {
        let p = x.as_mut_ptr().cast::<__m128i>();
        // SAFETY: the instructions exist (`self`); both stores lie in the sixteen elements of `x`.
        unsafe {
            _mm_storeu_si128(p, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[0]));
            _mm_storeu_si128(p.add(1), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v[1]));
        }
    }
    #[inline(always)]
    fn store_i16(self, v: V, x: &mut [i16; LANES]) {
        // SAFETY: the instructions exist (`self`); the store is the sixteen elements of `x`.
        unsafe {
            // Packing works within halves of a register: their quarters come out as 0, 2, 1, 3.
            let mixed = _mm256_packs_epi32(_mm256_cvtps_epi32(v[0]), _mm256_cvtps_epi32(v[1]));
            let narrow = _mm256_permute4x64_epi64::<0b11_01_10_00>(mixed);
            _mm256_storeu_si256(x.as_mut_ptr().cast(), narrow);
        }
    }

    #[inline(always)]
    fn round_to_pairs(self, first: V, second: V) -> Self::P {
        let (first, second) = (both!(_mm256_cvtps_epi32(first)), both!(_mm256_cvtps_epi32(second)));
        // SAFETY: an `Avx2` exists only on a CPU that has the instructions.
        std::array::from_fn(|i| unsafe {
            _mm256_blend_epi16::<0b1010_1010>(first[i], _mm256_slli_epi32::<16>(second[i]))
        })
    }
    #[inline(always)]
    fn splat_pair(self, x: Pair) -> Self::P {
        // SAFETY: an `Avx2` exists only on a CPU that has the instructions.
        unsafe { [_mm256_set1_epi32(bytemuck::cast(x)); 2] }
    }
    #[inline(always)]
    fn load_pairs(self, x: &[Pair; LANES]) -> Self::P {
        let p = x.as_ptr().cast::<__m256i>();
        // SAFETY: the instructions exist (`self`); both loads lie in the sixteen pairs of `x`.
        unsafe { [_mm256_loadu_si256(p), _mm256_loadu_si256(p.add(1))] }
    }
    #[inline(always)]
    fn load_pairs_i8(self, x: &[[i8; 2]; LANES]) -> Self::P {
        let p = x.as_ptr().cast::<__m128i>();
        // SAFETY: the instructions exist (`self`); both loads lie in the sixteen pairs of `x`.
        unsafe { [_mm256_cvtepi8_epi16(_mm_loadu_si128(p)), _mm256_cvtepi8_epi16(_mm_loadu_si128(p.add(1)))] }
    }
    #[inline(always)]
    fn store_pairs(self, v: Self::P, x: &mut [Pair; LANES]) {
        let p = x.as_mut_ptr().cast::<__m256i>();
        // SAFETY: the instructions exist (`self`); both stores lie in the sixteen pairs of `x`.
        unsafe {
            _mm256_storeu_si256(p, v[0]);
            _mm256_storeu_si256(p.add(1), v[1]);
        }
    }
    #[inline(always)]
    fn zero_i32(self) -> Self::I {
        // SAFETY: an `Avx2` exists only on a CPU that has the instructions.
        unsafe { [_mm256_setzero_si256(); 2] }
    }
    #[inline(always)]
    fn dot_pairs(self, a: Self::P, b: Self::P, c: Self::I) -> Self::I {
        let product = both!(_mm256_madd_epi16(a, b));
        both!(_mm256_add_epi32(c, product))
    }
    #[inline(always)]
    fn to_f32(self, x: Self::I) -> V {
        both!(_mm256_cvtepi32_ps(x))
    }

    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        both!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        both!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        both!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        both!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        both!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        both!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        both!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn neg(self, a: V) -> V {
        let sign = self.splat(-0.0);
        both!(_mm256_xor_ps(a, sign))
    }
    #[inline(always)]
    fn abs(self, a: V) -> V {
        let sign = self.splat(-0.0);
        both!(_mm256_andnot_ps(sign, a))
    }
    #[inline(always)]
    fn copysign(self, a: V, b: V) -> V {
        let sign = self.splat(-0.0);
        let magnitude = both!(_mm256_andnot_ps(sign, a));
        let sign = both!(_mm256_and_ps(sign, b));
        both!(_mm256_or_ps(magnitude, sign))
    }
    #[inline(always)]
    fn round(self, a: V) -> V {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        // SAFETY: an `Avx2` exists only on a CPU that has the instructions.
        unsafe { [_mm256_round_ps::<NEAREST>(a[0]), _mm256_round_ps::<NEAREST>(a[1])] }
    }
    #[inline(always)]
    fn scale_by_power_of_two(self, p: V, n: V) -> V {
        let mut scaled = p;
        for (x, n) in scaled.iter_mut().zip(n) {
            // SAFETY: an `Avx2` exists only on a CPU that has the instructions.
            unsafe {
                let n = _mm256_cvtps_epi32(n);
                let half = _mm256_srai_epi32::<1>(n);
                let bias = _mm256_set1_epi32(127);
                let first = _mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias));
                let second = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_sub_epi32(n, half), bias));
                *x = _mm256_mul_ps(*x, _mm256_castsi256_ps(first));
                *x = _mm256_mul_ps(*x, _mm256_castsi256_ps(second));
            }
        }
        scaled
    }
    #[inline(always)]
    fn lt(self, a: V, b: V) -> V {
        // SAFETY: an `Avx2` exists only on a CPU that has the instructions.
        unsafe { [_mm256_cmp_ps::<_CMP_LT_OQ>(a[0], b[0]), _mm256_cmp_ps::<_CMP_LT_OQ>(a[1], b[1])] }
    }
    #[inline(always)]
    fn select(self, m: V, a: V, b: V) -> V {
        both!(_mm256_blendv_ps(b, a, m))
    }

    #[inline(always)]
    fn sum(self, v: V) -> f32 {
        tree!(v, _mm256_add_ps, _mm_add_ps, _mm_add_ss)
    }
    #[inline(always)]
    fn maximum(self, v: V) -> f32 {
        tree!(v, _mm256_max_ps, _mm_max_ps, _mm_max_ss)
    }
}
