//! Small random models of every family, built in memory.
#![allow(dead_code)] // each test binary uses its part

use std::sync::Arc;

use chalot_model::{
    Attention, Dimensions, Engine, EngineOptions, Experts, ExpertsConfig, Ffn, GatedFfn, Layer, LayerConfig,
    Linear, Model, ModelConfig, QkNorm, RopeConfig, Sequence, SequenceOptions, config::Biases,
};
use chalot_simd::Isa;
use chalot_tensor::elementwise::Activation;
use chalot_tensor::exec::Exec;
use chalot_tensor::matrix::{Format, Matrix, ScaleBy};
use chalot_tensor::rope::{RopeScaling, RopeStyle};

/// The decoder's variations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Llama,
    BitNet,
    Qwen2,
    Qwen3,
    Gemma3,
    Olmoe,
    Qwen3Moe,
    /// Everything at once: experts beside dense layers, a shared expert, a selection bias, sub-norms, biases.
    Mixed,
}

impl Family {
    pub const ALL: [Family; 8] = [
        Family::Llama,
        Family::BitNet,
        Family::Qwen2,
        Family::Qwen3,
        Family::Gemma3,
        Family::Olmoe,
        Family::Qwen3Moe,
        Family::Mixed,
    ];
}

/// Every kind of matrix the decoder meets.
pub const FORMATS: [Format; 13] = [
    Format::F32,
    Format::F16,
    Format::Bf16,
    Format::Int8(ScaleBy::Row),
    Format::Int8(ScaleBy::Group(32)),
    Format::Int4 { mins: false },
    Format::Int4 { mins: true },
    Format::Trit2(ScaleBy::Tensor),
    Format::Trit2(ScaleBy::Row),
    Format::Trit2(ScaleBy::Group(64)),
    Format::Trit5(ScaleBy::Tensor),
    Format::Trit5(ScaleBy::Group(64)),
    Format::Trit5(ScaleBy::Group(128)),
];

/// Odd on purpose: nothing is a multiple of 16 that need not be, and heads * head_dim is not the hidden size.
pub fn config(family: Family) -> ModelConfig {
    use Family::*;
    let rope = |style, theta, dims, scaling| RopeConfig { style, theta, dims, scaling };
    let experts = |renormalize, shared| ExpertsConfig {
        count: 7,
        top_k: 3,
        intermediate_size: 40,
        renormalize,
        shared_intermediate_size: shared,
        sub_norms: false,
        scale: 1.0,
    };
    let mut config = ModelConfig {
        name: format!("{family:?}"),
        family: "test".into(),
        ..ModelConfig::llama(Dimensions {
            vocab_size: 101,
            hidden_size: 72,
            num_layers: 3,
            num_heads: 4,
            num_kv_heads: 2,
            head_dim: 20,
            intermediate_size: 136,
            context_length: 2048,
        })
    };
    match family {
        Llama => config.rope[0].style = RopeStyle::Interleaved,
        BitNet => {
            (config.sub_norms, config.tied_embeddings) = (true, true);
            config.activation = Activation::Relu2;
        }
        Qwen2 => (config.biases.qkv, config.tied_embeddings) = (true, true),
        Qwen3 => config.qk_norm = QkNorm::Head,
        Gemma3 => {
            (config.qk_norm, config.post_norms, config.tied_embeddings) = (QkNorm::Head, true, true);
            config.activation = Activation::GeluTanh;
            config.embedding_scale = 72f32.sqrt();
            (config.attention_soft_cap, config.final_soft_cap) = (Some(20.0), Some(15.0));
            config.rope.push(rope(RopeStyle::Neox, 1e6, 20, RopeScaling::Linear { factor: 8.0 }));
            config.layers[0].window = Some(19);
            config.layers[1] = LayerConfig { window: None, rope: 1, experts: false };
            config.layers[2].window = Some(70);
        }
        Olmoe => (config.qk_norm, config.experts) = (QkNorm::Row, Some(experts(false, None))),
        Qwen3Moe => (config.qk_norm, config.experts) = (QkNorm::Head, Some(experts(true, None))),
        Mixed => {
            config.experts = Some(ExpertsConfig { scale: 1.7, ..experts(true, Some(56)) });
            config.sub_norms = true;
            config.biases = Biases { qkv: true, output: true, ffn: true };
            config.rope[0].dims = 12;
        }
    }
    for (index, layer) in config.layers.iter_mut().enumerate() {
        layer.experts = config.experts.is_some() && (family != Mixed || index != 1);
    }
    config
}

/// A random model: the same for the same arguments on every machine.
pub fn model(family: Family, format: Format, seed: u64) -> Arc<Model> {
    Arc::new(
        Builder { config: config(family), format, random: Random(seed), exec: Exec::new(Isa::scalar(), 1) }
            .build(),
    )
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Uniform in [-1, 1).
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn tokens(&mut self, n: usize, vocab: usize) -> Vec<u32> {
        (0..n).map(|_| self.below(vocab) as u32).collect()
    }
}

struct Builder {
    config: ModelConfig,
    format: Format,
    random: Random,
    exec: Exec,
}

impl Builder {
    fn build(mut self) -> Model {
        let config = self.config.clone();
        let (vocab, hidden) = (config.vocab_size, config.hidden_size);
        let embedding = self.matrix(vocab, hidden);
        let layers = config.layers.iter().map(|layer| self.layer(layer)).collect();
        let final_norm = self.norm(hidden);
        let head = (!config.tied_embeddings).then(|| self.matrix(vocab, hidden));
        Model { config, embedding, layers, final_norm, head }
    }

    fn layer(&mut self, layer: &LayerConfig) -> Layer {
        let config = self.config.clone();
        let (hidden, q, kv) =
            (config.hidden_size, config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim);
        let (q_norm, k_norm) = match config.qk_norm {
            QkNorm::None => (None, None),
            QkNorm::Head => (Some(self.norm(config.head_dim)), Some(self.norm(config.head_dim))),
            QkNorm::Row => (Some(self.norm(q)), Some(self.norm(kv))),
        };
        let attention = Attention {
            norm: self.norm(hidden),
            q: self.linear(q, hidden, config.biases.qkv),
            k: self.linear(kv, hidden, config.biases.qkv),
            v: self.linear(kv, hidden, config.biases.qkv),
            o: self.linear(hidden, q, config.biases.output),
            q_norm,
            k_norm,
            sub_norm: config.sub_norms.then(|| self.norm(q)),
            post_norm: config.post_norms.then(|| self.norm(hidden)),
        };
        let ffn = match &config.experts {
            Some(experts) if layer.experts => Ffn::Experts(Experts {
                router: Linear { weight: self.matrix_of(Format::F32, experts.count, hidden), bias: None },
                // Only the mixture with a shared expert has a bias, as in the models that balance by it.
                selection_bias: experts
                    .shared_intermediate_size
                    .map(|_| self.vector(experts.count, 0.0, 0.5)),
                experts: (0..experts.count).map(|_| self.ffn(experts.intermediate_size)).collect(),
                shared: experts.shared_intermediate_size.map(|width| self.ffn(width)),
            }),
            _ => Ffn::Dense(self.ffn(config.intermediate_size)),
        };
        let ffn_post_norm = config.post_norms.then(|| self.norm(hidden));
        Layer { attention, ffn_norm: self.norm(hidden), ffn, ffn_post_norm }
    }

    fn ffn(&mut self, width: usize) -> GatedFfn {
        let (hidden, bias) = (self.config.hidden_size, self.config.biases.ffn);
        GatedFfn {
            gate: self.linear(width, hidden, bias),
            up: self.linear(width, hidden, bias),
            down: self.linear(hidden, width, bias),
            sub_norm: self.config.sub_norms.then(|| self.norm(width)),
        }
    }

    fn linear(&mut self, rows: usize, cols: usize, bias: bool) -> Linear {
        Linear { weight: self.matrix(rows, cols), bias: bias.then(|| self.vector(rows, 0.0, 0.1)) }
    }

    fn matrix(&mut self, rows: usize, cols: usize) -> Matrix {
        self.matrix_of(self.format, rows, cols)
    }

    fn matrix_of(&mut self, format: Format, rows: usize, cols: usize) -> Matrix {
        let data = self.vector(rows * cols, 0.0, (3.0 / cols as f32).sqrt());
        Matrix::from_f32(&self.exec, format, rows, cols, &data).unwrap()
    }

    fn norm(&mut self, len: usize) -> Vec<f32> {
        self.vector(len, 1.0, 0.3)
    }

    fn vector(&mut self, len: usize, mean: f32, spread: f32) -> Vec<f32> {
        (0..len).map(|_| mean + spread * self.random.unit()).collect()
    }
}

/// An engine on every ISA of this machine would be `Isa::available()`; this is one of them.
pub fn engine(model: &Arc<Model>, isa: Isa, threads: usize, chunk: usize) -> Engine {
    Engine::new(model.clone(), Exec::new(isa, threads), EngineOptions { chunk }).unwrap()
}

pub fn sequence(model: &Model) -> Sequence {
    Sequence::new(model, SequenceOptions::default()).unwrap()
}

/// The logits of every token, computed in one go by `engine`.
pub fn all_logits(engine: &mut Engine, seq: &mut Sequence, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut logits = Vec::new();
    engine
        .forward_all(seq, tokens, &mut |index, row| {
            assert_eq!(index, logits.len());
            logits.push(row.to_vec());
        })
        .unwrap();
    logits
}

/// Equal to the bit, NaN and the sign of zero included.
#[track_caller]
pub fn assert_same_bits(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: lengths");
    if let Some(i) = found.iter().zip(expected).position(|(a, b)| a.to_bits() != b.to_bits()) {
        panic!("{what}: element {i} is {:e}, expected {:e}", found[i], expected[i]);
    }
}
