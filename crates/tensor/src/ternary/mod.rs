//! Ternary weights in four functions: quantize, pack, multiply, and multiply by additions alone.
//!
//! This is a small face over [`Matrix`], [`Activations`] and [`matmul`](crate::matmul), which a model uses directly
//! (to share quantized activations between products, and to choose scales by row or by group).
//!
//! ```
//! use chalot_simd::Isa;
//! use chalot_tensor::{Exec, Packing, ternary::*};
//!
//! // Two outputs, three inputs.
//! let weights = [0.9, -1.2, 0.1, -0.2, 1.1, 0.8];
//! let (codes, scale) = quantize_f32_to_ternary(&weights);
//! assert_eq!(codes, [1, -1, 0, 0, 1, 1]);
//!
//! // Six weights fit two bytes; here they fill one tile of 16 rows, 64 bytes and a scale.
//! let exec = Exec::new(Isa::best(), 2);
//! let w = pack_ternary(&exec, Packing::Trit5, 2, 3, &codes, scale)?;
//! assert_eq!(unpack_ternary(&w)?, codes);
//!
//! // Activations in 8 bits, as BitNet defines it ...
//! let x = [1.0, 0.25, -1.0];
//! let y = matmul_ternary(&exec, &x, &w)?;
//! // ... and in f32, without a single multiplication until the scale.
//! let z = matmul_f32(&exec, &x, &w)?;
//! assert_eq!(z, [0.75 * scale, -0.75 * scale]);
//! assert!(y.iter().zip(&z).all(|(y, z)| (y - z).abs() < 0.01));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
mod addition;
#[cfg(test)]
mod tests;

pub use self::addition::matmul_f32;
use crate::{
    activations::Activations,
    exec::{Exec, ShapeError},
    linear::matmul,
    matrix::{Matrix, MatrixError, Packing, ScaleBy, absmean, sum_abs, ternary_code},
};

/// A matrix or a length that does not fit a ternary product.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TernaryError {
    /// The activations' length is no multiple of the columns.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The matrix is not ternary.
    #[error(transparent)]
    Matrix(#[from] MatrixError),
}

/// Codes -1, 0, 1 and the scale that best keep the mean magnitude of `weights`, which are finite.
///
/// The absmean rule of BitNet b1.58 (Ma et al. 2024, section 2): `scale = max(mean |w|, 1e-5)`,
/// `code = clamp(round(w / scale), -1, 1)`, halves to even; the weights become `code * scale`.
///
/// ```
/// use chalot_tensor::ternary::quantize_f32_to_ternary;
///
/// let (codes, scale) = quantize_f32_to_ternary(&[0.5, -1.5, 1.0, -1.0]);
/// assert_eq!((codes, scale), (vec![0, -1, 1, -1], 1.0)); // half of the scale rounds to zero
/// ```
pub fn quantize_f32_to_ternary(weights: &[f32]) -> (Vec<i8>, f32) {
    let scale = absmean([sum_abs(weights)], weights.len().max(1));
    (weights.iter().map(|&w| ternary_code(w, scale)).collect(), scale)
}

/// Codes (`[rows][cols]`) and one scale as a matrix in kernel order.
///
/// # Errors
/// When a dimension is zero or too large, there are not `rows * cols` codes, or one is not -1, 0 or 1.
pub fn pack_ternary(
    exec: &Exec,
    packing: Packing,
    rows: usize,
    cols: usize,
    codes: &[i8],
    scale: f32,
) -> Result<Matrix, MatrixError> {
    Matrix::from_ternary(exec, packing, rows, cols, codes, ScaleBy::Tensor, &[scale])
}

/// The codes of a ternary matrix, `[rows][cols]`.
///
/// # Errors
/// When the matrix is not ternary.
pub fn unpack_ternary(w: &Matrix) -> Result<Vec<i8>, MatrixError> {
    ensure_ternary(w)?;
    let mut out = Vec::with_capacity(w.rows() * w.cols());
    for row in 0..w.rows() {
        w.codes(row, |_, _, codes| out.extend(codes.iter().map(|&code| code as i8)));
    }
    Ok(out)
}

/// The product of 8-bit activations and ternary weights: `x` is `[m][cols]`, the result `[m][rows]`.
///
/// Activations are quantized by token (or group, as the weights' scales), sums are exact integers: see
/// [`Activations`] and [`matmul`](crate::matmul).
///
/// # Errors
/// When the matrix is not ternary, or the length of `x` is no multiple of the columns.
pub fn matmul_ternary(exec: &Exec, x: &[f32], w: &Matrix) -> Result<Vec<f32>, TernaryError> {
    ensure_ternary(w)?;
    let m = tokens("matmul_ternary", x, w)?;
    let mut input = Activations::new();
    input.set(m, w.cols()).copy_from_slice(x);
    let mut y = vec![0.0; m * w.rows()];
    matmul(exec, w, &mut input, &mut y)?;
    Ok(y)
}

fn ensure_ternary(w: &Matrix) -> Result<(), MatrixError> {
    match w.format().packing() {
        Some(_) => Ok(()),
        None => Err(MatrixError::NotTernary { format: w.format() }),
    }
}

fn tokens(op: &'static str, x: &[f32], w: &Matrix) -> Result<usize, ShapeError> {
    let m = x.len() / w.cols();
    ShapeError::check(op, "x", x.len().next_multiple_of(w.cols()), x.len())?;
    Ok(m)
}
