//! A decoder's parts, one by one, from whatever holds its weights.
use chalot_tensor::matrix::Matrix;

use super::names::{Part, Projection, Role, Where};
use super::store::Kind;
use crate::config::{ExpertsConfig, ModelConfig, QkNorm};
use crate::error::ModelError;
use crate::weights::{Attention, Experts, Ffn, GatedFfn, Layer, Linear, Model};

/// What a matrix is used for; it decides which requests for another form touch it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// A projection in a layer.
    Linear,
    /// The embedding (perhaps the head too).
    Embedding,
    /// The head.
    Head,
    /// The router of a mixture of experts: always f32, its choices must not wobble.
    Router,
}

/// Where weights come from: they are asked for by role and shape, and come in the form that the kernels take.
pub(crate) trait Weights {
    /// A matrix of `rows` by `cols`.
    fn matrix(&self, role: Role, usage: Usage, rows: usize, cols: usize) -> Result<Matrix, ModelError>;
    /// A bias of `len` elements.
    fn bias(&self, role: Role, len: usize) -> Result<Vec<f32>, ModelError>;
    /// A norm of `len` weights, as they multiply.
    fn norm(&self, role: Role, len: usize) -> Result<Vec<f32>, ModelError>;
    /// The gates, ups and downs of a layer's experts: `[intermediate][hidden]` twice,
    /// `[hidden][intermediate]`; each kind in one form.
    fn experts(
        &self,
        layer: usize,
        hidden: usize,
        config: &ExpertsConfig,
    ) -> Result<[Vec<Matrix>; 3], ModelError>;
    /// What is added to a layer's routing logits for the choice of experts, if the model has it.
    fn selection_bias(&self, layer: usize, count: usize) -> Result<Option<Vec<f32>>, ModelError>;
    /// Called when every part was asked for: complains about tensors that were not.
    fn finish(&self) -> Result<(), ModelError>;
}

/// Builds a model's parts one by one, so that a caller may write each away before it asks for the next.
pub(crate) struct Assembler<'a> {
    pub(crate) config: ModelConfig,
    pub(crate) weights: Box<dyn Weights + 'a>,
}

impl Assembler<'_> {
    /// The whole model.
    pub(crate) fn model(self) -> Result<Model, ModelError> {
        let embedding = self.embedding()?;
        let layers =
            (0..self.config.num_layers()).map(|index| self.layer(index)).collect::<Result<_, _>>()?;
        let final_norm = self.final_norm()?;
        let head = self.head()?;
        self.weights.finish()?;
        Ok(Model { config: self.config, embedding, layers, final_norm, head })
    }

    /// The embedding.
    pub(crate) fn embedding(&self) -> Result<Matrix, ModelError> {
        self.weights.matrix(
            Role::Embedding,
            Usage::Embedding,
            self.config.vocab_size,
            self.config.hidden_size,
        )
    }

    /// The norm before the head.
    pub(crate) fn final_norm(&self) -> Result<Vec<f32>, ModelError> {
        self.weights.norm(Role::FinalNorm, self.config.hidden_size)
    }

    /// The head, unless it is the embedding.
    pub(crate) fn head(&self) -> Result<Option<Matrix>, ModelError> {
        let (rows, cols) = (self.config.vocab_size, self.config.hidden_size);
        let head = || self.weights.matrix(Role::Head, Usage::Head, rows, cols);
        (!self.config.tied_embeddings).then(head).transpose()
    }

    /// Layer number `index`.
    pub(crate) fn layer(&self, index: usize) -> Result<Layer, ModelError> {
        let config = &self.config;
        let (hidden, q, kv) = (config.hidden_size, config.q_width(), config.kv_width());
        let biases = config.biases;
        let linear = |part, rows, cols, bias| self.linear(Role::Layer(index, part), rows, cols, bias);
        let norm = |part, len| self.weights.norm(Role::Layer(index, part), len);
        let optional = |there: bool, part, len| there.then(|| norm(part, len)).transpose();
        let (q_norm, k_norm) = qk_norm_widths(config);
        let has_qk_norm = config.qk_norm != QkNorm::None;
        let attention = Attention {
            norm: norm(Part::AttentionNorm, hidden)?,
            q: linear(Part::Query, q, hidden, biases.qkv)?,
            k: linear(Part::Key, kv, hidden, biases.qkv)?,
            v: linear(Part::Value, kv, hidden, biases.qkv)?,
            o: linear(Part::Output, hidden, q, biases.output)?,
            q_norm: optional(has_qk_norm, Part::QueryNorm, q_norm)?,
            k_norm: optional(has_qk_norm, Part::KeyNorm, k_norm)?,
            sub_norm: optional(config.sub_norms, Part::AttentionSubNorm, q)?,
            post_norm: optional(config.post_norms, Part::AttentionPostNorm, hidden)?,
        };
        // A validated configuration has a section about experts if a layer has them.
        let ffn = match config.experts.as_ref().filter(|_| config.layers[index].experts) {
            Some(experts) => Ffn::Experts(self.experts(index, experts)?),
            None => {
                let sub_norm = optional(config.sub_norms, Part::FfnSubNorm, config.intermediate_size)?;
                let network = self.network(index, Where::Dense, config.intermediate_size, biases.ffn)?;
                Ffn::Dense(GatedFfn { sub_norm, ..network })
            }
        };
        Ok(Layer {
            attention,
            ffn_norm: norm(Part::FfnNorm, hidden)?,
            ffn,
            ffn_post_norm: optional(config.post_norms, Part::FfnPostNorm, hidden)?,
        })
    }

    fn linear(&self, role: Role, rows: usize, cols: usize, bias: bool) -> Result<Linear, ModelError> {
        let weight = self.weights.matrix(role, Usage::Linear, rows, cols)?;
        let bias = bias.then(|| self.weights.bias(role, rows)).transpose()?;
        Ok(Linear { weight, bias })
    }

    fn network(&self, layer: usize, place: Where, width: usize, bias: bool) -> Result<GatedFfn, ModelError> {
        let hidden = self.config.hidden_size;
        let linear = |projection: Projection| {
            let (rows, cols) = projection.shape(hidden, width);
            self.linear(Role::Layer(layer, Part::Ffn(place, projection)), rows, cols, bias)
        };
        Ok(GatedFfn {
            gate: linear(Projection::Gate)?,
            up: linear(Projection::Up)?,
            down: linear(Projection::Down)?,
            sub_norm: None,
        })
    }

    fn experts(&self, layer: usize, experts: &ExpertsConfig) -> Result<Experts, ModelError> {
        let hidden = self.config.hidden_size;
        let role = Role::Layer(layer, Part::Router);
        let weight = self.weights.matrix(role, Usage::Router, experts.count, hidden)?;
        let [gates, ups, downs] = self.weights.experts(layer, hidden, experts)?;
        let linear = |weight| Linear { weight, bias: None };
        let width = experts.intermediate_size;
        // Those of all experts in one; nothing is asked for that is larger than the experts themselves.
        let norms = |part, len| self.weights.norm(Role::Layer(layer, part), len);
        let sub_norms =
            experts.sub_norms.then(|| norms(Part::ExpertsSubNorm, experts.count * width)).transpose()?;
        let sub_norm = |index: usize| sub_norms.as_ref().map(|all| all[index * width..][..width].to_vec());
        let networks = gates.into_iter().zip(ups).zip(downs).enumerate();
        let networks = networks.map(|(index, ((gate, up), down))| GatedFfn {
            gate: linear(gate),
            up: linear(up),
            down: linear(down),
            sub_norm: sub_norm(index),
        });
        let shared = experts.shared_intermediate_size.map(|width| {
            let sub_norm = experts.sub_norms.then(|| norms(Part::SharedSubNorm, width)).transpose()?;
            Ok::<_, ModelError>(GatedFfn { sub_norm, ..self.network(layer, Where::Shared, width, false)? })
        });
        Ok(Experts {
            router: linear(weight),
            selection_bias: self.weights.selection_bias(layer, experts.count)?,
            experts: networks.collect(),
            shared: shared.transpose()?,
        })
    }
}

/// Widths of the norms of queries and keys.
pub(crate) fn qk_norm_widths(config: &ModelConfig) -> (usize, usize) {
    match config.qk_norm {
        QkNorm::Row => (config.q_width(), config.kv_width()),
        QkNorm::None | QkNorm::Head => (config.head_dim, config.head_dim),
    }
}

/// Calls `visit` with every tensor that `config` needs until it returns false.
pub(crate) fn for_each_tensor(config: &ModelConfig, visit: &mut dyn FnMut(Role, Kind, &[usize]) -> bool) {
    let hidden = config.hidden_size;
    let head = config.tied_embeddings || visit(Role::Head, Kind::Weight, &[config.vocab_size, hidden]);
    let _ = head
        && visit(Role::Embedding, Kind::Weight, &[config.vocab_size, hidden])
        && visit(Role::FinalNorm, Kind::Weight, &[hidden])
        && (0..config.num_layers()).all(|layer| {
            layer_tensors(config, layer, &mut |part, kind, shape| {
                visit(Role::Layer(layer, part), kind, shape)
            })
        });
}

fn layer_tensors(
    config: &ModelConfig,
    layer: usize,
    visit: &mut dyn FnMut(Part, Kind, &[usize]) -> bool,
) -> bool {
    use Kind::{Bias, Weight};
    let (hidden, q, kv) = (config.hidden_size, config.q_width(), config.kv_width());
    let biases = config.biases;
    let has_experts = config.layers[layer].experts;
    let (q_norm, k_norm) = qk_norm_widths(config);
    let has_qk_norm = config.qk_norm != QkNorm::None;
    let experts = config.experts.as_ref().filter(|experts| has_experts && experts.sub_norms);
    let expert_norms = experts.map(|experts| experts.count.saturating_mul(experts.intermediate_size));
    let shared_norm = experts.and_then(|experts| experts.shared_intermediate_size);
    let norms = [
        (Part::ExpertsSubNorm, expert_norms.unwrap_or(0), expert_norms.is_some()),
        (Part::SharedSubNorm, shared_norm.unwrap_or(0), shared_norm.is_some()),
        (Part::AttentionNorm, hidden, true),
        (Part::QueryNorm, q_norm, has_qk_norm),
        (Part::KeyNorm, k_norm, has_qk_norm),
        (Part::AttentionSubNorm, q, config.sub_norms),
        (Part::AttentionPostNorm, hidden, config.post_norms),
        (Part::FfnNorm, hidden, true),
        (Part::FfnSubNorm, config.intermediate_size, config.sub_norms && !has_experts),
        (Part::FfnPostNorm, hidden, config.post_norms),
    ];
    if !norms.into_iter().all(|(part, len, there)| !there || visit(part, Weight, &[len])) {
        return false;
    }
    let mut linear = |part, (rows, cols): (usize, usize), bias: bool| {
        visit(part, Weight, &[rows, cols]) && (!bias || visit(part, Bias, &[rows]))
    };
    let attention = linear(Part::Query, (q, hidden), biases.qkv)
        && linear(Part::Key, (kv, hidden), biases.qkv)
        && linear(Part::Value, (kv, hidden), biases.qkv)
        && linear(Part::Output, (hidden, q), biases.output);
    if !attention {
        return false;
    }
    let mut network = |place, width, bias| {
        Projection::ALL
            .iter()
            .all(|&projection| linear(Part::Ffn(place, projection), projection.shape(hidden, width), bias))
    };
    match config.experts.as_ref().filter(|_| has_experts) {
        None => network(Where::Dense, config.intermediate_size, biases.ffn),
        Some(experts) => {
            experts.shared_intermediate_size.is_none_or(|width| network(Where::Shared, width, false))
                && (0..experts.count)
                    .all(|expert| network(Where::Expert(expert), experts.intermediate_size, false))
                && linear(Part::Router, (experts.count, hidden), false)
        }
    }
}
