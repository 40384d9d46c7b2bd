//! Products of integer weights: from packed blocks for few tokens, from unpacked panels for many.
//!
//! Unsigned codes are multiplied as they are; `sum((code - zero) * q) = sum(code * q) - zero * sum(q)`, so each sum
//! starts at `-zero * sum(q)`. Sums wrap, which is exact because the final ones fit 32 bits.
mod direct;
mod panel;

pub(super) use self::{
    direct::DirectTask,
    panel::{PANEL_TOKEN_TILES, PanelTask},
};
use super::{
    lanes::ProductLanes,
    weights::{Scales, V},
};
use crate::{
    activations::Quantized,
    math::lanes::Lanes,
    matrix::{Matrix, TILE_ROWS},
    out::SharedOut,
};

/// One product of an integer matrix.
#[derive(Copy, Clone)]
pub(super) struct Integer<'a, S> {
    pub w: &'a Matrix,
    pub scales: S,
    /// The code that stands for weight 0.
    pub zero: i32,
    pub x: &'a Quantized,
    pub m: usize,
    pub y: SharedOut<'a, f32>,
}

/// What a segment's sums add to the outputs.
#[inline(always)]
fn scale_sums<P: ProductLanes, S: Scales, const T: usize>(
    p: P,
    scales: &S,
    (tile, segment): (usize, usize),
    (factors, qsums): (&[f32; T], &[i32; T]),
    sums: &[P::Sums; T],
    acc: &mut [V<P>; T],
) {
    let f = p.floats();
    let scale = scales.scale(p, tile, segment);
    let min = if S::MINS { scales.min(p, tile, segment) } else { scale };
    for t in 0..T {
        acc[t] = f.fma(p.to_floats(sums[t]), f.mul(scale, f.splat(factors[t])), acc[t]);
        if S::MINS {
            acc[t] = f.fma(min, f.splat(factors[t] * qsums[t] as f32), acc[t]);
        }
    }
}

/// Where the sums of `T` tokens start.
#[inline(always)]
fn first_sums<P: ProductLanes, const T: usize>(p: P, zero: i32, qsums: &[i32; T]) -> [P::Sums; T] {
    let mut sums = [p.splat(0); T];
    for t in 0..T {
        sums[t] = p.splat(zero.wrapping_neg().wrapping_mul(qsums[t]));
    }
    sums
}

/// Stores one tile of outputs of the tokens from `first` on.
#[inline(always)]
fn store<P: ProductLanes, const T: usize>(
    p: P,
    y: &SharedOut<'_, f32>,
    (rows, tile, first): (usize, usize, usize),
    acc: &[V<P>; T],
) {
    let row = tile * TILE_ROWS;
    for t in 0..T {
        // SAFETY: a task has its own tiles and token tiles; rows of a tile are stored by its task only.
        let out = unsafe { y.part((first + t) * rows + row, TILE_ROWS.min(rows - row)) };
        p.floats().store_some(acc[t], out);
    }
}
