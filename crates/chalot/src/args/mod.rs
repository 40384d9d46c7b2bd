//! What can be typed: one type for each command, nothing checked beyond the form of a value.
//!
//! The commands (`crate::cmd`) turn these into what they work with and refuse what does not fit together.
pub mod bench;
mod files;
mod generation;
mod synth;
mod tokenizer;
mod train;
mod tune;
mod values;

use std::path::PathBuf;

use clap::{Arg, ArgAction, Args, CommandFactory, Parser, Subcommand, ValueHint};

use chalot_simd::IsaKind;

pub use bench::Bench;
pub use files::{Convert, Inspect, Perplexity, Target};
pub use generation::{
    Chat, Drafting, Holding, KvChoice, Memory, Run, Sampling, SpeculateChoice, WeightsChoice,
};
pub use synth::Synth;
pub use tokenizer::{Encode, FileKind, Reading, Text, Tokenizer, TokenizerAction, Train, Vocab};
pub use train::{Plot, TrainAction, TrainModel};
pub use tune::Tune;

/// Runs ternary language models on ordinary CPUs.
#[derive(Parser, Debug)]
#[command(
    name = "chalot",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    about = "Runs language models with weights of -1, 0 and +1 on ordinary CPUs; int8, int4 and float models too. A \
             small model is built in, so there is nothing to download before the first try.",
    after_help = "\
        A model is a .gguf file, a Hugging Face folder (config.json, *.safetensors, tokenizer.json) or a\n\
        llama2.c .bin file.\n\n\
        Examples:\n  \
        chalot run                                   the built-in model tells a story\n  \
        chalot run -p \"The old king\" --seed 7        it goes on from your words, the same each time\n  \
        chalot chat model.gguf                       talk to an instruction model\n  \
        chalot inspect model.gguf                    what is in a file\n\n\
        'chalot COMMAND --help' shows a command's options, with examples."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub global: Global,
}

/// The whole command line, as clap sees it. `-h` and `--help` print the same, on one screen where it can be: nobody should
/// have to know that there are two.
pub fn command() -> clap::Command {
    fn with_help(command: clap::Command) -> clap::Command {
        let names: Vec<_> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
        let help = Arg::new("help")
            .short('h')
            .long("help")
            .help("Print help, with examples")
            .help_heading("Global options")
            .display_order(1000)
            .action(ArgAction::HelpShort);
        let command = command.disable_help_flag(true).arg(help);
        names.into_iter().fold(command, |command, name| command.mut_subcommand(name, with_help))
    }
    with_help(Cli::command())
}

/// Options of every command.
#[derive(Args, Debug, Default, Clone)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Threads to compute with [default: as tuned, or one for each core]
    #[arg(long, short = 't', global = true, value_name = "N", value_parser = values::threads)]
    pub threads: Option<usize>,
    /// Instruction set of the kernels; changes the speed, never the result [default: the best here]
    #[arg(long, global = true, value_name = "ISA", value_parser = values::isa())]
    pub isa: Option<IsaKind>,
    /// Only the result and errors: no bars, no notes, no figures
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// No colours (so does the environment variable NO_COLOR)
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    Run(Run),
    Chat(Chat),
    Inspect(Inspect),
    Convert(Convert),
    Perplexity(Perplexity),
    Tokenizer(Tokenizer),
    Train(TrainModel),
    Bench(Bench),
    Synth(Synth),
    Tune(Tune),
    Doctor(Doctor),
    Completions(Completions),
    Man(Man),
}

/// Show this CPU, the kernels chosen for it, threads and memory
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    chalot doctor                     a report to read, or to put into a bug report\n  \
    chalot doctor --json              the same for a program\n  \
    chalot doctor --isa avx2          is AVX2 there?")]
pub struct Doctor {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Print the completion script of a shell
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    chalot completions bash > ~/.local/share/bash-completion/completions/chalot\n  \
    chalot completions zsh > ~/.zfunc/_chalot          (a folder of your $fpath)\n  \
    chalot completions fish > ~/.config/fish/completions/chalot.fish")]
pub struct Completions {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// Print the manual page, or write all of them into a folder
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    chalot man | man -l -             read it now\n  \
    chalot man --dir ~/.local/share/man/man1    a page for each command")]
pub struct Man {
    /// Write one page for each command into this folder, which is made if it is not there
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
}
