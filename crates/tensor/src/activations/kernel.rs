//! Activations to 8-bit integers, sixteen at a time.
use super::{
    QuantizedTileMut, Segments,
    reference::{MIN_GROUP_MAX, MIN_TOKEN_MAX},
};
use crate::{
    linear::lanes::{Kernel, ProductLanes, Quad},
    math::lanes::{LANES, Lanes},
};

/// Quads in a vector of floats.
const VECTOR_QUADS: usize = LANES / 4;

/// Quantizes the tokens of one tile.
pub(super) struct QuantizeTile<'a> {
    pub segments: Segments,
    pub tokens: usize,
    /// `[tokens][k]`
    pub x: &'a [f32],
    pub out: QuantizedTileMut<'a>,
}

impl Kernel for QuantizeTile<'_> {
    #[inline(always)]
    fn run<P: ProductLanes, const R: usize, const D: usize>(self, p: P) {
        let Self { segments, tokens, x, out } = self;
        for (t, x) in x.chunks_exact(segments.k).enumerate() {
            for (segment, x) in x.chunks(segments.cols).enumerate() {
                let quads = &mut out.quads[segment * segments.quads * tokens..][..segments.quads * tokens];
                let at = segment * tokens + t;
                (out.factors[at], out.sums[at]) = quantize(p, segments.by_token, x, &mut quads[t..], tokens);
            }
        }
    }
}

/// One segment of one token; its quads go to every `stride`-th of `quads`, the rest of which become zero.
#[inline(always)]
fn quantize<P: ProductLanes>(
    p: P,
    by_token: bool,
    x: &[f32],
    quads: &mut [Quad],
    stride: usize,
) -> (f32, i32) {
    let f = p.floats();
    let mut max = f.splat(0.0);
    for x in x.chunks(LANES) {
        max = f.max(f.abs(f.load_or(x, 0.0)), max);
    }
    let mut max = f.maximum(max);
    if by_token {
        max = max.max(MIN_TOKEN_MAX);
    } else if max < MIN_GROUP_MAX {
        quads.iter_mut().step_by(stride).for_each(|quad| *quad = [0; 4]);
        return (0.0, 0);
    }
    let s = 127.0 / max;
    let (least, greatest, scale) = (f.splat(-128.0), f.splat(127.0), f.splat(s));
    let mut sums = p.splat(0);
    let mut quads = quads.chunks_mut(VECTOR_QUADS * stride);
    for (x, quads) in x.chunks(LANES).zip(&mut quads) {
        let rounded = f.round(f.mul(f.load_or(x, 0.0), scale));
        let q = p.to_ints(f.min(f.max(rounded, least), greatest));
        sums = p.add(sums, q);
        let q = p.narrow(q);
        for (quad, &q) in quads.iter_mut().step_by(stride).zip(q.as_chunks::<4>().0) {
            *quad = q;
        }
    }
    for quads in quads {
        quads.iter_mut().step_by(stride).for_each(|quad| *quad = [0; 4]);
    }
    (1.0 / s, p.total(sums))
}
