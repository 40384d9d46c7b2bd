//! `tokenizer`: training a vocabulary, text to ids and back.
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, ValueHint};

use super::values;

/// Train a vocabulary; turn text into token ids and back
#[derive(Args, Debug)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  \
        chalot tokenizer train books.txt --vocab-size 32000 --out tokenizer.json\n  \
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
    Train(Train),
    Encode(Encode),
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
    /// Write the vocabulary of a model or another file as .json, .tiktoken or .gguf
    #[command(
        after_help = "The name's ending tells the format. Special tokens do not fit a .tiktoken file.\n\n\
        Examples:\n  \
        chalot tokenizer export --vocab model.gguf tokenizer.json\n  \
        chalot tokenizer export tokenizer.json      the built-in model's vocabulary"
    )]
    Export {
        #[command(flatten)]
        vocab: Vocab,
        /// The file to write
        #[arg(value_name = "OUT", value_hint = ValueHint::FilePath)]
        out: PathBuf,
        /// Overwrite it
        #[arg(long)]
        force: bool,
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

/// Train a byte-level BPE vocabulary on files
#[derive(Args, Debug)]
#[command(after_help = "\
    The merges are those of Hugging Face's trainer, whatever the number of threads. The text may be\n\
    larger than memory. Ctrl-C saves what has been done; --resume goes on.\n\n\
    Examples:\n  \
    chalot tokenizer train books.txt --vocab-size 32000 --out tokenizer.json\n  \
    chalot tokenizer train *.jsonl.zst --pattern llama3 --special \"<|im_start|>\" --out tokenizer.json\n  \
    chalot tokenizer train wiki.parquet --field text --vocab-size 65536 --out vocab.gguf\n  \
    chalot tokenizer train books.txt --vocab-size 32000 --out tokenizer.json --resume")]
pub struct Train {
    #[command(flatten)]
    pub files: Files,
    /// The vocabulary to write: tokenizer.json, .tiktoken or .gguf
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub out: PathBuf,
    /// Entries of the vocabulary, special tokens and single bytes among them
    #[arg(long, value_name = "N", default_value = "32000", value_parser = values::count)]
    pub vocab_size: usize,
    /// How text is cut before merging: gpt2, cl100k, o200k, llama3, qwen2, or a regular expression
    #[arg(long, value_name = "PATTERN", default_value = "gpt2")]
    pub pattern: String,
    /// A pair that occurs less often is not merged
    #[arg(long, value_name = "N", default_value = "2", value_parser = values::count)]
    pub min_frequency: usize,
    /// A special token; the first ids, in this order [default: <|endoftext|>]
    #[arg(long, value_name = "TEXT")]
    pub special: Vec<String>,
    /// The most bytes of a token
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub max_token_bytes: Option<usize>,
    /// Only the bytes that occur become entries; others cannot be encoded then
    #[arg(long)]
    pub seen_bytes: bool,
    /// Go on with a run that was interrupted
    #[arg(long)]
    pub resume: bool,
    /// Overwrite the vocabulary
    #[arg(long, short)]
    pub force: bool,
}

/// Files with texts.
#[derive(Args, Debug)]
pub struct Files {
    /// Plain text, .jsonl or .parquet; also .gz and .zst; '-': stdin
    #[arg(required = true, value_name = "FILES", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub reading: Reading,
}

/// How files with texts are read.
#[derive(Args, Debug)]
pub struct Reading {
    /// What the files are [default: their names tell]
    #[arg(long, value_name = "KIND")]
    pub format: Option<FileKind>,
    /// The field of JSON lines or the column of a parquet file that holds the text
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub field: String,
    /// What stands between two documents of a plain text; '' : nothing, a file is one document
    #[arg(long, value_name = "TEXT", default_value = "<|endoftext|>")]
    pub separator: String,
}

/// A kind of file.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FileKind {
    /// Plain text
    Text,
    /// A JSON object a line
    Jsonl,
    /// Apache Parquet
    Parquet,
}

/// Print the ids of a text, or write those of files as shards for training
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    chalot tokenizer encode --vocab tokenizer.json \"Hello, world\"\n  \
    chalot tokenizer encode --vocab model.gguf --lines - < lines.txt\n  \
    chalot tokenizer encode \"Once upon a time\"      the built-in model's vocabulary\n  \
    chalot tokenizer encode --vocab tokenizer.json --shards train.json --files books.txt more.jsonl\n\n\
    No BOS or EOS token is added. With --shards, train.json is the index of train-00000.bin, ...: ids as\n\
    u16 (u32 for vocabularies over 65,536), the end-of-text token behind each document, and in the index\n\
    where documents begin and each shard's SHA-256.")]
pub struct Encode {
    #[command(flatten)]
    pub text: Text,
    /// Each line of the text by itself (without its line break), one line of ids for each
    #[arg(long)]
    pub lines: bool,
    /// Print a JSON list of ids (with --lines: a list of lists)
    #[arg(long)]
    pub json: bool,
    /// Write shards and this index of them, from --files or stdin
    #[arg(long, value_name = "INDEX", value_hint = ValueHint::FilePath, conflicts_with_all = ["lines", "json", "text"])]
    pub shards: Option<PathBuf>,
    /// The files of --shards: plain text, .jsonl or .parquet; also .gz and .zst
    #[arg(long, requires = "shards", num_args = 1.., value_name = "FILES", value_hint = ValueHint::FilePath)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub reading: Reading,
    /// Ids of a shard
    #[arg(long, value_name = "N", default_value = "100000000", value_parser = values::count)]
    pub shard_tokens: usize,
    /// The token behind each document of a shard; '' : none [default: <|endoftext|> or what the vocabulary ends with]
    #[arg(long, value_name = "TOKEN")]
    pub end: Option<String>,
    /// Leave out where documents begin
    #[arg(long)]
    pub no_offsets: bool,
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
