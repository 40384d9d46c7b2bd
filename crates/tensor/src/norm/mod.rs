//! Normalisation of rows: root mean square and layer norm.
//!
//! The order of the sums (`reference.rs` is its definition): sixteen running sums, sum i over elements i,
//! i + 16, i + 32, ... in ascending order; then a pairwise tree, i + (i + 8), i + (i + 4), i + (i + 2),
//! i + (i + 1).

mod kernel;
#[cfg(test)]
pub(crate) mod reference;
#[cfg(test)]
mod tests;

use crate::{
    activations::Activations,
    elementwise::{check_rows, over_rows},
    exec::{Exec, ShapeError},
    math::lanes::dispatch,
    matrix::Matrix,
};

/// RMS norm (Zhang and Sennrich 2019) of every row: `y[m][n] = (x[m][n] · inv) · weight[n]` with
/// `inv = 1 / sqrt(sum of squares / n + eps)`. `x` and `y` are `[m][weight.len()]`.
///
/// # Errors
/// If `x` is not whole rows of `weight.len()`, or `y` is not as long as `x`.
pub fn rms_norm(exec: &Exec, x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) -> Result<(), ShapeError> {
    let n = weight.len();
    check_rows("rms_norm", "x", x.len(), n)?;
    ShapeError::check("rms_norm", "y", x.len(), y.len())?;
    over_rows(exec, y, n, &|at, y| {
        dispatch(exec.isa, kernel::RmsNorm { x: &x[at..][..y.len()], weight, eps, y });
    });
    Ok(())
}

/// RMS norm of every row, as [`rms_norm`], into the input `y[m][n]` of products with `weights` and no others (see
/// [`Activations::fill`]); the form of it that they meet is made in the same pass.
///
/// # Errors
/// If `x` is not whole rows of `weight.len()`, or some of `weights` have another number of columns.
pub fn rms_norm_for(
    exec: &Exec,
    x: &[f32],
    weight: &[f32],
    eps: f32,
    y: &mut Activations,
    weights: &[&Matrix],
) -> Result<(), ShapeError> {
    let n = weight.len();
    check_rows("rms_norm_for", "x", x.len(), n)?;
    for w in weights {
        ShapeError::check("rms_norm_for", "weights: columns", n, w.cols())?;
    }
    y.fill(exec, (x.len() / n, n), weights, &|token, y| {
        dispatch(exec.isa, kernel::RmsNorm { x: &x[token * n..][..n], weight, eps, y });
    });
    Ok(())
}

/// RMS norm of every row where it lies; as [`rms_norm`].
///
/// # Errors
/// If `x` is not whole rows of `weight.len()`.
pub fn rms_norm_in_place(exec: &Exec, x: &mut [f32], weight: &[f32], eps: f32) -> Result<(), ShapeError> {
    check_rows("rms_norm_in_place", "x", x.len(), weight.len())?;
    over_rows(exec, x, weight.len(), &|_, x| {
        dispatch(exec.isa, kernel::RmsNormInPlace { x, weight, eps });
    });
    Ok(())
}

/// Layer norm (Ba et al. 2016) of every row: `y = ((x - mean) · inv) · weight + bias`, the last step fused,
/// with `inv = 1 / sqrt(sum of (x - mean)² / n + eps)`. `x` and `y` are `[m][weight.len()]`.
///
/// # Errors
/// If `x` is not whole rows of `weight.len()`, or `y` or `bias` has another length.
pub fn layer_norm(
    exec: &Exec,
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    eps: f32,
    y: &mut [f32],
) -> Result<(), ShapeError> {
    let n = weight.len();
    check_rows("layer_norm", "x", x.len(), n)?;
    ShapeError::check("layer_norm", "y", x.len(), y.len())?;
    if let Some(bias) = bias {
        ShapeError::check("layer_norm", "bias", n, bias.len())?;
    }
    over_rows(exec, y, n, &|at, y| {
        dispatch(exec.isa, kernel::LayerNorm { x: &x[at..][..y.len()], weight, bias, eps, y });
    });
    Ok(())
}
