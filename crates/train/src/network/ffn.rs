//! The gated feed-forward network, dense or one of many experts, and the way back.
//!
//! With X what the products see of the normed input and W what they hold (straight-through on both, [`crate::ops::quantize`]):
//!
//! ```text
//! u = relu(X Wg^T)^2 (X Wu^T)      Y = sub_norm(u), rounded      out = Y Wd^T
//! dWd = dout^T Y                   dY = dout Wd                  du by the norm's way back
//! [dg | du'] by the gate's         dWgu = [dg | du']^T X         dX = [dg | du'] Wgu
//! ```
//!
//! Gate and up lie one after the other, in weights as in gradients, so both take one product each way.
use chalot_tensor::Activations;
use chalot_tensor::elementwise::{Activation, gated};
use chalot_tensor::exec::ShapeError;
use chalot_tensor::linear::{Factor, Projection, project, project_gated};

use super::Context;
use super::parameter::FfnIds;
use super::pass::{Scratch, normed_input};
use super::seen::{Seen, input_gradient};
use crate::error::TrainError;
use crate::ops::gated::relu2_gated_backward;
use crate::ops::norm::rms_norm_backward;
use crate::ops::{add, room};

/// What the way back needs.
#[derive(Default)]
pub(crate) struct FfnState {
    pub gate: Vec<f32>,
    pub up: Vec<f32>,
}

#[derive(Default)]
pub(crate) struct FfnScratch {
    /// Input of gate and up, where the caller has none.
    pub x: Activations,
    /// What gate and up, and what the last product saw.
    pub seen: Seen,
    seen_inner: Seen,
    u: Vec<f32>,
    inner: Activations,
    dy: Vec<f32>,
    du: Vec<f32>,
    d_gate_up: Vec<f32>,
    partial: Vec<f32>,
}

/// Gradients of one network.
pub(super) struct FfnGradients<'a> {
    pub gate_up: &'a mut [f32],
    pub down: &'a mut [f32],
    pub sub_norm: &'a mut [f32],
}

fn sub_norm<'a>(cx: &Context<'a>, ids: FfnIds) -> &'a [f32] {
    &cx.value(ids.sub_norm.0)[ids.sub_norm.1..][..ids.width]
}

/// `out` = the network of the rows of `x`; gate and up are kept.
#[expect(clippy::too_many_arguments)]
pub(super) fn forward(
    cx: &Context<'_>,
    ids: FfnIds,
    x: &mut Activations,
    gate: &mut [f32],
    up: &mut [f32],
    u: &mut Vec<f32>,
    inner: &mut Activations,
    out: &mut [f32],
) -> Result<(), ShapeError> {
    let u = room(u, gate.len());
    let to = |id, kept| Factor { w: cx.matrix(id), bias: None, kept: Some(kept) };
    project_gated(cx.exec, Activation::Relu2, x, (to(ids.gate, gate), to(ids.up, up)), u)?;
    normed_input(cx, u, sub_norm(cx, ids), inner, &[cx.matrix(ids.down)])?;
    project(cx.exec, inner, [Projection { w: cx.matrix(ids.down), bias: None, y: out }])
}

/// [`forward`] with the buffers of a scratch, of whose `x` it takes the input.
pub(super) fn forward_in(
    cx: &Context<'_>,
    ids: FfnIds,
    scratch: &mut FfnScratch,
    gate: &mut [f32],
    up: &mut [f32],
    out: &mut [f32],
) -> Result<(), ShapeError> {
    let FfnScratch { x, u, inner, .. } = scratch;
    forward(cx, ids, x, gate, up, u, inner, out)
}

/// The gradients of the network's weights are added, that of its input (`[m][hidden]`) is set. `scratch.seen` is what gate and
/// up saw.
#[expect(clippy::too_many_arguments)]
pub(super) fn backward(
    cx: &Context<'_>,
    ids: FfnIds,
    gate: &[f32],
    up: &[f32],
    d_out: &[f32],
    scratch: &mut FfnScratch,
    dx: &mut [f32],
    gradients: FfnGradients<'_>,
) -> Result<(), ShapeError> {
    let (exec, width) = (cx.exec, ids.width);
    let m = gate.len() / width;
    let FfnScratch { seen, seen_inner, u, dy, du, d_gate_up, partial, .. } = scratch;
    let u = room(u, m * width);
    gated(exec, Activation::Relu2, gate, up, u)?;
    seen_inner.norm(exec, cx.lambda(), u, sub_norm(cx, ids), cx.eps());
    seen_inner.weight_gradient(exec, d_out, gradients.down)?;
    let dy = room(dy, m * width);
    input_gradient(cx, (ids.down, ids.down), d_out, m, dy)?;
    let du = room(du, m * width);
    rms_norm_backward(exec, u, sub_norm(cx, ids), cx.eps(), dy, false, du, gradients.sub_norm, partial);
    let d = room(d_gate_up, 2 * m * width);
    relu2_gated_backward(exec, gate, up, du, width, d);
    seen.weight_gradient(exec, d, gradients.gate_up)?;
    input_gradient(cx, (ids.gate, ids.up), d, m, dx)
}

/// `out = mid + network(norm(mid))`.
pub(super) fn block_forward(
    cx: &Context<'_>,
    index: usize,
    ids: FfnIds,
    mid: &[f32],
    state: &mut FfnState,
    scratch: &mut Scratch,
    out: &mut [f32],
) -> Result<(), TrainError> {
    let m = mid.len() / cx.config.hidden_size;
    let factors = [cx.matrix(ids.gate), cx.matrix(ids.up)];
    normed_input(cx, mid, cx.value(cx.layers[index].ffn_norm), &mut scratch.ffn.x, &factors)?;
    let (gate, up) = (room(&mut state.gate, m * ids.width), room(&mut state.up, m * ids.width));
    let y = room(&mut scratch.out, mid.len());
    forward_in(cx, ids, &mut scratch.ffn, gate, up, y)?;
    add(cx.exec, mid, y, cx.config.hidden_size, out);
    Ok(())
}

/// `d_hidden` becomes the gradient of `mid`.
#[expect(clippy::too_many_arguments)]
pub(super) fn block_backward(
    cx: &Context<'_>,
    index: usize,
    ids: FfnIds,
    mid: &[f32],
    state: &mut FfnState,
    d_hidden: &mut [f32],
    gradients: &mut [f32],
    scratch: &mut Scratch,
) -> Result<(), TrainError> {
    let m = mid.len() / cx.config.hidden_size;
    let norm_id = cx.layers[index].ffn_norm;
    let norm = cx.value(norm_id);
    scratch.ffn.seen.norm(cx.exec, cx.lambda(), mid, norm, cx.eps());
    let dx = room(&mut scratch.b, mid.len());
    let (gate, up) = (&state.gate[..m * ids.width], &state.up[..m * ids.width]);
    let own = network_gradients(cx, ids, gradients);
    backward(cx, ids, gate, up, d_hidden, &mut scratch.ffn, dx, own)?;
    let dw = &mut gradients[cx.range(norm_id, norm_id)];
    rms_norm_backward(cx.exec, mid, norm, cx.eps(), dx, true, d_hidden, dw, &mut scratch.partial);
    Ok(())
}

/// The gradients of a network that has a sub-norm of its own: they lie in the order gate, up, down, sub-norm.
pub(super) fn network_gradients<'a>(
    cx: &Context<'_>,
    ids: FfnIds,
    gradients: &'a mut [f32],
) -> FfnGradients<'a> {
    let all = cx.range(ids.gate, ids.sub_norm.0);
    let (gate_up, rest) = gradients[all].split_at_mut(cx.range(ids.gate, ids.up).len());
    let (down, sub_norm) = rest.split_at_mut(cx.range(ids.down, ids.down).len());
    FfnGradients { gate_up, down, sub_norm }
}
