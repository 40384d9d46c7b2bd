//! `chalot bench prefill`: a prompt, as a share of the peak of 8-bit products.
use std::{
    hint::black_box,
    io::{self, Write},
    time::Instant,
};

use serde::Serialize;

use super::{
    median, percent,
    subject::{Described, Subject},
    yardsticks::Peak,
};
use crate::{args::bench::Prefill, cmd::print_json, settings::Settings};

/// What `--json` prints. The keys are stable.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    described: Described,
    tokens: usize,
    /// Tokens of one pass.
    chunk: usize,
    tokens_per_second: f64,
    /// Products of weights that a second saw, in 10^9.
    gmacs: f64,
    /// The machine's peak; null without vector kernels.
    peak_gmacs: Option<f64>,
    peak_share: Option<f64>,
}

pub fn prefill(args: &Prefill, settings: &Settings) -> anyhow::Result<()> {
    let mut options = settings.tuning.values.engine_options();
    options.chunk = args.chunk.unwrap_or(options.chunk);
    let mut subject = Subject::new(&args.of, (args.depth, args.tokens), options, settings)?;
    let (layers, head) = subject.products();
    // A prompt's logits are those of its last token.
    let products = (layers * args.tokens as u64 + head) as f64;
    let exec = subject.exec();
    let mut peak = Peak::default();
    let mut times = Vec::new();
    let Subject { engine, sequence, tokens, .. } = &mut subject;
    let prompt = &tokens[..args.tokens];
    // The first one makes room for everything.
    engine.forward(sequence, prompt)?;
    for _ in 0..args.rounds {
        sequence.truncate(args.depth);
        peak.sample(&exec);
        let start = Instant::now();
        black_box(engine.forward(sequence, prompt)?);
        times.push(start.elapsed().as_secs_f64());
    }
    let (seconds, peak) = (median(times), peak.median());
    let report = Report {
        described: subject.described,
        tokens: args.tokens,
        chunk: options.chunk,
        tokens_per_second: args.tokens as f64 / seconds,
        gmacs: products / seconds / 1e9,
        peak_gmacs: peak.map(|peak| peak / 1e9),
        peak_share: peak.map(|peak| products / seconds / peak),
    };
    if args.json { print_json(&report) } else { report.print() }
}

impl Report {
    fn print(&self) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", self.described.line())?;
        writeln!(out, "prompt              {} tokens, {} a pass", self.tokens, self.chunk)?;
        writeln!(out, "tokens per second   {:.1}", self.tokens_per_second)?;
        writeln!(out, "products            {:.1} GMAC/s", self.gmacs)?;
        if let (Some(peak), Some(share)) = (self.peak_gmacs, self.peak_share) {
            writeln!(out, "peak                {peak:.1} GMAC/s")?;
            writeln!(out, "share               {}", percent(share))?;
        }
        Ok(())
    }
}
