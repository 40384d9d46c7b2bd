//! Training: from text to the merges of a byte-level vocabulary.
//!
//! Byte-pair encoding ([Sennrich et al. 2016]) joins the most frequent pair of neighbouring tokens, again and again. It looks
//! at the different pre-tokens of the text only, each with its count, so training has two phases:
//!
//! 1. [`Trainer::count`] cuts the texts into pre-tokens on several threads and counts them. The texts come one after the
//!    other; only the table of different pre-tokens must fit in memory.
//! 2. [`Trainer::merge`] finds the merges.
//!
//! The merges are those of Hugging Face's `BpeTrainer` for the same texts: of equally frequent pairs the one with the lower
//! ids is merged first, where ids are given to the special tokens, to the bytes in the order of their characters in the byte
//! alphabet, and to the merges. They do not depend on the number of threads.
//!
//! Both phases can be stopped, saved ([`Trainer::save`]) and gone on with later ([`Trainer::resume`]); the result is the same.
//!
//! [Sennrich et al. 2016]: https://aclanthology.org/P16-1162/
//!
//! ```
//! use std::ops::ControlFlow;
//! use chalot_tokenizer::Specials;
//! use chalot_tokenizer::train::{TrainError, TrainOptions, Trainer};
//!
//! # fn main() -> Result<(), TrainError> {
//! let options = TrainOptions { vocab_size: 260, ..TrainOptions::default() };
//! let mut trainer = Trainer::new(options)?;
//! let texts = ["the cat", "the hat"];
//! let _ = trainer.count(texts.into_iter().map(Ok::<_, TrainError>), &mut |_| ControlFlow::Continue(()))?;
//! let _ = trainer.merge(&mut |_| ControlFlow::Continue(()))?;
//! let tokenizer = trainer.tokenizer()?;
//! assert_eq!(tokenizer.token_text(257), Some("at".into()));
//! assert_eq!(tokenizer.decode(&tokenizer.encode("that", Specials::AsText)), b"that");
//! # Ok(())
//! # }
//! ```

mod build;
pub(crate) mod chunks;
mod count;
mod error;
mod ids;
mod linear;
mod merge;
mod queue;
mod speed;
mod state;
pub(crate) use state::{aside, write_aside};
mod words;

use std::ops::ControlFlow;

use count::Position;
pub use error::TrainError;
use ids::Ids;
use merge::Merger;
pub use speed::Speed;
use words::Words;

use crate::pretokenize::{Pattern, PreTokenize};
use crate::spec::PreTokenizer;
use crate::{Tokenizer, TokenizerError};

/// What is trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainOptions {
    /// Entries of the vocabulary: special tokens, single bytes and merges. There are fewer where the text has no more pairs.
    pub vocab_size: usize,
    /// A pair that occurs less often is not merged; at least 1.
    pub min_frequency: u64,
    /// The first ids, in this order. In the texts they are ordinary text.
    pub special_tokens: Vec<String>,
    /// Which single bytes are entries.
    pub alphabet: Alphabet,
    /// The most bytes of a token that merges make; at least 2. (Hugging Face's `max_token_length` is one more.)
    pub max_token_bytes: Option<usize>,
    /// How text is cut into pre-tokens.
    pub pattern: Pattern,
    /// Threads that count; has no influence on the result.
    pub threads: usize,
}

impl Default for TrainOptions {
    /// 32,000 entries, of which one is `<|endoftext|>`, pairs that occur twice, GPT-2's pattern, as many threads as the system
    /// recommends.
    fn default() -> TrainOptions {
        TrainOptions {
            vocab_size: 32_000,
            min_frequency: 2,
            special_tokens: vec!["<|endoftext|>".into()],
            alphabet: Alphabet::Bytes,
            max_token_bytes: None,
            pattern: Pattern::Gpt2,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// The single bytes of a vocabulary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Alphabet {
    /// All 256: any text can be encoded.
    #[default]
    Bytes,
    /// Those that occur in the texts; bytes that do not are lost when a text is encoded.
    Seen,
}

/// How far training is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Pre-tokens are counted.
    Counting {
        /// Bytes that have been counted.
        bytes: u64,
        /// Whole texts that have been counted.
        texts: u64,
    },
    /// Merges are found.
    Merging {
        /// Entries that the vocabulary has.
        done: u64,
        /// Entries that it is to have.
        total: u64,
    },
}

/// Is told how far training is and says whether it goes on.
pub type Watch<'a> = dyn FnMut(Progress) -> ControlFlow<()> + Send + 'a;

/// The watcher is asked after so many merges.
const WATCH_MERGES: usize = 64;

/// A training run.
#[derive(Debug)]
pub struct Trainer {
    options: TrainOptions,
    pre_tokenizer: PreTokenizer,
    pre_tokenize: PreTokenize,
    words: Words,
    position: Position,
    /// Pairs of ids, in the order in which they were merged.
    merges: Vec<(u32, u32)>,
    ids: Option<Ids>,
}

impl Trainer {
    /// A run that has seen nothing yet.
    ///
    /// # Errors
    /// [`TrainError::Options`] for options that fit nothing, [`TrainError::Tokenizer`] for a pattern that is no regular
    /// expression.
    pub fn new(options: TrainOptions) -> Result<Trainer, TrainError> {
        check(&options)?;
        let pre_tokenizer = match &options.pattern {
            Pattern::Gpt2 => PreTokenizer::byte_level(true),
            other => PreTokenizer::split_then_byte_level(&[other.regex()]),
        };
        let pre_tokenize = PreTokenize::new("options", Some(&pre_tokenizer))?;
        Ok(Trainer {
            options,
            pre_tokenizer,
            pre_tokenize,
            words: Words::default(),
            position: Position::default(),
            merges: Vec::new(),
            ids: None,
        })
    }

    /// What is trained.
    pub fn options(&self) -> &TrainOptions {
        &self.options
    }

    /// Different pre-tokens counted so far.
    pub fn words(&self) -> usize {
        self.words.len()
    }

    /// Bytes of text counted so far.
    pub fn bytes(&self) -> u64 {
        self.position.bytes
    }

    /// Merges found so far.
    pub fn merges(&self) -> usize {
        self.merges.len()
    }

    /// Counts the pre-tokens of the texts; to be called once, with all of them. Each text is cut by itself: no pre-token
    /// goes from one to the next. A trainer that was [resumed](Self::resume) must be given the same texts and skips
    /// what it has counted.
    ///
    /// `watch` is asked every few megabytes; `Break` is returned if it said so, and what has been counted can be saved.
    ///
    /// # Errors
    /// The first error among the texts.
    pub fn count<I, T, E>(&mut self, texts: I, watch: &mut Watch) -> Result<ControlFlow<()>, E>
    where
        I: Iterator<Item = Result<T, E>> + Send,
        T: AsRef<[u8]> + Send + Sync,
        E: Send,
    {
        count::count(
            texts,
            &self.pre_tokenize,
            self.options.threads,
            &mut self.words,
            &mut self.position,
            watch,
        )
    }

    /// Finds the merges. A run that was stopped here begins again from the counts and comes by the same merges.
    ///
    /// `watch` is asked every few merges; `Break` is returned if it said so.
    ///
    /// # Errors
    /// [`TrainError::TooManyWords`], or [`TrainError::State`] if the merges of the state that was resumed are not those
    /// of its counts.
    pub fn merge(&mut self, watch: &mut Watch) -> Result<ControlFlow<()>, TrainError> {
        let sorted = self.words.sorted();
        let mut ids = Ids::new(&self.options, &sorted);
        let most = self.options.max_token_bytes.unwrap_or(usize::MAX);
        let mut merger = Merger::new(&sorted, &ids, most, self.options.min_frequency)?;
        drop(sorted);
        let known = std::mem::take(&mut self.merges);
        let mut outcome = ControlFlow::Continue(());
        while ids.len() < self.options.vocab_size {
            let Some(top) = merger.next() else { break };
            let (left, right) = ((top.pair >> 32) as u32, top.pair as u32);
            if known.get(self.merges.len()).is_some_and(|known| *known != (left, right)) {
                return Err(TrainError::State {
                    found: format!("({left}, {right}) as merge {}", self.merges.len()),
                    expected: "the merges of the counts beside them".into(),
                });
            }
            self.merges.push((left, right));
            let id = ids.join(left, right);
            merger.merge(top, id);
            if self.merges.len().is_multiple_of(WATCH_MERGES) {
                let (done, total) = (ids.len() as u64, self.options.vocab_size as u64);
                outcome = watch(Progress::Merging { done, total });
                if outcome.is_break() {
                    break;
                }
            }
        }
        if known.len() > self.merges.len() {
            self.merges = known;
        }
        self.ids = Some(ids);
        Ok(outcome)
    }

    /// The same merges by the textbook: for each of them all pairs of all words are counted again, and all words searched
    /// for the best. The yardstick of [`merge`](Self::merge), and what it is tested against.
    ///
    /// The two differ where two different pairs make the same token, which English text does not bring about:
    /// Hugging Face's counts, which `merge` follows, then include occurrences that are gone.
    pub fn merge_linear(&mut self) {
        let sorted = self.words.sorted();
        let mut ids = Ids::new(&self.options, &sorted);
        self.merges = linear::merge(&sorted, &mut ids, &self.options);
        self.ids = Some(ids);
    }

    /// The vocabulary, as far as it has been trained.
    ///
    /// # Errors
    /// [`TokenizerError`] if the entries do not make one, as when a special token is named twice.
    pub fn tokenizer(&self) -> Result<Tokenizer, TokenizerError> {
        let made;
        let ids = match &self.ids {
            Some(ids) => ids,
            None => {
                made = Ids::new(&self.options, &self.words.sorted());
                &made
            }
        };
        build::tokenizer(&self.options, &self.pre_tokenizer, ids, &self.merges)
    }
}

fn check(options: &TrainOptions) -> Result<(), TrainError> {
    let wrong = |option: &'static str, found: String, expected: String| {
        Err(TrainError::Options { option, found, expected })
    };
    let least = options.special_tokens.len() + if options.alphabet == Alphabet::Bytes { 256 } else { 0 };
    if options.vocab_size < least || options.vocab_size > merge::MAX_IDS {
        return wrong(
            "vocabulary size",
            options.vocab_size.to_string(),
            format!("{least} (the special tokens and the bytes) to {}", merge::MAX_IDS),
        );
    }
    if let Some(most @ 0..2) = options.max_token_bytes {
        return wrong("most bytes of a token", most.to_string(), "at least 2".into());
    }
    for (at, token) in options.special_tokens.iter().enumerate() {
        if token.is_empty() || options.special_tokens[..at].contains(token) {
            let found = if token.is_empty() { "an empty text".into() } else { format!("{token:?} twice") };
            return wrong("special tokens", found, "texts that differ".into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
