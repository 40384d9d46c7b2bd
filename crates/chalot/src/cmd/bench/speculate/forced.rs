//! A model of a known shape whose drafts are right with a chosen probability.
//!
//! Everything is computed as with any model: the shallow layers and their head draft, the deep ones verify. Only then is each draft
//! replaced by the token that plain decoding gave there, or by another one. So the costs are real, and what acceptance would be
//! worth on a model that nobody has trained can be measured.
use std::sync::Arc;

use anyhow::Context;
use chalot::model::{
    DraftMode, Engine, EngineOptions, Generation, GenerationOptions, GenerationStats, Model, Sampler,
    SamplingParams, Sequence, SequenceOptions, SpeculationOptions, SpeculationStats, Speculator,
    speculate::DEFAULT_DRAFTS,
    synthetic::{shape, synthetic},
};
use serde::Serialize;

use super::{Outcome, Pair};
use crate::{args::bench::SpeculateBench, failure::Usage, settings::Settings};

const SEED: u64 = 1;
const CURVE: [f64; 8] = [0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 1.0];

/// What is measured of forced drafts.
#[derive(Serialize)]
pub struct Forced {
    shape: String,
    packing: String,
    layers: usize,
    shallow_layers: usize,
    /// The probability that was asked for.
    asked_acceptance: f64,
    #[serde(flatten)]
    pub(super) result: Outcome,
    pub(super) curve: Vec<Point>,
}

/// A probability and what came of it.
#[derive(Serialize)]
pub(super) struct Point {
    pub asked: f64,
    #[serde(flatten)]
    pub result: Outcome,
}

impl Forced {
    pub fn line(&self) -> String {
        let Self { shape, packing, layers, shallow_layers, .. } = self;
        let drafts = self.result.draft;
        format!(
            "{shape}, {packing}, {shallow_layers} of {layers} layers draft {drafts}, {:.0}% right",
            100.0 * self.asked_acceptance
        )
    }
}

pub fn forced(args: &SpeculateBench, acceptance: f64, settings: &Settings) -> anyhow::Result<Forced> {
    let unknown = || Usage(format!("--shape {}: not known", args.shape));
    let mut config = shape(&args.shape).ok_or_else(unknown)?;
    if let Some(layers) = args.layers {
        config.layers.truncate(layers);
    }
    let layers = config.layers.len();
    config.shallow_layers = args.shallow.unwrap_or((layers / 3).max(1));
    if config.shallow_layers >= layers {
        return Err(Usage(format!(
            "--shallow {}: fewer than the {layers} layers are needed",
            config.shallow_layers
        ))
        .into());
    }
    settings.console.note(&format!("making random weights of {}", args.shape));
    let shallow_layers = config.shallow_layers;
    let head = "int8/row".parse().context("the head's format")?;
    let model = Arc::new(synthetic(config, args.packing.format, head, SEED)?);
    let mut runs = Runs::new(model, args, settings)?;
    let mut wanted = vec![acceptance];
    if args.curve {
        wanted.extend(CURVE);
    }
    let mut points = runs.measure(&wanted, args.rounds)?;
    let first = points.remove(0);
    Ok(Forced {
        shape: args.shape.clone(),
        packing: args.packing.name.clone(),
        layers,
        shallow_layers,
        asked_acceptance: acceptance,
        result: first.result,
        curve: points,
    })
}

/// The same text, generated in different ways.
struct Runs {
    model: Arc<Model>,
    engine: Engine,
    drafts: usize,
    tokens: usize,
    draft_vocab: Option<usize>,
}

impl Runs {
    fn new(model: Arc<Model>, args: &SpeculateBench, settings: &Settings) -> anyhow::Result<Self> {
        let engine = Engine::new(model.clone(), settings.exec(), EngineOptions::default())?;
        let drafts = args.drafting.draft.unwrap_or(DEFAULT_DRAFTS);
        Ok(Self { model, engine, drafts, tokens: args.forced_tokens + 1, draft_vocab: args.draft_vocab })
    }

    fn generate(
        &mut self,
        speculator: Option<&mut Speculator>,
    ) -> anyhow::Result<(Vec<u32>, GenerationStats)> {
        let mut sequence = Sequence::new(&self.model, SequenceOptions::default())?;
        let mut sampler = Sampler::new(SamplingParams::greedy())?;
        let options = GenerationOptions { stop: &[], max_tokens: Some(self.tokens) };
        let (engine, prompt) = (&mut self.engine, &PROMPT);
        let mut generation =
            Generation::start(engine, &mut sequence, &mut sampler, prompt, options)?.speculate(speculator)?;
        let tokens = generation.by_ref().collect::<Result<_, _>>()?;
        Ok((tokens, generation.stats()))
    }

    /// Rounds of plain decoding and each probability in turn.
    fn measure(&mut self, wanted: &[f64], rounds: usize) -> anyhow::Result<Vec<Point>> {
        let (text, _) = self.generate(None)?;
        let mut plain = Vec::new();
        let mut drafted = vec![Vec::new(); wanted.len()];
        let mut stats = vec![SpeculationStats::default(); wanted.len()];
        let mut identical = vec![true; wanted.len()];
        for round in 0..rounds {
            plain.push(self.generate(None)?.1.decode_time.as_secs_f64());
            for (index, &share) in wanted.iter().enumerate() {
                let mut speculator = self.speculator(&text, share, round as u64)?;
                let (found, cost) = self.generate(Some(&mut speculator))?;
                drafted[index].push(cost.decode_time.as_secs_f64());
                stats[index].add(&cost.speculation.unwrap_or_default());
                identical[index] &= found == text;
            }
        }
        let point = |index: usize| {
            let (plain, drafted) = (plain.clone(), drafted[index].clone());
            let pair = Pair { plain, drafted, tokens: self.tokens - 1 };
            let result = Outcome::new(self.drafts, vec![pair], &stats[index], identical[index]);
            Point { asked: wanted[index], result }
        };
        Ok((0..wanted.len()).map(point).collect())
    }

    /// Drafts that are right with probability `share`.
    fn speculator(&self, text: &[u32], share: f64, seed: u64) -> anyhow::Result<Speculator> {
        let options = SpeculationOptions {
            mode: DraftMode::Shallow,
            drafts: Some(self.drafts),
            draft_vocab: self.draft_vocab,
            ..SpeculationOptions::default()
        };
        let mut speculator = Speculator::new(&self.model, options)?;
        let text: Vec<u32> = PROMPT.iter().chain(text).copied().collect();
        let vocab = self.model.config.vocab_size as u32;
        speculator.set_filter(Some(Box::new(move |position, draft| {
            let right = text.get(position).copied().unwrap_or(draft);
            if chance(seed, position) < share { right } else { (right + 1) % vocab }
        })));
        Ok(speculator)
    }
}

const PROMPT: [u32; 8] = [1, 5, 2, 11, 7, 3, 13, 4];

/// Uniform in [0, 1), the same for the same place.
fn chance(seed: u64, position: usize) -> f64 {
    let mixed = ((seed << 32) | position as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    ((mixed ^ (mixed >> 32)) >> 11) as f64 / (1u64 << 53) as f64
}
