//! What several tests need: random numbers and random matrices.
use bytes::Bytes;
use half::f16;

use crate::matrix::{Format, Matrix, MatrixSpec};

/// A small generator (xorshift64*).
pub(crate) struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) as u32
    }

    /// Of `0..n`.
    pub fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(n)) >> 32) as u32
    }

    /// Of -1..=1.
    pub fn float(&mut self) -> f32 {
        self.below(2001) as f32 / 1000.0 - 1.0
    }

    /// Floats of -1..=1.
    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }
}

/// Every format there is.
pub(crate) fn formats() -> Vec<Format> {
    [
        "f32",
        "f16",
        "bf16",
        "int8/row",
        "int8/32",
        "int4/32",
        "int4m/32",
        "trit2/tensor",
        "trit2/row",
        "trit2/64",
        "trit2/128",
        "trit2/256",
        "trit5/tensor",
        "trit5/row",
        "trit5/64",
        "trit5/128",
        "trit5/256",
    ]
    .iter()
    .map(|text| text.parse().unwrap())
    .collect()
}

/// A matrix of random codes (garbage ones included), with tame random scales or weights. Its padding is garbage too.
pub(crate) fn random_matrix(random: &mut Random, format: Format, rows: usize, cols: usize) -> Matrix {
    let spec = MatrixSpec { format, rows, cols };
    let mut image: Vec<u8> = (0..spec.image_len().unwrap()).map(|_| random.next() as u8).collect();
    let mut halves = |bytes: &mut [u8]| {
        for half in bytes.as_chunks_mut::<2>().0 {
            *half = f16::from_f32(random.float()).to_le_bytes();
        }
    };
    match format {
        Format::F16 => halves(&mut image),
        Format::Int4 { .. } | Format::Int8(crate::matrix::ScaleBy::Group(_)) => {
            halves(&mut image[spec.scales()]);
            halves(&mut image[spec.mins()]);
        }
        Format::Bf16 => {
            for brain in image.as_chunks_mut::<2>().0 {
                *brain = half::bf16::from_f32(random.float()).to_le_bytes();
            }
        }
        Format::F32 => {
            for float in image.as_chunks_mut::<4>().0 {
                *float = random.float().to_le_bytes();
            }
        }
        _ => {
            for float in image[spec.scales()].as_chunks_mut::<4>().0 {
                *float = random.float().to_le_bytes();
            }
        }
    }
    Matrix::from_image(spec, Bytes::from(image)).unwrap()
}

/// The bits of floats, which unlike floats are equal when they are the same.
pub(crate) fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}
