//! The distribution of speculative text is the target's: chi-square over next tokens, beside rules that are wrong.
use std::collections::HashMap;
use std::sync::Arc;

use chalot_simd::Isa;
use chalot_tensor::Exec;

use super::verify::{Proposal, Rule, rejection};
use super::*;
use crate::sampler::{Distribution, Rng, SamplingParams};
use crate::synthetic::{shape, synthetic};
use crate::{EngineOptions, Generation, GenerationOptions, SequenceOptions};

const VOCAB: usize = 8;
/// Texts for rules that are right, and for wrong ones: a small error shows in many texts.
const TEXTS: usize = 1500;
const MANY_TEXTS: usize = 6000;

/// Four layers, two of them shallow, eight tokens.
fn model() -> Arc<Model> {
    let mut config = shape("tiny").unwrap();
    config.vocab_size = VOCAB;
    config.layers = vec![config.layers[0]; 4];
    config.shallow_layers = 2;
    Arc::new(synthetic(config, "trit2/tensor".parse().unwrap(), "int8/row".parse().unwrap(), 4).unwrap())
}

struct World {
    model: Arc<Model>,
    engine: Engine,
    prompt: Vec<u32>,
    params: SamplingParams,
    /// The target's probabilities after the prompt and some tokens.
    exact: HashMap<Vec<u32>, Vec<f64>>,
}

impl World {
    fn new(params: SamplingParams) -> Self {
        let model = model();
        let engine = Engine::new(model.clone(), Exec::new(Isa::best(), 1), EngineOptions::default()).unwrap();
        // Long enough that every pair of tokens was there, so that there are matches.
        let prompt = (0..200u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 61) as u32).collect();
        Self { model, engine, prompt, params, exact: HashMap::new() }
    }

    fn probabilities(&mut self, after: &[u32]) -> &[f64] {
        if !self.exact.contains_key(after) {
            let text = [&self.prompt, after].concat();
            let mut seq = Sequence::new(&self.model, SequenceOptions::default()).unwrap();
            let logits = self.engine.forward(&mut seq, &text).unwrap().to_vec();
            let mut sampler = Sampler::new(self.params.clone()).unwrap();
            let distribution = sampler.distribution(&logits, &text);
            let mut probabilities = vec![0.0; VOCAB];
            for candidate in distribution.candidates {
                probabilities[candidate.id as usize] = candidate.weight / distribution.total;
            }
            self.exact.insert(after.to_vec(), probabilities);
        }
        &self.exact[after]
    }

    /// Texts of three tokens, and the drafts that were right among all.
    fn texts(&mut self, count: usize, speculator: Option<&mut Speculator>) -> (Vec<Vec<u32>>, f64) {
        let mut seq = Sequence::new(&self.model, SequenceOptions::default()).unwrap();
        let mut sampler = Sampler::new(self.params.clone()).unwrap();
        let options = GenerationOptions { stop: &[], max_tokens: Some(3) };
        let mut speculator = speculator;
        let (mut drafted, mut accepted) = (0, 0);
        let texts = (0..count).map(|_| {
            let (engine, prompt) = (&mut self.engine, &self.prompt);
            let generation = Generation::start(engine, &mut seq, &mut sampler, prompt, options).unwrap();
            let mut generation = generation.speculate(speculator.as_deref_mut()).unwrap();
            let text = generation.by_ref().map(Result::unwrap).collect();
            let stats = generation.stats().speculation.unwrap_or_default();
            drafted += stats.drafted;
            accepted += stats.accepted;
            text
        });
        (texts.collect(), f64::from(accepted as u32) / f64::from(drafted.max(1) as u32))
    }

    /// How far the tokens after each beginning are from the target's distribution, in standard deviations: the sum over
    /// all beginnings of chi-square, brought to a normal distribution by Wilson and Hilferty's cube root.
    fn distance(&mut self, texts: &[Vec<u32>]) -> f64 {
        let mut counts: HashMap<&[u32], [f64; VOCAB]> = HashMap::new();
        for text in texts {
            for len in 0..text.len() {
                counts.entry(&text[..len]).or_default()[text[len] as usize] += 1.0;
            }
        }
        let (mut chi_square, mut freedom) = (0.0, 0.0);
        for (after, counts) in counts {
            let all: f64 = counts.iter().sum();
            let probabilities = self.probabilities(after);
            // Cells of fewer than five are one cell.
            let (mut rest, mut cells) = ((0.0, 0.0), 0.0);
            let mut add = |found: f64, expected: f64| {
                chi_square += (found - expected) * (found - expected) / expected;
                cells += 1.0;
            };
            for (&found, &p) in counts.iter().zip(probabilities) {
                let expected = all * p;
                if expected >= 5.0 {
                    add(found, expected);
                } else if found > 0.0 || expected > 0.0 {
                    if p == 0.0 {
                        return f64::INFINITY; // a token that the target never gives
                    }
                    rest = (rest.0 + found, rest.1 + expected);
                }
            }
            if rest.1 >= 5.0 {
                add(rest.0, rest.1);
            }
            freedom += f64::max(cells - 1.0, 0.0);
        }
        let spread = 2.0 / (9.0 * freedom);
        ((chi_square / freedom).cbrt() - (1.0 - spread)) / spread.sqrt()
    }
}

fn speculator(
    model: &Model,
    mode: DraftMode,
    rule: AcceptanceRule,
    shallow_temperature: Option<f32>,
) -> Speculator {
    let options = SpeculationOptions {
        mode,
        rule,
        shallow_temperature,
        drafts: Some(3),
        ..SpeculationOptions::default()
    };
    Speculator::new(model, options).unwrap()
}

fn cases() -> impl Iterator<Item = SamplingParams> {
    let plain = SamplingParams { top_k: 0, top_p: 1.0, min_p: 0.0, ..SamplingParams::default() };
    let temperatures = [0.5, 0.75, 1.0, 1.25, 1.5];
    let hot = temperatures.map(|temperature| SamplingParams { temperature, seed: 1, ..plain.clone() });
    let filtered =
        SamplingParams { temperature: 1.0, top_k: 6, top_p: 0.95, min_p: 0.05, seed: 2, ..plain.clone() };
    let penalised =
        SamplingParams { temperature: 1.0, repeat_penalty: 1.5, repeat_last_n: 3, seed: 3, ..plain };
    hot.into_iter().chain([filtered, penalised])
}

/// Standard deviations: chance goes beyond 4 once in 30,000 tests, and seeds are fixed.
const NEAR: f64 = 4.0;
const FAR: f64 = 5.0;

#[test]
fn the_distribution_is_the_targets() {
    for params in cases() {
        let mut world = World::new(params.clone());
        let (texts, _) = world.texts(TEXTS, None);
        let distance = world.distance(&texts);
        assert!(distance < NEAR, "without drafts, {params:?}: {distance}");
        for rule in [AcceptanceRule::Coupled, AcceptanceRule::Rejection] {
            for (mode, temperature) in [
                (DraftMode::Shallow, None),
                (DraftMode::Shallow, Some(0.6)),
                (DraftMode::Shallow, Some(2.5)),
                (DraftMode::Ngram, None),
            ] {
                let model = world.model.clone();
                let (texts, right) =
                    world.texts(TEXTS, Some(&mut speculator(&model, mode, rule, temperature)));
                let distance = world.distance(&texts);
                assert!(distance < NEAR, "{rule:?}, {mode:?}, {params:?}: {distance}");
                assert!(right > 0.005 && right < 0.98, "{rule:?}, {mode:?}, {params:?}: {right} of drafts");
            }
        }
    }
}

/// Every draft is right.
fn believe(_: &Distribution<'_>, draft: &Proposal, _: &mut Rng) -> u32 {
    draft.token
}

/// Accepts rightly, but draws from the target where it rejects, not from what is left of it.
fn redraw(target: &Distribution<'_>, draft: &Proposal, rng: &mut Rng) -> u32 {
    let mut again = rng.clone();
    let token = rejection(target, draft, rng);
    if token == draft.token {
        token
    } else {
        again.next_u64();
        target.at(again.next_f64())
    }
}

/// The test sees what it is there to see.
#[test]
fn wrong_rules_are_found_out() {
    let wrong: [(&str, Rule); 2] = [("believe", believe), ("redraw", redraw)];
    for (name, rule) in wrong {
        for params in cases().filter(|params| params.temperature >= 0.75 && params.repeat_penalty == 1.0) {
            let mut world = World::new(params.clone());
            let model = world.model.clone();
            // Drafts that are drawn otherwise than the target's tokens: where the two are alike no rule is very wrong.
            let mut speculator = speculator(&model, DraftMode::Shallow, AcceptanceRule::Rejection, Some(2.5));
            speculator.reject = rule;
            let (texts, _) = world.texts(MANY_TEXTS, Some(&mut speculator));
            let distance = world.distance(&texts);
            assert!(distance > FAR, "{name}, {params:?}: {distance}");
        }
    }
}
