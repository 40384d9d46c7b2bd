//! `bench`: how fast this machine is, as a share of what it could be.
use std::str::FromStr;

use chalot_model::synthetic::SHAPES;
use chalot_tensor::{Format, Packing, ScaleBy};
use clap::{Args, Subcommand, builder::PossibleValuesParser};

use super::values;

/// Measure this machine, and the engine as a share of it
#[derive(Args, Debug)]
#[command(after_help = "\
    Models are random weights of a known shape, so nothing is downloaded. What the machine could do is\n\
    measured in the same run, in turn with the work and on the same threads.\n\n\
    Examples:\n  \
    chalot bench decode                        one token after the other, BitNet 2B\n  \
    chalot bench prefill --packing int4        a prompt of 512 tokens\n  \
    chalot bench kernels --json                every format, 1, 5 and 512 tokens, for a program")]
pub struct Bench {
    #[command(subcommand)]
    pub what: What,
}

/// What is measured.
#[derive(Subcommand, Debug)]
pub enum What {
    Decode(Decode),
    Prefill(Prefill),
    Kernels(Kernels),
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
}

/// Generate token by token, as a share of the memory's bandwidth
#[derive(Args, Debug)]
#[command(after_help = "\
    Tokens are computed as in generation, sampling apart. The share counts the bytes of all weights that a\n\
    token reads, the head among them (not its keys and values, which matter with --depth).\n\n\
    Examples:\n  \
    chalot bench decode\n  \
    chalot bench decode --packing trit5 --threads 1\n  \
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

/// Multiply 1, 5 and 512 tokens with one matrix of each format
#[derive(Args, Debug)]
#[command(after_help = "\
    The matrix is the shape's up projection; its copies exceed the caches. The time includes making the\n\
    tokens' 8-bit form.\n\n\
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
