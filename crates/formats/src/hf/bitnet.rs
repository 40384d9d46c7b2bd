//! Packed BitNet weights.

use std::ops::Range;

use crate::error::{ErrorKind, FormatError, quote};

/// A packed weight of `[out, in]`: uint8 `[out/4, in]` in which byte row r holds at bits 2 i the codes of
/// output row `r + i * out/4`, plus one.
#[derive(Copy, Clone, Debug)]
pub struct BitNetWeight<'a> {
    rows: usize,
    cols: usize,
    bytes: &'a [u8],
}

impl<'a> BitNetWeight<'a> {
    /// Checks the shape `[out/4, in]` of the packed tensor against its `bytes`, and that the code 3, which
    /// means nothing, does not occur. `file` and `name` are for messages.
    ///
    /// # Errors
    /// One of them does not hold.
    pub fn new(file: &str, name: &str, shape: &[usize], bytes: &'a [u8]) -> Result<Self, FormatError> {
        let error = |kind, found: String, expected: &str| {
            FormatError::new(kind, file, format_args!("tensor {}", quote(name)), found, expected)
        };
        let &[packed_rows, cols] = shape else {
            return Err(error(
                ErrorKind::Malformed,
                format!("shape {shape:?}"),
                "packed weights of two dimensions",
            ));
        };
        // That [out, in] fits `usize` too, makes all indices below safe to compute.
        let rows = packed_rows.checked_mul(4).filter(|rows| rows.checked_mul(cols).is_some());
        let (Some(rows), true) = (rows, packed_rows.checked_mul(cols) == Some(bytes.len())) else {
            return Err(error(
                ErrorKind::Malformed,
                format!("{} bytes for shape {shape:?}", bytes.len()),
                "one byte for each element",
            ));
        };
        if bytes.iter().fold(0, |found, byte| found | (byte & byte >> 1 & 0x55)) != 0 {
            return Err(error(
                ErrorKind::Malformed,
                "the code 3 in packed weights".into(),
                "only the codes 0, 1 and 2, which mean -1, 0 and 1",
            ));
        }
        Ok(BitNetWeight { rows, cols, bytes })
    }

    /// Output rows: four times those of the packed tensor.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The codes -1, 0, 1 of some output rows, row after row; nothing for rows that are not there.
    pub fn decode_rows(&self, rows: Range<usize>) -> Vec<i8> {
        let rows = rows.start..rows.end.min(self.rows);
        let mut codes = Vec::with_capacity(rows.len() * self.cols);
        for row in rows {
            let (i, packed_row) = (row / (self.rows / 4), row % (self.rows / 4));
            let bytes = &self.bytes[packed_row * self.cols..][..self.cols];
            codes.extend(bytes.iter().map(|byte| (byte >> (2 * i) & 3) as i8 - 1));
        }
        codes
    }
}

/// All codes of a packed weight, row-major `[out, in]`. `shape` is that of the packed tensor, `[out/4, in]`.
///
/// # Errors
/// As [`BitNetWeight::new`].
pub fn unpack_bitnet(file: &str, name: &str, shape: &[usize], bytes: &[u8]) -> Result<Vec<i8>, FormatError> {
    let weight = BitNetWeight::new(file, name, shape, bytes)?;
    Ok(weight.decode_rows(0..weight.rows()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_written_out_example() {
        // Byte row 0 holds output rows 0, 2, 4, 6 from the lowest bits up; byte row 1 rows 1, 3, 5, 7.
        let bytes = [0b10_01_00_10, 0b01_01_01_01, 0b00_10_01_10, 0b10_10_00_00];
        let codes = unpack_bitnet("f", "w", &[2, 2], &bytes).unwrap();
        let rows: Vec<&[i8]> = codes.chunks(2).collect();
        assert_eq!(rows, [[1, 0], [1, -1], [-1, 0], [0, -1], [0, 0], [1, 1], [1, 0], [-1, 1]]);
    }

    #[test]
    fn wrong_shapes_and_codes_are_refused() {
        let kind = |shape: &[usize], bytes: &[u8]| unpack_bitnet("f", "w", shape, bytes).unwrap_err().kind;
        assert_eq!(kind(&[2], &[0; 2]), ErrorKind::Malformed);
        assert_eq!(kind(&[2, 2], &[0; 3]), ErrorKind::Malformed);
        assert_eq!(kind(&[usize::MAX, 4], &[0; 4]), ErrorKind::Malformed);
        assert_eq!(kind(&[1, 1], &[0b00_11_00_00]), ErrorKind::Malformed);
        assert!(unpack_bitnet("f", "w", &[0, 5], &[]).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn packing_and_unpacking_gives_the_codes_back(
            packed_rows in 1usize..6,
            cols in 1usize..40,
            codes in prop::collection::vec(-1i8..=1, 4 * 5 * 39),
            from in 0usize..24,
        ) {
            let codes = &codes[..4 * packed_rows * cols];
            let mut bytes = vec![0u8; packed_rows * cols];
            for (index, code) in codes.iter().enumerate() {
                let (row, col) = (index / cols, index % cols);
                bytes[row % packed_rows * cols + col] |= ((code + 1) as u8) << (2 * (row / packed_rows));
            }
            prop_assert_eq!(&unpack_bitnet("f", "w", &[packed_rows, cols], &bytes).unwrap(), codes);
            let from = from.min(4 * packed_rows);
            let weight = BitNetWeight::new("f", "w", &[packed_rows, cols], &bytes).unwrap();
            prop_assert_eq!(&weight.decode_rows(from..4 * packed_rows), &codes[from * cols..]);
        }
    }
}
