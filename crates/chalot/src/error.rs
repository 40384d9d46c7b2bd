//! What can go wrong between a file and its text.
use std::path::Path;

use chalot_formats::FormatError;
use chalot_model::{KvError, KvFileError, ModelError, engine::EngineError};
use chalot_tokenizer::{TokenizerError, train::TrainError};

use crate::template::TemplateError;

/// Anything that the library's face reports; each message is one line that says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file beside the model could not be read.
    #[error("{file}: {source}")]
    Io {
        /// The path as the user named it.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The model's file. Boxed: it has much to say, and results should stay small.
    #[error(transparent)]
    Model(Box<ModelError>),
    /// The container of a vocabulary.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The tokenizer's file.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// Training of a vocabulary.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The chat template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A request that the loaded model cannot serve.
    #[error(transparent)]
    Engine(EngineError),
    /// No memory for keys and values.
    #[error("{0} (--kv-budget, --kv int8)")]
    Memory(KvError),
    /// A file of keys and values.
    #[error(transparent)]
    Cache(#[from] KvFileError),
    /// A file beside the model that is not what its name says.
    #[error("{file}: {found}, expected {expected}; {mend}")]
    File {
        /// The path as the user named it.
        file: String,
        /// What stands there.
        found: String,
        /// What should stand there.
        expected: String,
        /// What to do.
        mend: String,
    },
    /// A model without a tokenizer inside or beside it.
    #[error("{file}: no tokenizer there (looked for {looked_for}); name one with --tokenizer FILE")]
    NoTokenizer {
        /// The model.
        file: String,
        /// Where it could have been.
        looked_for: String,
    },
    /// A tokenizer with more tokens than the model has rows in its embedding.
    #[error(
        "the tokenizer of {tokenizer} has {tokens} tokens, but the model of {model} only {rows}: \
         they do not belong together; name the right one with --tokenizer FILE"
    )]
    Vocabulary {
        /// The tokenizer's file.
        tokenizer: String,
        /// Its tokens.
        tokens: usize,
        /// The model.
        model: String,
        /// Rows of its embedding.
        rows: usize,
    },
    /// A prompt that does not fit.
    #[error("the prompt has {tokens} tokens, {} more than the context of {context}; {}", .tokens - .context,
        if .context < .trained { format!("shorten it, or raise --ctx (up to {trained} for this model)") }
        else { "shorten it: the model was made for no more".to_string() })]
    PromptTooLong {
        /// Tokens of the prompt.
        tokens: usize,
        /// Tokens that the sequence may hold.
        context: usize,
        /// Tokens that the model was trained for.
        trained: usize,
    },
}

impl From<ModelError> for Error {
    fn from(error: ModelError) -> Self {
        Self::Model(Box::new(error))
    }
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Memory(error) => Self::Memory(error),
            other => Self::Engine(other),
        }
    }
}

impl Error {
    pub(crate) fn io(file: &Path, source: std::io::Error) -> Self {
        Self::Io { file: file.display().to_string(), source }
    }
}
