//! Products of float weights. Each output is one chain of fused multiply-adds over k, so the parallelism is over
//! rows and tokens only.
use std::{marker::PhantomData, ops::Range};

use chalot_simd::prefetch;

use super::{
    Aligned, PANEL_TOKEN_TILES, PREFETCH,
    lanes::{Kernel, ProductLanes},
    outputs::{Outputs, store_tiles},
    weights::Float,
};
use crate::{
    activations::{MAX_TOKENS, token_tiles},
    math::lanes::Lanes,
    matrix::{Matrix, TILE_ROWS},
};

/// Columns of a panel (with four tiles of rows, 20 KiB).
const COLS: usize = 80;

/// One product of a float matrix.
#[derive(Copy, Clone)]
pub(super) struct FloatProduct<'a, F> {
    pub w: &'a Matrix,
    /// By token tiles, `[tile][k][tokens]`.
    pub x: &'a [f32],
    pub m: usize,
    pub y: Outputs<'a>,
    pub float: PhantomData<F>,
}

impl<'a, F> FloatProduct<'a, F> {
    fn x_tile(&self, tokens: &Range<usize>) -> &'a [f32] {
        let k = self.w.cols();
        &self.x[tokens.start * k..tokens.end * k]
    }
}

/// Few tokens: tiles of rows against one token tile, D at a time, straight from the image.
struct Direct<'a, F, const D: usize, const T: usize> {
    product: FloatProduct<'a, F>,
    tiles: Range<usize>,
    x: &'a [f32],
    first_token: usize,
}

impl<F: Float, const D: usize, const T: usize> Kernel for Direct<'_, F, D, T> {
    #[inline(always)]
    fn run<P: ProductLanes, const R_: usize, const D_: usize>(self, p: P) {
        let Self { product, tiles, x, first_token } = self;
        let f = p.floats();
        let x = x.as_chunks::<T>().0;
        // To the same place of later tiles: a shorter reach would ask again for what the neighbour has just read.
        let ahead = PREFETCH.next_multiple_of(product.w.tile_len() * D);
        let end = tiles.end;
        for first in tiles.step_by(D) {
            // Beyond the end the last tile is computed again, and dropped.
            let weights: [_; D] =
                std::array::from_fn(|d| &F::tile(product.w, (first + d).min(end - 1))[..x.len()]);
            let mut acc = [[f.splat(0.0); T]; D];
            for (k, x) in x.iter().enumerate() {
                for d in 0..D {
                    let w = &weights[d][k];
                    prefetch(w.as_ptr().cast::<u8>().wrapping_add(ahead));
                    let w = F::load(p, w);
                    for t in 0..T {
                        acc[d][t] = f.fma(w, f.splat(x[t]), acc[d][t]);
                    }
                }
            }
            let mut outputs = [[[0.0; TILE_ROWS]; D]; T];
            for d in 0..D {
                for t in 0..T {
                    f.store(acc[d][t], &mut outputs[t][d]);
                }
            }
            store_tiles(&product.y, (product.w.rows(), first..end, first_token), &outputs);
        }
    }
}

/// Few tokens: some tiles of rows against all tokens.
pub(super) struct DirectTask<'a, F> {
    pub product: FloatProduct<'a, F>,
    pub tiles: Range<usize>,
}

impl<F: Float> Kernel for DirectTask<'_, F> {
    #[inline(always)]
    fn run<P: ProductLanes, const R: usize, const D: usize>(self, p: P) {
        let Self { product, tiles } = self;
        // A few tiles of rows at a time, so that the second token tile finds their weights in the cache.
        let step = if product.m <= MAX_TOKENS { tiles.len().max(1) } else { D };
        for first in tiles.clone().step_by(step) {
            let tiles = first..tiles.end.min(first + step);
            for tokens in token_tiles(product.m) {
                let (x, first_token, tiles) = (product.x_tile(&tokens), tokens.start, tiles.clone());
                match tokens.len() {
                    1 => p.call(Direct::<F, D, 1> { product, tiles, x, first_token }),
                    2 => p.call(Direct::<F, D, 2> { product, tiles, x, first_token }),
                    3 => p.call(Direct::<F, D, 3> { product, tiles, x, first_token }),
                    4 => p.call(Direct::<F, D, 4> { product, tiles, x, first_token }),
                    5 => p.call(Direct::<F, D, 5> { product, tiles, x, first_token }),
                    _ => p.call(Direct::<F, D, MAX_TOKENS> { product, tiles, x, first_token }),
                }
            }
        }
    }
}

/// Many tokens: panels of R tiles of rows against some token tiles.
pub(super) struct PanelTask<'a, F> {
    pub product: FloatProduct<'a, F>,
    /// A multiple of R tiles, except at the end of the matrix.
    pub tiles: Range<usize>,
    /// At most [`PANEL_TOKEN_TILES`].
    pub token_tiles: Range<usize>,
}

impl<F: Float> Kernel for PanelTask<'_, F> {
    #[inline(always)]
    fn run<P: ProductLanes, const R: usize, const D: usize>(self, p: P) {
        let Self { product, tiles, token_tiles: range } = self;
        let Aligned(panel) = &mut Aligned([[[0.0; TILE_ROWS]; R]; COLS]);
        let Aligned(carry) = &mut Aligned([[[0.0; TILE_ROWS]; R]; MAX_TOKENS * PANEL_TOKEN_TILES]);
        let cols = product.w.cols();
        for first_tile in tiles.clone().step_by(R) {
            let tiles = first_tile..tiles.end.min(first_tile + R);
            for first_col in (0..cols).step_by(COLS) {
                let piece = first_col..cols.min(first_col + COLS);
                p.call(Widen { product, tiles: tiles.clone(), cols: piece.clone(), panel });
                let panel = &panel[..piece.len()];
                let mut carry = &mut carry[..];
                for tokens in token_tiles(product.m).skip(range.start).take(range.len()) {
                    let (now, rest) = carry.split_at_mut(tokens.len());
                    carry = rest;
                    let x =
                        &product.x_tile(&tokens)[piece.start * tokens.len()..][..piece.len() * tokens.len()];
                    let tile = Tile { is_first: piece.start == 0, panel, x, carry: now };
                    match tokens.len() {
                        4 => p.call(Tokens::<R, 4>(tile)),
                        5 => p.call(Tokens::<R, 5>(tile)),
                        6 => p.call(Tokens::<R, 6>(tile)),
                        _ => unreachable!("more than 12 tokens make tiles of 4 to 6"),
                    }
                }
            }
            let mut carry = &carry[..];
            for tokens in token_tiles(product.m).skip(range.start).take(range.len()) {
                let (now, rest) = carry.split_at(tokens.len());
                carry = rest;
                store_tiles(&product.y, (product.w.rows(), tiles.clone(), tokens.start), now);
            }
        }
    }
}

/// Some columns of some tiles of rows, as f32.
struct Widen<'a, F, const R: usize> {
    product: FloatProduct<'a, F>,
    /// At most R.
    tiles: Range<usize>,
    cols: Range<usize>,
    /// `[col]`
    panel: &'a mut [[[f32; TILE_ROWS]; R]; COLS],
}

impl<F: Float, const R: usize> Kernel for Widen<'_, F, R> {
    #[inline(always)]
    fn run<P: ProductLanes, const R_: usize, const D_: usize>(self, p: P) {
        for (r, tile) in self.tiles.enumerate() {
            let columns = &F::tile(self.product.w, tile)[self.cols.clone()];
            for (out, column) in self.panel.iter_mut().zip(columns) {
                p.floats().store(F::load(p, column), &mut out[r]);
            }
        }
    }
}

/// One piece of columns of R tiles of rows against one tile of tokens.
struct Tile<'a, const R: usize> {
    is_first: bool,
    panel: &'a [[[f32; TILE_ROWS]; R]],
    /// `[col][tokens]`
    x: &'a [f32],
    /// The outputs so far, `[tokens]`.
    carry: &'a mut [[[f32; TILE_ROWS]; R]],
}

/// A [`Tile`] of T tokens: the register tile.
struct Tokens<'a, const R: usize, const T: usize>(Tile<'a, R>);

impl<const R: usize, const T: usize> Kernel for Tokens<'_, R, T> {
    #[inline(always)]
    fn run<P: ProductLanes, const R_: usize, const D_: usize>(self, p: P) {
        let Tile { is_first, panel, x, carry } = self.0;
        let f = p.floats();
        let mut acc = [[f.splat(0.0); T]; R];
        if !is_first {
            for r in 0..R {
                for t in 0..T {
                    acc[r][t] = f.load(&carry[t][r]);
                }
            }
        }
        for (column, x) in panel.iter().zip(x.as_chunks::<T>().0) {
            for r in 0..R {
                let w = f.load(&column[r]);
                for t in 0..T {
                    acc[r][t] = f.fma(w, f.splat(x[t]), acc[r][t]);
                }
            }
        }
        for r in 0..R {
            for t in 0..T {
                f.store(acc[r][t], &mut carry[t][r]);
            }
        }
    }
}
