//! From a draft to a token of the target's distribution.
use crate::sampler::{Distribution, Rng};

/// A draft and the distribution that it was drawn from.
#[derive(Clone, Debug, Default)]
pub(super) struct Proposal {
    /// The drafted token.
    pub token: u32,
    /// Probabilities by token, ascending; those that are not there are 0.
    pub probabilities: Vec<(u32, f64)>,
}

impl Proposal {
    /// A draft that was not drawn: all of the probability is its own.
    pub fn certain(token: u32) -> Self {
        Self { token, probabilities: vec![(token, 1.0)] }
    }

    /// A draft that was drawn from `draft`.
    pub fn drawn(token: u32, draft: &Distribution<'_>) -> Self {
        let share = |weight: f64| weight / draft.total;
        let mut probabilities: Vec<_> = draft.candidates.iter().map(|c| (c.id, share(c.weight))).collect();
        probabilities.sort_unstable_by_key(|&(id, _)| id);
        Self { token, probabilities }
    }

    fn probability(&self, token: u32) -> f64 {
        match self.probabilities.binary_search_by_key(&token, |&(id, _)| id) {
            Ok(index) => self.probabilities[index].1,
            Err(_) => 0.0,
        }
    }
}

/// A rule by which a draft becomes a token.
pub(super) type Rule = fn(&Distribution<'_>, &Proposal, &mut Rng) -> u32;

/// Rejection sampling (Leviathan, Kalman and Matias, "Fast inference from transformers via speculative decoding", 2023;
/// Chen et al., "Accelerating large language model decoding with speculative sampling", 2023).
///
/// With p the target's distribution and q the draft's, the draft x is accepted with probability min(1, p(x)/q(x)), otherwise
/// the token is drawn from max(0, p - q), scaled. Token t then comes with min(p(t), q(t)) from the first and with
/// max(0, p(t) - q(t)) from the second, because what is rejected in all is what the residual sums up to: p(t) together.
pub(super) fn rejection(target: &Distribution<'_>, draft: &Proposal, rng: &mut Rng) -> u32 {
    let probability = |weight: f64| weight / target.total;
    let of_draft = target.candidates.iter().find(|c| c.id == draft.token);
    let p = of_draft.map_or(0.0, |c| probability(c.weight));
    let q = draft.probability(draft.token);
    if rng.next_f64() * q < p {
        return draft.token;
    }
    let residual = |id: u32, weight: f64| (probability(weight) - draft.probability(id)).max(0.0);
    let total: f64 = target.candidates.iter().map(|c| residual(c.id, c.weight)).sum();
    let mut left = rng.next_f64() * total;
    let mut last = None;
    for candidate in target.candidates {
        let share = residual(candidate.id, candidate.weight);
        if share > 0.0 {
            last = Some(candidate.id);
            left -= share;
            if left < 0.0 {
                break;
            }
        }
    }
    // Without a residual the two distributions are equal up to rounding, and the draft is as good a token as any.
    last.unwrap_or(draft.token)
}
