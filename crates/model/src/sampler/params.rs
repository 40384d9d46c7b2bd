//! What a user may ask of the choice of tokens.
use crate::engine::EngineError;

/// How the next token is chosen. [`SamplingParams::default`] samples moderately, [`SamplingParams::greedy`] takes the
/// likeliest token.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingParams {
    /// Divides the logits that the filters left. 0: greedy, the likeliest token (of equals the lowest id).
    pub temperature: f32,
    /// Keeps the `top_k` likeliest tokens. 0: all.
    pub top_k: usize,
    /// Keeps the likeliest tokens that together reach this probability, in (0, 1]. 1: all.
    pub top_p: f32,
    /// Drops tokens less likely than `min_p` times the likeliest, in [0, 1]. 0: none.
    pub min_p: f32,
    /// Makes tokens of the recent past less likely (> 1) or likelier (< 1). 1: as they are.
    pub repeat_penalty: f32,
    /// How many tokens back `repeat_penalty` looks.
    pub repeat_last_n: usize,
    /// Same seed, same choices, on every machine.
    pub seed: u64,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            seed: 0,
        }
    }
}

impl SamplingParams {
    /// The likeliest token, always.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, ..Self::default() }
    }

    /// Whether every value is in its range.
    ///
    /// # Errors
    /// [`EngineError::Option`] names the first that is not.
    pub fn validate(&self) -> Result<(), EngineError> {
        let check = |ok: bool, option, found: f32, expected| {
            if ok { Ok(()) } else { Err(EngineError::Option { option, found: found.to_string(), expected }) }
        };
        let t = self.temperature;
        check(t.is_finite() && t >= 0.0, "temperature", t, "a finite number, 0 (greedy) or more")?;
        check(
            self.top_p > 0.0 && self.top_p <= 1.0,
            "top_p",
            self.top_p,
            "above 0 and at most 1 (1 keeps all)",
        )?;
        check((0.0..=1.0).contains(&self.min_p), "min_p", self.min_p, "between 0 (keeps all) and 1")?;
        let r = self.repeat_penalty;
        check(r.is_finite() && r > 0.0, "repeat_penalty", r, "a finite number above 0 (1 changes nothing)")
    }
}
