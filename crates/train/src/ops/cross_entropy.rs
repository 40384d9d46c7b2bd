//! Soft-max and cross-entropy of logits, with the z-loss, and the way back.
//!
//! For a row of logits z with target t: `lse = ln sum_j exp(z_j)`, loss `lse - z_t`, plus `zeta lse^2` (z-loss, de Brebisson
//! and Vincent 2016; Chowdhery et al. 2022), which keeps logits from drifting. `dlse/dz_j` is the probability `p_j`, so
//!
//! ```text
//! dz_j = p_j (1 + 2 zeta lse) - [j = t]
//! ```
//!
//! A teacher with probabilities r (Hinton et al. 2015) takes a share s of the target's place: the loss becomes
//! `lse - (1 - s) z_t - s sum_j r_j z_j`, r being constants, so `dz_j` changes by `s ([j = t] - r_j)`.
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

/// Gives a share of the target's place in gradients that [`cross_entropy`] has left (`[m][vocab]`) to the distribution of a
/// teacher's logits, which are overwritten. `weight` is that of the loss times the share.
pub fn toward_teacher(exec: &Exec, gradients: &mut [f32], teacher: &mut [f32], targets: &[u32], weight: f32) {
    let vocab = gradients.len() / targets.len().max(1);
    const ROWS: usize = 8;
    let (rows, teacher) = (Parts::new(gradients, ROWS * vocab), Parts::new(teacher, ROWS * vocab));
    exec.pool.run(rows.count(), &|piece| {
        let targets = &targets[piece * ROWS..];
        let rows = rows.take(piece).chunks_exact_mut(vocab);
        for ((row, teacher), &target) in rows.zip(teacher.take(piece).chunks_exact_mut(vocab)).zip(targets) {
            if target != IGNORED {
                dispatch(exec.isa, Toward { gradients: row, teacher, weight });
                row[target as usize] += weight;
            }
        }
    });
}

struct Toward<'a> {
    gradients: &'a mut [f32],
    teacher: &'a mut [f32],
    weight: f32,
}

impl Kernel for Toward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { gradients, teacher, weight } = self;
        let (_, sum) = exponentials(l, teacher, true);
        let factor = l.splat(-weight / sum);
        for (d, e) in gradients.chunks_mut(LANES).zip(teacher.chunks(LANES)) {
            l.store_some(l.fma(l.load_or(e, 0.0), factor, l.load_or(d, 0.0)), d);
        }
    }
}

/// The largest of `z` and the sum of `exp(z - largest)`; these may replace `z`.
#[inline(always)]
fn exponentials<L: Lanes>(l: L, z: &mut [f32], replace: bool) -> (f32, f32) {
    let mut maximum = l.splat(f32::NEG_INFINITY);
    for x in z.chunks(LANES) {
        maximum = l.max(l.load_or(x, f32::NEG_INFINITY), maximum);
    }
    let maximum = l.maximum(maximum);
    let highest = l.splat(maximum);
    let mut sum = l.splat(0.0);
    for x in z.chunks_mut(LANES) {
        let e = vector::exp(l, l.sub(l.load_or(x, f32::NEG_INFINITY), highest));
        sum = l.add(sum, e);
        if replace {
            l.store_some(e, x);
        }
    }
    (maximum, l.sum(sum))
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
        let (maximum, sum) = exponentials(l, logits, weight.is_some());
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
