//! What can be wrong with the texts of a run.

use std::path::Path;

use chalot_tokenizer::TokenizerError;
use chalot_tokenizer::input::InputError;
use chalot_tokenizer::shards::ShardError;
use chalot_tokenizer::train::TrainError;

/// Texts that cannot be made ready for training. Each variant names the file or the recipe's key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The system refuses.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A text cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The vocabulary cannot be trained.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The vocabulary of an earlier run cannot be read.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The file of `tokenizer.file` cannot be read.
    #[error("tokenizer.file: {0}")]
    Vocabulary(Box<dyn std::error::Error + Send + Sync>),
    /// The shards cannot be written or read.
    #[error(transparent)]
    Shards(#[from] ShardError),
    /// A list of books cannot be read.
    #[error("{file}: line {line}: found {found}, expected {expected}")]
    List {
        /// The list.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// What stands there.
        found: String,
        /// What should stand there.
        expected: String,
    },
    /// The texts do not give what the recipe asks for.
    #[error("{key}: {found}; {mend}")]
    Recipe {
        /// The key of the recipe.
        key: String,
        /// What was found.
        found: String,
        /// What to do.
        mend: String,
    },
    /// What an earlier run prepared is of other texts or another recipe.
    #[error("{file}: made with other tables [data] or [tokenizer]; {mend}")]
    Changed {
        /// What was prepared.
        file: String,
        /// What to do.
        mend: String,
    },
    /// The user wants to stop.
    #[error("interrupted while the texts were prepared; the same command begins again")]
    Interrupted,
}

impl DataError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> DataError {
        DataError::Io { file: path.display().to_string(), source }
    }
}
