//! The mixture-of-experts feed-forward layer.
//!
//! The router's logits are f32 products. Of a token's logits (plus a selection bias, which balances experts in
//! training) the `top_k` largest choose its experts, of equals the lower index. Their weights are the softmax over all
//! logits without the bias, divided by the sum of the chosen (largest first) where the model renormalises.
//!
//! Tokens are grouped by expert, so that an expert's matrices are read once for all of them. A token's sum has a fixed
//! order whatever the group: from zero, its experts by ascending index, each `sum = sum + (weight * y)` rounded twice,
//! then the shared expert. Products are independent of how many rows they are made for, so the bits of a
//! token do not depend on the tokens beside it.
use chalot_tensor::Activations;
use chalot_tensor::elementwise::add_assign;
use chalot_tensor::exec::ShapeError;
use chalot_tensor::linear::project;
use chalot_tensor::softmax::softmax_rows;

use super::blocks::{Pass, gated_ffn, to};
use super::scratch::{FfnBuffers, room};
use crate::config::ExpertsConfig;
use crate::weights::Experts;

/// Which tokens visit which experts.
#[derive(Default)]
pub(super) struct Routing {
    logits: Vec<f32>,
    probabilities: Vec<f32>,
    /// One token's experts, likeliest first.
    chosen: Vec<usize>,
    /// Sorted by expert, then token.
    visits: Vec<Visit>,
    /// The rows of one expert's tokens: `[n][hidden]`.
    gathered: Activations,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Visit {
    expert: usize,
    token: usize,
    weight: f32,
}

/// `out = sum of weight * expert(x)` over each token's experts, plus the shared expert; rows of `x` are tokens.
pub(super) fn mixture(
    pass: &Pass<'_>,
    experts: &Experts,
    x: &mut Activations,
    routing: &mut Routing,
    buffers: &mut FfnBuffers,
    out: &mut [f32],
) -> Result<(), ShapeError> {
    let (m, hidden) = (pass.m, pass.config.hidden_size);
    routing.route(pass, experts, x)?;
    out.fill(0.0);
    let Routing { visits, gathered, .. } = routing;
    // Lent out, because the networks below use the other buffers.
    let mut one = std::mem::take(&mut buffers.out);
    for group in visits.chunk_by(|a, b| a.expert == b.expert) {
        let expert = &experts.experts[group[0].expert];
        let rows = room(&mut one, group.len() * hidden);
        if group.len() == m {
            // Every token of the pass, in order: no copy, and what is already quantized stays so.
            gated_ffn(pass, expert, m, x, buffers, rows)?;
        } else {
            gather(x.as_f32(), hidden, group, gathered.set(group.len(), hidden));
            gated_ffn(pass, expert, group.len(), gathered, buffers, rows)?;
        }
        scatter_add(rows, hidden, group, out);
    }
    if let Some(shared) = &experts.shared {
        let rows = room(&mut one, m * hidden);
        gated_ffn(pass, shared, m, x, buffers, rows)?;
        add_assign(pass.exec, out, rows)?;
    }
    buffers.out = one;
    Ok(())
}

impl Routing {
    /// Fills `visits`.
    fn route(&mut self, pass: &Pass<'_>, experts: &Experts, x: &mut Activations) -> Result<(), ShapeError> {
        let count = experts.experts.len();
        let Routing { logits, probabilities, chosen, visits, .. } = self;
        let logits = room(logits, pass.m * count);
        let probabilities = room(probabilities, pass.m * count);
        project(pass.exec, x, [to(&experts.router, logits)])?;
        probabilities.copy_from_slice(logits);
        softmax_rows(pass.exec, probabilities, count)?;
        if let Some(bias) = &experts.selection_bias {
            chalot_tensor::elementwise::add_bias(pass.exec, logits, bias)?;
        }
        visits.clear();
        let Some(config) = &pass.config.experts else { return Ok(()) };
        for (token, (logits, probabilities)) in
            logits.chunks_exact(count).zip(probabilities.chunks_exact(count)).enumerate()
        {
            choose(logits, config.top_k, chosen);
            let factor = weight_factor(config, probabilities, chosen);
            visits.extend(chosen.iter().map(|&expert| Visit {
                expert,
                token,
                weight: probabilities[expert] / factor * config.scale,
            }));
        }
        visits.sort_unstable_by_key(|visit| (visit.expert, visit.token));
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

fn gather(x: &[f32], hidden: usize, group: &[Visit], rows: &mut [f32]) {
    for (visit, row) in group.iter().zip(rows.chunks_exact_mut(hidden)) {
        row.copy_from_slice(&x[visit.token * hidden..][..hidden]);
    }
}

fn scatter_add(rows: &[f32], hidden: usize, group: &[Visit], out: &mut [f32]) {
    for (visit, row) in group.iter().zip(rows.chunks_exact(hidden)) {
        for (sum, y) in out[visit.token * hidden..][..hidden].iter_mut().zip(row) {
            *sum += visit.weight * y;
        }
    }
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
