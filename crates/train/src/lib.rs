//! Trains ternary language models from scratch.
//!
//! A [`Network`](network::Network) is a model with f32 master weights. Its forward pass is that of inference, kernel
//! for kernel, so an exported model computes the very logits that training saw. Every operation has an explicit backward
//! pass ([`ops`]); an [`Optimizer`](optim::Optimizer) turns gradients into steps; [`export`] writes the model.
pub mod checkpoint;
pub mod data;
pub mod error;
pub mod export;
pub mod log;
pub mod network;
pub mod ops;
pub mod optim;
pub mod plot;
pub mod processes;
pub mod random;
pub mod recipe;
pub mod run;

pub use error::TrainError;

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
