//! Activations to 8-bit integers, sixteen at a time.
use super::{
    Order, QuantizedTileMut, Segments,
    reference::{MIN_GROUP_MAX, MIN_TOKEN_MAX},
};
use crate::{
    linear::lanes::{Kernel, ProductLanes, Quad},
    math::lanes::{LANES, Lanes},
};

/// Quads in a vector of floats.
const VECTOR_QUADS: usize = LANES / 4;

/// Quantizes a token of a part.
pub(super) struct QuantizeToken<'a> {
    pub segments: Segments,
    /// Which of the part.
    pub t: usize,
    /// `[k]`
    pub x: &'a [f32],
    pub out: QuantizedTileMut<'a>,
}

impl Kernel for QuantizeToken<'_> {
    #[inline(always)]
    fn run<P: ProductLanes, const R: usize, const D: usize>(self, p: P) {
        let Self { segments, t, x, out } = self;
        let tokens = out.factors.len() / segments.count();
        if segments.order == Order::Lines {
            return quantize_lines(p, segments, (t, tokens), x, out);
        }
        for (segment, x) in x.chunks(segments.cols).enumerate() {
            let quads = &mut out.quads[segment * segments.quads * tokens..][..segments.quads * tokens];
            let at = segment * tokens + t;
            (out.factors[at], out.sums[at]) = quantize(p, segments.by_token, x, &mut quads[t..], tokens);
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
    let Some(scale) = scale(p, by_token, x) else {
        quads.iter_mut().step_by(stride).for_each(|quad| *quad = [0; 4]);
        return (0.0, 0);
    };
    let mut sums = p.splat(0);
    let mut quads = quads.chunks_mut(VECTOR_QUADS * stride);
    for (x, quads) in x.chunks(LANES).zip(&mut quads) {
        let q = integers(p, x, scale, &mut sums);
        match quads.first_chunk_mut() {
            Some(quads) if stride == 1 => *quads = q,
            _ => quads.iter_mut().step_by(stride).zip(q).for_each(|(quad, q)| *quad = q),
        }
    }
    for quads in quads {
        quads.iter_mut().step_by(stride).for_each(|quad| *quad = [0; 4]);
    }
    (1.0 / scale, p.total(sums))
}

/// Token `t` of a part that has room for `room`, in lines of its own.
#[inline(always)]
fn quantize_lines<P: ProductLanes>(
    p: P,
    segments: Segments,
    (t, room): (usize, usize),
    x: &[f32],
    out: QuantizedTileMut<'_>,
) {
    let len = segments.token_quads();
    let (vectors, _) = out.quads[t * len..][..len].as_chunks_mut::<VECTOR_QUADS>();
    let mut vectors = vectors.iter_mut();
    for (segment, x) in x.chunks(segments.cols).enumerate() {
        let scale = scale(p, segments.by_token, x);
        let mut sums = p.splat(0);
        for (x, vector) in x.chunks(LANES).zip(&mut vectors) {
            *vector = match scale {
                Some(scale) => integers(p, x, scale, &mut sums),
                None => Default::default(),
            };
        }
        out.factors[segment * room + t] = scale.map_or(0.0, |scale| 1.0 / scale);
        out.sums[segment * room + t] = p.total(sums);
    }
    vectors.for_each(|vector| *vector = Default::default());
}

/// What a segment is multiplied by; `None` where it is zero.
#[inline(always)]
fn scale<P: ProductLanes>(p: P, by_token: bool, x: &[f32]) -> Option<f32> {
    let f = p.floats();
    // A greatest number is the same in any order: four of them need not wait for each other.
    let mut maxima = [f.splat(0.0); 4];
    for x in x.chunks(4 * LANES) {
        for (max, x) in maxima.iter_mut().zip(x.chunks(LANES)) {
            *max = f.max(f.abs(f.load_or(x, 0.0)), *max);
        }
    }
    let [a, b, c, d] = maxima;
    let max = f.maximum(f.max(f.max(a, b), f.max(c, d)));
    if !by_token && max < MIN_GROUP_MAX {
        return None;
    }
    Some(127.0 / if by_token { max.max(MIN_TOKEN_MAX) } else { max })
}

/// The integers of a vector of features, or of fewer; added to `sums`.
#[inline(always)]
fn integers<P: ProductLanes>(p: P, x: &[f32], scale: f32, sums: &mut P::Sums) -> [Quad; VECTOR_QUADS] {
    let f = p.floats();
    let rounded = f.round(f.mul(f.load_or(x, 0.0), f.splat(scale)));
    let q = p.to_ints(f.min(f.max(rounded, f.splat(-128.0)), f.splat(127.0)));
    *sums = p.add(*sums, q);
    bytemuck::cast(p.narrow(q))
}
