//! A token in the steady state allocates nothing: buffers are kept, cache blocks last 64 tokens.
mod support;

use chalot_model::{Sampler, SamplingParams};
use chalot_simd::Isa;
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
