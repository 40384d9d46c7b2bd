//! Weights in the order in which the kernels read them.
//!
//! A [`Matrix`] is one immutable byte image (layout: [`MatrixSpec`]) that can be a view of a mapped file: opening
//! costs nothing, cloning shares it. Foreign weights become a `Matrix` through the `from_*` constructors, which
//! rearrange them once, in parallel.
mod block;
mod build;
mod error;
mod format;
mod quantize;
mod spec;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;
use chalot_simd::{AlignedVec, Arena, prefetch};
use half::{bf16, f16};

use self::spec::Layout;
pub(crate) use self::{
    block::Coding,
    quantize::{absmean, sum_abs, ternary_code},
};
pub use self::{
    error::MatrixError,
    format::{Format, Packing, ParseFormatError, ScaleBy},
    spec::{BLOCK, MatrixSpec, TILE_ROWS},
};
use crate::{
    elementwise::over_rows,
    exec::{Exec, ShapeError},
};

/// How far ahead of its use a row is asked for, in bytes of its tile: without it a look-up takes three times as long (docs/LOG.md,
/// "Where a pass's time goes").
const AHEAD: usize = 2048;

/// Immutable weights `[rows][cols]` in kernel order.
///
/// ```
/// use chalot_simd::Isa;
/// use chalot_tensor::{exec::Exec, matrix::{Format, Matrix, ScaleBy}};
///
/// let exec = Exec::new(Isa::best(), 1);
/// let w = Matrix::from_f32(&exec, Format::Trit2(ScaleBy::Tensor), 2, 3, &[0.5, -0.5, 0.1, 0.0, 0.5, -0.5])?;
/// let mut row = [0.0; 3];
/// w.row(1, &mut row)?;
/// assert_eq!(row, [0.0, 0.35, -0.35]); // codes 0, 1, -1 times the mean magnitude
///
/// // The image is all there is: what is written to a file can be opened in place.
/// let again = Matrix::from_image(*w.spec(), w.image().clone())?;
/// assert_eq!(again.to_f32(), w.to_f32());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Matrix {
    spec: MatrixSpec,
    layout: Layout,
    image: Bytes,
}

impl Matrix {
    /// A matrix over the bytes of `image`, without copying them unless they are misaligned (64 bytes).
    ///
    /// Any bytes are accepted: damaged weights compute wrong numbers, never anything worse.
    ///
    /// # Errors
    /// When the specification is impossible or the image's length is not [`MatrixSpec::image_len`].
    pub fn from_image(spec: MatrixSpec, image: Bytes) -> Result<Matrix, MatrixError> {
        let layout = Layout::of(&spec)?;
        MatrixError::check_len("image", layout.image_len, image.len())?;
        let aligned = image.as_ptr().addr().is_multiple_of(BLOCK);
        let image = if aligned { image } else { AlignedVec::from(&image[..]).into_bytes() };
        Ok(Matrix { spec, layout, image })
    }

    /// The same with its image in the arena's memory, beside those of other matrices, unless it is long.
    #[must_use]
    pub fn kept_in(self, arena: &mut Arena) -> Self {
        Self { image: arena.keep(self.image), ..self }
    }

    /// Format and dimensions.
    pub fn spec(&self) -> &MatrixSpec {
        &self.spec
    }

    /// Outputs.
    pub fn rows(&self) -> usize {
        self.spec.rows
    }

    /// Inputs.
    pub fn cols(&self) -> usize {
        self.spec.cols
    }

    /// How the weights are kept.
    pub fn format(&self) -> Format {
        self.spec.format
    }

    /// The bytes, as a file would hold them.
    pub fn image(&self) -> &Bytes {
        &self.image
    }

    /// The length of the image.
    pub fn bytes(&self) -> usize {
        self.image.len()
    }

    /// Row `row` as floats into `out` (`[cols]`): an embedding look-up.
    ///
    /// Ternary and int8: `scale * code`. Int4: `scale * (code - 8)`, with minima `scale * code + min` (two
    /// roundings).
    ///
    /// # Errors
    /// When there is no such row or `out` is not as long as a row.
    pub fn row(&self, row: usize, out: &mut [f32]) -> Result<(), ShapeError> {
        self.check_row("row", row)?;
        ShapeError::check("row", "out", self.cols(), out.len())?;
        self.write_row(row, out);
        Ok(())
    }

    /// Rows as [`Matrix::row`] into `out` (`[rows.len()][cols]`), on all threads when there is enough to do: the embedding of a
    /// prompt.
    ///
    /// # Errors
    /// When there is one that the matrix does not have, or `out` has another length; nothing has been written.
    pub fn gather(&self, exec: &Exec, rows: &[u32], out: &mut [f32]) -> Result<(), ShapeError> {
        rows.iter().try_for_each(|&row| self.check_row("gather", row as usize))?;
        ShapeError::check("gather", "out", rows.len().saturating_mul(self.cols()), out.len())?;
        over_rows(exec, out, self.cols(), &|at, out| {
            let rows = &rows[at / self.cols()..];
            for (&row, out) in rows.iter().zip(out.chunks_exact_mut(self.cols())) {
                self.write_row(row as usize, out);
            }
        });
        Ok(())
    }

    fn check_row(&self, op: &'static str, row: usize) -> Result<(), ShapeError> {
        let (expected, found) = (self.rows(), row);
        let what = "row number, of a matrix whose rows";
        if found < expected { Ok(()) } else { Err(ShapeError { op, what, expected, found }) }
    }

    fn write_row(&self, row: usize, out: &mut [f32]) {
        let (tile, lane) = (row / TILE_ROWS, row % TILE_ROWS);
        match self.format() {
            Format::F32 => copy_lane(self.f32_tile(tile), lane, out, |x| x),
            Format::F16 => copy_lane(self.f16_tile(tile), lane, out, f16::to_f32),
            Format::Bf16 => copy_lane(self.bf16_tile(tile), lane, out, bf16::to_f32),
            format => {
                let mins = format == Format::Int4 { mins: true };
                let (mut of, mut scale, mut min) = (None, 0.0, 0.0);
                self.block_codes(row, |segment, cols, codes| {
                    if of != Some(segment) {
                        (of, scale) = (Some(segment), self.scale(row, segment));
                        min = if mins { self.min(row, segment) } else { 0.0 };
                    }
                    let out = &mut out[cols..][..codes.len()];
                    if mins {
                        out.iter_mut().zip(codes).for_each(|(y, &code)| *y = scale * f32::from(code) + min);
                    } else {
                        out.iter_mut().zip(codes).for_each(|(y, &code)| *y = scale * f32::from(code));
                    }
                });
            }
        }
    }

    /// All weights, `[rows][cols]`, dequantized as by [`Matrix::row`].
    pub fn to_f32(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.rows() * self.cols()];
        for (row, out) in out.chunks_exact_mut(self.cols()).enumerate() {
            self.row(row, out).unwrap_or_else(|error| unreachable!("{error}"));
        }
        out
    }

    /// Calls `each(segment, first column, codes)` for the segments of a row of an integer matrix, in order; codes as by
    /// [`Matrix::block_codes`].
    pub(crate) fn codes(&self, row: usize, mut each: impl FnMut(usize, usize, &[i16])) {
        let mut all = vec![0; self.cols()];
        self.block_codes(row, |_, first, codes| all[first..][..codes.len()].copy_from_slice(codes));
        let cols = self.segment_cols();
        all.chunks(cols).enumerate().for_each(|(segment, codes)| each(segment, segment * cols, codes));
    }

    /// Calls `each(segment, first column, codes)` for the blocks of a row of an integer matrix, in order.
    /// Codes are signed weights (minus the zero point), except that those of int4 with minima stay 0..=15.
    fn block_codes(&self, row: usize, mut each: impl FnMut(usize, usize, &[i16])) {
        let (Some(coding), Some(blocks)) = (Coding::of(self.format()), self.layout.blocks) else { return };
        let zero = Coding::zero_point(self.format()) as i16;
        let lane = block::lane(row % TILE_ROWS, 0);
        let segments = self.tile_blocks(row / TILE_ROWS).chunks(blocks.segment_blocks);
        for (segment, packed) in segments.enumerate() {
            let first = segment * blocks.segment_cols;
            let end = self.cols().min(first + blocks.segment_cols);
            for (packed, first) in packed.iter().zip((first..end).step_by(4 * blocks.quads)) {
                prefetch(packed.as_ptr().wrapping_add(AHEAD));
                let bytes: [u8; 4] = std::array::from_fn(|c| packed[lane + c]);
                let codes = coding.unpack(&bytes).map(|quad| quad.map(|code| i16::from(code) - zero));
                each(segment, first, &codes.as_flattened()[..(4 * blocks.quads).min(end - first)]);
            }
        }
    }

    /// The scale of all weights, where there is one.
    pub fn tensor_scale(&self) -> Option<f32> {
        (self.format().scale_by() == Some(ScaleBy::Tensor)).then(|| self.scale(0, 0))
    }

    /// The scale of a segment of a row.
    pub(crate) fn scale(&self, row: usize, segment: usize) -> f32 {
        match self.format().scale_by() {
            None => 1.0,
            Some(ScaleBy::Tensor) => self.f32_scales()[0],
            Some(ScaleBy::Row) => self.f32_scales()[row],
            Some(ScaleBy::Group(_)) => {
                let index = self.group_index(row, segment);
                if self.format().packing().is_some() {
                    self.f32_scales()[index]
                } else {
                    self.f16_scales()[index].to_f32()
                }
            }
        }
    }

    /// The minimum of a group of a row of an int4 matrix with minima.
    pub(crate) fn min(&self, row: usize, segment: usize) -> f32 {
        self.f16_mins()[self.group_index(row, segment)].to_f32()
    }

    fn group_index(&self, row: usize, group: usize) -> usize {
        (row / TILE_ROWS * self.segments() + group) * TILE_ROWS + row % TILE_ROWS
    }

    /// Tiles of rows.
    pub(crate) fn tiles(&self) -> usize {
        self.layout.tiles
    }

    /// Segments of a row: groups of columns, or one.
    pub(crate) fn segments(&self) -> usize {
        self.layout.blocks.map_or(1, |blocks| blocks.segments)
    }

    /// Columns of a full segment.
    pub(crate) fn segment_cols(&self) -> usize {
        self.layout.blocks.map_or(self.cols(), |blocks| blocks.segment_cols)
    }

    /// Blocks of a full segment.
    pub(crate) fn segment_blocks(&self) -> usize {
        self.layout.blocks.map_or(1, |blocks| blocks.segment_blocks)
    }

    /// Bytes of a tile's weights.
    pub(crate) fn tile_len(&self) -> usize {
        self.layout.tile_bytes
    }

    /// A tile's weights, as the format keeps them.
    pub(crate) fn tile_bytes(&self, tile: usize) -> &[u8] {
        &self.image[self.layout.weights.clone()][tile * self.layout.tile_bytes..][..self.layout.tile_bytes]
    }

    /// A tile's blocks, of an integer matrix.
    pub(crate) fn tile_blocks(&self, tile: usize) -> &[[u8; BLOCK]] {
        self.tile_bytes(tile).as_chunks().0
    }

    /// A tile's columns, of an f32 matrix.
    pub(crate) fn f32_tile(&self, tile: usize) -> &[[f32; TILE_ROWS]] {
        bytemuck::cast_slice::<u8, f32>(self.tile_bytes(tile)).as_chunks().0
    }

    /// A tile's columns, of an f16 matrix.
    pub(crate) fn f16_tile(&self, tile: usize) -> &[[f16; TILE_ROWS]] {
        bytemuck::cast_slice::<u8, f16>(self.tile_bytes(tile)).as_chunks().0
    }

    /// A tile's columns, of a bf16 matrix.
    pub(crate) fn bf16_tile(&self, tile: usize) -> &[[bf16; TILE_ROWS]] {
        bytemuck::cast_slice::<u8, bf16>(self.tile_bytes(tile)).as_chunks().0
    }

    /// All scales, where they are f32 (ternary, and int8 by row).
    pub(crate) fn f32_scales(&self) -> &[f32] {
        bytemuck::cast_slice(&self.image[self.layout.scales.clone()])
    }

    /// All scales, where they are f16 (groups of int8 and int4).
    pub(crate) fn f16_scales(&self) -> &[f16] {
        bytemuck::cast_slice(&self.image[self.layout.scales.clone()])
    }

    /// All minima.
    pub(crate) fn f16_mins(&self) -> &[f16] {
        bytemuck::cast_slice(&self.image[self.layout.mins.clone()])
    }
}

fn copy_lane<T: Copy>(tile: &[[T; TILE_ROWS]], lane: usize, out: &mut [f32], widen: impl Fn(T) -> f32) {
    out.iter_mut().zip(tile).for_each(|(y, column)| *y = widen(column[lane]));
}

impl fmt::Debug for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Matrix({}, {} bytes)", self.spec, self.bytes())
    }
}
