//! Foretelling which weights the layers to come will need, for the prefetcher.
//!
//! The hidden state changes little from one layer to the next, so a later layer's router, applied to the hidden state of the
//! layer at work, names most of the experts that it will name when it is reached. A wrong guess costs a read, never a bit of
//! the result.
use chalot_tensor::Activations;
use chalot_tensor::elementwise::add_bias;
use chalot_tensor::exec::ShapeError;
use chalot_tensor::linear::project;
use chalot_tensor::norm::rms_norm;

use super::EngineError;
use super::blocks::{Pass, to};
use super::experts::choose;
use super::profile::Step;
use super::scratch::room;
use crate::prefetch::Prefetcher;
use crate::weights::{Experts, Ffn};

/// Buffers of a guess.
#[derive(Default)]
pub(super) struct Foresight {
    normed: Activations,
    logits: Vec<f32>,
    chosen: Vec<usize>,
}

/// A pass begins with the first layer: tells the prefetcher, and foretells the first layers.
pub(super) fn begin(pass: &Pass<'_>, foresight: &mut Foresight, hidden: &[f32]) -> Result<(), EngineError> {
    let Some(prefetcher) = pass.prefetcher else { return Ok(()) };
    prefetcher.begin_pass().map_err(|error| EngineError::File(error.to_string()))?;
    let strategy = prefetcher.options().strategy;
    for layer in 0..if strategy.enabled { strategy.lookahead.min(pass.layers.len()) } else { 0 } {
        foresight.layer(pass, prefetcher, layer, hidden)?;
    }
    pass.clock.lap(Step::Waiting);
    Ok(())
}

impl Foresight {
    /// Foretells what the layers after `index` need, from the hidden states `[m][hidden]` before its feed-forward block.
    pub fn layers_after(&mut self, pass: &Pass<'_>, index: usize, hidden: &[f32]) -> Result<(), ShapeError> {
        let Some(prefetcher) = pass.prefetcher else { return Ok(()) };
        let strategy = prefetcher.options().strategy;
        let last =
            if strategy.enabled { (index + strategy.lookahead).min(pass.layers.len() - 1) } else { index };
        (index + 1..=last).try_for_each(|layer| self.layer(pass, prefetcher, layer, hidden))?;
        pass.clock.lap(Step::Waiting);
        Ok(())
    }

    fn layer(
        &mut self,
        pass: &Pass<'_>,
        prefetcher: &Prefetcher,
        index: usize,
        hidden: &[f32],
    ) -> Result<(), ShapeError> {
        let layer = &pass.layers[index];
        match (&layer.ffn, &pass.config.experts) {
            (Ffn::Experts(experts), Some(config)) => {
                // So many tokens together visit nearly all experts.
                if pass.m * config.top_k >= 2 * config.count {
                    prefetcher.expect(index, 0..config.count, true);
                    return Ok(());
                }
                self.guess(pass, experts, &layer.ffn_norm, hidden)?;
                for logits in self.logits[..pass.m * config.count].chunks_exact(config.count) {
                    choose(logits, config.top_k, &mut self.chosen);
                    prefetcher.expect(index, self.chosen.iter().copied(), true);
                }
            }
            _ => {
                prefetcher.expect(index, [0], false);
            }
        }
        Ok(())
    }

    /// The scores `[m][experts]` by which a layer would choose if it were reached with these hidden states.
    fn guess(
        &mut self,
        pass: &Pass<'_>,
        experts: &Experts,
        norm: &[f32],
        hidden: &[f32],
    ) -> Result<(), ShapeError> {
        let Pass { exec, config, m, .. } = *pass;
        rms_norm(exec, hidden, norm, config.norm_eps, self.normed.set(m, config.hidden_size))?;
        let logits = room(&mut self.logits, m * experts.experts.len());
        project(exec, &mut self.normed, [to(&experts.router, logits)])?;
        match &experts.selection_bias {
            Some(bias) => add_bias(exec, logits, bias),
            None => Ok(()),
        }
    }
}
