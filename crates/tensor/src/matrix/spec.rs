//! The layout of a matrix's image.
//!
//! # The image
//! One contiguous run of bytes, the same on every instruction set, little-endian: `[weights][scales][mins]`, each
//! part starting at a multiple of 64 bytes, the whole a multiple of 64 bytes, gaps zero.
//!
//! Rows are taken in *tiles* of 16 (the last one filled up with rows of zero bytes), and a tile's weights are
//! contiguous, so that outputs lie across the lanes of a vector.
//!
//! - **Floats**: `[tile][col][16 rows]`.
//! - **Integers**: `[tile][segment][block][64 bytes]`. A segment is what shares a scale along a row: the whole row,
//!   or one group of columns. A block is one 512-bit vector: byte `4 * row + c` of a block (`row` within the tile,
//!   `c` in 0..4) holds the codes of columns `4 * quad + c` for `quad` in 0..Q, counted from the block's first
//!   column. Each segment starts a new block; digits beyond its end are zero bits (base 3: zero digits).
//!
//!   | format | Q | columns | byte | code |
//!   |---|---|---|---|---|
//!   | `Int8` | 1 | 4 | code | weight + 128 |
//!   | `Int4` | 2 | 8 | quad 0 in the low nibble, quad 1 in the high one | 0..=15 |
//!   | `Trit2` | 4 | 16 | quad q at bits 2q | weight + 1 |
//!   | `Trit5` | 5 | 20 | ceil(v * 256 / 243), v the base-3 number of quads 0..5, most significant first | weight + 1 |
//!
//!   The fraction of `Trit5` is the idea of ggml's TQ1_0: the leading digit is the integer part of 3 * byte / 256,
//!   and (3 * byte) mod 256 holds the remaining digits, so that digits come out by multiplication, not division.
//!
//! - **Scales**: by tensor one f32; by row `[16 * tiles]` f32; by group `[tile][group][16 rows]`, f32 for ternary and
//!   f16 for 4- and 8-bit integers. **Mins**: as group scales, f16.
use std::{fmt, ops::Range, str::FromStr};

use super::{Format, MatrixError, ScaleBy, format::ParseFormatError};

/// Rows of a tile: the lanes of a 512-bit vector of f32.
pub const TILE_ROWS: usize = 16;
/// Bytes of a block of integer weights, and the alignment of an image's parts.
pub const BLOCK: usize = 64;

/// The format and dimensions of a matrix: all that is needed to read its image.
///
/// The text form is the one in native files: `trit2/tensor 2560x6912` (format, rows x cols).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct MatrixSpec {
    /// How weights are kept.
    pub format: Format,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
}

impl MatrixSpec {
    /// Integer sums of more columns could leave 32 bits: 131071 * 128 * 128 < 2^31.
    pub const MAX_INTEGER_COLS: usize = (1 << 17) - 1;

    /// The image's length in bytes.
    ///
    /// # Errors
    /// When the format does not exist (an odd group), a dimension is zero, or the dimensions are too large.
    pub fn image_len(&self) -> Result<usize, MatrixError> {
        Ok(Layout::of(self)?.image_len)
    }

    /// Where in the image the weights are. Empty for a spec that [`MatrixSpec::image_len`] refuses.
    pub fn weights(&self) -> Range<usize> {
        Layout::of(self).map_or(0..0, |layout| layout.weights)
    }

    /// Where in the image the scales are; empty for floats.
    pub fn scales(&self) -> Range<usize> {
        Layout::of(self).map_or(0..0, |layout| layout.scales)
    }

    /// Where in the image the minima are; empty for all but [`Format::Int4`] with minima.
    pub fn mins(&self) -> Range<usize> {
        Layout::of(self).map_or(0..0, |layout| layout.mins)
    }
}

impl fmt::Display for MatrixSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}x{}", self.format, self.rows, self.cols)
    }
}

impl FromStr for MatrixSpec {
    type Err = ParseFormatError;

    fn from_str(text: &str) -> Result<Self, ParseFormatError> {
        let parsed = text.split_once(' ').and_then(|(format, dims)| {
            let (rows, cols) = dims.split_once('x')?;
            let digits = |n: &str| n.bytes().all(|b| b.is_ascii_digit()).then(|| n.parse().ok()).flatten();
            Some((format, digits(rows)?, digits(cols)?))
        });
        let (format, rows, cols) = parsed.ok_or_else(|| ParseFormatError {
            what: "matrix specification",
            found: text.to_owned(),
            expected: "`FORMAT ROWSxCOLS`, for example `trit2/tensor 2560x6912`",
        })?;
        Ok(MatrixSpec { format: format.parse()?, rows, cols })
    }
}

/// How integer codes lie in blocks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blocks {
    /// Quads of columns in a block (Q).
    pub quads: usize,
    /// Columns of a full segment (the last may have fewer).
    pub segment_cols: usize,
    /// Segments of a row.
    pub segments: usize,
    /// Blocks of a full segment.
    pub segment_blocks: usize,
    /// Blocks of a tile.
    pub tile_blocks: usize,
}

/// A checked layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Tiles of 16 rows.
    pub tiles: usize,
    /// For integer formats.
    pub blocks: Option<Blocks>,
    /// Bytes of one tile's weights.
    pub tile_bytes: usize,
    pub weights: Range<usize>,
    pub scales: Range<usize>,
    pub mins: Range<usize>,
    pub image_len: usize,
}

impl Layout {
    pub fn of(spec: &MatrixSpec) -> Result<Layout, MatrixError> {
        let &MatrixSpec { format, rows, cols } = spec;
        if let Some(known) = format.missing() {
            return Err(MatrixError::ScaleBy { format, known });
        }
        if rows == 0 || cols == 0 {
            return Err(MatrixError::Empty { rows, cols });
        }
        let max_cols = match format {
            Format::F32 | Format::F16 | Format::Bf16 => usize::MAX / BLOCK,
            _ => MatrixSpec::MAX_INTEGER_COLS,
        };
        let too_large = MatrixError::TooLarge { format, rows, cols, max_cols };
        if cols > max_cols { Err(too_large) } else { Self::checked(spec).ok_or(too_large) }
    }

    /// `None` on overflow.
    fn checked(spec: &MatrixSpec) -> Option<Layout> {
        let &MatrixSpec { format, rows, cols } = spec;
        let tiles = rows.div_ceil(TILE_ROWS);
        let groups = format.group().map_or(1, |group| cols.div_ceil(group));
        let quads = match format {
            Format::F32 | Format::F16 | Format::Bf16 => 0,
            Format::Int8(_) => 1,
            Format::Int4 { .. } => 2,
            Format::Trit2(_) => 4,
            Format::Trit5(_) => 5,
        };
        let blocks = (quads > 0).then(|| {
            let segment_cols = format.group().unwrap_or(cols);
            let segment_blocks = segment_cols.div_ceil(4 * quads);
            let last_cols = cols - (groups - 1) * segment_cols;
            let tile_blocks = (groups - 1) * segment_blocks + last_cols.div_ceil(4 * quads);
            Blocks { quads, segment_cols, segments: groups, segment_blocks, tile_blocks }
        });
        let tile_bytes = match (format, &blocks) {
            (_, Some(blocks)) => blocks.tile_blocks.checked_mul(BLOCK)?,
            (Format::F32, _) => cols.checked_mul(4 * TILE_ROWS)?,
            _ => cols.checked_mul(2 * TILE_ROWS)?,
        };
        let scale_bytes = match format.scale_by() {
            None => 0,
            Some(ScaleBy::Tensor) => 4,
            Some(ScaleBy::Row) => tiles.checked_mul(4 * TILE_ROWS)?,
            Some(ScaleBy::Group(_)) => {
                let size = if format.packing().is_some() { 4 } else { 2 };
                tiles.checked_mul(groups)?.checked_mul(size * TILE_ROWS)?
            }
        };
        let min_bytes = if format == (Format::Int4 { mins: true }) { scale_bytes } else { 0 };
        let part = |start: usize, len: usize| {
            let start = start.checked_next_multiple_of(BLOCK)?;
            Some(start..start.checked_add(len)?)
        };
        let weights = part(0, tiles.checked_mul(tile_bytes)?)?;
        let scales = part(weights.end, scale_bytes)?;
        let mins = part(scales.end, min_bytes)?;
        let image_len = mins.end.checked_next_multiple_of(BLOCK)?;
        (image_len <= isize::MAX as usize).then_some(Layout {
            tiles,
            blocks,
            tile_bytes,
            weights,
            scales,
            mins,
            image_len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> MatrixSpec {
        text.parse().unwrap()
    }

    #[test]
    fn bytes_of_known_shapes() {
        // 2560 x 6912 ternary at exactly 2 and (6912 = 345 * 20 + 12: 346 blocks) about 1.6 bits, one scale.
        assert_eq!(spec("trit2/tensor 2560x6912").image_len(), Ok(2560 * 6912 / 4 + 64));
        assert_eq!(spec("trit5/tensor 2560x6912").image_len(), Ok(160 * 346 * 64 + 64));
        // 17 rows are two tiles; 33 columns are two groups, the second of one column.
        let m = spec("int4m/32 17x33");
        assert_eq!(m.weights(), 0..2 * 5 * 64);
        assert_eq!(m.scales(), 640..640 + 2 * 2 * 16 * 2);
        assert_eq!(m.mins(), 768..768 + 128);
        assert_eq!(m.image_len(), Ok(896));
        // Each group of 64 takes four blocks of 20 columns.
        let m = spec("trit5/64 16x130");
        assert_eq!(m.weights().len(), (4 + 4 + 1) * 64);
        assert_eq!(m.scales().len(), 3 * 64);
        assert_eq!(spec("f16 3x5").image_len(), Ok(192));
    }

    #[test]
    fn absurd_shapes_are_refused() {
        let huge = usize::MAX;
        for format in ["f32", "f16", "int8/row", "int4m/32", "trit2/tensor", "trit5/64"] {
            for (rows, cols) in [(huge, 1), (1, huge), (huge, huge), (huge / 4, 100), (huge / 2, 64)] {
                let spec = MatrixSpec { format: format.parse().unwrap(), rows, cols };
                assert!(matches!(spec.image_len(), Err(MatrixError::TooLarge { .. })), "{spec}");
                assert_eq!(spec.weights(), 0..0);
            }
            for (rows, cols) in [(0, 1), (1, 0), (0, huge)] {
                let spec = MatrixSpec { format: format.parse().unwrap(), rows, cols };
                assert_eq!(spec.image_len(), Err(MatrixError::Empty { rows, cols }));
            }
        }
        assert!(spec("trit2/row 1x131071").image_len().is_ok());
        assert!(spec("trit2/row 1x131072").image_len().is_err());
        let odd = MatrixSpec { format: Format::Trit2(ScaleBy::Group(0)), rows: 1, cols: 1 };
        assert!(matches!(odd.image_len(), Err(MatrixError::ScaleBy { .. })));
    }

    #[test]
    fn text_round_trips() {
        for text in ["trit2/tensor 2560x6912", "f32 1x1", "int4m/32 7x100"] {
            assert_eq!(spec(text).to_string(), text);
        }
        for text in
            ["trit2/tensor", "f32 1x", "f32 x1", "f32 1x-1", "f32 +1x1", "f99 1x1", "f32  1x1", "f32 1x1x1"]
        {
            assert!(text.parse::<MatrixSpec>().is_err(), "{text}");
        }
    }
}
