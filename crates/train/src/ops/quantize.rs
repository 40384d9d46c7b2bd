//! The values that ternary products see: activations rounded to 8-bit integers and back.
//!
//! Rounding has no useful derivative. The straight-through estimator (Bengio et al. 2013) takes it as the identity on the
//! way back: for `y = round(x) W^T`, `dx = dy W` and `dW = dy^T round(x)`. So the backward pass needs the rounded
//! activations again, as floats; they are made here, by the rule of [`Activations`](chalot_tensor::Activations):
//! `s = 127 / max(|x|, 1e-5)`, `round(x s) / s`. While quantization is phased in, a product sees
//! `x + lambda (rounded - x)`.
use chalot_tensor::exec::Exec;
use chalot_tensor::math::lanes::{Kernel, LANES, Lanes, dispatch};

use super::over_rows;

/// The least magnitude that a row's largest is taken as.
const MIN_MAX: f32 = 1e-5;

/// `y = x + lambda (rounded(x) - x)` in place for rows of `width`; lambda 0: nothing, 1: rounded.
pub fn quantize_rows(exec: &Exec, x: &mut [f32], width: usize, lambda: f32) {
    if lambda > 0.0 {
        over_rows(exec, x, width, &|_, x| dispatch(exec.isa, Quantize { x, width, lambda }));
    }
}

/// `y` = the rounded (see [`quantize_rows`]) RMS norm of the rows of `x`: what a product after a norm sees.
pub fn norm_quantize_rows(exec: &Exec, x: &[f32], w: &[f32], eps: f32, lambda: f32, y: &mut [f32]) {
    let n = w.len();
    over_rows(exec, y, n, &|row, y| {
        let x = &x[row * n..row * n + y.len()];
        dispatch(exec.isa, NormQuantize { x, w, eps, lambda, y });
    });
}

struct Quantize<'a> {
    x: &'a mut [f32],
    width: usize,
    lambda: f32,
}

impl Kernel for Quantize<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for x in self.x.chunks_exact_mut(self.width) {
            quantize(l, x, self.lambda);
        }
    }
}

/// `s` of a row.
#[inline(always)]
fn scale<L: Lanes>(l: L, x: &[f32]) -> f32 {
    let mut max = l.splat(0.0);
    for x in x.chunks(LANES) {
        max = l.max(l.abs(l.load_or(x, 0.0)), max);
    }
    127.0 / l.maximum(max).max(MIN_MAX)
}

/// `round(x s)`
#[inline(always)]
fn round<L: Lanes>(l: L, x: L::V, s: L::V) -> L::V {
    l.min(l.max(l.round(l.mul(x, s)), l.splat(-128.0)), l.splat(127.0))
}

#[inline(always)]
fn integers<L: Lanes>(l: L, x: &mut [f32]) -> f32 {
    let s = scale(l, x);
    for x in x.chunks_mut(LANES) {
        l.store_some(round(l, l.load_or(x, 0.0), l.splat(s)), x);
    }
    1.0 / s
}

#[inline(always)]
fn quantize<L: Lanes>(l: L, x: &mut [f32], lambda: f32) {
    let s = scale(l, x);
    let (s, back, blend) = (l.splat(s), l.splat(1.0 / s), l.splat(lambda));
    for x in x.chunks_mut(LANES) {
        let old = l.load_or(x, 0.0);
        let new = l.mul(round(l, old, s), back);
        let y = if lambda == 1.0 { new } else { l.fma(blend, l.sub(new, old), old) };
        l.store_some(y, x);
    }
}

/// `y` = the integers of the rounded row `x`, as floats; returns their factor.
pub(crate) struct Integers<'a> {
    pub x: &'a [f32],
    pub y: &'a mut [f32],
}

impl Kernel for Integers<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        self.y.copy_from_slice(self.x);
        integers(l, self.y)
    }
}

/// The same of the RMS norm of `x`.
pub(crate) struct NormIntegers<'a> {
    pub x: &'a [f32],
    pub w: &'a [f32],
    pub eps: f32,
    pub y: &'a mut [f32],
}

impl Kernel for NormIntegers<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        norm(l, self.x, self.w, self.eps, self.y);
        integers(l, self.y)
    }
}

struct NormQuantize<'a> {
    x: &'a [f32],
    w: &'a [f32],
    eps: f32,
    lambda: f32,
    y: &'a mut [f32],
}

impl Kernel for NormQuantize<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let n = self.w.len();
        for (x, y) in self.x.chunks_exact(n).zip(self.y.chunks_exact_mut(n)) {
            norm(l, x, self.w, self.eps, y);
            if self.lambda > 0.0 {
                quantize(l, y, self.lambda);
            }
        }
    }
}

/// `y` = the RMS norm of a row.
#[inline(always)]
fn norm<L: Lanes>(l: L, x: &[f32], w: &[f32], eps: f32, y: &mut [f32]) {
    let mut squares = l.splat(0.0);
    for x in x.chunks(LANES) {
        let x = l.load_or(x, 0.0);
        squares = l.fma(x, x, squares);
    }
    let inverse = l.splat(1.0 / (l.sum(squares) / x.len() as f32 + eps).sqrt());
    for ((x, w), y) in x.chunks(LANES).zip(w.chunks(LANES)).zip(y.chunks_mut(LANES)) {
        l.store_some(l.mul(l.mul(l.load_or(x, 0.0), inverse), l.load_or(w, 0.0)), y);
    }
}
