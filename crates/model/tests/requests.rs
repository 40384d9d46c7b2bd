//! What callers ask of a loaded model: refusals, generation, perplexity.
mod support;

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Instant;

use chalot_model::{
    Engine, EngineError, EngineOptions, Finish, Generation, GenerationOptions, Model, PerplexityOptions,
    Sampler, SamplingParams, Sequence, SequenceOptions, Step, perplexity,
};
use chalot_simd::Isa;
use chalot_tensor::matrix::{Format, ScaleBy};
use support::{Family, Random, all_logits, model, sequence};

const VOCAB: u32 = 101;

fn llama() -> (Arc<Model>, Engine) {
    let model = model(Family::Llama, Format::F32, 1);
    let engine = support::engine(&model, Isa::best(), 1, 32);
    (model, engine)
}

fn with_context(model: &Model, context: usize) -> Result<Sequence, EngineError> {
    Sequence::new(model, SequenceOptions { context: Some(context), kv: None })
}

#[test]
fn refused_tokens_leave_the_sequence_alone() {
    let (model, mut engine) = llama();
    let mut seq = with_context(&model, 10).unwrap();
    engine.prefill(&mut seq, &[1, 2, 3]).unwrap();
    let expected = engine.forward(&mut seq.clone(), &[4]).unwrap().to_vec();

    assert_eq!(engine.forward(&mut seq, &[]).unwrap_err(), EngineError::EmptyPrompt);
    let error = engine.forward(&mut seq, &[5, VOCAB, 6]).unwrap_err();
    assert_eq!(error, EngineError::TokenOutOfRange { index: 1, token: VOCAB, last: 100 });
    assert!(error.to_string().starts_with("token 101 (number 1 of the input) is not in the vocabulary"));
    let error = engine.forward(&mut seq, &[1; 9]).unwrap_err();
    assert_eq!(error, EngineError::ContextOverflow { used: 3, new: 9, context: 10 });
    assert!(error.to_string().contains("the context of 10 is exceeded by 2;"), "{error}");

    assert_eq!(seq.tokens(), [1, 2, 3]);
    assert_eq!(engine.forward(&mut seq, &[4]).unwrap(), expected);
    engine.forward(&mut seq, &[1; 6]).unwrap();
    assert_eq!(seq.len(), 10, "a full context is no overflow");
}

#[test]
fn a_profile_has_the_steps_that_there_were_and_changes_no_logits() {
    for family in Family::ALL {
        let model = model(family, Format::Int8(ScaleBy::Row), 2);
        let mut engine = support::engine(&model, Isa::best(), 2, 32);
        let text = Random(2).tokens(40, VOCAB as usize);
        let expected = engine.forward(&mut sequence(&model), &text).unwrap().to_vec();

        let begun = Instant::now();
        let (logits, profile) =
            engine.profiled(|engine| engine.forward(&mut sequence(&model), &text).map(<[f32]>::to_vec));
        assert_eq!(logits.unwrap(), expected, "{family:?}");
        assert!(profile.total() <= begun.elapsed(), "{family:?}");
        for step in Step::ALL {
            let expected = match step {
                Step::Routing => model.config.experts.is_some(),
                // Nothing is read from a file.
                Step::Waiting => false,
                _ => true,
            };
            assert_eq!(!profile.of(step).is_zero(), expected, "{family:?}, {step:?}");
        }
    }
}

#[test]
fn a_profile_ends_with_its_work() {
    let (model, mut engine) = llama();
    let mut seq = sequence(&model);
    let (result, profile) = engine.profiled(|engine| engine.prefill(&mut seq, &[VOCAB]));
    assert!(result.is_err() && profile.total().is_zero());
    engine.prefill(&mut seq, &[1, 2]).unwrap();
    let ((), profile) = engine.profiled(|_| ());
    assert_eq!(profile, Default::default());
}

#[test]
fn impossible_contexts_and_chunks_are_refused() {
    let (model, engine) = llama();
    assert_eq!(with_context(&model, 0).unwrap_err(), EngineError::ContextLength { asked: 0, trained: 2048 });
    let error = with_context(&model, 2049).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a context of 2049 tokens was asked for, but the model is made for 1 to 2048"
    );
    let zero = Engine::new(model, engine.exec().clone(), EngineOptions { chunk: 0 });
    assert_eq!(zero.err().unwrap().to_string(), "chunk is 0, but must be at least 1");
}

#[test]
fn a_sequence_of_another_model_is_refused() {
    let (_, mut engine) = llama();
    let mut other = (*model(Family::Llama, Format::F32, 1)).clone();
    other.config.num_kv_heads = 1;
    let error = engine.forward(&mut sequence(&other), &[1]).unwrap_err();
    assert!(
        error.to_string().contains("3 layers of 1 heads of 20, this model has 3 layers of 2 heads of 20"),
        "{error}"
    );
}

#[test]
fn inconsistent_models_are_refused() {
    let (model, engine) = llama();
    let refused = |edit: &dyn Fn(&mut Model)| {
        let mut broken = (*model).clone();
        edit(&mut broken);
        let engine = Engine::new(Arc::new(broken), engine.exec().clone(), EngineOptions::default());
        let error = engine.err().expect("refused").to_string();
        assert!(error.starts_with("the model is inconsistent: "), "{error}");
    };
    refused(&|model| model.layers.truncate(2));
    refused(&|model| model.config.rope.clear());
    refused(&|model| model.final_norm.truncate(3));
    refused(&|model| model.layers[1].attention.norm.push(1.0));
    refused(&|model| model.layers[1].attention.k = model.layers[1].attention.q.clone());
    refused(&|model| model.config.head_dim = 40);
    refused(&|model| model.head = Some(model.layers[0].attention.q.weight.clone()));
    refused(&|model| model.config.layers[0].experts = true);
    refused(&|model| model.layers[0].attention.q_norm = Some(vec![1.0; 10]));
    refused(&|model| model.layers[0].attention.q.bias = Some(vec![1.0; 10]));
}

#[test]
fn layers_out_of_turn_are_refused() {
    let (model, mut engine) = llama();
    let mut seq = with_context(&model, 4).unwrap();
    let mut hidden = Vec::new();
    engine.embed(&[1, 2], &mut hidden).unwrap();
    let mut try_layers =
        |layers, position, hidden: &mut [f32]| engine.layers(&mut seq, layers, position, hidden);
    assert!(matches!(
        try_layers(0..4, 0, &mut hidden),
        Err(EngineError::Input { found: 4, expected: 3, .. })
    ));
    assert!(matches!(
        try_layers(0..1, 1, &mut hidden),
        Err(EngineError::Input { found: 1, expected: 0, .. })
    ));
    assert!(matches!(try_layers(0..1, 0, &mut hidden[1..]), Err(EngineError::Input { .. })));
    try_layers(0..1, 0, &mut hidden.clone()).unwrap();
    try_layers(0..1, 2, &mut hidden.clone()).unwrap();
    let gap = try_layers(1..2, 2, &mut hidden.clone()).unwrap_err();
    assert!(
        matches!(gap, EngineError::Input { found: 2, expected: 0, .. }),
        "layer 1 has nothing yet: {gap}"
    );
    let error = try_layers(0..1, 3, &mut hidden.clone()).unwrap_err();
    assert_eq!(error, EngineError::ContextOverflow { used: 3, new: 2, context: 4 });
}

/// Greedy tokens by the plain loop that [`Generation`] stands for.
fn greedy(engine: &mut Engine, seq: &mut Sequence, prompt: &[u32], n: usize) -> Vec<u32> {
    let mut tokens = Vec::new();
    let mut input = prompt.to_vec();
    for _ in 0..n {
        let logits = engine.forward(seq, &input).unwrap();
        let next =
            (0..VOCAB).rev().max_by(|&a, &b| logits[a as usize].total_cmp(&logits[b as usize])).unwrap();
        tokens.push(next);
        input = vec![next];
    }
    tokens
}

#[test]
fn generation_is_the_plain_loop() {
    let (model, mut engine) = llama();
    let expected = greedy(&mut engine, &mut sequence(&model), &[1, 2, 3], 20);
    let mut sampler = Sampler::new(SamplingParams::greedy()).unwrap();
    let mut seq = sequence(&model);
    let options = GenerationOptions { stop: &[], max_tokens: Some(20) };
    let mut generation = Generation::start(&mut engine, &mut seq, &mut sampler, &[1, 2, 3], options).unwrap();
    let found: Vec<u32> = generation.by_ref().map(Result::unwrap).collect();
    assert_eq!(found, expected);
    assert_eq!(generation.finish(), Some(Finish::MaxTokens));
    assert!(generation.next().is_none());
    let stats = generation.stats();
    assert_eq!(
        (stats.prompt_tokens, stats.reused_tokens, stats.generated_tokens, stats.decode_steps),
        (3, 0, 20, 19)
    );
    assert!(stats.prompt_rate() > 0.0 && stats.decode_rate() > 0.0);
}

#[test]
fn generation_stops_where_it_should() {
    let (model, mut engine) = llama();
    let expected = greedy(&mut engine, &mut sequence(&model), &[1, 2, 3], 20);
    let mut sampler = Sampler::new(SamplingParams::greedy()).unwrap();
    let mut run = |context: usize, stop: &[u32], max_tokens| {
        let mut seq = with_context(&model, context).unwrap();
        let options = GenerationOptions { stop, max_tokens };
        let mut generation =
            Generation::start(&mut engine, &mut seq, &mut sampler, &[1, 2, 3], options).unwrap();
        let tokens: Vec<u32> = generation.by_ref().map(Result::unwrap).collect();
        (tokens, generation.finish().unwrap())
    };
    // The first place of the token that stands at 7.
    let first = expected.iter().position(|&token| token == expected[7]).unwrap();
    let stopped = run(100, &[expected[7], VOCAB + 5], None);
    assert_eq!(stopped, (expected[..first].to_vec(), Finish::Stop(expected[7])));
    assert_eq!(run(100, &[], Some(0)), (vec![], Finish::MaxTokens));
    // 3 + 5 fill the context, the choice after the last needs no room.
    assert_eq!(run(8, &[], None), (expected[..6].to_vec(), Finish::ContextFull));
    assert_eq!(run(3, &[], None), (expected[..1].to_vec(), Finish::ContextFull));
}

#[test]
fn a_conversation_computes_only_what_is_new() {
    let (model, mut engine) = llama();
    let mut sampler = Sampler::new(SamplingParams::greedy()).unwrap();
    let options = GenerationOptions { stop: &[], max_tokens: Some(4) };
    let mut seq = sequence(&model);
    let mut turn = |seq: &mut Sequence, prompt: &[u32]| {
        let mut generation = Generation::start(&mut engine, seq, &mut sampler, prompt, options).unwrap();
        let tokens: Vec<u32> = generation.by_ref().map(Result::unwrap).collect();
        (tokens, generation.stats().reused_tokens, generation.stats().prompt_tokens)
    };
    let mut text = vec![1, 2, 3];
    let (answer, ..) = turn(&mut seq, &text);
    text.extend(&answer);
    text.extend([9, 8, 7]);
    // The last token of the answer was chosen, but not computed.
    let (second, reused, computed) = turn(&mut seq, &text);
    assert_eq!((reused, computed), (6, 4));
    assert_eq!(turn(&mut sequence(&model), &text).0, second);
    // The same prompt again: all but its last token is there.
    assert_eq!(turn(&mut seq, &text), (second, 9, 1));
    // Another beginning: nothing is.
    assert_eq!(turn(&mut seq, &[5, 2, 3]).1, 0);
}

#[test]
fn a_refused_prompt_keeps_the_conversation() {
    let (model, mut engine) = llama();
    let mut sampler = Sampler::new(SamplingParams::greedy()).unwrap();
    let mut seq = with_context(&model, 6).unwrap();
    engine.prefill(&mut seq, &[1, 2, 3]).unwrap();
    for prompt in [&[][..], &[1, 2, VOCAB], &[1, 2, 3, 4, 5, 6, 7]] {
        let options = GenerationOptions::default();
        assert!(Generation::start(&mut engine, &mut seq, &mut sampler, prompt, options).is_err());
        assert_eq!(seq.tokens(), [1, 2, 3]);
    }
    let error = Generation::start(&mut engine, &mut seq, &mut sampler, &[1; 8], GenerationOptions::default());
    assert!(error.err().unwrap().to_string().contains("exceeded by 2"));
}

#[test]
fn perplexity_scores_the_second_halves() {
    let (model, mut engine) = llama();
    let tokens = Random(3).tokens(50, VOCAB as usize);
    let bytes_of = |token: u32| token as usize % 5;
    for bos in [None, Some(7)] {
        // By definition: chunks of 20, the last ten of each predicted from what precedes them in the chunk.
        let (mut nll, mut bytes) = (0.0, 0);
        for chunk in tokens.chunks_exact(20) {
            let mut chunk = chunk.to_vec();
            chunk[0] = bos.unwrap_or(chunk[0]);
            let logits = all_logits(&mut engine, &mut sequence(&model), &chunk);
            for i in 10..20 {
                let row = &logits[i - 1];
                let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
                nll += sum.ln() - f64::from(row[chunk[i] as usize]);
                bytes += bytes_of(chunk[i]);
            }
        }
        let told = RefCell::new(Vec::new());
        let progress =
            |done, all, score: &chalot_model::Perplexity| told.borrow_mut().push((done, all, score.tokens));
        let options = PerplexityOptions {
            context: Some(20),
            bos,
            bytes_of: Some(&bytes_of),
            progress: Some(&progress),
            ..PerplexityOptions::default()
        };
        let score = perplexity(&mut engine, &tokens, &options).unwrap();
        assert_eq!((score.tokens, score.bytes), (20, Some(bytes)));
        assert!((score.nll / nll - 1.0).abs() < 1e-6, "{} {nll}", score.nll);
        assert_eq!(*told.borrow(), [(20, 40, 10), (40, 40, 20)]);
    }
}

#[test]
fn perplexity_says_what_it_needs() {
    let (_, mut engine) = llama();
    let mut ask = |tokens: &[u32], context| {
        let options = PerplexityOptions { context, ..PerplexityOptions::default() };
        perplexity(&mut engine, tokens, &options).map(|score| score.tokens)
    };
    let error = ask(&[1; 100], None).unwrap_err().to_string();
    assert!(error.contains("the text's tokens") && error.ends_with("found 100, expected 512"), "{error}");
    assert!(matches!(ask(&[1; 100], Some(1)), Err(EngineError::Option { .. })));
    assert!(matches!(ask(&[1; 9999], Some(4096)), Err(EngineError::ContextLength { .. })));
    assert!(matches!(ask(&[1, VOCAB, 1, 1], Some(4)), Err(EngineError::TokenOutOfRange { .. })));
    assert_eq!(ask(&[1, 2, 3], Some(2)), Ok(1));
    assert_eq!(ask(&[1, 2, 3], Some(3)), Ok(2));
}
