//! Sixteen lanes as an array: plain Rust, for every CPU.
use half::f16;

use super::{Kernel, LANES, Lanes};
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
    const REGISTERS: usize = 2;

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn prefetch<T>(self, _: &T) {}

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
