//! Tensor bytes to weights.
//!
//! A [`TensorView`] is the bytes of one tensor together with a type and dimensions that were checked against
//! them. It decodes whole rows, some at a time ([`TensorView::decode_rows`]), so that a loader can bound its
//! memory and use several threads, or the whole tensor ([`decode`]). What comes out is the form closest to
//! the file that the kernels keep: ternary codes, 8-bit or 4-bit codes with their scales, or floats
//! ([`Decoded`]); [`TensorView::to_f32`] gives floats for any of them.
//!
//! Layouts: ggml's block structures as its `gguf` Python package decodes them, and for the ternary dialects
//! that it does not know (Q2_0, PQ2_0, PTQ1_0, I2_S), the description at each function in `ternary.rs`.

pub(crate) mod float;
mod int4;
mod kquant;
mod sink;
mod ternary;
mod view;

pub use float::{bf16_to_f32, f16_to_f32};
pub use view::TensorView;

use crate::error::FormatError;
use crate::tensor_type::TensorType;

/// What a tensor decodes to; see [`Decoded`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Floats.
    Float,
    /// Codes -1, 0, 1 and a scale for each `block` weights.
    Ternary {
        /// Weights per scale; the number of all weights where the tensor has one scale.
        block: usize,
    },
    /// 8-bit codes and a scale for each 32 weights.
    Int8,
    /// 4-bit codes and a scale, perhaps a minimum, for each 32 weights.
    Int4 {
        /// Whether there are minimums.
        mins: bool,
    },
}

/// Decoded weights of whole rows, row after row.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// F32, F16, BF16, F64, Q5_1, Q5_K, Q6_K; also the 2-bit types where a tensor makes use of their fourth
    /// code, +2.
    Float(Vec<f32>),
    /// TQ1_0, TQ2_0, Q2_0, PQ2_0, PTQ1_0, I2_S: weight i is `codes[i] * scales[i / block]`.
    Ternary {
        /// -1, 0 or 1.
        codes: Vec<i8>,
        /// Weights per scale. Where the whole tensor has one scale, the number of weights of the tensor (not
        /// of the rows that were decoded).
        block: usize,
        /// One scale for each started block.
        scales: Vec<f32>,
    },
    /// Q8_0, Q5_0: weight i is `codes[i] * scales[i / 32]`.
    Int8 {
        /// The whole range of i8 in Q8_0, -16..=15 in Q5_0.
        codes: Vec<i8>,
        /// A scale for each 32 weights.
        scales: Vec<f32>,
    },
    /// Q4_0: weight i is `(codes[i] - 8) * scales[i / 32]`. Q4_1, Q4_K: `codes[i] * scales[i / 32] +
    /// mins[i / 32]`.
    Int4 {
        /// 0..=15, one to a byte.
        codes: Vec<u8>,
        /// A scale for each 32 weights.
        scales: Vec<f32>,
        /// A minimum for each 32 weights; `None` for Q4_0.
        mins: Option<Vec<f32>>,
    },
}

/// Whether [`decode`] reads this type.
pub fn is_supported(ty: TensorType) -> bool {
    use TensorType::*;
    matches!(
        ty,
        F32 | F16
            | BF16
            | F64
            | Q4_0
            | Q4_1
            | Q5_0
            | Q5_1
            | Q8_0
            | Q4K
            | Q5K
            | Q6K
            | TQ1_0
            | TQ2_0
            | Q2_0
            | PQ2_0
            | PTQ1_0
            | I2S
    )
}

/// Decodes a whole tensor. `dims` has the innermost dimension first; `bytes` is its data and nothing else;
/// `file` and `name` are for messages.
///
/// # Errors
/// As [`TensorView::new`].
pub fn decode(
    file: &str,
    name: &str,
    ty: TensorType,
    dims: &[usize],
    bytes: &[u8],
) -> Result<Decoded, FormatError> {
    let view = TensorView::new(file, name, ty, dims, bytes)?;
    view.decode_rows(0..view.rows())
}

/// Decodes a whole tensor to floats; `out` has one place for each weight.
///
/// # Errors
/// As [`TensorView::new`], and where `out` has another length.
pub fn decode_f32(
    file: &str,
    name: &str,
    ty: TensorType,
    dims: &[usize],
    bytes: &[u8],
    out: &mut [f32],
) -> Result<(), FormatError> {
    let view = TensorView::new(file, name, ty, dims, bytes)?;
    view.decode_rows_f32(0..view.rows(), out)
}
