//! The tensors of GGUF files and Hugging Face folders as a [`Store`]: stacks of experts taken apart, scales
//! joined to what they scale.
use std::collections::HashMap;

use bytes::Bytes;
use chalot_formats::TensorType;
use chalot_formats::codec::TensorView;
use chalot_formats::gguf::Gguf;
use chalot_formats::hf::Quantization;
use chalot_formats::safetensors::{Dtype, Shards, TensorInfo, tensor_type};

use super::hf::Conventions;
use super::names::{Names, Part, Projection, Role, Where};
use super::store::{Coding, Store, Stored};
use crate::error::{ModelError, Shape};

/// Divisors of the rotation's frequencies: how GGUF files of Llama 3.1 say what `rope_scaling` says
/// elsewhere.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The tensors of a GGUF file.
pub(super) fn gguf(file: &str, gguf: &Gguf, bytes: &Bytes) -> Result<Store, ModelError> {
    let mut tensors = HashMap::new();
    let mut stacks = HashMap::new();
    let mut scales = Vec::new();
    for info in &gguf.tensors {
        let stored = Stored {
            file: file.into(),
            name: info.name.clone(),
            shape: info.dims.iter().rev().copied().collect(),
            bytes: bytes.slice(info.range.clone()),
            coding: Coding::Ggml(info.ty),
            scale: None,
        };
        if let Some(module) = info.name.strip_suffix(".scale") {
            scales.push((module.to_owned(), scalar(&stored)?));
        } else if info.name.ends_with(ROPE_FACTORS) || info.name.ends_with("attn_rot_embd.weight") {
            // Part of the configuration (`rope_factors`), or what every reader computes for itself.
        } else if let Some((layer, projection)) = gguf_stack(&info.name) {
            stacks.insert(info.name.clone(), stored.shape.clone());
            for (expert, part) in stored.unstack()?.into_iter().enumerate() {
                let role = Role::Layer(layer, Part::Ffn(Where::Expert(expert), projection));
                tensors.insert(Names::Gguf.weight(role), part);
            }
        } else {
            tensors.insert(info.name.clone(), stored);
        }
    }
    join_scales(file, &mut tensors, scales, |scale| scale)?;
    Ok(Store { file: file.into(), names: Names::Gguf, tensors, stacks })
}

/// Layer and projection of a stack of experts by its name.
fn gguf_stack(name: &str) -> Option<(usize, Projection)> {
    let (layer, stem) = name.strip_prefix("blk.")?.split_once('.')?;
    let projection = match stem {
        "ffn_gate_exps.weight" => Projection::Gate,
        "ffn_up_exps.weight" => Projection::Up,
        "ffn_down_exps.weight" => Projection::Down,
        _ => return None,
    };
    Some((layer.parse().ok()?, projection))
}

/// The factors of the rotation's frequencies, if the file has them.
pub(super) fn rope_factors(gguf: &Gguf, bytes: &Bytes) -> Result<Option<Vec<f32>>, ModelError> {
    if gguf.tensor(ROPE_FACTORS).is_none() {
        return Ok(None);
    }
    Ok(Some(gguf.view(ROPE_FACTORS, bytes)?.to_f32()?))
}

/// The tensors of a Hugging Face folder: `files` are the bytes of its shards.
pub(super) fn hf(
    file: &str,
    shards: &Shards,
    files: &[Bytes],
    conventions: &Conventions,
) -> Result<Store, ModelError> {
    let prefixes = ["model.", "model.language_model.", "language_model.model."];
    let has = |prefix: &&str| shards.tensor(&format!("{prefix}embed_tokens.weight")).is_some();
    let prefix = prefixes.into_iter().find(has).unwrap_or(prefixes[0]);
    let mut tensors = HashMap::new();
    let mut scales = Vec::new();
    for (shard, info) in shards.iter() {
        // What every reader computes for itself, and what sees pictures.
        let vision = ["vision_tower.", "multi_modal_projector."].iter().any(|part| info.name.contains(part));
        if vision || info.name.ends_with("rotary_emb.inv_freq") {
            continue;
        }
        let stored = hf_tensor(shards.files[shard].file(), info, &files[shard], conventions)?;
        if let Some(module) = info.name.strip_suffix(".weight_scale") {
            scales.push((module.to_owned(), scalar(&stored)?));
        } else if let Some(module) = info.name.strip_suffix(".mlp.experts.gate_up_proj") {
            for (expert, part) in stored.unstack()?.into_iter().enumerate() {
                let (gate, up) = halves(&part)?;
                tensors.insert(format!("{module}.mlp.experts.{expert}.gate_proj.weight"), gate);
                tensors.insert(format!("{module}.mlp.experts.{expert}.up_proj.weight"), up);
            }
        } else if let Some(module) = info.name.strip_suffix(".mlp.experts.down_proj") {
            for (expert, part) in stored.unstack()?.into_iter().enumerate() {
                tensors.insert(format!("{module}.mlp.experts.{expert}.down_proj.weight"), part);
            }
        } else {
            // The head stands outside of `model.`; inside a multimodal model it has that model's prefix.
            let name = info.name.strip_prefix("language_model.").filter(|name| name.starts_with("lm_head."));
            tensors.insert(name.unwrap_or(&info.name).to_owned(), stored);
        }
    }
    let sense = conventions.quantization.as_ref().and_then(Quantization::scale);
    join_scales(file, &mut tensors, scales, |scale| sense.map_or(scale, |sense| sense.factor(scale)))?;
    // What `transformers` saves again after it unpacked it: codes as floats, their scale beside them.
    for stored in tensors.values_mut().filter(|stored| stored.scale.is_some()) {
        if let Coding::Ggml(ty) = stored.coding {
            stored.coding = Coding::Codes(ty);
        }
    }
    let names = Names::Hf { prefix: prefix.into(), norms: conventions.norms };
    Ok(Store { file: file.into(), names, tensors, stacks: HashMap::new() })
}

fn hf_tensor(
    file: &str,
    info: &TensorInfo,
    bytes: &Bytes,
    conventions: &Conventions,
) -> Result<Stored, ModelError> {
    let mut stored = Stored {
        file: file.into(),
        name: info.name.clone(),
        shape: info.shape.clone(),
        // The range was checked against the length of these bytes when the file was opened.
        bytes: bytes.slice(info.range.clone()),
        coding: Coding::Ggml(TensorType::F32),
        scale: None,
    };
    stored.coding = match (tensor_type(info.dtype), &conventions.quantization) {
        (Some(ty), _) if conventions.absmean && is_converted(&info.name, conventions) => Coding::Absmean(ty),
        (Some(ty), _) => match conventions.embedding {
            Some(format) if info.name.ends_with("embed_tokens.weight") => Coding::Rounded(ty, format),
            _ => Coding::Ggml(ty),
        },
        (None, Some(_)) if info.dtype == Dtype::U8 => {
            // Four output rows a byte.
            if let Some(rows) = stored.shape.first_mut() {
                *rows = rows.saturating_mul(4);
            }
            Coding::PackedBitnet
        }
        _ => {
            let expected = "F32, F16, BF16, or U8 with a quantization_config of method bitnet";
            return Err(stored.error(
                format!("dtype {}", info.dtype),
                expected,
                "get the model in one of these types",
            ));
        }
    };
    Ok(stored)
}

/// Whether a tensor is the weight of a linear layer that was trained to be quantized: a projection in a layer
/// that `modules_to_not_convert` does not name (by its path, a path above it, or the end of its path).
fn is_converted(name: &str, conventions: &Conventions) -> bool {
    let Some(module) = name.strip_suffix(".weight").filter(|module| module.ends_with("_proj")) else {
        return false;
    };
    let kept = conventions.quantization.iter().flat_map(|quantization| &quantization.modules_to_not_convert);
    let above =
        |kept: &str| module.strip_prefix(kept).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    !kept.into_iter().any(|kept| above(kept) || module.ends_with(kept.as_str()))
}

/// The two halves of a matrix's rows.
fn halves(stored: &Stored) -> Result<(Stored, Stored), ModelError> {
    let (rows, cols) = (stored.rows(), stored.cols());
    if !rows.is_multiple_of(2) {
        let found = format!("{rows} rows");
        return Err(stored.error(found, "an even number: gate and up, one after the other", super::DAMAGED));
    }
    let half =
        |range| Stored { shape: vec![rows / 2, cols], bytes: stored.bytes.slice(range), ..stored.clone() };
    let middle = stored.bytes.len() / 2;
    Ok((half(0..middle), half(middle..stored.bytes.len())))
}

/// The one number in a tensor that is a scale.
fn scalar(stored: &Stored) -> Result<f32, ModelError> {
    let number = match stored.coding {
        Coding::Ggml(ty) if stored.shape.iter().all(|&dim| dim == 1) => {
            TensorView::new(&stored.file, &stored.name, ty, &[1], &stored.bytes)?.to_f32()?.first().copied()
        }
        _ => None,
    };
    match number {
        Some(number) if number.is_finite() && number != 0.0 => Ok(number),
        Some(number) => {
            Err(stored.error(number.to_string(), "a finite number that is not 0", super::DAMAGED))
        }
        None => {
            let found = format!("shape {}", Shape(stored.shape.clone()));
            Err(stored.error(found, "one float", super::DAMAGED))
        }
    }
}

/// Gives each module's weight its scale.
fn join_scales(
    file: &str,
    tensors: &mut HashMap<String, Stored>,
    scales: Vec<(String, f32)>,
    factor: impl Fn(f32) -> f32,
) -> Result<(), ModelError> {
    for (module, scale) in scales {
        let Some(weight) = tensors.get_mut(&format!("{module}.weight")) else {
            return Err(ModelError::UnexpectedTensors {
                file: file.into(),
                tensor: format!("the scale of {module}"),
                count: 1,
                mend: "the weight that it scales is missing".into(),
            });
        };
        weight.scale = Some(factor(scale));
    }
    Ok(())
}
