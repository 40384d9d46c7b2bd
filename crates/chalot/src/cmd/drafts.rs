//! Drafts: how they are asked for, and what they did, for people and for programs.
use chalot::{
    Session, TextModel,
    model::{BrainMap, SpeculationOptions, SpeculationStats},
};
use serde::Serialize;

use crate::{
    args::{Drafting, SpeculateChoice},
    failure::Usage,
};

/// Has a session draft as was asked for.
pub fn drafting(session: &mut Session, model: &TextModel, args: &Drafting) -> anyhow::Result<()> {
    Ok(session.speculate(options(model, args)?)?)
}

/// How drafts are to be made, checked against the model; `None`: not at all.
pub fn options(model: &TextModel, args: &Drafting) -> Result<Option<SpeculationOptions>, Usage> {
    if args.speculate == SpeculateChoice::Shallow && !BrainMap::of(&model.model.config).has_exit() {
        let mend = "use --speculate auto, ngram or off";
        return Err(Usage(format!("--speculate shallow: this model was not trained to leave early; {mend}")));
    }
    if args.speculate == SpeculateChoice::Off && args.draft.is_some() {
        return Err(Usage("--draft has no meaning with --speculate off".to_owned()));
    }
    Ok(args.options())
}

/// What `--json` prints of it.
#[derive(Serialize)]
pub struct Drafts {
    drafted: usize,
    accepted: usize,
    /// The share of drafts that were right; null without drafts.
    acceptance: Option<f64>,
    /// The same for the first draft of a round, the second, and so on.
    acceptance_by_position: Vec<f64>,
    deep_passes: usize,
    tokens_per_deep_pass: Option<f64>,
    /// Tokens a second over those of steps without drafts, which are made now and then in the same run.
    speedup: Option<f64>,
}

impl Drafts {
    pub fn new(stats: &SpeculationStats) -> Self {
        Self {
            drafted: stats.drafted,
            accepted: stats.accepted,
            acceptance: stats.acceptance_rate(),
            acceptance_by_position: by_position(stats),
            deep_passes: stats.deep_passes,
            tokens_per_deep_pass: stats.tokens_per_pass(),
            speedup: stats.speedup(),
        }
    }
}

fn by_position(stats: &SpeculationStats) -> Vec<f64> {
    stats.used_positions().iter().map(|&(drafted, right)| right as f64 / drafted as f64).collect()
}

/// `drafted: 120 tokens, 84 right (70%; by place 82% 71% 60%); 2.4 tokens a pass; 1.52 times as fast as without`.
pub fn figures(stats: &SpeculationStats) -> String {
    let Some(rate) = stats.acceptance_rate() else {
        return "drafted: nothing".to_owned();
    };
    let places: Vec<_> = by_position(stats).iter().map(|share| format!("{:.0}%", 100.0 * share)).collect();
    let passes =
        stats.tokens_per_pass().map_or(String::new(), |tokens| format!("; {tokens:.2} tokens a pass"));
    let speedup =
        stats.speedup().map_or(String::new(), |times| format!("; {times:.2} times as fast as without"));
    format!(
        "drafted: {} tokens, {} right ({:.0}%; by place {}){passes}{speedup}",
        stats.drafted,
        stats.accepted,
        100.0 * rate,
        places.join(" "),
    )
}
