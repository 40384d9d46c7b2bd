//! Few tokens: weights are unpacked in registers and meet all tokens of a tile there.
use std::{marker::PhantomData, ops::Range};

use chalot_simd::prefetch;

use super::{Integer, first_sums};
use crate::{
    activations::{MAX_TOKENS, QuantizedTile, token_tiles},
    linear::{
        PREFETCH,
        lanes::{Kernel, ProductLanes, Quad},
        outputs::store_tiles,
        weights::{Code, Scales, V},
    },
    math::lanes::Lanes,
    matrix::{BLOCK, TILE_ROWS},
};

/// Sums of one output that are added up side by side, so that a multiply-add need not wait for the last: where there
/// are few tokens, and as many as there are registers for (`D` as in [`Kernel::run`]).
const fn chains(tokens: usize, d: usize) -> usize {
    match tokens {
        1 => MAX_CHAINS,
        2 | 3 => 2 * d,
        _ => d,
    }
}
/// As many as a block has quads at most: two of a block in one chain would wait for each other.
const MAX_CHAINS: usize = 5;

/// Adds to `sums` the products of packed blocks with the tokens' quads.
#[inline(always)]
fn add_blocks<P: ProductLanes, C: Code<Q>, const Q: usize, const D: usize, const T: usize>(
    p: P,
    blocks: &[[u8; BLOCK]],
    x: &[[[Quad; T]; Q]],
    sums: &mut [P::Sums; T],
) {
    // Blocks whose steps may be added up.
    let step = p.steps::<C::Range>() / Q;
    for (blocks, x) in blocks.chunks(step).zip(x.chunks(step)) {
        let mut dots = [[p.begin::<C::Range>(p.splat(0)); T]; MAX_CHAINS];
        for t in 0..T {
            dots[0][t] = p.begin::<C::Range>(sums[t]);
        }
        for (block, x) in blocks.iter().zip(x) {
            prefetch(block.as_ptr().wrapping_add(PREFETCH));
            let codes = C::unpack(p, p.load(block));
            for quad in 0..Q {
                let chain = quad % chains(T, D);
                for t in 0..T {
                    dots[chain][t] = p.dot::<C::Range>(dots[chain][t], codes[quad], x[quad][t]);
                }
            }
        }
        for t in 0..T {
            sums[t] = p.finish::<C::Range>(dots[0][t], sums[t]);
        }
        for dots in &dots[1..chains(T, D)] {
            for t in 0..T {
                sums[t] = p.add(sums[t], p.finish::<C::Range>(dots[t], p.splat(0)));
            }
        }
    }
}

/// As [`add_blocks`] with codes that are multiplied by powers of 4 where they lie: each has a chain of sums. A multiplied
/// chain sees a quarter of the columns, so none leaves 32 bits: 32768 * 192 * 128 < 2^31.
#[inline(always)]
fn add_blocks_in_place<P: ProductLanes, C: Code<Q>, const Q: usize, const T: usize>(
    p: P,
    blocks: &[[u8; BLOCK]],
    x: &[[[Quad; T]; Q]],
    sums: &mut [P::Sums; T],
) {
    let mut dots = [[p.begin::<C::Range>(p.splat(0)); T]; Q];
    for (block, x) in blocks.iter().zip(x) {
        prefetch(block.as_ptr().wrapping_add(PREFETCH));
        let codes = C::in_place(p, p.load(block));
        for quad in 0..Q {
            for t in 0..T {
                dots[quad][t] = p.dot::<C::Range>(dots[quad][t], codes[quad], x[quad][t]);
            }
        }
    }
    for (quad, dots) in dots.iter().enumerate() {
        for t in 0..T {
            let sum = p.finish::<C::Range>(dots[t], p.splat(0));
            let sum = match quad {
                0 => sum,
                1 => p.shift_right::<2>(sum),
                2 => p.shift_right::<4>(sum),
                _ => p.shift_right::<6>(sum),
            };
            sums[t] = p.add(sums[t], sum);
        }
    }
}

/// Tiles of rows against one token tile, straight from the packed blocks.
struct Direct<'a, C, S, const Q: usize, const T: usize> {
    product: Integer<'a, S>,
    tiles: Range<usize>,
    x: QuantizedTile<'a>,
    first_token: usize,
    code: PhantomData<C>,
}

impl<C: Code<Q>, S: Scales, const Q: usize, const T: usize> Kernel for Direct<'_, C, S, Q, T> {
    #[inline(always)]
    fn run<P: ProductLanes, const R: usize, const D: usize>(self, p: P) {
        let Self { product, tiles, x, first_token, .. } = self;
        let quads = x.quads.as_chunks::<T>().0;
        let factors = x.factors.as_chunks::<T>().0;
        let qsums = x.sums.as_chunks::<T>().0;
        let f = p.floats();
        for tile in tiles {
            let mut acc = [f.splat(0.0); T];
            let segments = product.w.tile_blocks(tile).chunks(product.w.segment_blocks());
            let tokens = quads.chunks(x.segment_quads).zip(factors.iter().zip(qsums));
            for (segment, (blocks, (quads, (factors, qsums)))) in segments.zip(tokens).enumerate() {
                let mut sums = first_sums::<P, C::Range, T>(p, product.zero, qsums);
                let quads = quads.as_chunks().0;
                // Of six tokens the four chains of sums leave no registers for the masks.
                if C::IN_PLACE && P::IN_PLACE && T < MAX_TOKENS {
                    add_blocks_in_place::<P, C, Q, T>(p, blocks, quads, &mut sums);
                } else {
                    add_blocks::<P, C, Q, D, T>(p, blocks, quads, &mut sums);
                }
                add_scaled(p, &product.scales, (tile, segment), (factors, qsums), &sums, &mut acc);
            }
            let mut outputs = [[[0.0; TILE_ROWS]; 1]; T];
            for t in 0..T {
                f.store(acc[t], &mut outputs[t][0]);
            }
            store_tiles(&product.y, (product.w.rows(), tile..tile + 1, first_token), &outputs);
        }
    }
}

/// Adds to the outputs of a tile what the sums of a segment are worth.
#[inline(always)]
fn add_scaled<P: ProductLanes, S: Scales, const T: usize>(
    p: P,
    scales: &S,
    (tile, segment): (usize, usize),
    (factors, qsums): (&[f32; T], &[i32; T]),
    sums: &[P::Sums; T],
    outputs: &mut [V<P>; T],
) {
    let f = p.floats();
    let scale = scales.scale(p, tile, segment);
    for t in 0..T {
        outputs[t] = f.fma(p.to_floats(sums[t]), f.mul(scale, f.splat(factors[t])), outputs[t]);
    }
    if S::MINS {
        let min = scales.min(p, tile, segment);
        for t in 0..T {
            outputs[t] = f.fma(min, f.splat(factors[t] * qsums[t] as f32), outputs[t]);
        }
    }
}

/// Some tiles of rows against all tokens.
pub(in crate::linear) struct DirectTask<'a, C, S, const Q: usize> {
    pub product: Integer<'a, S>,
    pub tiles: Range<usize>,
    pub code: PhantomData<C>,
}

impl<C: Code<Q>, S: Scales, const Q: usize> Kernel for DirectTask<'_, C, S, Q> {
    #[inline(always)]
    fn run<P: ProductLanes, const R: usize, const D: usize>(self, p: P) {
        let Self { product, tiles, code } = self;
        // One tile of rows at a time, so that the second token tile finds its weights in the cache.
        let step = if product.m <= MAX_TOKENS { tiles.len().max(1) } else { 1 };
        for first in tiles.clone().step_by(step) {
            let tiles = first..tiles.end.min(first + step);
            for tokens in token_tiles(product.m) {
                let (x, first_token, tiles) = (product.x.tile(&tokens), tokens.start, tiles.clone());
                match tokens.len() {
                    1 => p.call(Direct::<C, _, Q, 1> { product, tiles, x, first_token, code }),
                    2 => p.call(Direct::<C, _, Q, 2> { product, tiles, x, first_token, code }),
                    3 => p.call(Direct::<C, _, Q, 3> { product, tiles, x, first_token, code }),
                    4 => p.call(Direct::<C, _, Q, 4> { product, tiles, x, first_token, code }),
                    5 => p.call(Direct::<C, _, Q, 5> { product, tiles, x, first_token, code }),
                    _ => p.call(Direct::<C, _, Q, MAX_TOKENS> { product, tiles, x, first_token, code }),
                }
            }
        }
    }
}
