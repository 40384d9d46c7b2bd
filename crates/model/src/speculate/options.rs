//! What a user may ask of speculation.
use super::brain_map::BrainMap;
use crate::engine::EngineError;

/// The most drafts of one round.
pub const MAX_DRAFTS: usize = 16;
/// Drafts of a round where nobody said how many.
pub const DEFAULT_DRAFTS: usize = 4;

/// Who drafts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DraftMode {
    /// Whoever is expected to gain most, as many drafts as pay, and nobody while drafting loses time.
    #[default]
    Auto,
    /// The shallow region of the brain map.
    Shallow,
    /// Earlier places of the text that read like its end (prompt look-up).
    Ngram,
}

/// How a draft becomes a token. Both rules give the target's distribution; see the [module](crate::speculate).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AcceptanceRule {
    /// The target draws its token as it would have done without drafts; the draft is right when it is the same.
    #[default]
    Coupled,
    /// A draft of probability q under the draft's distribution and p under the target's is accepted with min(1, p/q), otherwise
    /// the token is drawn from max(0, p - q).
    Rejection,
}

/// How drafts are made and accepted. Nothing here changes a greedy text, or the distribution of a sampled one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SpeculationOptions {
    /// Who drafts.
    pub mode: DraftMode,
    /// Drafts of a round, at most [`MAX_DRAFTS`]. `None`: as many as pay with [`DraftMode::Auto`],
    /// [`DEFAULT_DRAFTS`] with the others. With [`DraftMode::Auto`] it is a limit, with the others the number.
    pub drafts: Option<usize>,
    /// Temperature of the shallow region's drafts; `None`: the target's. A greedy target always has greedy drafts.
    pub shallow_temperature: Option<f32>,
    /// The shallow region drafts the first so many tokens of the vocabulary only. `None`: a quarter of a vocabulary of 32,768 or
    /// more, otherwise all.
    pub draft_vocab: Option<usize>,
    /// How a draft becomes a token.
    pub rule: AcceptanceRule,
}

impl SpeculationOptions {
    /// The most drafts of a round.
    pub fn most_drafts(&self) -> usize {
        match (self.drafts, self.mode) {
            (Some(drafts), _) => drafts,
            (None, DraftMode::Auto) => MAX_DRAFTS,
            (None, _) => DEFAULT_DRAFTS,
        }
    }

    /// Whether a model with this map can be served.
    ///
    /// # Errors
    /// [`EngineError::Option`] names the first option that does not fit.
    pub fn validate(&self, map: &BrainMap) -> Result<(), EngineError> {
        let fail = |option, found: String, expected| Err(EngineError::Option { option, found, expected });
        if let Some(drafts) = self.drafts
            && !(1..=MAX_DRAFTS).contains(&drafts)
        {
            return fail("drafts", drafts.to_string(), "from 1 to 16");
        }
        if let Some(t) = self.shallow_temperature
            && !(t.is_finite() && t >= 0.0)
        {
            return fail("shallow_temperature", t.to_string(), "a finite number, 0 (greedy) or more");
        }
        if self.mode == DraftMode::Shallow && !map.has_exit() {
            let expected = "auto or ngram: this model has no shallow region that was trained to draft";
            return fail("the school of drafts", "shallow".into(), expected);
        }
        if self.mode == DraftMode::Auto && self.rule == AcceptanceRule::Rejection {
            // Which drafts there are would depend on measured times, and with this rule the text depends on the drafts.
            let expected = "coupled where the number of drafts adapts itself; choose shallow or ngram";
            return fail("the rule of acceptance", "rejection".into(), expected);
        }
        Ok(())
    }
}
