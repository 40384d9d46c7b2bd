//! The arithmetic of ternary language models, the same bits on every CPU.
pub mod activations;
mod ahead;
pub mod attention;
pub mod elementwise;
pub mod exec;
pub mod gemm;
pub mod linear;
pub mod math;
pub mod matrix;
pub mod norm;
pub mod out;
pub mod parts;
pub mod pool;
pub mod rope;
pub mod softmax;
mod sync;
pub mod ternary;
#[cfg(test)]
mod testing;
pub mod yardstick;

pub use self::{
    activations::Activations,
    exec::{Exec, ShapeError, Tiling},
    linear::matmul,
    matrix::{Format, Matrix, MatrixError, MatrixSpec, Packing, ScaleBy},
    pool::Pool,
};
