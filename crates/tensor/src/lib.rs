//! The arithmetic of ternary language models, the same bits on every CPU.
pub mod attention;
pub mod elementwise;
pub mod exec;
pub mod math;
pub mod matrix;
pub mod norm;
pub mod out;
pub mod pool;
pub mod rope;
pub mod softmax;
pub mod ternary;
