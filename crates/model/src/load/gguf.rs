//! What a foreign GGUF file is: its metadata as a [`ModelConfig`].
//!
//! Key names and defaults follow ggml's `docs/gguf.md` and, where that is silent, what llama.cpp does with
//! them. Norm weights of Gemma are stored as `1 + w` already; q and k of the `llama` architecture are stored
//! with their rows permuted for the interleaved rotation, those of all others in Hugging Face's order.
use chalot_formats::gguf::Gguf;
use chalot_tensor::elementwise::Activation;
use chalot_tensor::rope::{RopeScaling, RopeStyle};

use super::names::{Names, Part, Projection, Role, Where};
use crate::config::{Biases, Dimensions, ExpertsConfig, LayerConfig, ModelConfig, QkNorm, RopeConfig};
use crate::error::ModelError;

/// The configuration that a GGUF file describes. `rope_factors` is the content of its tensor
/// `rope_freqs.weight`.
pub(super) fn config(
    file: &str,
    gguf: &Gguf,
    rope_factors: Option<Vec<f32>>,
) -> Result<ModelConfig, ModelError> {
    let arch = gguf.metadata.required_str("general.architecture")?;
    let keys = Keys { file, gguf, arch };
    let mut config = match arch {
        "llama" => llama(&keys),
        "bitnet" | "bitnet-b1.58" | "bitnet-25" => bitnet(&keys),
        "qwen2" => keys.base("qwen2", RopeStyle::Neox),
        "qwen3" | "qwen3moe" => qwen3(&keys),
        "olmoe" => olmoe(&keys),
        "gemma3" => gemma3(&keys),
        _ => Err(ModelError::UnsupportedArchitecture { file: file.into(), found: arch.into() }),
    }?;
    if let Some(factors) = rope_factors {
        for rope in config.rope.iter_mut().filter(|rope| rope.scaling == RopeScaling::None) {
            rope.scaling = RopeScaling::Factors(factors.clone());
        }
    }
    config.validate(file)?;
    Ok(config)
}

fn llama(keys: &Keys) -> Result<ModelConfig, ModelError> {
    let mut config = keys.base("llama", RopeStyle::Interleaved)?;
    keys.experts(&mut config, true)?;
    Ok(config)
}

fn bitnet(keys: &Keys) -> Result<ModelConfig, ModelError> {
    let mut config = keys.base("bitnet", RopeStyle::Neox)?;
    config.sub_norms = true;
    // The 2B-4T model squares its ReLU; the models before it, which share the string "bitnet", use SiLU.
    // Files that say neither are told apart by the numbers of that one model.
    let is_2b_4t = config.hidden_size == 2560
        && config.intermediate_size == 6912
        && config.num_layers() == 30
        && config.vocab_size == 128_256;
    config.activation = match keys.gguf.metadata.str(&keys.key("hidden_act"))? {
        Some(name) => super::activation(keys.file, &keys.key("hidden_act"), name)?,
        None if keys.arch != "bitnet" || is_2b_4t => Activation::Relu2,
        None => Activation::Silu,
    };
    Ok(config)
}

fn qwen3(keys: &Keys) -> Result<ModelConfig, ModelError> {
    let mut config = keys.base("qwen3", RopeStyle::Neox)?;
    config.qk_norm = QkNorm::Head;
    keys.experts(&mut config, true)?;
    Ok(config)
}

fn olmoe(keys: &Keys) -> Result<ModelConfig, ModelError> {
    let mut config = keys.base("olmoe", RopeStyle::Neox)?;
    config.qk_norm = QkNorm::Row;
    keys.experts(&mut config, false)?;
    Ok(config)
}

fn gemma3(keys: &Keys) -> Result<ModelConfig, ModelError> {
    let mut config = keys.base("gemma3", RopeStyle::Neox)?;
    config.activation = Activation::GeluTanh;
    config.qk_norm = QkNorm::Head;
    config.post_norms = true;
    config.embedding_scale = (config.hidden_size as f32).sqrt();
    config.final_soft_cap = keys.f32("final_logit_softcapping")?;
    // The file does not hold query_pre_attn_scalar: it is head_dim, but in the 27B model, the one with 62
    // layers.
    if config.num_layers() == 62 {
        config.attention_scale = 1.0 / ((config.hidden_size / config.num_heads) as f32).sqrt();
    }
    if let Some(window) = keys.usize("attention.sliding_window")?.filter(|&window| window > 0) {
        // Five layers see the window, turning with the local theta; the sixth sees everything.
        let theta = keys.f32("rope.freq_base_swa")?.unwrap_or(10_000.0);
        let dims = config.rope[0].dims;
        let local =
            RopeConfig { style: RopeStyle::Neox, theta: theta.into(), dims, scaling: RopeScaling::None };
        config.rope.push(local);
        let is_local = keys.window_pattern(config.num_layers(), 6)?;
        for (layer, _) in config.layers.iter_mut().zip(is_local).filter(|(_, is_local)| *is_local) {
            (layer.window, layer.rope) = (Some(window), 1);
        }
    }
    Ok(config)
}

/// A file's metadata, with the architecture's name before each key.
struct Keys<'a> {
    file: &'a str,
    gguf: &'a Gguf,
    arch: &'a str,
}

impl Keys<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.arch)
    }

    fn required(&self, key: &str) -> Result<usize, ModelError> {
        Ok(self.gguf.metadata.required_usize(&self.key(key))?)
    }

    fn usize(&self, key: &str) -> Result<Option<usize>, ModelError> {
        Ok(self.gguf.metadata.usize(&self.key(key))?)
    }

    fn f32(&self, key: &str) -> Result<Option<f32>, ModelError> {
        Ok(self.gguf.metadata.f32(&self.key(key))?)
    }

    fn has(&self, role: Role) -> bool {
        self.gguf.tensor(&Names::Gguf.weight(role)).is_some()
    }

    fn has_bias(&self, part: Part) -> bool {
        self.gguf.tensor(&format!("{}.bias", Names::Gguf.stem(Role::Layer(0, part)))).is_some()
    }

    /// What all architectures share.
    fn base(&self, family: &str, style: RopeStyle) -> Result<ModelConfig, ModelError> {
        let metadata = &self.gguf.metadata;
        let hidden_size = self.required("embedding_length")?;
        let num_heads = self.required("attention.head_count")?;
        let num_kv_heads = self.usize("attention.head_count_kv")?.unwrap_or(num_heads);
        let head_dim = match self.usize("attention.key_length")? {
            Some(head_dim) => head_dim,
            None => super::even_share(self.file, &self.key("embedding_length"), hidden_size, num_heads)?,
        };
        if let Some(value) = self.usize("attention.value_length")?.filter(|&value| value != head_dim) {
            let expected = format!("{head_dim}, as the keys");
            let mend = "heads of two widths are not supported";
            return Err(ModelError::config(
                self.file,
                &self.key("attention.value_length"),
                value,
                &expected,
                mend,
            ));
        }
        let vocab_size = match self.gguf.tensor(&Names::Gguf.weight(Role::Embedding)) {
            Some(embedding) => embedding.rows(),
            None => self.required("vocab_size")?,
        };
        let dims = self.usize("rope.dimension_count")?.unwrap_or(head_dim);
        let theta = self.f32("rope.freq_base")?.unwrap_or(10_000.0);
        let rope = RopeConfig { style, theta: theta.into(), dims, scaling: self.rope_scaling()? };
        let layers = self.layers()?;
        let dimensions = Dimensions {
            vocab_size,
            hidden_size,
            num_layers: layers.len(),
            num_heads,
            num_kv_heads,
            head_dim,
            intermediate_size: self.required("feed_forward_length")?,
            context_length: self.required("context_length")?,
        };
        Ok(ModelConfig {
            name: metadata.str("general.name")?.unwrap_or_default().into(),
            family: family.into(),
            norm_eps: metadata.required_f32(&self.key("attention.layer_norm_rms_epsilon"))?,
            rope: vec![rope],
            tied_embeddings: !self.has(Role::Head),
            biases: Biases {
                qkv: self.has_bias(Part::Query),
                output: self.has_bias(Part::Output),
                ffn: self.has_bias(Part::Ffn(Where::Dense, Projection::Gate)),
            },
            layers,
            ..ModelConfig::llama(dimensions)
        })
    }

    fn layers(&self) -> Result<Vec<LayerConfig>, ModelError> {
        let count = self.required("block_count")?;
        super::check_layers(self.file, &self.key("block_count"), count, self.gguf.tensors.len())?;
        let has_router = |layer| self.has(Role::Layer(layer, Part::Router));
        Ok((0..count)
            .map(|layer| LayerConfig { window: None, rope: 0, experts: has_router(layer) })
            .collect())
    }

    fn rope_scaling(&self) -> Result<RopeScaling, ModelError> {
        let key = self.key("rope.scaling.type");
        let factor = self.f32("rope.scaling.factor")?;
        match self.gguf.metadata.str(&key)? {
            Some("linear") => Ok(RopeScaling::Linear { factor: factor.unwrap_or(1.0) }),
            Some("none") => Ok(RopeScaling::None),
            None => Ok(match self.f32("rope.scale_linear")? {
                Some(factor) if factor != 1.0 => RopeScaling::Linear { factor },
                _ => RopeScaling::None,
            }),
            Some(other) => {
                let mend = "this way to stretch the context is not supported";
                Err(ModelError::config(self.file, &key, format!("'{other}'"), "'none' or 'linear'", mend))
            }
        }
    }

    /// Whether each layer has a window: every layer but each `pattern`th, or as the file lists them.
    fn window_pattern(&self, layers: usize, pattern: usize) -> Result<Vec<bool>, ModelError> {
        let key = self.key("attention.sliding_window_pattern");
        if let Ok(Some(list)) = self.gguf.metadata.bools(&key) {
            if list.len() != layers {
                let expected = format!("{layers}, one a layer");
                let mend = "the file is damaged";
                return Err(ModelError::config(
                    self.file,
                    &key,
                    format!("{} entries", list.len()),
                    &expected,
                    mend,
                ));
            }
            return Ok(list.to_vec());
        }
        let pattern = self.gguf.metadata.usize(&key)?.unwrap_or(pattern).max(1);
        Ok((0..layers).map(|layer| (layer + 1) % pattern != 0).collect())
    }

    /// The mixture of experts, if the file has one.
    fn experts(&self, config: &mut ModelConfig, renormalize: bool) -> Result<(), ModelError> {
        let Some(count) = self.usize("expert_count")?.filter(|&count| count > 0) else {
            return Ok(());
        };
        if self.usize("expert_shared_count")?.is_some_and(|count| count > 0) {
            let mend = "shared experts of this architecture are not supported";
            return Err(ModelError::config(
                self.file,
                &self.key("expert_shared_count"),
                "above 0",
                "0",
                mend,
            ));
        }
        config.experts = Some(ExpertsConfig {
            count,
            top_k: self.required("expert_used_count")?,
            intermediate_size: self.usize("expert_feed_forward_length")?.unwrap_or(config.intermediate_size),
            renormalize: self.gguf.metadata.bool(&self.key("expert_weights_norm"))?.unwrap_or(renormalize),
            shared_intermediate_size: None,
            sub_norms: false,
            scale: self.f32("expert_weights_scale")?.filter(|&scale| scale != 0.0).unwrap_or(1.0),
        });
        Ok(())
    }
}
