//! What a model is, apart from its weights: one description that drives one decoder.
//!
//! Every family (BitNet, Llama, Qwen, Gemma, mixtures of experts) is a value of [`ModelConfig`]; the
//! functions that read it from a file's metadata live in [`crate::load`]. The native file keeps it as JSON.
use chalot_tensor::elementwise::Activation;
use chalot_tensor::rope::{RopeScaling, RopeStyle};
use serde::{Deserialize, Serialize};

use crate::error::ModelError;

/// The hyperparameters of a decoder-only transformer.
///
/// Shapes: queries are `[num_heads][head_dim]`, keys and values `[num_kv_heads][head_dim]`; `num_heads *
/// head_dim` need not equal `hidden_size`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// The model's own name, for people; may be empty.
    pub name: String,
    /// The family whose conventions it follows ("bitnet", "llama", "qwen3", ...); informative.
    pub family: String,
    /// Rows of the embedding, logits of the head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads; divides `num_heads`.
    pub num_kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of the dense feed-forward layer (unused when every layer has experts).
    pub intermediate_size: usize,
    /// Positions the model was trained for.
    pub context_length: usize,
    /// Epsilon of every RMS norm.
    pub norm_eps: f32,
    /// The gate's activation in the feed-forward layers.
    pub activation: Activation,
    /// Rotary embeddings; each layer names one by its index.
    pub rope: Vec<RopeConfig>,
    /// Factor of the attention scores, usually `1/sqrt(head_dim)`.
    pub attention_scale: f32,
    /// `cap * tanh(s / cap)` on the attention scores.
    #[serde(default)]
    pub attention_soft_cap: Option<f32>,
    /// `cap * tanh(s / cap)` on the logits.
    #[serde(default)]
    pub final_soft_cap: Option<f32>,
    /// Factor of the embedding rows on their way into the residual stream (Gemma: `sqrt(hidden_size)`).
    pub embedding_scale: f32,
    /// The head is the embedding matrix.
    pub tied_embeddings: bool,
    /// RMS norm of queries and keys before the rotation.
    pub qk_norm: QkNorm,
    /// RMS norms before `o` and before `down` (BitNet).
    #[serde(default)]
    pub sub_norms: bool,
    /// RMS norms of a block's output before it is added to the residual stream (Gemma 3).
    #[serde(default)]
    pub post_norms: bool,
    /// Which linear layers have a bias.
    #[serde(default)]
    pub biases: Biases,
    /// The layers, first to last.
    pub layers: Vec<LayerConfig>,
    /// The mixture of experts, when a layer has one.
    #[serde(default)]
    pub experts: Option<ExpertsConfig>,
    /// The brain map: the first so many layers are a shallow region whose hidden states the final norm and the head
    /// understand, so that drafts may leave the model there. 0 when the model was not trained for that.
    #[serde(default)]
    pub shallow_layers: usize,
}

/// The sizes that every decoder has, as the fields of [`ModelConfig`] with their names.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Dimensions {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub num_layers: usize,
    pub num_heads: usize,
    pub num_kv_heads: usize,
    pub head_dim: usize,
    pub intermediate_size: usize,
    pub context_length: usize,
}

/// One rotary position embedding.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RopeConfig {
    /// Which elements form a pair.
    pub style: RopeStyle,
    /// The base of the frequencies.
    pub theta: f64,
    /// The first `dims` elements of each head are rotated; even.
    pub dims: usize,
    /// How the frequencies are stretched.
    pub scaling: RopeScaling,
}

/// RMS norm of queries and keys before the rotation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QkNorm {
    /// None.
    #[default]
    None,
    /// Each head by itself, weights `[head_dim]` (Qwen3, Gemma 3).
    Head,
    /// All heads of a token as one row, weights `[heads * head_dim]` (OLMoE).
    Row,
}

/// Which linear layers have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Biases {
    /// `q`, `k` and `v` (Qwen2).
    pub qkv: bool,
    /// `o`.
    pub output: bool,
    /// `gate`, `up` and `down`.
    pub ffn: bool,
}

/// What differs between layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerConfig {
    /// A query at position p sees the keys p-window+1 ..= p; all of the past without a window.
    #[serde(default)]
    pub window: Option<usize>,
    /// Index into [`ModelConfig::rope`].
    #[serde(default)]
    pub rope: usize,
    /// A mixture of experts instead of the dense feed-forward layer.
    #[serde(default)]
    pub experts: bool,
}

/// A mixture of experts: softmax over the router's logits, the `top_k` largest are computed and summed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpertsConfig {
    /// Experts in a layer.
    pub count: usize,
    /// Experts a token visits.
    pub top_k: usize,
    /// Width of one expert.
    pub intermediate_size: usize,
    /// Divide the chosen probabilities by their sum (Qwen3-MoE yes, OLMoE no).
    pub renormalize: bool,
    /// Width of the expert that every token visits.
    #[serde(default)]
    pub shared_intermediate_size: Option<usize>,
    /// Each expert, the shared one included, has an RMS norm before its `down` (as dense layers with
    /// [`ModelConfig::sub_norms`]).
    #[serde(default)]
    pub sub_norms: bool,
    /// Factor of the routed experts' sum.
    #[serde(default = "one")]
    pub scale: f32,
}

fn one() -> f32 {
    1.0
}

/// No dimension of a real model comes near this; products of two stay inside 64 bits.
const MAX_DIM: usize = 1 << 28;

impl ModelConfig {
    /// A plain Llama without a name, its head not tied, positions rotated by halves of a head with theta 10,000: other families
    /// differ from it in a few fields.
    pub fn llama(dimensions: Dimensions) -> Self {
        let Dimensions { head_dim, .. } = dimensions;
        let rope = RopeConfig {
            style: RopeStyle::Neox,
            theta: 10_000.0,
            dims: head_dim,
            scaling: RopeScaling::None,
        };
        Self {
            name: String::new(),
            family: "llama".into(),
            vocab_size: dimensions.vocab_size,
            hidden_size: dimensions.hidden_size,
            num_heads: dimensions.num_heads,
            num_kv_heads: dimensions.num_kv_heads,
            head_dim,
            intermediate_size: dimensions.intermediate_size,
            context_length: dimensions.context_length,
            norm_eps: 1e-5,
            activation: Activation::Silu,
            rope: vec![rope],
            attention_scale: 1.0 / (head_dim as f32).sqrt(),
            attention_soft_cap: None,
            final_soft_cap: None,
            embedding_scale: 1.0,
            tied_embeddings: false,
            qk_norm: QkNorm::None,
            sub_norms: false,
            post_norms: false,
            biases: Biases::default(),
            layers: vec![LayerConfig { window: None, rope: 0, experts: false }; dimensions.num_layers],
            experts: None,
            shallow_layers: 0,
        }
    }

    /// Number of layers.
    pub fn num_layers(&self) -> usize {
        self.layers.len()
    }

    /// Width of all query heads together.
    pub fn q_width(&self) -> usize {
        self.num_heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn kv_width(&self) -> usize {
        self.num_kv_heads * self.head_dim
    }

    /// Checks that the numbers fit each other. `file` is named in the error.
    ///
    /// # Errors
    /// [`ModelError::Config`] names the first field that is wrong.
    pub fn validate(&self, file: &str) -> Result<(), ModelError> {
        let fail = |field: &str, found: String, expected: &str| {
            Err(ModelError::config(file, field, found, expected, "the file is damaged or not a model"))
        };
        for (field, value) in [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_heads", self.num_heads),
            ("num_kv_heads", self.num_kv_heads),
            ("head_dim", self.head_dim),
            ("intermediate_size", self.intermediate_size),
            ("layers", self.layers.len()),
        ] {
            if value == 0 || value > MAX_DIM {
                return fail(field, value.to_string(), "a number from 1 to 2^28");
            }
        }
        // Beyond this, positions stop being exact in f32.
        if self.context_length == 0 || self.context_length > 1 << 24 {
            return fail("context_length", self.context_length.to_string(), "a number from 1 to 2^24");
        }
        // On 32-bit targets the widths themselves must not wrap.
        if self.num_heads.checked_mul(self.head_dim).is_none_or(|width| width > MAX_DIM) {
            return fail(
                "num_heads x head_dim",
                format!("{} x {}", self.num_heads, self.head_dim),
                "at most 2^28",
            );
        }
        if !self.num_heads.is_multiple_of(self.num_kv_heads) {
            let found = format!("{} (of {} heads)", self.num_kv_heads, self.num_heads);
            return fail("num_kv_heads", found, "a divisor of num_heads");
        }
        for (field, value) in [
            ("norm_eps", self.norm_eps),
            ("attention_scale", self.attention_scale),
            ("embedding_scale", self.embedding_scale),
            ("attention_soft_cap", self.attention_soft_cap.unwrap_or(1.0)),
            ("final_soft_cap", self.final_soft_cap.unwrap_or(1.0)),
            ("experts.scale", self.experts.as_ref().map_or(1.0, |experts| experts.scale)),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return fail(field, value.to_string(), "a finite number above 0");
            }
        }
        for (index, rope) in self.rope.iter().enumerate() {
            rope.validate(file, index, self.head_dim)?;
        }
        for (index, layer) in self.layers.iter().enumerate() {
            if layer.rope >= self.rope.len() {
                let expected = format!("below {}", self.rope.len());
                return fail(&format!("layers[{index}].rope"), layer.rope.to_string(), &expected);
            }
            if layer.window == Some(0) {
                return fail(&format!("layers[{index}].window"), "0".into(), "at least 1");
            }
            if layer.experts && self.experts.is_none() {
                return fail(&format!("layers[{index}].experts"), "true".into(), "an `experts` section");
            }
        }
        if self.shallow_layers > self.layers.len() {
            let expected = format!("at most the {} layers", self.layers.len());
            return fail("shallow_layers", self.shallow_layers.to_string(), &expected);
        }
        if let Some(experts) = &self.experts {
            for (field, value) in [
                ("experts.count", experts.count),
                ("experts.intermediate_size", experts.intermediate_size),
                ("experts.shared_intermediate_size", experts.shared_intermediate_size.unwrap_or(1)),
            ] {
                if value == 0 || value > MAX_DIM {
                    return fail(field, value.to_string(), "a number from 1 to 2^28");
                }
            }
            if experts.top_k == 0 || experts.top_k > experts.count {
                let expected = format!("from 1 to the {} experts", experts.count);
                return fail("experts.top_k", experts.top_k.to_string(), &expected);
            }
        }
        Ok(())
    }
}

impl RopeConfig {
    fn validate(&self, file: &str, index: usize, head_dim: usize) -> Result<(), ModelError> {
        let fail = |field: &str, found: String, expected: String| {
            let field = format!("rope[{index}].{field}");
            Err(ModelError::config(file, &field, found, &expected, "the file is damaged or not a model"))
        };
        if self.dims == 0 || self.dims > head_dim || !self.dims.is_multiple_of(2) {
            return fail(
                "dims",
                self.dims.to_string(),
                format!("an even number up to head_dim ({head_dim})"),
            );
        }
        if !(self.theta.is_finite() && self.theta > 0.0) {
            return fail("theta", self.theta.to_string(), "a finite number above 0".into());
        }
        let factors: &[f32] = match &self.scaling {
            RopeScaling::None => &[],
            RopeScaling::Linear { factor } => &[*factor],
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                if *original_context == 0 || high_freq_factor <= low_freq_factor {
                    let found =
                        format!("{low_freq_factor} .. {high_freq_factor} of {original_context} positions");
                    return fail(
                        "scaling",
                        found,
                        "low_freq_factor below high_freq_factor, positions above 0".into(),
                    );
                }
                &[*factor, *low_freq_factor, *high_freq_factor]
            }
            RopeScaling::Factors(factors) => {
                if factors.len() != self.dims / 2 {
                    let expected = format!("{} factors (dims / 2)", self.dims / 2);
                    return fail("scaling", format!("{} factors", factors.len()), expected);
                }
                factors
            }
        };
        match factors.iter().find(|factor| !(factor.is_finite() && **factor > 0.0)) {
            Some(factor) => fail("scaling", factor.to_string(), "finite factors above 0".into()),
            None => Ok(()),
        }
    }
}
