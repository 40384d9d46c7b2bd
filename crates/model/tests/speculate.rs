//! Speculative decoding gives the text of plain decoding.
mod support;

use std::sync::Arc;

use chalot_model::{
    DraftMode, Engine, EngineError, Ffn, Finish, Generation, GenerationOptions, GenerationStats, KvPool,
    KvPoolOptions, KvType, Linear, Model, Sampler, SamplingParams, Sequence, SequenceOptions,
    SpeculationOptions, SpeculationStats, Speculator, speculate::AcceptanceRule,
};
use chalot_simd::Isa;
use chalot_tensor::exec::Exec;
use chalot_tensor::matrix::{Format, Matrix, ScaleBy};
use support::{Family, Random, assert_same_bits, config, model};

const VOCAB: usize = 101;
const SCHOOLS: [DraftMode; 2] = [DraftMode::Shallow, DraftMode::Ngram];

/// A random model whose first layer often knows what all three will say: the others add little to its hidden states.
fn model_with_exit(family: Family, format: Format, share: f32) -> Arc<Model> {
    let mut model = Model::clone(&model(family, format, 11));
    model.config.shallow_layers = 1;
    let exec = Exec::new(Isa::scalar(), 1);
    let quieten = |linear: &mut Linear| {
        let weights: Vec<f32> = linear.weight.to_f32().iter().map(|w| w * share).collect();
        let (rows, cols) = (linear.weight.rows(), linear.weight.cols());
        linear.weight = Matrix::from_f32(&exec, format, rows, cols, &weights).unwrap();
        linear.bias.iter_mut().flatten().for_each(|b| *b *= share);
    };
    for layer in &mut model.layers[1..] {
        quieten(&mut layer.attention.o);
        match &mut layer.ffn {
            Ffn::Dense(ffn) => quieten(&mut ffn.down),
            Ffn::Experts(ffn) => {
                ffn.experts.iter_mut().chain(&mut ffn.shared).for_each(|ffn| quieten(&mut ffn.down));
            }
        }
    }
    Arc::new(model)
}

/// What a generation gave.
struct Text {
    tokens: Vec<u32>,
    finish: Option<Finish>,
    stats: GenerationStats,
}

impl Text {
    fn speculation(&self) -> SpeculationStats {
        self.stats.speculation.expect("drafted")
    }
}

fn generate(
    engine: &mut Engine,
    seq: &mut Sequence,
    params: &SamplingParams,
    prompt: &[u32],
    options: GenerationOptions<'_>,
    speculator: Option<&mut Speculator>,
) -> Text {
    let mut sampler = Sampler::new(params.clone()).unwrap();
    let generation = Generation::start(engine, seq, &mut sampler, prompt, options).unwrap();
    let mut generation = generation.speculate(speculator).unwrap();
    let tokens = generation.by_ref().map(Result::unwrap).collect();
    Text { tokens, finish: generation.finish(), stats: generation.stats() }
}

fn sequence(model: &Model, context: Option<usize>, kv: KvType) -> Sequence {
    Sequence::new(model, SequenceOptions { context, kv: Some(kv) }).unwrap()
}

fn fixed(mode: DraftMode, drafts: usize) -> SpeculationOptions {
    SpeculationOptions { mode, drafts: Some(drafts), ..SpeculationOptions::default() }
}

/// 200 prompts: every model, school and number of drafts, threads, chunks, types of keys and values, limits.
#[test]
fn greedy_text_is_that_of_plain_decoding() {
    let kinds = [
        (Family::Llama, Format::F32, 0.3),
        (Family::BitNet, Format::Trit2(ScaleBy::Tensor), 0.2),
        (Family::Qwen3Moe, Format::Int8(ScaleBy::Row), 0.3),
        (Family::Mixed, Format::Trit5(ScaleBy::Tensor), 0.2),
    ];
    let models = kinds.map(|(family, format, share)| model_with_exit(family, format, share));
    // By model and school: drafts, and right ones.
    let mut totals = [[(0, 0); 2]; 4];
    for case in 0..200 {
        let mut random = Random(case as u64);
        let kind = case % 4;
        let model = &models[kind];
        let drafts = 1 + case / 4 % 8;
        let threads = 1 + case / 2 % 2;
        let kv = [KvType::F32, KvType::F16, KvType::Int8][case % 3];
        let length = 1 + random.below(90);
        // Few different tokens repeat each other soon.
        let prompt = random.tokens(length, if case % 2 == 0 { VOCAB } else { 5 });
        let context = (case % 7 == 0).then_some(length + 9);
        let stop = random.tokens(case % 3, VOCAB);
        let options = GenerationOptions { stop: &stop, max_tokens: Some(1 + random.below(50)) };
        let greedy = SamplingParams {
            repeat_penalty: if case % 5 == 0 { 1.3 } else { 1.0 },
            ..SamplingParams::greedy()
        };
        let mut plain = support::engine(model, Isa::best(), 1, 256);
        let mut plain_seq = sequence(model, context, kv);
        let expected = generate(&mut plain, &mut plain_seq, &greedy, &prompt, options, None);
        for (school, mode) in SCHOOLS.into_iter().enumerate() {
            let what = format!("case {case}, {mode:?}, {drafts} drafts");
            let mut engine = support::engine(model, Isa::best(), threads, 1 + random.below(80));
            let mut seq = sequence(model, context, kv);
            let mut speculator = Speculator::new(model, fixed(mode, drafts)).unwrap();
            let found = generate(&mut engine, &mut seq, &greedy, &prompt, options, Some(&mut speculator));
            assert_eq!(found.tokens, expected.tokens, "{what}");
            assert_eq!(found.finish, expected.finish, "{what}");
            assert_eq!(found.stats.decode_steps, expected.stats.decode_steps, "{what}");
            assert_eq!(seq.tokens(), plain_seq.tokens(), "{what}");
            let layers = model.layers.len();
            assert!((0..layers).all(|layer| seq.kv().len(layer) == seq.len()), "{what}: the cache");
            assert_eq!(seq.kv().bytes(), plain_seq.kv().bytes(), "{what}: the cache");
            if seq.len() < seq.context() {
                // Whatever was rejected left no trace.
                let bits = engine.forward(&mut seq, &[1]).unwrap().to_vec();
                let mut fork = plain_seq.clone();
                assert_same_bits(&bits, plain.forward(&mut fork, &[1]).unwrap(), &what);
            }
            let stats = found.speculation();
            totals[kind][school].0 += stats.drafted;
            totals[kind][school].1 += stats.accepted;
        }
    }
    for (kind, schools) in totals.iter().enumerate() {
        for (&(drafted, right), mode) in schools.iter().zip(SCHOOLS) {
            let share = right as f64 / f64::from(drafted as u32);
            println!("{:?} {mode:?}: {right} of {drafted} drafts are right", kinds[kind].0);
            assert!(drafted > 300 && (0.05..0.95).contains(&share), "{:?} {mode:?}: {share}", kinds[kind].0);
        }
    }
}

/// Drafts that adapt depend on times; the text does not. One speculator serves text after text.
#[test]
fn adaptive_drafts_change_nothing() {
    let model = model_with_exit(Family::Llama, Format::Int4 { mins: false }, 0.3);
    let mut speculator = Speculator::new(&model, SpeculationOptions::default()).unwrap();
    let mut engine = support::engine(&model, Isa::best(), 2, 256);
    let mut drafted = 0;
    for case in 0..12 {
        let prompt = Random(case).tokens(1 + 9 * case as usize, 7);
        let sampled = SamplingParams { seed: case, repeat_penalty: 1.1, ..SamplingParams::default() };
        let params = if case % 2 == 0 { SamplingParams::greedy() } else { sampled };
        let options = GenerationOptions { stop: &[], max_tokens: Some(150) };
        let expected =
            generate(&mut engine, &mut sequence(&model, None, KvType::F32), &params, &prompt, options, None);
        let mut seq = sequence(&model, None, KvType::F32);
        let found = generate(&mut engine, &mut seq, &params, &prompt, options, Some(&mut speculator));
        assert_eq!(found.tokens, expected.tokens, "case {case}");
        drafted += found.speculation().drafted;
    }
    assert!(drafted > 0);
}

/// With draws that are coupled a seed has one text, whoever drafts.
#[test]
fn a_seed_has_one_text_with_coupled_draws() {
    let model = model_with_exit(Family::Qwen3, Format::F16, 0.3);
    let mut engine = support::engine(&model, Isa::best(), 1, 256);
    let options = GenerationOptions { stop: &[], max_tokens: Some(80) };
    let (mut drafted, mut right) = (0, 0);
    for (seed, temperature, top_k, top_p, min_p, repeat_penalty) in [
        (1, 0.5, 0, 1.0, 0.0, 1.0),
        (2, 0.8, 40, 0.95, 0.05, 1.0),
        (3, 1.0, 5, 1.0, 0.0, 1.2),
        (4, 1.5, 0, 0.9, 0.0, 0.9),
        (5, 0.3, 0, 1.0, 0.1, 1.0),
    ] {
        let params = SamplingParams {
            temperature,
            top_k,
            top_p,
            min_p,
            repeat_penalty,
            seed,
            ..SamplingParams::default()
        };
        let prompt = Random(seed).tokens(20, 9);
        let mut run = |speculator: Option<&mut Speculator>| {
            let mut seq = sequence(&model, None, KvType::F32);
            generate(&mut engine, &mut seq, &params, &prompt, options, speculator)
        };
        let expected = run(None);
        for mode in SCHOOLS {
            for (drafts, shallow_temperature) in [(1, None), (4, Some(0.6)), (8, Some(0.0))] {
                let options = SpeculationOptions { shallow_temperature, ..fixed(mode, drafts) };
                let found = run(Some(&mut Speculator::new(&model, options).unwrap()));
                assert_eq!(found.tokens, expected.tokens, "seed {seed}, {options:?}");
                drafted += found.speculation().drafted;
                right += found.speculation().accepted;
            }
        }
    }
    assert!(right > 0 && right < drafted, "{right} of {drafted}");
}

/// With rejection a seed has one text for the same options.
#[test]
fn rejection_gives_the_same_text_again() {
    let model = model_with_exit(Family::Llama, Format::F32, 0.3);
    let params = SamplingParams { temperature: 1.2, seed: 5, ..SamplingParams::default() };
    let options = GenerationOptions { stop: &[], max_tokens: Some(100) };
    for mode in SCHOOLS {
        let run = |threads| {
            let options_of_drafts = SpeculationOptions { rule: AcceptanceRule::Rejection, ..fixed(mode, 3) };
            let mut speculator = Speculator::new(&model, options_of_drafts).unwrap();
            let mut engine = support::engine(&model, Isa::best(), threads, 256);
            let mut seq = sequence(&model, None, KvType::F32);
            let prompt = Random(3).tokens(40, 6);
            generate(&mut engine, &mut seq, &params, &prompt, options, Some(&mut speculator)).tokens
        };
        assert_eq!(run(1), run(2), "{mode:?}");
    }
}

/// Makes every draft what plain decoding says at its place.
fn oracle(speculator: &mut Speculator, prompt: &[u32], text: &[u32]) {
    let text: Vec<u32> = prompt.iter().chain(text).copied().collect();
    speculator
        .set_filter(Some(Box::new(move |position, draft| text.get(position).copied().unwrap_or(draft))));
}

#[test]
fn a_draft_that_is_right_ends_where_the_text_ends() {
    let model = model_with_exit(Family::Llama, Format::F32, 1.0);
    let mut engine = support::engine(&model, Isa::best(), 1, 256);
    let prompt = Random(8).tokens(10, VOCAB);
    let params = SamplingParams { temperature: 1.0, seed: 3, ..SamplingParams::default() };
    let forever = GenerationOptions { stop: &[], max_tokens: Some(40) };
    let mut plain = sequence(&model, None, KvType::F32);
    let text = generate(&mut engine, &mut plain, &params, &prompt, forever, None).tokens;
    let mut run = |context: Option<usize>, options: GenerationOptions<'_>| {
        let mut speculator = Speculator::new(&model, fixed(DraftMode::Shallow, 8)).unwrap();
        oracle(&mut speculator, &prompt, &text);
        let mut seq = sequence(&model, context, KvType::F32);
        let found = generate(&mut engine, &mut seq, &params, &prompt, options, Some(&mut speculator));
        assert_eq!(found.tokens, text[..found.tokens.len()]);
        assert!((0..3).all(|layer| seq.kv().len(layer) == seq.len()), "nothing of the drafts is left");
        (found, seq)
    };
    let (all, _) = run(None, forever);
    assert_eq!(all.tokens, text);
    let stats = all.speculation();
    assert_eq!(stats.accepted, stats.drafted, "all drafts are right");
    assert!(stats.tokens_per_pass().unwrap() > 6.0 && stats.acceptance_rate() == Some(1.0));
    assert_eq!(stats.used_positions().len(), 8);
    assert!(stats.speedup().is_some(), "there are plain steps to compare with");

    // The context ends inside a draft.
    for context in 12..22 {
        let (found, seq) = run(Some(context), forever);
        assert_eq!((found.finish, seq.len()), (Some(Finish::ContextFull), context));
        assert_eq!(found.tokens.len(), context - prompt.len() + 1);
    }
    // The last token that was asked for.
    for max in 1..20 {
        let (found, seq) = run(None, GenerationOptions { stop: &[], max_tokens: Some(max) });
        assert_eq!((found.finish, found.tokens.len()), (Some(Finish::MaxTokens), max));
        assert_eq!(seq.len(), prompt.len() + max - 1);
    }
    // A stop token.
    for at in 1..20 {
        let stop = [text[at]];
        let first = text.iter().position(|&token| token == stop[0]).unwrap();
        let (found, seq) = run(None, GenerationOptions { stop: &stop, max_tokens: None });
        assert_eq!((found.finish, found.tokens.len()), (Some(Finish::Stop(stop[0])), first));
        assert_eq!(seq.tokens(), [&prompt[..], &text[..first]].concat());
    }
}

/// Who breaks off (a stop string was found) and goes on later has the same text, as the sampler is where it would have been.
#[test]
fn breaking_off_inside_a_draft_leaves_nothing_behind() {
    let model = model_with_exit(Family::BitNet, Format::Trit2(ScaleBy::Tensor), 0.2);
    let mut engine = support::engine(&model, Isa::best(), 1, 256);
    let prompt = Random(8).tokens(10, VOCAB);
    let params = SamplingParams { temperature: 1.0, seed: 3, ..SamplingParams::default() };
    let options = GenerationOptions { stop: &[], max_tokens: None };
    let mut broken = |taken: usize, speculator: Option<&mut Speculator>| {
        let mut sampler = Sampler::new(params.clone()).unwrap();
        let mut seq = sequence(&model, None, KvType::F32);
        let mut speculator = speculator;
        let mut text = prompt.clone();
        for part in [taken, 20] {
            let so_far = text.clone();
            let engine = &mut engine;
            let generation = Generation::start(engine, &mut seq, &mut sampler, &so_far, options).unwrap();
            let mut generation = generation.speculate(speculator.as_deref_mut()).unwrap();
            text.extend(generation.by_ref().take(part).map(Result::unwrap));
            generation.close();
            assert_eq!(seq.tokens(), &text[..text.len() - 1]);
            assert!((0..3).all(|layer| seq.kv().len(layer) == seq.len()));
        }
        text
    };
    for taken in 1..14 {
        let expected = broken(taken, None);
        let mut speculator = Speculator::new(&model, fixed(DraftMode::Shallow, 6)).unwrap();
        oracle(&mut speculator, &expected, &[]);
        assert_eq!(broken(taken, Some(&mut speculator)), expected, "{taken} tokens");
    }
}

/// Drafts are no reason to run out of memory.
#[test]
fn where_only_tokens_fit_no_drafts_are_made() {
    let model = model_with_exit(Family::Llama, Format::F32, 0.3);
    let shape = sequence(&model, None, KvType::F32).kv().shape();
    let one_block_a_layer = shape.layers * shape.block_bytes();
    let pool = KvPool::new(KvPoolOptions { budget: Some(one_block_a_layer), share: false, keep: 0 });
    let options = SequenceOptions { context: None, kv: Some(KvType::F32) };
    let mut seq = Sequence::in_pool(&model, options, &pool).unwrap();
    let mut engine = support::engine(&model, Isa::best(), 1, 256);
    let mut speculator = Speculator::new(&model, fixed(DraftMode::Shallow, 8)).unwrap();
    let limits = GenerationOptions { stop: &[], max_tokens: None };
    let mut sampler = Sampler::new(SamplingParams::greedy()).unwrap();
    let generation = Generation::start(&mut engine, &mut seq, &mut sampler, &[1, 2], limits).unwrap();
    let mut generation = generation.speculate(&mut speculator).unwrap();
    let made = generation.by_ref().take_while(Result::is_ok).count();
    assert_eq!((made, seq.len()), (63, 64), "63 tokens, the last of which is not computed");
}

#[test]
fn bad_drafts_and_foreign_ones_change_nothing() {
    let model = model_with_exit(Family::Llama, Format::F32, 0.3);
    let mut engine = support::engine(&model, Isa::best(), 1, 256);
    let prompt = Random(8).tokens(30, 4);
    let limits = GenerationOptions { stop: &[], max_tokens: Some(40) };
    let greedy = SamplingParams::greedy();
    let mut run = |speculator: Option<&mut Speculator>| {
        generate(&mut engine, &mut sequence(&model, None, KvType::F32), &greedy, &prompt, limits, speculator)
    };
    let expected = run(None);
    for mode in SCHOOLS {
        let mut speculator = Speculator::new(&model, fixed(mode, 5)).unwrap();
        for foreign in [false, true] {
            let token = move |draft: u32| if foreign { u32::MAX } else { (draft + 1) % VOCAB as u32 };
            speculator.set_filter(Some(Box::new(move |_, draft| token(draft))));
            let found = run(Some(&mut speculator));
            assert_eq!(found.tokens, expected.tokens, "{mode:?}");
            assert_eq!(found.speculation().drafted == 0, foreign, "foreign tokens are not drafted");
        }
    }
}

#[test]
fn impossible_options_are_refused() {
    let with_exit = model_with_exit(Family::Llama, Format::F32, 1.0);
    let without = model(Family::Llama, Format::F32, 1);
    let refused = |model: &Model, options| Speculator::new(model, options).err().expect("refused");
    for drafts in [0, 17] {
        let error = refused(&with_exit, fixed(DraftMode::Ngram, drafts));
        assert_eq!(error.to_string(), format!("drafts is {drafts}, but must be from 1 to 16"));
    }
    let error = refused(&without, fixed(DraftMode::Shallow, 4));
    assert!(matches!(error, EngineError::Option { .. }) && error.to_string().contains("no shallow region"));
    let rejection = SpeculationOptions { rule: AcceptanceRule::Rejection, ..SpeculationOptions::default() };
    assert!(refused(&with_exit, rejection).to_string().contains("choose shallow or ngram"));
    let hot = SpeculationOptions { shallow_temperature: Some(f32::NAN), ..fixed(DraftMode::Shallow, 4) };
    assert!(refused(&with_exit, hot).to_string().contains("shallow_temperature"));
    // All layers shallow: nothing to verify with.
    let mut all = config(Family::Llama);
    all.shallow_layers = 3;
    assert!(!chalot_model::BrainMap::of(&all).has_exit());
}
