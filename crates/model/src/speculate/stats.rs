//! What speculation did and what it gained.
use std::time::Duration;

use super::options::MAX_DRAFTS;

/// Counts and times of one generation.
///
/// The speed-up is measured: now and then a step is made without drafts (in any mode one of 32), and what tokens cost in
/// these is compared with what they cost over all. Times include sampling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpeculationStats {
    /// Tokens that were drafted.
    pub drafted: usize,
    /// Drafts that were right. Drafts after a wrong one count as drafted.
    pub accepted: usize,
    /// Drafts that were compared with the target's token: all before them were right.
    pub reached: usize,
    /// Drafted and right ones by their place in the draft, the first at 0.
    pub positions: [(usize, usize); MAX_DRAFTS],
    /// Passes of the deep layers that verified drafts.
    pub deep_passes: usize,
    /// Tokens that these gave: the drafts that were right and one more each.
    pub deep_tokens: usize,
    /// Time of all steps with drafts, or with the attempt to draft.
    pub time: Duration,
    /// Tokens of these.
    pub tokens: usize,
    /// Steps without drafts, one token each.
    pub plain_steps: usize,
    /// Time of these.
    pub plain_time: Duration,
}

impl SpeculationStats {
    /// Adds what another generation did.
    pub fn add(&mut self, other: &Self) {
        self.drafted += other.drafted;
        self.accepted += other.accepted;
        self.reached += other.reached;
        for (sum, position) in self.positions.iter_mut().zip(&other.positions) {
            *sum = (sum.0 + position.0, sum.1 + position.1);
        }
        self.deep_passes += other.deep_passes;
        self.deep_tokens += other.deep_tokens;
        self.time += other.time;
        self.tokens += other.tokens;
        self.plain_steps += other.plain_steps;
        self.plain_time += other.plain_time;
    }

    /// The share of drafts that were right; `None` without drafts.
    pub fn acceptance_rate(&self) -> Option<f64> {
        (self.drafted > 0).then(|| self.accepted as f64 / self.drafted as f64)
    }

    /// The share of right ones among drafts whose predecessors were all right; `None` without drafts.
    pub fn conditional_acceptance(&self) -> Option<f64> {
        (self.reached > 0).then(|| self.accepted as f64 / self.reached as f64)
    }

    /// Tokens that a verifying pass gave; `None` without any.
    pub fn tokens_per_pass(&self) -> Option<f64> {
        (self.deep_passes > 0).then(|| self.deep_tokens as f64 / self.deep_passes as f64)
    }

    /// How many times as fast the tokens came as without drafts, both measured in this generation; `None` until there are steps
    /// of both kinds.
    pub fn speedup(&self) -> Option<f64> {
        if self.plain_steps == 0 || self.tokens == 0 {
            return None;
        }
        let each = self.plain_time.as_secs_f64() / self.plain_steps as f64;
        let all = (self.plain_time + self.time).as_secs_f64() / (self.plain_steps + self.tokens) as f64;
        (all > 0.0).then(|| each / all)
    }

    /// The rows of [`SpeculationStats::positions`] that were used.
    pub fn used_positions(&self) -> &[(usize, usize)] {
        let used = self.positions.iter().take_while(|(drafted, _)| *drafted > 0).count();
        &self.positions[..used]
    }
}
