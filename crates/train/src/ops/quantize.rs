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

#[inline(always)]
fn quantize<L: Lanes>(l: L, x: &mut [f32], lambda: f32) {
    let mut max = l.splat(0.0);
    for x in x.chunks(LANES) {
        max = l.max(l.abs(l.load_or(x, 0.0)), max);
    }
    let s = 127.0 / l.maximum(max).max(MIN_MAX);
    let (scale, back, blend) = (l.splat(s), l.splat(1.0 / s), l.splat(lambda));
    let (least, greatest) = (l.splat(-128.0), l.splat(127.0));
    for x in x.chunks_mut(LANES) {
        let old = l.load_or(x, 0.0);
        let q = l.min(l.max(l.round(l.mul(old, scale)), least), greatest);
        let new = l.mul(q, back);
        let y = if lambda == 1.0 { new } else { l.fma(blend, l.sub(new, old), old) };
        l.store_some(y, x);
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
            let mut squares = l.splat(0.0);
            for x in x.chunks(LANES) {
                let x = l.load_or(x, 0.0);
                squares = l.fma(x, x, squares);
            }
            let inverse = l.splat(1.0 / (l.sum(squares) / n as f32 + self.eps).sqrt());
            for ((x, w), y) in x.chunks(LANES).zip(self.w.chunks(LANES)).zip(y.chunks_mut(LANES)) {
                l.store_some(l.mul(l.mul(l.load_or(x, 0.0), inverse), l.load_or(w, 0.0)), y);
            }
            if self.lambda > 0.0 {
                quantize(l, y, self.lambda);
            }
        }
    }
}
