//! The cache of keys and values: its types, what sequences share, its budget, its file.
mod support;

use std::path::Path;
use std::sync::Arc;

use chalot_model::{
    Engine, EngineError, Fingerprint, Generation, GenerationOptions, KvError, KvFileError, KvPool,
    KvPoolOptions, KvType, Model, Sampler, SamplingParams, Sequence, SequenceOptions,
};
use chalot_simd::Isa;
use chalot_tensor::matrix::{Format, ScaleBy};
use proptest::prelude::*;
use support::{Family, Random, all_logits, assert_same_bits, engine, model};

const TYPES: [KvType; 3] = [KvType::F32, KvType::F16, KvType::Int8];
const VOCAB: usize = 101;
const LAYERS: usize = 3;

fn sharing() -> KvPool {
    KvPool::new(KvPoolOptions { share: true, ..KvPoolOptions::default() })
}

fn options(kv: KvType) -> SequenceOptions {
    SequenceOptions { kv: Some(kv), context: None }
}

fn small() -> Arc<Model> {
    model(Family::Llama, Format::F32, 1)
}

fn fast(model: &Arc<Model>) -> Engine {
    engine(model, Isa::best(), 2, 64)
}

/// The logits of every token, computed alone.
fn alone(model: &Arc<Model>, kv: KvType, tokens: &[u32]) -> Vec<Vec<f32>> {
    all_logits(&mut fast(model), &mut Sequence::new(model, options(kv)).unwrap(), tokens)
}

#[test]
fn every_type_is_the_same_on_every_isa_in_every_split() {
    for family in [Family::Qwen3, Family::Gemma3] {
        let model = model(family, Format::F32, 3);
        let tokens = Random(5).tokens(90, VOCAB);
        let logits = TYPES.map(|kv| {
            let whole = |isa, threads, chunk| {
                let mut seq = Sequence::new(&model, options(kv)).unwrap();
                all_logits(&mut engine(&model, isa, threads, chunk), &mut seq, &tokens)
            };
            let expected = whole(Isa::best(), 1, 90);
            for isa in Isa::available() {
                // Scalar code is slow.
                let plans = [(3, 37), (1, 1), (2, 150)];
                for (threads, chunk) in plans.into_iter().take(if isa == Isa::scalar() { 1 } else { 3 }) {
                    for (found, expected) in whole(isa, threads, chunk).iter().zip(&expected) {
                        assert_same_bits(found, expected, &format!("{kv:?} on {isa}, chunks of {chunk}"));
                    }
                }
            }
            expected
        });
        let [exact, f16, int8] = &logits;
        assert!(exact != f16 && f16 != int8, "the type matters");
        let error = |found: &[Vec<f32>]| {
            let pairs = found.iter().flatten().zip(exact.iter().flatten());
            pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
        };
        assert!(error(f16) < 0.02 && error(int8) < 0.2, "{family:?}: {} {}", error(f16), error(int8));
    }
}

/// A common beginning of 4,096 tokens is computed once and kept once.
#[test]
fn a_shared_beginning_is_one_copy_and_computed_once() {
    const COMMON: usize = 4096;
    const BLOCKS: usize = COMMON / 64;
    let mut model = model(Family::Llama, Format::F32, 1);
    Arc::get_mut(&mut model).unwrap().config.context_length = 2 * COMMON;
    let pool = sharing();
    let common = Random(1).tokens(COMMON, VOCAB);
    let texts = [2, 3].map(|seed| [common.clone(), Random(seed).tokens(70, VOCAB)].concat());
    for kv in TYPES {
        let block = 2 * 2 * 20 * 64 * 4; // an upper bound: f32, 2 heads of 20
        let mut engine = fast(&model);
        let mut first = Sequence::in_pool(&model, options(kv), &pool).unwrap();
        let last = engine.forward(&mut first, &texts[0]).unwrap().to_vec();
        assert_same_bits(&last, &alone(&model, kv, &texts[0])[COMMON + 69], "the first");
        let before = pool.stats();
        assert_eq!((before.blocks, before.shared, before.kept), ((BLOCKS + 2) * LAYERS, 0, 0));

        let mut sampler = Sampler::new(SamplingParams::greedy()).unwrap();
        let mut second = Sequence::in_pool(&model, options(kv), &pool).unwrap();
        let limits = GenerationOptions { stop: &[], max_tokens: Some(1) };
        let generation =
            Generation::start(&mut engine, &mut second, &mut sampler, &texts[1], limits).unwrap();
        assert_eq!((generation.stats().reused_tokens, generation.stats().prompt_tokens), (COMMON, 70));
        let found = engine.forward(&mut second, &[7]).unwrap().to_vec();
        let expected = alone(&model, kv, &[texts[1].clone(), vec![7]].concat());
        assert_same_bits(&found, &expected[COMMON + 70], "the second");

        let stats = pool.stats();
        assert_eq!((stats.blocks, stats.shared), ((BLOCKS + 2 + 2) * LAYERS, BLOCKS * LAYERS));
        assert!(stats.bytes < before.bytes + 3 * LAYERS * block);
        for layer in 0..LAYERS {
            let (a, b) = (first.kv().blocks(layer), second.kv().blocks(layer));
            assert!((0..BLOCKS).all(|i| a[i].is_same(&b[i])) && !a[BLOCKS].is_same(&b[BLOCKS]));
        }
        drop((first, second));
        let stats = pool.stats();
        assert_eq!((stats.blocks, stats.shared, stats.kept, stats.bytes), (0, 0, 0, 0), "all is given back");
    }
}

#[test]
fn equal_texts_computed_apart_end_up_as_one_copy() {
    let (model, pool) = (small(), sharing());
    let tokens = Random(1).tokens(200, VOCAB);
    let mut engine = fast(&model);
    let mut sequences = [0, 1].map(|_| Sequence::in_pool(&model, options(KvType::F16), &pool).unwrap());
    for chunk in tokens.chunks(50) {
        for seq in &mut sequences {
            engine.prefill(seq, chunk).unwrap();
        }
    }
    let stats = pool.stats();
    assert_eq!((stats.blocks, stats.shared), ((3 + 1 + 1) * LAYERS, 3 * LAYERS));
    // Other types share nothing with these.
    let mut other = Sequence::in_pool(&model, options(KvType::F32), &pool).unwrap();
    assert_eq!(other.adopt(&tokens), 0);
    // A part of a block is taken over too, and copied before it is written to.
    let mut third = Sequence::in_pool(&model, options(KvType::F16), &pool).unwrap();
    assert_eq!(third.adopt(&[&tokens[..100], &[1, 2, 3]].concat()), 100);
    assert_eq!(third.tokens(), &tokens[..100]);
    let found = engine.forward(&mut third, &[9]).unwrap().to_vec();
    let expected = alone(&model, KvType::F16, &[&tokens[..100], &[9]].concat());
    assert_same_bits(&found, &expected[100], "after a part of a block");
    let found = engine.forward(&mut sequences[0], &[9]).unwrap().to_vec();
    let expected = alone(&model, KvType::F16, &[&tokens[..], &[9]].concat());
    assert_same_bits(&found, &expected[200], "whose block was copied");
}

#[test]
fn what_nobody_uses_is_kept_and_gives_way() {
    let model = small();
    let mut engine = fast(&model);
    let texts = [1, 2, 3].map(|seed| Random(seed).tokens(128, VOCAB));
    let block = chalot_model::kv::KvShape::of(&model.config, KvType::F32).block_bytes();
    let budget = 5 * LAYERS * block;
    let pool = KvPool::new(KvPoolOptions { budget: Some(budget), share: true, keep: budget });
    let compute = |engine: &mut Engine, text: &[u32]| {
        let mut seq = Sequence::in_pool(&model, options(KvType::F32), &pool).unwrap();
        let known = seq.adopt(&text[..127]);
        engine.prefill(&mut seq, &text[known..]).unwrap();
        known
    };
    assert_eq!(compute(&mut engine, &texts[0]), 0);
    assert_eq!(compute(&mut engine, &texts[1]), 0);
    let stats = pool.stats();
    assert_eq!((stats.blocks, stats.kept, stats.bytes), (0, 4 * LAYERS, 4 * LAYERS * block));
    assert_eq!(compute(&mut engine, &texts[0]), 127);
    // The third needs room: of the second, which was used longest ago, the end goes first.
    assert_eq!(compute(&mut engine, &texts[2]), 0);
    assert_eq!(pool.stats().peak_bytes, budget);
    assert_eq!(compute(&mut engine, &texts[1]), 64);
}

#[test]
fn a_budget_that_is_used_up_is_an_error_and_nothing_is_lost() {
    let model = small();
    let mut engine = fast(&model);
    let block = chalot_model::kv::KvShape::of(&model.config, KvType::Int8).block_bytes();
    let pool = KvPool::new(KvPoolOptions { budget: Some(4 * LAYERS * block), ..KvPoolOptions::default() });
    let mut seq = Sequence::in_pool(&model, options(KvType::Int8), &pool).unwrap();
    let tokens = Random(1).tokens(300, VOCAB);
    let refused = |error: EngineError| {
        assert!(matches!(error, EngineError::Memory(KvError::Budget { .. })), "{error}");
        error.to_string()
    };
    // All that is to be computed is counted before the first of it is.
    let message = refused(engine.prefill(&mut seq, &tokens).unwrap_err());
    assert!(
        message.starts_with("keys and values need 0.") && message.contains("raise the budget"),
        "{message}"
    );
    assert_eq!((seq.len(), pool.stats().bytes), (0, 0));
    engine.prefill(&mut seq, &tokens[..200]).unwrap();
    let mut fork = seq.fork(150);
    refused(engine.prefill(&mut fork, &tokens[200..]).unwrap_err());
    assert_eq!((fork.len(), pool.stats().bytes), (150, 4 * LAYERS * block));
    // The last block is common: a copy of it would be one too many.
    refused(engine.prefill(&mut fork, &[1]).unwrap_err());
    let found = engine.forward(&mut seq, &tokens[200..210]).unwrap().to_vec();
    assert_same_bits(&found, &alone(&model, KvType::Int8, &tokens[..210])[209], "after the refusals");
    drop(seq);
    engine.prefill(&mut fork, &tokens[200..300]).unwrap();
    assert_eq!(pool.stats().shared, 0);
    drop(fork);
    assert_eq!(pool.stats().bytes, 0);
}

#[test]
fn memory_that_the_system_has_not_is_an_error() {
    // One head of a size that no machine has memory for; nothing of it is computed.
    let mut config = support::config(Family::Llama);
    config.num_kv_heads = 4;
    config.head_dim = 1 << 26;
    let mut broken = (*small()).clone();
    broken.config = config;
    let mut seq =
        Sequence::new(&broken, SequenceOptions { context: Some(2048), kv: Some(KvType::F32) }).unwrap();
    let error = seq.reserve(2048).unwrap_err();
    assert!(matches!(error, EngineError::Memory(KvError::OutOfMemory { .. })), "{error}");
    assert_eq!(seq.kv().pool().stats().bytes, 0);
}

fn saved(seq: &Sequence, model: &Model, note: &[u8], path: &Path) -> Vec<u8> {
    seq.save(&Fingerprint::of(model), note, path).unwrap();
    std::fs::read(path).unwrap()
}

fn load(path: &Path, model: &Model, options: SequenceOptions) -> Result<(Sequence, Vec<u8>), KvFileError> {
    Sequence::load(path, model, &Fingerprint::of(model), options, &sharing())
}

#[test]
fn a_saved_sequence_goes_on_as_if_it_had_never_ended() {
    let model = model(Family::Gemma3, Format::Trit2(ScaleBy::Tensor), 1);
    let mut engine = fast(&model);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.kv");
    let tokens = Random(1).tokens(150, VOCAB);
    for kv in TYPES {
        for len in [0, 1, 64, 100, 140] {
            let mut seq = Sequence::new(&model, options(kv)).unwrap();
            engine.prefill(&mut seq, &tokens[..140]).unwrap();
            seq.truncate(len);
            let bytes = saved(&seq, &model, b"a note", &path);
            let (mut loaded, note) = load(&path, &model, SequenceOptions::default()).unwrap();
            assert_eq!((note, loaded.tokens()), (b"a note".to_vec(), &tokens[..len]));
            assert_eq!(loaded.kv().shape(), seq.kv().shape());
            let expected = alone(&model, kv, &tokens[..len + 10]);
            let found = engine.forward(&mut loaded, &tokens[len..len + 10]).unwrap();
            assert_same_bits(found, &expected[len + 9], &format!("{kv:?} after {len}"));
            // What was taken back is not in the file.
            let mut fresh = Sequence::new(&model, options(kv)).unwrap();
            if len > 0 {
                engine.prefill(&mut fresh, &tokens[..len]).unwrap();
            }
            assert!(saved(&fresh, &model, b"a note", &path) == bytes, "{kv:?} {len}");
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_file_is_believed_only_whole() {
    let model = small();
    let mut engine = fast(&model);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.kv");
    let mut seq = Sequence::new(&model, options(KvType::Int8)).unwrap();
    engine.prefill(&mut seq, &Random(1).tokens(3, VOCAB)).unwrap();
    let bytes = saved(&seq, &model, b"note", &path);
    let try_bytes = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        load(&path, &model, SequenceOptions::default()).map(|_| ())
    };
    try_bytes(&bytes).unwrap();
    let mut random = Random(9);
    let header = 80 + 3 * 4 + 4;
    let places =
        (0..header).chain((0..300).map(|_| random.below(bytes.len()))).chain(bytes.len() - 16..bytes.len());
    for place in places {
        let mut wrong = bytes.clone();
        wrong[place] ^= 1 << (place % 8);
        let error = try_bytes(&wrong).unwrap_err();
        assert!(
            !matches!(error, KvFileError::Io { .. } | KvFileError::Memory { .. }),
            "byte {place}: {error}"
        );
    }
    for len in (0..200).chain((200..bytes.len()).step_by(97)) {
        assert!(matches!(try_bytes(&bytes[..len]), Err(KvFileError::Damaged { .. })), "{len} bytes");
    }
    assert!(matches!(try_bytes(&[&bytes[..], b"x"].concat()), Err(KvFileError::Damaged { .. })));
    // Sizes that the file cannot have cost no memory.
    for field in [56, 64] {
        let mut wrong = bytes.clone();
        wrong[field..field + 8].copy_from_slice(&(1u64 << 62).to_le_bytes());
        assert!(matches!(try_bytes(&wrong), Err(KvFileError::Damaged { .. })));
    }
}

#[test]
fn a_file_must_fit_the_model_and_what_is_asked() {
    let model = small();
    let mut engine = fast(&model);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text.kv");
    let mut seq = Sequence::new(&model, options(KvType::F16)).unwrap();
    engine.prefill(&mut seq, &Random(1).tokens(100, VOCAB)).unwrap();
    saved(&seq, &model, b"", &path);
    let error =
        load(&path, &support::model(Family::Llama, Format::F32, 2), options(KvType::F16)).unwrap_err();
    assert!(matches!(error, KvFileError::OtherModel { .. }), "{error}");
    assert!(error.to_string().contains("made with another model"), "{error}");
    let error = load(&path, &model, options(KvType::Int8)).unwrap_err();
    assert!(error.to_string().contains("holds keys and values as f16, asked for is int8"), "{error}");
    let error = load(&path, &model, SequenceOptions { context: Some(90), kv: None }).unwrap_err();
    assert!(error.to_string().contains("holds 100 tokens, 10 more than the context of 90"), "{error}");
    let pool = KvPool::new(KvPoolOptions { budget: Some(1000), ..KvPoolOptions::default() });
    let fingerprint = Fingerprint::of(&model);
    let error = Sequence::load(&path, &model, &fingerprint, options(KvType::F16), &pool).unwrap_err();
    assert!(matches!(error, KvFileError::Memory { .. }), "{error}");
    assert_eq!(pool.stats().bytes, 0);
    let error = load(&folder.path().join("none"), &model, options(KvType::F16)).unwrap_err();
    assert!(matches!(error, KvFileError::Io { .. }), "{error}");
    let error = seq.save(&fingerprint, b"", &folder.path().join("no/folder")).unwrap_err();
    assert!(matches!(error, KvFileError::Io { .. }), "{error}");
}

/// Every number of a model counts, its name does not.
#[test]
fn fingerprints() {
    let model = support::model(Family::Mixed, Format::F32, 1);
    let fingerprint = Fingerprint::of(&model);
    assert_eq!(fingerprint, Fingerprint::of(&support::model(Family::Mixed, Format::F32, 1)));
    assert_eq!(fingerprint.to_string().len(), 32);
    let mut renamed = (*model).clone();
    renamed.config.name = "another".into();
    assert_eq!(fingerprint, Fingerprint::of(&renamed));
    let differs = |edit: &dyn Fn(&mut Model)| {
        let mut other = (*model).clone();
        edit(&mut other);
        assert_ne!(fingerprint, Fingerprint::of(&other));
    };
    differs(&|model| model.config.attention_scale *= 2.0);
    differs(&|model| model.final_norm[71] += 1e-6);
    differs(&|model| model.layers[1].attention.q.bias.as_mut().unwrap()[0] += 1e-6);
    differs(&|model| model.layers[2].attention.q = model.layers[1].attention.q.clone());
    differs(&|model| model.layers[2].attention.q.bias = None);
    differs(&|model| model.layers.swap(0, 1));
    assert_ne!(fingerprint, Fingerprint::of(&support::model(Family::Mixed, Format::F16, 1)));
}

/// Something that may happen to one of three sequences of a pool.
#[derive(Clone, Debug)]
enum Event {
    Extend { seq: usize, tokens: usize, text: usize, isa: usize, threads: usize },
    Truncate { seq: usize, share: f64 },
    Fork { from: usize, to: usize, share: f64 },
    Adopt { seq: usize, text: usize, tokens: usize },
    Reopen { seq: usize },
    Draft { seq: usize, tokens: usize },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0usize..3, 1usize..150, 0usize..2, 0usize..8, 1usize..4)
            .prop_map(|(seq, tokens, text, isa, threads)| Event::Extend { seq, tokens, text, isa, threads }),
        2 => (0usize..3, 0.0..1.0).prop_map(|(seq, share)| Event::Truncate { seq, share }),
        1 => (0usize..3, 0usize..3, 0.0..1.2).prop_map(|(from, to, share)| Event::Fork { from, to, share }),
        2 => (0usize..3, 0usize..2, 1usize..300).prop_map(|(seq, text, tokens)| Event::Adopt { seq, text, tokens }),
        1 => (0usize..3).prop_map(|seq| Event::Reopen { seq }),
        1 => (0usize..3, 1usize..9).prop_map(|(seq, tokens)| Event::Draft { seq, tokens }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever sequences of one pool do, each has the logits that its text has alone.
    #[test]
    fn sharing_forks_rollback_and_files_change_no_bit(
        kv in prop::sample::select(&TYPES[..]),
        keep in prop::sample::select(vec![0, 100_000, usize::MAX]),
        events in prop::collection::vec(event(), 1..14),
    ) {
        let model = model(Family::Gemma3, Format::Trit2(ScaleBy::Tensor), 7);
        let pool = KvPool::new(KvPoolOptions { budget: None, share: true, keep });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kv");
        let texts = [1, 2].map(|seed| Random(seed).tokens(400, VOCAB));
        // Both begin alike.
        let texts = [texts[0].clone(), [&texts[0][..130], &texts[1][130..]].concat()];
        let mut sequences: Vec<_> =
            (0..3).map(|_| Sequence::in_pool(&model, options(kv), &pool).unwrap()).collect();
        let isas = Isa::available();
        for event in events {
            match event {
                Event::Extend { seq, tokens, text, isa, threads } => {
                    let seq = &mut sequences[seq];
                    let end = (seq.len() + tokens).min(texts[text].len());
                    if seq.len() < end {
                        let new = texts[text][seq.len()..end].to_vec();
                        let mut engine = engine(&model, isas[isa % isas.len()], threads, 50);
                        engine.forward(seq, &new).unwrap();
                    }
                }
                Event::Truncate { seq, share } => {
                    let len = (sequences[seq].len() as f64 * share) as usize;
                    sequences[seq].truncate(len);
                }
                Event::Fork { from, to, share } => {
                    let len = (sequences[from].len() as f64 * share) as usize;
                    sequences[to] = sequences[from].fork(len);
                }
                Event::Adopt { seq, text, tokens } => {
                    let known = sequences[seq].adopt(&texts[text][..tokens]);
                    prop_assert_eq!(&sequences[seq].tokens()[..known], &texts[text][..known]);
                }
                Event::Reopen { seq } => {
                    let fingerprint = Fingerprint::of(&model);
                    sequences[seq].save(&fingerprint, b"", &path).unwrap();
                    let loaded = Sequence::load(&path, &model, &fingerprint, options(kv), &pool).unwrap();
                    sequences[seq] = loaded.0;
                }
                Event::Draft { seq, tokens } => {
                    // Shallow layers run ahead and are taken back.
                    let seq = &mut sequences[seq];
                    let mut engine = fast(&model);
                    let mut hidden = Vec::new();
                    engine.embed(&Random(tokens as u64).tokens(tokens, VOCAB), &mut hidden).unwrap();
                    let len = seq.len();
                    engine.layers(seq, 0..2, len, &mut hidden).unwrap();
                    seq.truncate(len);
                }
            }
        }
        let mut engine = fast(&model);
        for seq in &mut sequences {
            let tokens = [seq.tokens(), &[3, 1, 4]].concat();
            let found = engine.forward(seq, &tokens[seq.len()..]).unwrap().to_vec();
            assert_same_bits(&found, alone(&model, kv, &tokens).last().unwrap(), &format!("{kv:?} {tokens:?}"));
        }
        drop(sequences);
        let stats = pool.stats();
        prop_assert_eq!((stats.blocks, stats.shared), (0, 0));
        prop_assert!(stats.bytes <= keep);
    }
}
