//! Muon (Jordan et al. 2024): momentum whose update is made orthogonal.
//!
//! ```text
//! m = momentum m + (1 - momentum) g        u = (1 - momentum) g + momentum m
//! u = u / |u|;  five times: u = a u + (b A + c A^2) u,  A = u u^T      (a, b, c) = (3.4445, -4.775, 2.0315)
//! w = w - rate decay w - rate sqrt(max(1, rows / cols)) u
//! ```
//!
//! The quintic iteration of Newton and Schulz brings all singular values near 1. It is made on the shorter side; a tall
//! matrix is taken transposed.
use std::sync::{Mutex, PoisonError};

use chalot_tensor::exec::{Exec, ShapeError};
use chalot_tensor::gemm::{View, Write, gemm_parallel};

use crate::ops::room;

const COEFFICIENTS: (f32, f32, f32) = (3.4445, -4.775, 2.0315);
const ITERATIONS: usize = 5;

/// Buffers, one for each matrix that may be moved at the same time.
#[derive(Default)]
pub struct Muon {
    scratch: Vec<Mutex<Scratch>>,
}

#[derive(Default)]
struct Scratch {
    u: Vec<f32>,
    next: Vec<f32>,
    a: Vec<f32>,
    b: Vec<f32>,
}

impl Muon {
    pub(super) fn make_room(&mut self, parameters: usize) {
        self.scratch.resize_with(parameters, Mutex::default);
    }

    /// Moves matrix number `id`, `[rows][cols]`. The gradient is multiplied by `clip` first.
    ///
    /// # Errors
    /// When the lengths do not fit.
    #[expect(clippy::too_many_arguments)]
    pub(super) fn step(
        &self,
        exec: &Exec,
        id: usize,
        (rows, cols): (usize, usize),
        value: &mut [f32],
        gradient: &[f32],
        clip: f32,
        momentum: &mut [f32],
        beta: f32,
        rate: f32,
        decay: f32,
    ) -> Result<(), ShapeError> {
        let scratch = &mut *self.scratch[id].lock().unwrap_or_else(PoisonError::into_inner);
        let Scratch { u, next, a, b } = scratch;
        let u = room(u, rows * cols);
        let mut squares = 0.0f64;
        for ((u, m), g) in u.iter_mut().zip(momentum).zip(gradient) {
            let g = g * clip;
            *m += (1.0 - beta) * (g - *m);
            *u = g + beta * (*m - g);
            squares += f64::from(*u) * f64::from(*u);
        }
        let inverse = (1.0 / (squares.sqrt() + 1e-7)) as f32;
        u.iter_mut().for_each(|u| *u *= inverse);
        orthogonalize(exec, (rows, cols), u, room(next, rows * cols), a, b)?;
        let step = rate * (rows as f32 / cols as f32).max(1.0).sqrt();
        let kept = 1.0 - rate * decay;
        value.iter_mut().zip(&*u).for_each(|(w, u)| *w = *w * kept - step * u);
        Ok(())
    }
}

/// Brings the singular values of `u` near 1.
fn orthogonalize(
    exec: &Exec,
    (rows, cols): (usize, usize),
    u: &mut [f32],
    next: &mut [f32],
    a: &mut Vec<f32>,
    b: &mut Vec<f32>,
) -> Result<(), ShapeError> {
    let n = rows.min(cols);
    let (ca, cb, cc) = COEFFICIENTS;
    let (a, b) = (room(a, n * n), room(b, n * n));
    for _ in 0..ITERATIONS {
        let view = View::new(u, rows, cols, cols)?;
        let (left, right) = if rows <= cols { (view, view.t()) } else { (view.t(), view) };
        gemm_parallel(exec, Write::Set, left, right, a)?;
        let square = View::new(a, n, n, n)?;
        gemm_parallel(exec, Write::Set, square, square, b)?;
        // b = cb A + cc A^2, and ca on its diagonal stands for the term in u itself.
        b.iter_mut().zip(&*a).for_each(|(b, a)| *b = cb * a + cc * *b);
        b.iter_mut().step_by(n + 1).for_each(|b| *b += ca);
        let square = View::new(b, n, n, n)?;
        if rows <= cols {
            gemm_parallel(exec, Write::Set, square, view, next)?;
        } else {
            gemm_parallel(exec, Write::Set, view, square, next)?;
        }
        u.copy_from_slice(next);
    }
    Ok(())
}
