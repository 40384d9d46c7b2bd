//! `bench`: how fast this machine is, as a share of what it could be.
use std::{path::PathBuf, str::FromStr};

use chalot_model::{PrefetchStrategy, synthetic::SHAPES};
use chalot_tensor::{Format, Packing, ScaleBy};
use clap::{Args, Subcommand, ValueEnum, ValueHint, builder::PossibleValuesParser};

use super::{Drafting, KvChoice, tokenizer::Vocab, values};

/// Measure this machine, and the engine as a share of it
#[derive(Args, Debug)]
#[command(after_help = "\
    Models are random weights of a known shape, so nothing is downloaded, or your own file (--model).\n\
    What the machine could do is measured in the same run, in turn with the work and on the same\n\
    threads.\n\n\
    Examples:\n  \
    chalot bench decode                        one token after the other, BitNet 2B\n  \
    chalot bench prefill --packing int4        a prompt of 512 tokens\n  \
    chalot bench profile --tokens 1,5          where the time of a token goes, and of five at once\n  \
    chalot bench kernels --json                every format, 1, 5 and 512 tokens, for a program\n  \
    chalot bench attention --tokens 8192       a prompt's attention, and a token's at a depth\n  \
    chalot bench speculate                     with drafts and without, in turn\n  \
    chalot bench tokenizer                     text to ids, megabytes a second\n  \
    chalot bench experts                       a mixture beside a dense model of equal work\n  \
    chalot bench prefetch                      a model twice as large as the memory it gets")]
pub struct Bench {
    #[command(subcommand)]
    pub what: What,
}

/// What is measured.
#[derive(Subcommand, Debug)]
pub enum What {
    Decode(Decode),
    Prefill(Prefill),
    Profile(ProfileBench),
    Kernels(Kernels),
    Attention(Attention),
    Speculate(SpeculateBench),
    Tokenizer(TokenizerBench),
    Experts(ExpertsBench),
    Prefetch(PrefetchBench),
}

/// Which model.
#[derive(Args, Debug)]
pub struct Of {
    /// The model's shape
    #[arg(long, value_name = "SHAPE", default_value = "bitnet-2b", value_parser = PossibleValuesParser::new(SHAPES))]
    pub shape: String,
    /// The layers' weights: tuned (as 'chalot tune' found, else trit2), trit2, trit5, int8 (rows), int4 (groups of 32), f16, or a full name as int8/32
    #[arg(long, value_name = "PACKING", default_value = TUNED)]
    pub packing: Weights,
    /// The embedding's and head's weights
    #[arg(long, value_name = "PACKING", default_value = "int8")]
    pub head: Weights,
    /// Only this many of the shape's layers: a quicker run, said in the result
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub layers: Option<usize>,
    /// A model instead of a shape, with its own weights: .gguf file, Hugging Face folder or llama2.c .bin
    #[arg(
        long,
        value_name = "FILE",
        value_hint = ValueHint::AnyPath,
        conflicts_with_all = ["shape", "packing", "head", "layers"]
    )]
    pub model: Option<PathBuf>,
    /// Keys and values of past tokens [default: as for a model of this shape]
    #[arg(long, value_name = "TYPE")]
    pub kv: Option<KvChoice>,
}

/// Generate token by token, as a share of the memory's bandwidth
#[derive(Args, Debug)]
#[command(after_help = "\
    Tokens are computed as in generation, sampling apart. The share counts the bytes of all weights\n\
    that a token reads, the head among them, not its keys and values. With --depth a token without a\n\
    past is measured in turn, and what is longer is compared with the time to read the keys and\n\
    values.\n\n\
    Examples:\n  \
    chalot bench decode\n  \
    chalot bench decode --packing trit5 --threads 1\n  \
    chalot bench decode --draft 4\n  \
    chalot bench decode --model model.gguf\n  \
    chalot bench decode --shape llama-8b --packing int4 --layers 8 --json")]
pub struct Decode {
    #[command(flatten)]
    pub of: Of,
    /// Tokens to generate
    #[arg(long, short = 'n', value_name = "N", default_value = "64", value_parser = values::count)]
    pub tokens: usize,
    /// Tokens that are there already
    #[arg(long, value_name = "N", default_value = "0")]
    pub depth: usize,
    /// Also measure passes that verify N drafts (and the token before them), in turn
    #[arg(long, value_name = "N", value_parser = values::drafts)]
    pub draft: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Compute a prompt, as a share of the CPU's peak of 8-bit products
#[derive(Args, Debug)]
#[command(after_help = "\
    The share counts the products of all weights with all tokens, and of the head with the last one.\n\
    Attention, norms and activations count nothing but take their time.\n\n\
    Examples:\n  \
    chalot bench prefill\n  \
    chalot bench prefill --tokens 128 --layers 6\n  \
    chalot bench prefill --model model.gguf\n  \
    chalot bench prefill --shape smollm2-135m --packing int8 --json")]
pub struct Prefill {
    #[command(flatten)]
    pub of: Of,
    /// Tokens of the prompt
    #[arg(long, short = 'n', value_name = "N", default_value = "512", value_parser = values::count)]
    pub tokens: usize,
    /// Tokens that are there already
    #[arg(long, value_name = "N", default_value = "0")]
    pub depth: usize,
    /// Tokens of one pass [default: the engine's]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub chunk: Option<usize>,
    /// Prompts to measure
    #[arg(long, value_name = "N", default_value = "5", value_parser = values::count)]
    pub rounds: usize,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// See where the time of a pass goes, step by step
#[derive(Args, Debug)]
#[command(after_help = "\
    Each step of all layers together: the mean of half of the passes, those neither fast nor slow.\n\
    Of up to 16 tokens the logits of all are made, as drafts are verified; of more those of the last,\n\
    as of a prompt. A step that reads weights is at its limit when GB/s is the bandwidth (few tokens)\n\
    or GMAC/s the peak (many).\n\n\
    Examples:\n  \
    chalot bench profile\n  \
    chalot bench profile --tokens 1,5,512 --packing trit5\n  \
    chalot bench profile --model model.gguf --depth 4096\n  \
    chalot bench profile --shape moe-2b --json")]
pub struct ProfileBench {
    #[command(flatten)]
    pub of: Of,
    /// Tokens of a pass; several numbers, measured in turn
    #[arg(
        long,
        short = 'n',
        value_name = "N",
        value_delimiter = ',',
        default_value = "1",
        value_parser = values::count
    )]
    pub tokens: Vec<usize>,
    /// Tokens that are there already
    #[arg(long, value_name = "N", default_value = "0")]
    pub depth: usize,
    /// Rounds to measure
    #[arg(long, value_name = "N", default_value = "8", value_parser = values::count)]
    pub rounds: usize,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Multiply 1, 5 and 512 tokens with one matrix of each format
#[derive(Args, Debug)]
#[command(after_help = "\
    The matrix is the shape's up projection; its copies exceed the caches. The time includes making\n\
    the tokens' 8-bit form.\n\n\
    Examples:\n  \
    chalot bench kernels\n  \
    chalot bench kernels --packing trit2/128 --json")]
pub struct Kernels {
    /// The model's shape
    #[arg(long, value_name = "SHAPE", default_value = "bitnet-2b", value_parser = PossibleValuesParser::new(SHAPES))]
    pub shape: String,
    /// Only this format [default: all]
    #[arg(long, value_name = "PACKING")]
    pub packing: Option<Weights>,
    /// Rounds to measure
    #[arg(long, value_name = "N", default_value = "8", value_parser = values::count)]
    pub rounds: usize,
    /// Print one JSON array
    #[arg(long)]
    pub json: bool,
}

/// Attention of a prompt as a share of the CPU's peak, against the plain way; and of one token
#[derive(Args, Debug)]
#[command(after_help = "\
    A causal prompt: writing its keys and values into the cache and attending to them. The share of\n\
    the peak counts only what a token sees. The plain way is a product, a mask, a soft-max and a\n\
    product, head by head, with the whole matrix of scores in memory (up to 8,192 tokens). Then one\n\
    token at --depth, with f16 and int8, as a share of the memory's bandwidth.\n\n\
    Examples:\n  \
    chalot bench attention\n  \
    chalot bench attention --tokens 8192 --head-dim 64 --kv f16\n  \
    chalot bench attention --heads 20 --kv-heads 5 --json          the shape of BitNet 2B")]
pub struct Attention {
    /// Tokens of the prompt
    #[arg(long, short = 'n', value_name = "N", default_value = "2048", value_parser = values::count)]
    pub tokens: usize,
    /// Query heads
    #[arg(long, value_name = "N", default_value = "32", value_parser = values::count)]
    pub heads: usize,
    /// Key-value heads, a divisor of the query heads [default: as many]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub kv_heads: Option<usize>,
    /// Numbers of a head
    #[arg(long, value_name = "N", default_value = "128", value_parser = values::count)]
    pub head_dim: usize,
    /// Keys and values of the prompt
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    pub kv: KvChoice,
    /// Tokens before the single one; 0: do not measure it
    #[arg(long, value_name = "N", default_value = "8192")]
    pub depth: usize,
    /// Rounds to measure
    #[arg(long, value_name = "N", default_value = "5", value_parser = values::count)]
    pub rounds: usize,
    /// Leave out the plain way
    #[arg(long)]
    pub no_naive: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Generate with drafts and without, in turn: the same text, sooner
#[derive(Args, Debug)]
#[command(after_help = "\
    Three parts. prose: the model goes on from short openings. repeat: it is asked for a text that\n\
    repeats its prompt. forced: random weights of a known shape, whose drafts are made right with a\n\
    given probability, so that costs are real and acceptance is chosen. Greedy unless --temp says\n\
    otherwise; identical says that all texts were those without drafts.\n\n\
    Examples:\n  \
    chalot bench speculate\n  \
    chalot bench speculate --only prose --speculate shallow --draft 3 --openings openings.txt\n  \
    chalot bench speculate --only repeat --model model.gguf\n  \
    chalot bench speculate --only forced --shallow 3 --acceptance 0.8 --json")]
pub struct SpeculateBench {
    /// The model of prose and repeat: .gguf file, Hugging Face folder or llama2.c .bin [default: the built-in model]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub model: Option<PathBuf>,
    /// Only this part [default: all]
    #[arg(long, value_name = "PART")]
    pub only: Option<Part>,
    /// prose: a file with an opening in each line [default: eight short ones]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub openings: Option<PathBuf>,
    #[command(flatten)]
    pub drafting: Drafting,
    /// The shallow region drafts the first N tokens of the vocabulary only [default: a quarter of a vocabulary of 32,768
    /// or more, otherwise all]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub draft_vocab: Option<usize>,
    /// Tokens of each text of prose and repeat
    #[arg(long, short = 'n', value_name = "N", default_value = "160", value_parser = values::count)]
    pub tokens: usize,
    /// Times that each text is generated in either way
    #[arg(long, value_name = "N", default_value = "3", value_parser = values::count)]
    pub rounds: usize,
    /// Temperature of prose and repeat; above 0 each round has a seed of its own
    #[arg(long, value_name = "T", default_value = "0", value_parser = values::temperature)]
    pub temp: f32,
    /// forced: the shape
    #[arg(long, value_name = "SHAPE", default_value = "bitnet-2b", value_parser = PossibleValuesParser::new(SHAPES))]
    pub shape: String,
    /// forced: the layers' weights
    #[arg(long, value_name = "PACKING", default_value = TUNED)]
    pub packing: Weights,
    /// forced: only this many of the shape's layers
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub layers: Option<usize>,
    /// forced: layers of the shallow region [default: a third]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub shallow: Option<usize>,
    /// forced: probability that a draft is right, all before it being so [default: as in prose, or 0.8]
    #[arg(long, value_name = "P", value_parser = values::share)]
    pub acceptance: Option<f32>,
    /// forced: measure other probabilities too, from 0 to 1
    #[arg(long)]
    pub curve: bool,
    /// forced: tokens of each text
    #[arg(long, value_name = "N", default_value = "33", value_parser = values::count)]
    pub forced_tokens: usize,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// A part of `bench speculate`.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Prose,
    Repeat,
    Forced,
}

/// Encode a text, beside the plainest encoder of the same vocabulary
#[derive(Args, Debug)]
#[command(after_help = "\
    The first time nothing is in the cache; then the text is encoded again and again. The yardstick\n\
    is an encoder without a cache that searches all pairs of neighbours for the one to merge next.\n\
    Several threads are measured in turn with one, and beside plain products of integers: two CPUs\n\
    may be halves of a core.\n\n\
    Examples:\n  \
    chalot bench tokenizer                                          a made-up text\n  \
    chalot bench tokenizer --vocab tokenizer.json --text book.txt --threads 1\n  \
    chalot bench tokenizer --vocab model.gguf --json")]
pub struct TokenizerBench {
    #[command(flatten)]
    pub vocab: Vocab,
    /// The text [default: made up of the vocabulary's words]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub text: Option<PathBuf>,
    /// Times to encode it after the first
    #[arg(long, value_name = "N", default_value = "9", value_parser = values::count)]
    pub rounds: usize,
    /// The plainest encoder gets this much of the text; 0 leaves it out (it takes the square of the length of a word)
    #[arg(long, value_name = "BYTES", default_value = "2097152")]
    pub linear_bytes: usize,
    /// Train 2,048 entries on this much of the text, in both ways; 0 trains nothing
    #[arg(long, value_name = "BYTES", default_value = "262144")]
    pub train_bytes: usize,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Generate with a mixture of experts, beside a dense model with as many active parameters
#[derive(Args, Debug)]
#[command(after_help = "\
    The dense model has the mixture's shape with one network a layer, as wide as the experts that a\n\
    token visits together. Both are in memory and generate in turn. And what it costs to start and\n\
    join the work of a layer: with threads spawned for it, and on the pool.\n\n\
    Examples:\n  \
    chalot bench experts\n  \
    chalot bench experts --shape moe-64x24 --packing trit5 --json        (5 GB of memory)")]
pub struct ExpertsBench {
    /// The mixture's shape
    #[arg(long, value_name = "SHAPE", default_value = "moe-2b", value_parser = PossibleValuesParser::new(SHAPES))]
    pub shape: String,
    /// The layers' weights, as for 'bench decode'
    #[arg(long, value_name = "PACKING", default_value = TUNED)]
    pub packing: Weights,
    /// The embedding's and head's weights
    #[arg(long, value_name = "PACKING", default_value = "int8")]
    pub head: Weights,
    /// Tokens to generate
    #[arg(long, short = 'n', value_name = "N", default_value = "128", value_parser = values::count)]
    pub tokens: usize,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Generate with a model larger than the memory it gets, with and without reading ahead
#[derive(Args, Debug)]
#[command(after_help = "\
    Each way begins with nothing in memory and generates --warm-up tokens before it is measured;\n\
    between tokens what the system's file cache kept of released weights is dropped, so that the disk\n\
    is read as if memory ended at the budget (on Linux; no other system lets a program ask for that).\n\
    The disk's own speed is measured in the same run, past the cache. Tokens of a random-weight model\n\
    follow Zipf's law and have topics; those of --model are the model's own. 'chalot synth' writes\n\
    such a file once for many runs.\n\n\
    Examples:\n  \
    chalot bench prefetch                                     writes 2.4 GB into the temporary folder\n  \
    chalot bench prefetch --model large.gguf --memory 1G --lookahead 0,1,2,4\n  \
    chalot bench prefetch --shape moe-2b --json")]
pub struct PrefetchBench {
    /// The shape of a model to write and delete again
    #[arg(long, value_name = "SHAPE", default_value = "moe-64x24", value_parser = PossibleValuesParser::new(SHAPES))]
    pub shape: String,
    /// A native file instead
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "shape")]
    pub model: Option<PathBuf>,
    /// Memory for everything [default: half of the file]
    #[arg(long, value_name = "SIZE", value_parser = values::size)]
    pub memory: Option<usize>,
    /// Layers ahead for which experts are foretold; several, to compare
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [PrefetchStrategy::default().lookahead])]
    pub lookahead: Vec<usize>,
    /// Tokens to measure, each way
    #[arg(long, short = 'n', value_name = "N", default_value = "100", value_parser = values::count)]
    pub tokens: usize,
    /// Tokens before them
    #[arg(long, value_name = "N", default_value = "30")]
    pub warm_up: usize,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Not a packing but whichever the machine was tuned to.
const TUNED: &str = "tuned";

/// A weight format, as typed: a packing's short name, or all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    /// As typed.
    pub name: String,
    /// What it means.
    pub format: Format,
}

impl Weights {
    /// Puts the packing that this machine was tuned to where it was asked for.
    pub fn resolve(&mut self, packing: Packing) {
        if self.name == TUNED {
            *self = Self { name: packing.to_string(), format: packing.scaled(ScaleBy::Tensor) };
        }
    }
}

impl FromStr for Weights {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let format = match name {
            "trit2" | TUNED => Packing::Trit2.scaled(ScaleBy::Tensor),
            "trit5" => Packing::Trit5.scaled(ScaleBy::Tensor),
            "int8" => Format::Int8(ScaleBy::Row),
            "int4" => Format::Int4 { mins: false },
            _ => name.parse().map_err(|_| {
                "known are tuned, trit2, trit5, int8, int4, f16, bf16 and f32, and with other scales \
                 trit2/row, trit2/64 (128, 256; trit5 too), int8/32, int4m/32"
                    .to_owned()
            })?,
        };
        Ok(Self { name: name.to_owned(), format })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuned_is_what_the_machine_was_tuned_to() {
        for (name, resolved) in [("tuned", "trit5"), ("trit2", "trit2"), ("int8", "int8")] {
            let mut weights: Weights = name.parse().unwrap();
            weights.resolve(Packing::Trit5);
            assert_eq!(weights, resolved.parse().unwrap());
        }
    }

    #[test]
    fn short_names_and_full_ones() {
        for (name, full) in [
            ("trit2", "trit2/tensor"),
            ("trit5", "trit5/tensor"),
            ("int8", "int8/row"),
            ("int4", "int4/32"),
            ("int8/32", "int8/32"),
            ("f16", "f16"),
        ] {
            let weights: Weights = name.parse().unwrap();
            assert_eq!((weights.name.as_str(), weights.format.to_string().as_str()), (name, full));
        }
        assert!("int3".parse::<Weights>().unwrap_err().contains("tuned, trit2, trit5, int8, int4"));
    }
}
