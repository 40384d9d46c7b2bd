//! What a product saw of its input, and its way back.
//!
//! For `Y = round(X) W^T` both gradients are straight-through ([`crate::ops::quantize`]): `dX = dY W`, `dW = dY^T round(X)`.
//! Where the product was one of integers, so are these: W and round(X) are integers with a factor for each row, and dY is rounded to
//! 16 bits for it ([`gemm_integer`]). While quantization is phased in, and in float networks, they are products of floats.
use chalot_tensor::exec::{Exec, ShapeError};
use chalot_tensor::gemm::{IntegerMatrix, View, Write, gemm_integer, gemm_parallel};
use chalot_tensor::math::lanes::dispatch;

use super::Context;
use crate::ops::quantize::{Integers, NormIntegers, norm_quantize_rows, quantize_rows};
use crate::ops::room;

/// The rounded rows of an input, `[rows][width]`.
#[derive(Default)]
pub(crate) struct Seen {
    rows: usize,
    width: usize,
    is_integer: bool,
    integers: IntegerMatrix,
    floats: Vec<f32>,
}

impl Seen {
    /// Rows, rounded as far as `lambda` says: `row(index)` is one of `width` numbers.
    pub fn rows<'a>(
        &mut self,
        exec: &Exec,
        lambda: f32,
        (rows, width): (usize, usize),
        row: &(dyn Fn(usize) -> &'a [f32] + Sync),
    ) {
        if self.begin(rows, width, lambda) {
            let make = |index, y: &mut [f32]| dispatch(exec.isa, Integers { x: row(index), y });
            return self.integers.fill(exec, rows, width, &make);
        }
        let floats = room(&mut self.floats, rows * width);
        for (index, y) in floats.chunks_exact_mut(width).enumerate() {
            y.copy_from_slice(row(index));
        }
        quantize_rows(exec, floats, width, lambda);
    }

    /// The RMS norm of the rows of `x`, rounded as far as `lambda` says.
    pub fn norm(&mut self, exec: &Exec, lambda: f32, x: &[f32], w: &[f32], eps: f32) {
        let (rows, width) = (x.len() / w.len(), w.len());
        if self.begin(rows, width, lambda) {
            let make = |index: usize, y: &mut [f32]| {
                dispatch(exec.isa, NormIntegers { x: &x[index * width..][..width], w, eps, y })
            };
            return self.integers.fill(exec, rows, width, &make);
        }
        norm_quantize_rows(exec, x, w, eps, lambda, room(&mut self.floats, x.len()));
    }

    fn begin(&mut self, rows: usize, width: usize, lambda: f32) -> bool {
        *self = Self { rows, width, is_integer: lambda == 1.0, ..std::mem::take(self) };
        self.is_integer
    }

    /// `dw += d^T x`, with the gradients `d` of the outputs, `[rows][outputs]`.
    pub fn weight_gradient(&self, exec: &Exec, d: &[f32], dw: &mut [f32]) -> Result<(), ShapeError> {
        let outputs = dw.len() / self.width;
        let d = View::new(d, self.rows, outputs, outputs)?.t();
        if self.is_integer {
            return gemm_integer(exec, Write::Add, d, &self.integers, dw);
        }
        gemm_parallel(exec, Write::Add, d, View::new(&self.floats, self.rows, self.width, self.width)?, dw)
    }
}

/// `dx = d W` for parameters `first..=last`, whose outputs lie side by side in the rows of `d` (`[m][outputs]`).
pub(super) fn input_gradient(
    cx: &Context<'_>,
    (first, last): (usize, usize),
    d: &[f32],
    m: usize,
    dx: &mut [f32],
) -> Result<(), ShapeError> {
    let (outputs, cols) = (d.len() / m, dx.len() / m);
    let d = View::new(d, m, outputs, outputs)?;
    match cx.prepared.integers(first) {
        Some(integers) => gemm_integer(cx.exec, Write::Set, d, integers, dx),
        None => {
            gemm_parallel(cx.exec, Write::Set, d, View::new(cx.dense(first, last), outputs, cols, cols)?, dx)
        }
    }
}
