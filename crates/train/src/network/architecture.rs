//! The shape of a model from one dial.
use chalot_model::{Dimensions, ExpertsConfig, LayerConfig, ModelConfig, QkNorm};
use chalot_tensor::elementwise::Activation;
use chalot_tensor::matrix::{Format, ScaleBy};
use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// A recipe's table `model`: `depth` says how large the model is, everything else follows from it unless given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Layers.
    pub depth: usize,
    /// Whether the weights of the layers are ternary (and their inputs 8-bit integers).
    #[serde(default = "yes")]
    pub ternary: bool,
    /// Width of the residual stream; 32 for each layer.
    #[serde(default)]
    pub width: Option<usize>,
    /// Numbers of a head; 32, or 64 when the width is at least 512.
    #[serde(default)]
    pub head_dim: Option<usize>,
    /// Query heads; as many as make the width.
    #[serde(default)]
    pub heads: Option<usize>,
    /// Key and value heads; half as many as query heads, or the next fewer that divide them.
    #[serde(default)]
    pub kv_heads: Option<usize>,
    /// Tokens of the context; 256, from 12 layers on 512.
    #[serde(default)]
    pub context: Option<usize>,
    /// Width of the feed-forward layers; 8/3 of the width, in multiples of 64.
    #[serde(default)]
    pub intermediate: Option<usize>,
    /// Layers of the shallow region, from which drafts leave the model; a third of all, at least one. 0: there is none.
    #[serde(default)]
    pub shallow_layers: Option<usize>,
    /// How the embedding (which is the head too) is kept, in training as in the exported file.
    #[serde(default)]
    pub embedding: EmbeddingFormat,
    /// Base of the rotary embedding.
    #[serde(default = "theta")]
    pub rope_theta: f64,
    /// A mixture of experts in place of each feed-forward layer.
    #[serde(default)]
    pub experts: Option<ExpertsArchitecture>,
}

/// The experts of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpertsArchitecture {
    /// Experts of a layer.
    pub count: usize,
    /// Experts that a token visits.
    #[serde(default = "two")]
    pub top_k: usize,
    /// Width of an expert; such that those a token visits, the shared one included, are as wide as a dense layer.
    #[serde(default)]
    pub intermediate: Option<usize>,
    /// Whether there is one more expert that every token visits.
    #[serde(default)]
    pub shared: bool,
    /// The first layers that stay dense.
    #[serde(default)]
    pub dense_layers: usize,
}

/// How the embedding is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbeddingFormat {
    /// 8-bit integers with a scale for each token; logits are integer products.
    #[default]
    Int8,
    /// Half precision.
    F16,
    /// Single precision.
    F32,
}

impl EmbeddingFormat {
    /// The tensor format.
    pub fn format(self) -> Format {
        match self {
            Self::Int8 => Format::Int8(ScaleBy::Row),
            Self::F16 => Format::F16,
            Self::F32 => Format::F32,
        }
    }
}

fn yes() -> bool {
    true
}

fn theta() -> f64 {
    10_000.0
}

fn two() -> usize {
    2
}

impl Architecture {
    /// A dense ternary model of `depth` layers.
    pub fn new(depth: usize) -> Self {
        Self {
            depth,
            ternary: true,
            width: None,
            head_dim: None,
            heads: None,
            kv_heads: None,
            context: None,
            intermediate: None,
            shallow_layers: None,
            embedding: EmbeddingFormat::default(),
            rope_theta: theta(),
            experts: None,
        }
    }

    /// The model that this describes, for a vocabulary.
    ///
    /// # Errors
    /// [`TrainError::Architecture`] or [`TrainError::Model`] names the field that does not fit.
    pub fn resolve(&self, vocab_size: usize) -> Result<ModelConfig, TrainError> {
        let fail = |field, found: usize, expected: &str| {
            Err(TrainError::Architecture { field, found: found.to_string(), expected: expected.into() })
        };
        if self.depth == 0 || self.depth > 1024 {
            return fail("depth", self.depth, "1 to 1024 layers");
        }
        let width = self.width.unwrap_or(32 * self.depth);
        let head_dim = self.head_dim.unwrap_or(if width < 512 { 32 } else { 64 });
        if head_dim == 0 || !head_dim.is_multiple_of(2) {
            return fail("head_dim", head_dim, "an even number");
        }
        let heads = self.heads.unwrap_or((width / head_dim).max(1));
        let fewer = || (1..=(heads / 2).max(1)).rev().find(|n| heads.is_multiple_of(*n)).unwrap_or(1);
        let kv_heads = self.kv_heads.unwrap_or_else(fewer);
        let intermediate = self.intermediate.unwrap_or((width * 8 / 3).next_multiple_of(64));
        let shallow_layers = self.shallow_layers.unwrap_or((self.depth / 3).max(1));
        if shallow_layers > self.depth {
            return fail("shallow_layers", shallow_layers, "at most depth");
        }
        let experts = self.experts.as_ref().map(|experts| {
            let visited = experts.top_k + usize::from(experts.shared);
            let share = (intermediate / visited.max(1)).next_multiple_of(32);
            let width = experts.intermediate.unwrap_or(share);
            ExpertsConfig {
                count: experts.count,
                top_k: experts.top_k,
                intermediate_size: width,
                renormalize: true,
                shared_intermediate_size: experts.shared.then_some(width),
                sub_norms: true,
                scale: 1.0,
            }
        });
        let dense = self.experts.as_ref().map_or(self.depth, |experts| experts.dense_layers);
        let layer = |index| LayerConfig { window: None, rope: 0, experts: index >= dense };
        let dimensions = Dimensions {
            vocab_size,
            hidden_size: width,
            num_layers: self.depth,
            num_heads: heads,
            num_kv_heads: kv_heads,
            head_dim,
            intermediate_size: intermediate,
            context_length: self.context.unwrap_or(if self.depth < 12 { 256 } else { 512 }),
        };
        let mut config = ModelConfig {
            family: "chalot".into(),
            activation: Activation::Relu2,
            tied_embeddings: true,
            qk_norm: QkNorm::Head,
            sub_norms: true,
            layers: (0..self.depth).map(layer).collect(),
            experts,
            shallow_layers,
            ..ModelConfig::llama(dimensions)
        };
        config.rope[0].theta = self.rope_theta;
        config.validate("the recipe")?;
        Ok(config)
    }
}
