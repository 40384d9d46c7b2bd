//! The weights of a model, as the decoder uses them.
//!
//! Norm weights are those that multiply: where a family stores `w` and multiplies by `1 + w` (Gemma), the
//! loader has added the 1. Matrices are `[outputs][inputs]`.
use chalot_tensor::matrix::Matrix;

use crate::config::ModelConfig;

/// `y = x · Wᵀ + b`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[outputs][inputs]`.
    pub weight: Matrix,
    /// `[outputs]`.
    pub bias: Option<Vec<f32>>,
}

/// An attention block.
#[derive(Clone, Debug)]
pub struct Attention {
    /// RMS norm of the block's input, `[hidden]`.
    pub norm: Vec<f32>,
    /// Queries, `[num_heads * head_dim][hidden]`.
    pub q: Linear,
    /// Keys, `[num_kv_heads * head_dim][hidden]`.
    pub k: Linear,
    /// Values, `[num_kv_heads * head_dim][hidden]`.
    pub v: Linear,
    /// Output, `[hidden][num_heads * head_dim]`.
    pub o: Linear,
    /// RMS norm of the queries before the rotation: `[head_dim]`, or `[num_heads * head_dim]` for
    /// [`QkNorm::Row`](crate::QkNorm::Row).
    pub q_norm: Option<Vec<f32>>,
    /// The same for the keys.
    pub k_norm: Option<Vec<f32>>,
    /// RMS norm before `o`, `[num_heads * head_dim]`.
    pub sub_norm: Option<Vec<f32>>,
    /// RMS norm of the block's output, `[hidden]`.
    pub post_norm: Option<Vec<f32>>,
}

/// `down(norm(act(gate(x)) * up(x)))`.
#[derive(Clone, Debug)]
pub struct GatedFfn {
    /// `[intermediate][hidden]`.
    pub gate: Linear,
    /// `[intermediate][hidden]`.
    pub up: Linear,
    /// `[hidden][intermediate]`.
    pub down: Linear,
    /// RMS norm before `down`, `[intermediate]`.
    pub sub_norm: Option<Vec<f32>>,
}

/// A mixture of experts.
#[derive(Clone, Debug)]
pub struct Experts {
    /// `[count][hidden]`, f32.
    pub router: Linear,
    /// Added to the router's logits for the choice of experts, not for their weights; `[count]`.
    pub selection_bias: Option<Vec<f32>>,
    /// The experts.
    pub experts: Vec<GatedFfn>,
    /// The expert that every token visits.
    pub shared: Option<GatedFfn>,
}

/// The feed-forward part of a layer.
#[derive(Clone, Debug)]
// A model has some dozen of these; boxing the larger variant would save nothing and cost a step to every use.
#[expect(clippy::large_enum_variant)]
pub enum Ffn {
    /// One network for all tokens.
    Dense(GatedFfn),
    /// Each token visits a few of many.
    Experts(Experts),
}

/// One decoder layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The attention block.
    pub attention: Attention,
    /// RMS norm of the feed-forward block's input, `[hidden]`.
    pub ffn_norm: Vec<f32>,
    /// The feed-forward block.
    pub ffn: Ffn,
    /// RMS norm of the feed-forward block's output, `[hidden]`.
    pub ffn_post_norm: Option<Vec<f32>>,
}

/// A model: immutable, shared by `Arc`, often a view into a mapped file.
#[derive(Clone, Debug)]
pub struct Model {
    /// What it is.
    pub config: ModelConfig,
    /// `[vocab][hidden]`.
    pub embedding: Matrix,
    /// First to last.
    pub layers: Vec<Layer>,
    /// RMS norm before the head, `[hidden]`.
    pub final_norm: Vec<f32>,
    /// `[vocab][hidden]`; the embedding when there is none.
    pub head: Option<Matrix>,
}

impl Model {
    /// The matrix that makes the logits: the head, or the embedding it is tied to.
    pub fn head(&self) -> &Matrix {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Number of weights; a tied head counts once.
    pub fn parameters(&self) -> u64 {
        self.size().parameters
    }

    /// Bytes of all weights as held in memory; a tied head counts once.
    pub fn bytes(&self) -> u64 {
        self.size().bytes
    }

    /// Bytes of weights that one decoding step reads: every layer, the experts that one token visits, the
    /// head, and one row of the embedding. The figure that memory bandwidth is divided by.
    pub fn bytes_per_token(&self) -> u64 {
        let top_k = self.config.experts.as_ref().map_or(0, |experts| experts.top_k);
        let layers: Size = self.layers.iter().map(|layer| layer.size(top_k)).sum();
        let row = Measure::size(&self.embedding).bytes / self.embedding.rows() as u64;
        layers.bytes + self.final_norm.size().bytes + self.head().size().bytes + row
    }

    fn size(&self) -> Size {
        let layers: Size = self.layers.iter().map(|layer| layer.size(usize::MAX)).sum();
        [layers, self.embedding.size(), self.final_norm.size(), self.head.size()].into_iter().sum()
    }
}

/// How large a part of a model is.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    parameters: u64,
    bytes: u64,
}

impl std::iter::Sum for Size {
    fn sum<I: Iterator<Item = Size>>(sizes: I) -> Size {
        sizes.fold(Size::default(), |a, b| Size {
            parameters: a.parameters + b.parameters,
            bytes: a.bytes + b.bytes,
        })
    }
}

trait Measure {
    fn size(&self) -> Size;
}

impl Measure for Matrix {
    fn size(&self) -> Size {
        Size { parameters: self.rows() as u64 * self.cols() as u64, bytes: self.bytes() as u64 }
    }
}

impl Measure for Vec<f32> {
    fn size(&self) -> Size {
        Size { parameters: self.len() as u64, bytes: size_of_val(self.as_slice()) as u64 }
    }
}

impl<T: Measure> Measure for Option<T> {
    fn size(&self) -> Size {
        self.as_ref().map(Measure::size).unwrap_or_default()
    }
}

impl Measure for Linear {
    fn size(&self) -> Size {
        [self.weight.size(), self.bias.size()].into_iter().sum()
    }
}

impl Measure for GatedFfn {
    fn size(&self) -> Size {
        [self.gate.size(), self.up.size(), self.down.size(), self.sub_norm.size()].into_iter().sum()
    }
}

impl Measure for Attention {
    fn size(&self) -> Size {
        let linear = [&self.q, &self.k, &self.v, &self.o].map(Measure::size);
        let norms = [&self.q_norm, &self.k_norm, &self.sub_norm, &self.post_norm].map(Measure::size);
        linear.into_iter().chain(norms).chain([self.norm.size()]).sum()
    }
}

impl Layer {
    /// The layer with at most `visited` of its experts.
    fn size(&self, visited: usize) -> Size {
        let ffn = match &self.ffn {
            Ffn::Dense(ffn) => ffn.size(),
            Ffn::Experts(experts) => {
                let routed: Size = experts.experts.iter().take(visited).map(Measure::size).sum();
                [routed, experts.router.size(), experts.selection_bias.size(), experts.shared.size()]
                    .into_iter()
                    .sum()
            }
        };
        [self.attention.size(), self.ffn_norm.size(), ffn, self.ffn_post_norm.size()].into_iter().sum()
    }
}
