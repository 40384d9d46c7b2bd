//! Many tokens: a panel of weights is unpacked into the first-level cache and meets token tile after token tile.
use std::{marker::PhantomData, ops::Range};

use chalot_simd::prefetch;

use super::{Integer, first_sums, prefetch_outputs};
use crate::{
    activations::{MAX_TOKENS, QuantizedTile, token_tiles},
    linear::{
        Aligned, PANEL_TOKEN_TILES,
        lanes::{self, Kernel, ProductLanes, Quad},
        outputs::store_tiles,
        weights::{Code, Scales},
    },
    math::lanes::Lanes,
    matrix::{BLOCK, Matrix, TILE_ROWS},
};

/// Quads of columns in a panel: with four tiles of rows 20 KiB, which leaves room in a first-level cache. A multiple
/// of the quads of every coding's block.
const QUADS: usize = 80;

/// A quad of columns of R tiles of rows.
type PanelQuad<const R: usize> = [[u8; BLOCK]; R];
/// What passes from one piece of columns to the next, for a token and R tiles of rows: outputs so far, or in the middle
/// of a segment its sums as bits.
type Carry<const R: usize> = [[f32; TILE_ROWS]; R];

/// Some tiles of rows against some token tiles.
pub(in crate::linear) struct PanelTask<'a, C, S, const Q: usize> {
    pub product: Integer<'a, S>,
    pub tiles: Range<usize>,
    /// At most [`PANEL_TOKEN_TILES`].
    pub token_tiles: Range<usize>,
    pub code: PhantomData<C>,
}

impl<C: Code<Q>, S: Scales, const Q: usize> Kernel for PanelTask<'_, C, S, Q> {
    #[inline(always)]
    fn run<P: ProductLanes, const R: usize, const D_: usize>(self, p: P) {
        if S::ONLY_GROUPS || self.product.w.segments() > 1 {
            self.panels::<P, R, true>(p);
        } else {
            self.panels::<P, R, false>(p);
        }
    }
}

impl<C: Code<Q>, S: Scales, const Q: usize> PanelTask<'_, C, S, Q> {
    #[inline(always)]
    fn panels<P: ProductLanes, const R: usize, const GROUPS: bool>(self, p: P) {
        let Self { product, tiles, token_tiles: range, code } = self;
        let Aligned(panel) = &mut Aligned([[[0; BLOCK]; R]; QUADS]);
        let Aligned(carry) = &mut Aligned([[[0.0; TILE_ROWS]; R]; MAX_TOKENS * PANEL_TOKEN_TILES]);
        for first_tile in tiles.clone().step_by(R) {
            let tiles = first_tile..tiles.end.min(first_tile + R);
            for piece in Piece::all(product.w) {
                p.call(Unpack::<C, Q, R> { w: product.w, tiles: tiles.clone(), piece, panel, code });
                let mut carry = &mut carry[..];
                for tokens in token_tiles(product.m).skip(range.start).take(range.len()) {
                    let (now, rest) = carry.split_at_mut(tokens.len());
                    carry = rest;
                    if piece.is_last {
                        prefetch_outputs(&product, &tiles, &tokens);
                    }
                    let x = product.x.tile(&tokens);
                    let tile = Tile { product, tiles: tiles.clone(), piece, panel, x, carry: now };
                    let range = PhantomData::<C::Range>;
                    match (tokens.len(), GROUPS) {
                        (4, false) => p.call(Whole::<_, _, R, 4>(tile, range)),
                        (5, false) => p.call(Whole::<_, _, R, 5>(tile, range)),
                        (6, false) => p.call(Whole::<_, _, R, 6>(tile, range)),
                        (4, true) => p.call(Groups::<_, _, R, 4>(tile, range)),
                        (5, true) => p.call(Groups::<_, _, R, 5>(tile, range)),
                        (6, true) => p.call(Groups::<_, _, R, 6>(tile, range)),
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

/// A run of columns that is unpacked at once: whole segments, or a part of the only one.
#[derive(Copy, Clone)]
struct Piece {
    /// The first segment.
    segment: usize,
    segments: usize,
    /// Quads of one segment within the piece.
    quads: usize,
    /// The first of them, within the segment.
    first_quad: usize,
    is_first: bool,
    is_last: bool,
}

impl Piece {
    /// The pieces of a matrix, in order.
    fn all(w: &Matrix) -> impl Iterator<Item = Piece> {
        let segment_quads = w.segment_cols().div_ceil(4);
        let count = w.segments();
        let whole = (QUADS / segment_quads).min(count); // segments that fit, or none
        let pieces = if whole > 0 { count.div_ceil(whole) } else { segment_quads.div_ceil(QUADS) };
        (0..pieces).map(move |piece| {
            let (is_first, is_last) = (piece == 0, piece + 1 == pieces);
            if whole > 0 {
                let segment = piece * whole;
                let segments = whole.min(count - segment);
                Piece { segment, segments, quads: segment_quads, first_quad: 0, is_first, is_last }
            } else {
                let first_quad = piece * QUADS;
                let quads = QUADS.min(segment_quads - first_quad);
                Piece { segment: 0, segments: 1, quads, first_quad, is_first, is_last }
            }
        })
    }
}

/// Unpacks a piece of at most R tiles of rows.
struct Unpack<'a, C, const Q: usize, const R: usize> {
    w: &'a Matrix,
    tiles: Range<usize>,
    piece: Piece,
    /// `[segment of the piece][quad]`
    panel: &'a mut [PanelQuad<R>; QUADS],
    code: PhantomData<C>,
}

impl<C: Code<Q>, const Q: usize, const R: usize> Kernel for Unpack<'_, C, Q, R> {
    #[inline(always)]
    fn run<P: ProductLanes, const R_: usize, const D_: usize>(self, p: P) {
        let Self { w, tiles, piece, panel, .. } = self;
        let ahead = match piece.is_last {
            false => piece.segments * piece.quads / Q * BLOCK,
            true => {
                let before = piece.segment * w.segment_blocks() + piece.first_quad / Q;
                (R * w.tile_len()).saturating_sub(before * BLOCK)
            }
        };
        for (r, tile) in tiles.enumerate() {
            let segments = w.tile_blocks(tile).chunks(w.segment_blocks()).skip(piece.segment);
            for (blocks, panel) in segments.zip(panel.chunks_mut(piece.quads)).take(piece.segments) {
                for (block, quads) in blocks[piece.first_quad / Q..].iter().zip(panel.chunks_mut(Q)) {
                    // The next piece's (or the next tiles' first), while this one is computed.
                    prefetch(block.as_ptr().wrapping_add(ahead));
                    let codes = C::unpack(p, p.load(block));
                    for (quad, codes) in quads.iter_mut().zip(codes) {
                        p.store(codes, &mut quad[r]);
                    }
                }
            }
        }
    }
}

/// One piece of R tiles of rows against one tile of tokens.
struct Tile<'a, S, const R: usize> {
    product: Integer<'a, S>,
    /// At most R; what is computed beyond them is dropped.
    tiles: Range<usize>,
    piece: Piece,
    panel: &'a [PanelQuad<R>; QUADS],
    x: QuantizedTile<'a>,
    /// `[tokens]`
    carry: &'a mut [Carry<R>],
}

impl<S, const R: usize> Tile<'_, S, R> {
    /// The tiles whose scales to use; of one beyond the end any will do.
    #[inline(always)]
    fn tile_numbers(&self) -> [usize; R] {
        std::array::from_fn(|r| (self.tiles.start + r).min(self.tiles.end - 1))
    }
}

/// A [`Tile`] of T tokens of a matrix of one segment: R x T sums.
struct Whole<'a, C, S, const R: usize, const T: usize>(Tile<'a, S, R>, PhantomData<C>);

impl<C: lanes::Range, S: Scales, const R: usize, const T: usize> Kernel for Whole<'_, C, S, R, T> {
    #[inline(always)]
    fn run<P: ProductLanes, const R_: usize, const D_: usize>(self, p: P) {
        let tiles = self.0.tile_numbers();
        let Tile { product, piece, panel, x, carry, .. } = self.0;
        let (factors, qsums) = (&x.factors.as_chunks::<T>().0[0], &x.sums.as_chunks::<T>().0[0]);
        let mut sums = [first_sums::<P, C, T>(p, product.zero, qsums); R];
        if !piece.is_first {
            for r in 0..R {
                for t in 0..T {
                    sums[r][t] = p.load_sums(bytemuck::cast_ref(&carry[t][r]));
                }
            }
        }
        let quads = &x.quads.as_chunks::<T>().0[piece.first_quad..][..piece.quads];
        add_panel::<P, C, R, T>(p, &panel[..piece.quads], quads, &mut sums);
        if !piece.is_last {
            for r in 0..R {
                for t in 0..T {
                    p.store_sums(sums[r][t], bytemuck::cast_mut(&mut carry[t][r]));
                }
            }
        } else {
            let Some(outputs) = carry.first_chunk_mut::<T>() else { return };
            *outputs = [[[0.0; TILE_ROWS]; R]; T];
            add_scaled(p, &product.scales, (tiles, 0), (factors, qsums), &sums, outputs);
        }
    }
}

/// A [`Tile`] of T tokens of a matrix of groups: R x T sums. The outputs, as many, stay in memory: the registers are better used
/// for sums of twice as many tiles (docs/LOG.md, "Kernels").
struct Groups<'a, C, S, const R: usize, const T: usize>(Tile<'a, S, R>, PhantomData<C>);

impl<C: lanes::Range, S: Scales, const R: usize, const T: usize> Kernel for Groups<'_, C, S, R, T> {
    #[inline(always)]
    fn run<P: ProductLanes, const R_: usize, const D_: usize>(self, p: P) {
        /// Quads of the smallest groups, whose loop is better without one.
        const SMALLEST: usize = 8;
        let Tile { piece, panel, x, .. } = self.0;
        let quads = &x.quads.as_chunks::<T>().0[piece.segment * x.segment_quads..];
        if (piece.quads, x.segment_quads) == (SMALLEST, SMALLEST) {
            self.add(p, panel.as_chunks::<SMALLEST>().0.iter().zip(quads.as_chunks::<SMALLEST>().0));
        } else {
            let quads = quads.chunks(x.segment_quads).map(|quads| &quads[..piece.quads]);
            self.add(p, panel.chunks(piece.quads).zip(quads));
        }
    }
}

impl<C: lanes::Range, S: Scales, const R: usize, const T: usize> Groups<'_, C, S, R, T> {
    /// Of each segment its panel and the tokens' quads, in `segments`, which may go on beyond the piece.
    #[inline(always)]
    fn add<P: ProductLanes, W: AsRef<[PanelQuad<R>]>, X: AsRef<[[Quad; T]]>>(
        self,
        p: P,
        segments: impl Iterator<Item = (W, X)>,
    ) {
        let tiles = self.0.tile_numbers();
        let Tile { product, piece, x, carry, .. } = self.0;
        let Some(outputs) = carry.first_chunk_mut::<T>() else { return };
        if piece.is_first {
            *outputs = [[[0.0; TILE_ROWS]; R]; T];
        }
        let first = piece.segment;
        let factors = x.factors.as_chunks::<T>().0[first..].iter();
        let qsums = x.sums.as_chunks::<T>().0[first..].iter();
        let tokens = factors.zip(qsums).take(piece.segments);
        for (i, ((factors, qsums), (panel, quads))) in tokens.zip(segments).enumerate() {
            let mut sums = [first_sums::<P, C, T>(p, product.zero, qsums); R];
            add_panel::<P, C, R, T>(p, panel.as_ref(), quads.as_ref(), &mut sums);
            add_scaled(p, &product.scales, (tiles, first + i), (factors, qsums), &sums, outputs);
        }
    }
}

/// Adds to the outputs of R tiles what the sums of a segment are worth.
#[inline(always)]
fn add_scaled<P: ProductLanes, S: Scales, const R: usize, const T: usize>(
    p: P,
    scales: &S,
    (tiles, segment): ([usize; R], usize),
    (factors, qsums): (&[f32; T], &[i32; T]),
    sums: &[[P::Sums; T]; R],
    outputs: &mut [Carry<R>; T],
) {
    let f = p.floats();
    let mut zeros = [f.splat(0.0); T];
    if S::MINS {
        for t in 0..T {
            zeros[t] = f.splat(factors[t] * qsums[t] as f32);
        }
    }
    for r in 0..R {
        let scale = scales.scale(p, tiles[r], segment);
        let min = if S::MINS { scales.min(p, tiles[r], segment) } else { scale };
        for t in 0..T {
            let product = f.mul(scale, f.splat(factors[t]));
            let mut output = f.fma(p.to_floats(sums[r][t]), product, f.load(&outputs[t][r]));
            if S::MINS {
                output = f.fma(min, zeros[t], output);
            }
            f.store(output, &mut outputs[t][r]);
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
        let mut dots = [[p.begin::<C>(p.splat(0)); T]; R];
        for r in 0..R {
            for t in 0..T {
                dots[r][t] = p.begin::<C>(sums[r][t]);
            }
        }
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
