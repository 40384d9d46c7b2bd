//! The mixture of experts and the way back.
//!
//! Forward: logits `l = x Wr^T` of the normed input; the `top_k` of `l + bias` are chosen; of the probabilities
//! `p = softmax(l)` the weights are `w_i = p_i / sum of the chosen p`, which is the softmax over the chosen logits alone;
//! `out = sum_i w_i expert_i(x)`, experts ascending, then the shared expert. No token is dropped.
//!
//! Back, with `g_i = dout . y_i` for a token's experts:
//!
//! ```text
//! dy_i = w_i dout        dl_i = w_i (g_i - sum_j w_j g_j)   for the chosen i (the softmax's way back)
//! ```
//!
//! Two more losses act on the routers, for each token: `zeta lse(l)^2`, so `dl_i += 2 zeta lse p_i`; and the balance loss of
//! a sequence (DeepSeek-AI 2024, V3, section 2.1.2) `alpha sum_i f_i P_i`, where `f_i = E n_i / (k T)` counts the visits
//! n_i (E experts, k a token, T tokens; constants) and P_i is the mean of p_i: taken T times it is
//! `alpha sum over tokens of sum_i f_i p_i`, so `dl_i += alpha p_i (f_i - sum_j f_j p_j)`.
//!
//! An expert's tokens are gathered, and each expert is one task.
use std::sync::{Mutex, PoisonError};

use chalot_model::engine::{choose, weight_factor};
use chalot_tensor::elementwise::{add_assign, add_bias};
use chalot_tensor::gemm::{View, Write, gemm_parallel};
use chalot_tensor::linear::{Projection, project};
use chalot_tensor::math::lanes::{Kernel, LANES, Lanes, dispatch};
use chalot_tensor::norm::rms_norm;
use chalot_tensor::parts::Parts;
use chalot_tensor::softmax::softmax_rows;

use super::ffn::{self, FfnGradients, FfnState, network_gradients};
use super::parameter::MixtureIds;
use super::pass::{Scratch, try_run};
use super::{Batch, Context, Losses, StepOptions};
use crate::error::TrainError;
use crate::ops::norm::rms_norm_backward;
use crate::ops::quantize::quantize_rows;
use crate::ops::{over_rows, room};

/// A token at an expert.
#[derive(Clone, Copy, Debug, Default)]
struct Visit {
    expert: usize,
    token: usize,
    weight: f32,
}

/// What the way back needs.
#[derive(Default)]
pub(crate) struct MixtureState {
    /// `[rows][experts]`.
    logits: Vec<f32>,
    probabilities: Vec<f32>,
    /// By expert, then token.
    visits: Vec<Visit>,
    /// Where each expert's visits end.
    ends: Vec<usize>,
    /// Each token's visits, experts ascending: `[rows][top_k]`.
    of_token: Vec<usize>,
    gate: Vec<f32>,
    up: Vec<f32>,
    /// The experts' outputs, `[visits][hidden]`.
    y: Vec<f32>,
    shared: FfnState,
}

/// `out = mid + mixture(norm(mid))`.
pub(super) fn block_forward(
    cx: &Context<'_>,
    index: usize,
    ids: &MixtureIds,
    mid: &[f32],
    state: &mut MixtureState,
    scratch: &mut Scratch,
    out: &mut [f32],
) -> Result<(), TrainError> {
    let (exec, hidden) = (cx.exec, cx.config.hidden_size);
    let rows = mid.len() / hidden;
    let x = scratch.normed.set(rows, hidden);
    rms_norm(exec, mid, cx.value(cx.layers[index].ffn_norm), cx.eps(), x)?;
    let router = Projection {
        w: cx.matrix(ids.router),
        bias: None,
        y: room(&mut state.logits, rows * ids.experts.len()),
    };
    project(exec, &mut scratch.normed, [router])?;
    route(cx, index, rows, ids.experts.len(), state, &mut scratch.a)?;

    let MixtureState { visits, ends, of_token, gate, up, y, shared, .. } = state;
    let width = ids.experts[0].width;
    let x = scratch.normed.as_f32();
    let by = |width: usize| ends.iter().map(|end| end * width).collect();
    {
        let y = Parts::at(room(y, visits.len() * hidden), by(hidden));
        let gate = Parts::at(room(gate, visits.len() * width), by(width));
        let up = Parts::at(room(up, visits.len() * width), by(width));
        scratch.experts.resize_with(scratch.experts.len().max(ids.experts.len()), Mutex::default);
        let experts = &scratch.experts;
        let order = largest_first(ends);
        try_run(exec, ids.experts.len(), &|task| {
            let expert = order[task];
            let group = group(visits, ends, expert);
            if group.is_empty() {
                return Ok(());
            }
            let scratch = &mut *experts[expert].lock().unwrap_or_else(PoisonError::into_inner);
            gather(cx, x, group, scratch.x.set(group.len(), hidden));
            ffn::forward_in(
                cx,
                ids.experts[expert],
                scratch,
                gate.take(expert),
                up.take(expert),
                y.take(expert),
            )
        })?;
    }

    let shared_out = room(&mut scratch.out, mid.len());
    if let Some(ids) = ids.shared {
        let (gate, up) = (room(&mut shared.gate, rows * ids.width), room(&mut shared.up, rows * ids.width));
        let input = scratch.ffn.x.set(rows, hidden);
        input.copy_from_slice(x);
        blend(cx, input);
        ffn::forward_in(cx, ids, &mut scratch.ffn, gate, up, shared_out)?;
    }
    let top_k = of_token.len() / rows;
    let with_shared = ids.shared.is_some();
    over_rows(exec, out, hidden, &|row, out| {
        for (i, out) in out.chunks_exact_mut(hidden).enumerate() {
            out.fill(0.0);
            for &visit in &of_token[(row + i) * top_k..][..top_k] {
                let (weight, y) = (visits[visit].weight, &y[visit * hidden..][..hidden]);
                out.iter_mut().zip(y).for_each(|(sum, y)| *sum += weight * y);
            }
            let at = (row + i) * hidden;
            if with_shared {
                out.iter_mut().zip(&shared_out[at..]).for_each(|(sum, y)| *sum += y);
            }
            out.iter_mut().zip(&mid[at..]).for_each(|(sum, h)| *sum += h);
        }
    });
    Ok(())
}

/// Quantization that is being phased in is no kernel's affair.
fn blend(cx: &Context<'_>, x: &mut [f32]) {
    if cx.lambda() > 0.0 && cx.lambda() < 1.0 {
        quantize_rows(cx.exec, x, cx.config.hidden_size, cx.lambda());
    }
}

/// The experts in the order in which threads take them, so that they end together.
fn largest_first(ends: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ends.len()).collect();
    order.sort_by_key(|&expert| {
        std::cmp::Reverse(ends[expert] - expert.checked_sub(1).map_or(0, |e| ends[e]))
    });
    order
}

fn group<'a>(visits: &'a [Visit], ends: &[usize], expert: usize) -> &'a [Visit] {
    &visits[expert.checked_sub(1).map_or(0, |before| ends[before])..ends[expert]]
}

/// The rows of `x` that a group of visits takes, as products see them before they round.
fn gather(cx: &Context<'_>, x: &[f32], group: &[Visit], rows: &mut [f32]) {
    let hidden = cx.config.hidden_size;
    for (visit, row) in group.iter().zip(rows.chunks_exact_mut(hidden)) {
        row.copy_from_slice(&x[visit.token * hidden..][..hidden]);
    }
    blend(cx, rows);
}

/// The engine's choice of experts.
fn route(
    cx: &Context<'_>,
    index: usize,
    rows: usize,
    count: usize,
    state: &mut MixtureState,
    biased: &mut Vec<f32>,
) -> Result<(), TrainError> {
    let Some(config) = &cx.config.experts else { return Ok(()) };
    let logits = &state.logits[..rows * count];
    let probabilities = room(&mut state.probabilities, rows * count);
    probabilities.copy_from_slice(logits);
    softmax_rows(cx.exec, probabilities, count)?;
    let biased = room(biased, rows * count);
    biased.copy_from_slice(logits);
    add_bias(cx.exec, biased, &cx.selection[index])?;
    let mut chosen = Vec::new();
    state.visits.clear();
    for (token, (scores, probabilities)) in
        biased.chunks_exact(count).zip(probabilities.chunks_exact(count)).enumerate()
    {
        choose(scores, config.top_k, &mut chosen);
        let factor = weight_factor(config, probabilities, &chosen);
        state.visits.extend(chosen.iter().map(|&expert| Visit {
            expert,
            token,
            weight: probabilities[expert] / factor * config.scale,
        }));
    }
    state.visits.sort_unstable_by_key(|visit| (visit.expert, visit.token));
    state.ends.clear();
    state.ends.extend((0..count).map(|expert| state.visits.partition_point(|visit| visit.expert <= expert)));
    state.of_token.clear();
    state.of_token.resize(rows * config.top_k, 0);
    let mut filled = vec![0; rows];
    for (at, visit) in state.visits.iter().enumerate() {
        state.of_token[visit.token * config.top_k + filled[visit.token]] = at;
        filled[visit.token] += 1;
    }
    Ok(())
}

/// Visits, and the two losses of the router.
pub(super) fn measure(
    cx: &Context<'_>,
    batch: &Batch<'_>,
    state: &MixtureState,
    rows: usize,
    index: usize,
    losses: &mut Losses,
) {
    let count = state.ends.len();
    let mut start = 0;
    losses.load[index] =
        state.ends.iter().map(|&end| (end - std::mem::replace(&mut start, end)) as u64).collect();
    let shares = shares(cx, batch, &state.visits, count, rows);
    for row in 0..rows {
        let at = row * count..(row + 1) * count;
        let shares = &shares[row / batch.length * count..][..count];
        let balance = shares.iter().zip(&state.probabilities[at.clone()]);
        losses.balance += balance.map(|(f, p)| f64::from(f * p)).sum::<f64>();
        losses.router_z += log_sum_exp(&state.logits[at]).powi(2);
    }
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    f64::from(most) + logits.iter().map(|x| f64::from(x - most).exp()).sum::<f64>().ln()
}

/// `d_hidden` becomes the gradient of `mid`.
#[expect(clippy::too_many_arguments)]
pub(super) fn block_backward(
    cx: &Context<'_>,
    batch: &Batch<'_>,
    index: usize,
    ids: &MixtureIds,
    mid: &[f32],
    state: &mut MixtureState,
    options: &StepOptions,
    d_hidden: &mut [f32],
    gradients: &mut [f32],
    scratch: &mut Scratch,
) -> Result<(), TrainError> {
    let (exec, hidden, count) = (cx.exec, cx.config.hidden_size, ids.experts.len());
    let rows = mid.len() / hidden;
    let width = ids.experts[0].width;
    let norm_id = cx.layers[index].ffn_norm;
    let x = room(&mut scratch.a, mid.len());
    rms_norm(exec, mid, cx.value(norm_id), cx.eps(), x)?;
    let MixtureState { logits, probabilities, visits, ends, of_token, gate, up, y, shared } = state;
    let (visits, ends) = (&visits[..], &ends[..]);

    // The outputs' gradients, and what each visit's weight would change.
    let d_y = room(&mut scratch.b, visits.len() * hidden);
    let d_weights = room(&mut scratch.partial, visits.len());
    {
        const VISITS: usize = 32;
        let (d_y, d_weights) = (Parts::new(d_y, VISITS * hidden), Parts::new(d_weights, VISITS));
        exec.pool.run(d_y.count(), &|task| {
            let rows = d_y.take(task).chunks_exact_mut(hidden).zip(d_weights.take(task));
            for ((d_y, d_weight), at) in rows.zip(task * VISITS..) {
                let visit = visits[at];
                let d_out = &d_hidden[visit.token * hidden..][..hidden];
                let kernel = VisitBack { d_out, y: &y[at * hidden..][..hidden], weight: visit.weight, d_y };
                *d_weight = dispatch(exec.isa, kernel);
            }
        });
    }

    // The router.
    let top_k = of_token.len() / rows;
    let mut d_logits = std::mem::take(&mut scratch.out);
    let d_rows = room(&mut d_logits, rows * count);
    let shares = shares(cx, batch, visits, count, rows);
    let of_token = &of_token[..];
    let d_weights = &*d_weights;
    over_rows(exec, d_rows, count, &|first, d| {
        for (i, d) in d.chunks_exact_mut(count).enumerate() {
            let row = first + i;
            let p = &probabilities[row * count..][..count];
            let f = &shares[row / batch.length * count..][..count];
            let mean: f32 = f.iter().zip(p).map(|(f, p)| f * p).sum();
            let lse = log_sum_exp(&logits[row * count..][..count]) as f32;
            for ((d, p), f) in d.iter_mut().zip(p).zip(f) {
                let z = 2.0 * options.router_z_loss * lse;
                *d = options.weight * p * (z + options.balance_loss * (f - mean));
            }
            let own = &of_token[row * top_k..][..top_k];
            let sum: f32 = own.iter().map(|&at| visits[at].weight * d_weights[at]).sum();
            for &at in own {
                d[visits[at].expert] += visits[at].weight * (d_weights[at] - sum);
            }
        }
    });
    let d_view = View::new(d_rows, rows, count, count)?;
    let x_view = View::new(x, rows, hidden, hidden)?;
    gemm_parallel(exec, Write::Add, d_view.t(), x_view, &mut gradients[cx.range(ids.router, ids.router)])?;
    let dx = room(&mut scratch.c, rows * hidden);
    let router = View::new(cx.dense(ids.router, ids.router), count, hidden, hidden)?;
    gemm_parallel(exec, Write::Set, d_view, router, dx)?;
    scratch.out = d_logits;

    // The experts, each a task; the gradients of their inputs replace the outputs.
    let first = cx.range(ids.experts[0].gate, ids.experts[0].gate).start;
    let per_expert = cx.range(ids.experts[0].gate, ids.experts[0].down).len();
    let (matrices, norms) = gradients[first..].split_at_mut(count * per_expert);
    {
        let matrices = Parts::new(matrices, per_expert);
        let norms = Parts::new(&mut norms[..count * width], width);
        let outputs =
            Parts::at(&mut y[..visits.len() * hidden], ends.iter().map(|end| end * hidden).collect());
        let experts = &scratch.experts;
        let (x, d_y) = (&*x, &*d_y);
        let order = largest_first(ends);
        try_run(exec, count, &|task| {
            let expert = order[task];
            let group = group(visits, ends, expert);
            if group.is_empty() {
                return Ok(());
            }
            let start = ends[expert] - group.len();
            let scratch = &mut *experts[expert].lock().unwrap_or_else(PoisonError::into_inner);
            let row = |index: usize| &x[group[index].token * hidden..][..hidden];
            scratch.seen.rows(exec, cx.lambda(), (group.len(), hidden), &row);
            let (gate_up, down) = matrices.take(expert).split_at_mut(2 * width * hidden);
            let own = FfnGradients { gate_up, down, sub_norm: norms.take(expert) };
            let (wide, narrow) = (start * hidden..ends[expert] * hidden, start * width..ends[expert] * width);
            ffn::backward(
                cx,
                ids.experts[expert],
                &gate[narrow.clone()],
                &up[narrow],
                &d_y[wide],
                scratch,
                outputs.take(expert),
                own,
            )
        })?;
    }
    over_rows(exec, dx, hidden, &|first, dx| {
        for (i, dx) in dx.chunks_exact_mut(hidden).enumerate() {
            for &at in &of_token[(first + i) * top_k..][..top_k] {
                dx.iter_mut().zip(&y[at * hidden..]).for_each(|(sum, d)| *sum += d);
            }
        }
    });

    // The shared expert.
    if let Some(ids) = ids.shared {
        scratch.ffn.seen.rows(exec, cx.lambda(), (rows, hidden), &|row| &x[row * hidden..][..hidden]);
        let d_shared = room(&mut scratch.b, rows * hidden);
        let (gate, up) = (&shared.gate[..rows * ids.width], &shared.up[..rows * ids.width]);
        let own = network_gradients(cx, ids, gradients);
        ffn::backward(cx, ids, gate, up, d_hidden, &mut scratch.ffn, d_shared, own)?;
        add_assign(exec, dx, d_shared)?;
    }
    let dw = &mut gradients[cx.range(norm_id, norm_id)];
    rms_norm_backward(exec, mid, cx.value(norm_id), cx.eps(), dx, true, d_hidden, dw, &mut scratch.partial);
    Ok(())
}

/// `f_i` of each sequence, `[sequences][experts]`.
fn shares(cx: &Context<'_>, batch: &Batch<'_>, visits: &[Visit], count: usize, rows: usize) -> Vec<f32> {
    let top_k = cx.config.experts.as_ref().map_or(1, |experts| experts.top_k);
    let mut shares = vec![0.0; rows / batch.length * count];
    let one = count as f32 / (top_k * batch.length) as f32;
    for visit in visits {
        shares[visit.token / batch.length * count + visit.expert] += one;
    }
    shares
}

/// `d_y = weight d_out`; returns `d_out . y`.
struct VisitBack<'a> {
    d_out: &'a [f32],
    y: &'a [f32],
    weight: f32,
    d_y: &'a mut [f32],
}

impl Kernel for VisitBack<'_> {
    type Output = f32;
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f32 {
        let (weight, mut dot) = (l.splat(self.weight), l.splat(0.0));
        for ((d, y), out) in
            self.d_out.chunks(LANES).zip(self.y.chunks(LANES)).zip(self.d_y.chunks_mut(LANES))
        {
            let d = l.load_or(d, 0.0);
            dot = l.fma(d, l.load_or(y, 0.0), dot);
            l.store_some(l.mul(d, weight), out);
        }
        l.sum(dot)
    }
}
