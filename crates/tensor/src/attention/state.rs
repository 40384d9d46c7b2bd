//! The memory of attention: online softmax states, and what a job needs beside them. Kept from call to call.
use std::sync::{Mutex, PoisonError};

use chalot_simd::AlignedVec;

use super::{KvBlock, block::TOKEN_VECTORS};
use crate::math::lanes::{LANES, Pair};

/// The largest score before any was seen: finite, so that `exp(-inf - m)` is 0 rather than NaN.
pub(super) const NO_SCORE: f32 = f32::MIN;

/// The shape of a job's memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Rows of queries: tokens times heads of the group.
    pub rows: usize,
    pub head_dim: usize,
    /// Key-value heads that a thread takes together, at most.
    pub heads: usize,
    /// Whether keys and values are codes; what is not is computed as floats.
    pub integers: bool,
}

impl Size {
    /// Vectors of a row of output.
    pub(super) fn vectors(&self) -> usize {
        self.head_dim.div_ceil(LANES)
    }

    /// Vectors that hold one number a row.
    fn row_vectors(&self) -> usize {
        self.rows.div_ceil(LANES)
    }

    /// Vectors of a [`State`].
    pub(super) fn state(&self) -> usize {
        2 * self.row_vectors() + self.rows * self.vectors()
    }
}

/// The online softmax of a job's rows.
pub(super) struct State<'a> {
    /// The largest score so far, `[rows, rounded up to 16]`.
    pub max: &'a mut [[f32; LANES]],
    /// The sum of `exp(score - max)`, as `max`.
    pub sum: &'a mut [[f32; LANES]],
    /// The sum of `exp(score - max) · value`, `[rows][head_dim, rounded up to 16]`.
    pub out: &'a mut [[f32; LANES]],
}

impl<'a> State<'a> {
    /// The parts of `memory`, `size.state()` long.
    pub(super) fn of(memory: &'a mut [[f32; LANES]], size: &Size) -> Self {
        let (max, rest) = memory.split_at_mut(size.row_vectors());
        let (sum, out) = rest.split_at_mut(size.row_vectors());
        Self { max, sum, out: &mut out[..size.rows * size.vectors()] }
    }

    /// Nothing seen yet.
    pub(super) fn clear(&mut self) {
        self.max.fill([NO_SCORE; LANES]);
        self.sum.fill([0.0; LANES]);
        self.out.fill([0.0; LANES]);
    }
}

/// A finished [`State`].
pub(super) struct Seen<'a> {
    pub max: &'a [[f32; LANES]],
    pub sum: &'a [[f32; LANES]],
    pub out: &'a [[f32; LANES]],
}

impl<'a> Seen<'a> {
    /// The parts of `memory`, `size.state()` long.
    pub(super) fn of(memory: &'a [[f32; LANES]], size: &Size) -> Self {
        let (max, rest) = memory.split_at(size.row_vectors());
        let (sum, out) = rest.split_at(size.row_vectors());
        Self { max, sum, out }
    }
}

/// What one thread needs for a job.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    /// By head.
    pub queries: Vec<Queries>,
    pub rows: RowScratch,
    pub wide: WideTile,
    /// The states of the current chunk, and of the chunks so far.
    pub current: AlignedVec<[f32; LANES]>,
    pub merged: AlignedVec<[f32; LANES]>,
}

/// The queries of a job.
#[derive(Debug, Default)]
pub(super) struct Queries {
    /// `[rows][head_dim]`.
    pub numbers: AlignedVec<f32>,
    /// Where keys are codes: the queries as pairs of codes, `[rows][head_dim / 2, rounded up]`, and per row the step.
    pub codes: AlignedVec<Pair>,
    pub steps: AlignedVec<f32>,
}

impl Queries {
    fn fit(&mut self, size: &Size) {
        self.numbers.resize_dirty(size.rows * size.head_dim);
        if size.integers {
            self.codes.resize_dirty(size.rows * size.head_dim.div_ceil(2));
            self.steps.resize_dirty(size.rows);
        }
    }

    fn bytes(&self) -> usize {
        size_of::<f32>() * (self.numbers.capacity() + self.steps.capacity())
            + size_of::<Pair>() * self.codes.capacity()
    }
}

/// From where to where a row sees a tile; empty when the second is not larger.
pub(super) type Bounds = [u32; 2];

/// What lives for one tile.
#[derive(Debug, Default)]
pub(super) struct RowScratch {
    /// Per row.
    pub bounds: AlignedVec<Bounds>,
    /// Scores, then probabilities, `[rows][64]`.
    pub scores: AlignedVec<[f32; LANES]>,
    /// Per row: the factor of the old sums, and the sum of the tile's probabilities.
    pub factors: AlignedVec<[f32; LANES]>,
    pub sums: AlignedVec<[f32; LANES]>,
    /// Where values are codes: the weights as pairs of codes, `[rows][32]`, and per row their step.
    pub weights: AlignedVec<Pair>,
    pub steps: AlignedVec<f32>,
}

/// A tile widened: to f32, keys `[head_dim][64]`, values `[64][head_dim, rounded up to 16]`; or codes to 16 bits, as
/// they are stored.
#[derive(Debug, Default)]
pub(super) struct WideTile {
    pub keys: AlignedVec<[f32; LANES]>,
    pub values: AlignedVec<[f32; LANES]>,
    pub key_codes: AlignedVec<[Pair; LANES]>,
    pub value_codes: AlignedVec<[Pair; LANES]>,
}

impl Workspace {
    fn fit(&mut self, size: &Size) {
        let Self { queries, rows, wide, current, merged } = self;
        rows.bounds.resize_dirty(size.rows);
        rows.scores.resize_dirty(size.rows * TOKEN_VECTORS);
        rows.factors.resize_dirty(size.row_vectors());
        rows.sums.resize_dirty(size.row_vectors());
        queries.resize_with(queries.len().max(size.heads), Queries::default);
        queries[..size.heads].iter_mut().for_each(|queries| queries.fit(size));
        if size.integers {
            rows.weights.resize_dirty(size.rows * KvBlock::TOKENS / 2);
            rows.steps.resize_dirty(size.rows);
            wide.key_codes.resize_dirty(size.head_dim.div_ceil(2) * TOKEN_VECTORS);
            wide.value_codes.resize_dirty(KvBlock::TOKENS / 2 * size.vectors());
        } else {
            wide.keys.resize_dirty(size.head_dim * TOKEN_VECTORS);
            wide.values.resize_dirty(KvBlock::TOKENS * size.vectors());
        }
        current.resize_dirty(size.state());
        merged.resize_dirty(size.state());
    }

    fn bytes(&self) -> usize {
        let Self { queries, rows, wide, current, merged } = self;
        let vectors = [&rows.scores, &rows.factors, &rows.sums, &wide.keys, &wide.values, current, merged];
        queries.iter().map(Queries::bytes).sum::<usize>()
            + size_of::<f32>() * rows.steps.capacity()
            + size_of::<Bounds>() * rows.bounds.capacity()
            + size_of::<Pair>() * rows.weights.capacity()
            + size_of::<[Pair; LANES]>() * (wide.key_codes.capacity() + wide.value_codes.capacity())
            + size_of::<[f32; LANES]>() * vectors.map(AlignedVec::capacity).iter().sum::<usize>()
    }
}

/// The memory of [`attention`](super::attention), kept between calls: it grows to the largest call, some
/// hundred KiB a thread, and then nothing is allocated any more.
#[derive(Debug, Default)]
pub struct AttentionScratch {
    workspaces: Vec<Mutex<Workspace>>,
    partials: AlignedVec<[f32; LANES]>,
}

impl AttentionScratch {
    /// Empty; nothing is allocated before the first call.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes held.
    pub fn bytes(&mut self) -> usize {
        let partials = size_of::<[f32; LANES]>() * self.partials.capacity();
        let workspaces = self.workspaces.iter_mut();
        partials
            + workspaces.map(|w| w.get_mut().unwrap_or_else(PoisonError::into_inner).bytes()).sum::<usize>()
    }

    /// Memory for `workers` threads on jobs of `size`, and for `partials` states.
    pub(super) fn prepare(
        &mut self,
        workers: usize,
        size: &Size,
        partials: usize,
    ) -> (&[Mutex<Workspace>], &mut [[f32; LANES]]) {
        if self.workspaces.len() < workers {
            self.workspaces.resize_with(workers, Mutex::default);
        }
        for workspace in &mut self.workspaces[..workers] {
            workspace.get_mut().unwrap_or_else(PoisonError::into_inner).fit(size);
        }
        if self.partials.len() < partials * size.state() {
            self.partials.resize_dirty(partials * size.state());
        }
        (&self.workspaces[..workers], &mut self.partials[..partials * size.state()])
    }
}
