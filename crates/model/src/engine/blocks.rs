//! The two blocks of a decoder layer. Each reads the hidden states and adds its output to them.
use chalot_tensor::Activations;
use chalot_tensor::attention::{AttentionParams, attention};
use chalot_tensor::elementwise::add_assign;
use chalot_tensor::exec::{Exec, ShapeError};
use chalot_tensor::linear::{
    Factor, Projection, project, project_gated, project_onto, read_ahead, read_ahead_gated,
};
use chalot_tensor::norm::{rms_norm, rms_norm_for, rms_norm_in_place};
use chalot_tensor::rope::{RopeTable, rope};

use super::profile::{Clock, Step};
use super::scratch::{AttentionBuffers, FfnBuffers, Scratch, room};
use super::{EngineError, mixture};
use crate::config::ModelConfig;
use crate::kv::KvCache;
use crate::prefetch::Prefetcher;
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
    /// What reads weights ahead of their use.
    pub prefetcher: Option<&'a Prefetcher>,
    /// All layers, for what is foretold of those to come.
    pub layers: &'a [Layer],
    /// Read where a step ends.
    pub clock: &'a Clock,
}

/// `y = x · Wᵀ + b`, to be computed.
pub(super) fn to<'a>(linear: &'a Linear, y: &'a mut [f32]) -> Projection<'a> {
    Projection { w: &linear.weight, bias: linear.bias.as_deref(), y }
}

/// The same as one of two factors.
pub(super) fn factor(linear: &Linear) -> Factor<'_> {
    Factor { w: &linear.weight, bias: linear.bias.as_deref(), kept: None }
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
    let Pass { exec, config, first_position, m, clock, .. } = *pass;
    let Scratch { normed, out, attention: buffers, .. } = scratch;
    let inputs = [&weights.q.weight, &weights.k.weight, &weights.v.weight];
    rms_norm_for(exec, hidden, &weights.norm, config.norm_eps, normed, &inputs)?;
    clock.lap(Step::Norms);
    read_ahead(exec, m, [&weights.o.weight]);
    query_key_value(pass, index, weights, normed, buffers)?;

    let AttentionBuffers { q, k, v, spare, attended, tiles } = buffers;
    let (q_len, kv_len) = (m * config.q_width(), m * config.kv_width());
    kv.write(exec, index, first_position..first_position + m, &k[..kv_len], &v[..kv_len])?;
    clock.lap(Step::Cache);
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
            clock.lap(Step::Attention);
            rms_norm_for(exec, rows, sub_norm, config.norm_eps, attended, &[&weights.o.weight])?;
            clock.lap(Step::Norms);
        }
        None => {
            attend(attended.set(m, config.q_width()))?;
            clock.lap(Step::Attention);
        }
    }
    if let Ffn::Dense(ffn) = &pass.layers[index].ffn {
        read_ahead_gated(exec, m, [&ffn.gate.weight, &ffn.up.weight]);
    }
    add_to_hidden(pass, (Step::Output, &weights.o, weights.post_norm.as_deref()), attended, out, hidden)
}

/// Queries, keys and values of the pass's tokens, normalised and rotated.
fn query_key_value(
    pass: &Pass<'_>,
    index: usize,
    weights: &Attention,
    normed: &mut Activations,
    buffers: &mut AttentionBuffers,
) -> Result<(), ShapeError> {
    let Pass { exec, config, ropes, first_position, m, clock, .. } = *pass;
    let AttentionBuffers { q, k, v, .. } = buffers;
    let (q_len, kv_len) = (m * config.q_width(), m * config.kv_width());
    let to_q = to(&weights.q, room(q, q_len));
    project(exec, normed, [to_q, to(&weights.k, room(k, kv_len)), to(&weights.v, room(v, kv_len))])?;
    clock.lap(Step::QueryKeyValue);

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
    clock.lap(Step::Rotation);
    Ok(())
}

/// `hidden += post_norm(ffn(norm(hidden)))`, dense or a mixture of experts.
pub(super) fn ffn_block(
    pass: &Pass<'_>,
    (index, layer): (usize, &Layer),
    scratch: &mut Scratch,
    hidden: &mut [f32],
) -> Result<(), EngineError> {
    let Pass { exec, config, m, clock, .. } = *pass;
    let Scratch { normed, out, ffn: buffers, routing, mixture, foresight, .. } = scratch;
    let (eps, post_norm) = (config.norm_eps, layer.ffn_post_norm.as_deref());
    match &layer.ffn {
        Ffn::Dense(ffn) => {
            if let Some(prefetcher) = pass.prefetcher {
                prefetcher.need(index, [0]);
                foresight.layers_after(pass, index, hidden)?;
                prefetcher.await_more(index, 0..1, &mut [false]);
                clock.lap(Step::Waiting);
            }
            rms_norm_for(exec, hidden, &layer.ffn_norm, eps, normed, &[&ffn.gate.weight, &ffn.up.weight])?;
            clock.lap(Step::Norms);
            let FfnBuffers { spare, inner } = buffers;
            read_ahead(exec, m, [&ffn.down.weight]);
            gate_and_up(pass, ffn, m, normed, spare, inner)?;
            if let Some(Layer { attention: Attention { q, k, v, .. }, .. }) = pass.layers.get(index + 1) {
                read_ahead(exec, m, [&q.weight, &k.weight, &v.weight]);
            }
            add_to_hidden(pass, (Step::Down, &ffn.down, post_norm), inner, out, hidden)?;
        }
        Ffn::Experts(experts) => {
            rms_norm(exec, hidden, &layer.ffn_norm, eps, normed.set(m, config.hidden_size))?;
            clock.lap(Step::Norms);
            let out = room(out, m * config.hidden_size);
            routing.route(pass, experts, normed)?;
            clock.lap(Step::Routing);
            let ahead = &mut || foresight.layers_after(pass, index, hidden);
            mixture::mixture(pass, (index, experts), normed, routing, (buffers, mixture), ahead, out)?;
            if let Some(weight) = post_norm {
                rms_norm_in_place(exec, out, weight, eps)?;
            }
            add_assign(exec, hidden, out)?;
            clock.lap(Step::Norms);
        }
    }
    if let Some(prefetcher) = pass.prefetcher {
        prefetcher.end_layer(index);
        clock.lap(Step::Waiting);
    }
    Ok(())
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
    let FfnBuffers { spare, inner } = buffers;
    gate_and_up(pass, ffn, m, x, spare, inner)?;
    project(pass.exec, inner, [to(&ffn.down, out)])?;
    pass.clock.lap(Step::Down);
    Ok(())
}

/// `inner = sub_norm(act(gate(x)) * up(x))` for `m` rows of `x`; `spare` is overwritten.
fn gate_and_up(
    pass: &Pass<'_>,
    ffn: &GatedFfn,
    m: usize,
    x: &mut Activations,
    spare: &mut Vec<f32>,
    inner: &mut Activations,
) -> Result<(), ShapeError> {
    let Pass { exec, config, clock, .. } = *pass;
    let width = ffn.gate.weight.rows();
    let factors = (factor(&ffn.gate), factor(&ffn.up));
    match &ffn.sub_norm {
        Some(sub_norm) => {
            let rows = room(spare, m * width);
            project_gated(exec, config.activation, x, factors, rows)?;
            clock.lap(Step::GateAndUp);
            rms_norm_for(exec, rows, sub_norm, config.norm_eps, inner, &[&ffn.down.weight])?;
            clock.lap(Step::Norms);
        }
        None => {
            project_gated(exec, config.activation, x, factors, inner.set(m, width))?;
            clock.lap(Step::GateAndUp);
        }
    }
    Ok(())
}

/// `hidden += post_norm(linear(x))`, a step of the pass.
fn add_to_hidden(
    pass: &Pass<'_>,
    (step, linear, post_norm): (Step, &Linear, Option<&[f32]>),
    x: &mut Activations,
    out: &mut Vec<f32>,
    hidden: &mut [f32],
) -> Result<(), ShapeError> {
    let Pass { exec, config, clock, .. } = *pass;
    if linear.bias.is_none() && post_norm.is_none() {
        project_onto(exec, x, &linear.weight, hidden)?;
        clock.lap(step);
        return Ok(());
    }
    let out = room(out, hidden.len());
    project(exec, x, [to(linear, out)])?;
    clock.lap(step);
    if let Some(weight) = post_norm {
        rms_norm_in_place(exec, out, weight, config.norm_eps)?;
    }
    add_assign(exec, hidden, out)?;
    clock.lap(Step::Norms);
    Ok(())
}
