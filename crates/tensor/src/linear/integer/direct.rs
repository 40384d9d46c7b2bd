//! Few tokens: weights are unpacked in registers and meet all tokens of a tile there.
use std::{marker::PhantomData, ops::Range};

use super::{Integer, first_sums, scale_sums};
use crate::{
    activations::{MAX_TOKENS, QuantizedTile, token_tiles},
    linear::{
        lanes::{Kernel, ProductLanes, Quad},
        prefetch_distance, store_tiles,
        weights::{Code, Scales},
    },
    math::lanes::Lanes,
    matrix::{BLOCK, TILE_ROWS},
};

/// Independent sums of one output where there are few tokens, so that a multiply-add need not wait for the last.
const fn chains(tokens: usize) -> usize {
    match tokens {
        1 => 4,
        2 => 2,
        _ => 1,
    }
}
const MAX_CHAINS: usize = chains(1);

/// Adds to `sums` the products of D rows of packed blocks with the tokens' quads.
#[inline(always)]
fn add_blocks<P: ProductLanes, C: Code<Q>, const Q: usize, const D: usize, const T: usize>(
    p: P,
    blocks: [&[[u8; BLOCK]]; D],
    prefetch: usize,
    x: &[[[Quad; T]; Q]],
    sums: &mut [[P::Sums; T]; D],
) {
    // Blocks whose steps may be added up.
    let step = p.steps::<C::Range>() / Q;
    let mut start = 0;
    while start < x.len() {
        let x = &x[start..x.len().min(start.saturating_add(step))];
        let blocks = blocks.map(|blocks| &blocks[start..][..x.len()]);
        start += x.len();
        let mut dots = [[[p.begin::<C::Range>(p.splat(0)); T]; D]; MAX_CHAINS];
        for d in 0..D {
            for t in 0..T {
                dots[0][d][t] = p.begin::<C::Range>(sums[d][t]);
            }
        }
        for (i, x) in x.iter().enumerate() {
            for d in 0..D {
                let block = &blocks[d][i];
                p.prefetch(block.as_ptr().wrapping_add(prefetch));
                let codes = C::unpack(p, p.load(block));
                for quad in 0..Q {
                    let chain = quad % chains(T);
                    for t in 0..T {
                        dots[chain][d][t] = p.dot::<C::Range>(dots[chain][d][t], codes[quad], x[quad][t]);
                    }
                }
            }
        }
        for d in 0..D {
            for t in 0..T {
                sums[d][t] = p.finish::<C::Range>(dots[0][d][t], sums[d][t]);
            }
        }
        for dots in &dots[1..chains(T)] {
            for d in 0..D {
                for t in 0..T {
                    sums[d][t] = p.add(sums[d][t], p.finish::<C::Range>(dots[d][t], p.splat(0)));
                }
            }
        }
    }
}

/// Tiles of rows against one token tile, D at a time, straight from the packed blocks.
struct Direct<'a, C, S, const Q: usize, const D: usize, const T: usize> {
    product: Integer<'a, S>,
    tiles: Range<usize>,
    x: QuantizedTile<'a>,
    first_token: usize,
    code: PhantomData<C>,
}

impl<C: Code<Q>, S: Scales, const Q: usize, const D: usize, const T: usize> Kernel
    for Direct<'_, C, S, Q, D, T>
{
    #[inline(always)]
    fn run<P: ProductLanes, const R_: usize, const D_: usize>(self, p: P) {
        let Self { product, tiles, x, first_token, .. } = self;
        let quads = x.quads.as_chunks::<T>().0;
        let factors = x.factors.as_chunks::<T>().0;
        let qsums = x.sums.as_chunks::<T>().0;
        let f = p.floats();
        let prefetch = prefetch_distance(product.w.tile_len() * D);
        let end = tiles.end;
        for first in tiles.step_by(D) {
            // Beyond the end the last tile is computed again, and dropped.
            let tiles: [usize; D] = std::array::from_fn(|d| (first + d).min(end - 1));
            let weights = tiles.map(|tile| product.w.tile_blocks(tile));
            let mut acc = [[f.splat(0.0); T]; D];
            let mut block = 0;
            for (segment, (factors, qsums)) in factors.iter().zip(qsums).enumerate() {
                let blocks = product.w.segment_blocks().min(weights[0].len() - block);
                let x = &quads[segment * x.segment_quads..][..x.segment_quads];
                let x = &x.as_chunks::<Q>().0[..blocks];
                let mut sums = [first_sums::<P, T>(p, product.zero, qsums); D];
                add_blocks::<P, C, Q, D, T>(
                    p,
                    weights.map(|tile| &tile[block..][..blocks]),
                    prefetch,
                    x,
                    &mut sums,
                );
                scale_sums(p, &product.scales, (tiles, segment), (factors, qsums), &sums, &mut acc);
                block += blocks;
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
        // A few tiles of rows at a time, so that the second token tile finds their weights in the cache.
        let step = if product.m <= MAX_TOKENS { tiles.len().max(1) } else { D };
        for first in tiles.clone().step_by(step) {
            let tiles = first..tiles.end.min(first + step);
            for tokens in token_tiles(product.m) {
                let (x, first_token, tiles) = (product.x.tile(&tokens), tokens.start, tiles.clone());
                match tokens.len() {
                    1 => p.call(Direct::<C, _, Q, 1, 1> { product, tiles, x, first_token, code }),
                    2 => p.call(Direct::<C, _, Q, D, 2> { product, tiles, x, first_token, code }),
                    3 => p.call(Direct::<C, _, Q, D, 3> { product, tiles, x, first_token, code }),
                    4 => p.call(Direct::<C, _, Q, D, 4> { product, tiles, x, first_token, code }),
                    5 => p.call(Direct::<C, _, Q, D, 5> { product, tiles, x, first_token, code }),
                    _ => p.call(Direct::<C, _, Q, D, MAX_TOKENS> { product, tiles, x, first_token, code }),
                }
            }
        }
    }
}
