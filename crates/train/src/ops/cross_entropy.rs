//! Soft-max and cross-entropy of logits, with the z-loss, and the way back.
//!
//! For a row of logits z with target t: `lse = ln sum_j exp(z_j)`, loss `lse - z_t`, plus `zeta lse^2` (z-loss, de Brebisson
//! and Vincent 2016; Chowdhery et al. 2022), which keeps logits from drifting. `dlse/dz_j` is the probability `p_j`, so
//!
//! ```text
//! dz_j = p_j (1 + 2 zeta lse) - [j = t]
//! ```
use chalot_tensor::exec::Exec;
use chalot_tensor::math::lanes::{Kernel, LANES, Lanes, dispatch};
use chalot_tensor::math::vector;
use chalot_tensor::parts::Parts;

/// A target that is not predicted.
pub const IGNORED: u32 = u32::MAX;

/// Loss and log-sum-exp of a row; zeros where nothing is predicted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RowLoss {
    /// `lse - z_t`.
    pub loss: f64,
    /// `lse^2`.
    pub lse_squared: f64,
    /// Whether the target is the largest logit.
    pub hit: bool,
}

/// Fills `losses` (`[m]`) and, with a `weight`, overwrites `logits` (`[m][vocab]`) by `weight` times their gradients.
pub fn cross_entropy(
    exec: &Exec,
    logits: &mut [f32],
    targets: &[u32],
    z_loss: f32,
    weight: Option<f32>,
    losses: &mut [RowLoss],
) {
    let vocab = logits.len() / targets.len().max(1);
    const ROWS: usize = 8;
    let (rows, losses) = (Parts::new(logits, ROWS * vocab), Parts::new(losses, ROWS));
    exec.pool.run(rows.count(), &|piece| {
        let targets = &targets[piece * ROWS..];
        let rows = rows.take(piece).chunks_exact_mut(vocab);
        for ((row, &target), loss) in rows.zip(targets).zip(losses.take(piece)) {
            *loss = dispatch(exec.isa, Row { logits: row, target, z_loss, weight });
        }
    });
}

struct Row<'a> {
    logits: &'a mut [f32],
    target: u32,
    z_loss: f32,
    weight: Option<f32>,
}

impl Kernel for Row<'_> {
    type Output = RowLoss;
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> RowLoss {
        let Self { logits, target, z_loss, weight } = self;
        if target == IGNORED {
            if weight.is_some() {
                logits.fill(0.0);
            }
            return RowLoss::default();
        }
        let target = target as usize;
        let of_target = logits[target];
        let mut maximum = l.splat(f32::NEG_INFINITY);
        for x in logits.chunks(LANES) {
            maximum = l.max(l.load_or(x, f32::NEG_INFINITY), maximum);
        }
        let maximum = l.maximum(maximum);
        let highest = l.splat(maximum);
        let mut sum = l.splat(0.0);
        for x in logits.chunks_mut(LANES) {
            let e = vector::exp(l, l.sub(l.load_or(x, f32::NEG_INFINITY), highest));
            sum = l.add(sum, e);
            if weight.is_some() {
                l.store_some(e, x);
            }
        }
        let sum = l.sum(sum);
        let lse = f64::from(maximum) + f64::from(sum).ln();
        if let Some(weight) = weight {
            let factor = l.splat(weight * (1.0 + 2.0 * z_loss * lse as f32) / sum);
            for x in logits.chunks_mut(LANES) {
                l.store_some(l.mul(l.load_or(x, 0.0), factor), x);
            }
            logits[target] -= weight;
        }
        RowLoss { loss: lse - f64::from(of_target), lse_squared: lse * lse, hit: of_target >= maximum }
    }
}
