//! The attention block and the way back.
//!
//! ```text
//! [q | k | v] = X [Wq | Wk | Wv]^T      (q, k) normed by head and turned      A = attention      Y = sub_norm(A), rounded
//! mid = input + Y Wo^T
//! ```
//!
//! The way back is that of each step in [`crate::ops`]; the three products of one input are one product of three times the
//! outputs, for their weights lie one after the other.
use std::sync::{Mutex, PoisonError};

use chalot_tensor::attention::{AttentionParams, AttentionScratch, KvBlock, KvType, attention};
use chalot_tensor::linear::{Projection, project};
use chalot_tensor::math::lanes::{Kernel, Lanes, dispatch};
use chalot_tensor::norm::rms_norm_in_place;
use chalot_tensor::parts::Parts;
use chalot_tensor::rope::{RopeTable, rope};

use super::pass::{Scratch, normed_input, try_run};
use super::seen::input_gradient;
use super::{Batch, Context};
use crate::error::TrainError;
use crate::ops::attention::{self as op, attention_backward};
use crate::ops::norm::{self, rms_norm_backward};
use crate::ops::rope::RotateBack;
use crate::ops::{add, add_pieces, room};

/// What the way back needs.
#[derive(Default)]
pub(crate) struct AttentionState {
    /// As projected, `[rows][heads * head_dim]`.
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// Normed and turned.
    q_turned: Vec<f32>,
    k_turned: Vec<f32>,
    attended: Vec<f32>,
}

/// What one sequence's attention writes.
#[derive(Default)]
pub(crate) struct SequenceScratch {
    #[expect(clippy::vec_box)] // attention takes what has `AsRef`
    blocks: Vec<Box<KvBlock>>,
    tiles: AttentionScratch,
    back: op::Scratch,
}

/// `mid = input + attention(norm(input))`.
pub(super) fn block_forward(
    cx: &Context<'_>,
    batch: &Batch<'_>,
    index: usize,
    input: &[f32],
    state: &mut AttentionState,
    scratch: &mut Scratch,
    mid: &mut [f32],
) -> Result<(), TrainError> {
    let (exec, config, ids) = (cx.exec, cx.config, &cx.layers[index]);
    let (rows, qw, kvw, head_dim) =
        (batch.inputs.len(), config.q_width(), config.kv_width(), config.head_dim);
    let AttentionState { q, k, v, q_turned, k_turned, attended } = state;
    let (q, k, v) = (room(q, rows * qw), room(k, rows * kvw), room(v, rows * kvw));
    let weights = [ids.q, ids.k, ids.v].map(|id| cx.matrix(id));
    normed_input(cx, input, cx.value(ids.norm), &mut scratch.normed, &weights)?;
    project(exec, &mut scratch.normed, [to(cx, ids.q, q), to(cx, ids.k, k), to(cx, ids.v, v)])?;

    let sequences = rows / batch.length;
    scratch.sequences.resize_with(scratch.sequences.len().max(sequences), Mutex::default);
    let params = AttentionParams {
        heads: config.num_heads,
        kv_heads: config.num_kv_heads,
        head_dim,
        scale: config.attention_scale,
        soft_cap: None,
        window: None,
    };
    let (q_turned, k_turned) = (room(q_turned, rows * qw), room(k_turned, rows * kvw));
    let attended = room(attended, rows * qw);
    let q_parts = Parts::new(q_turned, batch.length * qw);
    let k_parts = Parts::new(k_turned, batch.length * kvw);
    let out_parts = Parts::new(attended, batch.length * qw);
    let style = config.rope[0].style;
    try_run(exec, sequences, &|sequence| {
        let (qr, kr, out) = (q_parts.take(sequence), k_parts.take(sequence), out_parts.take(sequence));
        let slot = &scratch.sequences[sequence];
        let SequenceScratch { blocks, tiles, .. } = &mut *slot.lock().unwrap_or_else(PoisonError::into_inner);
        let (from_q, from_k) = (sequence * batch.length * qw, sequence * batch.length * kvw);
        qr.copy_from_slice(&q[from_q..][..qr.len()]);
        kr.copy_from_slice(&k[from_k..][..kr.len()]);
        for (x, heads, norm) in
            [(&mut *qr, config.num_heads, ids.q_norm), (&mut *kr, config.num_kv_heads, ids.k_norm)]
        {
            rms_norm_in_place(exec, x, cx.value(norm), cx.eps())?;
            rope(exec, cx.rope, style, x, heads, head_dim, 0)?;
        }
        let values = &v[from_k..][..kr.len()];
        let count = batch.length.div_ceil(KvBlock::TOKENS);
        let fits = blocks
            .first()
            .is_some_and(|block| (block.kv_heads(), block.head_dim()) == (config.num_kv_heads, head_dim));
        if !fits {
            blocks.clear();
        }
        while blocks.len() < count {
            blocks.push(Box::new(KvBlock::new(KvType::F32, config.num_kv_heads, head_dim)));
        }
        let len = KvBlock::TOKENS * kvw;
        for (block, (k, v)) in blocks.iter_mut().zip(kr.chunks(len).zip(values.chunks(len))) {
            block.write(exec, 0, k, v)?;
        }
        attention(exec, &params, tiles, qr, 0, &blocks[..count], out)
    })?;
    drop((q_parts, k_parts, out_parts));

    normed_input(cx, attended, cx.value(ids.sub_norm), &mut scratch.inner, &[cx.matrix(ids.o)])?;
    let y = room(&mut scratch.out, input.len());
    project(exec, &mut scratch.inner, [to(cx, ids.o, y)])?;
    add(exec, input, y, config.hidden_size, mid);
    Ok(())
}

/// `y = x W^T`, to be computed.
fn to<'a>(cx: &Context<'a>, id: usize, y: &'a mut [f32]) -> Projection<'a> {
    Projection { w: cx.matrix(id), bias: None, y }
}

/// `d_hidden`, the gradient of `mid`, becomes that of `input`.
#[expect(clippy::too_many_arguments)]
pub(super) fn block_backward(
    cx: &Context<'_>,
    batch: &Batch<'_>,
    index: usize,
    input: &[f32],
    state: &AttentionState,
    d_hidden: &mut [f32],
    gradients: &mut [f32],
    scratch: &mut Scratch,
) -> Result<(), TrainError> {
    let (exec, config, ids) = (cx.exec, cx.config, &cx.layers[index]);
    let (rows, hidden, qw, kvw) =
        (batch.inputs.len(), config.hidden_size, config.q_width(), config.kv_width());
    let Scratch { a, b, c, partial, sequences, seen, .. } = scratch;
    let attended = &state.attended[..rows * qw];
    let sub_norm = cx.value(ids.sub_norm);

    // The output projection and the sub-norm.
    seen.norm(exec, cx.lambda(), attended, sub_norm, cx.eps());
    seen.weight_gradient(exec, d_hidden, &mut gradients[cx.range(ids.o, ids.o)])?;
    let y = room(a, rows * qw);
    input_gradient(cx, (ids.o, ids.o), d_hidden, rows, y)?;
    let d_attended = room(b, rows * qw);
    let dw = &mut gradients[cx.range(ids.sub_norm, ids.sub_norm)];
    rms_norm_backward(exec, attended, sub_norm, cx.eps(), y, false, d_attended, dw, partial);

    // Attention: a task is one key-value head of one sequence.
    let shape = op::Shape {
        heads: config.num_heads,
        kv_heads: config.num_kv_heads,
        head_dim: config.head_dim,
        scale: config.attention_scale,
    };
    let (length, count) = (batch.length, rows / batch.length);
    let per_head = length * shape.gradient_width();
    let d_heads = room(a, count * config.num_kv_heads * per_head);
    let parts = Parts::new(d_heads, per_head);
    sequences.resize_with(sequences.len().max(parts.count()), Mutex::default);
    try_run(exec, parts.count(), &|task| {
        let (sequence, kv_head) = (task / config.num_kv_heads, task % config.num_kv_heads);
        let (wide, narrow) = (sequence * length * qw, sequence * length * kvw);
        let rows = op::Rows {
            q: &state.q_turned[wide..][..length * qw],
            k: &state.k_turned[narrow..][..length * kvw],
            v: &state.v[narrow..][..length * kvw],
            out: &attended[wide..][..length * qw],
            d_out: &d_attended[wide..][..length * qw],
        };
        let scratch = &mut *sequences[task].lock().unwrap_or_else(PoisonError::into_inner);
        attention_backward(exec, shape, rows, kv_head, &mut scratch.back, parts.take(task))
    })?;
    drop(parts);

    // Rotation and norms of heads, and the three side by side.
    let width = qw + 2 * kvw;
    let d_qkv = room(c, rows * width);
    let head_dim = config.head_dim;
    let norms = room(partial, count * 2 * head_dim);
    let (d_parts, norm_parts) = (Parts::new(d_qkv, length * width), Parts::new(norms, 2 * head_dim));
    exec.pool.run(count, &|sequence| {
        let (dw_q, dw_k) = norm_parts.take(sequence).split_at_mut(head_dim);
        dw_q.fill(0.0);
        dw_k.fill(0.0);
        let per_sequence = config.num_kv_heads * per_head;
        let kernel = HeadsBack {
            d: &d_heads[sequence * per_sequence..][..per_sequence],
            q: &state.q[sequence * length * qw..][..length * qw],
            k: &state.k[sequence * length * kvw..][..length * kvw],
            q_norm: cx.value(ids.q_norm),
            k_norm: cx.value(ids.k_norm),
            shape,
            eps: cx.eps(),
            rope: cx.rope,
            d_qkv: d_parts.take(sequence),
            dw_q,
            dw_k,
        };
        dispatch(exec.isa, kernel);
    });
    drop((d_parts, norm_parts));
    // q_norm and k_norm lie one after the other.
    add_pieces(&mut gradients[cx.range(ids.q_norm, ids.k_norm)], norms);

    // The three projections and the norm.
    let norm = cx.value(ids.norm);
    seen.norm(exec, cx.lambda(), input, norm, cx.eps());
    seen.weight_gradient(exec, d_qkv, &mut gradients[cx.range(ids.q, ids.v)])?;
    let dx = room(b, rows * hidden);
    input_gradient(cx, (ids.q, ids.v), d_qkv, rows, dx)?;
    let dw = &mut gradients[cx.range(ids.norm, ids.norm)];
    rms_norm_backward(exec, input, norm, cx.eps(), dx, true, d_hidden, dw, partial);
    Ok(())
}

/// From the gradients of turned heads, head by head, to those of the projections, token by token.
struct HeadsBack<'a> {
    /// For each key-value head `[group + 2][tokens][head_dim]`.
    d: &'a [f32],
    q: &'a [f32],
    k: &'a [f32],
    q_norm: &'a [f32],
    k_norm: &'a [f32],
    shape: op::Shape,
    eps: f32,
    rope: &'a RopeTable,
    /// `[tokens][q | k | v]`.
    d_qkv: &'a mut [f32],
    dw_q: &'a mut [f32],
    dw_k: &'a mut [f32],
}

impl Kernel for HeadsBack<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let op::Shape { heads, kv_heads, head_dim, .. } = self.shape;
        let group = heads / kv_heads;
        let width = (heads + 2 * kv_heads) * head_dim;
        let tokens = self.q.len() / (heads * head_dim);
        let mut turned = vec![0.0; head_dim];
        for (token, d_qkv) in self.d_qkv.chunks_exact_mut(width).enumerate() {
            let (cos, sin) = self.rope.row(token);
            for column in 0..heads + 2 * kv_heads {
                // The column's head, and where its gradients are.
                let (kv_head, slot) = if column < heads {
                    (column / group, column % group)
                } else {
                    ((column - heads) % kv_heads, group + (column - heads) / kv_heads)
                };
                let from = ((kv_head * (group + 2) + slot) * tokens + token) * head_dim;
                let d = &self.d[from..][..head_dim];
                let dx = &mut d_qkv[column * head_dim..][..head_dim];
                let (x, w, dw) = if column < heads {
                    (&self.q[(token * heads + column) * head_dim..][..head_dim], self.q_norm, &mut *self.dw_q)
                } else if column < heads + kv_heads {
                    let at = (token * kv_heads + column - heads) * head_dim;
                    (&self.k[at..][..head_dim], self.k_norm, &mut *self.dw_k)
                } else {
                    dx.copy_from_slice(d);
                    continue;
                };
                turned.copy_from_slice(d);
                RotateBack { d: &mut turned, cos, sin }.run(l);
                norm::Backward { x, w, eps: self.eps, dy: &turned, add: false, dx, dw }.run(l);
            }
        }
    }
}
