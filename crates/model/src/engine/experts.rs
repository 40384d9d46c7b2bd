//! Which experts a token visits.
//!
//! The router's logits are f32 products. Of a token's logits (plus a selection bias, which balances experts in
//! training) the `top_k` largest choose its experts, of equals the lower index. Their weights are the softmax over all
//! logits without the bias, divided by the sum of the chosen (largest first) where the model renormalises.
use std::ops::Range;

use chalot_tensor::Activations;
use chalot_tensor::elementwise::add_bias;
use chalot_tensor::exec::ShapeError;
use chalot_tensor::linear::project;
use chalot_tensor::softmax::softmax_rows;

use super::blocks::{Pass, to};
use super::scratch::room;
use crate::config::ExpertsConfig;
use crate::weights::Experts;

/// The visits of a pass's tokens to the experts of a layer.
#[derive(Default)]
pub(super) struct Routing {
    logits: Vec<f32>,
    probabilities: Vec<f32>,
    /// One token's experts, likeliest first.
    chosen: Vec<usize>,
    /// Sorted by expert, then token.
    pub visits: Vec<Visit>,
    /// The visits of one expert each, by ascending expert.
    pub groups: Vec<Group>,
}

/// A token visits an expert.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Visit {
    pub expert: usize,
    pub token: usize,
    pub weight: f32,
}

/// All visits to one expert.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    pub expert: usize,
    pub visits: Range<usize>,
}

impl Routing {
    /// Fills `visits` and `groups`; rows of `x` are tokens.
    pub fn route(
        &mut self,
        pass: &Pass<'_>,
        experts: &Experts,
        x: &mut Activations,
    ) -> Result<(), ShapeError> {
        let count = experts.experts.len();
        let Routing { logits, probabilities, chosen, visits, groups } = self;
        visits.clear();
        groups.clear();
        let Some(config) = &pass.config.experts else { return Ok(()) };
        let logits = room(logits, pass.m * count);
        let probabilities = room(probabilities, pass.m * count);
        project(pass.exec, x, [to(&experts.router, logits)])?;
        probabilities.copy_from_slice(logits);
        softmax_rows(pass.exec, probabilities, count)?;
        if let Some(bias) = &experts.selection_bias {
            add_bias(pass.exec, logits, bias)?;
        }
        let tokens = logits.chunks_exact(count).zip(probabilities.chunks_exact(count));
        for (token, (logits, probabilities)) in tokens.enumerate() {
            choose(logits, config.top_k, chosen);
            let factor = weight_factor(config, probabilities, chosen);
            visits.extend(chosen.iter().map(|&expert| Visit {
                expert,
                token,
                weight: probabilities[expert] / factor * config.scale,
            }));
        }
        visits.sort_unstable_by_key(|visit| (visit.expert, visit.token));
        let mut start = 0;
        for group in visits.chunk_by(|a, b| a.expert == b.expert) {
            groups.push(Group { expert: group[0].expert, visits: start..start + group.len() });
            start += group.len();
        }
        Ok(())
    }
}

/// The experts of a token: the `k` largest `scores`, largest first; of equals the lower index first; NaN counts as the
/// smallest.
pub fn choose(scores: &[f32], k: usize, chosen: &mut Vec<usize>) {
    chosen.clear();
    let score = |i: usize| if scores[i].is_nan() { f32::NEG_INFINITY } else { scores[i] };
    for candidate in 0..scores.len() {
        let place = chosen.partition_point(|&i| score(i) >= score(candidate));
        if place < k {
            chosen.truncate(k - 1);
            chosen.insert(place, candidate);
        }
    }
}

/// What the chosen probabilities are divided by.
pub fn weight_factor(config: &ExpertsConfig, probabilities: &[f32], chosen: &[usize]) -> f32 {
    if config.renormalize { chosen.iter().map(|&expert| probabilities[expert]).sum() } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_are_chosen_and_ties_go_to_the_lower_index() {
        let mut chosen = Vec::new();
        choose(&[1.0, 3.0, 2.0, 3.0], 2, &mut chosen);
        assert_eq!(chosen, [1, 3]);
        choose(&[1.0, 1.0, 1.0], 2, &mut chosen);
        assert_eq!(chosen, [0, 1]);
        choose(&[f32::NAN, -1.0, f32::NAN, 5.0], 3, &mut chosen);
        assert_eq!(chosen, [3, 1, 0]);
        choose(&[2.0, 1.0], 2, &mut chosen);
        assert_eq!(chosen, [0, 1]);
    }

    #[test]
    fn weights_are_renormalised_only_where_the_model_says() {
        let mut config = ExpertsConfig {
            count: 3,
            top_k: 2,
            intermediate_size: 1,
            renormalize: false,
            shared_intermediate_size: None,
            sub_norms: false,
            scale: 1.0,
        };
        assert_eq!(weight_factor(&config, &[0.5, 0.25, 0.25], &[0, 2]), 1.0);
        config.renormalize = true;
        assert_eq!(weight_factor(&config, &[0.5, 0.25, 0.25], &[0, 2]), 0.75);
    }
}
