//! Speculative decoding with few words: a configuration, a decoder, what it gained.
use chalot_model::{
    DraftMode, Engine, Generation, GenerationOptions, Sampler, SamplingParams, Sequence, SequenceOptions,
    SpeculationOptions, SpeculationStats, Speculator,
    speculate::{AcceptanceRule, BrainMap},
};

use crate::{error::Error, text_model::TextModel};

/// How a [`SpeculativeDecoder`] drafts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SpeculativeConfig {
    /// Tokens that are drafted for one pass of the deep layers, 1 to 16.
    pub num_candidates: usize,
    /// Temperature of the drafts where tokens are sampled: lower than the target's makes surer drafts, which are accepted
    /// more often where the shallow region is sure.
    pub shallow_temperature: f32,
    /// Without: plain decoding.
    pub enabled: bool,
}

impl Default for SpeculativeConfig {
    fn default() -> Self {
        Self { num_candidates: 4, shallow_temperature: 0.6, enabled: true }
    }
}

/// Continues texts of one model: the shallow region of its [`BrainMap`] drafts, all layers verify. A model without such a
/// region drafts from the text itself.
///
/// Greedy texts are those of plain decoding, to the bit. Sampled ones have the target's distribution, drafts being accepted by
/// rejection sampling ([`AcceptanceRule::Rejection`]), and are the same again for the same seed and configuration. For
/// drafts whose number adapts itself, and for a seed that has one text with and without them, see
/// [`Session::speculate`](crate::Session::speculate).
///
/// ```
/// use chalot::{SpeculativeConfig, SpeculativeDecoder, TextModel, OpenOptions};
/// use chalot::model::SamplingParams;
/// use chalot::{simd::Isa, tensor::Exec, tokenizer::Specials};
///
/// # fn main() -> Result<(), chalot::Error> {
/// let model = TextModel::builtin(&Exec::new(Isa::best(), 1), &OpenOptions::default())?;
/// let prompt = model.prompt("Once upon a time", Specials::AsText);
///
/// let config = SpeculativeConfig { num_candidates: 4, shallow_temperature: 0.6, enabled: true };
/// let mut decoder = SpeculativeDecoder::new(&model, config)?;
/// let text = decoder.generate_speculative(&prompt, 60, &SamplingParams::greedy())?;
///
/// let mut plain = SpeculativeDecoder::new(&model, SpeculativeConfig { enabled: false, ..config })?;
/// assert_eq!(text, plain.generate_speculative(&prompt, 60, &SamplingParams::greedy())?);
///
/// println!("{:.0}% of the drafts were right", 100.0 * decoder.acceptance_rate());
/// println!("{:.2} times as fast as without", decoder.speedup_factor());
/// assert!((0.0..=1.0).contains(&decoder.acceptance_rate()) && decoder.speedup_factor() > 0.0);
/// # Ok(())
/// # }
/// ```
pub struct SpeculativeDecoder {
    engine: Engine,
    sequence: Sequence,
    /// Tokens that end a text.
    ends: Vec<u32>,
    config: SpeculativeConfig,
    speculator: Option<Speculator>,
    total: SpeculationStats,
}

impl SpeculativeDecoder {
    /// A decoder of `model`.
    ///
    /// # Errors
    /// [`Error::Engine`] when the configuration is out of range.
    pub fn new(model: &TextModel, config: SpeculativeConfig) -> Result<Self, Error> {
        let exit = BrainMap::of(&model.model.config).has_exit();
        let options = SpeculationOptions {
            mode: if exit { DraftMode::Shallow } else { DraftMode::Ngram },
            drafts: Some(config.num_candidates),
            shallow_temperature: Some(config.shallow_temperature),
            rule: AcceptanceRule::Rejection,
            ..SpeculationOptions::default()
        };
        let speculator = Speculator::new(&model.model, options)?;
        Ok(Self {
            engine: Engine::new(model.model.clone(), model.exec().clone(), model.engine_options())?,
            sequence: Sequence::in_pool(&model.model, SequenceOptions::default(), model.pool())?,
            ends: model.tokenizer.eog_tokens().to_vec(),
            speculator: config.enabled.then_some(speculator),
            config,
            total: SpeculationStats::default(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &SpeculativeConfig {
        &self.config
    }

    /// Up to `max_tokens` tokens that follow `prompt`; fewer where the model ends the text (the token that ends it is not
    /// among them) or its context is full.
    ///
    /// # Errors
    /// [`Error`] for an empty prompt, one that does not fit, a token that the model does not have, parameters out of range.
    pub fn generate_speculative(
        &mut self,
        prompt: &[u32],
        max_tokens: usize,
        params: &SamplingParams,
    ) -> Result<Vec<u32>, Error> {
        let mut sampler = Sampler::new(params.clone())?;
        let options = GenerationOptions { stop: &self.ends, max_tokens: Some(max_tokens) };
        let (engine, sequence) = (&mut self.engine, &mut self.sequence);
        let mut generation = Generation::start(engine, sequence, &mut sampler, prompt, options)?
            .speculate(self.speculator.as_mut())?;
        let tokens = generation.by_ref().collect::<Result<Vec<_>, _>>()?;
        if let Some(stats) = generation.stats().speculation {
            self.total.add(&stats);
        }
        Ok(tokens)
    }

    /// The share of all drafts so far that were right; 0 before there were any.
    pub fn acceptance_rate(&self) -> f64 {
        self.total.acceptance_rate().unwrap_or(0.0)
    }

    /// How many times as fast tokens came as in plain decoding; 1 before both were measured.
    ///
    /// Nothing is derived from the acceptance: one of 32 rounds is a plain step, the first of all too, and the mean time of
    /// a token in these is divided by the mean time of a token over all.
    pub fn speedup_factor(&self) -> f64 {
        self.total.speedup().unwrap_or(1.0)
    }

    /// All that was counted.
    pub fn stats(&self) -> &SpeculationStats {
        &self.total
    }
}
