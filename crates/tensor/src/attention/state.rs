//! The memory of attention: online softmax states, and what a job needs beside them. Kept from call to call.
use std::sync::{Mutex, PoisonError};

use chalot_simd::AlignedVec;

use super::{KvBlock, block::TOKEN_VECTORS};
use crate::math::lanes::LANES;

/// The largest score before any was seen: finite, so that `exp(-inf - m)` is 0 rather than NaN.
pub(super) const NO_SCORE: f32 = f32::MIN;

/// The shape of a job's memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    /// Rows of queries: tokens times heads of the group.
    pub rows: usize,
    pub head_dim: usize,
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
    /// The job's queries, `[rows][head_dim]`.
    pub queries: AlignedVec<f32>,
    pub rows: RowScratch,
    pub wide: WideTile,
    /// The states of the current chunk, and of the chunks so far.
    pub current: AlignedVec<[f32; LANES]>,
    pub merged: AlignedVec<[f32; LANES]>,
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
}

/// A tile widened to f32: keys `[head_dim][64]`, values `[64][head_dim, rounded up to 16]`.
#[derive(Debug, Default)]
pub(super) struct WideTile {
    pub keys: AlignedVec<[f32; LANES]>,
    pub values: AlignedVec<[f32; LANES]>,
}

impl Workspace {
    fn fit(&mut self, size: &Size) {
        self.queries.resize_dirty(size.rows * size.head_dim);
        self.rows.bounds.resize_dirty(size.rows);
        self.rows.scores.resize_dirty(size.rows * TOKEN_VECTORS);
        self.rows.factors.resize_dirty(size.row_vectors());
        self.rows.sums.resize_dirty(size.row_vectors());
        self.wide.keys.resize_dirty(size.head_dim * TOKEN_VECTORS);
        self.wide.values.resize_dirty(KvBlock::TOKENS * size.vectors());
        self.current.resize_dirty(size.state());
        self.merged.resize_dirty(size.state());
    }

    fn bytes(&self) -> usize {
        let Self { queries, rows, wide, current, merged } = self;
        let vectors = [&rows.scores, &rows.factors, &rows.sums, &wide.keys, &wide.values, current, merged];
        size_of::<f32>() * queries.capacity()
            + size_of::<Bounds>() * rows.bounds.capacity()
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
