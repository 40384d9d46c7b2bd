//! Many tokens by tiles: a panel of weights is unpacked into the cache and meets tiles of sixteen tokens, a line of 64 columns
//! at a time.
//!
//! Codes are unpacked as signed numbers around 0, so sums need no correction.
use std::{marker::PhantomData, ops::Range};

use chalot_simd::prefetch;

use super::{Integer, prefetch_outputs, signed};
use crate::{
    activations::QuantizedLines,
    linear::{
        Aligned, LINES_TOKEN_TILES,
        lanes::{
            Kernel, LINE, LINE_TOKENS, ProductLanes,
            amx::{Amx, SumTile, Tiles, TokenLines, UNDER_WAY, WeightTile},
        },
        outputs::store_tiles,
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

/// Tiles of rows, line by line.
type Panel = [[WeightTile; LINES]; R];
/// Outputs of a tile of tokens.
type OutputTile = [[f32; TILE_ROWS]; LINE_TOKENS];

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
                        prefetch_outputs(&product, &tiles, &tokens(&product, &pair));
                    }
                    amx.multiply(x.map(|x| x.lines.skip(piece.start * LINE)), panel, sums, !is_first);
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
        let Aligned(outputs) = &mut Aligned([[[[0.0; TILE_ROWS]; LINE_TOKENS]; R]; LINES_TOKEN_TILES]);
        let (group, segments) = (product.w.segment_cols(), product.w.segments());
        let at_once = (LINES * LINE / group).max(1);
        for first_tile in tiles.clone().step_by(R) {
            let tiles = first_tile..tiles.end.min(first_tile + R);
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
        // The next piece lies behind this one, and is read when all tokens have met this one.
        let ahead = segments.len() * (quads.len() / Q) * BLOCK;
        for (tile, panel) in tiles.zip(panel) {
            let segments =
                w.tile_blocks(tile).chunks(w.segment_blocks()).skip(segments.start).take(segments.len());
            for (blocks, panel) in segments.zip(panel.as_flattened_mut().chunks_mut(quads.len())) {
                for (block, panel) in blocks[quads.start / Q..].iter().zip(panel.chunks_mut(Q)) {
                    prefetch(block.as_ptr().wrapping_add(ahead));
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
    let out = unsafe { product.y.part(token, row..(tiles.end * TILE_ROWS).min(rows)) };
    let f = p.floats();
    for (out, mut output) in out.chunks_mut(TILE_ROWS).zip(outputs) {
        if product.y.adds() {
            output = f.add(f.load_or(out, 0.0), output);
        }
        f.store_some(output, out);
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
    /// By tiles of tokens: the sums of the segments before.
    outputs: &'a mut [[OutputTile; R]],
}

impl<S: Scales, const COLUMNS: usize> Kernel for Groups<'_, '_, S, COLUMNS> {
    #[inline(always)]
    fn run<P: ProductLanes, const R_: usize, const D_: usize>(self, p: P) {
        let Self { product, tiles, token_tiles, segments, panel, amx, outputs } = self;
        let f = p.floats();
        let (is_first, is_last) = (segments.start == 0, segments.end == product.w.segments());
        // One row of products, segment after segment of each tile of rows of each tile of tokens: vectors scale one while tiles
        // make those after it.
        let Aligned(sums) = &mut Aligned([[[0; TILE_ROWS]; LINE_TOKENS]; UNDER_WAY]);
        let mut products = Products::of(product, panel, (token_tiles, tiles.len()), &segments);
        for turn in 0..UNDER_WAY {
            products.turn(amx, turn, &mut sums[0]);
        }
        let mut turn = 0;
        for (token_tile, outputs) in token_tiles.clone().zip(outputs) {
            let x = product.x.lines(token_tile);
            let tokens = token_tile * LINE_TOKENS..product.m.min((token_tile + 1) * LINE_TOKENS);
            if is_last {
                prefetch_outputs(product, tiles, &tokens);
            }
            for (tile, outputs) in tiles.clone().zip(outputs) {
                let mut acc = [f.splat(0.0); LINE_TOKENS];
                if !is_first {
                    for t in 0..LINE_TOKENS {
                        acc[t] = f.load(&outputs[t]);
                    }
                }
                let factors = &x.factors.as_chunks().0[segments.clone()];
                let token_sums = &x.sums.as_chunks().0[segments.clone()];
                for ((segment, factors), token_sums) in segments.clone().zip(factors).zip(token_sums) {
                    products.turn(amx, turn + UNDER_WAY, &mut sums[(turn + 1) % UNDER_WAY]);
                    let sums = &sums[turn % UNDER_WAY];
                    add_scaled(p, &product.scales, (tile, segment), (factors, token_sums), sums, &mut acc);
                    turn += 1;
                }
                for t in 0..LINE_TOKENS {
                    f.store(acc[t], &mut outputs[t]);
                }
                if is_last {
                    for (token, output) in tokens.clone().zip(&*outputs) {
                        store_tiles(&product.y, (product.w.rows(), tile..tile + 1, token), &[[*output]]);
                    }
                }
            }
        }
    }
}

/// The products of a panel in the order of their making, and then those of the last place again.
struct Products<'a, 'b, S, const COLUMNS: usize> {
    product: &'a Integer<'b, S>,
    panel: &'a Panel,
    /// The columns of the panel.
    columns: Range<usize>,
    /// Its tiles of rows.
    row_tiles: usize,
    /// The tile of tokens and the tile of rows of the next product.
    place: (usize, usize),
    last_token_tile: usize,
    /// What remains of them: columns, tokens, quads of the weights.
    left: (usize, TokenLines<'a>, &'a [[i8; BLOCK]]),
}

impl<'a, 'b, S, const COLUMNS: usize> Products<'a, 'b, S, COLUMNS> {
    #[inline(always)]
    fn of(
        product: &'a Integer<'b, S>,
        panel: &'a Panel,
        (token_tiles, row_tiles): (&Range<usize>, usize),
        segments: &Range<usize>,
    ) -> Self {
        let group = product.w.segment_cols();
        assert!(COLUMNS == LINE || COLUMNS == group);
        let columns = segments.start * group..product.w.cols().min(segments.end * group);
        let place = (token_tiles.start, 0);
        let left = (0, product.x.lines(place.0).lines, &[][..]);
        let mut products =
            Self { product, panel, columns, row_tiles, place, last_token_tile: token_tiles.end - 1, left };
        products.begin();
        products
    }

    /// Goes to the beginning of its place.
    #[inline(always)]
    fn begin(&mut self) {
        let (token_tile, r) = self.place;
        let tokens = self.product.x.lines(token_tile).lines.skip(self.columns.start);
        self.left = (self.columns.len(), tokens, self.panel[r].as_flattened());
    }

    /// Makes the next one.
    #[inline(always)]
    fn turn(&mut self, amx: &Tiles<COLUMNS>, turn: usize, past: &mut SumTile) {
        let (columns, tokens, quads) = self.left;
        // A length that the compiler knows, where it can.
        let segment = if COLUMNS < LINE { COLUMNS } else { self.product.w.segment_cols().min(columns) };
        let (segment_quads, quads) = quads.split_at(segment.div_ceil(COLUMNS) * (COLUMNS / 4));
        amx.turn(turn, tokens, segment_quads, past);
        if columns > segment {
            self.left = (columns - segment, tokens.skip(segment), quads);
        } else {
            let (token_tile, r) = &mut self.place;
            if *r + 1 < self.row_tiles {
                *r += 1;
            } else if *token_tile < self.last_token_tile {
                (*token_tile, *r) = (*token_tile + 1, 0);
            }
            self.begin();
        }
    }
}

/// Adds to the outputs of a tile of tokens and a tile of rows what the sums of a segment are worth.
#[inline(always)]
fn add_scaled<P: ProductLanes, S: Scales>(
    p: P,
    scales: &S,
    (tile, segment): (usize, usize),
    (factors, token_sums): (&[f32; LINE_TOKENS], &[i32; LINE_TOKENS]),
    sums: &SumTile,
    outputs: &mut [V<P>; LINE_TOKENS],
) {
    let f = p.floats();
    let scale = scales.scale(p, tile, segment);
    for t in 0..LINE_TOKENS {
        let factor = f.mul(scale, f.splat(factors[t]));
        outputs[t] = f.fma(p.to_floats(p.load_sums(&sums[t])), factor, outputs[t]);
    }
    if S::MINS {
        let min = scales.min(p, tile, segment);
        for t in 0..LINE_TOKENS {
            outputs[t] = f.fma(min, f.splat(factors[t] * token_sums[t] as f32), outputs[t]);
        }
    }
}
