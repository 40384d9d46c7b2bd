//! Softmax of rows.

mod kernel;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use crate::{
    elementwise::{check_rows, over_rows},
    exec::{Exec, ShapeError},
    math::lanes::dispatch,
};

/// Softmax of every row of `x`, `[m][cols]`, where it lies: `e_i = exp(x_i - max)`, `x_i = e_i · (1 / sum e)`.
///
/// The sum has the order of the norms: sixteen running sums, then the pairwise tree. A row that holds a NaN
/// or +inf, or nothing but -inf, becomes NaN.
///
/// # Errors
/// If `x` is not whole rows of `cols`.
pub fn softmax_rows(exec: &Exec, x: &mut [f32], cols: usize) -> Result<(), ShapeError> {
    check_rows("softmax_rows", "x", x.len(), cols)?;
    over_rows(exec, x, cols, &|_, x| dispatch(exec.isa, kernel::SoftmaxRows { x, cols }));
    Ok(())
}
