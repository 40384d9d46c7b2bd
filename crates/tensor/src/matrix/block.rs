//! Blocks of 64 bytes: integer codes to bytes and back (the layout is described in [`super::spec`]).
use super::{
    Format,
    spec::{BLOCK, TILE_ROWS},
};

/// The most quads of columns in a block.
pub(crate) const MAX_QUADS: usize = 5;

/// Unsigned codes of up to 16 rows x 20 columns, one byte each: `codes[quad][4 * row + c]` is the code of column
/// `4 * quad + c`.
pub(crate) type Codes = [[u8; BLOCK]; MAX_QUADS];

/// All codes zero.
pub(crate) const NO_CODES: Codes = [[0; BLOCK]; MAX_QUADS];

/// The encodings of integer codes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Trit2,
    Trit5,
    Int8,
    Int4,
}

impl Coding {
    /// The coding of a format; `None` for floats.
    pub fn of(format: Format) -> Option<Coding> {
        match format {
            Format::F32 | Format::F16 | Format::Bf16 => None,
            Format::Int8(_) => Some(Coding::Int8),
            Format::Int4 { .. } => Some(Coding::Int4),
            Format::Trit2(_) => Some(Coding::Trit2),
            Format::Trit5(_) => Some(Coding::Trit5),
        }
    }

    /// The unsigned code that stands for weight 0 (0 for int4 with minima, whose codes are unsigned weights).
    pub fn zero_point(format: Format) -> i32 {
        match format {
            Format::F32 | Format::F16 | Format::Bf16 | Format::Int4 { mins: true } => 0,
            Format::Int4 { mins: false } => 8,
            Format::Int8(_) => 128,
            Format::Trit2(_) | Format::Trit5(_) => 1,
        }
    }

    /// One block of unsigned codes, which are in range.
    #[inline]
    pub fn pack(self, codes: &Codes) -> [u8; BLOCK] {
        let mut bytes = [0; BLOCK];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = match self {
                Coding::Int8 => codes[0][i],
                Coding::Int4 => codes[0][i] | codes[1][i] << 4,
                Coding::Trit2 => codes[0][i] | codes[1][i] << 2 | codes[2][i] << 4 | codes[3][i] << 6,
                Coding::Trit5 => {
                    let number = codes.iter().fold(0, |number, digit| 3 * number + u16::from(digit[i]));
                    (number * 256).div_ceil(243) as u8
                }
            };
        }
        bytes
    }

    /// The unsigned codes of some bytes of a block, whatever they are; quads that the coding does not have are zero.
    #[inline]
    pub fn unpack<const N: usize>(self, bytes: &[u8; N]) -> [[u8; N]; MAX_QUADS] {
        let mut codes = [[0; N]; MAX_QUADS];
        for (i, &byte) in bytes.iter().enumerate() {
            match self {
                Coding::Int8 => codes[0][i] = byte,
                Coding::Int4 => {
                    codes[0][i] = byte & 15;
                    codes[1][i] = byte >> 4;
                }
                Coding::Trit2 => {
                    for (quad, codes) in codes.iter_mut().take(4).enumerate() {
                        codes[i] = (byte >> (2 * quad)) & 3;
                    }
                }
                Coding::Trit5 => {
                    let mut fraction = byte;
                    for digit in &mut codes {
                        digit[i] = ((u16::from(fraction) * 3) >> 8) as u8;
                        fraction = fraction.wrapping_mul(3);
                    }
                }
            }
        }
        codes
    }
}

/// The place of (row, c) in a block.
#[inline]
pub(crate) fn lane(row: usize, c: usize) -> usize {
    debug_assert!(row < TILE_ROWS && c < 4);
    4 * row + c
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ternary_number_survives() {
        for number in 0..243_u32 {
            let mut codes = NO_CODES;
            let mut rest = number;
            for digit in codes.iter_mut().rev() {
                *digit = [(rest % 3) as u8; BLOCK];
                rest /= 3;
            }
            assert_eq!(Coding::Trit5.unpack(&Coding::Trit5.pack(&codes)), codes);
        }
    }

    #[test]
    fn every_byte_unpacks_to_codes_in_range() {
        for byte in 0..=255 {
            for (coding, quads, max) in
                [(Coding::Trit2, 4, 3), (Coding::Trit5, 5, 2), (Coding::Int8, 1, 255), (Coding::Int4, 2, 15)]
            {
                let codes = coding.unpack(&[byte; BLOCK]);
                assert!(codes[..quads].iter().flatten().all(|&code| code <= max));
                assert!(codes[quads..].iter().flatten().all(|&code| code == 0));
                if coding != Coding::Trit5 {
                    assert_eq!(coding.pack(&codes), [byte; BLOCK]);
                }
            }
        }
    }
}
