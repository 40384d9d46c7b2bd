//! Rotary position embedding (Su et al. 2021, RoFormer, section 3.4).
//!
//! Pairs of numbers of a query or key are turned by an angle that grows with the position:
//! `(a, b) -> (a·cos - b·sin, b·cos + a·sin)`, two products and one sum, each rounded. Which numbers make a
//! pair is the [`RopeStyle`]; how fast a pair turns is in the [`RopeTable`].

mod kernel;
#[cfg(test)]
mod reference;
mod table;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::{
    elementwise::{check_rows, over_rows},
    exec::{Exec, ShapeError},
    math::lanes::dispatch,
};
pub use table::{RopeError, RopeScaling, RopeTable};

/// Which numbers of a head make a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RopeStyle {
    /// i and i + dims/2 (GPT-NeoX; what Hugging Face folders hold).
    Neox,
    /// 2i and 2i + 1 (GPT-J; what GGUF files of the Llama family hold).
    Interleaved,
}

/// Turns the first `table.dims()` numbers of every head of `x`, `[m][heads][head_dim]`, row i by the angles of
/// position `first_position + i`.
///
/// # Errors
/// If `x` is not whole rows of `heads · head_dim`, a head is shorter than the table's dims, or a position lies
/// beyond the table.
pub fn rope(
    exec: &Exec,
    table: &RopeTable,
    style: RopeStyle,
    x: &mut [f32],
    heads: usize,
    head_dim: usize,
    first_position: usize,
) -> Result<(), ShapeError> {
    let cols = heads * head_dim;
    check_rows("rope", "x", x.len(), cols)?;
    if head_dim < table.dims() {
        return Err(ShapeError { op: "rope", what: "a head", expected: table.dims(), found: head_dim });
    }
    let end = first_position.saturating_add(x.len() / cols);
    if end > table.positions() {
        return Err(ShapeError { op: "rope", what: "the table", expected: end, found: table.positions() });
    }
    over_rows(exec, x, cols, &|at, x| {
        for (i, row) in x.chunks_exact_mut(cols).enumerate() {
            let (cos, sin) = table.row(first_position + at / cols + i);
            dispatch(exec.isa, kernel::Rotate { style, row, head_dim, cos, sin });
        }
    });
    Ok(())
}
