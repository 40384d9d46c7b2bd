//! `tune`: what suits this machine.
use chalot_model::synthetic::SHAPES;
use clap::{Args, builder::PossibleValuesParser};

/// Find the packing, tile sizes and threads that suit this machine, and keep them
#[derive(Args, Debug)]
#[command(after_help = "\
    Candidates are measured in turn, some layers of a model with random weights; another value than\n\
    the default must be more than 3% faster. The findings go to tuning.json in the cache folder\n\
    ('chalot doctor' shows it) and the other commands use them; options of theirs win. No result\n\
    changes.\n\n\
    Examples:\n  \
    chalot tune                       about 40 seconds, on a machine with nothing else to do\n  \
    chalot tune --quick --dry-run     a glance; nothing is kept\n  \
    chalot tune --json                what was measured, for a program\n  \
    chalot tune --threads 4           the rest for 4 threads, which are then the default")]
pub struct Tune {
    /// Some 10 seconds, less certain
    #[arg(long)]
    pub quick: bool,
    /// Measure, but keep nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// The model's shape, for tests
    #[arg(long, hide = true, default_value = "bitnet-2b", value_parser = PossibleValuesParser::new(SHAPES))]
    pub shape: String,
}
