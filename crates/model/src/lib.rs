//! Ternary language models: configuration, weights, decoder, sampling.
//!
//! A [`Model`] is immutable: a [`ModelConfig`] and the matrices, often views into the mapped file.
//! [`Source`] opens what a model may be stored as (native file, GGUF, Hugging Face folder, llama2.c file) and
//! turns it into a [`Model`]; [`write_native`] and [`convert`](convert::convert) write the native file.
//!
//! An [`Engine`] computes a model, a [`Sequence`] is one text and its KV cache, a [`Sampler`] chooses tokens,
//! and a [`Generation`] ties the three together; a [`Speculator`] makes it faster.
pub mod config;
pub mod convert;
pub mod engine;
pub mod error;
pub mod fingerprint;
pub mod generation;
pub mod kv;
pub mod load;
mod mapping;
pub mod native;
pub mod perplexity;
pub mod prefetch;
pub mod sampler;
pub mod sequence;
pub mod speculate;
pub mod synthetic;
mod truncation;
pub mod weights;

pub use chalot_tensor::attention::KvType;
pub use config::{Biases, Dimensions, ExpertsConfig, LayerConfig, ModelConfig, QkNorm, RopeConfig};
pub use convert::{ConvertOptions, ConvertTo, convert};
pub use engine::{Engine, EngineError, EngineOptions, Profile, Step};
pub use error::ModelError;
pub use fingerprint::Fingerprint;
pub use generation::{Finish, Generation, GenerationOptions, GenerationStats};
pub use kv::{KvError, KvFileError, KvPool, KvPoolOptions, KvStats};
pub use load::{LoadOptions, Source, SourceKind, WeightsAs};
pub use mapping::Mapping;
pub use native::write_native;
pub use perplexity::{Perplexity, PerplexityOptions, perplexity};
pub use prefetch::{PrefetchOptions, PrefetchStats, PrefetchStrategy, Prefetcher};
pub use sampler::{RecommendedSampling, Sampler, SamplingParams};
pub use sequence::{Sequence, SequenceOptions};
pub use speculate::{BrainMap, DraftMode, SpeculationOptions, SpeculationStats, Speculator};
pub use truncation::explain_truncated_files;
pub use weights::{Attention, Experts, Ffn, GatedFfn, Layer, Linear, Model};
