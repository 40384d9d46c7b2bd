//! The head: final norm, logits, loss, and the way back, in blocks of tokens, so that no logits of a whole batch exist.
//!
//! `x = norm(h)`, `z = round(x) E^T` with the embedding E as the exported file keeps it; straight-through:
//! `dx = dz E`, `dE = dz^T round(x)`.
use chalot_tensor::exec::ShapeError;
use chalot_tensor::norm::rms_norm_for;
use chalot_tensor::{Activations, matmul};

use super::Context;
use super::parameter::EMBEDDING;
use super::pass::Scratch;
use super::seen::{Seen, input_gradient};
use crate::error::TrainError;
use crate::ops::cross_entropy::{RowLoss, cross_entropy, toward_teacher};
use crate::ops::norm::rms_norm_backward;
use crate::ops::room;

/// Tokens of a block.
const BLOCK: usize = 512;

/// What losses count for.
#[derive(Clone, Copy)]
pub(super) struct Weights {
    pub loss: f32,
    pub z_loss: f32,
}

/// Whose distribution takes a share of the text's place.
#[derive(Clone, Copy)]
pub(super) struct Teacher<'a> {
    /// Of the same tokens.
    pub hidden: &'a [f32],
    pub share: f32,
}

#[derive(Clone, Copy, Default)]
pub(super) struct Sums {
    pub tokens: u64,
    pub loss: f64,
    pub z: f64,
    pub hits: u64,
}

#[derive(Default)]
pub(crate) struct HeadScratch {
    pub normed: Activations,
    logits: Vec<f32>,
    teacher: Vec<f32>,
    seen: Seen,
    dx: Vec<f32>,
    losses: Vec<RowLoss>,
}

/// The logits of hidden states.
pub(super) fn logits(
    cx: &Context<'_>,
    hidden: &[f32],
    normed: &mut Activations,
    logits: &mut [f32],
) -> Result<(), ShapeError> {
    let embedding = cx.matrix(EMBEDDING);
    rms_norm_for(cx.exec, hidden, cx.value(cx.final_norm), cx.eps(), normed, &[embedding])?;
    matmul(cx.exec, embedding, normed, logits)
}

/// The losses of `hidden`; with gradients, `d_hidden` is overwritten and the parameters' are added to. A teacher changes the
/// gradients, not the losses.
pub(super) fn loss(
    cx: &Context<'_>,
    hidden: &[f32],
    targets: &[u32],
    weights: Weights,
    teacher: Option<Teacher<'_>>,
    mut back: Option<(&mut [f32], &mut [f32])>,
    scratch: &mut Scratch,
) -> Result<Sums, TrainError> {
    let (width, vocab) = (cx.config.hidden_size, cx.config.vocab_size);
    let HeadScratch { normed, logits: buffer, teacher: taught, seen, dx, losses } = &mut scratch.head;
    let norm = cx.value(cx.final_norm);
    let mut sums = Sums::default();
    for (block, targets) in targets.chunks(BLOCK).enumerate() {
        let m = targets.len();
        let at = block * BLOCK * width..block * BLOCK * width + m * width;
        let rows = &hidden[at.clone()];
        let z = room(buffer, m * vocab);
        logits(cx, rows, normed, z)?;
        losses.resize(m, RowLoss::default());
        let weight = back.is_some().then_some(weights.loss);
        cross_entropy(cx.exec, z, targets, weights.z_loss, weight, losses);
        for (loss, _) in losses.iter().zip(targets).filter(|(_, target)| **target != super::IGNORED) {
            sums.tokens += 1;
            sums.loss += loss.loss;
            sums.z += loss.lse_squared;
            sums.hits += u64::from(loss.hit);
        }
        let Some((d_hidden, gradients)) = &mut back else { continue };
        if let Some(teacher) = teacher {
            let taught = room(taught, m * vocab);
            logits(cx, &teacher.hidden[at.clone()], normed, taught)?;
            toward_teacher(cx.exec, z, taught, targets, weights.loss * teacher.share);
        }
        seen.norm(cx.exec, cx.head_lambda, rows, norm, cx.eps());
        seen.weight_gradient(cx.exec, z, &mut gradients[cx.range(EMBEDDING, EMBEDDING)])?;
        let dx = room(dx, m * width);
        input_gradient(cx, (EMBEDDING, EMBEDDING), z, m, dx)?;
        let dw = &mut gradients[cx.range(cx.final_norm, cx.final_norm)];
        let d = &mut d_hidden[at];
        rms_norm_backward(cx.exec, rows, norm, cx.eps(), dx, false, d, dw, &mut scratch.partial);
    }
    Ok(sums)
}
