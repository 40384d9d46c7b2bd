//! What can be wrong with weights.
use super::Format;

/// Weights that cannot become a [`Matrix`](super::Matrix).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MatrixError {
    /// A matrix without weights.
    #[error("a matrix of {rows} x {cols} has no weights; both dimensions must be at least 1")]
    Empty {
        /// Outputs.
        rows: usize,
        /// Inputs.
        cols: usize,
    },
    /// The image's length overflows, or a sum of products could leave 32 bits.
    #[error("{rows} x {cols} is too large for {format}; the most columns are {max_cols}")]
    TooLarge {
        /// The wanted format.
        format: Format,
        /// Outputs.
        rows: usize,
        /// Inputs.
        cols: usize,
        /// The limit of the format.
        max_cols: usize,
    },
    /// A slice whose length does not fit the dimensions.
    #[error("{what}: found {found} elements, expected {expected}")]
    Length {
        /// Which argument.
        what: &'static str,
        /// Its length as the dimensions imply it.
        expected: usize,
        /// Its length.
        found: usize,
    },
    /// A code that the format does not have.
    #[error("row {row}, column {col}: code {found} is outside {min}..={max}")]
    Code {
        /// The output.
        row: usize,
        /// The input.
        col: usize,
        /// The code.
        found: i32,
        /// The least code.
        min: i32,
        /// The greatest code.
        max: i32,
    },
    /// A weight that is infinite or not a number cannot be quantized.
    #[error("row {row}, column {col}: {found} cannot be quantized to {format}")]
    NotFinite {
        /// The output.
        row: usize,
        /// The input.
        col: usize,
        /// The value, as text (floats have no equality to derive).
        found: String,
        /// The wanted format.
        format: Format,
    },
    /// A granularity of scales that the format does not have.
    #[error("{format} does not exist; {known}")]
    ScaleBy {
        /// The wanted format.
        format: Format,
        /// What exists.
        known: &'static str,
    },
    /// Only ternary matrices have a packing.
    #[error("only a ternary matrix can be repacked, this one is {format}")]
    NotTernary {
        /// Its format.
        format: Format,
    },
}

impl MatrixError {
    pub(super) fn check_len(what: &'static str, expected: usize, found: usize) -> Result<(), Self> {
        if expected == found { Ok(()) } else { Err(Self::Length { what, expected, found }) }
    }
}
