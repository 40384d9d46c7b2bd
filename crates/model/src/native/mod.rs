//! The native file: a GGUF whose matrices are in kernel order already, so that opening it is one mmap.
//!
//! - Version 3, `general.architecture = "chalot"`, `general.alignment = 4096`.
//! - `chalot.config` holds the [`ModelConfig`](crate::ModelConfig) as JSON and is the one truth; keys in
//!   GGUF's own words (`chalot.block_count`, ...) are there for other programs to show.
//! - A matrix is a tensor of type I8 with one dimension, its image
//!   ([`Matrix::image`](chalot_tensor::matrix::Matrix)). The key `chalot.matrix.<tensor>` says what it is:
//!   `trit2/tensor 2560x6912`.
//! - Norms and biases are F32. Tensors have GGUF's usual names (`blk.0.attn_q.weight`).
//! - A layer's experts are one tensor `blk.N.ffn_experts.weight`, I8 `[stride, count]`: each expert's gate,
//!   up and down images together, each at a multiple of 64 bytes, the stride a multiple of 4096. Its key
//!   names the three specifications, separated by `; `.
mod read;
mod write;

pub(crate) use read::{Native, config};
pub(crate) use write::NativeWriter;
pub use write::write_native;

/// `general.architecture` of native files.
pub const ARCHITECTURE: &str = "chalot";
/// Alignment of tensors: a page, so that an expert can be prefetched and released by itself.
pub const ALIGNMENT: usize = 4096;
/// The key of the configuration.
pub(crate) const CONFIG_KEY: &str = "chalot.config";
/// What stands before a tensor's name in the key of its specification.
pub(crate) const MATRIX_KEY: &str = "chalot.matrix.";
/// Alignment of an image.
pub(crate) const IMAGE_ALIGNMENT: usize = 64;

/// The tensor that holds the experts of a layer.
pub(crate) fn experts_name(layer: usize) -> String {
    format!("blk.{layer}.ffn_experts.weight")
}
