//! The online softmax of one row and one tile.
use super::{
    KvBlock,
    block::TOKEN_VECTORS,
    codes::{LARGEST_WEIGHT, Scales, Step},
    state::{Bounds, RowScratch, State},
};
use crate::{
    elementwise::soft_cap_lanes,
    math::{
        lanes::{LANES, Lanes},
        vector,
    },
};

/// What turns a product of query and key into a score.
#[derive(Clone, Copy)]
pub(super) struct Scoring<L: Lanes> {
    scale: L::V,
    /// The cap and its inverse.
    cap: Option<(L::V, L::V)>,
}

impl<L: Lanes> Scoring<L> {
    #[inline(always)]
    pub(super) fn new(l: L, scale: f32, cap: Option<f32>) -> Self {
        // `map` with a closure would leave the instructions of `l` behind.
        #[expect(clippy::manual_map)]
        let cap = match cap {
            Some(cap) => Some((l.splat(cap), l.splat(1.0 / cap))),
            None => None,
        };
        Self { scale: l.splat(scale), cap }
    }

    #[inline(always)]
    fn score(&self, l: L, product: L::V) -> L::V {
        let score = l.mul(product, self.scale);
        match self.cap {
            Some((cap, inverse)) => soft_cap_lanes(l, score, cap, inverse),
            None => score,
        }
    }
}

/// The index of each lane.
const INDEX: [[f32; LANES]; TOKEN_VECTORS] = {
    let mut index = [[0.0; LANES]; TOKEN_VECTORS];
    let mut i = 0;
    while i < KvBlock::TOKENS {
        index[i / LANES][i % LANES] = i as f32;
        i += 1;
    }
    index
};

/// Turns the products of a row, in `row`, into `exp(score - m)`, of which those outside `bounds` are 0.
/// Returns m, the largest of `max` and the visible scores, and the sum.
#[inline(always)]
pub(super) fn softmax_row<L: Lanes>(
    l: L,
    scoring: &Scoring<L>,
    row: &mut [[f32; LANES]; TOKEN_VECTORS],
    bounds: Bounds,
    max: f32,
) -> (f32, f32) {
    let mut scores = [l.splat(0.0); TOKEN_VECTORS];
    for i in 0..TOKEN_VECTORS {
        scores[i] = scoring.score(l, l.load(&row[i]));
    }
    if bounds != [0, KvBlock::TOKENS as u32] {
        let [from, to] = bounds.map(|bound| l.splat(bound as f32));
        let masked = l.splat(f32::NEG_INFINITY);
        for i in 0..TOKEN_VECTORS {
            let index = l.load(&INDEX[i]);
            scores[i] = l.select(l.lt(index, from), masked, scores[i]);
            scores[i] = l.select(l.lt(index, to), scores[i], masked);
        }
    }
    let largest = l.maximum(l.max(l.max(scores[0], scores[1]), l.max(scores[2], scores[3])));
    let max = if largest > max { largest } else { max };
    let m = l.splat(max);
    let mut sum = l.splat(0.0);
    for i in 0..TOKEN_VECTORS {
        // A masked score is -inf, and exp(-inf) is exactly 0.
        let p = vector::exp(l, l.sub(scores[i], m));
        l.store(p, &mut row[i]);
        sum = l.add(sum, p);
    }
    (max, l.sum(sum))
}

/// Sums and maxima brought up to date after a tile: from the old maxima, in `factors`, to the factors of the old sums.
#[inline(always)]
pub(super) fn rescale<L: Lanes>(l: L, rows: usize, scratch: &mut RowScratch, state: &mut State<'_>) {
    for i in 0..rows.div_ceil(LANES) {
        let old = l.load(&scratch.factors[i]);
        let factor = vector::exp(l, l.sub(old, l.load(&state.max[i])));
        l.store(factor, &mut scratch.factors[i]);
        let sum = l.fma(l.load(&state.sum[i]), factor, l.load(&scratch.sums[i]));
        l.store(sum, &mut state.sum[i]);
    }
}

/// Turns the probabilities of a row into codes of weights (probability times the scale of the value; nothing outside
/// `bounds`), and returns their step.
#[inline(always)]
pub(super) fn quantize_weights<L: Lanes>(
    l: L,
    row: &[[f32; LANES]; TOKEN_VECTORS],
    scales: &Scales,
    bounds: Bounds,
    codes: &mut [[i16; LANES]; TOKEN_VECTORS],
) -> f32 {
    let zero = l.splat(0.0);
    let mut weights = [zero; TOKEN_VECTORS];
    for i in 0..TOKEN_VECTORS {
        weights[i] = l.mul(l.load(&row[i]), l.load(&scales[i]));
    }
    if bounds != [0, KvBlock::TOKENS as u32] {
        // What lies there may have a scale that is NaN.
        let [from, to] = bounds.map(|bound| l.splat(bound as f32));
        for i in 0..TOKEN_VECTORS {
            let index = l.load(&INDEX[i]);
            weights[i] = l.select(l.lt(index, from), zero, weights[i]);
            weights[i] = l.select(l.lt(index, to), weights[i], zero);
        }
    }
    let (mut max, mut poison) = (zero, zero);
    for weights in weights {
        max = l.max(weights, max);
        poison = l.fma(weights, zero, poison);
    }
    let step = Step::new(l.maximum(max), l.sum(poison), LARGEST_WEIGHT);
    for i in 0..TOKEN_VECTORS {
        l.store_i16(step.codes(l, weights[i], LARGEST_WEIGHT), &mut codes[i]);
    }
    step.step
}
