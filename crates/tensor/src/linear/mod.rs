//! Products of activations and weights.
//!
//! One algorithm serves every format and every instruction set: it is generic over the encoding of the weights
//! (`weights.rs`) and over vectors ([`lanes`]). There are two of it:
//!
//! - *direct*, for few tokens: weights stream from memory once, are unpacked in registers, and meet all tokens
//!   there. Its limit is the memory's bandwidth.
//! - *panel*, for many: a panel of weights is unpacked into the first-level cache and meets one register tile of
//!   tokens after the other. Its limit is the multiply-adds.
//!
//! Neither, nor how many threads share the rows, changes a bit of the result: integer sums are exact, and each float
//! sum is one chain in ascending order. `reference.rs` is the definition.
mod ahead;
mod float;
mod gated;
mod integer;
pub(crate) mod lanes;
mod outputs;
mod product;
mod project;
mod reference;
mod several;
#[cfg(test)]
mod tests;
mod weights;

use self::lanes::Vectors;
pub use self::{
    ahead::{read_ahead, read_ahead_gated},
    gated::{Factor, project_gated},
    project::{Projection, project, project_onto},
    several::{GatedProjection, project_each, project_gated_each},
};
use crate::{
    activations::Activations,
    exec::{Exec, ShapeError, Tiling},
    matrix::Matrix,
};

/// Token tiles that a panel task has room for.
const PANEL_TOKEN_TILES: usize = *Tiling::PANEL_TOKEN_TILES.end();
/// Tiles of lines that a task has room for.
const LINES_TOKEN_TILES: usize = 16;
/// Bytes of lines that a task reads for every panel of weights: they are to stay in half of a second-level cache, which has 2 MiB on
/// CPUs with tiles.
const LINES_BYTES: usize = 1 << 20;
/// Tasks per thread, at most, so that a slow thread holds nobody up.
const TASKS_PER_THREAD: usize = 8;
/// The row tiles of panel tasks start at multiples of this: a multiple of every register tile's.
const PANEL_TILES: usize = 4;

/// The product of tokens and weights: `y[m][rows] = x[m][cols] * w^T`.
///
/// Float weights: each output is one chain of fused multiply-adds, columns ascending. Integer weights: tokens are
/// quantized (see [`Activations`]), sums are exact integers, and `y = isum * (scale * factor)`; where scales are by
/// group, the groups' products are added by fused multiply-adds, groups ascending.
///
/// The result depends on the weights and on the token alone: the same bits for any `m`, thread count and instruction
/// set.
///
/// # Errors
/// When `x` has another number of features than `w` columns, or `y` not `m * rows` elements.
pub fn matmul(exec: &Exec, w: &Matrix, x: &mut Activations, y: &mut [f32]) -> Result<(), ShapeError> {
    project(exec, x, [Projection { w, bias: None, y }])
}

/// How far ahead of their use weights are asked for, in bytes, where they are read one after the other: memory answers after
/// some 100 nanoseconds, in which a core reads a few thousand. (Measured: docs/LOG.md, "A thread reads long pieces".)
const PREFETCH: usize = 8192;

/// On a cache line of its own: vectors of what a kernel keeps on the stack must not straddle two.
#[repr(align(64))]
struct Aligned<T>(T);
