//! One text in the making: its tokens and their cache.
use chalot_tensor::attention::KvType;
use chalot_tensor::matrix::Format;

use crate::engine::EngineError;
use crate::kv::{KvCache, KvPool, KvPoolOptions, KvShape};
use crate::weights::Model;

/// What a new sequence may hold and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceOptions {
    /// The most tokens it may hold. `None`: as many as the model was made for.
    pub context: Option<usize>,
    /// What keys and values are stored as. `None`: f32 in small models and where the matrices are f32, otherwise f16.
    pub kv: Option<KvType>,
}

/// The tokens of one text and, for each layer, their keys and values.
///
/// A sequence belongs to the model it was made for; any engine of that model may continue it. Cutting it
/// ([`Sequence::truncate`]) and extending it again gives the same bits as never having gone the other way.
#[derive(Clone, Debug)]
pub struct Sequence {
    tokens: Vec<u32>,
    context: usize,
    pub(crate) kv: KvCache,
}

impl Sequence {
    /// An empty sequence with memory of its own. Memory is taken as it grows, not for the whole context.
    ///
    /// # Errors
    /// [`EngineError::ContextLength`] when the context is 0 or longer than the model was made for.
    pub fn new(model: &Model, options: SequenceOptions) -> Result<Self, EngineError> {
        Self::in_pool(model, options, &KvPool::new(KvPoolOptions::default()))
    }

    /// An empty sequence with memory of `pool`, all of whose sequences are of this model.
    ///
    /// # Errors
    /// [`EngineError::ContextLength`] when the context is 0 or longer than the model was made for.
    pub fn in_pool(model: &Model, options: SequenceOptions, pool: &KvPool) -> Result<Self, EngineError> {
        let trained = model.config.context_length;
        let context = options.context.unwrap_or(trained);
        if context == 0 || context > trained {
            return Err(EngineError::ContextLength { asked: context, trained });
        }
        let ty = options.kv.unwrap_or_else(|| natural_kv(model));
        let kv = KvCache::new(KvShape::of(&model.config, ty), pool.clone());
        Ok(Self { tokens: Vec::new(), context, kv })
    }

    /// The tokens computed so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The most tokens it may hold.
    pub fn context(&self) -> usize {
        self.context
    }

    /// The keys and values.
    pub fn kv(&self) -> &KvCache {
        &self.kv
    }

    /// Forgets everything after the first `len` tokens, as if it had never been computed. Longer than the sequence:
    /// nothing happens.
    pub fn truncate(&mut self, len: usize) {
        if len < self.tokens.len() {
            self.tokens.truncate(len);
        }
        // Also drops what an unfinished draft wrote past the tokens.
        self.kv.truncate(self.tokens.len());
    }

    /// Drops what a draft wrote past the tokens, but not its blocks: drafts come again and again.
    pub(crate) fn rewind(&mut self) {
        self.kv.rewind(self.tokens.len());
    }

    /// A second sequence that begins with the first `len` tokens of this one and shares their cache: blocks are
    /// copied only where one of the two writes into a block that both hold.
    pub fn fork(&self, len: usize) -> Self {
        let mut fork = self.clone();
        fork.truncate(len);
        fork
    }

    /// How many of `tokens` this sequence begins with: what need not be computed again.
    pub fn common_prefix(&self, tokens: &[u32]) -> usize {
        self.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count()
    }

    /// Whether `new` more tokens fit.
    ///
    /// # Errors
    /// [`EngineError::ContextOverflow`] says by how many they do not.
    pub fn check_room(&self, new: usize) -> Result<(), EngineError> {
        let (used, context) = (self.len(), self.context);
        if new > context - used { Err(EngineError::ContextOverflow { used, new, context }) } else { Ok(()) }
    }

    /// Makes the sequence begin with what is known of `tokens`: what it holds of them itself, or what other sequences of its
    /// pool have computed of them, whichever is longer. Returns how many of `tokens` it holds now; what else it may
    /// have held comes after these, or is forgotten.
    ///
    /// To go on with a text, leave out its last token, whose logits are needed.
    pub fn adopt(&mut self, tokens: &[u32]) -> usize {
        let tokens = &tokens[..tokens.len().min(self.context)];
        let own = self.common_prefix(tokens);
        match self.kv.adopt(tokens, own) {
            Some(len) => {
                self.tokens.clear();
                self.tokens.extend_from_slice(&tokens[..len]);
                len
            }
            None => own,
        }
    }

    /// Takes the memory for `new` more tokens now, so that computing them cannot fail for want of it.
    ///
    /// # Errors
    /// [`EngineError::ContextOverflow`] when they do not fit; [`EngineError::Memory`] when there is no memory for all of them.
    pub fn reserve(&mut self, new: usize) -> Result<(), EngineError> {
        self.check_room(new)?;
        let layers = self.kv.shape().layers;
        Ok(self.kv.reserve(0..layers, self.len()..self.len() + new)?)
    }

    /// Takes in tokens whose keys and values every layer has written.
    pub(crate) fn commit(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
        self.kv.publish(&self.tokens);
    }
}

/// Up to this many bytes of keys and values a token, the default cache stays in f32 (SmolLM2-135M: 45 KiB; BitNet 2B-4T:
/// 150 KiB).
const SMALL_CACHE: usize = 64 << 10;

/// Where the weights are exact, so is the cache. A small model's is exact too: it is cheap, and small models often
/// choose between near-equals, where even the rounding of f16 (2⁻¹¹) can turn an answer. In larger ones half the
/// memory traffic is worth that rounding.
fn natural_kv(model: &Model) -> KvType {
    let exact = |matrix: &chalot_tensor::matrix::Matrix| matrix.format() == Format::F32;
    let config = &model.config;
    let token = config.num_layers() * 2 * config.num_kv_heads * config.head_dim * size_of::<f32>();
    let small = token <= SMALL_CACHE;
    if small || model.layers.iter().all(|layer| exact(&layer.attention.k.weight)) {
        KvType::F32
    } else {
        KvType::F16
    }
}
