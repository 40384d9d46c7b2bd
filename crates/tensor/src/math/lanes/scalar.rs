//! Sixteen lanes as an array: plain Rust, for every CPU.
use half::f16;

use super::{Kernel, LANES, Lanes, Pair};
use crate::math::scalar as one;

/// No vector instructions.
#[derive(Clone, Copy)]
pub(super) struct Scalar;

type V = [f32; LANES];

#[inline]
fn map(a: V, f: impl Fn(f32) -> f32) -> V {
    std::array::from_fn(|i| f(a[i]))
}

#[inline]
fn zip(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    std::array::from_fn(|i| f(a[i], b[i]))
}

/// The pairwise tree: sixteen to eight, to four, to two, to one.
#[inline]
fn tree(mut v: V, f: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            v[i] = f(v[i], v[i + half]);
        }
    }
    v[0]
}

impl Lanes for Scalar {
    type V = V;
    type M = [bool; LANES];
    type I = [i32; LANES];
    type P = [Pair; LANES];
    const REGISTERS: usize = 2;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline]
    fn splat(self, x: f32) -> V {
        [x; LANES]
    }
    #[inline]
    fn load(self, x: &[f32; LANES]) -> V {
        *x
    }
    #[inline]
    fn load_f16(self, x: &[f16; LANES]) -> V {
        std::array::from_fn(|i| x[i].to_f32())
    }
    #[inline]
    fn store(self, v: V, x: &mut [f32; LANES]) {
        *x = v;
    }
    #[inline]
    fn store_f16(self, v: V, x: &mut [f16; LANES]) {
        *x = std::array::from_fn(|i| f16::from_f32(v[i]));
    }
    #[inline]
    fn store_i16(self, v: V, x: &mut [i16; LANES]) {
        *x = std::array::from_fn(|i| v[i].round_ties_even() as i16);
    }

    #[inline]
    fn round_to_pairs(self, first: V, second: V) -> Self::P {
        std::array::from_fn(|i| [first[i], second[i]].map(|x| x.round_ties_even() as i16))
    }
    #[inline]
    fn splat_pair(self, x: Pair) -> Self::P {
        [x; LANES]
    }
    #[inline]
    fn load_pairs(self, x: &[Pair; LANES]) -> Self::P {
        *x
    }
    #[inline]
    fn load_pairs_i8(self, x: &[[i8; 2]; LANES]) -> Self::P {
        std::array::from_fn(|i| x[i].map(i16::from))
    }
    #[inline]
    fn store_pairs(self, v: Self::P, x: &mut [Pair; LANES]) {
        *x = v;
    }
    #[inline]
    fn zero_i32(self) -> Self::I {
        [0; LANES]
    }
    #[inline]
    fn dot_pairs(self, a: Self::P, b: Self::P, c: Self::I) -> Self::I {
        std::array::from_fn(|i| {
            let product = |k: usize| i32::from(a[i][k]) * i32::from(b[i][k]);
            c[i].wrapping_add(product(0)).wrapping_add(product(1))
        })
    }
    #[inline]
    fn to_f32(self, x: Self::I) -> V {
        x.map(|x| x as f32)
    }

    #[inline]
    fn add(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a + b)
    }
    #[inline]
    fn sub(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a - b)
    }
    #[inline]
    fn mul(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a * b)
    }
    #[inline]
    fn div(self, a: V, b: V) -> V {
        zip(a, b, |a, b| a / b)
    }
    #[inline]
    fn fma(self, a: V, b: V, c: V) -> V {
        std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
    }
    #[inline]
    fn min(self, a: V, b: V) -> V {
        zip(a, b, one::min)
    }
    #[inline]
    fn max(self, a: V, b: V) -> V {
        zip(a, b, one::max)
    }
    #[inline]
    fn neg(self, a: V) -> V {
        map(a, |a| -a)
    }
    #[inline]
    fn abs(self, a: V) -> V {
        map(a, f32::abs)
    }
    #[inline]
    fn copysign(self, a: V, b: V) -> V {
        zip(a, b, f32::copysign)
    }
    #[inline]
    fn round(self, a: V) -> V {
        map(a, f32::round_ties_even)
    }
    #[inline]
    fn scale_by_power_of_two(self, p: V, n: V) -> V {
        zip(p, n, one::scale_by_power_of_two)
    }
    #[inline]
    fn lt(self, a: V, b: V) -> Self::M {
        std::array::from_fn(|i| a[i] < b[i])
    }
    #[inline]
    fn select(self, m: Self::M, a: V, b: V) -> V {
        std::array::from_fn(|i| if m[i] { a[i] } else { b[i] })
    }

    #[inline]
    fn sum(self, v: V) -> f32 {
        tree(v, |a, b| a + b)
    }
    #[inline]
    fn maximum(self, v: V) -> f32 {
        tree(v, one::max)
    }
}
