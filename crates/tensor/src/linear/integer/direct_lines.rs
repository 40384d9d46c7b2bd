//! Few tokens by tiles: weights are unpacked into a ring in the first-level cache and meet all tokens some lines later, when a tile
//! need not wait for what has been written.
//!
//! Where there is one segment, codes are unpacked as they are and sums corrected as by vectors; those of groups are unpacked as signed
//! numbers around 0, which is less than correcting the sums of every group.
use std::{marker::PhantomData, ops::Range};

use chalot_simd::{prefetch, prefetch_near};

use super::{Integer, first_sums, prefetch_outputs, signed};
use crate::{
    activations::QuantizedLines,
    linear::{
        Aligned, PREFETCH,
        lanes::{
            self, Kernel, LINE, LINE_TOKENS, ProductLanes,
            amx::{Amx, SumTile, Tiles, TokenLines, UNDER_WAY},
        },
        outputs::store_tiles,
        weights::{Code, Scales},
    },
    math::lanes::Lanes,
    matrix::{BLOCK, Matrix, TILE_ROWS},
};

/// Quads of a line.
const LINE_QUADS: usize = LINE / 4;
/// Quads of a ring of segments: ten lines. Two of the longest fit.
const RING: usize = 10 * LINE_QUADS;
/// How far ahead of their use weights come from the second-level cache to the first, in bytes: loads that wait for them hold up the
/// stores and tiles behind them.
const NEAR: usize = 512;
/// Segments of it, at most: one is unpacked while others wait.
const SEGMENTS: usize = 4;

/// Some tiles of rows against all tokens, which fit one tile of lines.
pub(in crate::linear) struct DirectLinesTask<'a, C, S, const Q: usize> {
    pub product: Integer<'a, S>,
    pub tiles: Range<usize>,
    pub amx: Amx,
    pub code: PhantomData<C>,
}

impl<C: Code<Q>, S: Scales, const Q: usize> Kernel for DirectLinesTask<'_, C, S, Q> {
    #[inline(always)]
    fn run<P: ProductLanes, const R: usize, const D: usize>(self, p: P) {
        let group = self.product.w.segment_cols();
        if !S::ONLY_GROUPS && self.product.w.segments() == 1 {
            // The blocks of the fewest lines that are whole blocks, four times or (five lines) twice.
            match Q {
                1 => self.whole::<P, 16, 4>(p),
                2 => self.whole::<P, 8, 4>(p),
                4 => self.whole::<P, 4, 4>(p),
                _ => self.whole::<P, 16, 2>(p),
            }
        } else if group.is_multiple_of(LINE) {
            self.groups::<P, LINE>(p);
        } else {
            self.groups::<P, { LINE / 2 }>(p);
        }
    }
}

impl<C: Code<Q>, S: Scales, const Q: usize> DirectLinesTask<'_, C, S, Q> {
    /// A matrix of one segment, in pieces of `N` blocks, which are whole lines; there is room for `PIECES`.
    #[inline(always)]
    fn whole<P: ProductLanes, const N: usize, const PIECES: usize>(self, p: P) {
        let Self { product, tiles, amx, .. } = self;
        let w = product.w;
        let x = product.x.lines(0);
        let amx = amx.begin::<LINE>(product.m);
        let Aligned(ring) = &mut Aligned([[[[0; BLOCK]; Q]; N]; PIECES]);
        let Aligned(sums) = &mut Aligned([[[0; TILE_ROWS]; LINE_TOKENS]; 2]);
        let piece_lines = const { N * Q / LINE_QUADS };
        let lines = w.cols().div_ceil(LINE);
        let count = lines.div_ceil(piece_lines); // pieces of a tile; of the last one some lines may be missing
        // One stream of pieces through all tiles: the first of a tile are unpacked beside the products of the last of the one before.
        for (piece, quads) in ring.iter_mut().enumerate().take(PIECES - 1) {
            unpack_any::<P, C, Q, N>(p, w, (&tiles, count), (tiles.start, piece), quads);
        }
        let mut first = 0; // where the tile's first piece lies
        let mut before = None; // a tile whose sums have not been scaled yet
        for tile in tiles.clone() {
            let place = |piece: usize| (first + piece) % PIECES;
            amx.start();
            prefetch_outputs(&product, &(tile..tile + 1), &(0..product.m));
            let (pieces, _) = w.tile_blocks(tile).as_chunks::<N>();
            let whole = pieces.get(PIECES - 1..).unwrap_or_default();
            for (piece, blocks) in whole.iter().enumerate() {
                let tokens = x.lines.skip(piece * piece_lines * LINE);
                let (ahead, place) = (place(piece + PIECES - 1), place(piece));
                Turn { amx: &amx, tokens, place, blocks, ahead }.run::<P, C, Q>(p, ring);
            }
            // By now the sums of the tile before have been written.
            if let Some(tile) = before {
                store_scaled::<P, C::Range, S>(p, &product, &x, tile, &sums[tile % 2]);
            }
            for piece in whole.len()..count {
                let ahead = piece + PIECES - 1;
                unpack_any::<P, C, Q, N>(p, w, (&tiles, count), (tile, ahead), &mut ring[place(ahead)]);
                let line = piece * piece_lines;
                let quads = &lines_of(&ring[place(piece)])[..piece_lines.min(lines - line)];
                amx.add(x.lines.skip(line * LINE), quads);
            }
            amx.finish(&mut sums[tile % 2]);
            before = Some(tile);
            first = place(count);
        }
        if let Some(tile) = before {
            store_scaled::<P, C::Range, S>(p, &product, &x, tile, &sums[tile % 2]);
        }
    }

    /// A matrix of groups, whose columns are a multiple of `COLUMNS`.
    #[inline(always)]
    fn groups<P: ProductLanes, const COLUMNS: usize>(self, p: P) {
        let Self { product, tiles, amx, .. } = self;
        let (w, x, m) = (product.w, product.x.lines(0), product.m);
        let amx = amx.begin::<COLUMNS>(m);
        let Aligned(ring) = &mut Aligned([[0; BLOCK]; RING]);
        let Aligned(sums) = &mut Aligned([[[0; TILE_ROWS]; LINE_TOKENS]; UNDER_WAY]);
        let Aligned(outputs) = &mut Aligned([[0.0; TILE_ROWS]; LINE_TOKENS]);
        let (group, segments) = (w.segment_cols(), w.segments());
        let segment_quads = (w.segment_blocks() * Q).next_multiple_of(LINE_QUADS);
        let places = (RING / segment_quads).min(SEGMENTS);
        let place = |number: usize| number % places * segment_quads;
        // One stream of segments through all tiles: each is unpacked, multiplied when its ring comes round, and its sums are
        // scaled when they have been stored. The last one is multiplied again until then.
        let count = tiles.len() * segments;
        let Some(last) = count.checked_sub(1) else { return };
        let mut blocks = tiles.clone().flat_map(|tile| w.tile_blocks(tile).chunks(w.segment_blocks()));
        let (mut tile, mut scaled, mut multiplied) = (tiles.start, 0, 0);
        for number in 0..count + places - 1 + UNDER_WAY {
            if let Some(blocks) = blocks.next() {
                let quads = &mut ring[place(number)..][..segment_quads];
                for (block, quads) in blocks.iter().zip(quads.as_chunks_mut::<Q>().0) {
                    prefetch(block.as_ptr().wrapping_add(PREFETCH));
                    *quads = signed(p, product.zero, C::unpack(p, p.load(block)));
                }
            }
            let Some(turn) = number.checked_sub(places - 1) else { continue };
            let columns = group.min(w.cols() - multiplied * group);
            let quads = &ring[place(turn.min(last))..][..columns.div_ceil(COLUMNS) * (COLUMNS / 4)];
            amx.turn(turn, x.lines.skip(multiplied * group), quads, &mut sums[(turn + 1) % UNDER_WAY]);
            if turn < last {
                multiplied = (multiplied + 1) % segments;
            }
            if turn < UNDER_WAY {
                continue;
            }
            let sums = &sums[turn % UNDER_WAY];
            add_scaled(p, &product.scales, (tile, scaled, segments), &x, sums, &mut outputs[..m]);
            scaled += 1;
            if scaled == segments {
                for (t, outputs) in outputs[..m].iter_mut().enumerate() {
                    store_tiles(&product.y, (w.rows(), tile..tile + 1, t), &[[*outputs]]);
                    *outputs = [0.0; TILE_ROWS];
                }
                (tile, scaled) = (tile + 1, 0);
            }
        }
    }
}

/// A piece that meets the tokens, and the blocks of a later one.
#[derive(Clone, Copy)]
struct Turn<'a, const N: usize> {
    amx: &'a Tiles<LINE>,
    /// From the piece's columns on.
    tokens: TokenLines<'a>,
    /// Where the piece lies in the ring.
    place: usize,
    blocks: &'a [[u8; BLOCK]; N],
    /// Where those are unpacked.
    ahead: usize,
}

impl<const N: usize> Turn<'_, N> {
    /// Multiplies and unpacks in turn: the blocks of a line, a line.
    #[inline(always)]
    fn run<P: ProductLanes, C: Code<Q>, const Q: usize>(self, p: P, ring: &mut [[[[u8; BLOCK]; Q]; N]]) {
        // The compiler does not unroll a loop of these; with a jump for each block they take up to twice as long.
        self.line::<P, C, Q, 0>(p, ring);
        self.line::<P, C, Q, 1>(p, ring);
        self.line::<P, C, Q, 2>(p, ring);
        self.line::<P, C, Q, 3>(p, ring);
        self.line::<P, C, Q, 4>(p, ring);
    }

    /// Line `NUMBER`, if there are so many.
    #[inline(always)]
    fn line<P: ProductLanes, C: Code<Q>, const Q: usize, const NUMBER: usize>(
        self,
        p: P,
        ring: &mut [[[[u8; BLOCK]; Q]; N]],
    ) {
        let lines = const { N * Q / LINE_QUADS };
        if NUMBER >= lines {
            return;
        }
        let blocks = N * NUMBER / lines..N * (NUMBER + 1) / lines;
        unpack::<P, C, Q>(p, &self.blocks[blocks.clone()], &mut ring[self.ahead][blocks]);
        let quads = &lines_of(&ring[self.place])[NUMBER..NUMBER + 1];
        self.amx.add(self.tokens.skip(NUMBER * LINE), quads);
    }
}

/// Writes the quads of piece `number` of this tile or, as tiles have `count` pieces, of one behind it, as far as there are `tiles`.
#[inline(always)]
fn unpack_any<P: ProductLanes, C: Code<Q>, const Q: usize, const N: usize>(
    p: P,
    w: &Matrix,
    (tiles, count): (&Range<usize>, usize),
    (tile, number): (usize, usize),
    quads: &mut [[[u8; BLOCK]; Q]; N],
) {
    let (tile, number) = (tile + number / count, number % count);
    if tile >= tiles.end {
        return;
    }
    if let Some(blocks) = w.tile_blocks(tile).chunks(N).nth(number) {
        unpack::<P, C, Q>(p, blocks, quads);
    }
}

/// The lines of a piece.
#[inline(always)]
fn lines_of<const Q: usize, const N: usize>(piece: &[[[u8; BLOCK]; Q]; N]) -> &[[[u8; BLOCK]; LINE_QUADS]] {
    piece.as_flattened().as_chunks().0
}

/// Writes the quads of blocks.
#[inline(always)]
fn unpack<P: ProductLanes, C: Code<Q>, const Q: usize>(
    p: P,
    blocks: &[[u8; BLOCK]],
    quads: &mut [[[u8; BLOCK]; Q]],
) {
    for (block, quads) in blocks.iter().zip(quads) {
        prefetch(block.as_ptr().wrapping_add(PREFETCH));
        prefetch_near(block.as_ptr().wrapping_add(NEAR));
        let codes = C::unpack(p, p.load(block));
        for quad in 0..Q {
            p.store(codes[quad], &mut quads[quad]);
        }
    }
}

/// Writes what the sums of a tile of rows are worth, a matrix of one segment.
#[inline(always)]
fn store_scaled<P: ProductLanes, C: lanes::Range, S: Scales>(
    p: P,
    product: &Integer<'_, S>,
    x: &QuantizedLines<'_>,
    tile: usize,
    sums: &SumTile,
) {
    let f = p.floats();
    let scale = product.scales.scale(p, tile, 0);
    for (t, sums) in sums.iter().enumerate().take(product.m) {
        let [first] = first_sums::<P, C, 1>(p, product.zero, &[x.sums[t]]);
        let sum = p.add(p.load_sums(sums), first);
        let output = f.fma(p.to_floats(sum), f.mul(scale, f.splat(x.factors[t])), f.splat(0.0));
        let mut outputs = [[0.0; TILE_ROWS]; 1];
        f.store(output, &mut outputs[0]);
        store_tiles(&product.y, (product.w.rows(), tile..tile + 1, t), &[outputs]);
    }
}

/// Adds to the outputs of all tokens what the sums of a segment are worth.
#[inline(always)]
fn add_scaled<P: ProductLanes, S: Scales>(
    p: P,
    scales: &S,
    (tile, segment, segments): (usize, usize, usize),
    x: &QuantizedLines<'_>,
    sums: &SumTile,
    outputs: &mut [[f32; TILE_ROWS]],
) {
    let f = p.floats();
    let scale = scales.scale(p, tile, segment);
    let min = if S::MINS { scales.min(p, tile, segment) } else { scale };
    for (t, (outputs, sums)) in outputs.iter_mut().zip(sums).enumerate() {
        let factor = x.factors[t * segments + segment];
        let mut output =
            f.fma(p.to_floats(p.load_sums(sums)), f.mul(scale, f.splat(factor)), f.load(outputs));
        if S::MINS {
            output = f.fma(min, f.splat(factor * x.sums[t * segments + segment] as f32), output);
        }
        f.store(output, outputs);
    }
}
