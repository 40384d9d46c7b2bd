//! `chalot bench profile`: where the time of a pass goes, step by step.
use std::{
    hint::black_box,
    io::{self, Write},
    time::Instant,
};

use chalot::model::{Engine, Profile, Sequence, Step};
use serde::Serialize;

use super::{
    percent,
    subject::{Described, Subject},
    yardsticks::{Bandwidth, Peak},
};
use crate::{args::bench::ProfileBench, cmd::print_json, settings::Settings};

/// Up to so many tokens the logits of all are made, as drafts are verified; of more those of the last, as of a prompt.
const VERIFIED: usize = 16;
/// Passes of a round over that many tokens or fewer: few, so that all that is compared is close in time.
const ROUND: usize = 4;

/// What `--json` prints. The keys are stable.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    described: Described,
    bandwidth_gbs: f64,
    /// The machine's peak of 8-bit products; null without vector kernels.
    peak_gmacs: Option<f64>,
    passes: Vec<PassReport>,
}

#[derive(Serialize)]
struct PassReport {
    tokens: usize,
    /// How many tokens' logits are made.
    logits: usize,
    milliseconds: f64,
    /// In the order of a pass; those that took no time are left out.
    steps: Vec<StepReport>,
}

/// One step in all layers together.
#[derive(Serialize)]
struct StepReport {
    step: &'static str,
    milliseconds: f64,
    /// Of the pass.
    share: f64,
    /// Bytes of weights that are read; null where there are none, and for experts that several tokens visit.
    bytes: Option<u64>,
    gbs: Option<f64>,
    /// Products with weights a second, in 10^9.
    gmacs: Option<f64>,
}

pub fn profile(args: &ProfileBench, settings: &Settings) -> anyhow::Result<()> {
    let options = settings.tuning.values.engine_options();
    let most = args.tokens.iter().copied().max().unwrap_or(1);
    let mut subject = Subject::new(&args.of, (args.depth, most + 1), options, settings)?;
    let (exec, bytes) = (subject.exec(), subject.bytes_per_token() as usize);
    let (mut bandwidth, mut peak) = (Bandwidth::new(), Peak::default());
    let mut passes: Vec<Passes> = args.tokens.iter().map(|&tokens| Passes::of(tokens)).collect();
    let Subject { engine, sequence, tokens, .. } = &mut subject;
    // A token that goes on finds its cache block there, but for every 64th; a prompt makes its own.
    let mut text = sequence.fork(args.depth);
    engine.forward(&mut text, &tokens[..1])?;
    // The longest makes room for everything.
    Passes::of(most).run(engine, sequence, tokens)?;
    for _ in 0..args.rounds {
        bandwidth.sample(&exec, bytes);
        peak.sample(&exec);
        for passes in &mut passes {
            let few = passes.tokens <= VERIFIED;
            let (times, sequence) = if few { (ROUND, &mut text) } else { (1, &mut *sequence) };
            for _ in 0..times {
                passes.run(engine, sequence, tokens)?;
            }
        }
    }
    let passes = passes.into_iter().map(|passes| passes.report(&subject)).collect();
    let report = Report {
        described: subject.described,
        bandwidth_gbs: bandwidth.median() / 1e9,
        peak_gmacs: peak.median().map(|peak| peak / 1e9),
        passes,
    };
    if args.json { print_json(&report) } else { report.print() }
}

/// Passes over a number of tokens, and what each took: seconds in all, and its steps.
struct Passes {
    tokens: usize,
    took: Vec<(f64, Profile)>,
}

impl Passes {
    fn of(tokens: usize) -> Self {
        Self { tokens, took: Vec::new() }
    }

    /// How many tokens' logits are made.
    fn logits(&self) -> usize {
        if self.tokens <= VERIFIED { self.tokens } else { 1 }
    }

    /// One more pass; the sequence stays as it is.
    fn run(&mut self, engine: &mut Engine, sequence: &mut Sequence, tokens: &[u32]) -> anyhow::Result<()> {
        let (len, tokens) = (sequence.tokens().len(), &tokens[..self.tokens]);
        let begun = Instant::now();
        let (result, profile) = engine.profiled(|engine| {
            let mut see = |_, logits: &[f32]| {
                black_box(logits);
            };
            if self.logits() == self.tokens {
                engine.forward_all(sequence, tokens, &mut see)
            } else {
                engine.forward(sequence, tokens).map(|logits| see(0, logits))
            }
        });
        let seconds = begun.elapsed().as_secs_f64();
        result?;
        self.took.push((seconds, profile));
        sequence.truncate(len);
        Ok(())
    }

    fn report(self, subject: &Subject) -> PassReport {
        let passes = middle_half(&self.took);
        let mean =
            |of: &dyn Fn(&(f64, Profile)) -> f64| passes.iter().map(of).sum::<f64>() / passes.len() as f64;
        let all = mean(&|(seconds, _)| *seconds);
        let seconds = |step| mean(&|(_, profile)| profile.of(step).as_secs_f64());
        let steps: Vec<(Step, f64)> = Step::ALL.map(|step| (step, seconds(step))).into();
        let experts = subject.model.config.experts.is_some();
        let reads = self.tokens.div_ceil(subject.engine.options().chunk) as u64;
        let report = |(step, seconds): (Step, f64)| {
            let (mut bytes, mut products) = subject.work_of(step);
            if step == Step::Head {
                products *= self.logits() as u64;
            } else {
                products *= self.tokens as u64;
                bytes *= reads;
            }
            let known =
                bytes > 0 && !(experts && self.tokens > 1 && matches!(step, Step::GateAndUp | Step::Down));
            StepReport {
                step: step.name(),
                milliseconds: 1e3 * seconds,
                share: seconds / all,
                bytes: known.then_some(bytes),
                gbs: known.then(|| bytes as f64 / seconds / 1e9),
                gmacs: (products > 0).then(|| products as f64 / seconds / 1e9),
            }
        };
        PassReport {
            tokens: self.tokens,
            logits: self.logits(),
            steps: steps.into_iter().filter(|(_, seconds)| *seconds > 0.0).map(report).collect(),
            milliseconds: 1e3 * all,
        }
    }
}

/// Those whose time is neither short nor long: steps of single passes would be anybody's, and medians of each step would not add up.
fn middle_half(took: &[(f64, Profile)]) -> Vec<(f64, Profile)> {
    let mut took = took.to_vec();
    took.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    let quarter = took.len() / 4;
    took[quarter..took.len() - quarter].to_vec()
}

impl Report {
    fn print(&self) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", self.described.line())?;
        write!(out, "read bandwidth {:.1} GB/s", self.bandwidth_gbs)?;
        if let Some(peak) = self.peak_gmacs {
            write!(out, ", peak of 8-bit products {peak:.0} GMAC/s")?;
        }
        writeln!(out)?;
        for pass in &self.passes {
            let tokens = if pass.tokens == 1 { "token" } else { "tokens" };
            let each = 1e3 * pass.tokens as f64 / pass.milliseconds;
            writeln!(
                out,
                "\n{} {tokens}: {:.2} ms, {each:.1} tokens per second",
                pass.tokens, pass.milliseconds
            )?;
            writeln!(
                out,
                "{:18} {:>9} {:>6} {:>9} {:>7} {:>8}",
                "step", "ms", "share", "MB read", "GB/s", "GMAC/s"
            )?;
            let or_dash =
                |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.1}"));
            for step in &pass.steps {
                writeln!(
                    out,
                    "{:18} {:>9.3} {:>6} {:>9} {:>7} {:>8}",
                    step.step,
                    step.milliseconds,
                    percent(step.share),
                    or_dash(step.bytes.map(|bytes| bytes as f64 / 1e6)),
                    or_dash(step.gbs),
                    or_dash(step.gmacs),
                )?;
            }
        }
        Ok(())
    }
}
