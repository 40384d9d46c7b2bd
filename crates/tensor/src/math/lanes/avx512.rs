//! Sixteen lanes as one 512-bit register: AVX-512 F, BW, VL, DQ and VNNI.
use std::arch::x86_64::*;

use chalot_simd::{Isa, IsaKind};
use half::f16;

use super::{Kernel, LANES, Lanes, Pair};

/// Proof that this CPU has AVX-512 F, BW, VL, DQ and VNNI (and AVX2, FMA, F16C).
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// `None` when `isa` does not promise AVX-512.
    pub(crate) fn new(isa: Isa) -> Option<Self> {
        isa.kind().includes(IsaKind::Avx512).then_some(Self(()))
    }
}

/// # Safety
/// The CPU has AVX-512 F, BW, VL, DQ and VNNI, AVX2, FMA and F16C.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn call<K: Kernel>(lanes: Avx512, kernel: K) -> K::Output {
    kernel.run(lanes)
}

/// One intrinsic.
macro_rules! op {
    ($($call:tt)+) => {
        // SAFETY: an `Avx512` exists only on a CPU that has the instructions.
        unsafe { $($call)+ }
    };
}

/// The pairwise tree over the lanes.
macro_rules! tree {
    ($v:ident, $wide:ident, $narrow:ident, $single:ident) => {
        // SAFETY: an `Avx512` exists only on a CPU that has the instructions.
        unsafe {
            let eight = $wide(_mm512_castps512_ps256($v), _mm512_extractf32x8_ps::<1>($v));
            let four = $narrow(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = $narrow(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32($single(two, _mm_movehdup_ps(two)))
        }
    };
}

impl Lanes for Avx512 {
    type V = __m512;
    type M = __mmask16;
    type I = __m512i;
    type P = __m512i;
    const REGISTERS: usize = 32;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: an `Avx512` exists only on a CPU that has the instructions.
        unsafe { call(self, kernel) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        op!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> __m512 {
        // SAFETY: the instructions exist (`self`); the load is the sixteen elements of `x`.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16; LANES]) -> __m512 {
        // SAFETY: the instructions exist (`self`); the load is the sixteen elements of `x`.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn store(self, v: __m512, x: &mut [f32; LANES]) {
        // SAFETY: the instructions exist (`self`); the store is the sixteen elements of `x`.
        unsafe { _mm512_storeu_ps(x.as_mut_ptr(), v) }
    }
    #[inline(always)]
    fn store_f16(self, v: __m512, x: &mut [f16; LANES]) {
        // SAFETY: the instructions exist (`self`); the store is the sixteen elements of `x`.
        unsafe {
            let narrow = _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v);
            _mm256_storeu_si256(x.as_mut_ptr().cast(), narrow);
        }
    }
    #[inline(always)]
    fn store_i16(self, v: __m512, x: &mut [i16; LANES]) {
        // SAFETY: the instructions exist (`self`); the store is the sixteen elements of `x`.
        unsafe {
            let narrow = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(v));
            _mm256_storeu_si256(x.as_mut_ptr().cast(), narrow);
        }
    }

    #[inline(always)]
    fn round_to_pairs(self, first: __m512, second: __m512) -> __m512i {
        // SAFETY: an `Avx512` exists only on a CPU that has the instructions.
        unsafe {
            let second = _mm512_slli_epi32::<16>(_mm512_cvtps_epi32(second));
            _mm512_mask_mov_epi16(_mm512_cvtps_epi32(first), 0xaaaa_aaaa, second)
        }
    }
    #[inline(always)]
    fn splat_pair(self, x: Pair) -> __m512i {
        op!(_mm512_set1_epi32(bytemuck::cast(x)))
    }
    #[inline(always)]
    fn load_pairs(self, x: &[Pair; LANES]) -> __m512i {
        // SAFETY: the instructions exist (`self`); the load is the sixteen pairs of `x`.
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }
    #[inline(always)]
    fn load_pairs_i8(self, x: &[[i8; 2]; LANES]) -> __m512i {
        // SAFETY: the instructions exist (`self`); the load is the sixteen pairs of `x`.
        unsafe { _mm512_cvtepi8_epi16(_mm256_loadu_si256(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn store_pairs(self, v: __m512i, x: &mut [Pair; LANES]) {
        // SAFETY: the instructions exist (`self`); the store is the sixteen pairs of `x`.
        unsafe { _mm512_storeu_si512(x.as_mut_ptr().cast(), v) }
    }
    #[inline(always)]
    fn zero_i32(self) -> __m512i {
        op!(_mm512_setzero_si512())
    }
    #[inline(always)]
    fn dot_pairs(self, a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        op!(_mm512_dpwssd_epi32(c, a, b))
    }
    #[inline(always)]
    fn to_f32(self, x: __m512i) -> __m512 {
        op!(_mm512_cvtepi32_ps(x))
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        op!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn neg(self, a: __m512) -> __m512 {
        op!(_mm512_xor_ps(a, _mm512_set1_ps(-0.0)))
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        op!(_mm512_andnot_ps(_mm512_set1_ps(-0.0), a))
    }
    #[inline(always)]
    fn copysign(self, a: __m512, b: __m512) -> __m512 {
        let sign = self.splat(-0.0);
        op!(_mm512_or_ps(_mm512_andnot_ps(sign, a), _mm512_and_ps(sign, b)))
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        op!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn scale_by_power_of_two(self, p: __m512, n: __m512) -> __m512 {
        // Below -150 it is 0 (p is below 2): less than half of the smallest float. Intel's cores take two hundred times as long
        // to find that out.
        let nonzero = op!(_mm512_cmp_ps_mask::<_CMP_NLT_UQ>(n, self.splat(-150.0)));
        op!(_mm512_maskz_scalef_ps(nonzero, p, n))
    }
    #[inline(always)]
    fn lt(self, a: __m512, b: __m512) -> __mmask16 {
        op!(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b))
    }
    #[inline(always)]
    fn select(self, m: __mmask16, a: __m512, b: __m512) -> __m512 {
        op!(_mm512_mask_blend_ps(m, b, a))
    }

    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        tree!(v, _mm256_add_ps, _mm_add_ps, _mm_add_ss)
    }
    #[inline(always)]
    fn maximum(self, v: __m512) -> f32 {
        tree!(v, _mm256_max_ps, _mm_max_ps, _mm_max_ss)
    }
}
