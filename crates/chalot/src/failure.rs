//! How a command fails: one line on stderr, exit code 1, or 2 when it was called wrongly.
//!
//! A reader that closes our stdout (`chalot run | head -c 20`) is no failure: it has what it wanted.
use std::{
    error::Error,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::error::ErrorKind;

use crate::args;

/// A command that was called wrongly although its arguments could be read: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Reports an error of a command.
pub fn report(error: &anyhow::Error, plain: bool) -> ExitCode {
    if error.chain().any(is_broken_pipe) {
        return ExitCode::SUCCESS;
    }
    print(&one_line(error), plain);
    if error.is::<Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// Reports arguments that could not be read, or prints the help or version that they asked for.
pub fn usage(error: &clap::Error, plain: bool) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Nobody is left to tell when stdout cannot be written.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(2)
        }
        _ => {
            let message = condensed(&error.render().to_string());
            print(&format!("{message} (see '{} --help')", command_typed(std::env::args().skip(1))), plain);
            ExitCode::from(2)
        }
    }
}

fn print(message: &str, plain: bool) {
    let bold = !plain
        && io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let label = if bold { "\x1b[1;31merror:\x1b[0m" } else { "error:" };
    // A closed stderr leaves no place to complain in.
    let _ = writeln!(io::stderr(), "{label} {message}");
}

/// The error and its causes, without those whose text is already in what came before.
fn one_line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text.split('\n').map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The commands among the arguments: "chalot tokenizer encode". clap's report does not always name them.
fn command_typed(arguments: impl Iterator<Item = String>) -> String {
    let mut command = args::command();
    let mut typed = "chalot".to_owned();
    for argument in arguments {
        if let Some(subcommand) = command.find_subcommand(&argument) {
            typed = format!("{typed} {argument}");
            command = subcommand.clone();
        }
    }
    typed
}

/// clap's report (message, tips, usage, pointer to --help; a paragraph each) in one line.
fn condensed(report: &str) -> String {
    let text = report.strip_prefix("error: ").unwrap_or(report);
    let paragraphs =
        || text.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let message = paragraphs().next().unwrap_or_default();
    let tips = paragraphs().filter_map(|words| Some(words.strip_prefix("tip: ")?.replace(" tip: ", "; ")));
    tips.fold(message, |message, tip| format!("{message}; {tip}"))
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn claps_report_becomes_one_line() {
        let report = "error: unexpected argument '--tmp' found\n\n  tip: a similar argument exists: '--temp'\n\n\
                      Usage: chalot run --temp <T> [MODEL]\n\nFor more information, try '--help'.\n";
        assert_eq!(
            condensed(report),
            "unexpected argument '--tmp' found; a similar argument exists: '--temp'"
        );
        let report = "error: the following required arguments were not provided:\n  <IN>\n  <OUT>\n\n\
                      Usage: chalot convert <IN> <OUT>\n\nFor more information, try '--help'.\n";
        assert_eq!(condensed(report), "the following required arguments were not provided: <IN> <OUT>");
    }

    #[test]
    fn the_command_is_found_among_options() {
        let typed = |words: &str| command_typed(words.split(' ').map(str::to_owned));
        assert_eq!(typed("-q tokenizer encode --vocab x"), "chalot tokenizer encode");
        assert_eq!(typed("--nothing"), "chalot");
    }

    #[test]
    fn a_cause_is_told_once() {
        let io = || io::Error::new(io::ErrorKind::NotFound, "no such file");
        let error = Err::<(), _>(io()).context("a.gguf").unwrap_err();
        assert_eq!(one_line(&error), "a.gguf: no such file");
        let error = Err::<(), _>(io()).context("a.gguf: no such file").unwrap_err();
        assert_eq!(one_line(&error), "a.gguf: no such file");
    }
}
