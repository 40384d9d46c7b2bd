//! What commands that compute have in common: opening a model with a bar.
use std::path::{Path, PathBuf};

use chalot::{
    BUILTIN_NAME, OpenOptions, PrefetchOptions, PrefetchStrategy, Session, TextModel,
    model::{RecommendedSampling, SamplingParams, SequenceOptions, Source, WeightsAs},
};

use crate::{
    args::{Holding, Memory, Sampling, WeightsChoice},
    cmd::bytes as bytes_text,
    console::Unit,
    settings::Settings,
};

/// What the user calls the model.
pub fn name(model: Option<&Path>) -> String {
    model.map_or_else(|| BUILTIN_NAME.to_owned(), |path| path.display().to_string())
}

/// Opens the model that was named, or the built-in one.
pub fn open(
    model: Option<&PathBuf>,
    holding: &Holding,
    kv_budget: Option<usize>,
    settings: &Settings,
) -> Result<TextModel, chalot::Error> {
    let bar = settings.console.bar("loading", Unit::Bytes);
    let progress = |done, total| bar.set(done, total, "");
    let options = OpenOptions {
        weights: match holding.weights {
            WeightsChoice::Auto => WeightsAs::Auto,
            WeightsChoice::F32 => WeightsAs::F32,
        },
        tokenizer: holding.tokenizer.as_deref(),
        kv_budget: kv_budget.or(holding.memory.map(|memory| memory / 4)).or_else(default_budget),
        no_mmap: holding.no_mmap,
        prefetch: prefetch(model, holding, settings),
        packing: Some(settings.tuning.values.packing),
        engine: settings.tuning.values.engine_options(),
        progress: Some(&progress),
    };
    let exec = settings.exec();
    match model {
        Some(path) => TextModel::open(path, &exec, &options),
        None => TextModel::builtin(&exec, &options),
    }
}

/// How weights are read: ahead of their use where memory is bounded, by the user or because the file does not fit.
fn prefetch(model: Option<&PathBuf>, holding: &Holding, settings: &Settings) -> Option<PrefetchOptions> {
    let strategy = PrefetchStrategy { enabled: !holding.no_prefetch, lookahead: holding.lookahead };
    if let Some(memory) = holding.memory {
        return Some(PrefetchOptions { strategy, budget: Some(memory as u64) });
    }
    let path = model.filter(|_| !holding.no_mmap)?;
    let (_, available) = super::doctor::memory()?;
    let bytes = std::fs::metadata(path).ok().filter(|file| file.is_file())?.len();
    if bytes < available || Source::open(path).is_ok_and(|source| source.mapping().is_none()) {
        return None;
    }
    let budget = available / 8 * 7;
    settings
        .console
        .note(&format!("the model is larger than what is free: it gets {} of memory", bytes_text(budget)));
    Some(PrefetchOptions { strategy, budget: Some(budget) })
}

/// How the text is held.
pub fn sequence(ctx: Option<usize>, holding: &Holding) -> SequenceOptions {
    SequenceOptions { context: ctx, kv: holding.kv.map(Into::into) }
}

/// Three quarters of what is free: an error in time is better than a machine that stands still.
fn default_budget() -> Option<usize> {
    let (_, available) = super::doctor::memory()?;
    usize::try_from(available / 4 * 3).ok().filter(|&bytes| bytes > 0)
}

/// A text: the one in the cache file, with the note beside it, if there is such a file.
pub fn session(
    model: &TextModel,
    memory: &Memory,
    holding: &Holding,
    settings: &Settings,
) -> anyhow::Result<(Session, Option<Vec<u8>>)> {
    let options = sequence(memory.ctx, holding);
    match &memory.cache {
        Some(path) if path.exists() => {
            let (session, note) = model.restore(path, options)?;
            let tokens = session.sequence().len();
            settings.console.note(&format!("{}: {tokens} tokens are there", path.display()));
            Ok((session, Some(note)))
        }
        _ => Ok((model.session(options)?, None)),
    }
}

/// Keeps the text in the cache file, if one was named.
pub fn keep(session: &Session, note: &[u8], memory: &Memory, settings: &Settings) -> anyhow::Result<()> {
    if let Some(path) = &memory.cache {
        session.save(path, note)?;
        let tokens = session.sequence().len();
        settings.console.note(&format!("{}: {tokens} tokens are kept", path.display()));
    }
    Ok(())
}

/// The sampling that was asked for, else what the model's files recommend; and the seed when nobody chose it but chance.
pub fn sampling(args: &Sampling, recommended: &RecommendedSampling) -> (SamplingParams, Option<u64>) {
    let defaults = SamplingParams { temperature: 0.7, ..SamplingParams::default() };
    // Who asks for the likeliest token wants it as the model has it.
    let defaults = if args.temp == Some(0.0) { defaults } else { recommended.over(defaults) };
    let temperature = args.temp.unwrap_or(defaults.temperature);
    let chance = (args.seed.is_none() && temperature > 0.0).then(random_seed);
    let params = SamplingParams {
        temperature,
        top_k: args.top_k.unwrap_or(defaults.top_k),
        top_p: args.top_p.unwrap_or(defaults.top_p),
        min_p: args.min_p.unwrap_or(defaults.min_p),
        repeat_penalty: args.repeat_penalty.unwrap_or(defaults.repeat_penalty),
        repeat_last_n: args.repeat_last_n,
        seed: args.seed.or(chance).unwrap_or(0),
    };
    (params, chance)
}

/// Six digits: enough that two runs differ, few enough to type again.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id()) % 1_000_000
}
