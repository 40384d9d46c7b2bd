//! Sixteen lanes as four 128-bit registers: the Advanced SIMD of AArch64.
use std::arch::{aarch64::*, asm};

use chalot_simd::{Isa, IsaKind};
use half::f16;

use super::{Kernel, LANES, Lanes, Pair};
use crate::math::scalar;

/// Proof that this CPU has Advanced SIMD.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

/// Lanes 0..4, 4..8, 8..12 and 12..16.
type V = [float32x4_t; 4];
/// All bits of a lane, or none.
type M = [uint32x4_t; 4];

impl Neon {
    /// `None` when `isa` does not promise Advanced SIMD.
    pub(crate) fn new(isa: Isa) -> Option<Self> {
        matches!(isa.kind(), IsaKind::Neon | IsaKind::NeonDot).then_some(Self(()))
    }
}

/// # Safety
/// The CPU has Advanced SIMD.
#[target_feature(enable = "neon")]
unsafe fn call<K: Kernel>(lanes: Neon, kernel: K) -> K::Output {
    kernel.run(lanes)
}

/// An operation on each register.
macro_rules! each {
    ($intrinsic:ident($($v:ident),+)) => {
        // SAFETY: a `Neon` exists only on a CPU that has the instructions.
        unsafe {
            [
                $intrinsic($($v[0]),+),
                $intrinsic($($v[1]),+),
                $intrinsic($($v[2]),+),
                $intrinsic($($v[3]),+),
            ]
        }
    };
}

impl Lanes for Neon {
    type V = V;
    type M = M;
    type I = [int32x4_t; 4];
    /// Four pairs a register.
    type P = [int16x8_t; 4];
    const REGISTERS: usize = 8;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        // SAFETY: a `Neon` exists only on a CPU that has the instructions.
        unsafe { call(self, kernel) }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> V {
        // SAFETY: a `Neon` exists only on a CPU that has the instructions.
        unsafe { [vdupq_n_f32(x); 4] }
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> V {
        let p = x.as_ptr();
        // SAFETY: the instructions exist (`self`); the four loads are the sixteen elements of `x`.
        unsafe { [vld1q_f32(p), vld1q_f32(p.add(4)), vld1q_f32(p.add(8)), vld1q_f32(p.add(12))] }
    }
    #[inline(always)]
    fn load_f16(self, x: &[f16; LANES]) -> V {
        let p = x.as_ptr().cast::<u16>();
        // SAFETY: the instructions exist (`self`); the four loads are the sixteen elements of `x`.
        let halves = unsafe { [vld1_u16(p), vld1_u16(p.add(4)), vld1_u16(p.add(8)), vld1_u16(p.add(12))] };
        let halves = each!(vreinterpret_f16_u16(halves));
        each!(vcvt_f32_f16(halves))
    }
    #[inline(always)]
    fn store(self, v: V, x: &mut [f32; LANES]) {
        for (x, v) in x.as_chunks_mut::<4>().0.iter_mut().zip(v) {
            // SAFETY: the instructions exist (`self`); the store is the four elements of the chunk.
            unsafe { vst1q_f32(x.as_mut_ptr(), v) }
        }
    }
    #[inline(always)]
    fn store_f16(self, v: V, x: &mut [f16; LANES]) {
        for (x, v) in x.as_chunks_mut::<4>().0.iter_mut().zip(v) {
            // SAFETY: the instructions exist (`self`); the store is the four elements of the chunk.
            unsafe { vst1_u16(x.as_mut_ptr().cast(), vreinterpret_u16_f16(vcvt_f16_f32(v))) }
        }
    }

    #[inline(always)]
    fn store_i16(self, v: V, x: &mut [i16; LANES]) {
        let wide = each!(vcvtnq_s32_f32(v));
        for (x, wide) in x.as_chunks_mut::<4>().0.iter_mut().zip(wide) {
            // SAFETY: the instructions exist (`self`); the store is the four elements of the chunk.
            unsafe { vst1_s16(x.as_mut_ptr(), vmovn_s32(wide)) }
        }
    }

    #[inline(always)]
    fn round_to_pairs(self, first: V, second: V) -> Self::P {
        let (first, second) = (each!(vcvtnq_s32_f32(first)), each!(vcvtnq_s32_f32(second)));
        // Every other half of the first with every other one of the second.
        let (first, second) = (each!(vreinterpretq_s16_s32(first)), each!(vreinterpretq_s16_s32(second)));
        each!(vtrn1q_s16(first, second))
    }
    #[inline(always)]
    fn splat_pair(self, x: Pair) -> Self::P {
        // SAFETY: a `Neon` exists only on a CPU that has the instructions.
        unsafe { [vreinterpretq_s16_s32(vdupq_n_s32(bytemuck::cast(x))); 4] }
    }
    #[inline(always)]
    fn load_pairs(self, x: &[Pair; LANES]) -> Self::P {
        let p = x.as_ptr().cast::<i16>();
        // SAFETY: the instructions exist (`self`); the four loads are the sixteen pairs of `x`.
        unsafe { [vld1q_s16(p), vld1q_s16(p.add(8)), vld1q_s16(p.add(16)), vld1q_s16(p.add(24))] }
    }
    #[inline(always)]
    fn load_pairs_i8(self, x: &[[i8; 2]; LANES]) -> Self::P {
        let p = x.as_ptr().cast::<i8>();
        // SAFETY: the instructions exist (`self`); the four loads are the sixteen pairs of `x`.
        let narrow = unsafe { [vld1_s8(p), vld1_s8(p.add(8)), vld1_s8(p.add(16)), vld1_s8(p.add(24))] };
        each!(vmovl_s8(narrow))
    }
    #[inline(always)]
    fn store_pairs(self, v: Self::P, x: &mut [Pair; LANES]) {
        for (x, v) in x.as_chunks_mut::<4>().0.iter_mut().zip(v) {
            // SAFETY: the instructions exist (`self`); the store is the four pairs of the chunk.
            unsafe { vst1q_s16(x.as_mut_ptr().cast(), v) }
        }
    }
    #[inline(always)]
    fn zero_i32(self) -> Self::I {
        // SAFETY: a `Neon` exists only on a CPU that has the instructions.
        unsafe { [vdupq_n_s32(0); 4] }
    }
    #[inline(always)]
    fn dot_pairs(self, a: Self::P, b: Self::P, c: Self::I) -> Self::I {
        let (a_low, b_low) = (each!(vget_low_s16(a)), each!(vget_low_s16(b)));
        let (low, high) = (each!(vmull_s16(a_low, b_low)), each!(vmull_high_s16(a, b)));
        let products = each!(vpaddq_s32(low, high));
        each!(vaddq_s32(c, products))
    }
    #[inline(always)]
    fn to_f32(self, x: Self::I) -> V {
        each!(vcvtq_f32_s32(x))
    }

    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        each!(vaddq_f32(a, b))
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        each!(vsubq_f32(a, b))
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        each!(vmulq_f32(a, b))
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        each!(vdivq_f32(a, b))
    }
    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        each!(vfmaq_f32(c, a, b))
    }
    // NEON's own minimum and maximum return a NaN operand and order -0 below 0.
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        self.select(self.lt(a, b), a, b)
    }
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        self.select(self.lt(b, a), a, b)
    }
    #[inline(always)]
    fn neg(self, a: V) -> V {
        each!(vnegq_f32(a))
    }
    #[inline(always)]
    fn abs(self, a: V) -> V {
        each!(vabsq_f32(a))
    }
    #[inline(always)]
    fn copysign(self, a: V, b: V) -> V {
        let sign = self.splat(-0.0);
        let sign = each!(vreinterpretq_u32_f32(sign));
        self.select(sign, b, a)
    }
    #[inline(always)]
    fn round(self, a: V) -> V {
        each!(vrndnq_f32(a))
    }
    #[inline(always)]
    fn scale_by_power_of_two(self, p: V, n: V) -> V {
        let mut scaled = p;
        for (x, n) in scaled.iter_mut().zip(n) {
            // SAFETY: a `Neon` exists only on a CPU that has the instructions.
            unsafe {
                let n = vcvtq_s32_f32(n);
                let half = vshrq_n_s32::<1>(n);
                let bias = vdupq_n_s32(127);
                let first = vshlq_n_s32::<23>(vaddq_s32(half, bias));
                let second = vshlq_n_s32::<23>(vaddq_s32(vsubq_s32(n, half), bias));
                *x = vmulq_f32(*x, vreinterpretq_f32_s32(first));
                *x = vmulq_f32(*x, vreinterpretq_f32_s32(second));
            }
        }
        scaled
    }
    #[inline(always)]
    fn lt(self, a: V, b: V) -> M {
        each!(vcltq_f32(a, b))
    }
    #[inline(always)]
    fn select(self, m: M, a: V, b: V) -> V {
        each!(vbslq_f32(m, a, b))
    }

    #[inline(always)]
    fn sum(self, v: V) -> f32 {
        // SAFETY: a `Neon` exists only on a CPU that has the instructions.
        unsafe {
            let four = vaddq_f32(vaddq_f32(v[0], v[2]), vaddq_f32(v[1], v[3]));
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }
    #[inline(always)]
    fn maximum(self, v: V) -> f32 {
        // SAFETY: a `Neon` exists only on a CPU that has the instructions.
        unsafe {
            let max = |a, b| vbslq_f32(vcgtq_f32(a, b), a, b);
            let four = max(max(v[0], v[2]), max(v[1], v[3]));
            let two = max(four, vextq_f32::<2>(four, four));
            scalar::max(vgetq_lane_f32::<0>(two), vgetq_lane_f32::<1>(two))
        }
    }
}
