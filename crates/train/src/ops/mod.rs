//! The operations of a training step: explicit backward functions, each with its derivation beside it.
//!
//! Forward passes are those of `chalot-tensor`; what is here goes the other way. Notation: `L` is the loss, `dx` stands for
//! `dL/dx`. Work is split over rows or outputs; sums over rows (gradients of norm weights) are made in pieces of
//! [`PIECE`] rows that are added in order, so no bit depends on the number of threads.
pub mod attention;
pub mod cross_entropy;
pub mod gated;
pub mod norm;
pub mod quantize;
pub mod rope;

use chalot_tensor::exec::Exec;
use chalot_tensor::parts::Parts;

/// Rows of a piece of work.
pub const PIECE: usize = 32;

/// Calls `f(first row, its part of y)` for pieces of the rows of `y`, `[m][width]`.
pub(crate) fn over_rows(exec: &Exec, y: &mut [f32], width: usize, f: &(dyn Fn(usize, &mut [f32]) + Sync)) {
    let parts = Parts::new(y, PIECE * width);
    exec.pool.run(parts.count(), &|piece| f(piece * PIECE, parts.take(piece)));
}

/// `out = x + y`, all rows of `width`.
pub(crate) fn add(exec: &Exec, x: &[f32], y: &[f32], width: usize, out: &mut [f32]) {
    over_rows(exec, out, width, &|row, out| {
        let terms = x[row * width..].iter().zip(&y[row * width..]);
        out.iter_mut().zip(terms).for_each(|(sum, (x, y))| *sum = x + y);
    });
}

/// `sum += ` the rows of `partial`, `[pieces][sum.len()]`, in order.
pub(crate) fn add_pieces(sum: &mut [f32], partial: &[f32]) {
    for row in partial.chunks_exact(sum.len()) {
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
}

/// The first `len` elements, which the caller overwrites.
pub(crate) fn room(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}
