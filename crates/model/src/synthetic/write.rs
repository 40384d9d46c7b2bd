//! Synthetic models in a file, made layer by layer: larger than memory, if need be.
use std::path::Path;

use chalot_formats::gguf::Value;
use chalot_simd::Arena;
use chalot_tensor::Format;

use super::Maker;
use crate::config::ModelConfig;
use crate::error::ModelError;
use crate::load::names::{Names, Role};
use crate::native::NativeWriter;

/// Writes the model that [`synthetic`](super::synthetic) would make as a native file at `path`, with `metadata`
/// (`tokenizer.*`, `general.*`) inside. Memory is bounded by one layer and the embedding; the layers wait on disk, beside
/// `path`, until the header can be written. `progress` is told the layers made and their number.
///
/// # Errors
/// A format or a shape is impossible, or the disk refused.
pub fn write_synthetic(
    config: &ModelConfig,
    (weights, head): (Format, Format),
    seed: u64,
    metadata: &[(String, Value)],
    path: &Path,
    progress: &dyn Fn(usize, usize),
) -> Result<(), ModelError> {
    let failed = |source| ModelError::Matrix {
        file: path.display().to_string(),
        tensor: "random weights".into(),
        source,
    };
    config.validate(&path.display().to_string())?;
    let mut maker = Maker { weights, head, seed, arena: Arena::default() };
    let mut writer = NativeWriter::spooled(path)?;
    for index in 0..config.num_layers() {
        writer.layer(index, &maker.layer(config, index).map_err(failed)?)?;
        progress(index + 1, config.num_layers());
    }
    writer.matrix(Role::Embedding, &maker.embedding(config).map_err(failed)?)?;
    writer.vector(&Names::Gguf.weight(Role::FinalNorm), &vec![1.0; config.hidden_size])?;
    if let Some(head) = maker.head(config).map_err(failed)? {
        writer.matrix(Role::Head, &head)?;
    }
    writer.finish(config, metadata)
}
