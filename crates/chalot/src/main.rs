//! The `chalot` command: reads what was typed and hands it to one of the commands.
mod args;
mod cmd;
mod console;
mod failure;
mod settings;
mod terminal_input;
mod tuning;

use std::process::ExitCode;

use clap::{ColorChoice, FromArgMatches};

use args::{Cli, Command};
use settings::Settings;

fn main() -> ExitCode {
    // Help and usage errors are coloured before any argument is understood, so this one is looked for by hand.
    let plain = std::env::args_os().any(|arg| arg == "--no-color");
    let color = if plain { ColorChoice::Never } else { ColorChoice::Auto };
    let parsed =
        args::command().color(color).try_get_matches().and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => return failure::usage(&error, plain),
    };
    match dispatch(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error, plain),
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<()> {
    chalot::model::explain_truncated_files();
    let settings = Settings::resolve(&cli.global)?;
    match cli.command {
        None => cmd::welcome(&settings),
        Some(Command::Run(args)) => cmd::run::run(args, &settings),
        Some(Command::Chat(args)) => cmd::chat::chat(args, &settings),
        Some(Command::Inspect(args)) => cmd::inspect::inspect(args, &settings),
        Some(Command::Convert(args)) => cmd::convert::convert(args, &settings),
        Some(Command::Perplexity(args)) => cmd::perplexity::perplexity(args, &settings),
        Some(Command::Tokenizer(args)) => cmd::tokenizer::tokenizer(args, &settings),
        Some(Command::Train(args)) => cmd::train::train(&args, &settings),
        Some(Command::Bench(args)) => cmd::bench::bench(args, &settings),
        Some(Command::Synth(args)) => cmd::synth::synth(&args, &settings),
        Some(Command::Tune(args)) => cmd::tune::tune(&args, cli.global.threads, &settings),
        Some(Command::Doctor(args)) => cmd::doctor::doctor(args, &settings),
        Some(Command::Completions(args)) => cmd::completions(args),
        Some(Command::Man(args)) => cmd::man::man(args, &settings),
    }
}
