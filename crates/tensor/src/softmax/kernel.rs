//! The loops, on sixteen lanes.
use crate::math::{
    lanes::{Kernel, LANES, Lanes},
    vector,
};

pub(super) struct SoftmaxRows<'a> {
    pub x: &'a mut [f32],
    pub cols: usize,
}

impl Kernel for SoftmaxRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for row in self.x.chunks_exact_mut(self.cols) {
            let mut maximum = l.splat(f32::NEG_INFINITY);
            for x in row.chunks(LANES) {
                maximum = l.max(l.load_or(x, f32::NEG_INFINITY), maximum);
            }
            let maximum = l.splat(l.maximum(maximum));
            let mut sum = l.splat(0.0);
            for x in row.chunks_mut(LANES) {
                // Missing lanes are e^-inf = 0.
                let e = vector::exp(l, l.sub(l.load_or(x, f32::NEG_INFINITY), maximum));
                sum = l.add(sum, e);
                l.store_some(e, x);
            }
            let inverse = l.splat(1.0 / l.sum(sum));
            for x in row.chunks_mut(LANES) {
                l.store_some(l.mul(l.load_or(x, 0.0), inverse), x);
            }
        }
    }
}
