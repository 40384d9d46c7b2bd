//! The way back through the heart of a feed-forward layer.
//!
//! Forward: `p = max(gate, 0)`, `u = p^2 up`. So `dgate = du up 2 p` (the square's derivative, which is 0 where the gate
//! is closed) and `dup = du p^2`.
use chalot_tensor::exec::Exec;
use chalot_tensor::math::lanes::{Kernel, LANES, Lanes, dispatch};

use super::over_rows;

/// `d` = rows of `[dgate | dup]`, `[m][2 width]`, from `gate`, `up` and `du`, each `[m][width]`.
pub fn relu2_gated_backward(exec: &Exec, gate: &[f32], up: &[f32], du: &[f32], width: usize, d: &mut [f32]) {
    over_rows(exec, d, 2 * width, &|row, d| {
        let at = row * width..row * width + d.len() / 2;
        let (gate, up, du) = (&gate[at.clone()], &up[at.clone()], &du[at]);
        dispatch(exec.isa, Backward { gate, up, du, width, d });
    });
}

struct Backward<'a> {
    gate: &'a [f32],
    up: &'a [f32],
    du: &'a [f32],
    width: usize,
    d: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let n = self.width;
        for (row, d) in self.d.chunks_exact_mut(2 * n).enumerate() {
            let (dgate, dup) = d.split_at_mut(n);
            for i in (0..n).step_by(LANES) {
                let at = row * n + i;
                let end = n.min(i + LANES);
                let load = |x: &[f32]| l.load_or(&x[at..at + end - i], 0.0);
                let p = l.max(load(self.gate), l.splat(0.0));
                let du = load(self.du);
                let dp = l.mul(du, p);
                l.store_some(l.mul(l.mul(dp, load(self.up)), l.splat(2.0)), &mut dgate[i..end]);
                l.store_some(l.mul(dp, p), &mut dup[i..end]);
            }
        }
    }
}
