//! One tile of keys and values that are codes.
//!
//! Sums of codes are exact, so what a query does not see may stand in them, or, as a weight of zero, count nothing.
use chalot_simd::prefetch;

use super::{
    KvBlock,
    block::{Head, TOKEN_VECTORS},
    codes::Scales,
    job::Job,
    softmax::{Scoring, quantize_weights, rescale, softmax_row},
    state::{Queries, RowScratch, State},
    tile::{CacheLine, Element, Product, ROWS, Start, phase, share},
};
use crate::math::lanes::{Kernel, LANES, Lanes, Pair};

/// Pairs of tokens.
const TOKEN_PAIRS: usize = KvBlock::TOKENS / 2;

/// The parts of the next tile that are fetched during scores, soft-max and outputs, in 16ths: as the times are, so that memory
/// never rests.
const FETCH: [usize; 3] = [7, 5, 4];

/// One tile of keys and values for all rows of a job.
pub(super) struct IntegerTile<'a, 'call, 'state, E> {
    pub job: &'a Job<'a, 'call>,
    /// The position of the tile's first key.
    pub base: usize,
    pub queries: &'a Queries,
    /// The tile's keys and values, `[head_dim / 2, rounded up][64]` and `[32][head_dim, rounded up to 16]` pairs.
    pub now: Head<'a, E>,
    /// The scales of its keys and values.
    pub scales: [&'a Scales; 2],
    /// What is read after it.
    pub next: &'a [CacheLine],
    pub rows: &'a mut RowScratch,
    pub state: &'a mut State<'state>,
}

impl<E: Element<Factor = Pair>> Kernel for IntegerTile<'_, '_, '_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let rows = self.job.rows();
        self.job.look(self.base, &mut self.rows.bounds);
        for first in (0..rows).step_by(ROWS) {
            self.scores(l, first, ROWS.min(rows - first));
        }
        self.softmax(l, rows);
        for first in (0..rows).step_by(ROWS) {
            self.outputs(l, first, ROWS.min(rows - first));
        }
    }
}

impl<E: Element<Factor = Pair>> IntegerTile<'_, '_, '_, E> {
    /// The sums of codes of `rows` queries, from row `first`, with the keys that the rows see between them.
    #[inline(always)]
    fn scores<L: Lanes>(&mut self, l: L, first: usize, rows: usize) {
        let pairs = self.job.call.params.head_dim.div_ceil(2);
        let ([from, _], [_, to]) = (self.bounds(first), self.bounds(first + rows - 1));
        if from < to {
            let product = Product {
                a: &self.queries.codes[first * pairs..],
                a_stride: pairs,
                k: 0..pairs,
                b: self.now.keys,
                b_stride: TOKEN_VECTORS,
                next: share(phase(self.next, FETCH, 0), first..first + rows, self.job.rows()),
                c: &mut self.rows.scores[first * TOKEN_VECTORS..],
                c_stride: TOKEN_VECTORS,
                cols: from / LANES..to.div_ceil(LANES),
                rows,
                start: Start::Zero,
            };
            l.call(product);
        }
    }

    /// Sums of codes to weights; maxima and sums brought up to date, and the factors of the old outputs left in
    /// `factors`.
    #[inline(always)]
    fn softmax<L: Lanes>(&mut self, l: L, rows: usize) {
        let params = self.job.call.params;
        let [key_scales, value_scales] = self.scales;
        let scoring = Scoring::new(l, params.scale, params.soft_cap);
        let maxima = self.state.max.as_flattened_mut();
        let factors = self.rows.factors.as_flattened_mut();
        let sums = self.rows.sums.as_flattened_mut();
        let weights = bytemuck::cast_slice_mut::<Pair, [[i16; LANES]; TOKEN_VECTORS]>(&mut self.rows.weights);
        let soon = phase(self.next, FETCH, 1);
        for (r, row) in self.rows.scores.as_chunks_mut().0.iter_mut().take(rows).enumerate() {
            for line in share(soon, 2 * r..2 * r + 1, 2 * rows) {
                prefetch(line);
            }
            let bounds = self.rows.bounds[r];
            factors[r] = maxima[r];
            sums[r] = 0.0;
            if bounds[0] < bounds[1] {
                let step = l.splat(self.queries.steps[r]);
                for i in 0..TOKEN_VECTORS {
                    let sum: &mut [f32; LANES] = &mut row[i];
                    l.store(l.mul(l.mul(l.load(sum), l.load(&key_scales[i])), step), sum);
                }
                (maxima[r], sums[r]) = softmax_row(l, &scoring, row, bounds, maxima[r]);
                for line in share(soon, 2 * r + 1..2 * r + 2, 2 * rows) {
                    prefetch(line);
                }
                self.rows.steps[r] = quantize_weights(l, row, value_scales, bounds, &mut weights[r]);
            }
        }
        rescale(l, rows, self.rows, self.state);
    }

    /// Adds the values, weighted, to the outputs of `rows` rows from row `first`. A row that sees nothing is left alone:
    /// adding nothing would make +0 of -0.
    #[inline(always)]
    fn outputs<L: Lanes>(&mut self, l: L, first: usize, rows: usize) {
        let last = first + rows - 1;
        let (low, high) = (self.bounds(first), self.bounds(last));
        // Neither bound falls from row to row.
        if low[0] < low[1] && high[0] < high[1] {
            self.weigh(l, first, rows, [low[0], high[1]]);
            return;
        }
        for r in first..=last {
            let seen = self.bounds(r);
            if seen[0] < seen[1] {
                self.weigh(l, r, 1, seen);
            }
        }
    }

    /// The part of the tile that row `r` sees.
    #[inline(always)]
    fn bounds(&self, r: usize) -> [usize; 2] {
        self.rows.bounds[r].map(|bound| bound as usize)
    }

    /// `out = out · factor + step · sum of weight codes times value codes`, over the pairs with the keys `from..to`.
    #[inline(always)]
    fn weigh<L: Lanes>(&mut self, l: L, first: usize, rows: usize, [from, to]: [usize; 2]) {
        let vectors = self.job.call.params.head_dim.div_ceil(LANES);
        let product = Product {
            a: &self.rows.weights[first * TOKEN_PAIRS..],
            a_stride: TOKEN_PAIRS,
            k: from / 2..to.div_ceil(2),
            b: self.now.values,
            b_stride: vectors,
            next: share(phase(self.next, FETCH, 2), first..first + rows, self.job.rows()),
            c: &mut self.state.out[first * vectors..],
            c_stride: vectors,
            cols: 0..vectors,
            rows,
            start: Start::Scaled {
                factor: &self.rows.factors.as_flattened()[first..],
                step: &self.rows.steps[first..],
            },
        };
        l.call(product);
    }
}
