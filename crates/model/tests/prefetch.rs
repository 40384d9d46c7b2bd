//! Weights that come and go change no bit, and stay within their budget.
mod support;

use std::path::Path;
use std::sync::Arc;

use chalot_model::synthetic::{TokenTrace, shape, write_synthetic};
use chalot_model::{
    DraftMode, Engine, EngineError, EngineOptions, Generation, GenerationOptions, LoadOptions, Model,
    ModelError, PrefetchOptions, PrefetchStats, PrefetchStrategy, Prefetcher, Sampler, SamplingParams,
    Sequence, SequenceOptions, Source, SpeculationOptions, Speculator,
};
use chalot_simd::Isa;
use chalot_tensor::exec::Exec;

struct Opened {
    source: Source,
    model: Arc<Model>,
    exec: Exec,
}

fn open(path: &Path) -> Opened {
    let exec = Exec::new(Isa::best(), 2);
    let source = Source::open(path).unwrap();
    let model = Arc::new(source.load(&exec, &LoadOptions::default()).unwrap());
    Opened { source, model, exec }
}

/// A file of the shape, with more layers, so that there is something to release.
fn file(name: &str, folder: &Path) -> std::path::PathBuf {
    let mut config = shape(name).unwrap();
    config.layers = config.layers.iter().copied().cycle().take(6).collect();
    let path = folder.join(format!("{name}.gguf"));
    let formats = ("trit2/tensor".parse().unwrap(), "int8/row".parse().unwrap());
    write_synthetic(&config, formats, 3, &[], &path, &|_, _| ()).unwrap();
    path
}

impl Opened {
    fn prefetcher(&self, options: PrefetchOptions) -> Result<Arc<Prefetcher>, ModelError> {
        Prefetcher::of_source(&self.model, &self.source, options).map(Arc::new)
    }

    fn engine(&self, prefetcher: Option<Arc<Prefetcher>>) -> Engine {
        let options = EngineOptions { chunk: 48 };
        Engine::new(self.model.clone(), self.exec.clone(), options).unwrap().with_prefetcher(prefetcher)
    }

    /// The logits of a text whose passes have these lengths.
    fn logits(&self, prefetcher: Option<Arc<Prefetcher>>, passes: &[usize]) -> Vec<Vec<u32>> {
        let mut engine = self.engine(prefetcher);
        let mut sequence = Sequence::new(&self.model, SequenceOptions::default()).unwrap();
        let tokens: Vec<u32> =
            TokenTrace::new(self.model.config.vocab_size, 5).take(passes.iter().sum()).collect();
        let mut rest = &tokens[..];
        let mut all = Vec::new();
        for &len in passes {
            let (now, later) = rest.split_at(len);
            let logits = engine.forward(&mut sequence, now).unwrap();
            all.push(logits.iter().map(|x| x.to_bits()).collect());
            rest = later;
        }
        all
    }

    /// The least budget, as the error of a smaller one tells it.
    fn least_budget(&self) -> u64 {
        match self.prefetcher(PrefetchOptions { budget: Some(1), ..PrefetchOptions::default() }) {
            Err(ModelError::Budget { found: 1, expected, .. }) => expected,
            other => panic!("{other:?}"),
        }
    }
}

fn strategies() -> impl Iterator<Item = PrefetchStrategy> {
    let on = [0, 1, 2, 4, 100].map(|lookahead| PrefetchStrategy { enabled: true, lookahead });
    on.into_iter().chain([PrefetchStrategy { enabled: false, lookahead: 3 }])
}

#[test]
fn no_strategy_and_no_budget_changes_a_bit() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["tiny-moe", "tiny"] {
        let opened = open(&file(name, folder.path()));
        let passes = [70, 1, 1, 2, 9, 1, 1, 1, 1, 30, 1];
        let expected = opened.logits(None, &passes);
        for strategy in strategies() {
            for budget in [None, Some(opened.least_budget()), Some(1 << 40)] {
                let prefetcher = opened.prefetcher(PrefetchOptions { strategy, budget }).unwrap();
                let found = opened.logits(Some(prefetcher.clone()), &passes);
                assert_eq!(found, expected, "{name}, {strategy:?}, {budget:?}");
                let stats = prefetcher.stats();
                let needs = stats.hits + stats.in_time + stats.late + stats.misses;
                assert!(needs >= 11 * 6, "{stats:?}");
                // The process has more than the least in any case, so that all slots beyond the least go.
                let releases = budget.is_some_and(|budget| budget < 1 << 40) && name == "tiny-moe";
                // (Where nothing is loaded the threads release when they find the time.)
                let known = strategy.enabled || !releases;
                let right = !known || (stats.bytes_released > 0) == releases;
                assert!(right, "{name}, {strategy:?}, {budget:?}: {stats:?}");
            }
        }
    }
}

/// Drafts of both schools, with experts that come and go under the least budget.
#[test]
fn speculation_changes_no_token() {
    let folder = tempfile::tempdir().unwrap();
    let Opened { source, model, exec } = open(&file("tiny-moe", folder.path()));
    let mut with_exit = Model::clone(&model);
    with_exit.config.shallow_layers = 2;
    let opened = Opened { source, model: Arc::new(with_exit), exec };
    let prompt: Vec<u32> = TokenTrace::new(opened.model.config.vocab_size, 8).take(40).collect();
    let text = |prefetcher: Option<Arc<Prefetcher>>, mode: Option<DraftMode>| {
        let mut engine = opened.engine(prefetcher);
        let mut sequence = Sequence::new(&opened.model, SequenceOptions::default()).unwrap();
        let mut sampler = Sampler::new(SamplingParams::greedy()).unwrap();
        let mut speculator = mode.map(|mode| {
            let options = SpeculationOptions { mode, drafts: Some(4), ..SpeculationOptions::default() };
            Speculator::new(&opened.model, options).unwrap()
        });
        let options = GenerationOptions { stop: &[], max_tokens: Some(40) };
        let mut generation = Generation::start(&mut engine, &mut sequence, &mut sampler, &prompt, options)
            .and_then(|generation| generation.speculate(speculator.as_mut()))
            .unwrap();
        let tokens: Vec<u32> = generation.by_ref().map(Result::unwrap).collect();
        (tokens, generation.stats().speculation.unwrap_or_default().drafted)
    };
    let (expected, _) = text(None, None);
    for mode in [DraftMode::Shallow, DraftMode::Ngram] {
        for lookahead in [0, 1, 4] {
            let strategy = PrefetchStrategy { enabled: true, lookahead };
            let budget = Some(opened.least_budget());
            let prefetcher = opened.prefetcher(PrefetchOptions { strategy, budget }).unwrap();
            let (found, drafted) = text(Some(prefetcher.clone()), Some(mode));
            assert_eq!(found, expected, "{mode:?}, {lookahead} layers ahead");
            let released = prefetcher.stats().bytes_released;
            assert!(drafted > 0 && released > 0, "{mode:?}: {drafted} drafts, {released} bytes released");
        }
    }
}

#[test]
fn what_fits_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open(&file("tiny-moe", folder.path()));
    let strategy = PrefetchStrategy { enabled: true, lookahead: 1 };
    let prefetcher = opened.prefetcher(PrefetchOptions { strategy, budget: None }).unwrap();
    opened.logits(Some(prefetcher.clone()), &[90, 1, 1]);
    let PrefetchStats { hits, late, misses, bytes_prefetched, bytes_demanded, bytes_released, .. } =
        prefetcher.stats();
    assert!(hits > 0 && bytes_prefetched > 0 && bytes_released == 0);
    opened.logits(Some(prefetcher.clone()), &[90, 1, 1]);
    // (What was foretold in vain the first time may be read now.)
    let again = prefetcher.stats();
    assert_eq!((again.late, again.misses, again.bytes_demanded), (late, misses, bytes_demanded));
}

#[test]
fn several_engines_may_share_a_prefetcher_one_after_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open(&file("tiny-moe", folder.path()));
    let options = PrefetchOptions { budget: Some(opened.least_budget()), ..PrefetchOptions::default() };
    let prefetcher = opened.prefetcher(options).unwrap();
    let expected = opened.logits(None, &[3, 1, 1]);
    for _ in 0..3 {
        assert_eq!(opened.logits(Some(prefetcher.clone()), &[3, 1, 1]), expected);
    }
}

#[test]
fn weights_that_lie_in_no_file_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = file("tiny-moe", folder.path());
    let opened = open(&path);
    let read = Source::read(&path).unwrap();
    let error = Prefetcher::of_source(&opened.model, &read, PrefetchOptions::default()).unwrap_err();
    assert!(matches!(error, ModelError::NotMapped { .. }), "{error}");
    // The weights of one opening do not lie in the mapping of another.
    let again = Source::open(&path).unwrap();
    let error = Prefetcher::of_source(&opened.model, &again, PrefetchOptions::default()).unwrap_err();
    assert!(matches!(error, ModelError::NotMapped { .. }), "{error}");
}

#[test]
fn a_file_read_into_memory_computes_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let path = file("tiny-moe", folder.path());
    let mapped = open(&path);
    let source = Source::read(&path).unwrap();
    let model = Arc::new(source.load(&mapped.exec, &LoadOptions::default()).unwrap());
    let read = Opened { source, model, exec: mapped.exec.clone() };
    // And nothing that happens to the file matters any more.
    let expected = mapped.logits(None, &[5, 1]);
    drop(mapped);
    std::fs::write(&path, b"").unwrap();
    assert_eq!(read.logits(None, &[5, 1]), expected);
}

#[test]
fn a_truncated_file_is_an_error_before_the_next_pass() {
    let folder = tempfile::tempdir().unwrap();
    let path = file("tiny-moe", folder.path());
    let opened = open(&path);
    let prefetcher = opened.prefetcher(PrefetchOptions::default()).unwrap();
    prefetcher.wait_for_fixed();
    let mut engine = opened.engine(Some(prefetcher));
    let mut sequence = Sequence::new(&opened.model, SequenceOptions::default()).unwrap();
    engine.forward(&mut sequence, &[1, 2, 3]).unwrap();
    let len = std::fs::metadata(&path).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(len - 1).unwrap();
    match engine.forward(&mut sequence, &[4]) {
        Err(EngineError::File(message)) => {
            assert!(message.contains("tiny-moe.gguf") && message.contains("truncated"), "{message}");
        }
        other => panic!("{other:?}"),
    }
}
