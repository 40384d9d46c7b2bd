//! The two blocks of a decoder layer. Each reads the hidden states and adds its output to them.
use chalot_tensor::attention::{AttentionParams, attention};
use chalot_tensor::elementwise::{add_assign, add_bias, gated};
use chalot_tensor::exec::{Exec, ShapeError};
use chalot_tensor::norm::{rms_norm, rms_norm_in_place};
use chalot_tensor::rope::{RopeTable, rope};
use chalot_tensor::{Activations, matmul};

use super::experts;
use super::scratch::{AttentionBuffers, FfnBuffers, Scratch, room};
use crate::config::ModelConfig;
use crate::kv::KvCache;
use crate::weights::{Attention, Ffn, GatedFfn, Layer, Linear};

/// What is the same for all layers of one pass.
pub(super) struct Pass<'a> {
    pub exec: &'a Exec,
    pub config: &'a ModelConfig,
    pub ropes: &'a [RopeTable],
    /// Position of the first token.
    pub first_position: usize,
    /// Number of tokens.
    pub m: usize,
}

/// `y = x · Wᵀ + b`.
pub(super) fn linear(
    exec: &Exec,
    linear: &Linear,
    x: &mut Activations,
    y: &mut [f32],
) -> Result<(), ShapeError> {
    matmul(exec, &linear.weight, x, y)?;
    match &linear.bias {
        Some(bias) => add_bias(exec, y, bias),
        None => Ok(()),
    }
}

/// `hidden += post_norm(o(sub_norm(attention(norm(hidden)))))`; writes the tokens' keys and values.
pub(super) fn attention_block(
    pass: &Pass<'_>,
    index: usize,
    weights: &Attention,
    kv: &mut KvCache,
    scratch: &mut Scratch,
    hidden: &mut [f32],
) -> Result<(), ShapeError> {
    let Pass { exec, config, first_position, m, .. } = *pass;
    let Scratch { normed, out, attention: buffers, .. } = scratch;
    rms_norm(exec, hidden, &weights.norm, config.norm_eps, normed.set(m, config.hidden_size))?;
    project(pass, index, weights, normed, buffers)?;

    let AttentionBuffers { q, k, v, spare, attended, tiles } = buffers;
    let (q_len, kv_len) = (m * config.q_width(), m * config.kv_width());
    kv.write(exec, index, first_position..first_position + m, &k[..kv_len], &v[..kv_len])?;
    let params = AttentionParams {
        heads: config.num_heads,
        kv_heads: config.num_kv_heads,
        head_dim: config.head_dim,
        scale: config.attention_scale,
        soft_cap: config.attention_soft_cap,
        window: config.layers[index].window,
    };
    let mut attend =
        |out: &mut [f32]| attention(exec, &params, tiles, &q[..q_len], first_position, kv.blocks(index), out);
    match &weights.sub_norm {
        Some(sub_norm) => {
            let rows = room(spare, q_len);
            attend(rows)?;
            rms_norm(exec, rows, sub_norm, config.norm_eps, attended.set(m, config.q_width()))?;
        }
        None => attend(attended.set(m, config.q_width()))?,
    }
    let out = room(out, m * config.hidden_size);
    linear(exec, &weights.o, attended, out)?;
    add_to_hidden(pass, weights.post_norm.as_deref(), out, normed, hidden)
}

/// Queries, keys and values of the pass's tokens, normalised and rotated.
fn project(
    pass: &Pass<'_>,
    index: usize,
    weights: &Attention,
    normed: &mut Activations,
    buffers: &mut AttentionBuffers,
) -> Result<(), ShapeError> {
    let Pass { exec, config, ropes, first_position, m } = *pass;
    let AttentionBuffers { q, k, v, .. } = buffers;
    let (q_len, kv_len) = (m * config.q_width(), m * config.kv_width());
    linear(exec, &weights.q, normed, room(q, q_len))?;
    linear(exec, &weights.k, normed, room(k, kv_len))?;
    linear(exec, &weights.v, normed, room(v, kv_len))?;

    let rotation = config.layers[index].rope;
    let (table, style) = (&ropes[rotation], config.rope[rotation].style);
    for (x, heads, norm) in [
        (&mut q[..q_len], config.num_heads, &weights.q_norm),
        (&mut k[..kv_len], config.num_kv_heads, &weights.k_norm),
    ] {
        if let Some(norm) = norm {
            // The weight's length says what a row is: one head, or all heads of a token.
            rms_norm_in_place(exec, x, norm, config.norm_eps)?;
        }
        rope(exec, table, style, x, heads, config.head_dim, first_position)?;
    }
    Ok(())
}

/// `hidden += post_norm(ffn(norm(hidden)))`, dense or a mixture of experts.
pub(super) fn ffn_block(
    pass: &Pass<'_>,
    layer: &Layer,
    scratch: &mut Scratch,
    hidden: &mut [f32],
) -> Result<(), ShapeError> {
    let Pass { exec, config, m, .. } = *pass;
    let Scratch { normed, out, ffn: buffers, routing, .. } = scratch;
    rms_norm(exec, hidden, &layer.ffn_norm, config.norm_eps, normed.set(m, config.hidden_size))?;
    let out = room(out, m * config.hidden_size);
    match &layer.ffn {
        Ffn::Dense(ffn) => gated_ffn(pass, ffn, m, normed, buffers, out)?,
        Ffn::Experts(mixture) => experts::mixture(pass, mixture, normed, routing, buffers, out)?,
    }
    add_to_hidden(pass, layer.ffn_post_norm.as_deref(), out, normed, hidden)
}

/// `out = down(sub_norm(act(gate(x)) * up(x)))` for `m` rows of `x`.
pub(super) fn gated_ffn(
    pass: &Pass<'_>,
    ffn: &GatedFfn,
    m: usize,
    x: &mut Activations,
    buffers: &mut FfnBuffers,
    out: &mut [f32],
) -> Result<(), ShapeError> {
    let Pass { exec, config, .. } = *pass;
    let FfnBuffers { gate, up, spare, inner, .. } = buffers;
    let width = ffn.gate.weight.rows();
    let (gate, up) = (room(gate, m * width), room(up, m * width));
    linear(exec, &ffn.gate, x, gate)?;
    linear(exec, &ffn.up, x, up)?;
    match &ffn.sub_norm {
        Some(sub_norm) => {
            let rows = room(spare, m * width);
            gated(exec, config.activation, gate, up, rows)?;
            rms_norm(exec, rows, sub_norm, config.norm_eps, inner.set(m, width))?;
        }
        None => gated(exec, config.activation, gate, up, inner.set(m, width))?,
    }
    linear(exec, &ffn.down, inner, out)
}

/// `hidden += post_norm(out)`. `spare` is overwritten.
fn add_to_hidden(
    pass: &Pass<'_>,
    post_norm: Option<&[f32]>,
    out: &[f32],
    spare: &mut Activations,
    hidden: &mut [f32],
) -> Result<(), ShapeError> {
    let Pass { exec, config, m, .. } = *pass;
    match post_norm {
        Some(weight) => {
            rms_norm(exec, out, weight, config.norm_eps, spare.set(m, config.hidden_size))?;
            add_assign(exec, hidden, spare.as_f32())
        }
        None => add_assign(exec, hidden, out),
    }
}
