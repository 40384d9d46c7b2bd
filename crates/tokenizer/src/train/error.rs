//! What can go wrong in training.

use crate::TokenizerError;

/// Training that cannot begin or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// An option has a value that fits nothing.
    #[error("{option}: {found}; needed: {expected}")]
    Options {
        /// Which.
        option: &'static str,
        /// Its value.
        found: String,
        /// What it can be.
        expected: String,
    },
    /// The different pre-tokens are too many to be merged.
    #[error(
        "{words} different pre-tokens have {bytes} bytes, and at most 4 GiB can be merged; \
         train on less text, or with a pattern that makes shorter pre-tokens"
    )]
    TooManyWords {
        /// Different pre-tokens.
        words: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// The state of an earlier run does not fit.
    #[error("the saved state: found {found}, expected {expected}; delete it and train from the beginning")]
    State {
        /// What stands there.
        found: String,
        /// What should stand there.
        expected: String,
    },
    /// The pattern or the finished vocabulary.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The state could not be read or written.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
}
