//! What a llama2.c file is: a Llama with interleaved rotation, theta 10000 and epsilon 1e-5, all in f32.
use std::collections::HashMap;

use bytes::Bytes;
use chalot_formats::TensorType;
use chalot_formats::llama2c::{Llama2c, Part as Stacked};
use chalot_tensor::rope::RopeStyle;

use super::names::{Names, Part, Projection, Role, Where};
use super::store::{Coding, Store, Stored};
use crate::config::{Dimensions, ModelConfig};
use crate::error::ModelError;

/// The configuration of a file; `name` is the model's.
pub(super) fn config(file: &str, name: &str, llama2c: &Llama2c) -> Result<ModelConfig, ModelError> {
    let header = &llama2c.config;
    let dimensions = Dimensions {
        vocab_size: header.vocab_size,
        hidden_size: header.dim,
        num_layers: header.layers,
        num_heads: header.heads,
        num_kv_heads: header.kv_heads,
        head_dim: header.head_dim(),
        intermediate_size: header.hidden_dim,
        context_length: header.context,
    };
    let mut config = ModelConfig {
        name: name.into(),
        family: "llama2.c".into(),
        tied_embeddings: header.shared_classifier,
        ..ModelConfig::llama(dimensions)
    };
    config.rope[0].style = RopeStyle::Interleaved;
    config.validate(file)?;
    Ok(config)
}

/// The tensors of a file, under GGUF's names: its own has none.
pub(super) fn store(file: &str, llama2c: &Llama2c, bytes: &Bytes) -> Store {
    let mut tensors = HashMap::new();
    for part in Stacked::ALL {
        let (rows, cols) = part.shape(&llama2c.config);
        let shape = match part {
            Stacked::AttentionNorm | Stacked::FfnNorm | Stacked::FinalNorm => vec![cols],
            _ => vec![rows, cols],
        };
        let layers = if part.per_layer() { llama2c.config.layers } else { 1 };
        for layer in 0..layers {
            let Some(range) = llama2c.range(part, layer) else { continue };
            let name = Names::Gguf.weight(role(part, layer));
            let stored = Stored {
                file: file.into(),
                name: name.clone(),
                shape: shape.clone(),
                bytes: bytes.slice(range),
                coding: Coding::Ggml(TensorType::F32),
                scale: None,
            };
            tensors.insert(name, stored);
        }
    }
    Store { file: file.into(), names: Names::Gguf, tensors, stacks: HashMap::new() }
}

fn role(part: Stacked, layer: usize) -> Role {
    let in_layer = |part| Role::Layer(layer, part);
    match part {
        Stacked::TokenEmbedding => Role::Embedding,
        Stacked::FinalNorm => Role::FinalNorm,
        Stacked::Classifier => Role::Head,
        Stacked::AttentionNorm => in_layer(Part::AttentionNorm),
        Stacked::Query => in_layer(Part::Query),
        Stacked::Key => in_layer(Part::Key),
        Stacked::Value => in_layer(Part::Value),
        Stacked::Output => in_layer(Part::Output),
        Stacked::FfnNorm => in_layer(Part::FfnNorm),
        Stacked::Gate => in_layer(Part::Ffn(Where::Dense, Projection::Gate)),
        Stacked::Up => in_layer(Part::Ffn(Where::Dense, Projection::Up)),
        Stacked::Down => in_layer(Part::Ffn(Where::Dense, Projection::Down)),
    }
}
