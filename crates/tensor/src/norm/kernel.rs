//! The loops, on sixteen lanes.
use crate::math::lanes::{Kernel, LANES, Lanes};

/// 1 / sqrt(mean square + eps) of a row. Missing lanes of the last vector add the square of zero.
#[inline(always)]
fn inverse_rms<L: Lanes>(l: L, x: &[f32], eps: f32) -> f32 {
    let mut squares = l.splat(0.0);
    for x in x.chunks(LANES) {
        let x = l.load_or(x, 0.0);
        squares = l.fma(x, x, squares);
    }
    1.0 / (l.sum(squares) / x.len() as f32 + eps).sqrt()
}

pub(super) struct RmsNorm<'a> {
    pub x: &'a [f32],
    pub weight: &'a [f32],
    pub eps: f32,
    pub y: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let n = self.weight.len();
        for (x, y) in self.x.chunks_exact(n).zip(self.y.chunks_exact_mut(n)) {
            let inverse = l.splat(inverse_rms(l, x, self.eps));
            let inputs = x.chunks(LANES).zip(self.weight.chunks(LANES));
            for (y, (x, w)) in y.chunks_mut(LANES).zip(inputs) {
                l.store_some(l.mul(l.mul(l.load_or(x, 0.0), inverse), l.load_or(w, 0.0)), y);
            }
        }
    }
}

pub(super) struct RmsNormInPlace<'a> {
    pub x: &'a mut [f32],
    pub weight: &'a [f32],
    pub eps: f32,
}

impl Kernel for RmsNormInPlace<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for row in self.x.chunks_exact_mut(self.weight.len()) {
            let inverse = l.splat(inverse_rms(l, row, self.eps));
            for (x, w) in row.chunks_mut(LANES).zip(self.weight.chunks(LANES)) {
                l.store_some(l.mul(l.mul(l.load_or(x, 0.0), inverse), l.load_or(w, 0.0)), x);
            }
        }
    }
}

pub(super) struct LayerNorm<'a> {
    pub x: &'a [f32],
    pub weight: &'a [f32],
    pub bias: Option<&'a [f32]>,
    pub eps: f32,
    pub y: &'a mut [f32],
}

impl Kernel for LayerNorm<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let n = self.weight.len();
        for (x, y) in self.x.chunks_exact(n).zip(self.y.chunks_exact_mut(n)) {
            let mut sum = l.splat(0.0);
            for x in x.chunks(LANES) {
                sum = l.add(sum, l.load_or(x, 0.0));
            }
            let mean = l.sum(sum) / n as f32;
            let mean_lanes = l.splat(mean);
            let mut squares = l.splat(0.0);
            for x in x.chunks(LANES) {
                // Missing lanes are at the mean, so they add the square of zero.
                let centred = l.sub(l.load_or(x, mean), mean_lanes);
                squares = l.fma(centred, centred, squares);
            }
            let inverse = l.splat(1.0 / (l.sum(squares) / n as f32 + self.eps).sqrt());
            for (i, (x, y)) in x.chunks(LANES).zip(y.chunks_mut(LANES)).enumerate() {
                let normal = l.mul(l.sub(l.load_or(x, 0.0), mean_lanes), inverse);
                let weight = l.load_or(&self.weight[i * LANES..], 0.0);
                let scaled = match self.bias {
                    Some(bias) => l.fma(normal, weight, l.load_or(&bias[i * LANES..], 0.0)),
                    None => l.mul(normal, weight),
                };
                l.store_some(scaled, y);
            }
        }
    }
}
