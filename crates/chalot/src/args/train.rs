//! `train`: models from texts.
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::values;

/// Train a model from text files, as a recipe says
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = true,
    after_help = "\
    A recipe is a TOML file: texts, vocabulary, size of the model, steps. Beside the model file, the\n\
    run's folder gets a Hugging Face folder, the log, files for TensorBoard, checkpoints and a plot.\n\
    Ctrl-C writes a checkpoint; --resume goes on from it, to the same bits as a run that never\n\
    stopped.\n\n\
    Examples:\n  \
    chalot train recipes/smoke.toml                     30 seconds, to see that it works\n  \
    chalot train recipes/small.toml --texts ~/texts     the texts lie elsewhere\n  \
    chalot train recipes/small.toml --resume            go on after Ctrl-C, a crash, a full disk\n  \
    chalot train plot recipes/runs/smoke                the curves, here and as an SVG picture\n  \
    chalot run recipes/runs/smoke/model.gguf            what it has learnt"
)]
pub struct TrainModel {
    #[command(subcommand)]
    pub action: Option<TrainAction>,
    /// The recipe
    #[arg(required = true, value_name = "RECIPE", value_hint = ValueHint::FilePath)]
    pub recipe: Option<PathBuf>,
    /// The folder to write into [default: runs/NAME beside the recipe]
    #[arg(long, short, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// Where the recipe's texts lie [default: beside the recipe]
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub texts: Option<PathBuf>,
    /// Go on from the newest checkpoint
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
    /// Go on from this checkpoint instead of the newest
    #[arg(long, requires = "resume", value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub checkpoint: Option<PathBuf>,
    /// Begin anew although the folder holds a run; its checkpoints are deleted
    #[arg(long, short)]
    pub force: bool,
    /// Share the work with the other processes that mpirun started
    #[cfg(feature = "mpi")]
    #[arg(long)]
    pub mpi: bool,
    /// Print the result as a JSON object
    #[arg(long)]
    pub json: bool,
}

/// What else to do.
#[derive(Subcommand, Debug)]
pub enum TrainAction {
    Plot(Plot),
}

/// Plot the curves of runs, in the terminal and as an SVG picture
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    chalot train plot recipes/runs/smoke\n  \
    chalot train plot runs/dense runs/experts --label dense --label experts --svg both.svg")]
pub struct Plot {
    /// Folders of runs, or their log.jsonl
    #[arg(required = true, value_name = "RUN", value_hint = ValueHint::AnyPath)]
    pub runs: Vec<PathBuf>,
    /// What a run is called, in the order of the runs [default: its folder's name]
    #[arg(long, value_name = "TEXT")]
    pub label: Vec<String>,
    /// The picture to write [default: curves.svg in the folder of a single run]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub svg: Option<PathBuf>,
    /// The picture's title
    #[arg(long, value_name = "TEXT", default_value = "Training")]
    pub title: String,
    /// Columns of the terminal [default: what it has]
    #[arg(long, value_name = "N", value_parser = values::count)]
    pub width: Option<usize>,
}
