//! A job: some consecutive tokens, the query heads of one key-value head (or, one after the other for each tile, of several:
//! heads lie side by side in a block, and memory is read faster in long pieces).
//!
//! Row r of a job is token `r / group`, head `r % group` of the group, so that the rows of a register tile are
//! at one or a few neighbouring positions.
use std::ops::Range;

use super::{
    KvBlock,
    block::{Head, Storage},
    codes::{largest_query, quantize_query},
    float::FloatTile,
    integer::IntegerTile,
    plan::{CHUNK, Call},
    state::{Bounds, Queries, RowScratch, Seen, Size, State, WideTile, Workspace},
    tile::{CacheLine, Number, ROWS},
};
use crate::{
    math::{
        lanes::{Kernel, LANES, Lanes, Pair},
        vector,
    },
    out::SharedOut,
};

/// Tiles of a chunk.
const TILES: usize = CHUNK / KvBlock::TOKENS;

/// What computing a chunk takes.
struct Scratch<'a> {
    /// By head.
    queries: &'a [Queries],
    rows: &'a mut RowScratch,
    wide: &'a mut WideTile,
}

#[derive(Clone)]
pub(super) struct Job<'a, 'call> {
    pub call: &'a Call<'call>,
    pub kv_head: usize,
    pub tokens: Range<usize>,
}

impl Job<'_, '_> {
    /// The same tokens, `n` key-value heads further on.
    #[inline(always)]
    fn head(&self, n: usize) -> Self {
        Self { call: self.call, kv_head: self.kv_head + n, tokens: self.tokens.clone() }
    }

    #[inline(always)]
    pub(super) fn rows(&self) -> usize {
        self.tokens.len() * self.call.group()
    }

    /// Where the query, and the output, of row `r` begin.
    #[inline(always)]
    fn offset(&self, r: usize) -> usize {
        let group = self.call.group();
        let (token, head) = (self.tokens.start + r / group, self.kv_head * group + r % group);
        token * self.call.strides.token + head * self.call.strides.head
    }

    /// Gathers the queries, and makes codes of them where keys are codes.
    #[inline(always)]
    fn gather<L: Lanes>(&self, l: L, queries: &mut Queries) {
        let head_dim = self.call.params.head_dim;
        for (r, row) in queries.numbers.chunks_exact_mut(head_dim).take(self.rows()).enumerate() {
            row.copy_from_slice(&self.call.q[self.offset(r)..][..head_dim]);
        }
        if self.call.integers() {
            let largest = largest_query(head_dim);
            let codes = queries.codes.chunks_exact_mut(head_dim.div_ceil(2)).zip(&mut *queries.steps);
            let rows = queries.numbers.chunks_exact(head_dim).take(self.rows());
            for (row, (codes, step)) in rows.zip(codes) {
                *step = quantize_query(l, row, largest, codes);
            }
        }
    }

    /// What each row sees of the tile that begins at position `base`.
    #[inline(always)]
    pub(super) fn look(&self, base: usize, bounds: &mut [Bounds]) {
        let clip = |position: usize| position.saturating_sub(base).min(KvBlock::TOKENS) as u32;
        for (token, bounds) in self.tokens.clone().zip(bounds.chunks_exact_mut(self.call.group())) {
            let seen = self.call.visible(token);
            bounds.fill([clip(seen.start), clip(seen.end)]);
        }
    }

    /// The tiles of `chunk` that any row sees.
    #[inline(always)]
    fn tiles(&self, chunk: usize) -> Range<usize> {
        let seen = self.call.visible(self.tokens.start).start..self.call.visible(self.tokens.end - 1).end;
        let first = (seen.start / KvBlock::TOKENS).max(chunk * TILES);
        first..seen.end.div_ceil(KvBlock::TOKENS).min((chunk + 1) * TILES)
    }

    /// The memory of the first tile of `chunk`.
    pub(super) fn first_lines(&self, chunk: usize) -> &[CacheLine] {
        (self.call.blocks)(self.tiles(chunk).start).lines(self.kv_head)
    }

    /// The online softmax of one chunk into `states`, of one head each. `after` is what this thread reads next.
    #[inline(always)]
    fn chunk<L: Lanes>(
        &self,
        l: L,
        chunk: usize,
        after: &[CacheLine],
        scratch: &mut Scratch<'_>,
        states: &mut [[f32; LANES]],
        size: &Size,
    ) {
        let heads = states.len() / size.state();
        for state in states.chunks_exact_mut(size.state()) {
            State::of(state, size).clear();
        }
        let tiles = self.tiles(chunk);
        let end = tiles.end;
        for tile in tiles {
            let block = (self.call.blocks)(tile);
            for (head, state) in states.chunks_exact_mut(size.state()).enumerate() {
                // Fetched while this tile is computed: memory is too slow to be asked only when needed.
                let next = if head + 1 < heads {
                    block.lines(self.kv_head + head + 1)
                } else if tile + 1 < end {
                    (self.call.blocks)(tile + 1).lines(self.kv_head)
                } else {
                    after
                };
                self.tile(l, tile, head, next, scratch, &mut State::of(state, size));
            }
        }
    }

    /// The part of a tile in the online softmax of a head. `next` is what is read after it.
    #[inline(always)]
    fn tile<L: Lanes>(
        &self,
        l: L,
        tile: usize,
        head: usize,
        next: &[CacheLine],
        scratch: &mut Scratch<'_>,
        state: &mut State<'_>,
    ) {
        let job = &self.head(head);
        let Scratch { queries, rows, wide } = scratch;
        let queries = &queries[head];
        let head_dim = self.call.params.head_dim;
        let base = tile * KvBlock::TOKENS;
        match (self.call.blocks)(tile).storage() {
            Storage::F32(planes) => {
                let now = planes.head(job.kv_head, head_dim);
                l.call(FloatTile { job, base, queries: &queries.numbers, now, next, rows, state });
            }
            // Read once or twice: widened on the way.
            Storage::F16(planes) if job.rows() <= ROWS => {
                let now = planes.head(job.kv_head, head_dim);
                l.call(FloatTile { job, base, queries: &queries.numbers, now, next, rows, state });
            }
            Storage::F16(planes) => {
                let stored = planes.head(job.kv_head, head_dim);
                l.call(Widen { from: stored.keys, to: &mut wide.keys });
                l.call(Widen { from: stored.values, to: &mut wide.values });
                let now = Head { keys: &wide.keys, values: &wide.values };
                l.call(FloatTile { job, base, queries: &queries.numbers, now, next, rows, state });
            }
            Storage::Int8(codes) => {
                let now = codes.head(job.kv_head, head_dim);
                let scales = [now.key_scales, now.value_scales];
                if job.rows() <= ROWS {
                    let now = Head { keys: now.keys, values: now.values };
                    l.call(IntegerTile { job, base, queries, now, scales, next, rows, state });
                } else {
                    l.call(WidenCodes { from: now.keys, to: &mut wide.key_codes });
                    l.call(WidenCodes { from: now.values, to: &mut wide.value_codes });
                    let now = Head { keys: &wide.key_codes, values: &wide.value_codes };
                    l.call(IntegerTile { job, base, queries, now, scales, next, rows, state });
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
    /// What this thread reads after it.
    pub after: &'a [CacheLine],
    pub size: Size,
    pub workspace: &'a mut Workspace,
    pub out: &'a SharedOut<'a, f32>,
}

impl Kernel for Whole<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Workspace { queries, rows, wide, current, merged } = self.workspace;
        self.job.gather(l, &mut queries[0]);
        let chunks = self.job.call.chunks(&self.job.tokens);
        if chunks.len() == 1 {
            let scratch = &mut Scratch { queries, rows, wide };
            self.job.chunk(l, chunks.start, self.after, scratch, merged, &self.size);
        } else {
            for chunk in chunks.clone() {
                let after = if chunk + 1 < chunks.end { self.job.first_lines(chunk + 1) } else { self.after };
                self.job.chunk(l, chunk, after, &mut Scratch { queries, rows, wide }, current, &self.size);
                let merged = &mut State::of(merged, &self.size);
                self.job.merge(l, chunk, &Seen::of(current, &self.size), rows, merged);
            }
        }
        self.job.finish(l, &mut State::of(merged, &self.size), self.out);
    }
}

/// One chunk of a job, or of several that differ by the head, the states left in `memory`.
pub(super) struct OneChunk<'a, 'call> {
    /// That of the first head.
    pub job: Job<'a, 'call>,
    pub size: Size,
    pub chunk: usize,
    /// What this thread reads after it.
    pub after: &'a [CacheLine],
    pub workspace: &'a mut Workspace,
    /// `[heads][size.state()]`.
    pub memory: &'a mut [[f32; LANES]],
}

impl Kernel for OneChunk<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Workspace { queries, rows, wide, .. } = self.workspace;
        let heads = self.memory.len() / self.size.state();
        for (head, queries) in queries[..heads].iter_mut().enumerate() {
            self.job.head(head).gather(l, queries);
        }
        let scratch = &mut Scratch { queries, rows, wide };
        self.job.chunk(l, self.chunk, self.after, scratch, self.memory, &self.size);
    }
}

/// The end of a job whose chunks were done one by one.
pub(super) struct Merge<'a, 'call> {
    pub job: Job<'a, 'call>,
    pub size: Size,
    /// The chunk of the first state.
    pub first_chunk: usize,
    /// Of each chunk a state, `stride` apart.
    pub states: &'a [[f32; LANES]],
    pub stride: usize,
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
            let state = &self.states[(chunk - self.first_chunk) * self.stride..][..self.size.state()];
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

impl<E: Number> Kernel for Widen<'_, E> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for (from, to) in self.from.iter().zip(self.to) {
            l.store(E::widen(l, from), to);
        }
    }
}

/// Codes to 16 bits.
struct WidenCodes<'a> {
    from: &'a [[[i8; 2]; LANES]],
    to: &'a mut [[Pair; LANES]],
}

impl Kernel for WidenCodes<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for (from, to) in self.from.iter().zip(self.to) {
            l.store_pairs(l.load_pairs_i8(from), to);
        }
    }
}
