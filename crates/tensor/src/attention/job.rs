//! A job: some consecutive tokens, the query heads of one key-value head.
//!
//! Row r of a job is token `r / group`, head `r % group` of the group, so that the rows of a register tile are
//! at one or a few neighbouring positions.
use std::ops::Range;

use super::{
    KvBlock,
    block::{Head, Lines, Storage, TOKEN_VECTORS},
    plan::{CHUNK, Call},
    softmax::{Scoring, softmax_row},
    state::{Bounds, RowScratch, Seen, Size, State, WideTile, Workspace},
    tile::{Element, Product, ROWS, Start, share},
};
use crate::{
    math::{
        lanes::{Kernel, LANES, Lanes},
        vector,
    },
    out::SharedOut,
};

/// Tiles of a chunk.
const TILES: usize = CHUNK / KvBlock::TOKENS;

/// The factor of a sum that is kept.
const KEEP: [f32; ROWS] = [1.0; ROWS];

#[derive(Clone)]
pub(super) struct Job<'a, 'call> {
    pub call: &'a Call<'call>,
    pub kv_head: usize,
    pub tokens: Range<usize>,
}

impl Job<'_, '_> {
    #[inline(always)]
    fn rows(&self) -> usize {
        self.tokens.len() * self.call.group()
    }

    /// Where the query, and the output, of row `r` begin.
    #[inline(always)]
    fn offset(&self, r: usize) -> usize {
        let group = self.call.group();
        let (token, head) = (self.tokens.start + r / group, self.kv_head * group + r % group);
        token * self.call.strides.token + head * self.call.strides.head
    }

    /// Gathers the queries, `[rows][head_dim]`.
    #[inline(always)]
    fn gather(&self, queries: &mut [f32]) {
        let head_dim = self.call.params.head_dim;
        for (r, row) in queries.chunks_exact_mut(head_dim).take(self.rows()).enumerate() {
            row.copy_from_slice(&self.call.q[self.offset(r)..][..head_dim]);
        }
    }

    /// What each row sees of the tile that begins at position `base`.
    #[inline(always)]
    fn look(&self, base: usize, bounds: &mut [Bounds]) {
        let clip = |position: usize| position.saturating_sub(base).min(KvBlock::TOKENS) as u32;
        for (token, bounds) in self.tokens.clone().zip(bounds.chunks_exact_mut(self.call.group())) {
            let seen = self.call.visible(token);
            bounds.fill([clip(seen.start), clip(seen.end)]);
        }
    }

    /// The online softmax of one chunk into `state`.
    #[inline(always)]
    fn chunk<L: Lanes>(
        &self,
        l: L,
        chunk: usize,
        queries: &[f32],
        rows: &mut RowScratch,
        wide: &mut WideTile,
        state: &mut State<'_>,
    ) {
        state.clear();
        let head_dim = self.call.params.head_dim;
        let seen = self.call.visible(self.tokens.start).start..self.call.visible(self.tokens.end - 1).end;
        let first = (seen.start / KvBlock::TOKENS).max(chunk * TILES);
        let tiles = seen.end.div_ceil(KvBlock::TOKENS);
        let end = tiles.min((chunk + 1) * TILES);
        for tile in first..end {
            let base = tile * KvBlock::TOKENS;
            let block = (self.call.blocks)(tile);
            // Fetched while this tile is computed: memory is too slow to be asked only when needed.
            let next = if tile + 1 < tiles {
                (self.call.blocks)(tile + 1).lines(self.kv_head)
            } else {
                Lines::default()
            };
            match block.storage() {
                Storage::F32(planes) => {
                    let now = planes.head(self.kv_head, head_dim);
                    l.call(Tile { job: self, base, queries, now, next, rows, state });
                }
                // Read once or twice: widened on the way.
                Storage::F16(planes) if self.rows() <= ROWS => {
                    let now = planes.head(self.kv_head, head_dim);
                    l.call(Tile { job: self, base, queries, now, next, rows, state });
                }
                Storage::F16(planes) => {
                    let stored = planes.head(self.kv_head, head_dim);
                    l.call(Widen { from: stored.keys, to: &mut wide.keys });
                    l.call(Widen { from: stored.values, to: &mut wide.values });
                    let now = Head { keys: &wide.keys, values: &wide.values };
                    l.call(Tile { job: self, base, queries, now, next, rows, state });
                }
            }
        }
    }

    /// Adds the state of `chunk` to that of the chunks before it, for every row that sees some of it. The first
    /// chunk that a row sees is its beginning.
    #[inline(always)]
    fn merge<L: Lanes>(
        &self,
        l: L,
        chunk: usize,
        from: &Seen<'_>,
        rows: &mut RowScratch,
        into: &mut State<'_>,
    ) {
        // Factors of the old sums, and (where a tile's sums were) of the new.
        let (old, new) = (&mut rows.factors, &mut rows.sums);
        for i in 0..self.rows().div_ceil(LANES) {
            let (a, b) = (l.load(&into.max[i]), l.load(&from.max[i]));
            let max = l.max(a, b);
            l.store(vector::exp(l, l.sub(a, max)), &mut old[i]);
            l.store(vector::exp(l, l.sub(b, max)), &mut new[i]);
        }
        let vectors = self.call.params.head_dim.div_ceil(LANES);
        for r in 0..self.rows() {
            let seen = self.call.visible(self.tokens.start + r / self.call.group());
            let (first, last) = (seen.start / CHUNK, (seen.end - 1) / CHUNK);
            if chunk < first || chunk > last {
                continue;
            }
            let (i, lane) = (r / LANES, r % LANES);
            let outs = into.out[r * vectors..][..vectors].iter_mut().zip(&from.out[r * vectors..][..vectors]);
            if chunk == first {
                into.max[i][lane] = from.max[i][lane];
                into.sum[i][lane] = from.sum[i][lane];
                for (into, from) in outs {
                    *into = *from;
                }
            } else {
                let (old, new) = (old[i][lane], new[i][lane]);
                let (a, b) = (into.max[i][lane], from.max[i][lane]);
                into.max[i][lane] = if a > b { a } else { b };
                into.sum[i][lane] = into.sum[i][lane].mul_add(old, from.sum[i][lane] * new);
                for (into, from) in outs {
                    let scaled = l.mul(l.load(from), l.splat(new));
                    l.store(l.fma(l.load(into), l.splat(old), scaled), into);
                }
            }
        }
    }

    /// Writes the outputs: the sums over values times one over the sum of weights.
    #[inline(always)]
    fn finish<L: Lanes>(&self, l: L, state: &mut State<'_>, out: &SharedOut<'_, f32>) {
        let head_dim = self.call.params.head_dim;
        for sum in &mut *state.sum {
            l.store(l.div(l.splat(1.0), l.load(sum)), sum);
        }
        let inverse = state.sum.as_flattened();
        for (r, row) in state.out.chunks_exact(head_dim.div_ceil(LANES)).take(self.rows()).enumerate() {
            // SAFETY: the rows of a call's jobs are its tokens and heads, each once; they do not overlap.
            let to = unsafe { out.part(self.offset(r), head_dim) };
            for (to, from) in to.chunks_mut(LANES).zip(row) {
                l.store_some(l.mul(l.load(from), l.splat(inverse[r])), to);
            }
        }
    }
}

/// A job from beginning to end.
pub(super) struct Whole<'a, 'call> {
    pub job: Job<'a, 'call>,
    pub size: Size,
    pub workspace: &'a mut Workspace,
    pub out: &'a SharedOut<'a, f32>,
}

impl Kernel for Whole<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Workspace { queries, rows, wide, current, merged } = self.workspace;
        self.job.gather(queries);
        let mut merged = State::of(merged, &self.size);
        let chunks = self.job.call.chunks(&self.job.tokens);
        if chunks.len() == 1 {
            self.job.chunk(l, chunks.start, queries, rows, wide, &mut merged);
        } else {
            for chunk in chunks {
                let mut state = State::of(current, &self.size);
                self.job.chunk(l, chunk, queries, rows, wide, &mut state);
                self.job.merge(l, chunk, &Seen::of(current, &self.size), rows, &mut merged);
            }
        }
        self.job.finish(l, &mut merged, self.out);
    }
}

/// One chunk of a job, its state left in `memory`.
pub(super) struct OneChunk<'a, 'call> {
    pub job: Job<'a, 'call>,
    pub size: Size,
    pub chunk: usize,
    pub workspace: &'a mut Workspace,
    /// `size.state()` long.
    pub memory: &'a mut [[f32; LANES]],
}

impl Kernel for OneChunk<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Workspace { queries, rows, wide, .. } = self.workspace;
        self.job.gather(queries);
        let mut state = State::of(self.memory, &self.size);
        self.job.chunk(l, self.chunk, queries, rows, wide, &mut state);
    }
}

/// The end of a job whose chunks were done one by one.
pub(super) struct Merge<'a, 'call> {
    pub job: Job<'a, 'call>,
    pub size: Size,
    /// The chunk of the first state.
    pub first_chunk: usize,
    /// `[chunks][size.state()]`.
    pub states: &'a [[f32; LANES]],
    pub workspace: &'a mut Workspace,
    pub out: &'a SharedOut<'a, f32>,
}

impl Kernel for Merge<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Workspace { rows, merged, .. } = self.workspace;
        let mut merged = State::of(merged, &self.size);
        for chunk in self.job.call.chunks(&self.job.tokens) {
            let state = &self.states[(chunk - self.first_chunk) * self.size.state()..];
            self.job.merge(l, chunk, &Seen::of(state, &self.size), rows, &mut merged);
        }
        self.job.finish(l, &mut merged, self.out);
    }
}

/// Stored numbers to f32.
struct Widen<'a, E> {
    from: &'a [[E; LANES]],
    to: &'a mut [[f32; LANES]],
}

impl<E: Element> Kernel for Widen<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for (from, to) in self.from.iter().zip(self.to) {
            l.store(E::load(l, from), to);
        }
    }
}

/// One tile of keys and values for all rows of a job.
struct Tile<'a, 'call, 'state, E> {
    job: &'a Job<'a, 'call>,
    /// The position of the tile's first key.
    base: usize,
    /// `[rows][head_dim]`.
    queries: &'a [f32],
    /// The tile's keys and values.
    now: Head<'a, E>,
    /// The stored keys and values of the tile after it.
    next: Lines<'a>,
    rows: &'a mut RowScratch,
    state: &'a mut State<'state>,
}

impl<E: Element> Kernel for Tile<'_, '_, '_, E> {
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

impl<E: Element> Tile<'_, '_, '_, E> {
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
                next: share(self.next.keys, first..first + rows, self.job.rows()),
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
        for (r, row) in self.rows.scores.as_chunks_mut().0.iter_mut().take(rows).enumerate() {
            let bounds = self.rows.bounds[r];
            factors[r] = maxima[r];
            sums[r] = 0.0;
            if bounds[0] < bounds[1] {
                (maxima[r], sums[r]) = softmax_row(l, &scoring, row, bounds, maxima[r]);
            }
        }
        for i in 0..rows.div_ceil(LANES) {
            let old = l.load(&self.rows.factors[i]);
            let factor = vector::exp(l, l.sub(old, l.load(&self.state.max[i])));
            l.store(factor, &mut self.rows.factors[i]);
            let sum = l.fma(l.load(&self.state.sum[i]), factor, l.load(&self.rows.sums[i]));
            l.store(sum, &mut self.state.sum[i]);
        }
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
            next: share(self.next.values, first..first + rows, self.job.rows()),
            c: &mut self.state.out[first * vectors..],
            c_stride: vectors,
            cols: 0..vectors,
            rows,
            start: Start::Scaled(factors),
        };
        l.call(product);
    }
}
