//! Products of integer weights: from packed blocks for few tokens, from unpacked panels for many.
//!
//! Unsigned codes are multiplied as they are; `sum((code - zero) * q) = sum(code * q) - zero * sum(q)`, so each sum
//! starts at `-zero * sum(q)` (less what the instructions take from the codes themselves). Sums wrap, which is exact because the final ones fit 32 bits.
mod direct;
mod panel;

pub(super) use self::{direct::DirectTask, panel::PanelTask};
use super::{
    lanes::{ProductLanes, Range},
    weights::{Scales, V},
};
use crate::{activations::Quantized, math::lanes::Lanes, matrix::Matrix, out::SharedOut};

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

/// Adds to the outputs of R tiles what the sums of a segment are worth.
#[inline(always)]
fn scale_sums<P: ProductLanes, S: Scales, const R: usize, const T: usize>(
    p: P,
    scales: &S,
    (tiles, segment): ([usize; R], usize),
    (factors, qsums): (&[f32; T], &[i32; T]),
    sums: &[[P::Sums; T]; R],
    acc: &mut [[V<P>; T]; R],
) {
    let f = p.floats();
    let mut factor = [f.splat(0.0); T];
    for t in 0..T {
        factor[t] = f.splat(factors[t]);
    }
    let mut products = [[f.splat(0.0); T]; R];
    for r in 0..R {
        let scale = scales.scale(p, tiles[r], segment);
        for t in 0..T {
            products[r][t] = f.mul(scale, factor[t]);
        }
    }
    for r in 0..R {
        for t in 0..T {
            acc[r][t] = f.fma(p.to_floats(sums[r][t]), products[r][t], acc[r][t]);
        }
    }
    if S::MINS {
        for t in 0..T {
            factor[t] = f.splat(factors[t] * qsums[t] as f32);
        }
        for r in 0..R {
            let min = scales.min(p, tiles[r], segment);
            for t in 0..T {
                acc[r][t] = f.fma(min, factor[t], acc[r][t]);
            }
        }
    }
}
