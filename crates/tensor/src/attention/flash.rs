//! Attention over plain slices.
use super::{AttentionParams, AttentionScratch, KvBlock, KvType, block::Rows, plan};
use crate::{
    exec::{Exec, ShapeError},
    out::SharedOut,
};

/// The shape of [`flash_attention_forward`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionShape {
    /// Query heads, a multiple of `kv_heads`.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Query tokens.
    pub tokens: usize,
    /// Key and value tokens.
    pub kv_tokens: usize,
    /// Numbers of a query, key or value.
    pub head_dim: usize,
    /// Whether a query sees only the keys up to its own position. The queries are the last `tokens` of the
    /// `kv_tokens` positions.
    pub causal: bool,
}

impl AttentionShape {
    /// Causal self-attention: as many keys as queries.
    pub fn causal(heads: usize, kv_heads: usize, tokens: usize, head_dim: usize) -> Self {
        Self { heads, kv_heads, tokens, kv_tokens: tokens, head_dim, causal: true }
    }
}

/// `softmax(q · kᵀ / sqrt(head_dim)) · v`, head by head, without ever storing the matrix of scores.
///
/// `q` and the result are `[heads][tokens][head_dim]`, `k` and `v` `[kv_heads][kv_tokens][head_dim]`. Query head h
/// reads key-value head `h / (heads / kv_heads)`. To decode token by token, keep the keys and values in
/// [`KvBlock`]s and call [`attention`](super::attention) instead: this function first copies them all.
///
/// ```
/// use chalot_simd::Isa;
/// use chalot_tensor::{attention::{AttentionShape, flash_attention_forward}, exec::Exec};
///
/// let exec = Exec::new(Isa::best(), 1);
/// let shape = AttentionShape::causal(1, 1, 2, 2); // one head, two tokens of two numbers
/// let (q, k, v) = ([1.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, 4.0]);
/// let out = flash_attention_forward(&exec, &q, &k, &v, &shape)?;
/// // The first token sees itself; the second weighs both alike.
/// assert_eq!(out, [1.0, 2.0, 2.0, 3.0]);
/// # Ok::<(), chalot_tensor::exec::ShapeError>(())
/// ```
///
/// # Errors
/// If a slice does not fit the shape, the heads are no multiple of the key-value heads, or a causal shape has
/// fewer keys than queries.
pub fn flash_attention_forward(
    exec: &Exec,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    shape: &AttentionShape,
) -> Result<Vec<f32>, ShapeError> {
    forward(exec, q, k, v, shape, None)
}

/// As [`flash_attention_forward`], each score `s` (already divided by `sqrt(head_dim)`) capped softly to
/// `cap · tanh(s / cap)` before the softmax (Gemma 2).
///
/// ```
/// use chalot_simd::Isa;
/// use chalot_tensor::{attention::{AttentionShape, flash_attention_forward_capped}, exec::Exec};
///
/// let exec = Exec::new(Isa::best(), 1);
/// let shape = AttentionShape { tokens: 1, ..AttentionShape::causal(1, 1, 2, 1) };
/// // Scores 0 and 1000; capped to 2 the second key no longer takes all: e^2 / (1 + e^2) = 0.88.
/// let out = flash_attention_forward_capped(&exec, &[1000.0], &[0.0, 1.0], &[0.0, 1.0], &shape, 2.0)?;
/// assert!((out[0] - 0.8808).abs() < 1e-4);
/// # Ok::<(), chalot_tensor::exec::ShapeError>(())
/// ```
///
/// # Errors
/// As [`flash_attention_forward`].
pub fn flash_attention_forward_capped(
    exec: &Exec,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    shape: &AttentionShape,
    cap: f32,
) -> Result<Vec<f32>, ShapeError> {
    forward(exec, q, k, v, shape, Some(cap))
}

fn forward(
    exec: &Exec,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    shape: &AttentionShape,
    soft_cap: Option<f32>,
) -> Result<Vec<f32>, ShapeError> {
    const OP: &str = "flash_attention_forward";
    let AttentionShape { heads, kv_heads, tokens, kv_tokens, head_dim, causal } = *shape;
    ShapeError::check(OP, "q", heads * tokens * head_dim, q.len())?;
    ShapeError::check(OP, "k", kv_heads * kv_tokens * head_dim, k.len())?;
    ShapeError::check(OP, "v", k.len(), v.len())?;
    let fewest = if causal { tokens } else { 1 };
    if kv_tokens < fewest {
        return Err(ShapeError { op: OP, what: "the keys", expected: fewest, found: kv_tokens });
    }
    let blocks = blocks(exec, k, v, shape);
    let scale = 1.0 / (head_dim as f32).sqrt();
    let params = AttentionParams { heads, kv_heads, head_dim, scale, soft_cap, window: None };
    let call = plan::Call {
        params: &params,
        blocks: &|i| &blocks[i],
        block_count: blocks.len(),
        q,
        strides: plan::Strides { token: head_dim, head: tokens * head_dim },
        tokens,
        first_position: if causal { kv_tokens - tokens } else { 0 },
        keys: kv_tokens,
        causal,
    };
    let mut out = vec![0.0; q.len()];
    call.run(exec, &mut AttentionScratch::new(), &SharedOut::new(&mut out))?;
    Ok(out)
}

/// Keys and values in blocks.
fn blocks(exec: &Exec, k: &[f32], v: &[f32], shape: &AttentionShape) -> Vec<KvBlock> {
    let AttentionShape { kv_heads, kv_tokens, head_dim, .. } = *shape;
    let count = kv_tokens.div_ceil(KvBlock::TOKENS);
    let mut blocks: Vec<_> = (0..count).map(|_| KvBlock::new(KvType::F32, kv_heads, head_dim)).collect();
    let shared = SharedOut::new(&mut blocks);
    exec.pool.run(count, &|i| {
        let first = i * KvBlock::TOKENS;
        let rows = Rows {
            k: &k[first * head_dim..],
            v: &v[first * head_dim..],
            tokens: KvBlock::TOKENS.min(kv_tokens - first),
            token_stride: head_dim,
            head_stride: kv_tokens * head_dim,
        };
        // SAFETY: task i alone takes block i.
        let block = unsafe { shared.part(i, 1) };
        block[0].write_rows(exec, 0, rows);
    });
    blocks
}
