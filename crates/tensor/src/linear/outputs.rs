//! Where a product writes.
use std::ops::Range;

use crate::{matrix::TILE_ROWS, out::SharedOut};

/// The outputs of a product, or of a piece of it: some rows of some tokens, token by token.
#[derive(Clone, Copy)]
pub(super) struct Outputs<'a> {
    to: SharedOut<'a, f32>,
    /// The first of both.
    token: usize,
    row: usize,
    /// Elements of a token.
    rows: usize,
    /// Whether they are added to what is there.
    adds: bool,
}

impl<'a> Outputs<'a> {
    /// `y[m][rows]`, all of them.
    pub fn all(y: &'a mut [f32], rows: usize) -> Self {
        Self { to: SharedOut::new(y), token: 0, row: 0, rows, adds: false }
    }

    /// The same, added to what is there.
    pub fn onto(y: &'a mut [f32], rows: usize) -> Self {
        Self { adds: true, ..Self::all(y, rows) }
    }

    /// Those of a piece by itself.
    pub fn of_piece(y: &'a mut [f32], tokens: &Range<usize>, rows: &Range<usize>) -> Self {
        let (token, row) = (tokens.start, rows.start);
        Self { to: SharedOut::new(y), token, row, rows: rows.len(), adds: false }
    }

    /// Some rows of a token.
    ///
    /// # Panics
    /// When they are not all here.
    ///
    /// # Safety
    /// They are the calling task's own, and the part is not alive elsewhere.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // disjointness is the caller's promise
    pub unsafe fn part(&self, token: usize, rows: Range<usize>) -> &mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { self.to.part(self.place(token, rows.start), rows.len()) }
    }

    /// Whether outputs are added to what is there.
    #[inline(always)]
    pub fn adds(&self) -> bool {
        self.adds
    }

    /// The memory of an output, to be asked for; it need not be here.
    #[inline(always)]
    pub fn address(&self, token: usize, row: usize) -> *const f32 {
        self.to.pointer().wrapping_add(self.place(token, row))
    }

    #[inline(always)]
    fn place(&self, token: usize, row: usize) -> usize {
        (token - self.token) * self.rows + row - self.row
    }
}

/// Writes the outputs of some tokens, from `first_token` on, for the first D of `tiles` (no tile beyond them: it may be
/// another task's), as far as there are rows.
#[inline(always)]
pub(super) fn store_tiles<const D: usize>(
    y: &Outputs<'_>,
    (rows, tiles, first_token): (usize, Range<usize>, usize),
    outputs: &[[[f32; TILE_ROWS]; D]],
) {
    let row = tiles.start * TILE_ROWS;
    let end = (row + tiles.len().min(D) * TILE_ROWS).min(rows);
    for (t, outputs) in outputs.iter().enumerate() {
        // SAFETY: a task has its own tiles of rows and token tiles.
        let out = unsafe { y.part(first_token + t, row..end) };
        // Of a known length, where all are there: no call.
        let all = <&mut [[f32; TILE_ROWS]; D]>::try_from(out.as_chunks_mut().0);
        match (all, y.adds) {
            (Ok(all), false) => *all = *outputs,
            (Ok(all), true) => add(all.as_flattened_mut(), outputs.as_flattened()),
            (Err(_), false) => out.copy_from_slice(&outputs.as_flattened()[..out.len()]),
            (Err(_), true) => add(out, outputs.as_flattened()),
        }
    }
}

#[inline(always)]
fn add(to: &mut [f32], outputs: &[f32]) {
    to.iter_mut().zip(outputs).for_each(|(to, y)| *to += y);
}
