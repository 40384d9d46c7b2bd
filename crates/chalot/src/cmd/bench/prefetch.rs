//! `chalot bench prefetch`: a model larger than the memory it gets, with and without reading ahead.
mod disk;
mod peak;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use chalot::{
    PrefetchOptions, PrefetchStats, PrefetchStrategy, Prefetcher,
    model::{
        Engine, EngineOptions, Ffn, LoadOptions, Model, Sampler, SamplingParams, Sequence, SequenceOptions,
        Source,
        prefetch::major_faults,
        synthetic::{TokenTrace, shape},
    },
    tensor::Exec,
};
use serde::Serialize;

use self::peak::PeakMemory;
use super::{percent, quantile};
use crate::{
    args::bench::PrefetchBench,
    cmd::{bytes, print_json, synth},
    failure::Usage,
    settings::Settings,
};

const SEED: u64 = 1;

/// What `--json` prints. The keys are stable; those of the first lookahead are at the top.
#[derive(Serialize)]
struct Report {
    model: String,
    threads: usize,
    isa: &'static str,
    tokens: usize,
    file_bytes: u64,
    budget_bytes: u64,
    /// 10^9 bytes per second that the disk gives, past the system's cache.
    disk_gbs: f64,
    without: Row,
    #[serde(flatten)]
    first: Compared,
    /// Whether all ways computed the same last logits.
    identical: bool,
    others: Vec<Compared>,
}

/// One way.
#[derive(Serialize)]
struct Row {
    tokens_per_second: f64,
    p50_seconds: f64,
    p99_seconds: f64,
    /// The most that the process had in memory while it was measured; 0 where the system does not tell.
    resident_bytes: u64,
    major_faults: Option<u64>,
    /// From nothing in memory to the first token.
    first_token_seconds: f64,
    bytes_read_per_token: f64,
    in_time_share: f64,
    right_share: f64,
    #[serde(flatten)]
    stats: PrefetchStats,
}

/// One way beside the one that reads nothing ahead.
#[derive(Serialize)]
struct Compared {
    lookahead: usize,
    /// Tokens per second with reading ahead over without.
    speedup: f64,
    /// 99th percentile of a token's time with reading ahead over without.
    p99_ratio: f64,
    /// Time in which the disk could have read what was needed and absent, as a share of the time taken.
    disk_share: f64,
    #[serde(flatten)]
    row: Row,
}

pub fn prefetch(args: &PrefetchBench, settings: &Settings) -> anyhow::Result<()> {
    let file = File::of(args, settings)?;
    let file_bytes = std::fs::metadata(file.path())?.len();
    let budget = args.memory.map_or(file_bytes / 2, |memory| memory as u64);
    let exec = settings.exec();
    let tokens = file.tokens(args, &exec)?;
    let note = |text: &str| settings.console.note(text);
    note("measuring the disk");
    let disk = disk::speed(file.path(), file.request(&exec)?)?;

    let run = |strategy| {
        let options = PrefetchOptions { strategy, budget: Some(budget) };
        measure(file.path(), &exec, options, &tokens, args.warm_up)
    };
    note("without reading ahead");
    let (without, logits) = run(PrefetchStrategy { enabled: false, lookahead: 0 })?;
    let mut identical = true;
    let mut compared = Vec::new();
    for &lookahead in &args.lookahead {
        note(&format!("lookahead {lookahead}"));
        let (row, same) = run(PrefetchStrategy { enabled: true, lookahead })?;
        identical &= same == logits;
        compared.push(Compared {
            lookahead,
            speedup: row.tokens_per_second / without.tokens_per_second,
            p99_ratio: row.p99_seconds / without.p99_seconds,
            disk_share: row.bytes_read_per_token / disk * row.tokens_per_second,
            row,
        });
    }
    let mut compared = compared.into_iter();
    let first = compared.next().ok_or_else(|| Usage("--lookahead: a number is needed".into()))?;
    let report = Report {
        model: file.name(args),
        threads: exec.pool.threads(),
        isa: exec.isa.name(),
        tokens: args.tokens,
        file_bytes,
        budget_bytes: budget,
        disk_gbs: disk / 1e9,
        without,
        first,
        identical,
        others: compared.collect(),
    };
    if args.json { print_json(&report) } else { report.print() }
}

/// The file that is measured: the user's, or one that goes when this is dropped.
enum File {
    Given(PathBuf),
    Made(tempfile::TempPath),
}

impl File {
    fn of(args: &PrefetchBench, settings: &Settings) -> anyhow::Result<Self> {
        if let Some(path) = &args.model {
            return Ok(Self::Given(path.clone()));
        }
        let config = shape(&args.shape).ok_or_else(|| Usage(format!("--shape {}: unknown", args.shape)))?;
        let path = tempfile::Builder::new().prefix("chalot-").suffix(".gguf").tempfile()?.into_temp_path();
        settings.console.note(&format!("writing random weights of {} to {}", args.shape, path.display()));
        let formats = ("trit2".parse(), "int8".parse());
        let (Ok(packing), Ok(head)) = formats else { unreachable!("names of packings") };
        synth::write(&config, (&packing, &head), SEED, &path, settings)?;
        Ok(Self::Made(path))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Made(path) => path,
        }
    }

    fn name(&self, args: &PrefetchBench) -> String {
        match self {
            Self::Given(path) => path.display().to_string(),
            Self::Made(_) => args.shape.clone(),
        }
    }

    /// The tokens that are fed: a trace for random weights, what a trained model says by itself otherwise.
    fn tokens(&self, args: &PrefetchBench, exec: &Exec) -> anyhow::Result<Vec<u32>> {
        let count = args.warm_up + args.tokens;
        let source = Source::open(self.path())?;
        let config = source.config()?;
        if count > config.context_length {
            let most = config.context_length;
            return Err(Usage(format!("{count} tokens: the model was made for {most}")).into());
        }
        if source.gguf().is_some_and(|gguf| gguf.metadata.get("general.random_weights").is_some()) {
            return Ok(TokenTrace::new(config.vocab_size, SEED).take(count).collect());
        }
        let model = Arc::new(source.load(exec, &LoadOptions::default())?);
        let mut engine = Engine::new(model.clone(), exec.clone(), EngineOptions::default())?;
        let mut sequence = Sequence::new(&model, SequenceOptions::default())?;
        let mut sampler = Sampler::new(SamplingParams { seed: SEED, ..SamplingParams::default() })?;
        let mut tokens = vec![0];
        while tokens.len() < count {
            let logits = engine.forward(&mut sequence, &tokens[tokens.len() - 1..])?;
            tokens.push(sampler.sample(logits, &tokens));
        }
        Ok(tokens)
    }

    /// Bytes that are read at a time: an expert's.
    fn request(&self, exec: &Exec) -> anyhow::Result<usize> {
        let model = Source::open(self.path())?.load(exec, &LoadOptions::default())?;
        let sizes = model.layers.iter().map(|layer| {
            let network = match &layer.ffn {
                Ffn::Dense(network) => Some(network),
                Ffn::Experts(experts) => experts.experts.first(),
            };
            network.map_or(0, |n| [&n.gate, &n.up, &n.down].map(|linear| linear.weight.bytes()).iter().sum())
        });
        Ok(sizes.max().unwrap_or(0))
    }
}

/// Generates from nothing in memory; the figures are of the tokens after the first `warm_up`.
fn measure(
    path: &Path,
    exec: &Exec,
    options: PrefetchOptions,
    tokens: &[u32],
    warm_up: usize,
) -> anyhow::Result<(Row, Vec<f32>)> {
    let source = Source::open(path)?;
    let forget = || source.mapping().into_iter().for_each(|mapping| mapping.forget_cached());
    forget();
    let model: Arc<Model> = Arc::new(source.load(exec, &LoadOptions::default())?);
    let prefetcher = Arc::new(Prefetcher::of_source(&model, &source, options)?);
    let engine = Engine::new(model.clone(), exec.clone(), EngineOptions::default())?;
    let mut engine = engine.with_prefetcher(Some(prefetcher.clone()));
    let mut sequence = Sequence::new(&model, SequenceOptions::default())?;
    let peak = PeakMemory::watch();
    let mut times = Vec::with_capacity(tokens.len());
    let mut logits = Vec::new();
    let mut before = (PrefetchStats::default(), None);
    for (number, token) in tokens.iter().enumerate() {
        if number == warm_up {
            before = (prefetcher.stats(), major_faults());
            peak.begin();
        }
        let start = Instant::now();
        let result = engine.forward(&mut sequence, std::slice::from_ref(token))?;
        times.push(start.elapsed().as_secs_f64());
        if number + 1 == tokens.len() {
            logits = result.to_vec();
        }
        forget();
    }
    let stats = prefetcher.stats().since(&before.0);
    let first = times.first().copied().unwrap_or(f64::NAN);
    let times = times.split_off(warm_up);
    // What was needed and absent: where nothing is read ahead, it was not counted but is known from what was released since.
    let needed =
        if options.strategy.enabled { stats.bytes_used + stats.bytes_demanded } else { stats.bytes_released };
    let row = Row {
        tokens_per_second: times.len() as f64 / times.iter().sum::<f64>(),
        p50_seconds: quantile(times.clone(), 0.5),
        p99_seconds: quantile(times.clone(), 0.99),
        resident_bytes: peak.end(),
        major_faults: major_faults().zip(before.1).map(|(now, before)| now - before),
        first_token_seconds: first,
        bytes_read_per_token: needed as f64 / times.len() as f64,
        in_time_share: stats.in_time_share(),
        right_share: stats.right_share(),
        stats,
    };
    Ok((row, logits))
}

impl Report {
    fn print(&self) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        let threads = if self.threads == 1 { "1 thread".into() } else { format!("{} threads", self.threads) };
        writeln!(out, "{}, {threads}, {}", self.model, self.isa)?;
        writeln!(out, "the file            {}", bytes(self.file_bytes))?;
        writeln!(out, "memory for it       {}", bytes(self.budget_bytes))?;
        writeln!(out, "the disk            {:.2} GB/s", self.disk_gbs)?;
        writeln!(
            out,
            "\nlookahead  tokens/s  speed-up  p50 ms  p99 ms  ratio  of the disk  in time  right  resident"
        )?;
        let row = |row: &Row| {
            (row.tokens_per_second, 1e3 * row.p50_seconds, 1e3 * row.p99_seconds, bytes(row.resident_bytes))
        };
        let (speed, p50, p99, resident) = row(&self.without);
        writeln!(
            out,
            "{:>9}  {speed:>8.2}  {:>8}  {p50:>6.0}  {p99:>6.0}  {:>5}  {:>11}  {:>7}  {:>5}  {resident}",
            "off", "", "", "", "", ""
        )?;
        for way in std::iter::once(&self.first).chain(&self.others) {
            let (speed, p50, p99, resident) = row(&way.row);
            writeln!(
                out,
                "{:>9}  {speed:>8.2}  {:>8.2}  {p50:>6.0}  {p99:>6.0}  {:>5.2}  {:>11}  {:>7}  {:>5}  {resident}",
                way.lookahead,
                way.speedup,
                way.p99_ratio,
                percent(way.disk_share),
                percent(way.row.in_time_share),
                percent(way.row.right_share),
            )?;
        }
        writeln!(out, "\nsame bits           {}", if self.identical { "yes" } else { "no" })?;
        Ok(())
    }
}
