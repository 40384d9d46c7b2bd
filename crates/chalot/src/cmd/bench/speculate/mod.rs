//! `chalot bench speculate`: drafts beside plain decoding, in turn.
mod forced;
mod texts;

use std::io::{self, Write};

use chalot::model::SpeculationStats;
use serde::Serialize;

use super::{median, percent};
use crate::{
    args::bench::{Part, SpeculateBench},
    cmd::print_json,
    settings::Settings,
};

use self::{forced::Forced, texts::Texts};

/// Where nothing was measured that says how often drafts are right.
const ACCEPTANCE: f64 = 0.8;

/// What `--json` prints: the keys of prose (or, with `--only`, of the part), and each part by itself. The keys are stable.
#[derive(Serialize)]
struct Report {
    threads: usize,
    isa: &'static str,
    #[serde(flatten)]
    result: Outcome,
    prose: Option<Texts>,
    repeat: Option<Texts>,
    forced: Option<Forced>,
}

/// What drafts did in one measurement.
#[derive(Clone, Serialize)]
struct Outcome {
    /// The most drafts of a round.
    draft: usize,
    drafted: usize,
    accepted: usize,
    /// The share of drafts that were right.
    acceptance: f64,
    /// The share among drafts whose predecessors were all right.
    conditional_acceptance: f64,
    tokens_per_deep_pass: f64,
    plain_tokens_per_second: f64,
    tokens_per_second: f64,
    /// Time without drafts over time with them, both measured, in turn.
    speedup: f64,
    /// All texts were those without drafts.
    identical: bool,
}

/// One text: its times without and with drafts, in turn.
struct Pair {
    plain: Vec<f64>,
    drafted: Vec<f64>,
    tokens: usize,
}

impl Outcome {
    /// Of several texts: sums of the medians.
    fn new(draft: usize, pairs: Vec<Pair>, stats: &SpeculationStats, identical: bool) -> Self {
        let tokens: usize = pairs.iter().map(|pair| pair.tokens).sum();
        let (plain, drafted): (Vec<f64>, Vec<f64>) =
            pairs.into_iter().map(|pair| (median(pair.plain), median(pair.drafted))).unzip();
        let (plain, time): (f64, f64) = (plain.iter().sum(), drafted.iter().sum());
        Self {
            draft,
            drafted: stats.drafted,
            accepted: stats.accepted,
            acceptance: stats.acceptance_rate().unwrap_or(0.0),
            conditional_acceptance: stats.conditional_acceptance().unwrap_or(0.0),
            tokens_per_deep_pass: stats.tokens_per_pass().unwrap_or(1.0),
            plain_tokens_per_second: tokens as f64 / plain,
            tokens_per_second: tokens as f64 / time,
            speedup: plain / time,
            identical,
        }
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { drafted, accepted, .. } = self;
        writeln!(out, "drafts              {drafted}, {accepted} right ({})", percent(self.acceptance))?;
        writeln!(out, "  where reached     {}", percent(self.conditional_acceptance))?;
        writeln!(out, "tokens a deep pass  {:.2}", self.tokens_per_deep_pass)?;
        writeln!(
            out,
            "tokens per second   {:.1}, without drafts {:.1}",
            self.tokens_per_second, self.plain_tokens_per_second
        )?;
        writeln!(out, "speed-up            {:.2}", self.speedup)?;
        writeln!(out, "identical           {}", if self.identical { "yes" } else { "NO" })
    }
}

pub fn speculate(args: &SpeculateBench, settings: &Settings) -> anyhow::Result<()> {
    let wanted = |part| args.only.is_none_or(|only| only == part);
    let prose = wanted(Part::Prose).then(|| texts::prose(args, settings)).transpose()?;
    let repeat = wanted(Part::Repeat).then(|| texts::repeat(args, settings)).transpose()?;
    let measured =
        prose.as_ref().map(|prose| prose.result.conditional_acceptance).filter(|&share| share > 0.0);
    let acceptance = args.acceptance.map(f64::from).or(measured).unwrap_or(ACCEPTANCE);
    let forced = wanted(Part::Forced).then(|| forced::forced(args, acceptance, settings)).transpose()?;
    let results = [
        prose.as_ref().map(|texts| &texts.result),
        repeat.as_ref().map(|texts| &texts.result),
        forced.as_ref().map(|forced| &forced.result),
    ];
    let Some(result) = results.into_iter().flatten().next().cloned() else { return Ok(()) };
    let report =
        Report { threads: settings.threads, isa: settings.isa.name(), result, prose, repeat, forced };
    if args.json { print_json(&report) } else { report.print() }
}

impl Report {
    fn print(&self) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        for (name, texts) in [("prose", &self.prose), ("repeat", &self.repeat)] {
            if let Some(texts) = texts {
                writeln!(out, "{name}: {}", texts.line())?;
                texts.result.print(&mut out)?;
                writeln!(out)?;
            }
        }
        if let Some(forced) = &self.forced {
            writeln!(out, "forced: {}", forced.line())?;
            forced.result.print(&mut out)?;
            for point in &forced.curve {
                writeln!(
                    out,
                    "  {:>4} right: {:.2} times as fast",
                    percent(point.asked),
                    point.result.speedup
                )?;
            }
        }
        Ok(())
    }
}
