//! Products of integer weights: from packed blocks for few tokens, from unpacked panels for many.
//!
//! Unsigned codes are multiplied as they are; `sum((code - zero) * q) = sum(code * q) - zero * sum(q)`, so each sum
//! starts at `-zero * sum(q)` (less what the instructions take from the codes themselves). Sums wrap, which is exact because the final ones fit 32 bits.
use std::ops;

mod direct;
#[cfg(target_arch = "x86_64")]
mod direct_lines;
mod panel;
#[cfg(target_arch = "x86_64")]
mod panel_lines;

pub(super) use self::{direct::DirectTask, panel::PanelTask};
#[cfg(target_arch = "x86_64")]
pub(super) use self::{direct_lines::DirectLinesTask, panel_lines::PanelLinesTask};
use chalot_simd::prefetch;

use super::{
    lanes::{ProductLanes, Range},
    outputs::Outputs,
};
use crate::{
    activations::Quantized,
    matrix::{BLOCK, Matrix, TILE_ROWS},
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
    pub y: Outputs<'a>,
}

/// Where the sums of `T` tokens and codes of range `C` start.
#[inline(always)]
fn first_sums<P: ProductLanes, C: Range, const T: usize>(p: P, zero: i32, qsums: &[i32; T]) -> [P::Sums; T] {
    let zero = zero - p.offset::<C>();
    let mut sums = [p.splat(0); T];
    for t in 0..T {
        sums[t] = p.splat(zero.wrapping_neg().wrapping_mul(qsums[t]));
    }
    sums
}

/// Asks for the lines of the outputs that a tile of tokens writes when all tiles are done: a row's outputs lie far apart, and
/// waiting for each line where it is written cost 6% of a prompt (docs/LOG.md, "Kernels").
#[inline(always)]
fn prefetch_outputs<S>(product: &Integer<'_, S>, tiles: &ops::Range<usize>, tokens: &ops::Range<usize>) {
    for token in tokens.clone() {
        for tile in tiles.clone() {
            prefetch(product.y.address(token, tile * TILE_ROWS));
        }
    }
}

/// Quads of codes as signed numbers: the code that stands for weight 0 becomes 0.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn signed<P: ProductLanes, const Q: usize>(p: P, zero: i32, codes: [P::Codes; Q]) -> [[i8; BLOCK]; Q] {
    codes.map(|codes| {
        let mut bytes = [0; BLOCK];
        p.store(codes, &mut bytes);
        bytes.map(|code| code.wrapping_sub(zero as u8) as i8)
    })
}
