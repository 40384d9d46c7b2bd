//! The commands, one file each: check what was typed, do the work, print.
pub mod bench;
pub mod chat;
pub mod convert;
pub mod doctor;
pub mod drafts;
pub mod inspect;
pub mod man;
pub mod open;
pub mod perplexity;
pub mod prefetched;
pub mod run;
pub mod synth;
pub mod tokenizer;
pub mod train;
pub mod tune;

use std::io::{self, Write};

use serde::Serialize;

use crate::{
    args::{self, Completions},
    settings::Settings,
};

/// `chalot` alone: what to type first.
pub fn welcome(settings: &Settings) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "chalot {}: language models of -1, 0 and +1, on this CPU\n", env!("CARGO_PKG_VERSION"))?;
    let lines = [
        ("chalot run", "the built-in model tells a story"),
        ("chalot run -p \"The old king\"", "it goes on from your words"),
        ("chalot run model.gguf -p \"...\"", "the same with a model of yours"),
        ("chalot chat model.gguf", "talk to an instruction model"),
        ("chalot inspect model.gguf", "what is in a file"),
        ("chalot doctor", "what this machine can do"),
        ("chalot --help", "all commands"),
    ];
    for (command, meaning) in lines {
        // Padded before it is made bold: escape codes have no width.
        let padded = format!("{command:<33}");
        writeln!(out, "  {}{meaning}", settings.console.bold(&padded))?;
    }
    Ok(())
}

/// `chalot completions`.
pub fn completions(args: Completions) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut args::command(), "chalot", &mut script);
    io::stdout().lock().write_all(&script)?;
    Ok(())
}

/// One JSON object on stdout.
fn print_json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(value)?;
    writeln!(io::stdout().lock(), "{text}")?;
    Ok(())
}

/// 1536 as "1.5 KiB".
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} bytes") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// 134515008 as "134.5 M".
fn count(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        1_000..1_000_000 => format!("{:.1} k", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} M", number as f64 / 1e6),
        _ => format!("{:.2} G", number as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_for_people() {
        assert_eq!(bytes(1023), "1023 bytes");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(98 << 20), "98.0 MiB");
        assert_eq!(count(999), "999");
        assert_eq!(count(134_515_008), "134.5 M");
        assert_eq!(count(2_400_000_000), "2.40 G");
    }

    #[test]
    fn the_arguments_are_well_formed() {
        args::command().debug_assert();
    }
}
