//! `chalot tokenizer train`: a vocabulary from files.
use std::{
    fmt::Write as _,
    fs, io,
    ops::ControlFlow,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::bail;
use chalot::tokenizer::{
    Pattern,
    input::{InputOptions, Texts},
    train::{Alphabet, Progress, TrainOptions, Trainer},
};

use super::{
    file::{Format, check, with_ending},
    input_options,
};
use crate::{
    args::Train,
    cmd::bytes,
    console::{Bar, Unit},
    settings::Settings,
    terminal_input::{catch_interrupts, interrupted},
};

/// A long run is saved this often, should the machine fail.
const SAVE_EVERY: Duration = Duration::from_secs(600);

/// Trains.
pub fn train(args: &Train, settings: &Settings) -> anyhow::Result<()> {
    let console = settings.console;
    let format = Format::of(&args.out)?;
    check(&args.out, args.force)?;
    let options = options(args, settings);
    let state = with_ending(&args.out, ".state");
    let described = describe(args)?;
    let start = Instant::now();
    let mut trainer = match (args.resume, state.exists()) {
        (true, true) => {
            let trainer = Trainer::resume(&state, options, &described)?;
            let (counted, words, merges) = (bytes(trainer.bytes()), trainer.words(), trainer.merges());
            console
                .note(&format!("going on: {counted} counted, {words} different pre-tokens, {merges} merges"));
            trainer
        }
        (true, false) => {
            bail!("{}: there is no such state to go on with; leave out --resume", state.display())
        }
        (false, _) => Trainer::new(options)?,
    };
    let mut input = input_options(&args.files.reading);
    input.cut = InputOptions::can_cut(&trainer.options().pattern);

    catch_interrupts();
    let total: u64 =
        args.files.files.iter().filter_map(|file| fs::metadata(file).ok()).map(|file| file.len()).sum();
    let bar = console.bar("counting", Unit::Bytes);
    let texts = Texts::new(&args.files.files, input);
    let stopped = trainer.count(texts, &mut |progress| watch(&bar, progress, total))?.is_break();
    drop(bar);
    let counted = start.elapsed();
    if stopped || (trainer.bytes() > 0 && counted > SAVE_EVERY) {
        trainer.save(&state, &described)?;
    }
    if stopped {
        return stop(&state);
    }
    let bar = console.bar("merging", Unit::Merges);
    let stopped = trainer.merge(&mut |progress| watch(&bar, progress, total))?.is_break();
    drop(bar);
    if stopped {
        trainer.save(&state, &described)?;
        return stop(&state);
    }
    let tokenizer = trainer.tokenizer()?;
    format.write(&args.out, &tokenizer)?;
    match fs::remove_file(&state) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            console.note(&format!("note: {}: {error}; it is not needed any more", state.display()));
        }
        _ => {}
    }
    let seconds = start.elapsed().as_secs_f64();
    console.note(&format!(
        "{}: {} entries, {} merges of {} different pre-tokens in {}; {:.1} s ({:.1} s counting)",
        args.out.display(),
        tokenizer.vocab_size(),
        trainer.merges(),
        trainer.words(),
        bytes(trainer.bytes()),
        seconds,
        counted.as_secs_f64(),
    ));
    if tokenizer.vocab_size() < args.vocab_size {
        console.note(&format!(
            "note: {} entries were wanted, but no other pair occurs {} times: give more text",
            args.vocab_size, args.min_frequency
        ));
    }
    if format == Format::Tiktoken {
        console.note("note: a .tiktoken file has neither the pattern nor the special tokens: its reader must name them");
    }
    Ok(())
}

fn options(args: &Train, settings: &Settings) -> TrainOptions {
    let Ok(pattern) = args.pattern.parse::<Pattern>();
    TrainOptions {
        vocab_size: args.vocab_size,
        min_frequency: args.min_frequency as u64,
        special_tokens: match args.special.is_empty() {
            true => vec!["<|endoftext|>".into()],
            // An empty name: no special token at all.
            false => args.special.iter().filter(|token| !token.is_empty()).cloned().collect(),
        },
        alphabet: if args.seen_bytes { Alphabet::Seen } else { Alphabet::Bytes },
        max_token_bytes: args.max_token_bytes,
        pattern,
        threads: settings.threads,
    }
}

/// Shows how far it is, and hears Ctrl-C.
fn watch(bar: &Bar, progress: Progress, total: u64) -> ControlFlow<()> {
    match progress {
        // Compressed files have more text than bytes.
        Progress::Counting { bytes, texts } => bar.set(bytes, total.max(bytes), &format!("{texts} texts")),
        Progress::Merging { done, total } => bar.set(done, total, ""),
    }
    if interrupted() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}

fn stop(state: &Path) -> anyhow::Result<()> {
    bail!(
        "interrupted; what has been done is in {}: add --resume to the same command to go on",
        state.display()
    )
}

/// What is trained on, so that a run goes on with nothing else: names and sizes of the files, and how they are read.
fn describe(args: &Train) -> anyhow::Result<String> {
    let mut text = String::new();
    for file in &args.files.files {
        let size = match file.as_os_str() == "-" {
            true => 0,
            false => {
                fs::metadata(file).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?.len()
            }
        };
        write!(text, "{} ({size} bytes), ", file.display())?;
    }
    let reading = &args.files.reading;
    write!(
        text,
        "field {:?}, separator {:?}, format {:?}",
        reading.field, reading.separator, reading.format
    )?;
    Ok(text)
}
