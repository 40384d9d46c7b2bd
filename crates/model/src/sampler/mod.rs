//! The choice of the next token from its logits.
//!
//! The filters work in this order, each on what the one before it left:
//!
//! 1. repetition penalty (Keskar et al., "CTRL", 2019, section 4.1; a negative logit is multiplied instead of divided),
//! 2. top-k, 3. top-p (Holtzman et al., "The curious case of neural text degeneration", 2020), 4. min-p (Nguyen et al., 2024),
//! 5. temperature, 6. the draw.
//!
//! This is llama.cpp's order. Hugging Face applies the temperature before the filters, so that a higher one lets more of the
//! tail in; here the filters see the model's own probabilities and the temperature only reweighs what they kept, so
//! each knob does one thing.
//!
//! The choice is a function of logits, history, parameters and the draws so far: the softmax is chalot-tensor's, its
//! weights are added up in f64 in a fixed order (by id, or by falling logit), ties go to the lower id. Same bits in, same
//! token out, everywhere.
mod params;
mod recommended;
mod rng;

use std::cmp::Ordering;

use chalot_simd::Isa;
use chalot_tensor::exec::Exec;
use chalot_tensor::softmax::softmax_rows;

pub use params::SamplingParams;
pub use recommended::RecommendedSampling;
pub use rng::Rng;

use crate::engine::EngineError;

/// A token that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The token.
    pub id: u32,
    /// Its logit after the repetition penalty; NaN has become -infinity, +infinity the largest number.
    pub logit: f32,
    /// Its share of the draw. The shares of a distribution add up to [`Distribution::total`], not to 1.
    pub weight: f64,
}

/// What a draw chooses from.
#[derive(Clone, Copy, Debug)]
pub struct Distribution<'a> {
    /// The tokens the filters left, at least one.
    pub candidates: &'a [Candidate],
    /// The sum of their weights.
    pub total: f64,
}

impl Distribution<'_> {
    /// The token at `u` in [0, 1) of the cumulated weights.
    pub fn at(&self, u: f64) -> u32 {
        let mut left = u * self.total;
        for candidate in self.candidates {
            left -= candidate.weight;
            if left < 0.0 {
                return candidate.id;
            }
        }
        // Only rounding leads here: the last token that can be drawn at all.
        let drawable = self.candidates.iter().rev().find(|c| c.weight > 0.0);
        drawable.or(self.candidates.first()).map_or(0, |c| c.id)
    }
}

/// Chooses tokens; holds the random state and its scratch.
#[derive(Clone, Debug)]
pub struct Sampler {
    params: SamplingParams,
    rng: Rng,
    /// The logits after the penalty; never NaN, +infinity or -0.
    logits: Vec<f32>,
    candidates: Vec<Candidate>,
    penalised: Vec<u32>,
    scaled: Vec<f32>,
    /// A row is little work: it is done by the calling thread.
    exec: Exec,
}

impl Sampler {
    /// A sampler at the start of its seed's stream.
    ///
    /// # Errors
    /// [`EngineError::Option`] when a parameter is out of range.
    pub fn new(params: SamplingParams) -> Result<Self, EngineError> {
        params.validate()?;
        Ok(Self {
            rng: Rng::new(params.seed),
            params,
            logits: Vec::new(),
            candidates: Vec::new(),
            penalised: Vec::new(),
            scaled: Vec::new(),
            exec: Exec::new(Isa::best(), 1),
        })
    }

    /// The parameters.
    pub fn params(&self) -> &SamplingParams {
        &self.params
    }

    /// Chooses the token that follows `history` (oldest first; only the repetition penalty looks at it).
    ///
    /// One draw is taken from the stream, none when greedy. Logits that are NaN are never chosen unless all are;
    /// empty `logits` give token 0.
    pub fn sample(&mut self, logits: &[f32], history: &[u32]) -> u32 {
        if self.params.temperature == 0.0 {
            if self.recent(history).is_empty() {
                return argmax(logits);
            }
            self.take(logits, history);
            return argmax(&self.logits);
        }
        let u = self.rng.next_f64();
        self.distribution(logits, history).at(u)
    }

    /// The draws that will be taken next.
    pub(crate) fn stream_ahead(&self) -> Rng {
        self.rng.clone()
    }

    /// Where draws come from, for those who take them otherwise than [`Sampler::sample`].
    pub(crate) fn stream(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// What [`Sampler::sample`] would draw from: needed where a draw is accepted or rejected by its probability.
    pub fn distribution(&mut self, logits: &[f32], history: &[u32]) -> Distribution<'_> {
        self.take(logits, history);
        self.candidates.clear();
        if self.params.temperature == 0.0 {
            let id = argmax(&self.logits);
            let logit = self.logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
            self.candidates.push(Candidate { id, logit, weight: 1.0 });
            return Distribution { candidates: &self.candidates, total: 1.0 };
        }
        match self.params.top_k {
            k if k > 0 && k < self.logits.len() => self.collect_likeliest(k),
            _ => self.candidates.extend(candidates(&self.logits)),
        }
        if self.params.top_p < 1.0 || self.params.min_p > 0.0 {
            let total = self.weigh(1.0);
            self.keep_nucleus(total);
            self.keep_by_ratio();
        }
        let total = self.weigh(self.params.temperature);
        Distribution { candidates: &self.candidates, total }
    }

    /// Copies the logits, in order and penalised.
    fn take(&mut self, logits: &[f32], history: &[u32]) {
        self.logits.clear();
        // Adding zero makes -0 a 0, so that the order of numbers and the total order agree.
        let ordered = |logit: f32| if logit.is_nan() { f32::NEG_INFINITY } else { logit.min(f32::MAX) + 0.0 };
        self.logits.extend(logits.iter().map(|&logit| ordered(logit)));

        let recent = self.recent(history);
        // Once for each distinct token, however often it came.
        self.penalised.clear();
        self.penalised.extend_from_slice(recent);
        self.penalised.sort_unstable();
        self.penalised.dedup();
        let penalty = self.params.repeat_penalty;
        for &id in &self.penalised {
            if let Some(logit) = self.logits.get_mut(id as usize) {
                let penalised = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
                *logit = ordered(penalised);
            }
        }
    }

    /// The part of `history` that the penalty concerns; empty when it is off.
    fn recent<'h>(&self, history: &'h [u32]) -> &'h [u32] {
        if self.params.repeat_penalty == 1.0 {
            return &[];
        }
        &history[history.len().saturating_sub(self.params.repeat_last_n)..]
    }

    /// Top-k: the `k` likeliest tokens, sorted, in one pass over the logits.
    fn collect_likeliest(&mut self, k: usize) {
        // Whatever does not exceed the k-th so far is out: of equals, the one with the lower id came first.
        let mut floor = None;
        let enough = 2 * k + 64;
        for candidate in candidates(&self.logits) {
            if floor.is_some_and(|floor| candidate.logit <= floor) {
                continue;
            }
            self.candidates.push(candidate);
            if self.candidates.len() == enough {
                sort_likeliest(&mut self.candidates, k);
                self.candidates.truncate(k);
                floor = Some(self.candidates[k - 1].logit);
            }
        }
        sort_likeliest(&mut self.candidates, k);
        self.candidates.truncate(k);
    }

    /// Top-p: the shortest list of the likeliest tokens whose weights reach the share `top_p` of `total`.
    fn keep_nucleus(&mut self, total: f64) {
        if self.params.top_p >= 1.0 {
            return;
        }
        let goal = f64::from(self.params.top_p) * total;
        // Tokens this unlikely weigh too little together to be needed, so they need no sorting: of a large vocabulary
        // only a few remain.
        let needless = 0.5 * (total - goal) / self.candidates.len() as f64;
        self.candidates.retain(|c| c.weight > needless);
        self.candidates.sort_unstable_by(likelier);
        let mut reached = 0.0;
        let crossing = self.candidates.iter().position(|c| {
            reached += c.weight;
            reached >= goal
        });
        self.candidates.truncate(crossing.map_or(usize::MAX, |last| last + 1));
    }

    /// Min-p: drops what is less likely than `min_p` times the likeliest.
    fn keep_by_ratio(&mut self) {
        let least =
            f64::from(self.params.min_p) * self.candidates.iter().map(|c| c.weight).fold(0.0, f64::max);
        self.candidates.retain(|c| c.weight >= least);
    }

    /// Gives every candidate the weight softmax(logit / temperature); returns their sum, 1 up to rounding.
    fn weigh(&mut self, temperature: f32) -> f64 {
        let max = self.candidates.iter().fold(f32::NEG_INFINITY, |max, c| max.max(c.logit));
        self.scaled.clear();
        // The likeliest have exactly 0, even where all logits are -infinity and the difference would be NaN.
        let scaled = |c: &Candidate| if c.logit == max { 0.0 } else { (c.logit - max) / temperature };
        self.scaled.extend(self.candidates.iter().map(scaled));
        if let Err(error) = softmax_rows(&self.exec, &mut self.scaled, self.candidates.len()) {
            // One row of as many columns: only an empty one is refused.
            debug_assert!(self.candidates.is_empty(), "{error}");
        }
        let mut total = 0.0;
        for (candidate, &weight) in self.candidates.iter_mut().zip(&self.scaled) {
            candidate.weight = f64::from(weight);
            total += candidate.weight;
        }
        total
    }
}

/// Every token, by id.
fn candidates(logits: &[f32]) -> impl Iterator<Item = Candidate> {
    (0u32..).zip(logits).map(|(id, &logit)| Candidate { id, logit, weight: 0.0 })
}

/// Higher logits first, of equals the lower id: a total order without ties.
fn likelier(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.id.cmp(&b.id))
}

/// Brings the `n` likeliest to the front, sorted.
fn sort_likeliest(candidates: &mut [Candidate], n: usize) {
    if n < candidates.len() {
        candidates.select_nth_unstable_by(n, likelier);
        candidates[..n].sort_unstable_by(likelier);
    } else {
        candidates.sort_unstable_by(likelier);
    }
}

/// The index of the largest logit, of equals the lowest; NaN is never the largest. 0 when there is none.
pub fn argmax(logits: &[f32]) -> u32 {
    let (mut best, mut max) = (0, f32::NEG_INFINITY);
    for (id, &logit) in (0u32..).zip(logits) {
        if logit > max {
            (best, max) = (id, logit);
        }
    }
    best
}

#[cfg(test)]
mod tests;
