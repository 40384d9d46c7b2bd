//! Models of known shapes with random weights: what benchmarks compute when there is nothing to download.
//!
//! Weights are made in the kernels' own order, at the speed of writing memory; nothing is quantized. Scales are such that
//! signals keep their size from layer to layer, so that every operation meets ordinary numbers. What such a model says
//! is noise; how fast it says it is not.
mod trace;
mod write;

use chalot_simd::{AlignedVec, Arena};
use chalot_tensor::{Format, Matrix, MatrixError, MatrixSpec, ScaleBy, elementwise::Activation};
use half::f16;

use crate::{
    config::{Dimensions, ExpertsConfig, LayerConfig, ModelConfig, QkNorm},
    weights::{Attention, Experts, Ffn, GatedFfn, Layer, Linear, Model},
};

pub use self::trace::TokenTrace;
pub use self::write::write_synthetic;

/// The shapes that [`shape`] knows by name.
pub const SHAPES: [&str; 8] =
    ["bitnet-2b", "llama-8b", "qwen3-1.7b", "smollm2-135m", "moe-64x24", "moe-2b", "tiny", "tiny-moe"];

/// The configuration of a model known by name: BitNet b1.58 2B-4T, Llama 3 8B, Qwen3 1.7B, SmolLM2 135M; two mixtures, one of
/// 64 experts in each of 24 layers (9.7 G parameters, 1.6 G of them for a token; the experts are of OLMoE's size) and one of
/// 2 G parameters (0.3 G for a token); and two that are made in no time, for tests.
pub fn shape(name: &str) -> Option<ModelConfig> {
    let plain =
        |hidden_size, intermediate_size, num_layers, (num_heads, num_kv_heads, head_dim), vocab_size| {
            let mut config = ModelConfig::llama(Dimensions {
                vocab_size,
                hidden_size,
                num_layers,
                num_heads,
                num_kv_heads,
                head_dim,
                intermediate_size,
                context_length: 8192,
            });
            config.rope[0].theta = 5e5;
            ModelConfig { name: name.to_owned(), tied_embeddings: true, ..config }
        };
    let bitnet = |config| ModelConfig {
        family: "bitnet".to_owned(),
        context_length: 4096,
        activation: Activation::Relu2,
        sub_norms: true,
        ..config
    };
    let mixture = |config: ModelConfig, (count, top_k, intermediate_size)| ModelConfig {
        family: "qwen3moe".to_owned(),
        layers: vec![LayerConfig { window: None, rope: 0, experts: true }; config.layers.len()],
        qk_norm: QkNorm::Head,
        experts: Some(ExpertsConfig {
            count,
            top_k,
            intermediate_size,
            renormalize: true,
            shared_intermediate_size: None,
            sub_norms: false,
            scale: 1.0,
        }),
        ..config
    };
    Some(match name {
        "moe-64x24" => mixture(plain(2048, 8192, 24, (16, 16, 128), 8192), (64, 8, 1024)),
        "moe-2b" => mixture(plain(1024, 5120, 16, (16, 4, 64), 8192), (32, 4, 1280)),
        "tiny-moe" => mixture(plain(64, 128, 3, (4, 2, 16), 8192), (8, 2, 64)),
        "bitnet-2b" => bitnet(plain(2560, 6912, 30, (20, 5, 128), 128_256)),
        "llama-8b" => {
            ModelConfig { tied_embeddings: false, ..plain(4096, 14_336, 32, (32, 8, 128), 128_256) }
        }
        "qwen3-1.7b" => ModelConfig {
            family: "qwen3".to_owned(),
            qk_norm: QkNorm::Head,
            ..plain(2048, 6144, 28, (16, 8, 128), 151_936)
        },
        "smollm2-135m" => plain(576, 1536, 30, (9, 3, 64), 49_152),
        "tiny" => bitnet(plain(64, 160, 2, (4, 2, 16), 256)),
        _ => return None,
    })
}

/// A model with random weights: those of the layers in the format `weights`, embedding and head in `head`.
///
/// The same arguments make the same model. There is no support for biases and shared experts: no shape has them. The routers
/// and the embedding of a mixture are such that a text's tokens visit experts as those of a trained model do: see
/// [`TokenTrace`].
///
/// # Errors
/// [`MatrixError`] when a format or a shape of the configuration is impossible.
pub fn synthetic(
    config: ModelConfig,
    weights: Format,
    head: Format,
    seed: u64,
) -> Result<Model, MatrixError> {
    let mut maker = Maker { weights, head, seed, arena: Arena::default() };
    let layers =
        (0..config.num_layers()).map(|index| maker.layer(&config, index)).collect::<Result<_, _>>()?;
    let embedding = maker.embedding(&config)?;
    let head = maker.head(&config)?;
    Ok(Model { embedding, layers, final_norm: vec![1.0; config.hidden_size], head, config })
}

/// Makes the parts of a model, in any order: each has a seed of its own.
struct Maker {
    weights: Format,
    head: Format,
    seed: u64,
    /// Where the layers' matrices are kept.
    arena: Arena,
}

/// What the outputs of a mixture model's blocks are multiplied by. Random blocks write as much into the residual stream as
/// they read from it, trained ones much less; by this the experts of a layer are foretold from the layer before about as
/// often as in trained mixtures (four of five).
const MIXTURE_OUTPUT: f32 = 0.25;

impl Maker {
    /// Layer number `index`.
    fn layer(&mut self, config: &ModelConfig, index: usize) -> Result<Layer, MatrixError> {
        let hidden = config.hidden_size;
        let experts = config.experts.as_ref().filter(|_| config.layers[index].experts);
        let output = if config.experts.is_some() { MIXTURE_OUTPUT } else { 1.0 };
        let (q, kv) = (config.q_width(), config.kv_width());
        let head_norm = match config.qk_norm {
            QkNorm::None => None,
            QkNorm::Head => Some((config.head_dim, config.head_dim)),
            QkNorm::Row => Some((q, kv)),
        };
        let ones = |len: usize| vec![1.0; len];
        let sub_norm = |len| config.sub_norms.then(|| ones(len));
        let post_norm = || config.post_norms.then(|| ones(hidden));
        Ok(Layer {
            attention: Attention {
                norm: ones(hidden),
                q: self.linear(q, hidden)?,
                k: self.linear(kv, hidden)?,
                v: self.linear(kv, hidden)?,
                o: self.scaled(hidden, q, output)?,
                q_norm: head_norm.map(|(q, _)| ones(q)),
                k_norm: head_norm.map(|(_, k)| ones(k)),
                sub_norm: sub_norm(q),
                post_norm: post_norm(),
            },
            ffn_norm: ones(hidden),
            ffn: match experts {
                None => Ffn::Dense(self.network(config, config.intermediate_size, output)?),
                Some(experts) => Ffn::Experts(self.experts(config, experts, output)?),
            },
            ffn_post_norm: post_norm(),
        })
    }

    fn network(&mut self, config: &ModelConfig, width: usize, output: f32) -> Result<GatedFfn, MatrixError> {
        let hidden = config.hidden_size;
        Ok(GatedFfn {
            gate: self.linear(width, hidden)?,
            up: self.linear(width, hidden)?,
            down: self.scaled(hidden, width, output)?,
            sub_norm: config.sub_norms.then(|| vec![1.0; width]),
        })
    }

    fn experts(
        &mut self,
        config: &ModelConfig,
        experts: &ExpertsConfig,
        output: f32,
    ) -> Result<Experts, MatrixError> {
        let network = |_| self.network(config, experts.intermediate_size, output);
        let networks = (0..experts.count).map(network).collect::<Result<_, _>>()?;
        self.seed += 1;
        let weight = trace::router(experts.count, config.hidden_size, self.seed)?;
        Ok(Experts {
            router: Linear { weight, bias: None },
            selection_bias: None,
            experts: networks,
            shared: None,
        })
    }

    /// The embedding; that of a mixture is made for [`TokenTrace`].
    fn embedding(&mut self, config: &ModelConfig) -> Result<Matrix, MatrixError> {
        self.seed += 1;
        if config.experts.is_some() {
            return trace::embedding(config.vocab_size, config.hidden_size, self.head, self.seed);
        }
        let spec = MatrixSpec { format: self.head, rows: config.vocab_size, cols: config.hidden_size };
        random_matrix(spec, self.seed)
    }

    /// The head, unless it is the embedding.
    fn head(&mut self, config: &ModelConfig) -> Result<Option<Matrix>, MatrixError> {
        self.seed += 1;
        let spec = MatrixSpec { format: self.head, rows: config.vocab_size, cols: config.hidden_size };
        (!config.tied_embeddings).then(|| random_matrix(spec, self.seed)).transpose()
    }

    fn linear(&mut self, rows: usize, cols: usize) -> Result<Linear, MatrixError> {
        self.scaled(rows, cols, 1.0)
    }

    /// A projection whose outputs are `factor` times as large as its inputs.
    fn scaled(&mut self, rows: usize, cols: usize, factor: f32) -> Result<Linear, MatrixError> {
        self.seed += 1;
        let spec = MatrixSpec { format: self.weights, rows, cols };
        let mut image = self.arena.take(spec.image_len()?);
        fill_image(&mut image, &spec, self.seed, factor);
        Ok(Linear { weight: Matrix::from_image(spec, image.into_bytes())?, bias: None })
    }
}

/// A matrix of random weights whose outputs are about as large as its inputs.
///
/// # Errors
/// [`MatrixError`] when the specification is impossible.
pub fn random_matrix(spec: MatrixSpec, seed: u64) -> Result<Matrix, MatrixError> {
    let mut image = AlignedVec::<u8>::zeroed(spec.image_len()?);
    fill_image(&mut image, &spec, seed, 1.0);
    Matrix::from_image(spec, image.into_bytes())
}

/// Writes the image of such a matrix, with outputs of `factor` times that size; the weights of the float formats, which have no
/// scales, stay as they are.
fn fill_image(image: &mut [u8], spec: &MatrixSpec, seed: u64, factor: f32) {
    fill_weights(&mut image[spec.weights()], spec.format, seed);
    // The root mean square of the codes, so that sums of `cols` products have that of one activation.
    let spread = match spec.format {
        Format::F32 | Format::F16 | Format::Bf16 => 1.0,
        Format::Int8(_) => 73.9,
        Format::Int4 { .. } => 4.6,
        Format::Trit2(_) => 0.71,
        Format::Trit5(_) => 0.82,
    };
    let scale = factor / (spread * (spec.cols as f32).sqrt());
    match spec.format {
        Format::Int8(ScaleBy::Group(_)) | Format::Int4 { .. } => {
            fill(&mut image[spec.scales()], f16::from_f32(scale).to_le_bytes());
            fill(&mut image[spec.mins()], f16::from_f32(-7.5 * scale).to_le_bytes());
        }
        _ => fill(&mut image[spec.scales()], scale.to_le_bytes()),
    }
}

fn fill<const N: usize>(bytes: &mut [u8], value: [u8; N]) {
    bytes.as_chunks_mut().0.fill(value);
}

/// Random codes that the format has; floats of one magnitude and either sign.
fn fill_weights(bytes: &mut [u8], format: Format, seed: u64) {
    // Xorshift, of period 2^64 - 1: no state but 0 leads to 0.
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    // An image's parts are whole cache lines.
    let words = bytes.as_chunks_mut::<8>().0;
    let mut fill = |word: &dyn Fn(u64) -> u64| {
        words.iter_mut().for_each(|bytes| *bytes = word(random()).to_le_bytes());
    };
    match format {
        Format::Int8(_) | Format::Int4 { mins: true } => fill(&|x| x),
        // Code 0 becomes 8, weight 0: the others are as often positive as negative. Else all outputs of a token lean one way, layer
        // after layer, until attention weighs with numbers so small that some CPUs take a hundred times as long for them.
        Format::Int4 { mins: false } => {
            fill(&|x| x | (!(x | x >> 1 | x >> 2 | x >> 3) & 0x1111_1111_1111_1111) << 3);
        }
        // There is no code 3: it becomes 1, weight 0, which thus is half of all weights.
        Format::Trit2(_) => fill(&|x| x & !((x & (x >> 1) & 0x5555_5555_5555_5555) << 1)),
        Format::Trit5(_) => {
            let bytes: [u8; 256] = std::array::from_fn(|x| (((x * 243) >> 8) * 256).div_ceil(243) as u8);
            fill(&|x| u64::from_le_bytes(x.to_le_bytes().map(|byte| bytes[usize::from(byte)])));
        }
        // Random sign and fraction, exponent -6.
        Format::F32 => fill(&|x| x & 0x807F_FFFF_807F_FFFF | 0x3C80_0000_3C80_0000),
        Format::F16 => fill(&|x| x & 0x83FF_83FF_83FF_83FF | 0x2400_2400_2400_2400),
        Format::Bf16 => fill(&|x| x & 0x807F_807F_807F_807F | 0x3C80_3C80_3C80_3C80),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chalot_simd::Isa;
    use chalot_tensor::Exec;

    use super::*;
    use crate::{Engine, EngineOptions, Sequence, SequenceOptions};

    const FORMATS: [&str; 10] = [
        "trit2/tensor",
        "trit2/128",
        "trit5/row",
        "trit5/64",
        "int8/row",
        "int8/32",
        "int4/32",
        "int4m/32",
        "f16",
        "bf16",
    ];

    #[test]
    fn every_shape_is_a_valid_configuration() {
        for name in SHAPES {
            shape(name).unwrap().validate(name).unwrap();
        }
        assert!(shape("gpt-5").is_none());
    }

    #[test]
    fn bitnet_has_its_known_size() {
        let config = shape("bitnet-2b").unwrap();
        let layer = 2560 * (2 * config.q_width() + 2 * config.kv_width() + 3 * config.intermediate_size);
        assert_eq!(config.num_layers() * layer, 2_084_044_800);
    }

    #[test]
    fn outputs_are_as_large_as_inputs() {
        for format in FORMATS.into_iter().chain(["f32"]) {
            let spec = MatrixSpec { format: format.parse().unwrap(), rows: 64, cols: 2048 };
            let weights = random_matrix(spec, 3).unwrap().to_f32();
            let power: f32 = weights.iter().map(|w| w * w).sum::<f32>() / 64.0;
            assert!((0.8..1.25).contains(&power), "{format}: {power}");
            let mean = weights.iter().sum::<f32>() / weights.len() as f32;
            assert!(mean.abs() < 0.15 * (power / 2048.0).sqrt(), "{format}: mean {mean}");
        }
    }

    #[test]
    fn ternary_codes_are_the_three() {
        for format in ["trit2/tensor", "trit5/tensor"] {
            let spec = MatrixSpec { format: format.parse().unwrap(), rows: 16, cols: 640 };
            let mut weights = random_matrix(spec, 9).unwrap().to_f32();
            weights.sort_by(f32::total_cmp);
            weights.dedup();
            assert_eq!(weights.len(), 3, "{format}");
        }
    }

    #[test]
    fn every_format_computes_and_the_seed_decides() {
        let logits = |format: &str, seed| {
            let config = shape("tiny").unwrap();
            let model = synthetic(config, format.parse().unwrap(), "int8/row".parse().unwrap(), seed);
            let model = Arc::new(model.unwrap());
            let exec = Exec::new(Isa::best(), 1);
            let mut engine = Engine::new(model.clone(), exec, EngineOptions::default()).unwrap();
            let mut sequence = Sequence::new(&model, SequenceOptions::default()).unwrap();
            engine.forward(&mut sequence, &[1, 2, 3]).unwrap().to_vec()
        };
        for format in FORMATS {
            let found = logits(format, 1);
            assert!(found.iter().all(|x| x.is_finite()), "{format}");
            assert!(found.iter().any(|&x| x != found[0]), "{format}");
            assert_eq!(found, logits(format, 1), "{format}");
            assert_ne!(found, logits(format, 2), "{format}");
        }
    }
}
