//! Tiled attention with an online softmax (Dao et al. 2022, FlashAttention; Milakov and Gimelshein 2018).
//!
//! Memory is O(N): no matrix of scores exists, only a tile of 64 keys at a time. A prompt, a single decoded
//! token and the verification of a draft take the same path and give a query the same bits, because
//! everything that touches a query's sums is fixed by *positions*:
//!
//! - A key tile is a [`KvBlock`]: the 64 positions from a multiple of 64. The score of a key is a chain of fused
//!   multiply-adds over the head's dimensions, ascending; then times `scale`; then the soft cap, if any.
//! - Tile by tile, with m the largest score so far: `p_j = exp(s_j - m)`; the old sums are scaled by
//!   `exp(m_old - m)`; l adds the sum of the p (sixteen lanes, then the pairwise tree); o, per dimension, is a
//!   chain of fused multiply-adds over the visible keys, ascending.
//! - A key chunk is the 1,024 positions from a multiple of 1,024. Each has its own m, l and o, and the chunks'
//!   results are merged in ascending order. So chunks may be computed by different threads.
//!
//! A masked key contributes exactly nothing, not even a NaN. `reference.rs` is the definition, one number at a
//! time.
//!
//! What is free: which queries are computed together (register tiles of six rows, the query heads of a group
//! sharing the loads of their key-value head), and which thread computes them.

mod block;
mod codes;
mod flash;
mod float;
mod integer;
mod job;
mod plan;
#[cfg(test)]
mod reference;
mod softmax;
mod state;
#[cfg(test)]
mod tests;
mod tile;

use crate::{
    exec::{Exec, ShapeError},
    out::SharedOut,
};
pub use block::{KvBlock, KvType};
pub use flash::{AttentionShape, flash_attention_forward, flash_attention_forward_capped};
pub use state::AttentionScratch;

/// What does not change from call to call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionParams {
    /// Query heads, a multiple of `kv_heads`: query head h reads key-value head `h / (heads / kv_heads)`.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Numbers of a query, key or value.
    pub head_dim: usize,
    /// Scores are multiplied by it (usually `1 / sqrt(head_dim)`).
    pub scale: f32,
    /// Scores become `cap · tanh(score / cap)` (Gemma 2).
    pub soft_cap: Option<f32>,
    /// A query at position p sees only the keys `p - window + 1 ..= p`.
    pub window: Option<usize>,
}

/// Causal attention of `m` consecutive tokens over the keys and values in `blocks`, their own included.
///
/// `q` and `out` are `[m][heads][head_dim]`; token i is at position `first_position + i` and sees the keys of
/// the positions up to its own (within `params.window`). Block b holds the positions `64·b ..`; keys and
/// values of all m tokens must have been written. The bits of a token's output depend on its position and
/// what it sees, on nothing else.
///
/// # Errors
/// If `q` or `out` is not whole tokens, the heads are no multiple of the key-value heads, there are too few
/// blocks, or a block that is read has another shape.
pub fn attention<B: AsRef<KvBlock> + Sync>(
    exec: &Exec,
    params: &AttentionParams,
    scratch: &mut AttentionScratch,
    q: &[f32],
    first_position: usize,
    blocks: &[B],
    out: &mut [f32],
) -> Result<(), ShapeError> {
    let token = params.heads * params.head_dim;
    let m = q.len().checked_div(token).unwrap_or(0);
    ShapeError::check("attention", "q", m * token, q.len())?;
    ShapeError::check("attention", "out", q.len(), out.len())?;
    let call = plan::Call {
        params,
        blocks: &|i| blocks[i].as_ref(),
        block_count: blocks.len(),
        q,
        strides: plan::Strides { token, head: params.head_dim },
        tokens: m,
        first_position,
        keys: first_position.saturating_add(m),
        causal: true,
    };
    call.run(exec, scratch, &SharedOut::new(out))
}
