//! Sixteen `f32` lanes: the one vector type that every kernel here is written in.
//!
//! A kernel is a [`Kernel`]: an algorithm generic over [`Lanes`], written once. [`dispatch`] runs it with the
//! instructions that an [`Isa`] stands for. Sixteen lanes are one register on AVX-512, two on AVX2, four on
//! NEON and an array in plain Rust, so the order of operations, and with it every bit of the result, is the
//! same whatever a register holds.
//!
//! An implementor of [`Lanes`] is a token: to hold one proves that the CPU has its instructions, which is
//! what lets the operations be safe functions.
//!
//! Two rules keep the generic code as fast as intrinsics written by hand. [`Kernel::run`] and whatever it
//! calls with lanes in its arguments must be `#[inline(always)]` (and use no closures), because only code
//! inlined into the `#[target_feature]` function of an ISA file is compiled for that ISA. A part worth
//! keeping out of line is a kernel of its own, entered through [`Lanes::call`].

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
mod scalar;
#[cfg(test)]
mod tests;

use chalot_simd::{Isa, IsaKind};
use half::f16;

/// Lanes in a vector.
pub const LANES: usize = 16;

/// Two 16-bit integers, what integer products take at a time.
pub type Pair = [i16; 2];

/// An algorithm written in [`Lanes`], with its arguments as fields.
pub trait Kernel {
    /// What it returns.
    type Output;
    /// Runs it; implementations are `#[inline(always)]`.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// Runs `kernel` with the instructions of `isa`.
pub fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    match isa.kind() {
        #[cfg(target_arch = "x86_64")]
        IsaKind::Avx512 | IsaKind::Avx512Vbmi | IsaKind::Amx => match avx512::Avx512::new(isa) {
            Some(lanes) => lanes.call(kernel),
            None => scalar::Scalar.call(kernel),
        },
        #[cfg(target_arch = "x86_64")]
        IsaKind::Avx2 | IsaKind::AvxVnni => match avx2::Avx2::new(isa) {
            Some(lanes) => lanes.call(kernel),
            None => scalar::Scalar.call(kernel),
        },
        #[cfg(target_arch = "aarch64")]
        IsaKind::Neon | IsaKind::NeonDot => match neon::Neon::new(isa) {
            Some(lanes) => lanes.call(kernel),
            None => scalar::Scalar.call(kernel),
        },
        _ => scalar::Scalar.call(kernel),
    }
}

/// A token for instructions on vectors of sixteen `f32`. Every arithmetic operation rounds once, to nearest
/// even, and keeps subnormal numbers; which NaN comes out of a NaN is not defined.
pub trait Lanes: Copy + Send + Sync {
    /// Sixteen `f32`.
    type V: Copy;
    /// Sixteen booleans.
    type M: Copy;
    /// Sixteen `i32`.
    type I: Copy;
    /// Sixteen [`Pair`]s.
    type P: Copy;
    /// How many `V` the register file holds; kernels size their register tiles by it.
    const REGISTERS: usize;

    /// Runs `kernel` in a function compiled for these instructions; possibly out of line.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::V;
    /// Lane i is `x[i]`.
    fn load(self, x: &[f32; LANES]) -> Self::V;
    /// Lane i is `x[i]` widened (exact; a signalling NaN becomes quiet).
    fn load_f16(self, x: &[f16; LANES]) -> Self::V;
    /// `x[i]` is lane i.
    fn store(self, v: Self::V, x: &mut [f32; LANES]);
    /// `x[i]` is lane i rounded to nearest even: beyond 65,520 becomes infinity, a NaN stays one.
    fn store_f16(self, v: Self::V, x: &mut [f16; LANES]);

    /// `x[i]` is lane i rounded to nearest even. Lanes lie in -32,768..=32,767; others give any number.
    fn store_i16(self, v: Self::V, x: &mut [i16; LANES]);

    /// Pair i is lanes i of `first` and `second`, each rounded as by [`Lanes::store_i16`].
    fn round_to_pairs(self, first: Self::V, second: Self::V) -> Self::P;
    /// All pairs `x`.
    fn splat_pair(self, x: Pair) -> Self::P;
    /// Pair i is `x[i]`.
    fn load_pairs(self, x: &[Pair; LANES]) -> Self::P;
    /// Pair i is `x[i]` widened.
    fn load_pairs_i8(self, x: &[[i8; 2]; LANES]) -> Self::P;
    /// `x[i]` is pair i.
    fn store_pairs(self, v: Self::P, x: &mut [Pair; LANES]);
    /// All lanes 0.
    fn zero_i32(self) -> Self::I;
    /// Lane i is `c[i] + a[i][0] · b[i][0] + a[i][1] · b[i][1]`, wrapping.
    fn dot_pairs(self, a: Self::P, b: Self::P, c: Self::I) -> Self::I;
    /// To the nearest `f32`, halves to even.
    fn to_f32(self, x: Self::I) -> Self::V;

    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a · b + c`, rounded once.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `a < b ? a : b`, so `b` when either is NaN.
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a > b ? a : b`, so `b` when either is NaN.
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The sign bit flipped.
    fn neg(self, a: Self::V) -> Self::V;
    /// The sign bit cleared.
    fn abs(self, a: Self::V) -> Self::V;
    /// The magnitude of `a` with the sign of `b`.
    fn copysign(self, a: Self::V, b: Self::V) -> Self::V;
    /// To an integer, halves to even.
    fn round(self, a: Self::V) -> Self::V;
    /// `p · 2^n`, rounded once, for `p` in 0.5..2 and integers `n` in -252..=254.
    fn scale_by_power_of_two(self, p: Self::V, n: Self::V) -> Self::V;
    /// `a < b`
    fn lt(self, a: Self::V, b: Self::V) -> Self::M;
    /// `m ? a : b`
    fn select(self, m: Self::M, a: Self::V, b: Self::V) -> Self::V;

    /// The sum over the lanes: i + (i + 8), then i + (i + 4), i + (i + 2), i + (i + 1).
    fn sum(self, v: Self::V) -> f32;
    /// The maximum over the lanes (as [`Lanes::max`]), in the order of [`Lanes::sum`].
    fn maximum(self, v: Self::V) -> f32;

    /// As [`Lanes::load`] from the first lanes; those beyond `x` are `fill`. At most sixteen are read.
    #[inline(always)]
    fn load_or(self, x: &[f32], fill: f32) -> Self::V {
        match x.first_chunk() {
            Some(full) => self.load(full),
            None => {
                let mut padded = [fill; LANES];
                padded[..x.len()].copy_from_slice(x);
                self.load(&padded)
            }
        }
    }

    /// As [`Lanes::store`], as many lanes as `x` has room for.
    #[inline(always)]
    fn store_some(self, v: Self::V, x: &mut [f32]) {
        match x.first_chunk_mut() {
            Some(full) => self.store(v, full),
            None => {
                let mut padded = [0.0; LANES];
                self.store(v, &mut padded);
                x.copy_from_slice(&padded[..x.len()]);
            }
        }
    }
}
