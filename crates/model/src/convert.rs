//! Any supported model to a native file.
use std::path::Path;

use chalot_formats::gguf::Value;
use chalot_tensor::exec::Exec;
use chalot_tensor::matrix::Packing;

use crate::error::ModelError;
use crate::load::names::{Names, Role};
use crate::load::{LoadOptions, Source, WeightsAs};
use crate::native::NativeWriter;

/// What a model's weights become.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConvertTo {
    /// What they are; see [`WeightsAs::Auto`].
    #[default]
    Keep,
    /// Ternary at two bits a weight: exactly, where they are ternary, by the absmean rule where not (which
    /// only suits a model that was trained for it). Embedding, head and router keep their form unless they
    /// are ternary too.
    Trit2,
    /// The same at 1.6 bits a weight.
    Trit5,
    /// 8-bit integers in groups of 32, the embedding too.
    Int8,
    /// 4-bit integers in groups of 32; embedding and head 8-bit ones.
    Int4,
}

impl ConvertTo {
    fn weights(self) -> (WeightsAs, Option<Packing>) {
        match self {
            ConvertTo::Keep => (WeightsAs::Auto, None),
            ConvertTo::Trit2 => (WeightsAs::Ternary, Some(Packing::Trit2)),
            ConvertTo::Trit5 => (WeightsAs::Ternary, Some(Packing::Trit5)),
            ConvertTo::Int8 => (WeightsAs::Int8, None),
            ConvertTo::Int4 => (WeightsAs::Int4, None),
        }
    }
}

impl std::str::FromStr for ConvertTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "keep" => Ok(ConvertTo::Keep),
            "trit2" => Ok(ConvertTo::Trit2),
            "trit5" => Ok(ConvertTo::Trit5),
            "int8" => Ok(ConvertTo::Int8),
            "int4" => Ok(ConvertTo::Int4),
            _ => Err(format!("`{text}` is no form of weights; expected keep, trit2, trit5, int8 or int4")),
        }
    }
}

/// How to convert.
#[derive(Clone, Copy, Default)]
pub struct ConvertOptions<'a> {
    /// What the weights become.
    pub to: ConvertTo,
    /// How [`ConvertTo::Keep`] packs ternary weights; see [`LoadOptions::packing`].
    pub packing: Option<Packing>,
    /// The model's name in the new file; without one, the source's.
    pub name: Option<&'a str>,
    /// See [`LoadOptions::progress`].
    pub progress: Option<&'a dyn Fn(u64, u64)>,
}

/// Writes the model of `source` as a native file at `path`, with `metadata` (`tokenizer.*`, `general.*`)
/// inside.
///
/// The model goes through layer by layer and waits on disk, beside `path`, until the header can be written:
/// memory is bounded by the largest layer, the disk needs twice the file's size for a moment.
///
/// # Errors
/// As [`Source::load`]; or the disk refused.
pub fn convert(
    source: &Source,
    exec: &Exec,
    options: &ConvertOptions,
    metadata: &[(String, Value)],
    path: &Path,
) -> Result<(), ModelError> {
    let (weights, packing) = options.to.weights();
    let keep = options.packing.filter(|_| options.to == ConvertTo::Keep);
    let load = LoadOptions { weights, packing: packing.or(keep), progress: options.progress };
    let mut parts = source.assembler(exec, &load)?;
    if let Some(name) = options.name {
        parts.config.name = name.into();
    }
    let mut writer = NativeWriter::spooled(path)?;
    writer.matrix(Role::Embedding, &parts.embedding()?)?;
    for index in 0..parts.config.num_layers() {
        writer.layer(index, &parts.layer(index)?)?;
    }
    writer.vector(&Names::Gguf.weight(Role::FinalNorm), &parts.final_norm()?)?;
    if let Some(head) = parts.head()? {
        writer.matrix(Role::Head, &head)?;
    }
    parts.weights.finish()?;
    writer.finish(&parts.config, metadata)
}
