//! `run` and `chat`: what to generate from, and how tokens are chosen.
use std::path::PathBuf;

use chalot_model::{DraftMode, KvType, PrefetchStrategy, SpeculationOptions};
use clap::{Args, ValueEnum, ValueHint};

use super::values;

/// Generate text
#[derive(Args, Debug)]
#[command(after_help = "\
    Your words are continued as they stand, without a chat template ('chalot chat' uses it). Only the\n\
    new text and a line break go to stdout; notes and figures go to stderr.\n\n\
    Examples:\n  \
    chalot run                                     the built-in model tells a story\n  \
    chalot run -p \"The old king\" -n 100            it goes on from your words\n  \
    chalot run --seed 7                            the same story every time\n  \
    chalot run model.gguf -p \"The capital of France is\" -n 1 --temp 0\n  \
    chalot run model.gguf -f prompt.txt --json     text and figures for a program\n  \
    echo \"Once upon a time\" | chalot run           the prompt from a pipe\n  \
    chalot run model.gguf -f book.txt --cache book.kv      the next run with it starts at once")]
pub struct Run {
    /// .gguf file, Hugging Face folder or llama2.c .bin [default: the built-in model]
    #[arg(value_hint = ValueHint::AnyPath)]
    pub model: Option<PathBuf>,
    /// Text to continue
    #[arg(short, long, value_name = "TEXT", conflicts_with = "file", allow_hyphen_values = true)]
    pub prompt: Option<String>,
    /// File with the text to continue; '-' is stdin, which is also read when it is a pipe
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Tokens to generate at most [default: 256]
    #[arg(short = 'n', long = "tokens", value_name = "N", value_parser = values::count)]
    pub tokens: Option<usize>,
    /// Go on after the token that ends a text
    #[arg(long)]
    pub ignore_eos: bool,
    /// Read special tokens (such as <|im_start|>) in the prompt as such, and print those that are generated
    #[arg(long)]
    pub special: bool,
    /// Print one JSON object (text, tokens, speed) instead of the text
    #[arg(long)]
    pub json: bool,
    /// More figures at the end: time to load, memory, kernels
    #[arg(long)]
    pub stats: bool,
    #[command(flatten)]
    pub sampling: Sampling,
    #[command(flatten)]
    pub drafting: Drafting,
    #[command(flatten)]
    pub memory: Memory,
    #[command(flatten)]
    pub holding: Holding,
}

/// Talk to a model
#[derive(Args, Debug)]
#[command(after_help = "\
    The model's own chat template is used; a model without one, such as the built-in story-teller,\n\
    goes on from your words. When stdin is no terminal, each of its lines is one turn.\n\n\
    Examples:\n  \
    chalot chat model.gguf\n  \
    chalot chat model.gguf --system \"You answer in one sentence.\"\n  \
    chalot chat model.gguf --cache talk.kv         the conversation is there again next time\n  \
    chalot chat                                    the built-in story-teller goes on from your words\n  \
    printf 'Hello\\nWho are you?\\n' | chalot chat model.gguf --temp 0    two turns from a pipe\n\n\
    In a chat: /help, /reset, /system TEXT, /exit (or Ctrl-D); Ctrl-C stops an answer.")]
pub struct Chat {
    /// .gguf file, Hugging Face folder or llama2.c .bin [default: the built-in model]
    #[arg(value_hint = ValueHint::AnyPath)]
    pub model: Option<PathBuf>,
    /// What the model shall know or be, told before the first turn
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Tokens of one answer at most [default: 512, or 128 without a chat template]
    #[arg(short = 'n', long = "tokens", value_name = "N", value_parser = values::count)]
    pub tokens: Option<usize>,
    /// Figures after each answer
    #[arg(long)]
    pub stats: bool,
    #[command(flatten)]
    pub sampling: Sampling,
    #[command(flatten)]
    pub drafting: Drafting,
    #[command(flatten)]
    pub memory: Memory,
    #[command(flatten)]
    pub holding: Holding,
}

/// How the next token is chosen.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Sampling", allow_negative_numbers = true)] // so that `--temp -1` is told its range
pub struct Sampling {
    /// Temperature; 0 always takes the likeliest token [default: what the model's file recommends, or 0.7]
    #[arg(long, value_name = "T", value_parser = values::temperature)]
    pub temp: Option<f32>,
    /// Choose among the K likeliest tokens; 0: all [default: the model's, or 40]
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Choose among the likeliest tokens that together reach this probability; 1: all [default: the model's, or 0.95]
    #[arg(long, value_name = "P", value_parser = values::positive_share)]
    pub top_p: Option<f32>,
    /// Leave out tokens less likely than P times the likeliest; 0: none [default: the model's, or 0.05]
    #[arg(long, value_name = "P", value_parser = values::share)]
    pub min_p: Option<f32>,
    /// Make tokens of the recent text less likely (above 1); 1: as they are [default: the model's, or 1; with --temp 0: 1]
    #[arg(long, value_name = "R", value_parser = values::factor)]
    pub repeat_penalty: Option<f32>,
    /// How many tokens back the repeat penalty looks
    #[arg(long, value_name = "N", default_value = "64")]
    pub repeat_last_n: usize,
    /// Same seed, same text [default: a new one each time, shown at the end]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
}

/// Whether several tokens are computed in one pass.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Speed")]
pub struct Drafting {
    /// Who drafts tokens for the model to verify several at once; the text is the same. auto: whoever gains,
    /// while it gains; shallow: the model's first layers; ngram: earlier places of the text
    #[arg(long, value_name = "WHO", default_value = "auto")]
    pub speculate: SpeculateChoice,
    /// Tokens to draft at once, 1 to 16; with auto at most [default: auto: as many as pay, otherwise 4]
    #[arg(long, value_name = "N", value_parser = values::drafts)]
    pub draft: Option<usize>,
}

/// Who drafts.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpeculateChoice {
    Auto,
    Off,
    Shallow,
    Ngram,
}

impl Drafting {
    /// As the library knows it; `None`: off.
    pub fn options(&self) -> Option<SpeculationOptions> {
        let mode = match self.speculate {
            SpeculateChoice::Auto => DraftMode::Auto,
            SpeculateChoice::Off => return None,
            SpeculateChoice::Shallow => DraftMode::Shallow,
            SpeculateChoice::Ngram => DraftMode::Ngram,
        };
        Some(SpeculationOptions { mode, drafts: self.draft, ..SpeculationOptions::default() })
    }
}

/// How much of the text is remembered, and where.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Model")]
pub struct Memory {
    /// Tokens of context, prompt and answer together [default: what the model was trained for]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub ctx: Option<usize>,
    /// Memory for keys and values at most, such as 512M or 2G [default: three quarters of what is free]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub kv_budget: Option<usize>,
    /// Keep what was computed in this file, and begin with what is there: a text that begins alike, or a chat,
    /// goes on without being computed again
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub cache: Option<PathBuf>,
}

/// How the model is held in memory.
#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "Model")]
pub struct Holding {
    /// Keys and values of past tokens; int8 takes half the memory of f16 [default: f32 in small models and
    /// with f32 weights, otherwise f16]
    #[arg(long, value_name = "TYPE")]
    pub kv: Option<KvChoice>,
    /// Weights as in the file, each kind in its own kernel, or all as f32 (exact, larger, slower)
    #[arg(long, value_name = "AS", default_value = "auto")]
    pub weights: WeightsChoice,
    /// Tokenizer file, when the model has none beside or inside it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub tokenizer: Option<PathBuf>,
    /// Memory for everything at most, such as 4G: weights of a native file are read ahead of their use and released
    /// after it [default: all of them stay; a model larger than what is free gets most of that]
    #[arg(long, value_name = "SIZE", value_parser = values::size, conflicts_with = "no_mmap")]
    pub memory: Option<usize>,
    /// With --memory: for how many layers ahead experts are foretold
    #[arg(long, value_name = "N", default_value_t = PrefetchStrategy::default().lookahead)]
    pub lookahead: usize,
    /// With --memory: read weights when they are touched, not ahead
    #[arg(long)]
    pub no_prefetch: bool,
    /// Read the file into memory instead of mapping it: slower to open, and nothing that happens to the file matters
    #[arg(long)]
    pub no_mmap: bool,
}

/// What nothing else was asked for.
impl Default for Holding {
    fn default() -> Self {
        Self {
            kv: None,
            weights: WeightsChoice::Auto,
            tokenizer: None,
            memory: None,
            lookahead: PrefetchStrategy::default().lookahead,
            no_prefetch: false,
            no_mmap: false,
        }
    }
}

/// Type of the cached keys and values.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvChoice {
    F32,
    F16,
    Int8,
}

impl From<KvChoice> for KvType {
    fn from(choice: KvChoice) -> Self {
        match choice {
            KvChoice::F32 => Self::F32,
            KvChoice::F16 => Self::F16,
            KvChoice::Int8 => Self::Int8,
        }
    }
}

/// How weights are held in memory.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightsChoice {
    Auto,
    F32,
}
