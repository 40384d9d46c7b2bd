//! `tokenizer`: text to ids and back.
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

/// Turn text into token ids and back
#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  \
        chalot tokenizer encode --vocab tokenizer.json \"Hello, world\"\n  \
        chalot tokenizer decode --vocab tokenizer.json 9906 11 1917\n  \
        cat book.txt | chalot tokenizer count --vocab model.gguf -"
)]
pub struct Tokenizer {
    #[command(subcommand)]
    pub action: TokenizerAction,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum TokenizerAction {
    /// Print the ids of a text, separated by spaces
    #[command(after_help = "Examples:\n  \
        chalot tokenizer encode --vocab tokenizer.json \"Hello, world\"\n  \
        chalot tokenizer encode --vocab model.gguf --lines - < lines.txt\n  \
        chalot tokenizer encode \"Once upon a time\"      the built-in model's vocabulary\n\n\
        No BOS or EOS token is added.")]
    Encode {
        #[command(flatten)]
        text: Text,
        /// Each line of the text by itself (without its line break), one line of ids for each
        #[arg(long)]
        lines: bool,
    },
    /// Print the text of ids, byte for byte
    #[command(after_help = "Examples:\n  \
        chalot tokenizer decode --vocab tokenizer.json 9906 11 1917\n  \
        chalot tokenizer encode \"a b\" | chalot tokenizer decode -      there and back\n  \
        chalot tokenizer decode --vocab model.gguf --lines - < ids.txt")]
    Decode {
        #[command(flatten)]
        vocab: Vocab,
        /// The ids; '-' (or nothing, in a pipe): from stdin
        #[arg(value_name = "ID")]
        ids: Vec<String>,
        /// Each line of ids by itself
        #[arg(long)]
        lines: bool,
    },
    /// Print how many tokens a text has
    #[command(after_help = "Examples:\n  \
        chalot tokenizer count --vocab tokenizer.json \"Hello, world\"\n  \
        chalot tokenizer count --vocab model.gguf - < book.txt")]
    Count {
        #[command(flatten)]
        text: Text,
    },
}

/// The vocabulary.
#[derive(Args, Debug)]
pub struct Vocab {
    /// tokenizer.json, .tiktoken or .gguf [default: the built-in model's]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub vocab: Option<PathBuf>,
}

/// A text and its vocabulary.
#[derive(Args, Debug)]
pub struct Text {
    #[command(flatten)]
    pub vocab: Vocab,
    /// The text; '-' (or nothing, in a pipe): from stdin
    pub text: Option<String>,
    /// Read special tokens (such as <|im_start|>) in the text as such; otherwise they are text
    #[arg(long)]
    pub special: bool,
}
