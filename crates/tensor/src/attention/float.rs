//! One tile of keys and values that are floats.
use std::ops::Range;

use chalot_simd::prefetch;

use super::{
    KvBlock,
    block::{Head, TOKEN_VECTORS},
    job::Job,
    softmax::{Scoring, rescale, softmax_row},
    state::{RowScratch, State},
    tile::{CacheLine, Number, Product, ROWS, ROWS_OF_TOKEN, Start, phase, share},
};
use crate::math::lanes::{Kernel, LANES, Lanes};

/// The factor of a sum that is kept.
const KEEP: [f32; ROWS] = [1.0; ROWS];

/// The parts of the next tile that are fetched during scores, soft-max and outputs, in 16ths: as the times are, so that memory
/// never rests.
const FETCH: [usize; 3] = [7, 2, 7];

/// One tile of keys and values for all rows of a job.
pub(super) struct FloatTile<'a, 'call, 'state, E> {
    pub job: &'a Job<'a, 'call>,
    /// The position of the tile's first key.
    pub base: usize,
    /// `[rows][head_dim]`.
    pub queries: &'a [f32],
    /// The tile's keys and values.
    pub now: Head<'a, E>,
    /// What is read after it.
    pub next: &'a [CacheLine],
    pub rows: &'a mut RowScratch,
    pub state: &'a mut State<'state>,
}

impl<E: Number> Kernel for FloatTile<'_, '_, '_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let rows = self.job.rows();
        self.job.look(self.base, &mut self.rows.bounds);
        // Where tokens see different keys, only heads of one, if they are enough: what some rows see and others do not is computed row
        // by row.
        let one_token =
            self.bounds(0) != self.bounds(rows - 1) && self.job.call.group().is_multiple_of(ROWS_OF_TOKEN);
        let at_once = if one_token { ROWS_OF_TOKEN } else { ROWS };
        for first in (0..rows).step_by(at_once) {
            self.scores(l, first, at_once.min(rows - first));
        }
        self.softmax(l, rows);
        for first in (0..rows).step_by(at_once) {
            self.outputs(l, first, at_once.min(rows - first));
        }
    }
}

impl<E: Number> FloatTile<'_, '_, '_, E> {
    /// The products of `rows` queries, from row `first`, with the keys that the rows see between them.
    #[inline(always)]
    fn scores<L: Lanes>(&mut self, l: L, first: usize, rows: usize) {
        let head_dim = self.job.call.params.head_dim;
        let ([from, _], [_, to]) = (self.bounds(first), self.bounds(first + rows - 1));
        if from < to {
            let product = Product {
                a: &self.queries[first * head_dim..],
                a_stride: head_dim,
                k: 0..head_dim,
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

    /// Products to probabilities; maxima and sums brought up to date, and the factors of the old outputs left
    /// in `factors`.
    #[inline(always)]
    fn softmax<L: Lanes>(&mut self, l: L, rows: usize) {
        let params = self.job.call.params;
        let scoring = Scoring::new(l, params.scale, params.soft_cap);
        let maxima = self.state.max.as_flattened_mut();
        let factors = self.rows.factors.as_flattened_mut();
        let sums = self.rows.sums.as_flattened_mut();
        let soon = phase(self.next, FETCH, 1);
        for (r, row) in self.rows.scores.as_chunks_mut().0.iter_mut().take(rows).enumerate() {
            for line in share(soon, r..r + 1, rows) {
                prefetch(line);
            }
            let bounds = self.rows.bounds[r];
            factors[r] = maxima[r];
            sums[r] = 0.0;
            if bounds[0] < bounds[1] {
                (maxima[r], sums[r]) = softmax_row(l, &scoring, row, bounds, maxima[r]);
            }
        }
        rescale(l, rows, self.rows, self.state);
    }

    /// Adds the values, weighted, to the outputs of `rows` rows from row `first`. A key that one row sees and
    /// its neighbour does not is left to the rows that see it, one by one.
    #[inline(always)]
    fn outputs<L: Lanes>(&mut self, l: L, first: usize, rows: usize) {
        let (low, high) = (self.bounds(first), self.bounds(first + rows - 1));
        if low == high {
            if low[0] < low[1] {
                self.weigh(l, first, rows, low[0]..low[1], false);
            }
            return;
        }
        // What all rows see; empty when a window is narrower than the rows are apart.
        let from = high[0];
        let to = low[1].max(from);
        for r in first..first + rows {
            let [start, end] = self.bounds(r);
            self.weigh(l, r, 1, start..from.min(end).max(start), false);
        }
        self.weigh(l, first, rows, from..to, true);
        for r in first..first + rows {
            let [start, end] = self.bounds(r);
            let rest = to.max(start)..end;
            if !rest.is_empty() {
                self.weigh(l, r, 1, rest, true);
            }
        }
    }

    /// The part of the tile that row `r` sees.
    #[inline(always)]
    fn bounds(&self, r: usize) -> [usize; 2] {
        self.rows.bounds[r].map(|bound| bound as usize)
    }

    /// `out = out · factor + sum over keys of p · value`; with `keep` the factor is 1.
    #[inline(always)]
    fn weigh<L: Lanes>(&mut self, l: L, first: usize, rows: usize, keys: Range<usize>, keep: bool) {
        let vectors = self.job.call.params.head_dim.div_ceil(LANES);
        let factors = if keep { &KEEP } else { &self.rows.factors.as_flattened()[first..] };
        let product = Product {
            a: &self.rows.scores.as_flattened()[first * KvBlock::TOKENS..],
            a_stride: KvBlock::TOKENS,
            k: keys,
            b: self.now.values,
            b_stride: vectors,
            next: share(phase(self.next, FETCH, 2), first..first + rows, self.job.rows()),
            c: &mut self.state.out[first * vectors..],
            c_stride: vectors,
            cols: 0..vectors,
            rows,
            start: Start::Scaled { factor: factors, step: factors },
        };
        l.call(product);
    }
}
