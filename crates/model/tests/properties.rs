//! The first promise: the logits of a token depend on the model and the tokens before it, and on nothing else.
mod support;

use chalot_model::Model;
use chalot_simd::Isa;
use chalot_tensor::matrix::{Format, ScaleBy};
use proptest::prelude::*;
use std::sync::Arc;
use support::{FORMATS, Family, Random, all_logits, assert_same_bits, engine, model, sequence};

const TOKENS: usize = 75; // past one cache block of 64

/// The logits of all tokens: one thread, one pass.
fn reference(model: &Arc<Model>, isa: Isa, tokens: &[u32]) -> Vec<Vec<f32>> {
    all_logits(&mut engine(model, isa, 1, tokens.len()), &mut sequence(model), tokens)
}

fn tokens(n: usize) -> Vec<u32> {
    Random(99).tokens(n, 101)
}

/// Every ISA against scalar code, 1 to 4 threads, token by token and in chunks.
fn check_everywhere(family: Family, format: Format) {
    let model = model(family, format, 1);
    let tokens = tokens(TOKENS);
    let expected = reference(&model, Isa::scalar(), &tokens);
    assert!(expected.iter().flatten().all(|logit| logit.is_finite()), "{family:?} {format}");
    assert_ne!(expected[1], expected[2]);
    for isa in Isa::available() {
        // Scalar code is slow, and the same for any shape of pass but the way it is split.
        let plans = [(3, 7), (1, 1), (2, 64), (4, TOKENS)];
        for (threads, chunk) in plans.into_iter().take(if isa == Isa::scalar() { 1 } else { plans.len() }) {
            let what =
                format!("{family:?} {format} on {} with {threads} threads, chunks of {chunk}", isa.name());
            let found = all_logits(&mut engine(&model, isa, threads, chunk), &mut sequence(&model), &tokens);
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert_same_bits(found, expected, &format!("{what}, token {index}"));
            }
        }
    }
}

#[test]
fn every_family_in_float_and_ternary() {
    for family in Family::ALL {
        for format in [Format::F32, Format::Trit2(ScaleBy::Tensor)] {
            check_everywhere(family, format);
        }
    }
}

#[test]
fn every_format_dense_and_experts() {
    for format in FORMATS {
        for family in [Family::Llama, Family::Mixed] {
            check_everywhere(family, format);
        }
    }
}

#[test]
fn past_a_chunk_of_keys() {
    // Attention merges chunks of 1,024 keys: cross the border in one pass, in pieces and token by token.
    let model = model(Family::Qwen3, Format::Int8(ScaleBy::Row), 3);
    let tokens = tokens(1040);
    let best = Isa::best();
    let mut whole = engine(&model, best, 1, 256);
    let expected = all_logits(&mut whole, &mut sequence(&model), &tokens);
    let mut pieces = engine(&model, Isa::scalar(), 2, 100);
    let mut seq = sequence(&model);
    pieces.prefill(&mut seq, &tokens[..1018]).unwrap();
    for (index, &token) in tokens.iter().enumerate().skip(1018) {
        let found = pieces.forward(&mut seq, &[token]).unwrap();
        assert_same_bits(found, &expected[index], &format!("token {index}"));
    }
}

fn any_model() -> impl Strategy<Value = (Family, Format)> {
    (prop::sample::select(&Family::ALL[..]), prop::sample::select(&FORMATS[..]))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any split of a prompt, any threads, any ISA, and any mix of them within one sequence.
    #[test]
    fn any_split((family, format) in any_model(), cuts in prop::collection::vec((1usize..40, 1usize..5, 0usize..8), 1..8),
                 chunk in 1usize..90) {
        let model = model(family, format, 2);
        let tokens = tokens(TOKENS);
        let expected = reference(&model, Isa::best(), &tokens);
        let isas = Isa::available();
        let mut seq = sequence(&model);
        let mut at = 0;
        // The last piece takes what the cuts left.
        for (len, threads, isa) in cuts.into_iter().chain([(TOKENS, 1, 0)]) {
            let piece = &tokens[at..(at + len).min(TOKENS)];
            if piece.is_empty() {
                break;
            }
            let mut engine = engine(&model, isas[isa % isas.len()], threads, chunk);
            at += piece.len();
            let found = engine.forward(&mut seq, piece).unwrap();
            assert_same_bits(found, &expected[at - 1], &format!("{family:?} {format}, token {}", at - 1));
        }
    }

    /// Going back and another way equals never having been there; a fork leaves the original alone.
    #[test]
    fn truncate_and_fork((family, format) in any_model(), cut in 0usize..TOKENS, detour in 1usize..70) {
        let model = model(family, format, 4);
        let tokens = tokens(TOKENS);
        let expected = reference(&model, Isa::best(), &tokens);
        let mut engine = engine(&model, Isa::best(), 2, 32);
        let mut seq = sequence(&model);
        engine.prefill(&mut seq, &tokens[..TOKENS - 1]).unwrap();

        let mut fork = seq.fork(cut);
        prop_assert_eq!(fork.tokens(), &tokens[..cut]);
        engine.prefill(&mut fork, &Random(7).tokens(detour, 101)).unwrap();
        let found = engine.forward(&mut seq, &tokens[TOKENS - 1..]).unwrap();
        assert_same_bits(found, &expected[TOKENS - 1], "the original after its fork went on");

        fork.truncate(cut);
        prop_assert_eq!(fork.len(), cut);
        let found = all_logits(&mut engine, &mut fork, &tokens[cut..]);
        for (index, found) in found.iter().enumerate() {
            assert_same_bits(found, &expected[cut + index], &format!("{family:?} {format}, token {}", cut + index));
        }
    }

    /// Layers run apart, as a shallow draft and its deep verification do, give the whole model's logits.
    #[test]
    fn layers_apart((family, format) in any_model(), exit in 0usize..=3, drafts in 1usize..9, context in 1usize..66) {
        let model = model(family, format, 5);
        let tokens = tokens(context + drafts);
        let expected = reference(&model, Isa::best(), &tokens);
        let mut engine = engine(&model, Isa::best(), 1, 256);
        let mut seq = sequence(&model);
        engine.prefill(&mut seq, &tokens[..context]).unwrap();
        // The shallow layers take the drafts one by one, the deep ones take them together.
        let mut hidden = Vec::new();
        for (index, &token) in tokens[context..].iter().enumerate() {
            let mut row = Vec::new();
            engine.embed(&[token], &mut row).unwrap();
            engine.layers(&mut seq, 0..exit, context + index, &mut row).unwrap();
            hidden.extend(row);
        }
        engine.layers(&mut seq, exit..3, context, &mut hidden).unwrap();
        let logits = engine.logits(&hidden).unwrap();
        for (index, found) in logits.chunks_exact(101).enumerate() {
            assert_same_bits(found, &expected[context + index], &format!("draft {index}"));
        }
        // A rejected draft leaves no trace.
        seq.truncate(context);
        let found = engine.forward(&mut seq, &tokens[context..]).unwrap();
        assert_same_bits(found, expected.last().unwrap(), "after the rollback");
    }
}
