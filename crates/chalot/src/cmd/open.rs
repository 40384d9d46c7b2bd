//! What commands that compute have in common: opening a model with a bar.
use std::path::{Path, PathBuf};

use chalot::{
    BUILTIN_NAME, OpenOptions, PrefetchOptions, PrefetchStats, PrefetchStrategy, Session, TextModel,
    model::{
        BrainMap, SamplingParams, SequenceOptions, Source, SpeculationOptions, WeightsAs,
        prefetch::{major_faults, resident_bytes},
    },
};
use serde::Serialize;

use crate::{
    args::{Drafting, Holding, Memory, Sampling, SpeculateChoice, WeightsChoice},
    cmd::bytes as bytes_text,
    console::Unit,
    failure::Usage,
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

/// Has a session draft as was asked for.
pub fn drafting(session: &mut Session, model: &TextModel, args: &Drafting) -> anyhow::Result<()> {
    Ok(session.speculate(drafts(model, args)?)?)
}

/// How drafts are to be made, checked against the model; `None`: not at all.
pub fn drafts(model: &TextModel, args: &Drafting) -> Result<Option<SpeculationOptions>, Usage> {
    if args.speculate == SpeculateChoice::Shallow && !BrainMap::of(&model.model.config).has_exit() {
        let mend = "use --speculate auto, ngram or off";
        return Err(Usage(format!("--speculate shallow: this model was not trained to leave early; {mend}")));
    }
    if args.speculate == SpeculateChoice::Off && args.draft.is_some() {
        return Err(Usage("--draft has no meaning with --speculate off".to_owned()));
    }
    Ok(args.options())
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

/// The sampling that was asked for, and the seed when nobody chose it but chance.
pub fn sampling(args: &Sampling) -> (SamplingParams, Option<u64>) {
    let chance = (args.seed.is_none() && args.temp > 0.0).then(random_seed);
    let params = SamplingParams {
        temperature: args.temp,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        repeat_penalty: args.repeat_penalty,
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

/// What reading ahead did, for programs.
#[derive(Serialize)]
pub struct Prefetched {
    #[serde(flatten)]
    stats: PrefetchStats,
    /// Share of the needs of what was not in memory that were read in time.
    in_time_share: f64,
    /// Page faults of the process that waited for a disk, where the system tells.
    major_faults: Option<u64>,
    /// Bytes of the process in memory now, where the system tells.
    resident_bytes: Option<u64>,
    budget_bytes: Option<u64>,
}

impl Prefetched {
    /// `None` for a model whose weights are left to the system.
    pub fn of(model: &TextModel) -> Option<Self> {
        let prefetcher = model.prefetcher()?;
        let stats = prefetcher.stats();
        Some(Self {
            stats,
            in_time_share: stats.in_time_share(),
            major_faults: major_faults(),
            resident_bytes: resident_bytes(),
            budget_bytes: prefetcher.options().budget,
        })
    }
}

/// The same for people: "; experts: ..."; nothing for a model whose weights are left to the system.
pub fn prefetch_figures(model: &TextModel) -> String {
    let Some(Prefetched { stats, in_time_share, major_faults, resident_bytes, .. }) = Prefetched::of(model)
    else {
        return String::new();
    };
    let or_unknown = |number: Option<String>| number.unwrap_or_else(|| "unknown".into());
    format!(
        "; experts: {} there, {} read in time ({:.0}% of what was absent), {} late, {} not foretold; {:.0}% of what was \
         foretold was needed; {} read ahead, {} of it used, {} read on demand, {} released; {:.2} s of waiting; \
         {} major faults; resident: {}",
        stats.hits,
        stats.in_time,
        100.0 * in_time_share,
        stats.late,
        stats.misses,
        100.0 * stats.right_share(),
        bytes_text(stats.bytes_prefetched),
        bytes_text(stats.bytes_used),
        bytes_text(stats.bytes_demanded),
        bytes_text(stats.bytes_released),
        stats.stall.as_secs_f64(),
        or_unknown(major_faults.map(|count| count.to_string())),
        or_unknown(resident_bytes.map(bytes_text)),
    )
}
