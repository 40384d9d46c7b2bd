//! `synth`: a model of random weights.
use std::path::PathBuf;

use chalot_model::synthetic::SHAPES;
use clap::{Args, ValueHint, builder::PossibleValuesParser};

use super::bench::Weights;

/// Write a model of random weights, as large as you like, to measure with
#[derive(Args, Debug)]
#[command(after_help = "\
    Layers are made and written one by one: the file may be larger than memory. What such a model\n\
    says is noise. The experts of a mixture are visited as a trained model's are: some more often\n\
    than others, neighbouring tokens share some, and most are foretold from the layer before.\n\n\
    Examples:\n  \
    chalot synth --shape moe-64x24 large.gguf                       2.4 GB, 9.7 G parameters\n  \
    chalot synth --shape moe-2b --packing trit5 small.gguf\n  \
    chalot run large.gguf --memory 1200M -n 64 --stats              with half of it in memory")]
pub struct Synth {
    /// The .gguf file to write
    #[arg(value_name = "OUT", value_hint = ValueHint::FilePath)]
    pub output: PathBuf,
    /// The model's shape
    #[arg(long, value_name = "SHAPE", value_parser = PossibleValuesParser::new(SHAPES))]
    pub shape: String,
    /// The layers' weights: tuned, trit2, trit5, int8, int4, f16, or a full name as int8/32
    #[arg(long, value_name = "PACKING", default_value = "trit2")]
    pub packing: Weights,
    /// The embedding's and head's weights
    #[arg(long, value_name = "PACKING", default_value = "int8")]
    pub head: Weights,
    /// Same seed, same file
    #[arg(long, value_name = "S", default_value = "1")]
    pub seed: u64,
    /// Overwrite OUT
    #[arg(long)]
    pub force: bool,
}
