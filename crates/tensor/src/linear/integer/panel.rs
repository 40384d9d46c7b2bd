//! Many tokens: a panel of weights is unpacked into the first-level cache and meets token tile after token tile.
use std::{marker::PhantomData, ops::Range};

use super::{Integer, first_sums, scale_sums, store};
use crate::{
    activations::{MAX_TOKENS, QuantizedTile, token_tiles},
    linear::{
        lanes::{self, Kernel, ProductLanes, Quad},
        weights::{Code, Scales},
    },
    math::lanes::Lanes,
    matrix::{BLOCK, Matrix, TILE_ROWS},
};

/// Quads of columns in a panel: with four tiles of rows 20 KiB, which leaves room in a first-level cache. A multiple
/// of the quads of every coding's block.
const QUADS: usize = 80;
/// Token tiles that a panel is used for before it is unpacked anew.
pub(in crate::linear) const PANEL_TOKEN_TILES: usize = 16;
/// A quad of columns of R tiles of rows.
type PanelQuad<const R: usize> = [[u8; BLOCK]; R];
/// What passes from one piece of columns to the next, for each token and tile of rows: sums as i32 in the middle of
/// a segment, outputs so far as the bits of f32 between segments.
type Carry<const R: usize> = [[i32; TILE_ROWS]; R];

/// Many tokens: panels of R tiles of rows against some token tiles.
pub(in crate::linear) struct PanelTask<'a, C, S, const Q: usize> {
    pub product: Integer<'a, S>,
    /// A multiple of R tiles, except at the end of the matrix.
    pub tiles: Range<usize>,
    /// At most [`PANEL_TOKEN_TILES`].
    pub token_tiles: Range<usize>,
    pub code: PhantomData<C>,
}

/// A run of columns that is unpacked at once: whole segments, or a piece of one.
#[derive(Copy, Clone)]
struct Piece {
    /// The first segment.
    segment: usize,
    segments: usize,
    /// Quads of one segment within the piece.
    quads: usize,
    /// The first of them, within the segment.
    first_quad: usize,
    begins_segment: bool,
    ends_segment: bool,
    is_first: bool,
    is_last: bool,
}

impl Piece {
    /// The pieces of a matrix, in order.
    fn all(w: &Matrix) -> impl Iterator<Item = Piece> {
        let segment_quads = w.segment_cols().div_ceil(4);
        let count = w.segments();
        let whole = (QUADS / segment_quads).min(count); // segments that fit
        let pieces = if whole > 0 { count.div_ceil(whole) } else { segment_quads.div_ceil(QUADS) };
        (0..pieces).map(move |piece| {
            let (is_first, is_last) = (piece == 0, piece + 1 == pieces);
            if whole > 0 {
                let segment = piece * whole;
                Piece {
                    segment,
                    segments: whole.min(count - segment),
                    quads: segment_quads,
                    first_quad: 0,
                    begins_segment: true,
                    ends_segment: true,
                    is_first,
                    is_last,
                }
            } else {
                let first_quad = piece * QUADS;
                Piece {
                    segment: 0,
                    segments: 1,
                    quads: QUADS.min(segment_quads - first_quad),
                    first_quad,
                    begins_segment: is_first,
                    ends_segment: is_last,
                    is_first,
                    is_last,
                }
            }
        })
    }
}

impl<C: Code<Q>, S: Scales, const Q: usize> Kernel for PanelTask<'_, C, S, Q> {
    #[inline(always)]
    fn run<P: ProductLanes, const R: usize>(self, p: P) {
        let Self { product, tiles, token_tiles: range, code } = self;
        let mut panel = [[[0; BLOCK]; R]; QUADS];
        let mut carry = [[[0; TILE_ROWS]; R]; MAX_TOKENS * PANEL_TOKEN_TILES];
        for first_tile in tiles.clone().step_by(R) {
            let tiles = first_tile..tiles.end.min(first_tile + R);
            for piece in Piece::all(product.w) {
                p.call(Unpack::<C, Q, R> { w: product.w, tiles: tiles.clone(), piece, panel: &mut panel, code });
                let mut carry = &mut carry[..];
                for tokens in token_tiles(product.m).skip(range.start).take(range.len()) {
                    let (now, rest) = carry.split_at_mut(tokens.len());
                    carry = rest;
                    let (x, first_token, tiles) = (product.x.tile(&tokens), tokens.start, tiles.clone());
                    let (panel, carry) = (&panel, now);
                    let range = PhantomData::<C::Range>;
                    match tokens.len() {
                        4 => p.call(Tile::<_, _, R, 4> { product, tiles, piece, panel, x, carry, first_token, range }),
                        5 => p.call(Tile::<_, _, R, 5> { product, tiles, piece, panel, x, carry, first_token, range }),
                        6 => p.call(Tile::<_, _, R, 6> { product, tiles, piece, panel, x, carry, first_token, range }),
                        _ => unreachable!("more than 12 tokens make tiles of 4 to 6"),
                    }
                }
            }
        }
    }
}

/// Unpacks a piece of some tiles of rows.
struct Unpack<'a, C, const Q: usize, const R: usize> {
    w: &'a Matrix,
    /// At most R.
    tiles: Range<usize>,
    piece: Piece,
    /// `[segment of the piece][quad]`
    panel: &'a mut [PanelQuad<R>; QUADS],
    code: PhantomData<C>,
}

impl<C: Code<Q>, const Q: usize, const R: usize> Kernel for Unpack<'_, C, Q, R> {
    #[inline(always)]
    fn run<P: ProductLanes, const R_: usize>(self, p: P) {
        let Self { w, tiles, piece, panel, .. } = self;
        for (r, tile) in tiles.enumerate() {
            let segments = w.tile_blocks(tile).chunks(w.segment_blocks()).skip(piece.segment);
            for (blocks, panel) in segments.zip(panel.chunks_mut(piece.quads)).take(piece.segments) {
                for (block, quads) in blocks[piece.first_quad / Q..].iter().zip(panel.chunks_mut(Q)) {
                    let codes = C::unpack(p, p.load(block));
                    for (quad, codes) in quads.iter_mut().zip(codes) {
                        p.store(codes, &mut quad[r]);
                    }
                }
            }
        }
    }
}

/// One piece of R tiles of rows against one tile of T tokens: the register tile.
struct Tile<'a, C, S, const R: usize, const T: usize> {
    product: Integer<'a, S>,
    /// At most R; what is computed beyond them is dropped.
    tiles: Range<usize>,
    piece: Piece,
    panel: &'a [PanelQuad<R>; QUADS],
    x: QuantizedTile<'a>,
    /// `[tokens]`
    carry: &'a mut [Carry<R>],
    first_token: usize,
    range: PhantomData<C>,
}

impl<C: lanes::Range, S: Scales, const R: usize, const T: usize> Kernel for Tile<'_, C, S, R, T> {
    #[inline(always)]
    fn run<P: ProductLanes, const R_: usize>(self, p: P) {
        let Self { product, tiles, piece, panel, x, carry, first_token, .. } = self;
        let f = p.floats();
        let mut acc = [[f.splat(0.0); T]; R];
        if piece.begins_segment && !piece.is_first {
            for r in 0..R {
                for t in 0..T {
                    acc[r][t] = f.load(bytemuck::cast_ref(&carry[t][r]));
                }
            }
        }
        let quads = x.quads.as_chunks::<T>().0;
        let factors = x.factors.as_chunks::<T>().0;
        let qsums = x.sums.as_chunks::<T>().0;
        for (i, panel) in panel.chunks(piece.quads).take(piece.segments).enumerate() {
            let segment = piece.segment + i;
            let quads = &quads[segment * x.segment_quads + piece.first_quad..][..piece.quads];
            let mut sums = [first_sums::<P, T>(p, product.zero, &qsums[segment]); R];
            if !piece.begins_segment {
                for r in 0..R {
                    for t in 0..T {
                        sums[r][t] = p.load_sums(&carry[t][r]);
                    }
                }
            }
            add_panel::<P, C, R, T>(p, panel, quads, &mut sums);
            if !piece.ends_segment {
                for r in 0..R {
                    for t in 0..T {
                        p.store_sums(sums[r][t], &mut carry[t][r]);
                    }
                }
                return;
            }
            for r in 0..R {
                // Of a tile beyond the end, any scale will do.
                let tile = (tiles.start + r).min(tiles.end - 1);
                let tokens = (&factors[segment], &qsums[segment]);
                scale_sums(p, &product.scales, (tile, segment), tokens, &sums[r], &mut acc[r]);
            }
        }
        if piece.is_last {
            // Not `tiles.zip(&acc)`: a loop of unknown length would keep `acc` in memory all along.
            for r in 0..R {
                if r < tiles.len() {
                    store(p, &product.y, (product.w.rows(), tiles.start + r, first_token), &acc[r]);
                }
            }
        } else {
            for r in 0..R {
                for t in 0..T {
                    f.store(acc[r][t], bytemuck::cast_mut(&mut carry[t][r]));
                }
            }
        }
    }
}

/// Adds to `sums` the products of a panel with the tokens' quads.
#[inline(always)]
fn add_panel<P: ProductLanes, C: lanes::Range, const R: usize, const T: usize>(
    p: P,
    panel: &[PanelQuad<R>],
    x: &[[Quad; T]],
    sums: &mut [[P::Sums; T]; R],
) {
    let step = p.steps::<C>();
    for (panel, x) in panel.chunks(step).zip(x.chunks(step)) {
        let mut dots = [[p.no_dots(); T]; R];
        for (quad, x) in panel.iter().zip(x) {
            for r in 0..R {
                let codes = p.load(&quad[r]);
                for t in 0..T {
                    dots[r][t] = p.dot::<C>(dots[r][t], codes, x[t]);
                }
            }
        }
        for r in 0..R {
            for t in 0..T {
                sums[r][t] = p.finish::<C>(dots[r][t], sums[r][t]);
            }
        }
    }
}
