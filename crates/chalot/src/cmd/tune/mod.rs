//! `chalot tune`: which packing, tile sizes and threads suit this machine.
//!
//! One setting after the other is decided, with what was decided before it in force. Its candidates are measured in turn
//! until the time is over; the default stays unless the median of another is clearly better.
mod measure;

use std::{
    io::{self, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context;
use chalot::tensor::{Packing, Tiling};
use serde::Serialize;

use self::measure::{Bench, Patience, Work};
use super::print_json;
use crate::{
    args::Tune,
    console::Unit,
    settings::{Settings, default_threads},
    tuning::{self, Machine, Tuning, Values},
};

/// A challenger must be so much faster than the default: less may be chance.
const CLEARLY: f64 = 1.03;
/// Up to so many cores, every number of threads is tried.
const EVERY_COUNT: usize = 8;

/// What `--json` prints. The keys are stable.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    machine: Machine,
    shape: String,
    #[serde(flatten)]
    values: Values,
    measured: Vec<Measured>,
    seconds: f64,
    /// Where the values are kept; null with --dry-run.
    file: Option<PathBuf>,
}

/// How one setting was decided.
#[derive(Serialize)]
struct Measured {
    setting: &'static str,
    work: &'static str,
    candidates: Vec<Candidate>,
    default: String,
    chosen: String,
}

/// One value of a setting.
#[derive(Serialize)]
struct Candidate {
    value: String,
    /// Products of weights per second, in 10^9, the median.
    gmacs: f64,
    samples: usize,
}

/// Measures and keeps what was found.
pub fn tune(args: &Tune, threads: Option<usize>, settings: &Settings) -> anyhow::Result<()> {
    let file = match (args.dry_run, tuning::file()) {
        (true, _) => None,
        (false, file) => {
            Some(file.context("there is no cache folder; name one with CHALOT_CACHE, or take --dry-run")?)
        }
    };
    let start = Instant::now();
    let bar = settings.console.bar("measuring", Unit::Steps);
    let patience = match args.quick {
        true => Patience { time: Duration::from_millis(1200), rounds: 3..=7 },
        false => Patience { time: Duration::from_millis(5500), rounds: 5..=61 },
    };
    let mut defaults = Values::of(settings.isa);
    defaults.threads = threads.unwrap_or(defaults.threads);
    // Portable code cuts nothing, and takes minutes for a prompt; AMX cuts tokens by its own tiles.
    let (cuts, cuts_tokens, count) = match settings.isa.name() {
        "scalar" => (false, false, 2),
        "amx" => (true, false, 4),
        _ => (true, true, 6),
    };
    let mut tuner = Tuner {
        bench: Bench::new(&args.shape, settings.isa)?,
        patience,
        values: defaults,
        measured: Vec::new(),
        progress: &|done, setting| bar.set(done, count, setting),
    };
    let counts = threads.map_or_else(|| thread_counts(default_threads()), |threads| vec![threads]);
    tuner.decide("threads", Work::Turn, &counts, |values, &threads| values.threads = threads)?;
    let packings = [Packing::Trit2, Packing::Trit5];
    tuner.decide("packing", Work::Decode, &packings, |values, &packing| values.packing = packing)?;
    if cuts {
        tuner.decide("task_bytes", Work::Decode, &[12 << 10, 24 << 10, 48 << 10], |values, &bytes| {
            values.tiling =
                Tiling::new(values.tiling.direct_tokens(), values.tiling.panel_token_tiles(), bytes);
        })?;
    }
    if cuts_tokens {
        tuner.decide("direct_tokens", Work::Few, &[12, 24, 64, 1024], |values, &tokens| {
            values.tiling =
                Tiling::new(tokens, values.tiling.panel_token_tiles(), values.tiling.task_bytes());
        })?;
        tuner.decide("panel_token_tiles", Work::Prompt, &[8, 16, 32, 48], |values, &tiles| {
            values.tiling = Tiling::new(values.tiling.direct_tokens(), tiles, values.tiling.task_bytes());
        })?;
    }
    if cuts {
        tuner.decide("chunk", Work::Prompt, &[128, 256, 512], |values, &chunk| values.chunk = chunk)?;
    }
    let Tuner { values, measured, .. } = tuner;
    drop(bar);
    if let Some(file) = &file {
        Tuning::write(values, settings.isa, file)?;
    }
    let report = Report {
        machine: Machine::this(settings.isa),
        shape: args.shape.clone(),
        values,
        measured,
        seconds: start.elapsed().as_secs_f64(),
        file,
    };
    if args.json {
        print_json(&report)?
    } else {
        report.print()?
    }
    settings.console.note(&match &report.file {
        Some(file) => format!("kept in {}; all commands use it", file.display()),
        None => "nothing was kept (--dry-run)".into(),
    });
    Ok(())
}

/// Settings on their way to being decided.
struct Tuner<'a> {
    bench: Bench,
    patience: Patience,
    /// The defaults, and what was chosen so far.
    values: Values,
    measured: Vec<Measured>,
    /// Told how many settings are decided, and which is next.
    progress: &'a dyn Fn(u64, &str),
}

impl Tuner<'_> {
    /// Chooses one of `candidates`, among which the value in force is.
    fn decide<T: PartialEq + ToString>(
        &mut self,
        setting: &'static str,
        work: Work,
        candidates: &[T],
        set: impl Fn(&mut Values, &T),
    ) -> anyhow::Result<()> {
        (self.progress)(self.measured.len() as u64, setting);
        let with = |value: &T| {
            let mut values = self.values;
            set(&mut values, value);
            values
        };
        let all: Vec<Values> = candidates.iter().map(with).collect();
        let default = all.iter().position(|&values| values == self.values).unwrap_or(0);
        let samples = self.bench.compare(work, &all, &self.patience)?;
        let candidates: Vec<Candidate> = candidates
            .iter()
            .zip(samples)
            .map(|(value, speeds)| Candidate {
                value: value.to_string(),
                samples: speeds.len(),
                gmacs: super::bench::median(speeds) / 1e9,
            })
            .collect();
        let speeds: Vec<f64> = candidates.iter().map(|candidate| candidate.gmacs).collect();
        let chosen = choose(&speeds, default);
        self.values = all[chosen];
        self.measured.push(Measured {
            setting,
            work: work.name(),
            default: candidates[default].value.clone(),
            chosen: candidates[chosen].value.clone(),
            candidates,
        });
        Ok(())
    }
}

/// The fastest, if it is clearly faster than the default.
fn choose(speeds: &[f64], default: usize) -> usize {
    let fastest = (0..speeds.len()).max_by(|&a, &b| speeds[a].total_cmp(&speeds[b])).unwrap_or(default);
    if speeds[fastest] > CLEARLY * speeds[default] { fastest } else { default }
}

/// 1, 2, 3, ... up to one for each core; where there are many, powers of two, three quarters and all.
fn thread_counts(cores: usize) -> Vec<usize> {
    if cores <= EVERY_COUNT {
        return (1..=cores).collect();
    }
    let powers = (0..).map(|power| 1 << power).take_while(|&count| count < cores);
    let mut counts: Vec<usize> = powers.chain([cores * 3 / 4, cores]).collect();
    counts.sort_unstable();
    counts.dedup();
    counts
}

impl Report {
    fn print(&self) -> anyhow::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}; layers of {}", self.machine, self.shape)?;
        writeln!(out, "{:<18} {:<26} {:<40} chosen", "setting", "work", "10^9 products of weights a second")?;
        for measured in &self.measured {
            let speeds: Vec<String> = measured
                .candidates
                .iter()
                .map(|candidate| format!("{}: {:.1}", candidate.value, candidate.gmacs))
                .collect();
            let Measured { setting, work, chosen, .. } = measured;
            writeln!(out, "{setting:<18} {work:<26} {:<40} {chosen}{}", speeds.join("  "), measured.why())?;
        }
        Ok(())
    }
}

impl Measured {
    /// What is to be said about the choice.
    fn why(&self) -> String {
        let gmacs = |value: &str| {
            let found = self.candidates.iter().find(|candidate| candidate.value == value);
            found.map_or(f64::NAN, |candidate| candidate.gmacs)
        };
        let default = gmacs(&self.default);
        let best = self.candidates.iter().map(|candidate| candidate.gmacs).fold(default, f64::max);
        let percent = 100.0 * (best / default - 1.0);
        if self.chosen != self.default {
            format!(" ({percent:.0}% faster than {})", self.default)
        } else if percent > 0.5 {
            format!(" (the default; {percent:.1}% more may be chance)")
        } else {
            String::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenger_must_be_clearly_faster() {
        assert_eq!(choose(&[1.0, 1.02, 0.5], 0), 0);
        assert_eq!(choose(&[1.0, 1.04, 1.05], 0), 2);
        assert_eq!(choose(&[1.0, 1.04, 1.05], 2), 2);
        assert_eq!(choose(&[2.0, 1.0], 1), 0);
        assert_eq!(choose(&[7.0], 0), 0);
    }

    #[test]
    fn threads_up_to_one_for_each_core() {
        assert_eq!(thread_counts(1), [1]);
        assert_eq!(thread_counts(4), [1, 2, 3, 4]);
        assert_eq!(thread_counts(16), [1, 2, 4, 8, 12, 16]);
        assert_eq!(thread_counts(12), [1, 2, 4, 8, 9, 12]);
    }
}
