//! The decoder: from tokens to logits.
//!
//! One forward pass serves every family; [`ModelConfig`](crate::ModelConfig) says which norms, biases, rotations,
//! windows, caps and experts there are. A layer is
//!
//! ```text
//! h += post_norm(o(sub_norm(attention(rope(qk_norm(q, k)), v))))   of norm(h)
//! h += post_norm(down(sub_norm(act(gate) * up)))                   of norm(h), or a mixture of such networks
//! ```
//!
//! Invariant: the logits of a token depend on the model and on the tokens before it, never on how these were cut
//! into passes and chunks, on the threads, or on the instruction set. Every operation used here keeps the rows of a pass
//! independent of each other; nothing in this module reduces over tokens.
mod blocks;
mod check;
mod error;
mod experts;
mod foresight;
mod mixture;
mod profile;
mod scratch;

use std::ops::Range;
use std::sync::Arc;

use chalot_tensor::elementwise::{scale_assign, soft_cap};
use chalot_tensor::exec::Exec;
use chalot_tensor::norm::rms_norm_for;
use chalot_tensor::rope::RopeTable;
use chalot_tensor::{Matrix, matmul};

pub use error::EngineError;
pub use experts::{choose, weight_factor};
pub use profile::{Profile, Step};

use self::blocks::{Pass, attention_block, ffn_block};
use self::profile::Clock;
use self::scratch::{Scratch, room};
use crate::config::RopeConfig;
use crate::kv::KvShape;
use crate::prefetch::Prefetcher;
use crate::sequence::Sequence;
use crate::weights::Model;

/// Logits that are held at once: 4 Mi numbers, 16 MiB.
const LOGITS_AT_ONCE: usize = 1 << 22;

/// How an engine works. Nothing here changes a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineOptions {
    /// Tokens of a prompt computed in one pass: larger reuses weights better and needs more scratch.
    pub chunk: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { chunk: 256 }
    }
}

/// A model, the threads and instructions that compute it, and the scratch it needs.
///
/// One engine serves any number of sequences, one after the other. Once its buffers have grown to the largest pass,
/// a token allocates nothing but, every 64 tokens, the next cache block of each layer.
pub struct Engine {
    model: Arc<Model>,
    exec: Exec,
    options: EngineOptions,
    ropes: Vec<RopeTable>,
    /// Hidden states of the pass: `[m][hidden]`.
    hidden: Vec<f32>,
    scratch: Scratch,
    prefetcher: Option<Arc<Prefetcher>>,
    /// What passes take, while somebody wants to know.
    profile: Option<Profile>,
}

impl Engine {
    /// An engine for `model`.
    ///
    /// # Errors
    /// [`EngineError::Option`] for a chunk of 0, [`EngineError::Model`] when the configuration contradicts itself or the
    /// weights.
    pub fn new(model: Arc<Model>, exec: Exec, options: EngineOptions) -> Result<Self, EngineError> {
        if options.chunk == 0 {
            return Err(EngineError::Option { option: "chunk", found: "0".into(), expected: "at least 1" });
        }
        check::check_model(&model)?;
        let ropes = rope_tables(&model)?;
        Ok(Self {
            model,
            exec,
            options,
            ropes,
            hidden: Vec::new(),
            scratch: Scratch::default(),
            prefetcher: None,
            profile: None,
        })
    }

    /// Has the weights read ahead of their use, and released after it. The prefetcher must have been made for the same model.
    #[must_use]
    pub fn with_prefetcher(mut self, prefetcher: Option<Arc<Prefetcher>>) -> Self {
        self.prefetcher = prefetcher;
        self
    }

    /// What reads the weights ahead of their use.
    pub fn prefetcher(&self) -> Option<&Arc<Prefetcher>> {
        self.prefetcher.as_ref()
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// Where and how it computes.
    pub fn exec(&self) -> &Exec {
        &self.exec
    }

    /// How it works.
    pub fn options(&self) -> EngineOptions {
        self.options
    }

    /// Does `work` and says where the time of its passes went.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use chalot_model::{Engine, EngineError, EngineOptions, Model, Sequence, SequenceOptions, Step};
    /// # fn example(engine: &mut Engine, sequence: &mut Sequence) -> Result<(), EngineError> {
    /// let (result, profile) = engine.profiled(|engine| engine.prefill(sequence, &[1, 2, 3]));
    /// result?;
    /// println!("attention took {:?} of {:?}", profile.of(Step::Attention), profile.total());
    /// # Ok(())
    /// # }
    /// ```
    pub fn profiled<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> (T, Profile) {
        self.profile = Some(Profile::default());
        let result = work(self);
        (result, self.profile.take().unwrap_or_default())
    }

    /// Appends `tokens` and returns the logits `[vocab]` of what follows the last one.
    ///
    /// # Errors
    /// [`EngineError`], before anything is computed: no tokens, one that the vocabulary does not have, no room, no memory for
    /// their keys and values, a sequence of another model.
    pub fn forward(&mut self, seq: &mut Sequence, tokens: &[u32]) -> Result<&[f32], EngineError> {
        self.advance(seq, tokens, |_, _, _| Ok(()))?;
        self.with_hidden(|engine, hidden| {
            let last = hidden.len() - engine.model.config.hidden_size;
            engine.compute_logits(&hidden[last..])
        })?;
        Ok(&self.scratch.logits[..self.model.config.vocab_size])
    }

    /// Appends `tokens` and calls `each` with the index and the logits `[vocab]` of every one of them.
    ///
    /// # Errors
    /// As [`Engine::forward`].
    pub fn forward_all(
        &mut self,
        seq: &mut Sequence,
        tokens: &[u32],
        each: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), EngineError> {
        let (width, vocab) = (self.model.config.hidden_size, self.model.config.vocab_size);
        let rows_at_once = (LOGITS_AT_ONCE / vocab).max(1);
        self.advance(seq, tokens, |engine, first, hidden| {
            let mut index = first;
            for rows in hidden.chunks(rows_at_once * width) {
                engine.compute_logits(rows)?;
                for logits in engine.scratch.logits[..rows.len() / width * vocab].chunks_exact(vocab) {
                    each(index, logits);
                    index += 1;
                }
            }
            Ok(())
        })
    }

    /// Appends `tokens` without computing logits.
    ///
    /// # Errors
    /// As [`Engine::forward`].
    pub fn prefill(&mut self, seq: &mut Sequence, tokens: &[u32]) -> Result<(), EngineError> {
        self.advance(seq, tokens, |_, _, _| Ok(()))
    }

    /// The hidden states `[tokens][hidden]` that the first layer reads.
    ///
    /// # Errors
    /// [`EngineError::TokenOutOfRange`].
    pub fn embed(&self, tokens: &[u32], hidden: &mut Vec<f32>) -> Result<(), EngineError> {
        self.check_tokens(tokens)?;
        let config = &self.model.config;
        let rows = room(hidden, tokens.len() * config.hidden_size);
        self.model.embedding.gather(&self.exec, tokens, rows)?;
        if config.embedding_scale != 1.0 {
            scale_assign(&self.exec, rows, config.embedding_scale);
        }
        hidden.truncate(tokens.len() * config.hidden_size);
        Ok(())
    }

    /// Takes the hidden states `[m][hidden]` of the tokens at `first_position ..` through some of the layers, writing
    /// their keys and values. The sequence's tokens stay as they are: this is the piece from which a draft that leaves
    /// the model early, and its verification that goes on from there, are made. Entries that turn out wrong
    /// are overwritten, or dropped by [`Sequence::truncate`].
    ///
    /// # Errors
    /// [`EngineError`] when a layer does not exist, the hidden states are no whole rows, the positions do not fit the
    /// context or leave a gap after what the layers have.
    pub fn layers(
        &mut self,
        seq: &mut Sequence,
        layers: Range<usize>,
        first_position: usize,
        hidden: &mut [f32],
    ) -> Result<(), EngineError> {
        let Self { model, exec, ropes, scratch, prefetcher, profile, .. } = self;
        let config = &model.config;
        let width = config.hidden_size;
        let input = |what, found, expected| Err(EngineError::Input { what, found, expected });
        check_sequence(model, seq)?;
        if layers.end > model.layers.len() {
            return input("the end of the layers", layers.end, model.layers.len());
        }
        let m = hidden.len() / width;
        if m * width != hidden.len() {
            return input("the hidden states' length", hidden.len(), (m + 1) * width);
        }
        if m > seq.context().saturating_sub(first_position) {
            return Err(EngineError::ContextOverflow {
                used: first_position,
                new: m,
                context: seq.context(),
            });
        }
        if let Some(layer) = layers.clone().find(|&layer| seq.kv.len(layer) < first_position) {
            return input("the first position", first_position, seq.kv.len(layer));
        }
        seq.kv.reserve(layers.clone(), first_position..first_position + m)?;
        let prefetcher = prefetcher.as_deref();
        let clock = &Clock::start(profile.as_ref());
        let pass = Pass { exec, config, ropes, first_position, m, prefetcher, layers: &model.layers, clock };
        let _awake = exec.pool.stay_awake();
        if layers.start == 0 {
            foresight::begin(&pass, &mut scratch.foresight, hidden)?;
        }
        for index in layers {
            let layer = &model.layers[index];
            attention_block(&pass, index, &layer.attention, &mut seq.kv, scratch, hidden)?;
            ffn_block(&pass, (index, layer), scratch, hidden)?;
        }
        clock.stop(profile);
        Ok(())
    }

    /// The logits `[rows][vocab]` of hidden states `[rows][hidden]` that left some layer (not only the last: a shallow
    /// exit uses the same norm and head).
    ///
    /// # Errors
    /// [`EngineError::Shape`] when `hidden` is no whole rows.
    pub fn logits(&mut self, hidden: &[f32]) -> Result<&[f32], EngineError> {
        self.compute_logits(hidden)?;
        let rows = hidden.len() / self.model.config.hidden_size;
        Ok(&self.scratch.logits[..rows * self.model.config.vocab_size])
    }

    /// The logits of a head other than the model's, `[rows][head.rows()]`: of fewer tokens, for drafts.
    pub(crate) fn logits_of(&mut self, head: &Matrix, hidden: &[f32]) -> Result<&[f32], EngineError> {
        self.compute_logits_of(Some(head), hidden)?;
        let rows = hidden.len() / self.model.config.hidden_size;
        Ok(&self.scratch.logits[..rows * head.rows()])
    }

    /// A row of the logits that were computed last, by the model's own head; empty when there is no such row.
    pub(crate) fn row_of_logits(&self, row: usize) -> &[f32] {
        let vocab = self.model.config.vocab_size;
        self.scratch.logits.chunks_exact(vocab).nth(row).unwrap_or_default()
    }

    fn compute_logits(&mut self, hidden: &[f32]) -> Result<(), EngineError> {
        self.compute_logits_of(None, hidden)
    }

    fn compute_logits_of(&mut self, head: Option<&Matrix>, hidden: &[f32]) -> Result<(), EngineError> {
        let Self { model, exec, scratch: Scratch { normed, logits, .. }, profile, .. } = self;
        let (config, head) = (&model.config, head.unwrap_or(model.head()));
        let rows = hidden.len() / config.hidden_size;
        let logits = room(logits, rows * head.rows());
        let clock = Clock::start(profile.as_ref());
        rms_norm_for(exec, hidden, &model.final_norm, config.norm_eps, normed, &[head])?;
        clock.lap(Step::Norms);
        matmul(exec, head, normed, logits)?;
        if let Some(cap) = config.final_soft_cap {
            soft_cap(exec, logits, cap);
        }
        clock.lap(Step::Head);
        clock.stop(profile);
        Ok(())
    }

    /// Takes `tokens` through all layers, chunk by chunk, and appends them. `after` sees each chunk's first index and
    /// its last hidden states; those of the last chunk stay in `self.hidden`.
    fn advance(
        &mut self,
        seq: &mut Sequence,
        tokens: &[u32],
        mut after: impl FnMut(&mut Self, usize, &[f32]) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        self.check(seq, tokens)?;
        seq.reserve(tokens.len())?;
        let chunk_len = self.options.chunk;
        for (number, chunk) in tokens.chunks(chunk_len).enumerate() {
            self.with_hidden(|engine, hidden| {
                let clock = Clock::start(engine.profile.as_ref());
                engine.embed(chunk, hidden)?;
                clock.lap(Step::Embedding);
                clock.stop(&mut engine.profile);
                engine.layers(seq, 0..engine.model.layers.len(), seq.len(), hidden)?;
                seq.commit(chunk);
                after(engine, number * chunk_len, hidden)
            })?;
        }
        Ok(())
    }

    /// Lends the engine's own hidden states beside the engine.
    fn with_hidden(
        &mut self,
        work: impl FnOnce(&mut Self, &mut Vec<f32>) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let mut hidden = std::mem::take(&mut self.hidden);
        let result = work(self, &mut hidden);
        self.hidden = hidden;
        result
    }

    /// Whether `tokens` could be appended to `seq`, its length apart.
    pub(crate) fn check(&self, seq: &Sequence, tokens: &[u32]) -> Result<(), EngineError> {
        if tokens.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        self.check_tokens(tokens)?;
        check_sequence(&self.model, seq)
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<(), EngineError> {
        let vocab = self.model.config.vocab_size;
        match tokens.iter().position(|&token| token as usize >= vocab) {
            Some(index) => Err(EngineError::TokenOutOfRange { index, token: tokens[index], last: vocab - 1 }),
            None => Ok(()),
        }
    }
}

/// Whether the sequence's cache has this model's shape.
fn check_sequence(model: &Model, seq: &Sequence) -> Result<(), EngineError> {
    let found = seq.kv.shape();
    let expected = KvShape::of(&model.config, found.ty);
    if found == expected {
        return Ok(());
    }
    Err(EngineError::ForeignSequence { found: found.to_string(), expected: expected.to_string() })
}

/// The tables fill themselves as positions are reached, so they are made for the model's whole context.
fn rope_tables(model: &Model) -> Result<Vec<RopeTable>, EngineError> {
    let positions = model.config.context_length;
    let table = |rope: &RopeConfig| RopeTable::new(rope.dims, rope.theta, &rope.scaling, positions);
    let tables: Result<_, _> = model.config.rope.iter().map(table).collect();
    tables.map_err(|error| EngineError::Model(error.to_string()))
}
