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
}

impl<'a> Outputs<'a> {
    /// `y[m][rows]`, all of them.
    pub fn all(y: &'a mut [f32], rows: usize) -> Self {
        Self { to: SharedOut::new(y), token: 0, row: 0, rows }
    }

    /// Those of a piece by itself.
    pub fn of_piece(y: &'a mut [f32], tokens: &Range<usize>, rows: &Range<usize>) -> Self {
        Self { to: SharedOut::new(y), token: tokens.start, row: rows.start, rows: rows.len() }
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
        match <&mut [[f32; TILE_ROWS]; D]>::try_from(out.as_chunks_mut().0) {
            Ok(all) => *all = *outputs, // of a known length: no call
            Err(_) => out.copy_from_slice(&outputs.as_flattened()[..out.len()]),
        }
    }
}
