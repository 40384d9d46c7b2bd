//! Models for others: a native file, a Hugging Face folder, or a model in memory.
//!
//! What is exported is what training computed: the quantized weights are made by the same function, so the logits are the same
//! bits.
mod hugging_face;

use std::path::Path;

use chalot_formats::gguf::Value;
use chalot_model::{Attention, Experts, Ffn, GatedFfn, Layer, Linear, Model, write_native};
use chalot_tensor::matrix::{Format, Matrix, Packing, ScaleBy};

pub use self::hugging_face::hugging_face;
use crate::error::TrainError;
use crate::network::{FfnIds, Kind, LayerFfn, Network, Parameter};

/// The model that `network` is, its layers packed as `packing` if they are ternary.
///
/// # Errors
/// [`TrainError::NotFinite`] when a weight is not.
pub fn model(network: &Network, packing: Packing) -> Result<Model, TrainError> {
    let config = network.config().clone();
    let parameter = |id: usize| &network.parameters()[id];
    let matrix = |id| one_matrix(network, packing, parameter(id));
    let linear = |id| Ok::<_, TrainError>(Linear { weight: matrix(id)?, bias: None });
    let norm = |id: usize| parameter(id).value.clone();
    let network_of = |ids: &FfnIds| {
        let (sub_norm, first) = ids.sub_norm;
        Ok::<_, TrainError>(GatedFfn {
            gate: linear(ids.gate)?,
            up: linear(ids.up)?,
            down: linear(ids.down)?,
            sub_norm: Some(parameter(sub_norm).value[first..][..ids.width].to_vec()),
        })
    };
    let layers = (0..config.num_layers()).map(|index| {
        let ids = network.layer_ids(index);
        let ffn = match &ids.ffn {
            LayerFfn::Dense(ids) => Ffn::Dense(network_of(ids)?),
            LayerFfn::Experts(ids) => Ffn::Experts(Experts {
                router: linear(ids.router)?,
                selection_bias: Some(network.selection_bias(index).to_vec()),
                experts: ids.experts.iter().map(network_of).collect::<Result<_, _>>()?,
                shared: ids.shared.as_ref().map(network_of).transpose()?,
            }),
        };
        Ok::<_, TrainError>(Layer {
            attention: Attention {
                norm: norm(ids.norm),
                q: linear(ids.q)?,
                k: linear(ids.k)?,
                v: linear(ids.v)?,
                o: linear(ids.o)?,
                q_norm: Some(norm(ids.q_norm)),
                k_norm: Some(norm(ids.k_norm)),
                sub_norm: Some(norm(ids.sub_norm)),
                post_norm: None,
            },
            ffn_norm: norm(ids.ffn_norm),
            ffn,
            ffn_post_norm: None,
        })
    });
    Ok(Model {
        layers: layers.collect::<Result<_, _>>()?,
        embedding: matrix(0)?,
        final_norm: norm(network.parameters().len() - 1),
        head: None,
        config,
    })
}

fn one_matrix(network: &Network, packing: Packing, parameter: &Parameter) -> Result<Matrix, TrainError> {
    let format = match parameter.kind {
        Kind::Matrix if network.ternary() => packing.scaled(ScaleBy::Tensor),
        Kind::Embedding => network.embedding_format().format(),
        _ => Format::F32,
    };
    if parameter.value.iter().any(|x| !x.is_finite()) {
        return Err(TrainError::NotFinite { name: parameter.name.clone() });
    }
    let (rows, cols) = (parameter.shape[0], parameter.shape[1]);
    Ok(Matrix::from_f32(network.exec(), format, rows, cols, &parameter.value)?)
}

/// Writes `network` as a native file, with `metadata` (the tokenizer's keys, `general.*`) inside.
///
/// # Errors
/// As [`model`]; or the disk refused.
pub fn native(
    network: &Network,
    packing: Packing,
    name: &str,
    metadata: &[(String, Value)],
    path: &Path,
) -> Result<(), TrainError> {
    let mut model = model(network, packing)?;
    model.config.name = name.into();
    Ok(write_native(&model, metadata, path)?)
}
