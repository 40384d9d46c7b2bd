//! Chalot runs language models whose weights are -1, 0 and +1 on ordinary CPUs; models with int8, int4 and float weights
//! too.
//!
//! The logits of a token depend on the model and on the tokens before it, and on nothing else: not on how the prompt was
//! cut, on the number of threads, or on the CPU's instruction set.
//!
//! A [`TextModel`] is a model with its tokenizer and chat template; a [`Session`] is one text that it continues:
//!
//! ```
//! use std::ops::ControlFlow;
//! use chalot::model::{Sampler, SamplingParams, SequenceOptions};
//! use chalot::tensor::Exec;
//! use chalot::tokenizer::Specials;
//! use chalot::{CompletionOptions, OpenOptions, Step, TextModel};
//!
//! # fn main() -> Result<(), chalot::Error> {
//! let exec = Exec::new(chalot::simd::Isa::best(), 2); // where to compute: instructions, threads
//! let model = TextModel::builtin(&exec, &OpenOptions::default())?;
//! let mut session = model.session(SequenceOptions::default())?;
//! let mut sampler = Sampler::new(SamplingParams { seed: 7, ..SamplingParams::default() })?;
//!
//! let prompt = model.prompt("Once upon a time", Specials::AsText);
//! let mut story = String::new();
//! let options = CompletionOptions { max_tokens: Some(20), ..CompletionOptions::default() };
//! let completion = session.complete(&prompt, &mut sampler, &options, &mut |step| {
//!     if let Step::Text(text) = step {
//!         story.push_str(text);
//!     }
//!     ControlFlow::Continue(())
//! })?;
//! println!("{story} ({:.0} tokens per second)", completion.stats.decode_rate());
//! assert!(!story.is_empty());
//! # Ok(())
//! # }
//! ```
//!
//! The arithmetic of ternary weights stands on its own:
//!
//! ```
//! use chalot::{matmul_ternary, pack_ternary, quantize_f32_to_ternary};
//! use chalot::{simd::Isa, tensor::{Exec, Packing}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let weights = [0.9, -1.2, 0.1, -0.2, 1.1, 0.8]; // two outputs, three inputs
//! let (codes, scale) = quantize_f32_to_ternary(&weights);
//! assert_eq!(codes, [1, -1, 0, 0, 1, 1]);
//!
//! let exec = Exec::new(Isa::best(), 1);
//! let w = pack_ternary(&exec, Packing::Trit2, 2, 3, &codes, scale)?;
//! let y = matmul_ternary(&exec, &[1.0, 0.25, -1.0], &w)?;
//! assert!((y[0] - 0.75 * scale).abs() < 0.01 && (y[1] + 0.75 * scale).abs() < 0.01);
//! # Ok(())
//! # }
//! ```
//!
//! So does attention in tiles, which never stores the matrix of scores:
//!
//! ```
//! use chalot::{flash_attention_forward, flash_attention_forward_capped};
//! use chalot::{simd::Isa, tensor::{Exec, attention::AttentionShape}};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let exec = Exec::new(Isa::best(), 2);
//! let shape = AttentionShape::causal(2, 1, 3, 2); // two query heads share one key-value head; three tokens
//! let q = [1.0; 2 * 3 * 2];
//! let (k, v) = ([0.5, -0.5, 0.5, -0.5, 0.5, -0.5], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
//! let out = flash_attention_forward(&exec, &q, &k, &v, &shape)?;
//! assert_eq!(out[..4], [1.0, 2.0, 2.0, 3.0]); // equal scores: the mean of the values so far
//! assert_eq!(flash_attention_forward_capped(&exec, &q, &k, &v, &shape, 50.0)?, out);
//! # Ok(())
//! # }
//! ```
//!
//! A vocabulary is trained, and used, in a few lines; [`tokenizer`] has everything that stands behind it:
//!
//! ```
//! use chalot::OptimizedTokenizer;
//!
//! # fn main() -> Result<(), chalot::Error> {
//! let mut tokenizer = OptimizedTokenizer::new(300);
//! tokenizer.train_optimized(&["the cat sat on the mat", "the hat and the cat"])?;
//! let ids = tokenizer.encode_optimized("the cat");
//! assert_eq!(tokenizer.decode(&ids), "the cat");
//! assert!(ids.len() < "the cat".len());
//!
//! let stats = tokenizer.stats();
//! assert!(stats.vocab_size > 256 && stats.memory_mb() < 1.0);
//! # Ok(())
//! # }
//! ```
//!
//! A model that was trained to leave early drafts several tokens with its first layers and verifies them in one pass; the text
//! stays what it was. [`SpeculativeDecoder`] is the small face of it, [`model::speculate`] the whole:
//!
//! ```
//! use chalot::model::BrainMap;
//! use chalot::{OpenOptions, SpeculativeConfig, SpeculativeDecoder, TextModel};
//!
//! # fn main() -> Result<(), chalot::Error> {
//! # let exec = chalot::tensor::Exec::new(chalot::simd::Isa::best(), 1);
//! let model = TextModel::builtin(&exec, &OpenOptions::default())?;
//! println!("{}", BrainMap::of(&model.model.config)); // which layers are shallow, which deep
//! let mut decoder = SpeculativeDecoder::new(&model, SpeculativeConfig::default())?;
//! let greedy = chalot::model::SamplingParams::greedy();
//! assert!(decoder.generate_speculative(&[1, 2, 3], 8, &greedy)?.len() <= 8);
//! # Ok(())
//! # }
//! ```
//!
//! A mixture of experts larger than memory lies in a mapped file, of which only what is needed is read, ahead of its use:
//!
//! ```
//! use std::sync::Arc;
//! use chalot::model::{Engine, LoadOptions, Sequence, Source, synthetic};
//! use chalot::{PrefetchOptions, PrefetchStrategy, Prefetcher};
//! use chalot::{simd::Isa, tensor::Exec};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let file = folder.path().join("mixture.gguf");
//! // A mixture of random weights; `chalot convert` makes such a file of any model.
//! let config = synthetic::shape("tiny-moe").ok_or("no such shape")?;
//! let formats = ("trit2/tensor".parse()?, "int8/row".parse()?);
//! synthetic::write_synthetic(&config, formats, 7, &[], &file, &|_, _| ())?;
//!
//! let exec = Exec::new(Isa::best(), 2);
//! let source = Source::open(&file)?;
//! let model = Arc::new(source.load(&exec, &LoadOptions::default())?);
//! let strategy = PrefetchStrategy { enabled: true, lookahead: 1 };
//! let options = PrefetchOptions { strategy, budget: Some(1 << 30) };
//! let prefetcher = Arc::new(Prefetcher::of_source(&model, &source, options)?);
//!
//! // By hand: a layer's attention, one expert, and the two experts that a router's scores name.
//! assert!(strategy.prefetch_attention_weights(&prefetcher, 0));
//! assert!(strategy.prefetch_expert_weights(&prefetcher, 1, 3));
//! let scores = [0.1, 2.0, -1.0, 0.0, 0.3, 1.0, -0.5, 0.0];
//! assert_eq!(strategy.prefetch_top_experts(&prefetcher, 0, &scores, 2), 2);
//!
//! // The engine does all of this by itself.
//! let mut engine = Engine::new(model.clone(), exec, Default::default())?.with_prefetcher(Some(prefetcher.clone()));
//! let mut sequence = Sequence::new(&model, Default::default())?;
//! engine.forward(&mut sequence, &[1, 2, 3])?;
//! assert!(prefetcher.stats().hits + prefetcher.stats().in_time > 0);
//! # Ok(())
//! # }
//! ```
//!
//! The layers below are re-exported as modules: [`model`] (the decoder), [`tokenizer`], [`formats`] (GGUF, safetensors),
//! [`tensor`] (the arithmetic) and [`simd`] (what the CPU can do).
mod builtin;
mod error;
mod hub;
mod optimized_tokenizer;
mod session;
mod speculative;
mod template;
mod text_model;
mod vocabulary;

pub use chalot_formats as formats;
pub use chalot_model as model;
pub use chalot_simd as simd;
pub use chalot_tensor as tensor;
pub use chalot_tokenizer as tokenizer;

pub use chalot_model::{PrefetchOptions, PrefetchStats, PrefetchStrategy, Prefetcher};
pub use chalot_tensor::attention::{flash_attention_forward, flash_attention_forward_capped};
pub use chalot_tensor::ternary::{
    matmul_f32, matmul_ternary, pack_ternary, quantize_f32_to_ternary, unpack_ternary,
};

pub use builtin::{BUILTIN_NAME, builtin};
pub use error::Error;
pub use optimized_tokenizer::{OptimizedTokenizer, TokenizerStats};
pub use session::{Completion, CompletionOptions, Session, Step, Stop};
pub use speculative::{SpeculativeConfig, SpeculativeDecoder};
pub use template::{ChatTemplate, Message, TemplateError, TemplateOrigin};
pub use text_model::{OpenOptions, TextModel, builtin_tokenizer, sampling_of, template_source, tokenizer_of};
pub use vocabulary::{read_tokenizer, vocab_of, vocab_to_metadata};
