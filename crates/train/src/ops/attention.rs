//! The way back through causal attention.
//!
//! Forward, for a head: `S = scale Q K^T` (a row sees the keys up to its own), `P = softmax(S)` by rows, `O = P V`. Then
//!
//! ```text
//! dV = P^T dO        dP = dO V^T        dS = P (dP - D) by element, D_i = sum_j P_ij dP_ij = sum_d dO_id O_id
//! dQ = scale dS K    dK = scale dS^T Q
//! ```
//!
//! (D: Dao et al. 2022, FlashAttention, appendix B.) P is made again, [`TILE`] queries at a time, so no matrix of tokens by
//! tokens exists. The query heads that share a key-value head add to its gradients in order: they are one task.
use chalot_tensor::exec::{Exec, ShapeError};
use chalot_tensor::gemm::{View, Write, gemm};
use chalot_tensor::math::lanes::{Kernel, LANES, Lanes, dispatch};
use chalot_tensor::math::vector;

use super::room;

/// Queries at a time.
pub const TILE: usize = 64;

/// One sequence's rows of all heads.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// Queries after norm and rotation, `[tokens][heads][head_dim]`.
    pub q: &'a [f32],
    /// Keys after norm and rotation, `[tokens][kv_heads][head_dim]`.
    pub k: &'a [f32],
    /// Values, `[tokens][kv_heads][head_dim]`.
    pub v: &'a [f32],
    /// The forward pass's output, as `q`.
    pub out: &'a [f32],
    /// The output's gradient, as `q`.
    pub d_out: &'a [f32],
}

/// Sizes.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Query heads.
    pub heads: usize,
    /// Key-value heads.
    pub kv_heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
    /// Factor of the scores.
    pub scale: f32,
}

impl Shape {
    /// Numbers of one token in a [`attention_backward`]'s output.
    pub fn gradient_width(&self) -> usize {
        (self.heads / self.kv_heads + 2) * self.head_dim
    }
}

/// Scratch of a task.
#[derive(Debug, Default)]
pub struct Scratch {
    scores: Vec<f32>,
    d_scores: Vec<f32>,
}

/// The gradients of key-value head `kv_head` and of its query heads: `d` is `[group + 2][tokens][head_dim]`: the queries of each
/// head, the keys, the values. On the calling thread.
///
/// # Errors
/// When the lengths do not fit.
pub fn attention_backward(
    exec: &Exec,
    shape: Shape,
    rows: Rows<'_>,
    kv_head: usize,
    scratch: &mut Scratch,
    d: &mut [f32],
) -> Result<(), ShapeError> {
    let Shape { heads, kv_heads, head_dim, scale } = shape;
    let (group, width, kv_width) = (heads / kv_heads, heads * head_dim, kv_heads * head_dim);
    let tokens = rows.q.len() / width;
    ShapeError::check("attention_backward", "d", tokens * shape.gradient_width(), d.len())?;
    let view = |data, first: usize, rows: usize, head: usize, stride: usize| {
        View::new(data_from(data, first * stride + head * head_dim), rows, head_dim, stride)
    };
    let (dq_all, rest) = d.split_at_mut(group * tokens * head_dim);
    let (dk, dv) = rest.split_at_mut(tokens * head_dim);
    dk.fill(0.0);
    dv.fill(0.0);
    let scores = room(&mut scratch.scores, TILE * tokens);
    let d_scores = room(&mut scratch.d_scores, TILE * tokens);
    for (head, dq) in (kv_head * group..).zip(dq_all.chunks_exact_mut(tokens * head_dim)) {
        for first in (0..tokens).step_by(TILE) {
            let end = tokens.min(first + TILE);
            let m = end - first;
            let q = view(rows.q, first, m, head, width)?;
            let d_out = view(rows.d_out, first, m, head, width)?;
            let (k, v) = (view(rows.k, 0, end, kv_head, kv_width)?, view(rows.v, 0, end, kv_head, kv_width)?);
            let (p, ds) = (&mut scores[..m * end], &mut d_scores[..m * end]);
            gemm(exec, Write::Set, q, k.t(), p, end)?;
            gemm(exec, Write::Set, d_out, v.t(), ds, end)?;
            let at = first * width + head * head_dim;
            dispatch(
                exec.isa,
                Tile {
                    first,
                    scale,
                    head_dim,
                    stride: width,
                    out: &rows.out[at..],
                    d_out: &rows.d_out[at..],
                    keys: end,
                    p,
                    ds,
                },
            );
            let (p, ds) = (View::new(p, m, end, end)?, View::new(ds, m, end, end)?);
            gemm(exec, Write::Add, p.t(), d_out, &mut dv[..end * head_dim], head_dim)?;
            gemm(exec, Write::Set, ds, k, &mut dq[first * head_dim..end * head_dim], head_dim)?;
            gemm(exec, Write::Add, ds.t(), q, &mut dk[..end * head_dim], head_dim)?;
        }
    }
    Ok(())
}

fn data_from(data: &[f32], start: usize) -> &[f32] {
    data.get(start..).unwrap_or_default()
}

/// Scores to weights, and the gradients of weights to those of the unscaled scores.
struct Tile<'a> {
    /// Position of the first row.
    first: usize,
    scale: f32,
    head_dim: usize,
    stride: usize,
    out: &'a [f32],
    d_out: &'a [f32],
    keys: usize,
    p: &'a mut [f32],
    ds: &'a mut [f32],
}

impl Kernel for Tile<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let rows = self.p.chunks_exact_mut(self.keys).zip(self.ds.chunks_exact_mut(self.keys));
        for (i, (p, ds)) in rows.enumerate() {
            let visible = self.first + i + 1;
            let at = i * self.stride..i * self.stride + self.head_dim;
            let mut dots = l.splat(0.0);
            for (o, d) in self.out[at.clone()].chunks(LANES).zip(self.d_out[at].chunks(LANES)) {
                dots = l.fma(l.load_or(o, 0.0), l.load_or(d, 0.0), dots);
            }
            let dots = l.splat(l.sum(dots));
            let (p, masked) = p.split_at_mut(visible);
            let (ds, d_masked) = ds.split_at_mut(visible);
            masked.fill(0.0);
            d_masked.fill(0.0);
            let mut maximum = l.splat(f32::NEG_INFINITY);
            for x in p.chunks(LANES) {
                maximum = l.max(l.load_or(x, f32::NEG_INFINITY), maximum);
            }
            let (maximum, scale) = (l.splat(l.maximum(maximum)), l.splat(self.scale));
            let mut sum = l.splat(0.0);
            for x in p.chunks_mut(LANES) {
                let e = vector::exp(l, l.mul(l.sub(l.load_or(x, f32::NEG_INFINITY), maximum), scale));
                sum = l.add(sum, e);
                l.store_some(e, x);
            }
            let inverse = l.splat(1.0 / l.sum(sum));
            for (p, ds) in p.chunks_mut(LANES).zip(ds.chunks_mut(LANES)) {
                let weight = l.mul(l.load_or(p, 0.0), inverse);
                let d = l.mul(l.mul(weight, l.sub(l.load_or(ds, 0.0), dots)), scale);
                l.store_some(weight, p);
                l.store_some(d, ds);
            }
        }
    }
}
