//! A byte-level BPE vocabulary that is trained, and then used: a small face of [`chalot_tokenizer`].
use std::{convert::Infallible, ops::ControlFlow};

use chalot_tokenizer::{
    Specials, Tokenizer,
    train::{TrainOptions, Trainer},
};

use crate::error::Error;

/// A vocabulary: nothing until it is trained, then up to as many entries as wanted.
///
/// Options beyond the size, files as input, progress and interruption: [`chalot_tokenizer::train`]. Files of other
/// vocabularies: [`Tokenizer`].
#[derive(Clone, Debug)]
pub struct OptimizedTokenizer {
    options: TrainOptions,
    tokenizer: Option<Tokenizer>,
}

/// How large a vocabulary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenizerStats {
    /// Entries.
    pub vocab_size: usize,
    /// Bytes of the entries and merges, with the tables that find them.
    pub memory_bytes: usize,
}

impl TokenizerStats {
    /// Memory of the vocabulary in megabytes (10^6 bytes).
    pub fn memory_mb(&self) -> f64 {
        self.memory_bytes as f64 / 1e6
    }
}

impl OptimizedTokenizer {
    /// To be trained to `vocab_size` entries, at least 256: the first are the bytes. GPT-2's pattern, no special tokens, pairs
    /// that occur twice.
    pub fn new(vocab_size: usize) -> Self {
        let special_tokens = Vec::new();
        Self {
            options: TrainOptions { vocab_size, special_tokens, ..TrainOptions::default() },
            tokenizer: None,
        }
    }

    /// Trains on texts, in place of what was trained before, on all cores. Each text is cut into words by itself.
    ///
    /// # Errors
    /// [`Error::Train`] for a vocabulary of less than 256 entries, or too much text.
    pub fn train_optimized<T: AsRef<[u8]> + Sync>(&mut self, texts: &[T]) -> Result<(), Error> {
        let mut trainer = Trainer::new(self.options.clone())?;
        let mut go = |_| ControlFlow::Continue(());
        let Ok(_) = trainer.count(texts.iter().map(|text| Ok::<_, Infallible>(text.as_ref())), &mut go);
        let _ = trainer.merge(&mut go)?;
        self.tokenizer = Some(trainer.tokenizer()?);
        Ok(())
    }

    /// The ids of a text; of an untrained vocabulary none.
    pub fn encode_optimized(&self, text: impl AsRef<[u8]>) -> Vec<u32> {
        self.tokenizer.as_ref().map(|tokenizer| tokenizer.encode(text, Specials::AsText)).unwrap_or_default()
    }

    /// The text of ids; what is no UTF-8 becomes U+FFFD, ids that do not exist give nothing.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.tokenizer.as_ref().map(|tokenizer| tokenizer.decode_lossy(ids)).unwrap_or_default()
    }

    /// How large the vocabulary is: nothing before it is trained.
    pub fn stats(&self) -> TokenizerStats {
        TokenizerStats {
            vocab_size: self.tokenizer.as_ref().map_or(0, Tokenizer::vocab_size),
            memory_bytes: self.tokenizer.as_ref().map_or(0, Tokenizer::memory_bytes),
        }
    }

    /// The vocabulary behind it, once it is trained: to save it, for special tokens, batches, streams.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }
}
