//! Many tokens by tiles: a panel of weights is unpacked into the cache and meets tiles of sixteen tokens, a line of 64 columns
//! at a time.
//!
//! Codes are unpacked as signed numbers around 0, so sums need no correction.
use std::{marker::PhantomData, ops::Range};

use super::Integer;
use crate::{
    activations::QuantizedLines,
    linear::{
        Aligned, LINES_TOKEN_TILES,
        lanes::{
            Kernel, LINE, LINE_TOKENS, ProductLanes, SumTile, WeightTile,
            amx::{Amx, Tiles},
        },
        store_tiles,
        weights::{Code, Scales},
    },
    math::lanes::Lanes,
    matrix::{BLOCK, TILE_ROWS},
};

/// Tiles of rows that are unpacked side by side.
const R: usize = 2;
/// Lines of a panel: 20 KiB, which leaves room in a first-level cache. A multiple of five, whose quads are whole blocks in every
/// coding.
const LINES: usize = 10;

/// `[line][tile of rows]`
type Panel = [[WeightTile; R]; LINES];
/// Outputs of a tile of tokens.
type Outputs = [[f32; TILE_ROWS]; LINE_TOKENS];

/// Some tiles of rows against some tiles of tokens.
pub(in crate::linear) struct LinesTask<'a, C, S, const Q: usize> {
    pub product: Integer<'a, S>,
    pub tiles: Range<usize>,
    /// At most [`LINES_TOKEN_TILES`].
    pub token_tiles: Range<usize>,
    pub amx: Amx,
    pub code: PhantomData<C>,
}

impl<C: Code<Q>, S: Scales, const Q: usize> Kernel for LinesTask<'_, C, S, Q> {
    #[inline(always)]
    fn run<P: ProductLanes, const R_: usize, const D_: usize>(self, p: P) {
        let group = self.product.w.segment_cols();
        if !S::ONLY_GROUPS && self.product.w.segments() == 1 {
            self.whole(p);
        } else if group.is_multiple_of(LINE) {
            self.groups::<P, LINE>(p);
        } else {
            self.groups::<P, { LINE / 2 }>(p);
        }
    }
}

impl<C: Code<Q>, S: Scales, const Q: usize> LinesTask<'_, C, S, Q> {
    /// A matrix of one segment.
    #[inline(always)]
    fn whole<P: ProductLanes>(self, p: P) {
        let Self { product, tiles, token_tiles, amx, code } = self;
        let amx = amx.begin::<LINE>();
        let Aligned(panel) = &mut Aligned([[[[0; BLOCK]; LINE / 4]; R]; LINES]);
        let Aligned(sums) = &mut Aligned([[[[[0; TILE_ROWS]; LINE_TOKENS]; R]; 2]; LINES_TOKEN_TILES.div_ceil(2)]);
        let lines = product.w.cols().div_ceil(LINE);
        for first_tile in tiles.clone().step_by(R) {
            let tiles = first_tile..tiles.end.min(first_tile + R);
            for first in (0..lines).step_by(LINES) {
                let piece = first..lines.min(first + LINES);
                let quads = piece.start * LINE / 4..piece.end * LINE / 4;
                p.call(Unpack::<C, S, Q> { product, tiles: tiles.clone(), segments: 0..1, quads, panel, code });
                let panel = &panel[..piece.len()];
                let (is_first, is_last) = (first == 0, piece.end == lines);
                for (pair, sums) in token_tiles.clone().step_by(2).zip(&mut *sums) {
                    let x = product.x.lines(pair);
                    let tokens = &x.lines[piece.clone()];
                    if is_last {
                        prefetch_outputs(p, &product, &tiles, pair..token_tiles.end.min(pair + 2));
                    }
                    if pair + 1 < token_tiles.end {
                        let next = product.x.lines(pair + 1);
                        amx.multiply_pair([tokens, &next.lines[piece.clone()]], panel, sums, !is_first);
                        if is_last {
                            store_scaled(p, &product, &tiles, (pair, x), &sums[0]);
                            store_scaled(p, &product, &tiles, (pair + 1, next), &sums[1]);
                        }
                    } else {
                        amx.multiply(tokens, panel, &mut sums[0], !is_first);
                        if is_last {
                            store_scaled(p, &product, &tiles, (pair, x), &sums[0]);
                        }
                    }
                }
            }
        }
    }

    /// A matrix of groups, whose columns are a multiple of `COLUMNS`.
    #[inline(always)]
    fn groups<P: ProductLanes, const COLUMNS: usize>(self, p: P) {
        let Self { product, tiles, token_tiles, amx, code } = self;
        let amx = amx.begin::<COLUMNS>();
        let Aligned(panel) = &mut Aligned([[[[0; BLOCK]; LINE / 4]; R]; LINES]);
        let Aligned(outputs) = &mut Aligned([[[[0.0; TILE_ROWS]; LINE_TOKENS]; R]; LINES_TOKEN_TILES]);
        let (group, segments) = (product.w.segment_cols(), product.w.segments());
        let at_once = (LINES * LINE / group).max(1);
        for first_tile in tiles.clone().step_by(R) {
            let tiles = first_tile..tiles.end.min(first_tile + R);
            for first in (0..segments).step_by(at_once) {
                let piece = first..segments.min(first + at_once);
                let quads = 0..group / 4;
                p.call(Unpack::<C, S, Q> { product, tiles: tiles.clone(), segments: piece.clone(), quads, panel, code });
                for (tile, outputs) in token_tiles.clone().zip(&mut *outputs) {
                    let x = product.x.lines(tile);
                    if piece.end == segments {
                        prefetch_outputs(p, &product, &tiles, tile..tile + 1);
                    }
                    let groups =
                        Groups { product, tiles: tiles.clone(), segments: piece.clone(), panel: &*panel, x, amx: &amx };
                    p.call(GroupsOfTile::<_, COLUMNS, 0> { groups: &groups, outputs: &mut outputs[0] });
                    p.call(GroupsOfTile::<_, COLUMNS, 1> { groups: &groups, outputs: &mut outputs[1] });
                    if piece.end == segments {
                        store(&product, &tiles, tile, outputs);
                    }
                }
            }
        }
    }
}

/// Unpacks segments, or a part of the only one, of at most R tiles of rows.
struct Unpack<'a, C, S, const Q: usize> {
    product: Integer<'a, S>,
    tiles: Range<usize>,
    segments: Range<usize>,
    /// Of each segment, from the beginning of a block.
    quads: Range<usize>,
    panel: &'a mut Panel,
    code: PhantomData<C>,
}

impl<C: Code<Q>, S: Scales, const Q: usize> Kernel for Unpack<'_, C, S, Q> {
    #[inline(always)]
    fn run<P: ProductLanes, const R_: usize, const D_: usize>(self, p: P) {
        let Self { product, tiles, segments, quads, panel, .. } = self;
        let w = product.w;
        for (r, tile) in tiles.enumerate() {
            let mut at = 0;
            for segment in w.tile_blocks(tile).chunks(w.segment_blocks()).skip(segments.start).take(segments.len()) {
                let end = at + quads.len();
                for block in &segment[quads.start / Q..] {
                    for codes in C::unpack(p, p.load(block)) {
                        if at < end {
                            let mut bytes = [0; BLOCK];
                            p.store(codes, &mut bytes);
                            let quad = &mut panel[at / (LINE / 4)][r][at % (LINE / 4)];
                            *quad = bytes.map(|code| code.wrapping_sub(product.zero as u8) as i8);
                            at += 1;
                        }
                    }
                    if at == end {
                        break;
                    }
                }
                at = end;
            }
        }
    }
}

/// Asks for the lines of memory of the outputs that tiles of tokens write (see the panels of quads).
#[inline(always)]
fn prefetch_outputs<P: ProductLanes, S>(
    p: P,
    product: &Integer<'_, S>,
    tiles: &Range<usize>,
    token_tiles: Range<usize>,
) {
    for token in token_tiles.start * LINE_TOKENS..product.m.min(token_tiles.end * LINE_TOKENS) {
        let row = product.y.pointer().wrapping_add(token * product.w.rows());
        for tile in tiles.clone() {
            p.prefetch(row.wrapping_add(tile * TILE_ROWS).cast());
        }
    }
}

/// Writes what the sums of a tile of tokens are worth.
#[inline(always)]
fn store_scaled<P: ProductLanes, S: Scales>(
    p: P,
    product: &Integer<'_, S>,
    tiles: &Range<usize>,
    (token_tile, x): (usize, QuantizedLines<'_>),
    sums: &[SumTile; R],
) {
    let f = p.floats();
    let mut outputs = [[[0.0; TILE_ROWS]; LINE_TOKENS]; R];
    for r in 0..R {
        let scale = product.scales.scale(p, (tiles.start + r).min(tiles.end - 1), 0);
        for t in 0..LINE_TOKENS {
            let factor = f.mul(scale, f.splat(x.factors[0][t]));
            let sum = p.to_floats(p.load_sums(&sums[r][t]));
            f.store(f.fma(sum, factor, f.splat(0.0)), &mut outputs[r][t]);
        }
    }
    store(product, tiles, token_tile, &outputs);
}

/// Writes the outputs of a tile of tokens, as far as there are tokens and rows.
#[inline(always)]
fn store<S>(product: &Integer<'_, S>, tiles: &Range<usize>, token_tile: usize, outputs: &[Outputs; R]) {
    let first = token_tile * LINE_TOKENS;
    for t in 0..LINE_TOKENS.min(product.m - first) {
        let outputs = [[outputs[0][t], outputs[1][t]]];
        store_tiles(&product.y, (product.w.rows(), tiles.clone(), first + t), &outputs);
    }
}

/// Segments of a panel against a tile of tokens.
struct Groups<'a, S, const COLUMNS: usize> {
    product: Integer<'a, S>,
    tiles: Range<usize>,
    segments: Range<usize>,
    panel: &'a Panel,
    x: QuantizedLines<'a>,
    amx: &'a Tiles<COLUMNS>,
}

/// Of them the outputs of tile `T` of rows.
struct GroupsOfTile<'a, S, const COLUMNS: usize, const T: usize> {
    groups: &'a Groups<'a, S, COLUMNS>,
    outputs: &'a mut Outputs,
}

impl<S, const COLUMNS: usize> Groups<'_, S, COLUMNS> {
    /// The sums of a segment, the `i`th.
    #[inline(always)]
    fn multiply<const T: usize>(&self, i: usize, sums: &mut SumTile) {
        let group = self.product.w.segment_cols();
        let column = (self.segments.start + i) * group;
        let lines = &self.x.lines[column / LINE..];
        let lines = &lines[..group.div_ceil(LINE).min(lines.len())];
        let panel = &self.panel[i * group / LINE..][..lines.len()];
        self.amx.product::<T>(column % LINE / COLUMNS, lines, panel, sums);
    }
}

impl<S: Scales, const COLUMNS: usize, const T: usize> Kernel for GroupsOfTile<'_, S, COLUMNS, T> {
    #[inline(always)]
    fn run<P: ProductLanes, const R_: usize, const D_: usize>(self, p: P) {
        let Self { groups, outputs } = self;
        let Groups { product, tiles, segments, x, .. } = groups;
        let (f, tile) = (p.floats(), (tiles.start + T).min(tiles.end - 1));
        let mut acc = [f.splat(0.0); LINE_TOKENS];
        if segments.start > 0 {
            for t in 0..LINE_TOKENS {
                acc[t] = f.load(&outputs[t]);
            }
        }
        // Two, so that tiles work on a segment while vectors work on the one before.
        let Aligned(sums) = &mut Aligned([[[0; TILE_ROWS]; LINE_TOKENS]; 2]);
        groups.multiply::<T>(0, &mut sums[0]);
        for (i, segment) in segments.clone().enumerate() {
            if segment + 1 < segments.end {
                groups.multiply::<T>(i + 1, &mut sums[(i + 1) % 2]);
            }
            let (sums, factors) = (&sums[i % 2], &x.factors[segment]);
            let scale = product.scales.scale(p, tile, segment);
            for t in 0..LINE_TOKENS {
                let factor = f.mul(scale, f.splat(factors[t]));
                acc[t] = f.fma(p.to_floats(p.load_sums(&sums[t])), factor, acc[t]);
            }
            if S::MINS {
                let min = product.scales.min(p, tile, segment);
                for t in 0..LINE_TOKENS {
                    acc[t] = f.fma(min, f.splat(factors[t] * x.sums[segment][t] as f32), acc[t]);
                }
            }
        }
        for t in 0..LINE_TOKENS {
            f.store(acc[t], &mut outputs[t]);
        }
    }
}
