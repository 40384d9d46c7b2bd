//! The definition of 8-bit activations, and the kernel where there are no vector instructions.
use super::{QuantizedTileMut, Segments};

/// By token, the greatest magnitude is taken as at least this (Ma et al. 2024).
pub(crate) const MIN_TOKEN_MAX: f32 = 1e-5;
/// A group whose greatest magnitude is below this is zero: 127 divided by it could be infinite.
pub(crate) const MIN_GROUP_MAX: f32 = 1e-30;

/// Quantizes one segment of one token; returns `1 / s` and the sum of the integers.
pub(crate) fn quantize_segment(by_token: bool, x: &[f32], q: &mut [i8]) -> (f32, i32) {
    // NaN is not greater than anything, so it is passed over.
    let mut max = x.iter().fold(0.0, |max, x| if x.abs() > max { x.abs() } else { max });
    if by_token {
        max = f32::max(max, MIN_TOKEN_MAX);
    } else if max < MIN_GROUP_MAX {
        q.fill(0);
        return (0.0, 0);
    }
    let s = 127.0 / max;
    let mut sum = 0;
    for (q, &x) in q.iter_mut().zip(x) {
        let rounded = (x * s).round_ties_even();
        // NaN (and infinity times zero) becomes -128.
        let low = if rounded > -128.0 { rounded } else { -128.0 };
        *q = if low < 127.0 { low } else { 127.0 } as i8;
        sum += i32::from(*q);
    }
    (1.0 / s, sum)
}

/// Quantizes token `t` of one tile.
pub(super) fn quantize_token(segments: Segments, t: usize, x: &[f32], out: QuantizedTileMut<'_>) {
    let tokens = out.factors.len() / segments.count();
    out.quads.iter_mut().skip(t).step_by(tokens).for_each(|quad| *quad = [0; 4]);
    let mut q = vec![0; segments.cols];
    for (segment, x) in x.chunks(segments.cols).enumerate() {
        let q = &mut q[..x.len()];
        let at = segment * tokens + t;
        (out.factors[at], out.sums[at]) = quantize_segment(segments.by_token, x, q);
        for (i, &q) in q.iter().enumerate() {
            out.quads[(segment * segments.quads + i / 4) * tokens + t][i % 4] = q;
        }
    }
}
