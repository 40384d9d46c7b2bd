//! Many tokens by tiles: a panel of weights is unpacked into the cache and meets tiles of sixteen tokens, a line of 64 columns
//! at a time.
//!
//! Codes are unpacked as signed numbers around 0, so sums need no correction.
use std::{marker::PhantomData, ops::Range};

use super::{Integer, prefetch_outputs, signed};
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
pub(in crate::linear) struct PanelLinesTask<'a, C, S, const Q: usize> {
    pub product: Integer<'a, S>,
    pub tiles: Range<usize>,
    /// At most [`LINES_TOKEN_TILES`].
    pub token_tiles: Range<usize>,
    pub amx: Amx,
    pub code: PhantomData<C>,
}

impl<C: Code<Q>, S: Scales, const Q: usize> Kernel for PanelLinesTask<'_, C, S, Q> {
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

impl<C: Code<Q>, S: Scales, const Q: usize> PanelLinesTask<'_, C, S, Q> {
    /// A matrix of one segment.
    #[inline(always)]
    fn whole<P: ProductLanes>(self, p: P) {
        let Self { product, tiles, token_tiles, amx, code } = self;
        let amx = amx.begin::<LINE>(LINE_TOKENS);
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
                for (pair, sums) in pairs(&token_tiles).zip(&mut *sums) {
                    let x = of_pair(&product, &pair);
                    if is_last {
                        prefetch_outputs(p, &product, &tiles, &tokens(&product, &pair));
                    }
                    amx.multiply(0, x.map(|x| x.lines.skip(piece.start)), panel, sums, !is_first);
                    if is_last {
                        for ((tile, x), sums) in pair.zip(x).zip(sums) {
                            store_scaled(p, &product, &tiles, (tile, x), sums);
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
        let amx = amx.begin::<COLUMNS>(LINE_TOKENS);
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
        for (tile, panel) in tiles.zip(panel) {
            let segments =
                w.tile_blocks(tile).chunks(w.segment_blocks()).skip(segments.start).take(segments.len());
            for (blocks, panel) in segments.zip(panel.as_flattened_mut().chunks_mut(quads.len())) {
                for (block, panel) in blocks[quads.start / Q..].iter().zip(panel.chunks_mut(Q)) {
                    let codes = signed(p, product.zero, C::unpack(p, p.load(block)));
                    for (quad, codes) in panel.iter_mut().zip(codes) {
                        *quad = codes;
                    }
                }
            }
        }
    }
}

/// Tiles of tokens by twos; the last may be alone.
#[inline(always)]
fn pairs(token_tiles: &Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = token_tiles.end;
    token_tiles.clone().step_by(2).map(move |first| first..end.min(first + 2))
}

/// The integers of a pair; of one that is alone twice, since the second product of the same costs less than a kernel for it.
#[inline(always)]
fn of_pair<'a, S>(product: &Integer<'a, S>, pair: &Range<usize>) -> [QuantizedLines<'a>; 2] {
    [product.x.lines(pair.start), product.x.lines(pair.end - 1)]
}

/// The tokens of a pair.
#[inline(always)]
fn tokens<S>(product: &Integer<'_, S>, pair: &Range<usize>) -> Range<usize> {
    pair.start * LINE_TOKENS..product.m.min(pair.end * LINE_TOKENS)
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
    for (t, &factor) in x.factors[..LINE_TOKENS].iter().enumerate().take(product.m - first) {
        let mut outputs = [f.splat(0.0); R];
        for r in 0..R {
            let factor = f.mul(scales[r], f.splat(factor));
            outputs[r] = f.fma(p.to_floats(p.load_sums(&sums[r][t])), factor, outputs[r]);
        }
        store(p, product, tiles, first + t, outputs);
    }
}

/// Writes the outputs of a token, as far as there are rows: straight from registers, where `store_tiles` wants them in memory first.
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
        for (pair, outputs) in pairs(token_tiles).zip(outputs) {
            let x = of_pair(product, &pair);
            if is_last {
                prefetch_outputs(p, product, tiles, &tokens(product, &pair));
            }
            for first in segments.clone().step_by(SEGMENTS) {
                let batch = first..segments.end.min(first + SEGMENTS);
                for (segment, sums) in batch.clone().zip(&mut *sums) {
                    let (column, in_panel) = (segment * group, (segment - segments.start) * group);
                    let lines = column / LINE..product.w.cols().min(column + group).div_ceil(LINE);
                    let panel = panel.each_ref().map(|weights| &weights[in_panel / LINE..][..lines.len()]);
                    amx.multiply(
                        column % LINE / COLUMNS,
                        x.map(|x| x.lines.skip(lines.start)),
                        panel,
                        sums,
                        false,
                    );
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
                for token in tokens(product, &pair) {
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
        let factors = &x.factors.as_chunks::<LINE_TOKENS>().0[segment];
        let scale = scales.scale(p, tile, segment);
        for t in 0..LINE_TOKENS {
            let factor = f.mul(scale, f.splat(factors[t]));
            acc[t] = f.fma(p.to_floats(p.load_sums(&sums[t])), factor, acc[t]);
        }
        if S::MINS {
            let (sums, min) = (&x.sums.as_chunks::<LINE_TOKENS>().0[segment], scales.min(p, tile, segment));
            for t in 0..LINE_TOKENS {
                acc[t] = f.fma(min, f.splat(factors[t] * sums[t] as f32), acc[t]);
            }
        }
    }
    for t in 0..LINE_TOKENS {
        f.store(acc[t], &mut outputs[t]);
    }
}
