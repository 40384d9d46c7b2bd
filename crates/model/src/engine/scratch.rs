//! Buffers of the forward pass, kept from token to token.
use chalot_tensor::Activations;
use chalot_tensor::attention::AttentionScratch;

use super::experts::Routing;
use super::foresight::Foresight;
use super::mixture::MixtureBuffers;

/// Everything a pass writes besides the hidden states. Buffers grow to the largest pass seen and stay.
#[derive(Default)]
pub(super) struct Scratch {
    /// Input of q, k, v, of gate, up and of the router: `[m][hidden]`.
    pub normed: Activations,
    /// What the blocks add to the hidden states: `[m][hidden]`.
    pub out: Vec<f32>,
    pub attention: AttentionBuffers,
    pub ffn: FfnBuffers,
    pub routing: Routing,
    pub mixture: MixtureBuffers,
    pub foresight: Foresight,
    /// `[rows][vocab]`.
    pub logits: Vec<f32>,
}

/// Buffers of an attention block.
#[derive(Default)]
pub(super) struct AttentionBuffers {
    pub q: Vec<f32>,
    pub k: Vec<f32>,
    pub v: Vec<f32>,
    /// Input of the sub-norm, where there is one.
    pub spare: Vec<f32>,
    /// Input of o: `[m][heads * head_dim]`.
    pub attended: Activations,
    pub tiles: AttentionScratch,
}

/// Buffers of a feed-forward network.
#[derive(Default)]
pub(super) struct FfnBuffers {
    /// Input of the sub-norm, where there is one.
    pub spare: Vec<f32>,
    /// Input of down: `[m][intermediate]`.
    pub inner: Activations,
}

/// The first `len` elements, which the caller is about to write. The old content stays: zeroing it would cost as much
/// as using it.
pub(super) fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}
