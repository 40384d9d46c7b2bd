//! The parameters of a network: their names, shapes, order and first values.
use chalot_model::ModelConfig;

use crate::random::Random;

/// What a parameter is, which decides how it is quantized and optimized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A matrix of a layer, `[outputs][inputs]`: ternary in a ternary network.
    Matrix,
    /// The embedding, which is the head too.
    Embedding,
    /// The router of a mixture of experts.
    Router,
    /// Weights of norms.
    Norm,
}

/// A parameter. Names are those of Hugging Face's tensors.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// `model.layers.0.self_attn.q_proj.weight`, ...
    pub name: String,
    /// `[outputs, inputs]` or `[length]`.
    pub shape: Vec<usize>,
    /// What it is.
    pub kind: Kind,
    /// Where it begins among the numbers of all parameters.
    pub offset: usize,
    /// The master weights.
    pub value: Vec<f32>,
}

/// Where the parameters of a feed-forward network are. `gate` and `up` lie one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FfnIds {
    pub gate: usize,
    pub up: usize,
    pub down: usize,
    /// The parameter of the sub-norm and where in it this network's weights begin.
    pub sub_norm: (usize, usize),
    pub width: usize,
}

/// Where the parameters of a mixture are.
#[derive(Clone, Debug)]
pub(crate) struct MixtureIds {
    pub router: usize,
    pub experts: Vec<FfnIds>,
    pub shared: Option<FfnIds>,
}

#[derive(Clone, Debug)]
pub(crate) enum LayerFfn {
    Dense(FfnIds),
    Experts(MixtureIds),
}

/// Where the parameters of a layer are. `q`, `k` and `v` lie one after the other.
#[derive(Clone, Debug)]
pub(crate) struct LayerIds {
    pub norm: usize,
    pub q: usize,
    pub k: usize,
    pub v: usize,
    pub o: usize,
    pub q_norm: usize,
    pub k_norm: usize,
    pub sub_norm: usize,
    pub ffn_norm: usize,
    pub ffn: LayerFfn,
}

impl LayerIds {
    /// The first and the last parameter of each product on the way back; those between share its input.
    pub fn products(&self) -> impl Iterator<Item = (usize, usize)> {
        let networks: Vec<FfnIds> = match &self.ffn {
            LayerFfn::Dense(ids) => vec![*ids],
            LayerFfn::Experts(ids) => ids.experts.iter().chain(&ids.shared).copied().collect(),
        };
        let networks = networks.into_iter().flat_map(|ids| [(ids.gate, ids.up), (ids.down, ids.down)]);
        [(self.q, self.v), (self.o, self.o)].into_iter().chain(networks)
    }
}

/// All parameters in their order, and where those of each layer are.
pub(super) struct Layout {
    pub parameters: Vec<Parameter>,
    pub layers: Vec<LayerIds>,
    pub final_norm: usize,
}

/// The embedding comes first.
pub(super) const EMBEDDING: usize = 0;

impl Layout {
    /// The parameters of `config` with their first values: norms 1, matrices normal with a standard deviation of
    /// `1 / sqrt(inputs)`, those that write into the residual stream smaller by `sqrt(2 layers)`, the embedding 0.02.
    pub fn new(config: &ModelConfig, seed: u64) -> Self {
        let mut maker = Maker { parameters: Vec::new(), offset: 0, seed };
        let (hidden, q, kv) = (config.hidden_size, config.q_width(), config.kv_width());
        let deep = 1.0 / (2.0 * config.num_layers() as f32).sqrt();
        maker.normal("model.embed_tokens.weight", config.vocab_size, hidden, 0.02, Kind::Embedding);
        let layers = (0..config.num_layers()).map(|index| {
            let name = |part: &str| format!("model.layers.{index}.{part}.weight");
            let norm = maker.ones(&name("input_layernorm"), hidden);
            let [q_id, k_id, v_id] = [("q_proj", q), ("k_proj", kv), ("v_proj", kv)]
                .map(|(part, rows)| maker.matrix(&name(&format!("self_attn.{part}")), rows, hidden, 1.0));
            let o = maker.matrix(&name("self_attn.o_proj"), hidden, q, deep);
            let q_norm = maker.ones(&name("self_attn.q_norm"), config.head_dim);
            let k_norm = maker.ones(&name("self_attn.k_norm"), config.head_dim);
            let sub_norm = maker.ones(&name("self_attn.attn_sub_norm"), q);
            let ffn_norm = maker.ones(&name("post_attention_layernorm"), hidden);
            let network = |maker: &mut Maker, part: &str, width: usize| {
                let [gate, up] = ["gate", "up"].map(|projection| {
                    maker.matrix(&name(&format!("{part}.{projection}_proj")), width, hidden, 1.0)
                });
                let down = maker.matrix(&name(&format!("{part}.down_proj")), hidden, width, deep);
                FfnIds { gate, up, down, sub_norm: (0, 0), width }
            };
            let experts = config.experts.as_ref().filter(|_| config.layers[index].experts);
            let ffn = match experts {
                None => {
                    let mut ids = network(&mut maker, "mlp", config.intermediate_size);
                    ids.sub_norm = (maker.ones(&name("mlp.ffn_sub_norm"), ids.width), 0);
                    LayerFfn::Dense(ids)
                }
                Some(experts) => {
                    let width = experts.intermediate_size;
                    let router = maker.normal(
                        &name("mlp.gate"),
                        experts.count,
                        hidden,
                        1.0 / (hidden as f32).sqrt(),
                        Kind::Router,
                    );
                    let mut ids: Vec<_> = (0..experts.count)
                        .map(|expert| network(&mut maker, &format!("mlp.experts.{expert}"), width))
                        .collect();
                    let norms = maker.ones(&name("mlp.experts.ffn_sub_norm"), experts.count * width);
                    ids.iter_mut().enumerate().for_each(|(e, ids)| ids.sub_norm = (norms, e * width));
                    let shared = experts.shared_intermediate_size.map(|width| {
                        let mut ids = network(&mut maker, "mlp.shared_expert", width);
                        ids.sub_norm = (maker.ones(&name("mlp.shared_expert.ffn_sub_norm"), width), 0);
                        ids
                    });
                    LayerFfn::Experts(MixtureIds { router, experts: ids, shared })
                }
            };
            LayerIds { norm, q: q_id, k: k_id, v: v_id, o, q_norm, k_norm, sub_norm, ffn_norm, ffn }
        });
        let layers = layers.collect();
        let final_norm = maker.ones("model.norm.weight", hidden);
        Self { parameters: maker.parameters, layers, final_norm }
    }
}

struct Maker {
    parameters: Vec<Parameter>,
    offset: usize,
    seed: u64,
}

impl Maker {
    fn push(&mut self, name: &str, shape: Vec<usize>, kind: Kind, value: Vec<f32>) -> usize {
        let offset = self.offset;
        self.offset += value.len();
        self.parameters.push(Parameter { name: name.into(), shape, kind, offset, value });
        self.parameters.len() - 1
    }

    fn ones(&mut self, name: &str, len: usize) -> usize {
        self.push(name, vec![len], Kind::Norm, vec![1.0; len])
    }

    fn matrix(&mut self, name: &str, rows: usize, cols: usize, factor: f32) -> usize {
        self.normal(name, rows, cols, factor / (cols as f32).sqrt(), Kind::Matrix)
    }

    fn normal(&mut self, name: &str, rows: usize, cols: usize, deviation: f32, kind: Kind) -> usize {
        let mut random = Random::new(&[self.seed, INITIAL, self.parameters.len() as u64]);
        let mut value: Vec<f32> = Vec::with_capacity(rows * cols + 1);
        while value.len() < rows * cols {
            // Box and Muller (1958): two at a time.
            let unit = |bits: u64| ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            let radius = (-2.0 * libm::log(unit(random.bits()))).sqrt() * f64::from(deviation);
            let (sin, cos) = libm::sincos(std::f64::consts::TAU * unit(random.bits()));
            value.extend([(radius * cos) as f32, (radius * sin) as f32]);
        }
        value.truncate(rows * cols);
        self.push(name, vec![rows, cols], kind, value)
    }
}

/// The purpose of the random numbers of first values.
const INITIAL: u64 = 0x1417;
