//! A pass through the whole network, and back.
use std::sync::{Mutex, PoisonError};

use chalot_tensor::Activations;
use chalot_tensor::exec::{Exec, ShapeError};
use chalot_tensor::matrix::Matrix;
use chalot_tensor::norm::{rms_norm, rms_norm_for};
use chalot_tensor::parts::Parts;

use super::attention::{self, AttentionState, SequenceScratch};
use super::ffn::{FfnScratch, FfnState};
use super::mixture::{self, MixtureState};
use super::parameter::{EMBEDDING, LayerFfn};
use super::seen::Seen;
use super::{Batch, Context, Losses, StepOptions, ffn, head};
use crate::error::TrainError;
use crate::ops::quantize::quantize_rows;
use crate::ops::room;
use crate::random::Random;

/// Buffers of the passes; they grow to the largest batch and stay.
#[derive(Default)]
pub(crate) struct Work {
    /// Each layer's input, `[rows][hidden]`.
    inputs: Vec<Vec<f32>>,
    /// What the way back needs of each layer; one for all when it is computed again.
    states: Vec<LayerState>,
    /// The hidden states that leave the last layer, and those at the exit.
    hidden: Vec<f32>,
    exit: Vec<f32>,
    /// Their gradients.
    d_hidden: Vec<f32>,
    d_exit: Vec<f32>,
    pub scratch: Scratch,
}

/// What the way back needs of a layer.
#[derive(Default)]
pub(crate) struct LayerState {
    pub attention: AttentionState,
    /// The hidden states between the two blocks.
    pub mid: Vec<f32>,
    pub ffn: FfnState,
    pub mixture: MixtureState,
}

/// Buffers that nothing keeps.
#[derive(Default)]
pub(crate) struct Scratch {
    pub normed: Activations,
    pub inner: Activations,
    pub out: Vec<f32>,
    pub seen: Seen,
    /// `[rows][widest]`, several.
    pub a: Vec<f32>,
    pub b: Vec<f32>,
    pub c: Vec<f32>,
    pub partial: Vec<f32>,
    pub sequences: Vec<Mutex<SequenceScratch>>,
    pub ffn: FfnScratch,
    pub experts: Vec<Mutex<FfnScratch>>,
    pub head: head::HeadScratch,
}

/// Runs tasks that may fail; the error of one of them.
pub(crate) fn try_run(
    exec: &Exec,
    tasks: usize,
    f: &(dyn Fn(usize) -> Result<(), ShapeError> + Sync),
) -> Result<(), ShapeError> {
    let failed = Mutex::new(None);
    exec.pool.run(tasks, &|task| {
        if let Err(error) = f(task) {
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// `act` = what products with `weights` see of the normed rows of `x`.
pub(super) fn normed_input(
    cx: &Context<'_>,
    x: &[f32],
    norm: &[f32],
    act: &mut Activations,
    weights: &[&Matrix],
) -> Result<(), ShapeError> {
    let lambda = cx.lambda();
    if lambda == 0.0 || lambda == 1.0 {
        return rms_norm_for(cx.exec, x, norm, cx.eps(), act, weights);
    }
    let n = norm.len();
    let y = act.set(x.len() / n, n);
    rms_norm(cx.exec, x, norm, cx.eps(), y)?;
    quantize_rows(cx.exec, y, n, lambda);
    Ok(())
}

/// The losses of a batch, and with `gradients` the way back.
pub(super) fn step(
    cx: &Context<'_>,
    work: &mut Work,
    batch: &Batch<'_>,
    options: &StepOptions,
    gradients: Option<&mut [f32]>,
) -> Result<Losses, TrainError> {
    let _awake = cx.exec.pool.stay_awake();
    let training = gradients.is_some();
    let layers = cx.layers.len();
    let hidden = cx.config.hidden_size;
    let len = batch.inputs.len() * hidden;
    let left_out = if training { left_out(cx, options) } else { vec![false; layers] };
    let exit = cx.config.shallow_layers.min(layers);
    let with_exit = options.exit_weight > 0.0 && exit > 0 && exit < layers;
    let mut losses = Losses { load: vec![Vec::new(); layers], ..Losses::default() };

    let keep_all = training && !options.recompute;
    forward(cx, work, batch, &left_out, keep_all, with_exit.then_some(exit), Some((options, &mut losses)))?;

    let Work { inputs, states, hidden: last, exit: exit_hidden, d_hidden, d_exit, scratch } = work;
    let d_hidden = room(d_hidden, len);
    let mut gradients = gradients;
    let weights = head::Weights { loss: options.weight, z_loss: options.z_loss };
    let sums = head::loss(
        cx,
        &last[..len],
        batch.targets,
        weights,
        None,
        gradients.as_deref_mut().map(|g| (&mut *d_hidden, g)),
        scratch,
    )?;
    (losses.tokens, losses.main, losses.z, losses.hits) = (sums.tokens, sums.loss, sums.z, sums.hits);

    // The exit is trained on the first rows only: a batch's rows are in random order.
    let sequences = batch.inputs.len() / batch.length;
    let share = if training { options.exit_share.clamp(0.0, 1.0) } else { 1.0 };
    let exit_rows = ((sequences as f32 * share).ceil() as usize).clamp(1, sequences) * batch.length;
    let Some(gradients) = gradients else {
        if with_exit {
            let sums = head::loss(cx, &exit_hidden[..len], batch.targets, weights, None, None, scratch)?;
            (losses.exit_tokens, losses.exit) = (sums.tokens, sums.loss);
        }
        return Ok(losses);
    };

    let d_exit = room(d_exit, if with_exit { exit_rows * hidden } else { 0 });
    if with_exit {
        let weights = head::Weights {
            loss: options.weight * options.exit_weight * sequences as f32 * batch.length as f32
                / exit_rows as f32,
            z_loss: 0.0,
        };
        let teacher = head::Teacher { hidden: &last[..d_exit.len()], share: options.exit_teacher };
        let sums = head::loss(
            cx,
            &exit_hidden[..d_exit.len()],
            &batch.targets[..exit_rows],
            weights,
            (options.exit_teacher > 0.0).then_some(teacher),
            Some((&mut *d_exit, &mut *gradients)),
            scratch,
        )?;
        (losses.exit_tokens, losses.exit) = (sums.tokens, sums.loss);
    }

    for index in (0..layers).rev() {
        if with_exit && index + 1 == exit {
            // Added to what comes from the deeper layers.
            d_hidden.iter_mut().zip(&*d_exit).for_each(|(d, x)| *d += x);
        }
        if left_out[index] {
            continue;
        }
        let input = &inputs[index][..len];
        let state = if options.recompute {
            let state = &mut states[0];
            let out = room(last, len);
            layer_forward(cx, batch, index, input, state, scratch, out, None)?;
            state
        } else {
            &mut states[index]
        };
        match &cx.layers[index].ffn {
            LayerFfn::Dense(ids) => {
                ffn::block_backward(
                    cx,
                    index,
                    *ids,
                    &state.mid[..len],
                    &mut state.ffn,
                    d_hidden,
                    gradients,
                    scratch,
                )?;
            }
            LayerFfn::Experts(ids) => {
                mixture::block_backward(
                    cx,
                    batch,
                    index,
                    ids,
                    &state.mid[..len],
                    &mut state.mixture,
                    options,
                    d_hidden,
                    gradients,
                    scratch,
                )?;
            }
        }
        attention::block_backward(cx, batch, index, input, &state.attention, d_hidden, gradients, scratch)?;
    }
    embedding_backward(cx, batch.inputs, d_hidden, gradients);
    Ok(losses)
}

/// The hidden states after the last layer go to `work.hidden`.
fn forward(
    cx: &Context<'_>,
    work: &mut Work,
    batch: &Batch<'_>,
    left_out: &[bool],
    keep_all: bool,
    exit: Option<usize>,
    mut measure: Option<(&StepOptions, &mut Losses)>,
) -> Result<(), TrainError> {
    let (layers, hidden) = (cx.layers.len(), cx.config.hidden_size);
    let len = batch.inputs.len() * hidden;
    work.inputs.resize_with(layers, Vec::new);
    let kept = if keep_all { layers } else { 1 };
    if work.states.len() < kept {
        work.states.resize_with(kept, LayerState::default);
    }
    let Work { inputs, states, hidden: last, exit: exit_hidden, scratch, .. } = work;
    let last = room(last, len);
    embed(cx, batch.inputs, last);
    for index in 0..layers {
        if exit == Some(index) {
            room(exit_hidden, len).copy_from_slice(last);
        }
        if left_out[index] {
            continue;
        }
        let input = room(&mut inputs[index], len);
        input.copy_from_slice(last);
        let state = &mut states[if keep_all { index } else { 0 }];
        let measure = measure.as_mut().map(|(options, losses)| (*options, &mut **losses));
        layer_forward(cx, batch, index, input, state, scratch, last, measure)?;
    }
    Ok(())
}

#[expect(clippy::too_many_arguments)]
fn layer_forward(
    cx: &Context<'_>,
    batch: &Batch<'_>,
    index: usize,
    input: &[f32],
    state: &mut LayerState,
    scratch: &mut Scratch,
    out: &mut [f32],
    measure: Option<(&StepOptions, &mut Losses)>,
) -> Result<(), TrainError> {
    let mid = room(&mut state.mid, input.len());
    attention::block_forward(cx, batch, index, input, &mut state.attention, scratch, mid)?;
    match &cx.layers[index].ffn {
        LayerFfn::Dense(ids) => ffn::block_forward(cx, index, *ids, mid, &mut state.ffn, scratch, out)?,
        LayerFfn::Experts(ids) => {
            mixture::block_forward(cx, index, ids, mid, &mut state.mixture, scratch, out)?;
            if let Some((_, losses)) = measure {
                mixture::measure(cx, batch, &state.mixture, mid.len() / cx.config.hidden_size, index, losses);
            }
        }
    }
    Ok(())
}

/// The logits of all rows.
pub(super) fn logits(cx: &Context<'_>, work: &mut Work, batch: &Batch<'_>) -> Result<Vec<f32>, TrainError> {
    let left_out = vec![false; cx.layers.len()];
    forward(cx, work, batch, &left_out, false, None, None)?;
    let rows = batch.inputs.len();
    let mut logits = vec![0.0; rows * cx.config.vocab_size];
    let last = &work.hidden[..rows * cx.config.hidden_size];
    head::logits(cx, last, &mut work.scratch.head.normed, &mut logits)?;
    Ok(logits)
}

/// Which layers this step does without (Fan et al. 2020; Elhoushi et al. 2024, "LayerSkip", section 4.1).
fn left_out(cx: &Context<'_>, options: &StepOptions) -> Vec<bool> {
    let layers = cx.layers.len();
    let mut random = Random::new(&[options.seed, LAYER_DROP]);
    (0..layers)
        .map(|index| {
            let deep = index.saturating_sub(cx.config.shallow_layers.saturating_sub(1)) as f32;
            let deepest = (layers - cx.config.shallow_layers.clamp(1, layers)).max(1) as f32;
            let probability =
                if index < cx.config.shallow_layers { 0.0 } else { options.layer_drop * deep / deepest };
            let draw = (random.bits() >> 40) as f32 / (1u64 << 24) as f32;
            draw < probability
        })
        .collect()
}

const LAYER_DROP: u64 = 0xD809;

fn embed(cx: &Context<'_>, tokens: &[u32], out: &mut [f32]) {
    let hidden = cx.config.hidden_size;
    let table = cx.dense(EMBEDDING, EMBEDDING);
    for (row, &token) in out.chunks_exact_mut(hidden).zip(tokens) {
        row.copy_from_slice(&table[token as usize * hidden..][..hidden]);
    }
}

/// The gradient of an embedding row is the sum over the tokens that used it. Each task has some rows of the table.
fn embedding_backward(cx: &Context<'_>, tokens: &[u32], d_hidden: &[f32], gradients: &mut [f32]) {
    let hidden = cx.config.hidden_size;
    let rows = cx.config.vocab_size.div_ceil(8);
    let parts = Parts::new(&mut gradients[cx.range(EMBEDDING, EMBEDDING)], rows * hidden);
    cx.exec.pool.run(parts.count(), &|task| {
        let part = parts.take(task);
        for (d, &token) in d_hidden.chunks_exact(hidden).zip(tokens) {
            let row = (token as usize).wrapping_sub(task * rows);
            if row < rows {
                part[row * hidden..][..hidden].iter_mut().zip(d).for_each(|(sum, d)| *sum += d);
            }
        }
    });
}
