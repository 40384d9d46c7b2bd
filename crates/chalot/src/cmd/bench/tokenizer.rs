//! `chalot bench tokenizer`: megabytes of text a second, beside the plainest encoder of the same vocabulary and the plainest
//! trainer.
use std::{
    hint::black_box,
    io::{self, Write},
    time::Instant,
};

use anyhow::Context;
use chalot::{
    tensor::Exec,
    tokenizer::{
        Specials, Tokenizer,
        train::{Speed, TrainOptions},
    },
};
use serde::Serialize;

use super::{median, yardsticks};
use crate::{args::bench::TokenizerBench, cmd::print_json, failure::Usage, settings::Settings};

/// Bytes of the text that is made up where none is given.
const MADE_UP: usize = 16 << 20;
/// Bytes of the pieces that threads are measured with.
const DOCUMENT: usize = 1 << 16;
/// Entries that are trained.
const TRAINED: usize = 2048;

/// What `--json` prints. The keys are stable.
#[derive(Serialize)]
struct Report {
    vocab: String,
    text: String,
    bytes: usize,
    tokens: usize,
    threads: usize,
    isa: &'static str,
    /// The first time, with nothing in the cache.
    cold_mb_per_second: f64,
    /// Again and again: the median.
    encode_mb_per_second: f64,
    count_mb_per_second: f64,
    /// On one thread, without a cache, searching all pairs for the next to merge; of vocabularies that have it.
    linear_mb_per_second: Option<f64>,
    /// On one thread, over that.
    speedup_over_linear_encode: Option<f64>,
    train_bytes: usize,
    /// Training 2,048 entries, counting included, on all threads.
    train_mb_per_second: Option<f64>,
    /// The same, all pairs counted and searched again for each merge.
    linear_train_mb_per_second: Option<f64>,
    speedup_over_linear_train: Option<f64>,
    /// With several threads, the whole text.
    beside_one_thread: Option<Beside>,
    /// With several threads, the text in pieces of 64 KiB, each with ids of its own.
    documents_beside_one_thread: Option<Beside>,
}

/// Several threads in turn with one, and plain products of 8-bit integers on as many beside them: CPUs may be the halves of
/// one core, and neighbours may want them, from one second to the next. So these are medians of the half of the rounds in
/// which products gained most.
#[derive(Serialize)]
struct Beside {
    rounds: usize,
    one_thread_mb_per_second: f64,
    mb_per_second: f64,
    /// How many times as fast.
    gain: f64,
    gain_of_products: Option<f64>,
}

/// A round on one thread and on all.
struct Round {
    one: f64,
    all: f64,
    gain_of_products: Option<f64>,
}

impl Round {
    /// Work that is given its number of threads.
    fn measure(one: &Exec, all: &Exec, work: &dyn Fn(usize)) -> Round {
        let single = seconds(|| work(1));
        // Just before and just after: what a CPU gets changes faster than a round is over.
        let before = yardsticks::peak(all);
        let several = seconds(|| work(all.pool.threads()));
        let (after, alone) = (yardsticks::peak(all), yardsticks::peak(one));
        let gain_of_products =
            before.zip(after).zip(alone).map(|((before, after), alone)| before.min(after) / alone);
        Round { one: single, all: several, gain_of_products }
    }
}

impl Beside {
    fn of(mut rounds: Vec<Round>, speed: &dyn Fn(f64) -> f64) -> Option<Beside> {
        let known = |round: &Round| round.gain_of_products.unwrap_or(0.0);
        rounds.sort_by(|a, b| known(b).total_cmp(&known(a)));
        if rounds.iter().all(|round| round.gain_of_products.is_some()) {
            rounds.truncate(rounds.len().div_ceil(2));
        }
        let median_of = |of: &dyn Fn(&Round) -> Option<f64>| {
            let found: Vec<f64> = rounds.iter().filter_map(of).collect();
            (!found.is_empty()).then(|| median(found))
        };
        Some(Beside {
            rounds: rounds.len(),
            one_thread_mb_per_second: speed(median_of(&|round| Some(round.one))?),
            mb_per_second: speed(median_of(&|round| Some(round.all))?),
            gain: median_of(&|round| Some(round.one / round.all))?,
            gain_of_products: median_of(&|round| round.gain_of_products),
        })
    }
}

pub fn tokenizer(args: &TokenizerBench, settings: &Settings) -> anyhow::Result<()> {
    let tokenizer = match &args.vocab.vocab {
        Some(path) => chalot::read_tokenizer(path, None)?,
        None => chalot::builtin_tokenizer()?,
    };
    let tokenizer = tokenizer.with_isa(settings.isa);
    let text = match &args.text {
        Some(path) => std::fs::read(path).with_context(|| path.display().to_string())?,
        None => made_up(&tokenizer)?,
    };
    if text.is_empty() {
        return Err(Usage("--text: the file is empty".into()).into());
    }
    let (threads, rounds) = (settings.threads, args.rounds);
    settings.console.note(&format!("encoding {} bytes", text.len()));
    let encode = |threads| tokenizer.encode_parallel(&text, Specials::AsText, threads);
    let (cold, tokens) = {
        let start = Instant::now();
        let ids = encode(threads);
        (start.elapsed().as_secs_f64(), ids.len())
    };
    let sample = text.get(..args.linear_bytes).unwrap_or(&text);
    let reference = if sample.is_empty() { None } else { tokenizer.reference() };
    let (one, all) = (Exec::new(settings.isa, 1), Exec::new(settings.isa, threads));
    let (mut warm, mut single, mut counted, mut linear) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut whole, mut in_pieces) = (Vec::new(), Vec::new());
    let documents: Vec<&[u8]> = text.chunks(DOCUMENT).collect();
    for round in 0..rounds {
        if threads == 1 {
            warm.push(seconds(|| encode(1)));
            single.push(warm[round]);
        } else {
            let measured = Round::measure(&one, &all, &|threads| drop(black_box(encode(threads))));
            warm.push(measured.all);
            single.push(measured.one);
            whole.push(measured);
            in_pieces.push(Round::measure(&one, &all, &|threads| {
                drop(black_box(tokenizer.encode_batch(&documents, Specials::AsText, threads)));
            }));
        }
        counted.push(seconds(|| tokenizer.count(&text, Specials::AsText)));
        if let Some(reference) = reference.as_ref().filter(|_| round < 3) {
            linear.push(seconds(|| reference.encode(sample)));
        }
    }
    let trained = String::from_utf8_lossy(text.get(..args.train_bytes).unwrap_or(&text));
    let training = if trained.is_empty() {
        None
    } else {
        settings.console.note(&format!("training on {} bytes", trained.len()));
        Some(Speed::measure(&trained, TrainOptions { vocab_size: TRAINED, threads, ..Default::default() })?)
    };
    let speed = |bytes: usize, seconds: f64| bytes as f64 / 1e6 / seconds;
    let linear = reference.map(|_| speed(sample.len(), median(linear)));
    let report = Report {
        vocab: args.vocab.vocab.as_ref().map_or("built in".into(), |path| path.display().to_string()),
        text: args.text.as_ref().map_or("made up".into(), |path| path.display().to_string()),
        bytes: text.len(),
        tokens,
        threads,
        isa: settings.isa.name(),
        cold_mb_per_second: speed(text.len(), cold),
        encode_mb_per_second: speed(text.len(), median(warm)),
        count_mb_per_second: speed(text.len(), median(counted)),
        linear_mb_per_second: linear,
        speedup_over_linear_encode: linear.map(|linear| speed(text.len(), median(single)) / linear),
        train_bytes: trained.len(),
        train_mb_per_second: training.map(|speed| speed.mb_per_second),
        linear_train_mb_per_second: training.map(|speed| speed.linear_mb_per_second),
        speedup_over_linear_train: training.map(|speed| speed.over_linear()),
        beside_one_thread: Beside::of(whole, &|seconds| speed(text.len(), seconds)),
        documents_beside_one_thread: Beside::of(in_pieces, &|seconds| speed(text.len(), seconds)),
    };
    if args.json { print_json(&report) } else { report.print() }
}

fn seconds<R>(work: impl FnOnce() -> R) -> f64 {
    let start = Instant::now();
    black_box(work());
    start.elapsed().as_secs_f64()
}

/// Words of the vocabulary, the n-th about as often as 1 / n, in sentences and lines; the same text every time.
fn made_up(tokenizer: &Tokenizer) -> anyhow::Result<Vec<u8>> {
    let is_word =
        |bytes: &&[u8]| bytes.len() > 1 && bytes[0] == b' ' && bytes[1..].iter().all(u8::is_ascii_alphabetic);
    let words: Vec<&[u8]> = (0..tokenizer.vocab_size() as u32)
        .filter_map(|id| tokenizer.token_bytes(id))
        .filter(is_word)
        .collect();
    if words.len() < 100 {
        return Err(Usage(
            "this vocabulary has too few words to make up a text: give one with --text".into(),
        )
        .into());
    }
    let mut state = 1u64;
    let mut text = Vec::with_capacity(MADE_UP + 64);
    while text.len() < MADE_UP {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let uniform = (state >> 11) as f64 / (1u64 << 53) as f64;
        let rank = (words.len() as f64).powf(uniform) as usize - 1;
        text.extend_from_slice(words[rank.min(words.len() - 1)]);
        match state >> 3 & 63 {
            0 => text.extend_from_slice(b".\n"),
            1..4 => text.push(b','),
            4..7 => text.push(b'.'),
            _ => {}
        }
    }
    Ok(text)
}

impl Report {
    fn print(&self) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "vocabulary          {}", self.vocab)?;
        writeln!(out, "text                {}: {} bytes, {} tokens", self.text, self.bytes, self.tokens)?;
        writeln!(out, "threads             {} ({})", self.threads, self.isa)?;
        writeln!(out, "the first time      {:.1} MB/s", self.cold_mb_per_second)?;
        writeln!(out, "encoding            {:.1} MB/s", self.encode_mb_per_second)?;
        let several =
            [("one thread, all", &self.beside_one_thread), ("documents", &self.documents_beside_one_thread)];
        for (name, beside) in several {
            let Some(beside) = beside else { continue };
            let products = beside
                .gain_of_products
                .map_or(String::new(), |gain| format!("; products of integers {gain:.2}"));
            let (one, all) = (beside.one_thread_mb_per_second, beside.mb_per_second);
            writeln!(out, "{name:19} {one:.1}, {all:.1} MB/s: {:.2} times{products}", beside.gain)?;
        }
        writeln!(out, "counting            {:.1} MB/s, one thread", self.count_mb_per_second)?;
        if let (Some(linear), Some(speedup)) = (self.linear_mb_per_second, self.speedup_over_linear_encode) {
            writeln!(out, "linear search       {linear:.1} MB/s, one thread")?;
            writeln!(out, "speed-up over it    {speedup:.1}, one thread")?;
        }
        if let (Some(train), Some(linear), Some(speedup)) =
            (self.train_mb_per_second, self.linear_train_mb_per_second, self.speedup_over_linear_train)
        {
            writeln!(
                out,
                "training            {train:.1} MB/s, {TRAINED} entries, {} bytes",
                self.train_bytes
            )?;
            writeln!(out, "linear training     {linear:.2} MB/s")?;
            writeln!(out, "speed-up over it    {speedup:.1}")?;
        }
        Ok(())
    }
}
