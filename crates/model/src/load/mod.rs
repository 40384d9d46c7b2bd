//! Opening what a model may be stored as, and turning it into a [`Model`].
//!
//! [`Source::open`] maps the file (or the folder's files) and reads what describes it; nothing is decoded.
//! Then [`Source::config`] says what the model is, [`Source::describe`] what is in the file, and
//! [`Source::load`] builds the weights: in place for a native file, repacked in parallel for all others.
//!
//! One function for each family turns metadata into a [`ModelConfig`]; the tensors, under the names of their
//! roles, go the same way for all.
pub(crate) mod assemble;
mod build;
mod describe;
mod foreign;
mod gguf;
mod hf;
mod llama2c;
pub(crate) mod names;
pub(crate) mod recode;
mod slabs;
mod source;
mod store;
mod tensors;

pub use describe::{Description, TensorDescription};
pub use source::{Source, SourceKind};

use chalot_tensor::elementwise::Activation;
use chalot_tensor::matrix::Packing;

use crate::error::ModelError;
#[cfg(doc)]
use crate::{config::ModelConfig, weights::Model};

/// The families that load.
pub const SUPPORTED: &[&str] =
    &["bitnet", "llama", "qwen2", "qwen3", "gemma3", "olmoe", "llama2.c", "chalot"];

/// The family of the models that are trained here.
pub(crate) const OWN_FAMILY: &str = "chalot";

/// What to do about a file that contradicts itself.
pub(crate) const DAMAGED: &str = "the file is damaged: download or convert it again";

/// How to load a model.
#[derive(Clone, Copy, Default)]
pub struct LoadOptions<'a> {
    /// In which form to keep the weights.
    pub weights: WeightsAs,
    /// How to pack ternary weights; without one, as a native file has them, and two bits a weight from all
    /// others.
    pub packing: Option<Packing>,
    /// Called as loading goes on with the bytes read and the bytes of all tensors. Not called for native
    /// files, which open in place.
    pub progress: Option<&'a dyn Fn(u64, u64)>,
}

impl std::fmt::Debug for LoadOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadOptions")
            .field("weights", &self.weights)
            .field("packing", &self.packing)
            .finish_non_exhaustive()
    }
}

/// In which form to keep the weights. The router of a mixture of experts is always f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WeightsAs {
    /// The form closest to the file's: ternary stays ternary, 4-bit and 8-bit integers stay what they are,
    /// floats stay as stored; what no kernel keeps (K-quants of other widths) becomes int8 in groups of 32.
    #[default]
    Auto,
    /// All in f32: slow, large, and as exact as the file.
    F32,
    /// Linear layers in ternary: exactly where they are ternary, by the absmean rule where they are not.
    /// Embedding and head stay as they are.
    Ternary,
    /// Everything in int8, in groups of 32.
    Int8,
    /// Linear layers in int4, embedding and head in int8, in groups of 32.
    Int4,
}

/// The activation that a file names as GGUF or Hugging Face do.
fn activation(file: &str, field: &str, name: &str) -> Result<Activation, ModelError> {
    match name {
        "silu" | "swish" => Ok(Activation::Silu),
        "gelu_pytorch_tanh" | "gelu_new" | "gelu_fast" => Ok(Activation::GeluTanh),
        "gelu" => Ok(Activation::GeluErf),
        "relu2" | "relu_sqr" => Ok(Activation::Relu2),
        _ => {
            let expected = "silu, gelu, gelu_pytorch_tanh or relu2";
            let mend = "this activation is not supported";
            Err(ModelError::config(file, field, format_args!("'{name}'"), expected, mend))
        }
    }
}

/// `whole / parts` where a file leaves out the width of a head.
fn even_share(file: &str, field: &str, whole: usize, parts: usize) -> Result<usize, ModelError> {
    if parts == 0 || !whole.is_multiple_of(parts) {
        let expected = format!("a multiple of the {parts} heads, since the width of a head is not given");
        return Err(ModelError::config(file, field, whole, &expected, DAMAGED));
    }
    Ok(whole / parts)
}

/// Refuses more layers than there are tensors, before anything is allocated for them.
fn check_layers(file: &str, field: &str, layers: usize, tensors: usize) -> Result<(), ModelError> {
    if layers > tensors {
        let expected = format!("at most the {tensors} tensors that are there");
        return Err(ModelError::config(file, field, layers, &expected, DAMAGED));
    }
    Ok(())
}
