//! `chalot train plot`: the curves of runs.
use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use anyhow::Context;
use chalot_train::{
    log,
    plot::{Run, svg, terminal},
};

use crate::{args, failure::Usage, settings::Settings};

/// The picture's name in a run's folder.
pub const FILE: &str = "curves.svg";

/// Plots.
pub fn plot(args: &args::Plot, settings: &Settings) -> anyhow::Result<()> {
    if args.label.len() > args.runs.len() {
        let (labels, runs) = (args.label.len(), args.runs.len());
        return Err(Usage(format!("--label: {labels} labels for {runs} runs")).into());
    }
    let mut runs = Vec::new();
    for (number, folder) in args.runs.iter().enumerate() {
        let records = log::read(folder)?;
        let label = args.label.get(number).cloned().unwrap_or_else(|| name_of(folder));
        runs.push(Run { label, records });
    }
    let picture = match (&args.svg, &args.runs[..]) {
        (Some(file), _) => Some(file.clone()),
        (None, [folder]) if folder.is_dir() => Some(folder.join(FILE)),
        _ => None,
    };
    if let Some(file) = picture {
        fs::write(&file, svg(&runs, &args.title)).with_context(|| file.display().to_string())?;
        settings.console.note(&format!("the curves as a picture: {}", file.display()));
    }
    let text =
        terminal(&runs, args.width.unwrap_or_else(|| settings.console.width()), settings.console.colored());
    if text.is_empty() {
        anyhow::bail!("no steps in the logs yet");
    }
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// The folder's name, also of `folder/log.jsonl` and `.`.
fn name_of(run: &Path) -> String {
    let folder = if run.is_file() { run.parent().unwrap_or(run) } else { run };
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    whole.file_name().unwrap_or(whole.as_os_str()).to_string_lossy().into_owned()
}
