//! The way back through the norm of a head and its rotation.
//!
//! A rotation is `(a, b) -> (a cos - b sin, b cos + a sin)`; its matrix is orthogonal, so the gradient turns back by the same
//! angle: `(da, db) -> (da cos + db sin, db cos - da sin)`. Pairs are i and i + dims/2.
use chalot_tensor::math::lanes::{Kernel, LANES, Lanes};

/// Turns the gradients of one head back, in place.
pub(crate) struct RotateBack<'a> {
    pub d: &'a mut [f32],
    pub cos: &'a [f32],
    pub sin: &'a [f32],
}

impl Kernel for RotateBack<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let half = self.cos.len();
        let (first, second) = self.d[..2 * half].split_at_mut(half);
        for i in (0..half).step_by(LANES) {
            let end = half.min(i + LANES);
            let (c, s) = (l.load_or(&self.cos[i..end], 0.0), l.load_or(&self.sin[i..end], 0.0));
            let (a, b) = (l.load_or(&first[i..end], 0.0), l.load_or(&second[i..end], 0.0));
            l.store_some(l.add(l.mul(a, c), l.mul(b, s)), &mut first[i..end]);
            l.store_some(l.sub(l.mul(b, c), l.mul(a, s)), &mut second[i..end]);
        }
    }
}
