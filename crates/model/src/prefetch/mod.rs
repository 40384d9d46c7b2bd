//! Models larger than memory: weights are read ahead of their use and released after it, so that what is resident stays under
//! a budget and the computation seldom waits. Results do not change by a bit: only when a page is read does.
//!
//! The model lies in a mapped native file, in which each expert is one range of whole pages. What stays resident is small:
//! attention, routers, norms, the head. Experts come and go ([`residency`] decides which); a dense layer's feed-forward
//! network counts as an expert that every token visits. Some threads do nothing but read and release ([`worker`]); they sleep
//! when there is nothing to do, and the computation waits for them only when it needs what has not arrived.
//!
//! What will be needed is foretold layer by layer: the router of a later layer is applied to the hidden state of the layer
//! at work ([`PrefetchStrategy::lookahead`] layers ahead). For a prompt most experts of a layer are needed, so whole
//! layers are read ahead.
pub(crate) mod platform;
mod regions;
mod residency;
mod stats;
mod worker;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

pub use self::platform::{major_faults, resident_bytes};
use self::regions::Regions;
use self::residency::{Found, Residency};
pub use self::stats::PrefetchStats;
use self::worker::Shared;
use crate::error::ModelError;
use crate::load::Source;
use crate::mapping::Mapping;
use crate::weights::Model;

/// Whether weights are read ahead of their use, and how far.
///
/// A strategy that is not enabled asks for nothing; weights are then read when the computation touches them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefetchStrategy {
    /// Whether anything is read ahead.
    pub enabled: bool,
    /// For how many layers after the one at work experts are foretold. With 0, a layer's experts are asked for when its router
    /// has named them, all at once.
    pub lookahead: usize,
}

impl Default for PrefetchStrategy {
    fn default() -> Self {
        Self { enabled: true, lookahead: 1 }
    }
}

impl PrefetchStrategy {
    /// Asks for the `count` experts of a layer that have the largest `scores` (one for each expert of the layer, as its
    /// router's logits); of equals the lower index. Returns for how many a read was begun: not for those that are there
    /// or on their way.
    pub fn prefetch_top_experts(
        &self,
        prefetcher: &Prefetcher,
        layer: usize,
        scores: &[f32],
        count: usize,
    ) -> usize {
        let mut chosen = Vec::with_capacity(count.min(scores.len()) + 1);
        crate::engine::choose(scores, count, &mut chosen);
        chosen.into_iter().filter(|&expert| self.prefetch_expert_weights(prefetcher, layer, expert)).count()
    }

    /// Asks for one expert (0 for the network of a dense layer); whether a read was begun.
    pub fn prefetch_expert_weights(&self, prefetcher: &Prefetcher, layer: usize, expert: usize) -> bool {
        self.enabled && prefetcher.expect(layer, [expert], true) > 0
    }

    /// Asks for the attention weights, the router and the shared expert of a layer; whether there is such a layer in the file.
    pub fn prefetch_attention_weights(&self, prefetcher: &Prefetcher, layer: usize) -> bool {
        self.enabled && prefetcher.shared.load_attention(layer)
    }
}

/// How a model is held in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefetchOptions {
    /// What is read ahead.
    pub strategy: PrefetchStrategy,
    /// Bytes of memory that the process may take, weights and all; `None`: weights that were read stay.
    pub budget: Option<u64>,
}

/// Reads a model's weights ahead of their use and releases them after it. Shared by all engines that compute the model.
pub struct Prefetcher {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    options: PrefetchOptions,
    /// Bytes that stay resident.
    fixed: u64,
    /// Bytes of slots that the budget must have room for.
    least: u64,
}

impl std::fmt::Debug for Prefetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prefetcher").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Prefetcher {
    /// A prefetcher for `model`, whose weights lie in `mapping`; its threads begin to read what stays resident.
    ///
    /// # Errors
    /// [`ModelError::NotMapped`] when the weights do not lie in the mapping, [`ModelError::Budget`] when the budget cannot hold
    /// what every token needs.
    pub fn new(model: &Model, mapping: Arc<Mapping>, options: PrefetchOptions) -> Result<Self, ModelError> {
        let file = mapping.path().display().to_string();
        let Some(regions) = Regions::of(model, &mapping) else {
            return Err(ModelError::NotMapped { file });
        };
        let sizes: Vec<Vec<u64>> =
            regions.networks.iter().map(|layer| layer.iter().map(Regions::bytes).collect()).collect();
        let all: u64 = sizes.iter().flatten().sum();
        let fixed = model.bytes().saturating_sub(all);
        let largest = sizes.iter().flatten().max().copied().unwrap_or(0);
        let visited = model.config.experts.as_ref().map_or(1, |experts| experts.top_k) as u64;
        // What a token's layer needs, as much again on its way, and what is being read beyond the limit.
        let least = largest * (2 * visited + worker::THREADS as u64);
        if let Some(budget) = options.budget {
            let expected = fixed + least.min(all);
            if budget < expected {
                return Err(ModelError::Budget { file, found: budget, expected });
            }
        }
        let residency = Residency::new(&sizes, options.strategy.enabled);
        let shared = Arc::new(Shared::new(mapping, regions, residency));
        if options.strategy.enabled {
            shared.load_fixed();
        }
        let threads = worker::start(&shared).map_err(|error| ModelError::io(shared.mapping.path(), error))?;
        Ok(Self { shared, threads, options, fixed, least })
    }

    /// A prefetcher for the model that was loaded from `source`.
    ///
    /// # Errors
    /// As [`Prefetcher::new`]; [`ModelError::NotMapped`] when the source is no mapped native file.
    pub fn of_source(model: &Model, source: &Source, options: PrefetchOptions) -> Result<Self, ModelError> {
        match source.mapping() {
            Some(mapping) => Self::new(model, mapping.clone(), options),
            None => Err(ModelError::NotMapped { file: source.file().into() }),
        }
    }

    /// What is read ahead, and the budget.
    pub fn options(&self) -> PrefetchOptions {
        self.options
    }

    /// What was done so far.
    pub fn stats(&self) -> PrefetchStats {
        self.shared.state().residency.stats
    }

    /// Bytes of experts (and dense networks) that are in memory or on their way.
    pub fn resident_experts(&self) -> u64 {
        self.shared.state().residency.resident()
    }

    /// Waits until what stays resident has been read.
    pub fn wait_for_fixed(&self) {
        self.shared.wait_for_fixed();
    }

    /// A forward pass begins.
    ///
    /// # Errors
    /// [`ModelError::Truncated`].
    pub(crate) fn begin_pass(&self) -> Result<(), ModelError> {
        self.shared.mapping.check_length()?;
        let process = platform::resident_bytes();
        let mut state = self.shared.state();
        let residency = &mut state.residency;
        let limit = self.options.budget.map_or(u64::MAX, |budget| {
            // What is resident besides: the rest of the model, keys and values, buffers, the program.
            let others = process.map_or(0, |process| process.saturating_sub(residency.resident()));
            budget.saturating_sub(others.max(self.fixed)).max(self.least)
        });
        residency.begin_pass(limit);
        drop(state);
        self.shared.wake(1);
        Ok(())
    }

    /// These networks of a layer will be needed, certainly or as a guess. For how many a read was begun.
    pub(crate) fn expect(
        &self,
        layer: usize,
        networks: impl IntoIterator<Item = usize>,
        guess: bool,
    ) -> usize {
        let mut state = self.shared.state();
        let residency = &mut state.residency;
        let mut begun = 0;
        for network in networks {
            if let Some(slot) = residency.slot(layer, network) {
                begun += usize::from(residency.expect(slot, guess));
            }
        }
        drop(state);
        self.shared.wake(begun);
        begun
    }

    /// These networks of a layer are needed now, and stay until [`Prefetcher::end_layer`].
    pub(crate) fn need(&self, layer: usize, networks: impl IntoIterator<Item = usize>) {
        let mut state = self.shared.state();
        let residency = &mut state.residency;
        let mut awaited = 0;
        for network in networks {
            if let Some(slot) = residency.slot(layer, network) {
                awaited += usize::from(residency.need(slot) == Found::Awaited);
            }
        }
        drop(state);
        self.shared.wake(awaited);
    }

    /// Which of the needed networks are there, into `ready`; waits until at least one is that `ready` did not name. Whether all
    /// are.
    pub(crate) fn await_more(
        &self,
        layer: usize,
        networks: impl Iterator<Item = usize> + Clone,
        ready: &mut [bool],
    ) -> bool {
        let mut state = self.shared.state();
        let mut waiting_since = None;
        loop {
            let residency = &mut state.residency;
            let (mut news, mut all) = (false, true);
            for (network, ready) in networks.clone().zip(&mut *ready) {
                let there =
                    *ready || residency.slot(layer, network).is_none_or(|slot| residency.is_ready(slot));
                news |= there && !*ready;
                all &= there;
                *ready = there;
            }
            if news || all {
                if let Some(since) = waiting_since.map(|since: Instant| since.elapsed()) {
                    residency.stats.stall += since;
                }
                return all;
            }
            waiting_since.get_or_insert_with(Instant::now);
            self.shared.wake(1);
            state = self.shared.wait(state);
        }
    }

    /// The layer has been computed.
    pub(crate) fn end_layer(&self, layer: usize) {
        let mut state = self.shared.state();
        let residency = &mut state.residency;
        residency.end_layer(layer);
        // Where nothing is loaded, what is over the limit still has to go.
        let work = residency.has_work();
        drop(state);
        self.shared.wake(usize::from(work));
    }
}

impl Drop for Prefetcher {
    fn drop(&mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            // A worker does not panic; if it did, there is nobody to tell.
            let _ = thread.join();
        }
    }
}
