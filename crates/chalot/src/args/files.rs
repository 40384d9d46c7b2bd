//! `inspect`, `convert` and `perplexity`: commands about one model file.
use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::{generation::Holding, values};

/// Show what is in a model file
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    chalot inspect                        the built-in model\n  \
    chalot inspect model.gguf\n  \
    chalot inspect model.gguf --tensors   with the table of its tensors\n  \
    chalot inspect folder/ --json         for a program")]
pub struct Inspect {
    /// .gguf file (a vocabulary alone will do), Hugging Face folder or llama2.c .bin [default: the built-in model]
    #[arg(value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub model: Option<PathBuf>,
    /// List every tensor: name, shape, type, bytes
    #[arg(long)]
    pub tensors: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Write a model as a native file, which opens at once
#[derive(Args, Debug)]
#[command(after_help = "\
    The native file is a .gguf whose tensors lie in the order in which the kernels read them, with the\n\
    tokenizer and the chat template inside. Without --to, weights keep their kind; ternary ones of\n\
    other programs' files are packed as 'chalot tune' found best here (trit2 without it).\n\n\
    Examples:\n  \
    chalot convert bitnet-folder/ bitnet.gguf --to trit2\n  \
    chalot convert model-f16.gguf model-int8.gguf --to int8\n  \
    chalot convert stories260K.bin stories.gguf --tokenizer tok512.bin")]
pub struct Convert {
    /// .gguf file, Hugging Face folder or llama2.c .bin
    #[arg(value_name = "IN", value_hint = ValueHint::AnyPath)]
    pub input: PathBuf,
    /// The .gguf file to write
    #[arg(value_name = "OUT", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
    /// How the matrices are packed [default: as in the input]
    #[arg(long, value_name = "PACKING")]
    pub to: Option<Target>,
    /// Tokenizer file, when the input has none beside or inside it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub tokenizer: Option<PathBuf>,
    /// The model's name in the new file [default: the input's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Overwrite OUT
    #[arg(long)]
    pub force: bool,
}

/// Packings that `convert` writes.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Ternary, 2 bits a weight
    Trit2,
    /// Ternary, 1.6 bits a weight
    Trit5,
    /// 8 bits a weight, a scale for each row
    Int8,
    /// 4 bits a weight, a scale for each group of 32
    Int4,
}

/// Measure how well a model predicts a text
#[derive(Args, Debug)]
#[command(after_help = "\
    The text is cut into pieces of --ctx tokens; in each, the second half is predicted from all that\n\
    stands before it there. Lower is better; bits per byte compares models with different tokenizers.\n\n\
    Examples:\n  \
    chalot perplexity model.gguf --file wiki.test.raw\n  \
    chalot perplexity model.gguf --file book.txt --tokens 4096     a quick look\n  \
    chalot perplexity --file book.txt --json                       the built-in model, for a program")]
pub struct Perplexity {
    /// .gguf file, Hugging Face folder or llama2.c .bin [default: the built-in model]
    #[arg(value_hint = ValueHint::AnyPath)]
    pub model: Option<PathBuf>,
    /// The text
    #[arg(long, short, value_name = "TEXT", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Only the text's first N tokens
    #[arg(long, short = 'n', value_name = "N", value_parser = values::count)]
    pub tokens: Option<usize>,
    /// Only the first N pieces
    #[arg(long, value_name = "N", value_parser = values::count, conflicts_with = "tokens")]
    pub chunks: Option<usize>,
    /// Begin each piece with the BOS token
    #[arg(long)]
    pub bos: bool,
    /// Tokens of a piece
    #[arg(long, value_name = "N", default_value = "512", value_parser = values::count)]
    pub ctx: usize,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub holding: Holding,
}
