//! Speculative decoding: several tokens from one pass of the deep layers, and the same text.
//!
//! A round begins with a token that is chosen but not computed. Somebody drafts what may follow: the shallow region of the
//! [`BrainMap`], whose hidden states the head understands, or the text itself, where it has read like this before. The deep
//! layers then take the token and all drafts in one pass, going on from the hidden states and the cache entries that the
//! shallow layers have made, so that no layer computes a token twice; this gives the logits after each of them. From these
//! tokens are chosen one by one, exactly as without drafts. While the chosen token is the draft, the logits after it are there
//! already; where it is another one, the rest is dropped from the cache.
//!
//! # Why the text is the same
//!
//! The logits of a token depend on the tokens before it alone (the invariant of [`crate::engine`]), not on the pass they are
//! computed in. The logits that a token is chosen from are those after tokens that were all chosen, because a row
//! is used only when every draft before it was chosen. So each choice has the same input as in plain decoding:
//!
//! - **Greedy**: the same tokens, to the bit.
//! - **Sampling, [`AcceptanceRule::Coupled`]** (the default): the target's sampler takes one draw a token in either case, so the
//!   same seed gives the same text, with and without drafts, whatever was drafted. Drafts use the draw that the target will
//!   use at their place, so that two distributions that are alike choose alike.
//! - **Sampling, [`AcceptanceRule::Rejection`]**: the same distribution, and drafts are accepted as often as any rule can
//!   (the sum of min(p, q)), but draws are spent otherwise than in plain decoding: the same seed gives the same text for the
//!   same options, not the same as without drafts. The number of drafts must not depend on measured times then, so this rule
//!   is not to be had with [`DraftMode::Auto`].
//!
//! Penalties see the tokens before a place, drafts among them, in drafting as in choosing.
mod brain_map;
mod controller;
mod costs;
mod draft_head;
mod ngram;
mod options;
mod pupil;
mod round;
mod shallow;
mod stats;
mod verify;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

pub use self::brain_map::BrainMap;
pub use self::options::{AcceptanceRule, DEFAULT_DRAFTS, DraftMode, MAX_DRAFTS, SpeculationOptions};
pub use self::stats::SpeculationStats;

use self::controller::{Controller, Plan};
use self::ngram::NgramIndex;
use self::pupil::{Class, School};
use self::round::Round;
use self::shallow::Drafter;
use self::verify::{Proposal, Rule};
use crate::engine::{Engine, EngineError};
use crate::sampler::Sampler;
use crate::sequence::Sequence;
use crate::weights::Model;

/// Replaces drafts: gets the position of a draft and the token, gives the token to draft instead.
pub type DraftFilter = Box<dyn FnMut(usize, u32) -> u32 + Send>;

/// Drafts and verifies for one model; keeps what it has learnt about its drafts and costs from text to text.
///
/// [`Generation::speculate`](crate::Generation::speculate) uses it. Any of its model's sequences may come next.
pub struct Speculator {
    options: SpeculationOptions,
    map: BrainMap,
    controller: Controller,
    drafter: Drafter,
    ngrams: NgramIndex,
    round: Round,
    /// Hidden states of the round: `[1 + drafts][hidden]`.
    hidden: Vec<f32>,
    filter: Option<DraftFilter>,
    reject: Rule,
    stats: SpeculationStats,
}

impl Speculator {
    /// A speculator that has learnt nothing yet.
    ///
    /// # Errors
    /// [`EngineError::Option`] when an option is out of range or asks for what this model cannot do.
    pub fn new(model: &Model, options: SpeculationOptions) -> Result<Self, EngineError> {
        let map = BrainMap::of(&model.config);
        options.validate(&map)?;
        let head = if map.has_exit() {
            let tokens = options.draft_vocab.unwrap_or(draft_head::natural_size(model.config.vocab_size));
            draft_head::first_rows(model.head(), tokens)
                .map_err(|error| EngineError::Model(error.to_string()))?
        } else {
            None
        };
        Ok(Self {
            options,
            map,
            controller: Controller::new(options),
            drafter: Drafter::new(map, head, options),
            ngrams: NgramIndex::default(),
            round: Round::default(),
            hidden: Vec::new(),
            filter: None,
            reject: verify::rejection,
            stats: SpeculationStats::default(),
        })
    }

    /// How drafts are made and accepted.
    pub fn options(&self) -> &SpeculationOptions {
        &self.options
    }

    /// The model's regions.
    pub fn map(&self) -> BrainMap {
        self.map
    }

    /// Has every draft replaced: for measurements of what drafts of a given quality are worth, and for tests. Bad drafts cost
    /// time, never a different text; tokens that the vocabulary does not have are not drafted.
    pub fn set_filter(&mut self, filter: Option<DraftFilter>) {
        self.filter = filter;
    }

    /// What it did since the last generation began.
    pub fn stats(&self) -> SpeculationStats {
        self.stats
    }

    /// The prompt is computed: a generation begins.
    pub(crate) fn begin(&mut self, seq: &Sequence, sampler: &Sampler) -> Result<(), EngineError> {
        self.stats = SpeculationStats::default();
        self.round = Round::default();
        if self.options.mode != DraftMode::Shallow {
            self.ngrams.follow(seq.tokens(), true);
        }
        self.drafter.follow(sampler.params())
    }

    /// Computes `next`, the token chosen last, and chooses the one after it. At most `most` tokens are asked for, this one
    /// included; the sequence has room for one.
    pub(crate) fn step(
        &mut self,
        engine: &mut Engine,
        seq: &mut Sequence,
        sampler: &mut Sampler,
        next: u32,
        most: usize,
    ) -> Result<u32, EngineError> {
        let begin = Instant::now();
        if !self.round.has_logits_after(next) {
            seq.rewind();
            self.end_round();
            self.open(engine, seq, sampler, next, most)?;
        }
        seq.commit(&[next]);
        let token = self.choose(engine, seq, sampler);
        self.round.outcome.seconds += begin.elapsed().as_secs_f64();
        Ok(token)
    }

    /// The generation is over: nothing of the drafts stays in the sequence.
    pub(crate) fn close(&mut self, seq: &mut Sequence) {
        seq.truncate(seq.len());
        self.end_round();
    }

    /// Counts the round and learns from it. One that the end of the text cut off was worth more than it gave: it teaches nothing.
    fn end_round(&mut self) {
        if self.round.chosen > 0 {
            count(&mut self.stats, &self.round);
            if !self.round.has_logits_after(self.round.last) {
                self.controller.learn(&self.round.outcome);
            }
        }
        self.round.reset();
    }

    /// Drafts and computes the logits after `next` and every draft.
    fn open(
        &mut self,
        engine: &mut Engine,
        seq: &mut Sequence,
        sampler: &Sampler,
        next: u32,
        most: usize,
    ) -> Result<(), EngineError> {
        let pool = engine.exec().pool.clone();
        let _awake = pool.stay_awake();
        let room = (seq.context() - seq.len()).min(most).saturating_sub(1);
        let mut most = controller::most(&self.options, room);
        // Where there is no memory for drafts there may still be some for a token.
        if most > 0 && seq.reserve(1 + most).is_err() {
            most = 0;
        }
        let plan = if most == 0 { Plan::Plain } else { self.controller.plan() };
        let school = self.school(seq, next, plan, most);
        if school == Some(School::Shallow) {
            self.draft_shallow(engine, (seq, sampler, next), plan, most)?;
            engine.layers(seq, self.map.deep(), seq.len(), &mut self.hidden)?;
        } else {
            let round = &mut self.round;
            round.filter(seq.len() + 1, engine.model().config.vocab_size, &mut self.filter);
            round.tokens.clear();
            round.tokens.push(next);
            round.tokens.extend_from_slice(&round.drafts);
            engine.embed(&round.tokens, &mut self.hidden)?;
            engine.layers(seq, self.map.all(), seq.len(), &mut self.hidden)?;
        }
        engine.logits(&self.hidden)?;
        self.round.outcome.school = school;
        self.round.outcome.drafts = self.round.drafts.len();
        Ok(())
    }

    /// Says who drafts; where it is the text, the drafts are there.
    fn school(&mut self, seq: &Sequence, next: u32, plan: Plan, most: usize) -> Option<School> {
        match plan {
            Plan::Plain => return None,
            Plan::Fixed(School::Shallow) => return Some(School::Shallow),
            Plan::Fixed(School::Ngram) | Plan::Adaptive => self.ngrams.follow(seq.tokens(), false),
        }
        let adaptive = plan == Plan::Adaptive;
        let may = |school| !adaptive || self.controller.may(school);
        let found = self.ngrams.find(next).filter(|_| may(School::Ngram));
        let (drafts, gain) = match found {
            None => (0, 0.0),
            Some(found) if adaptive => self.controller.drafts_of_match(found.len, most),
            Some(_) => (most, 0.0),
        };
        let shallow = adaptive && self.map.has_exit() && may(School::Shallow);
        if shallow && (drafts == 0 || gain < self.controller.gain(School::Shallow)) {
            return Some(School::Shallow);
        }
        let found = found.filter(|_| drafts > 0)?;
        let round = &mut self.round;
        self.ngrams.draft(found, next, drafts, &mut round.drafts);
        round.classes.extend((0..drafts).map(|index| Class::of_match(found.len + index)));
        if self.options.rule == AcceptanceRule::Rejection {
            round.proposals.extend(round.drafts.iter().map(|&token| Proposal::certain(token)));
        }
        Some(School::Ngram)
    }

    fn draft_shallow(
        &mut self,
        engine: &mut Engine,
        text: (&mut Sequence, &Sampler, u32),
        plan: Plan,
        most: usize,
    ) -> Result<(), EngineError> {
        let controller = (plan == Plan::Adaptive).then_some(&self.controller);
        let mut judge = |class, reached| match controller {
            Some(controller) => controller.worth(School::Shallow, class, reached),
            None => Some(reached),
        };
        let into = (&mut self.round, &mut self.hidden);
        self.drafter.draft(engine, text, most, &mut judge, &mut self.filter, into)
    }

    /// Chooses the token after the sequence from the next row of logits.
    fn choose(&mut self, engine: &Engine, seq: &Sequence, sampler: &mut Sampler) -> u32 {
        let row = self.round.chosen;
        let logits = engine.row_of_logits(row);
        let token = match self.round.proposals.get(row) {
            Some(proposal) if sampler.params().temperature > 0.0 => {
                let mut stream = sampler.stream().clone();
                let target = sampler.distribution(logits, seq.tokens());
                let token = (self.reject)(&target, proposal, &mut stream);
                *sampler.stream() = stream;
                token
            }
            _ => sampler.sample(logits, seq.tokens()),
        };
        self.round.take(token);
        token
    }
}

/// Adds a round to the figures.
fn count(stats: &mut SpeculationStats, round: &Round) {
    let outcome = &round.outcome;
    let time = Duration::from_secs_f64(outcome.seconds);
    if outcome.school.is_none() {
        stats.plain_steps += 1;
        stats.plain_time += time;
        return;
    }
    let accepted = outcome.compared.iter().filter(|(_, right)| *right).count();
    stats.drafted += outcome.drafts;
    stats.accepted += accepted;
    stats.reached += outcome.compared.len();
    for (place, position) in stats.positions.iter_mut().take(outcome.drafts).enumerate() {
        position.0 += 1;
        position.1 += usize::from(place < accepted);
    }
    if outcome.drafts > 0 {
        stats.deep_passes += 1;
        stats.deep_tokens += outcome.tokens;
    }
    stats.time += time;
    stats.tokens += outcome.tokens;
}
