//! What a Hugging Face folder is: its `config.json` as a [`ModelConfig`].
//!
//! Fields and defaults are those of the configuration classes of `transformers`, in the keys that published
//! checkpoints use and in those of version 5 (`rope_parameters`, `layer_types`). Rotations are all of the
//! half-split (NeoX) style.
use chalot_formats::hf::{Config, Quantization};
use chalot_tensor::elementwise::Activation;
use chalot_tensor::matrix::{Format, ParseFormatError};
use chalot_tensor::rope::{RopeScaling, RopeStyle};

use super::names::HfNorms;
use super::{SUPPORTED, activation, check_layers, even_share};
use crate::config::{Biases, Dimensions, ExpertsConfig, ModelConfig, QkNorm, RopeConfig};
use crate::error::ModelError;

/// What `config.json` says about the weights, beside the model's configuration.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Conventions {
    /// How norms are named.
    pub(super) norms: HfNorms,
    /// What the stored norm weights lack: 1 where the family multiplies by `1 + w`.
    pub(super) norm_offset: f32,
    /// Float weights of linear layers are to be quantized by the absmean rule.
    pub(super) absmean: bool,
    /// How linear layers are quantized.
    pub(super) quantization: Option<Quantization>,
    /// What the embedding is to be rounded to.
    pub(super) embedding: Option<Format>,
}

/// Reads `config.json`. `tensors` is the number of tensors in the folder, which bounds the layers.
pub(super) fn config(
    json: &Config,
    name: &str,
    tensors: usize,
) -> Result<(ModelConfig, Conventions), ModelError> {
    let architectures = json.strings("architectures")?.unwrap_or_default();
    let architecture = match architectures.first() {
        Some(first) => first,
        None => json.required_str("model_type")?,
    };
    let quantization = Quantization::from_config(json)?;
    if quantization.as_ref().is_some_and(|quantization| quantization.use_rms_norm) {
        let mend = "a norm before every projection is not supported";
        return Err(ModelError::config(
            json.file(),
            "quantization_config.use_rms_norm",
            "true",
            "false",
            mend,
        ));
    }
    let absmean = quantization.as_ref().is_some_and(|quantization| quantization.scale().is_none());
    let mut conventions =
        Conventions { norms: HfNorms::Llama, norm_offset: 0.0, absmean, quantization, embedding: None };
    let fields = Fields { json, name, tensors };
    let config = match architecture {
        "LlamaForCausalLM" | "llama" => llama(&fields),
        "BitNetForCausalLM" | "bitnet" => bitnet(&fields, Activation::Relu2),
        // The models of the first BitNet papers: float weights, to be quantized by whoever loads them.
        "BitnetForCausalLM" => {
            (conventions.absmean, conventions.norms) = (true, HfNorms::EarlyBitnet);
            bitnet(&fields, Activation::Silu)
        }
        "ChalotForCausalLM" | "chalot" => {
            conventions.embedding = Some(fields.embedding_format()?);
            chalot(&fields)
        }
        "Qwen2ForCausalLM" | "qwen2" => qwen2(&fields),
        "Qwen3ForCausalLM" | "qwen3" => qwen3(&fields),
        "Qwen3MoeForCausalLM" | "qwen3_moe" => qwen3_moe(&fields),
        "OlmoeForCausalLM" | "olmoe" => olmoe(&fields),
        "Gemma3ForCausalLM" | "gemma3_text" => {
            (conventions.norms, conventions.norm_offset) = (HfNorms::Gemma, 1.0);
            gemma3(&fields)
        }
        "Gemma3ForConditionalGeneration" | "gemma3" => {
            (conventions.norms, conventions.norm_offset) = (HfNorms::Gemma, 1.0);
            let Some(text) = json.section("text_config")? else {
                let mend = "the file is incomplete: download it again";
                return Err(ModelError::config(json.file(), "text_config", "missing", "an object", mend));
            };
            gemma3(&Fields { json: &text, ..fields })
        }
        other => Err(ModelError::UnsupportedArchitecture { file: json.file().into(), found: other.into() }),
    }?;
    debug_assert!(SUPPORTED.contains(&config.family.as_str()));
    config.validate(json.file())?;
    Ok((config, conventions))
}

fn llama(fields: &Fields) -> Result<ModelConfig, ModelError> {
    let mut config = fields.base("llama", Defaults::default())?;
    let attention = fields.json.bool("attention_bias")?.unwrap_or(false);
    let ffn = fields.json.bool("mlp_bias")?.unwrap_or(false);
    config.biases = Biases { qkv: attention, output: attention, ffn };
    Ok(config)
}

fn bitnet(fields: &Fields, activation: Activation) -> Result<ModelConfig, ModelError> {
    let defaults = Defaults { activation, theta: 500_000.0, eps: 1e-5, ..Defaults::default() };
    let mut config = fields.base("bitnet", defaults)?;
    config.sub_norms = true;
    config.biases = fields.attention_bias()?;
    Ok(config)
}

/// Our own training writes the whole configuration.
fn chalot(fields: &Fields) -> Result<ModelConfig, ModelError> {
    let (json, field) = (fields.json, "chalot_config");
    let found = json.section(field)?.map(|section| section.object().clone()).unwrap_or_default();
    let config: ModelConfig = serde_json::from_value(found.into()).map_err(|error| {
        let found = format_args!("what cannot be read ({error})");
        let mend = "the file is damaged, or written by a newer version of this program";
        ModelError::config(json.file(), field, found, "the configuration of a model", mend)
    })?;
    check_layers(json.file(), "chalot_config.layers", config.num_layers(), fields.tensors)?;
    Ok(ModelConfig { name: fields.name.into(), ..config })
}

fn qwen2(fields: &Fields) -> Result<ModelConfig, ModelError> {
    let mut config = fields.base("qwen2", Defaults::default())?;
    config.biases.qkv = true;
    fields.qwen_windows(&mut config)?;
    Ok(config)
}

fn qwen3(fields: &Fields) -> Result<ModelConfig, ModelError> {
    let mut config = fields.base("qwen3", Defaults { head_dim: Some(128), ..Defaults::default() })?;
    config.qk_norm = QkNorm::Head;
    config.biases = fields.attention_bias()?;
    fields.qwen_windows(&mut config)?;
    Ok(config)
}

fn qwen3_moe(fields: &Fields) -> Result<ModelConfig, ModelError> {
    let json = fields.json;
    let mut config = fields.base("qwen3", Defaults::default())?;
    config.qk_norm = QkNorm::Head;
    config.biases = fields.attention_bias()?;
    fields.qwen_windows(&mut config)?;
    let width = json.required_usize("moe_intermediate_size")?;
    let experts = fields.experts(width)?;
    // Dense layers are listed, or every `decoder_sparse_step`th layer has experts.
    let dense = json.f64s("mlp_only_layers")?.unwrap_or_default();
    let step = json.usize("decoder_sparse_step")?.unwrap_or(1).max(1);
    for (index, layer) in config.layers.iter_mut().enumerate() {
        layer.experts = !dense.contains(&(index as f64)) && (index + 1).is_multiple_of(step);
    }
    config.experts = Some(experts);
    Ok(config)
}

fn olmoe(fields: &Fields) -> Result<ModelConfig, ModelError> {
    if fields.json.f64("clip_qkv")?.is_some() {
        return Err(fields
            .json
            .unsupported("clip_qkv", "null", "this variant of the model is not supported")
            .into());
    }
    let mut config = fields.base("olmoe", Defaults { eps: 1e-5, ..Defaults::default() })?;
    config.qk_norm = QkNorm::Row;
    config.biases = fields.attention_bias()?;
    config.experts = Some(fields.experts(config.intermediate_size)?);
    for layer in &mut config.layers {
        layer.experts = true;
    }
    Ok(config)
}

fn gemma3(fields: &Fields) -> Result<ModelConfig, ModelError> {
    let json = fields.json;
    if json.bool("use_bidirectional_attention")?.unwrap_or(false) {
        let mend = "models that look ahead are not supported";
        return Err(json.unsupported("use_bidirectional_attention", "false", mend).into());
    }
    let defaults = Defaults {
        activation: Activation::GeluTanh,
        activation_field: "hidden_activation",
        theta: 1_000_000.0,
        head_dim: Some(256),
        heads: Some(8),
        kv_heads: Some(4),
        vocab: Some(262_208),
        context: Some(131_072),
        tied: true,
        ..Defaults::default()
    };
    let mut config = fields.base("gemma3", defaults)?;
    config.qk_norm = QkNorm::Head;
    config.post_norms = true;
    config.biases = fields.attention_bias()?;
    config.embedding_scale = (config.hidden_size as f32).sqrt();
    config.attention_scale = 1.0 / json.f32("query_pre_attn_scalar")?.unwrap_or(256.0).sqrt();
    // `attn_logit_softcapping` is a field left over from Gemma 2: transformers reads it and computes without
    // it.
    config.final_soft_cap = json.f32("final_logit_softcapping")?;

    // Layers with a window turn with a theta of their own, and are never stretched.
    let parameters = json.section("rope_parameters")?;
    let local = match &parameters {
        Some(parameters) => {
            parameters.section("sliding_attention")?.map(|local| local.f64("rope_theta")).transpose()?
        }
        None => Some(json.f64("rope_local_base_freq")?),
    };
    let theta = local.flatten().unwrap_or(10_000.0);
    let dims = config.head_dim;
    config.rope.push(RopeConfig { style: RopeStyle::Neox, theta, dims, scaling: RopeScaling::None });
    if let Some(window) = json.usize("sliding_window")? {
        let pattern = match json.usize("sliding_window_pattern")? {
            Some(pattern) => pattern,
            None => json.usize("_sliding_window_pattern")?.unwrap_or(6),
        };
        let local = |layer: usize| !(layer + 1).is_multiple_of(pattern.max(1));
        fields.windows(&mut config, window, 1, local)?;
    }
    Ok(config)
}

/// What a family takes where `config.json` says nothing.
struct Defaults {
    activation: Activation,
    activation_field: &'static str,
    theta: f64,
    eps: f32,
    /// `hidden_size / num_attention_heads` without one.
    head_dim: Option<usize>,
    heads: Option<usize>,
    /// As many as heads without one.
    kv_heads: Option<usize>,
    vocab: Option<usize>,
    context: Option<usize>,
    tied: bool,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            activation: Activation::Silu,
            activation_field: "hidden_act",
            theta: 10_000.0,
            eps: 1e-6,
            head_dim: None,
            heads: None,
            kv_heads: None,
            vocab: None,
            context: None,
            tied: false,
        }
    }
}

/// The fields of `config.json`, or of its part about the text model.
#[derive(Clone, Copy)]
struct Fields<'a> {
    json: &'a Config,
    name: &'a str,
    tensors: usize,
}

impl Fields<'_> {
    /// A number that the family may have a default for.
    fn size(&self, field: &str, default: Option<usize>) -> Result<usize, ModelError> {
        Ok(match (self.json.usize(field)?, default) {
            (Some(value), _) | (None, Some(value)) => value,
            (None, None) => self.json.required_usize(field)?,
        })
    }

    /// What all families share.
    fn base(&self, family: &str, defaults: Defaults) -> Result<ModelConfig, ModelError> {
        let (json, file) = (self.json, self.json.file());
        let hidden_size = json.required_usize("hidden_size")?;
        let num_heads = self.size("num_attention_heads", defaults.heads)?;
        let num_kv_heads = self.size("num_key_value_heads", defaults.kv_heads.or(Some(num_heads)))?;
        let head_dim = match (json.usize("head_dim")?, defaults.head_dim) {
            (Some(head_dim), _) | (None, Some(head_dim)) => head_dim,
            (None, None) => even_share(file, "hidden_size", hidden_size, num_heads)?,
        };
        let num_layers = json.required_usize("num_hidden_layers")?;
        check_layers(file, "num_hidden_layers", num_layers, self.tensors)?;
        let activation = match json.str(defaults.activation_field)? {
            Some(name) => activation(file, defaults.activation_field, name)?,
            None => defaults.activation,
        };
        let dimensions = Dimensions {
            vocab_size: self.size("vocab_size", defaults.vocab)?,
            hidden_size,
            num_layers,
            num_heads,
            num_kv_heads,
            head_dim,
            intermediate_size: json.required_usize("intermediate_size")?,
            context_length: self.size("max_position_embeddings", defaults.context)?,
        };
        Ok(ModelConfig {
            name: self.name.into(),
            family: family.into(),
            norm_eps: json.f32("rms_norm_eps")?.unwrap_or(defaults.eps),
            activation,
            rope: vec![self.rope(head_dim, defaults.theta)?],
            tied_embeddings: json.bool("tie_word_embeddings")?.unwrap_or(defaults.tied),
            ..ModelConfig::llama(dimensions)
        })
    }

    /// The format that our own training rounds the embedding to.
    fn embedding_format(&self) -> Result<Format, ModelError> {
        let (json, field) = (self.json, "chalot_embedding");
        json.required_str(field)?.parse().map_err(|error: ParseFormatError| {
            let mend = "the file is damaged, or written by a newer version of this program";
            ModelError::config(json.file(), field, error, "a format like int8/row", mend)
        })
    }

    fn attention_bias(&self) -> Result<Biases, ModelError> {
        let bias = self.json.bool("attention_bias")?.unwrap_or(false);
        Ok(Biases { qkv: bias, output: bias, ffn: false })
    }

    /// The rotation of layers without a window. In published configurations theta stands at the top and the
    /// rest in `rope_scaling`; version 5 puts all into `rope_parameters`, by the kind of layer where kinds
    /// differ.
    fn rope(&self, head_dim: usize, theta: f64) -> Result<RopeConfig, ModelError> {
        let json = self.json;
        let section = match json.section("rope_parameters")? {
            Some(parameters) => Some(parameters.section("full_attention")?.unwrap_or(parameters)),
            None => json.section("rope_scaling")?,
        };
        let inside = |field: &str| section.as_ref().map(|section| section.f64(field)).transpose();
        let theta = match inside("rope_theta")?.flatten() {
            Some(theta) => theta,
            None => json.f64("rope_theta")?.unwrap_or(theta),
        };
        let rotated = match inside("partial_rotary_factor")?.flatten() {
            Some(share) => share,
            None => json.f64("partial_rotary_factor")?.unwrap_or(1.0),
        };
        // As transformers computes it; a share that makes no sense is caught when the configuration is
        // validated.
        let dims = (head_dim as f64 * rotated) as usize;
        let scaling = match &section {
            Some(section) => self.rope_scaling(section)?,
            None => RopeScaling::None,
        };
        Ok(RopeConfig { style: RopeStyle::Neox, theta, dims, scaling })
    }

    fn rope_scaling(&self, section: &Config) -> Result<RopeScaling, ModelError> {
        // Older files say "type".
        let field = if section.get("rope_type").is_some() { "rope_type" } else { "type" };
        Ok(match section.str(field)? {
            None | Some("default") => RopeScaling::None,
            Some("linear") => RopeScaling::Linear { factor: section.required_f32("factor")? },
            Some("llama3") => RopeScaling::Llama3 {
                factor: section.required_f32("factor")?,
                low_freq_factor: section.required_f32("low_freq_factor")?,
                high_freq_factor: section.required_f32("high_freq_factor")?,
                original_context: match section.usize("original_max_position_embeddings")? {
                    Some(context) => context,
                    None => self.json.required_usize("max_position_embeddings")?,
                },
            },
            Some(_) => {
                let mend = "this way to stretch the context is not supported; without it the model runs in its \
                            original context: remove the section";
                return Err(section.unsupported(field, "\"default\", \"linear\" or \"llama3\"", mend).into());
            }
        })
    }

    /// Qwen's windows: in the layers from `max_window_layers` on, if they are switched on at all.
    fn qwen_windows(&self, config: &mut ModelConfig) -> Result<(), ModelError> {
        let json = self.json;
        let on = json.bool("use_sliding_window")?.unwrap_or(false);
        let Some(window) = json.usize("sliding_window")?.filter(|_| on) else { return Ok(()) };
        let first = json.usize("max_window_layers")?.unwrap_or(28);
        self.windows(config, window, 0, |layer| layer >= first)
    }

    /// Gives a window and the rotation `rope` to the layers that `layer_types` lists, or else to those that
    /// `local` says.
    fn windows(
        &self,
        config: &mut ModelConfig,
        window: usize,
        rope: usize,
        local: impl Fn(usize) -> bool,
    ) -> Result<(), ModelError> {
        let types = self.json.strings("layer_types")?;
        if let Some(types) = &types {
            let known = |kind: &&str| matches!(*kind, "sliding_attention" | "full_attention");
            if types.len() != config.num_layers() || !types.iter().all(known) {
                let mend = "correct the field, or download the file again";
                let expected = "\"sliding_attention\" or \"full_attention\" for each layer";
                return Err(self.json.unsupported("layer_types", expected, mend).into());
            }
        }
        for (index, layer) in config.layers.iter_mut().enumerate() {
            let is_local =
                types.as_ref().map_or_else(|| local(index), |types| types[index] == "sliding_attention");
            if is_local {
                (layer.window, layer.rope) = (Some(window), rope);
            }
        }
        Ok(())
    }

    /// A mixture of experts of this width.
    fn experts(&self, intermediate_size: usize) -> Result<ExpertsConfig, ModelError> {
        let json = self.json;
        let count = match json.usize("num_experts")? {
            Some(count) => count,
            None => json.required_usize("num_local_experts")?,
        };
        Ok(ExpertsConfig {
            count,
            top_k: json.required_usize("num_experts_per_tok")?,
            intermediate_size,
            renormalize: json.bool("norm_topk_prob")?.unwrap_or(false),
            shared_intermediate_size: None,
            sub_norms: false,
            scale: 1.0,
        })
    }
}
