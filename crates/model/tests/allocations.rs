//! A token in the steady state allocates nothing: buffers are kept, cache blocks last 64 tokens.
mod support;

use std::sync::Arc;

use chalot_model::prefetch::resident_bytes;
use chalot_model::synthetic::{TokenTrace, shape, write_synthetic};
use chalot_model::{
    Engine, EngineOptions, LoadOptions, PrefetchOptions, PrefetchStrategy, Prefetcher, Sampler,
    SamplingParams, Sequence, SequenceOptions, Source,
};
use chalot_simd::Isa;
use chalot_tensor::exec::Exec;
use chalot_tensor::matrix::Format;
use support::{FORMATS, Family, Random, engine, model, sequence};

const TOKENS: usize = 20;

/// Allocations of [`TOKENS`] tokens, computed and sampled, inside one block of the cache.
fn allocations_of_decoding(family: Family, format: Format) -> u64 {
    let model = model(family, format, 1);
    // The counter sees the calling thread, so all work is done there.
    let mut engine = engine(&model, Isa::best(), 1, 256);
    let mut seq = sequence(&model);
    let mut sampler =
        Sampler::new(SamplingParams { repeat_penalty: 1.1, ..SamplingParams::default() }).unwrap();
    let mut next = sampler.sample(engine.forward(&mut seq, &Random(1).tokens(70, 101)).unwrap(), &[]);
    let mut decode = |tokens: usize| {
        for _ in 0..tokens {
            let logits = engine.forward(&mut seq, &[next]).unwrap();
            next = sampler.sample(logits, seq.tokens());
        }
    };
    // Lists grow to what a token needs; experts differ from token to token.
    decode(10);
    allocation_counter::measure(|| decode(TOKENS)).count_total
}

#[test]
fn decoding_allocates_nothing() {
    let cases = Family::ALL.map(|family| (family, Format::F32)).into_iter();
    for (family, format) in cases.chain(FORMATS.map(|format| (Family::Mixed, format))) {
        let count = allocations_of_decoding(family, format);
        assert_eq!(count, 0, "{family:?} {format}: allocations in {TOKENS} tokens");
    }
}

/// Nor where experts are read ahead and released: the queues have room for all of them.
#[test]
fn decoding_with_a_prefetcher_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mixture.gguf");
    let formats = ("trit2/tensor".parse().unwrap(), "int8/row".parse().unwrap());
    write_synthetic(&shape("tiny-moe").unwrap(), formats, 1, &[], &path, &|_, _| ()).unwrap();
    let exec = Exec::new(Isa::best(), 1);
    let source = Source::open(&path).unwrap();
    let model = Arc::new(source.load(&exec, &LoadOptions::default()).unwrap());
    let strategy = PrefetchStrategy { enabled: true, lookahead: 2 };
    // Above what the process takes now, so that nothing is refused, and below what it will take.
    let budget = resident_bytes().map(|bytes| bytes + (1 << 16));
    let options = PrefetchOptions { strategy, budget };
    let prefetcher = Arc::new(Prefetcher::of_source(&model, &source, options).unwrap());
    let engine = Engine::new(model.clone(), exec, EngineOptions::default()).unwrap();
    let mut engine = engine.with_prefetcher(Some(prefetcher));
    let mut seq = Sequence::new(&model, SequenceOptions::default()).unwrap();
    let tokens: Vec<u32> = TokenTrace::new(256, 1).take(60).collect();
    let mut decode = |tokens: &[u32]| {
        tokens.iter().for_each(|&token| {
            engine.forward(&mut seq, &[token]).unwrap();
        });
    };
    // The list of tokens doubles at 33.
    decode(&tokens[..34]);
    let count = allocation_counter::measure(|| decode(&tokens[34..])).count_total;
    assert_eq!(count, 0);
}
