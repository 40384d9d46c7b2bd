//! How kernels read each format: codes, scales, floats.
use half::{bf16, f16};

use super::lanes::{Byte, Nibble, ProductLanes, Range, Ternary};
use crate::{
    math::lanes::Lanes,
    matrix::{Matrix, ScaleBy, TILE_ROWS},
};

/// Floats of the lanes `P`.
pub(super) type V<P> = <<P as ProductLanes>::Floats as Lanes>::V;

/// An encoding of integer codes, `Q` quads of columns a block.
pub(super) trait Code<const Q: usize>: Copy + Send + Sync {
    /// The range of its codes.
    type Range: Range;
    /// The quads of a block.
    fn unpack<P: ProductLanes>(p: P, block: P::Codes) -> [P::Codes; Q];
    /// Whether [`ProductLanes::IN_PLACE`] is of use.
    const IN_PLACE: bool = false;
    /// With [`Code::IN_PLACE`]: the quads of a block, each multiplied by four times what the one before is, the first by 1.
    #[inline(always)]
    fn in_place<P: ProductLanes>(p: P, block: P::Codes) -> [P::Codes; Q] {
        Self::unpack(p, block)
    }
}

#[derive(Copy, Clone)]
pub(super) struct Trit2;
#[derive(Copy, Clone)]
pub(super) struct Trit5;
#[derive(Copy, Clone)]
pub(super) struct Int8;
#[derive(Copy, Clone)]
pub(super) struct Int4;

impl Code<4> for Trit2 {
    type Range = Ternary;
    #[inline(always)]
    fn unpack<P: ProductLanes>(p: P, block: P::Codes) -> [P::Codes; 4] {
        p.unpack_trit2(block)
    }
    const IN_PLACE: bool = true;
    #[inline(always)]
    fn in_place<P: ProductLanes>(p: P, block: P::Codes) -> [P::Codes; 4] {
        p.trit2_in_place(block)
    }
}

impl Code<5> for Trit5 {
    type Range = Ternary;
    #[inline(always)]
    fn unpack<P: ProductLanes>(p: P, block: P::Codes) -> [P::Codes; 5] {
        p.unpack_trit5(block)
    }
}

impl Code<1> for Int8 {
    type Range = Byte;
    #[inline(always)]
    fn unpack<P: ProductLanes>(_: P, block: P::Codes) -> [P::Codes; 1] {
        [block]
    }
}

impl Code<2> for Int4 {
    type Range = Nibble;
    #[inline(always)]
    fn unpack<P: ProductLanes>(p: P, block: P::Codes) -> [P::Codes; 2] {
        p.unpack_int4(block)
    }
}

/// The scales (and minima) of an integer matrix.
pub(super) trait Scales: Copy + Send + Sync {
    /// Whether groups have minima.
    const MINS: bool;
    /// Whether they are always by group.
    const ONLY_GROUPS: bool;
    /// The scales of a tile's 16 rows in a segment.
    fn scale<P: ProductLanes>(&self, p: P, tile: usize, segment: usize) -> V<P>;
    /// The minima of a tile's 16 rows in a segment, if there are any.
    fn min<P: ProductLanes>(&self, p: P, tile: usize, segment: usize) -> V<P>;
}

/// Scales of f32, by tensor, row or group.
#[derive(Copy, Clone)]
pub(super) struct F32Scales<'a> {
    values: &'a [f32],
    by_tensor: bool,
    segments: usize,
}

impl<'a> F32Scales<'a> {
    pub fn of(w: &'a Matrix) -> Self {
        let by_tensor = w.format().scale_by() == Some(ScaleBy::Tensor);
        Self { values: w.f32_scales(), by_tensor, segments: w.segments() }
    }
}

impl Scales for F32Scales<'_> {
    const MINS: bool = false;
    const ONLY_GROUPS: bool = false;

    #[inline(always)]
    fn scale<P: ProductLanes>(&self, p: P, tile: usize, segment: usize) -> V<P> {
        if self.by_tensor {
            p.floats().splat(self.values[0])
        } else {
            p.floats().load(&self.values.as_chunks::<TILE_ROWS>().0[tile * self.segments + segment])
        }
    }
    #[inline(always)]
    fn min<P: ProductLanes>(&self, p: P, _: usize, _: usize) -> V<P> {
        p.floats().splat(0.0)
    }
}

/// Scales of f16 by group, with minima if `MINS`.
#[derive(Copy, Clone)]
pub(super) struct F16Scales<'a, const MINS: bool> {
    scales: &'a [[f16; TILE_ROWS]],
    mins: &'a [[f16; TILE_ROWS]],
    segments: usize,
}

impl<'a, const MINS: bool> F16Scales<'a, MINS> {
    pub fn of(w: &'a Matrix) -> Self {
        Self {
            scales: w.f16_scales().as_chunks().0,
            mins: w.f16_mins().as_chunks().0,
            segments: w.segments(),
        }
    }
}

impl<const MINS: bool> Scales for F16Scales<'_, MINS> {
    const MINS: bool = MINS;
    const ONLY_GROUPS: bool = true;

    #[inline(always)]
    fn scale<P: ProductLanes>(&self, p: P, tile: usize, segment: usize) -> V<P> {
        p.floats().load_f16(&self.scales[tile * self.segments + segment])
    }
    #[inline(always)]
    fn min<P: ProductLanes>(&self, p: P, tile: usize, segment: usize) -> V<P> {
        p.floats().load_f16(&self.mins[tile * self.segments + segment])
    }
}

/// A float that weights are kept as.
pub(super) trait Float: Copy + Send + Sync {
    /// The columns of a tile.
    fn tile(w: &Matrix, tile: usize) -> &[[Self; TILE_ROWS]];
    /// Sixteen of them, widened.
    fn load<P: ProductLanes>(p: P, x: &[Self; TILE_ROWS]) -> V<P>;
}

impl Float for f32 {
    fn tile(w: &Matrix, tile: usize) -> &[[f32; TILE_ROWS]] {
        w.f32_tile(tile)
    }
    #[inline(always)]
    fn load<P: ProductLanes>(p: P, x: &[f32; TILE_ROWS]) -> V<P> {
        p.floats().load(x)
    }
}

impl Float for f16 {
    fn tile(w: &Matrix, tile: usize) -> &[[f16; TILE_ROWS]] {
        w.f16_tile(tile)
    }
    #[inline(always)]
    fn load<P: ProductLanes>(p: P, x: &[f16; TILE_ROWS]) -> V<P> {
        p.floats().load_f16(x)
    }
}

impl Float for bf16 {
    fn tile(w: &Matrix, tile: usize) -> &[[bf16; TILE_ROWS]] {
        w.bf16_tile(tile)
    }
    #[inline(always)]
    fn load<P: ProductLanes>(p: P, x: &[bf16; TILE_ROWS]) -> V<P> {
        p.load_bf16(x)
    }
}
