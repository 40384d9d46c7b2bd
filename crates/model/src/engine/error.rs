//! What can go wrong while a loaded model runs.
use chalot_tensor::exec::ShapeError;

use crate::kv::KvError;

/// A request that the model cannot serve.
///
/// Bad files are refused at load ([`crate::error::ModelError`]); what remains here is a caller's request that does
/// not fit the model. The sequence is unchanged after any of these.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// Nothing to compute.
    #[error("no tokens to compute: a prompt needs at least one (an empty text can start from the BOS token)")]
    EmptyPrompt,

    /// A token that the vocabulary does not have.
    #[error(
        "token {token} (number {index} of the input) is not in the vocabulary, which ends at {last}: \
         was the text encoded by this model's tokenizer?"
    )]
    TokenOutOfRange {
        /// Its place in the tokens given.
        index: usize,
        /// The token.
        token: u32,
        /// The last token of the vocabulary.
        last: usize,
    },

    /// More tokens than the sequence has room for.
    #[error(
        "{new} tokens do not fit after the {used} that are there: the context of {context} is exceeded by \
         {}; shorten the prompt or ask for a longer context", .used + .new - .context
    )]
    ContextOverflow {
        /// Tokens in the sequence.
        used: usize,
        /// Tokens to add.
        new: usize,
        /// Tokens that the sequence may hold.
        context: usize,
    },

    /// A context that the model was not made for.
    #[error("a context of {asked} tokens was asked for, but the model is made for 1 to {trained}")]
    ContextLength {
        /// The context asked for.
        asked: usize,
        /// The model's own.
        trained: usize,
    },

    /// No memory for the keys and values of what was to be computed.
    #[error(transparent)]
    Memory(#[from] KvError),

    /// A sequence whose cache has another model's shape.
    #[error("the sequence was made for another model: its cache has {found}, this model has {expected}")]
    ForeignSequence {
        /// The sequence's layers, KV heads and head size.
        found: String,
        /// The model's.
        expected: String,
    },

    /// Hidden states or positions given to a part of the model do not fit it.
    #[error("{what}: found {found}, expected {expected}")]
    Input {
        /// The argument.
        what: &'static str,
        /// What was given.
        found: usize,
        /// What fits.
        expected: usize,
    },

    /// The file that holds the weights can no longer be read.
    #[error("{0}")]
    File(String),

    /// An option outside its range.
    #[error("{option} is {found}, but must be {expected}")]
    Option {
        /// The option.
        option: &'static str,
        /// Its value.
        found: String,
        /// The values it may have.
        expected: &'static str,
    },

    /// A configuration that does not describe the weights it came with.
    #[error("the model is inconsistent: {0}")]
    Model(String),

    /// A weight whose shape is not what the configuration says.
    #[error("the model is inconsistent: {0}")]
    Shape(#[from] ShapeError),
}
