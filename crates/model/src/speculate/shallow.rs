//! Drafts of the shallow region: the first layers, the final norm and the head.
use chalot_simd::Isa;
use chalot_tensor::Matrix;
use chalot_tensor::exec::Exec;
use chalot_tensor::softmax::softmax_rows;

use super::DraftFilter;
use super::brain_map::BrainMap;
use super::options::{AcceptanceRule, DraftMode, SpeculationOptions};
use super::pupil::Class;
use super::round::Round;
use super::verify::Proposal;
use crate::engine::{Engine, EngineError};
use crate::sampler::{Rng, Sampler, SamplingParams, argmax};
use crate::sequence::Sequence;

/// Makes drafts of a model with an exit.
pub(super) struct Drafter {
    map: BrainMap,
    /// A head of fewer tokens; `None`: the model's own.
    head: Option<Matrix>,
    options: SpeculationOptions,
    /// Chooses drafts as the target chooses tokens, at the drafts' temperature.
    sampler: Option<Sampler>,
    /// Draws of drafts that are accepted by rejection: they must not be those that decide on it.
    stream: Rng,
    /// The tokens that a penalty looks at: the last of the text, then the drafts.
    history: Vec<u32>,
    /// Hidden state of the token in work: `[hidden]`.
    row: Vec<f32>,
    probabilities: Vec<f32>,
    /// A row is little work: it is done by the calling thread.
    exec: Exec,
}

/// Sets the drafts' stream apart from the target's.
const APART: u64 = 0x6472_6166_7473_0001;

/// Says whether a draft of a class is worth its cost after drafts that are right with a probability: the probability that it is
/// right too.
pub(super) type Judge<'a> = dyn FnMut(Class, f64) -> Option<f64> + 'a;

impl Drafter {
    pub fn new(map: BrainMap, head: Option<Matrix>, options: SpeculationOptions) -> Self {
        Self {
            map,
            head,
            options,
            sampler: None,
            stream: Rng::new(APART),
            history: Vec::new(),
            row: Vec::new(),
            probabilities: Vec::new(),
            exec: Exec::new(Isa::best(), 1),
        }
    }

    /// The target samples with these parameters from now on.
    pub fn follow(&mut self, target: &SamplingParams) -> Result<(), EngineError> {
        let temperature = match self.options.shallow_temperature {
            Some(temperature) if target.temperature > 0.0 => temperature,
            _ => target.temperature,
        };
        let params = SamplingParams { temperature, ..target.clone() };
        if self.sampler.as_ref().map(Sampler::params) != Some(&params) {
            self.stream = Rng::new(params.seed ^ APART);
            self.sampler = Some(Sampler::new(params)?);
        }
        Ok(())
    }

    /// Takes `next` and up to `most` drafts after it through the shallow layers: `round` gets the drafts, `hidden` the states
    /// `[1 + drafts][hidden]` for the deep layers.
    pub fn draft(
        &mut self,
        engine: &mut Engine,
        (seq, target, next): (&mut Sequence, &Sampler, u32),
        most: usize,
        judge: &mut Judge<'_>,
        filter: &mut Option<DraftFilter>,
        (round, hidden): (&mut Round, &mut Vec<f32>),
    ) -> Result<(), EngineError> {
        let (first, vocab) = (seq.len(), engine.model().config.vocab_size);
        let mut ahead = target.stream_ahead();
        self.remember(seq.tokens(), next, target.params());
        let mut reached = 1.0;
        let mut token = next;
        hidden.clear();
        loop {
            engine.embed(&[token], &mut self.row)?;
            let position = first + round.drafts.len();
            engine.layers(seq, self.map.shallow(), position, &mut self.row)?;
            hidden.extend_from_slice(&self.row);
            if round.drafts.len() == most {
                return Ok(());
            }
            let logits = match &self.head {
                Some(head) => engine.logits_of(head, &self.row)?,
                None => engine.logits(&self.row)?,
            };
            let (drafted, class) = self.choose(logits, &mut ahead, &mut round.proposals);
            let Some(now) = judge(class, reached) else {
                round.proposals.truncate(round.drafts.len());
                return Ok(());
            };
            reached = now;
            token = match filter {
                Some(filter) => filter(position + 1, drafted),
                None => drafted,
            };
            if token as usize >= vocab {
                round.proposals.truncate(round.drafts.len());
                return Ok(());
            }
            if token != drafted
                && let Some(proposal) = round.proposals.last_mut()
            {
                *proposal = Proposal::certain(token);
            }
            round.drafts.push(token);
            round.classes.push(class);
            self.history.push(token);
        }
    }

    /// The next draft and what speaks for it. `ahead` are the draws that the target will take.
    fn choose(&mut self, logits: &[f32], ahead: &mut Rng, proposals: &mut Vec<Proposal>) -> (u32, Class) {
        let by_rejection = self.options.rule == AcceptanceRule::Rejection;
        let Some(sampler) = &mut self.sampler else {
            return (argmax(logits), Class::of_probability(0.0));
        };
        if sampler.params().temperature == 0.0 {
            // A draw for each token, as the target takes them where it is not greedy.
            ahead.next_u64();
            let token = sampler.sample(logits, &self.history);
            if by_rejection {
                proposals.push(Proposal::certain(token));
            }
            // Nobody asks what speaks for a draft where their number is fixed.
            let adaptive = self.options.mode == DraftMode::Auto;
            let probability = if adaptive { self.probability(logits, token) } else { 0.0 };
            return (token, Class::of_probability(probability));
        }
        let distribution = sampler.distribution(logits, &self.history);
        let draw = if by_rejection { &mut self.stream } else { ahead }.next_f64();
        let token = distribution.at(draw);
        let weight = distribution.candidates.iter().find(|c| c.id == token).map_or(0.0, |c| c.weight);
        if by_rejection {
            proposals.push(Proposal::drawn(token, &distribution));
        }
        (token, Class::of_probability(weight / distribution.total))
    }

    /// The softmax of a logit; 0 where there is none.
    fn probability(&mut self, logits: &[f32], token: u32) -> f64 {
        self.probabilities.clear();
        self.probabilities.extend_from_slice(logits);
        // One row of as many columns: only an empty one is refused.
        match softmax_rows(&self.exec, &mut self.probabilities, logits.len()) {
            Ok(()) => self.probabilities.get(token as usize).map_or(0.0, |&p| f64::from(p)),
            Err(_) => 0.0,
        }
    }

    /// Keeps what a penalty looks at.
    fn remember(&mut self, tokens: &[u32], next: u32, params: &SamplingParams) {
        self.history.clear();
        if params.repeat_penalty != 1.0 {
            let from = tokens.len().saturating_sub(params.repeat_last_n);
            self.history.extend_from_slice(&tokens[from..]);
            self.history.push(next);
        }
    }
}
