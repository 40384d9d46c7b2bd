//! Few tokens: weights are unpacked in registers and meet all tokens of a tile there.
use std::{marker::PhantomData, ops::Range};

use super::{Integer, first_sums, scale_sums, store};
use crate::{
    activations::{MAX_TOKENS, QuantizedTile, token_tiles},
    linear::{
        lanes::{Kernel, ProductLanes, Quad},
        weights::{Code, Scales},
    },
    math::lanes::Lanes,
    matrix::BLOCK,
};

/// How far ahead of their use weights are asked for, in bytes: a page, which the hardware's own prefetchers do not
/// look beyond.
const PREFETCH: usize = 4096;
/// Independent sums of one output, so that one multiply-add need not wait for the last.
const CHAINS: usize = 4;

/// Adds to `sums` the products of packed blocks with the tokens' quads.
#[inline(always)]
fn add_blocks<P: ProductLanes, C: Code<Q>, const Q: usize, const T: usize>(
    p: P,
    blocks: &[[u8; BLOCK]],
    x: &[[Quad; T]],
    sums: &mut [P::Sums; T],
) {
    // Whole blocks: the blocks of few steps, at least one.
    let step = p.steps::<C::Range>() / Q;
    let x = x.as_chunks::<Q>().0;
    for (blocks, x) in blocks.chunks(step).zip(x.chunks(step)) {
        let mut dots = [[p.no_dots(); T]; CHAINS];
        for (block, x) in blocks.iter().zip(x) {
            p.prefetch(block.as_ptr().wrapping_add(PREFETCH));
            let codes = C::unpack(p, p.load(block));
            for quad in 0..Q {
                // Two tokens or more are independent enough.
                let chain = if T > 2 { 0 } else { quad % CHAINS };
                for t in 0..T {
                    dots[chain][t] = p.dot::<C::Range>(dots[chain][t], codes[quad], x[quad][t]);
                }
            }
        }
        for dots in dots {
            for t in 0..T {
                sums[t] = p.finish::<C::Range>(dots[t], sums[t]);
            }
        }
    }
}

/// Few tokens: tiles of rows against one token tile, straight from the packed blocks.
struct Direct<'a, C, S, const Q: usize, const T: usize> {
    product: Integer<'a, S>,
    tiles: Range<usize>,
    x: QuantizedTile<'a>,
    first_token: usize,
    code: PhantomData<C>,
}

impl<C: Code<Q>, S: Scales, const Q: usize, const T: usize> Kernel for Direct<'_, C, S, Q, T> {
    #[inline(always)]
    fn run<P: ProductLanes, const R: usize>(self, p: P) {
        let Self { product, tiles, x, first_token, .. } = self;
        let quads = x.quads.as_chunks::<T>().0;
        let factors = x.factors.as_chunks::<T>().0;
        let qsums = x.sums.as_chunks::<T>().0;
        let segment_blocks = product.w.segment_blocks();
        for tile in tiles {
            let mut acc = [p.floats().splat(0.0); T];
            let segments = product.w.tile_blocks(tile).chunks(segment_blocks);
            let tokens = quads.chunks(x.segment_quads).zip(factors.iter().zip(qsums));
            for (segment, (blocks, (quads, (factors, qsums)))) in segments.zip(tokens).enumerate() {
                let mut sums = first_sums::<P, T>(p, product.zero, qsums);
                add_blocks::<P, C, Q, T>(p, blocks, quads, &mut sums);
                scale_sums(p, &product.scales, (tile, segment), (factors, qsums), &sums, &mut acc);
            }
            store(p, &product.y, (product.w.rows(), tile, first_token), &acc);
        }
    }
}

/// Few tokens: some tiles of rows against all tokens.
pub(in crate::linear) struct DirectTask<'a, C, S, const Q: usize> {
    pub product: Integer<'a, S>,
    pub tiles: Range<usize>,
    pub code: PhantomData<C>,
}

impl<C: Code<Q>, S: Scales, const Q: usize> Kernel for DirectTask<'_, C, S, Q> {
    #[inline(always)]
    fn run<P: ProductLanes, const R: usize>(self, p: P) {
        let Self { product, tiles, code } = self;
        // One tile of rows at a time, so that the second token tile finds its weights in the cache.
        let step = if product.m <= MAX_TOKENS { tiles.len() } else { 1 };
        for first in tiles.clone().step_by(step.max(1)) {
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
