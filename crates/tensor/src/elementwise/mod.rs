//! Operations that treat every number alike: sums, scales, activations.
//!
//! Nothing is reduced here, so the only thing to fix is the rounding of each step; `reference.rs` writes it
//! down. Long inputs are split over the threads in pieces of whole rows.

mod kernel;
#[cfg(test)]
mod reference;
mod split;
#[cfg(test)]
mod tests;

use chalot_simd::Isa;
use serde::{Deserialize, Serialize};

use crate::{
    exec::{Exec, ShapeError},
    math::lanes::{LANES, dispatch},
};
pub(crate) use kernel::soft_cap as soft_cap_lanes;
pub(crate) use split::over_rows;

/// The non-linearity of a feed-forward layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// x · sigmoid(x).
    Silu,
    /// The tanh form of gelu.
    GeluTanh,
    /// The exact form of gelu, through the error function.
    GeluErf,
    /// max(x, 0)² (So et al. 2021, Primer, section 3).
    Relu2,
}

/// `x[i] += y[i]`.
pub fn add_assign(exec: &Exec, x: &mut [f32], y: &[f32]) -> Result<(), ShapeError> {
    ShapeError::check("add_assign", "y", x.len(), y.len())?;
    over_rows(exec, x, LANES, &|at, x| dispatch(exec.isa, kernel::Add { y: &y[at..][..x.len()], x }));
    Ok(())
}

/// `x[i] *= scale`.
pub fn scale_assign(exec: &Exec, x: &mut [f32], scale: f32) {
    over_rows(exec, x, LANES, &|_, x| dispatch(exec.isa, kernel::Scale { x, scale }));
}

/// `x[m][n] += bias[n]`, for every row m of `x`.
///
/// # Errors
/// If `x` is not whole rows of `bias.len()`.
pub fn add_bias(exec: &Exec, x: &mut [f32], bias: &[f32]) -> Result<(), ShapeError> {
    check_rows("add_bias", "x", x.len(), bias.len())?;
    over_rows(exec, x, bias.len(), &|_, x| {
        for row in x.chunks_exact_mut(bias.len()) {
            dispatch(exec.isa, kernel::Add { x: row, y: bias });
        }
    });
    Ok(())
}

/// `x[i] = cap · tanh(x[i] · (1 / cap))`: logits softly kept within ±`cap` (Gemma 2, section 2).
pub fn soft_cap(exec: &Exec, x: &mut [f32], cap: f32) {
    over_rows(exec, x, LANES, &|_, x| dispatch(exec.isa, kernel::SoftCap { x, cap }));
}

/// `x[i] = act(x[i])`.
pub fn activate(exec: &Exec, act: Activation, x: &mut [f32]) {
    over_rows(exec, x, LANES, &|_, x| dispatch(exec.isa, kernel::Activate { act, x }));
}

/// `y[i] = act(gate[i]) · up[i]`: the heart of a gated feed-forward layer (Shazeer 2020, GLU variants).
///
/// # Errors
/// If the three lengths differ.
pub fn gated(
    exec: &Exec,
    act: Activation,
    gate: &[f32],
    up: &[f32],
    y: &mut [f32],
) -> Result<(), ShapeError> {
    ShapeError::check("gated", "up", gate.len(), up.len())?;
    ShapeError::check("gated", "y", gate.len(), y.len())?;
    over_rows(exec, y, LANES, &|at, y| {
        let (gate, up) = (&gate[at..][..y.len()], &up[at..][..y.len()]);
        dispatch(exec.isa, kernel::Gated { act, gate, up, y });
    });
    Ok(())
}

/// [`add_assign`] on the calling thread, of pieces of one length.
pub(crate) fn add_rows(isa: Isa, x: &mut [f32], y: &[f32]) {
    dispatch(isa, kernel::Add { x, y });
}

/// [`gated`] on the calling thread, of pieces of one length.
pub(crate) fn gated_rows(isa: Isa, act: Activation, gate: &[f32], up: &[f32], y: &mut [f32]) {
    dispatch(isa, kernel::Gated { act, gate, up, y });
}

/// Checks that `found` elements are whole rows of `cols`, at least one column wide.
pub(crate) fn check_rows(
    op: &'static str,
    what: &'static str,
    found: usize,
    cols: usize,
) -> Result<(), ShapeError> {
    if cols == 0 {
        return Err(ShapeError { op, what: "a row", expected: 1, found: 0 });
    }
    ShapeError::check(op, what, found.div_ceil(cols) * cols, found)
}
