//! The way back through an RMS norm.
//!
//! Forward, for a row x of n numbers: `r = 1 / sqrt(sum x_i^2 / n + eps)`, `y_i = x_i r w_i`.
//!
//! r depends on every x: `dr/dx_i = -r^3 x_i / n`. With `g_i = dy_i w_i`,
//!
//! ```text
//! dx_i = g_i r + (sum_j g_j x_j) dr/dx_i = r g_i - x_i r^3 (sum_j g_j x_j) / n
//! dw_i = sum over rows of dy_i x_i r
//! ```
use chalot_tensor::exec::Exec;
use chalot_tensor::math::lanes::{Kernel, LANES, Lanes, dispatch};
use chalot_tensor::parts::Parts;

use super::{PIECE, add_pieces, room};

/// `dx = ` or, with `add`, `dx += ` the gradient of [`rms_norm`](chalot_tensor::norm::rms_norm)'s input; `dw += ` that of its
/// weight. `x`, `dy` and `dx` are `[m][w.len()]`; `partial` is scratch.
#[expect(clippy::too_many_arguments)]
pub fn rms_norm_backward(
    exec: &Exec,
    x: &[f32],
    w: &[f32],
    eps: f32,
    dy: &[f32],
    add: bool,
    dx: &mut [f32],
    dw: &mut [f32],
    partial: &mut Vec<f32>,
) {
    let n = w.len();
    let parts = Parts::new(dx, PIECE * n);
    let partial = room(partial, parts.count() * n);
    let partials = Parts::new(partial, n);
    exec.pool.run(parts.count(), &|piece| {
        let (dx, dw) = (parts.take(piece), partials.take(piece));
        dw.fill(0.0);
        let at = piece * PIECE * n..piece * PIECE * n + dx.len();
        dispatch(exec.isa, Backward { x: &x[at.clone()], w, eps, dy: &dy[at], add, dx, dw });
    });
    drop(partials);
    add_pieces(dw, partial);
}

/// The rows of a piece, on the calling thread.
pub(crate) struct Backward<'a> {
    pub x: &'a [f32],
    pub w: &'a [f32],
    pub eps: f32,
    pub dy: &'a [f32],
    pub add: bool,
    pub dx: &'a mut [f32],
    pub dw: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let n = self.w.len();
        let rows = self.x.chunks_exact(n).zip(self.dy.chunks_exact(n)).zip(self.dx.chunks_exact_mut(n));
        for ((x, dy), dx) in rows {
            let (mut squares, mut dots) = (l.splat(0.0), l.splat(0.0));
            for ((x, dy), w) in x.chunks(LANES).zip(dy.chunks(LANES)).zip(self.w.chunks(LANES)) {
                let x = l.load_or(x, 0.0);
                squares = l.fma(x, x, squares);
                dots = l.fma(l.mul(l.load_or(dy, 0.0), l.load_or(w, 0.0)), x, dots);
            }
            let r = 1.0 / (l.sum(squares) / n as f32 + self.eps).sqrt();
            let factor = l.splat(-(r * r * r) * l.sum(dots) / n as f32);
            let r = l.splat(r);
            for i in (0..n).step_by(LANES) {
                let (xi, dyi) = (l.load_or(&x[i..], 0.0), l.load_or(&dy[i..], 0.0));
                let g = l.mul(l.mul(dyi, l.load_or(&self.w[i..], 0.0)), r);
                let mut d = l.fma(xi, factor, g);
                let end = n.min(i + LANES);
                if self.add {
                    d = l.add(l.load_or(&dx[i..end], 0.0), d);
                }
                l.store_some(d, &mut dx[i..end]);
                let dw = &mut self.dw[i..end];
                let sum = l.fma(l.mul(dyi, xi), r, l.load_or(dw, 0.0));
                l.store_some(sum, dw);
            }
        }
    }
}
