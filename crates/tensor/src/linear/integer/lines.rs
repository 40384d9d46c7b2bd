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
            Kernel, LINE, LINE_TOKENS, ProductLanes,
            amx::{Amx, SumTile, Tiles, WeightTile},
        },
        weights::{Code, Scales, V},
    },
    math::lanes::Lanes,
    matrix::{BLOCK, TILE_ROWS},
};

/// Tiles of rows that are unpacked side by side.
const R: usize = 2;
/// Lines of a panel: 20 KiB, which leaves room in a first-level cache. A multiple of five, whose quads are whole blocks in every
/// coding.
const LINES: usize = 10;

/// Segments whose sums are made together, before vectors take them.
const SEGMENTS: usize = 4;

/// Tiles of rows, line by line.
type Panel = [[WeightTile; LINES]; R];
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
        let Aligned(panel) = &mut Aligned([[[[0; BLOCK]; LINE / 4]; LINES]; R]);
        let Aligned(sums) =
            &mut Aligned([[[[[0; TILE_ROWS]; LINE_TOKENS]; R]; 2]; LINES_TOKEN_TILES.div_ceil(2)]);
        let lines = product.w.cols().div_ceil(LINE);
        for first_tile in tiles.clone().step_by(R) {
            let tiles = first_tile..tiles.end.min(first_tile + R);
            for first in (0..lines).step_by(LINES) {
                let piece = first..lines.min(first + LINES);
                let quads = piece.start * LINE / 4..piece.end * LINE / 4;
                p.call(Unpack::<C, S, Q> {
                    product,
                    tiles: tiles.clone(),
                    segments: 0..1,
                    quads,
                    panel,
                    code,
                });
                let panel = panel.each_ref().map(|weights| &weights[..piece.len()]);
                let (is_first, is_last) = (first == 0, piece.end == lines);
                for (pair, sums) in token_tiles.clone().step_by(2).zip(&mut *sums) {
                    let x = product.x.lines(pair);
                    let tokens = &x.lines[piece.clone()];
                    if is_last {
                        prefetch_outputs(p, &product, &tiles, pair..token_tiles.end.min(pair + 2));
                    }
                    if pair + 1 < token_tiles.end {
                        let next = product.x.lines(pair + 1);
                        amx.multiply_pair(0, [tokens, &next.lines[piece.clone()]], panel, sums, !is_first);
                        if is_last {
                            store_scaled(p, &product, &tiles, (pair, x), &sums[0]);
                            store_scaled(p, &product, &tiles, (pair + 1, next), &sums[1]);
                        }
                    } else {
                        amx.multiply(0, tokens, panel, &mut sums[0], !is_first);
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
        let Aligned(panel) = &mut Aligned([[[[0; BLOCK]; LINE / 4]; LINES]; R]);
        let Aligned(outputs) =
            &mut Aligned([[[[[0.0; TILE_ROWS]; LINE_TOKENS]; R]; 2]; LINES_TOKEN_TILES.div_ceil(2)]);
        let (group, segments) = (product.w.segment_cols(), product.w.segments());
        let Aligned(sums) = &mut Aligned([[[[[0; TILE_ROWS]; LINE_TOKENS]; R]; 2]; SEGMENTS]);
        let at_once = (LINES * LINE / group).max(1);
        for first_tile in tiles.clone().step_by(R) {
            let tiles = first_tile..tiles.end.min(first_tile + R);
            outputs.fill([[[[0.0; TILE_ROWS]; LINE_TOKENS]; R]; 2]);
            for first in (0..segments).step_by(at_once) {
                let piece = first..segments.min(first + at_once);
                let quads = 0..group / 4;
                p.call(Unpack::<C, S, Q> {
                    product,
                    tiles: tiles.clone(),
                    segments: piece.clone(),
                    quads,
                    panel,
                    code,
                });
                p.call(Groups {
                    product: &product,
                    tiles: &tiles,
                    token_tiles: &token_tiles,
                    segments: piece,
                    panel,
                    amx: &amx,
                    sums,
                    outputs,
                });
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
        let zero = product.zero as u8;
        for (tile, panel) in tiles.zip(panel) {
            let segments =
                w.tile_blocks(tile).chunks(w.segment_blocks()).skip(segments.start).take(segments.len());
            for (blocks, panel) in segments.zip(panel.as_flattened_mut().chunks_mut(quads.len())) {
                for (block, panel) in blocks[quads.start / Q..].iter().zip(panel.chunks_mut(Q)) {
                    for (quad, codes) in panel.iter_mut().zip(C::unpack(p, p.load(block))) {
                        let mut bytes = [0; BLOCK];
                        p.store(codes, &mut bytes);
                        *quad = bytes.map(|code| code.wrapping_sub(zero) as i8);
                    }
                }
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
    let mut scales = [f.splat(0.0); R];
    for (r, scale) in scales.iter_mut().enumerate() {
        *scale = product.scales.scale(p, (tiles.start + r).min(tiles.end - 1), 0);
    }
    let first = token_tile * LINE_TOKENS;
    for (t, &factor) in x.factors[0].iter().enumerate().take(product.m - first) {
        let mut outputs = [f.splat(0.0); R];
        for r in 0..R {
            let factor = f.mul(scales[r], f.splat(factor));
            outputs[r] = f.fma(p.to_floats(p.load_sums(&sums[r][t])), factor, outputs[r]);
        }
        store(p, product, tiles, first + t, outputs);
    }
}

/// Writes the outputs of a token, as far as there are rows.
#[inline(always)]
fn store<P: ProductLanes, S>(
    p: P,
    product: &Integer<'_, S>,
    tiles: &Range<usize>,
    token: usize,
    outputs: [V<P>; R],
) {
    let (rows, row) = (product.w.rows(), tiles.start * TILE_ROWS);
    // SAFETY: a task has its own tiles of rows and of tokens.
    let out = unsafe { product.y.part(token * rows + row, (tiles.end * TILE_ROWS).min(rows) - row) };
    for (out, output) in out.chunks_mut(TILE_ROWS).zip(outputs) {
        match out.try_into() {
            Ok(out) => p.floats().store(output, out),
            Err(_) => {
                let mut all = [0.0; TILE_ROWS];
                p.floats().store(output, &mut all);
                out.copy_from_slice(&all[..out.len()]);
            }
        }
    }
}

/// Segments of a panel against tiles of tokens.
struct Groups<'a, 'b, S, const COLUMNS: usize> {
    product: &'a Integer<'b, S>,
    tiles: &'a Range<usize>,
    token_tiles: &'a Range<usize>,
    segments: Range<usize>,
    panel: &'a Panel,
    amx: &'a Tiles<COLUMNS>,
    /// Room for sums.
    sums: &'a mut [[[SumTile; R]; 2]; SEGMENTS],
    /// By pairs of tiles of tokens.
    outputs: &'a mut [[[Outputs; R]; 2]],
}

impl<S: Scales, const COLUMNS: usize> Kernel for Groups<'_, '_, S, COLUMNS> {
    #[inline(always)]
    fn run<P: ProductLanes, const R_: usize, const D_: usize>(self, p: P) {
        let Self { product, tiles, token_tiles, segments, panel, amx, sums, outputs } = self;
        let (f, group) = (p.floats(), product.w.segment_cols());
        let is_last = segments.end == product.w.segments();
        for (first, outputs) in token_tiles.clone().step_by(2).zip(outputs) {
            let pair = first..token_tiles.end.min(first + 2);
            let x = [pair.start, pair.end - 1].map(|tile| product.x.lines(tile));
            if is_last {
                prefetch_outputs(p, product, tiles, pair.clone());
            }
            for first in segments.clone().step_by(SEGMENTS) {
                let batch = first..segments.end.min(first + SEGMENTS);
                for (segment, sums) in batch.clone().zip(&mut *sums) {
                    let (column, in_panel) = (segment * group, (segment - segments.start) * group);
                    let lines = column / LINE..x[0].lines.len().min((column + group).div_ceil(LINE));
                    let weights = [
                        &panel[0][in_panel / LINE..][..lines.len()],
                        &panel[1][in_panel / LINE..][..lines.len()],
                    ];
                    let tokens = [&x[0].lines[lines.clone()], &x[1].lines[lines]];
                    let part = column % LINE / COLUMNS;
                    match pair.len() {
                        2 => amx.multiply_pair(part, tokens, weights, sums, false),
                        _ => amx.multiply(part, tokens[0], weights, &mut sums[0], false),
                    }
                }
                for i in 0..pair.len() {
                    for r in 0..R {
                        let tile = (tiles.start + r).min(tiles.end - 1);
                        let sums = batch.clone().zip(&*sums).map(|(segment, sums)| (segment, &sums[i][r]));
                        add_scaled(p, &product.scales, tile, &x[i], sums, &mut outputs[i][r]);
                    }
                }
            }
            if is_last {
                for token in pair.start * LINE_TOKENS..product.m.min(pair.end * LINE_TOKENS) {
                    let (tile, t) = (token / LINE_TOKENS - pair.start, token % LINE_TOKENS);
                    let outputs = [f.load(&outputs[tile][0][t]), f.load(&outputs[tile][1][t])];
                    store(p, product, tiles, token, outputs);
                }
            }
        }
    }
}

/// Adds to the outputs of a tile of tokens and a tile of rows what the sums of segments are worth.
#[inline(always)]
fn add_scaled<'s, P: ProductLanes, S: Scales>(
    p: P,
    scales: &S,
    tile: usize,
    x: &QuantizedLines<'_>,
    segments: impl Iterator<Item = (usize, &'s SumTile)>,
    outputs: &mut Outputs,
) {
    let f = p.floats();
    let mut acc = [f.splat(0.0); LINE_TOKENS];
    for t in 0..LINE_TOKENS {
        acc[t] = f.load(&outputs[t]);
    }
    for (segment, sums) in segments {
        let factors = &x.factors[segment];
        let scale = scales.scale(p, tile, segment);
        for t in 0..LINE_TOKENS {
            let factor = f.mul(scale, f.splat(factors[t]));
            acc[t] = f.fma(p.to_floats(p.load_sums(&sums[t])), factor, acc[t]);
        }
        if S::MINS {
            let min = scales.min(p, tile, segment);
            for t in 0..LINE_TOKENS {
                acc[t] = f.fma(min, f.splat(factors[t] * x.sums[segment][t] as f32), acc[t]);
            }
        }
    }
    for t in 0..LINE_TOKENS {
        f.store(acc[t], &mut outputs[t]);
    }
}
