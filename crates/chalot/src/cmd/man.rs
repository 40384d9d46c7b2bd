//! `chalot man`: manual pages, made from the same definitions as the help.
use std::{
    fs,
    io::{self, Write},
};

use anyhow::Context;
use clap_mangen::Man;

use crate::{args, settings::Settings};

/// Prints the page of `chalot`, or writes all pages into a folder.
pub fn man(args: args::Man, settings: &Settings) -> anyhow::Result<()> {
    let Some(dir) = args.dir else {
        let mut page = Vec::new();
        Man::new(args::command()).render(&mut page)?;
        return Ok(io::stdout().lock().write_all(&page)?);
    };
    let named = || dir.display().to_string();
    fs::create_dir_all(&dir).with_context(named)?;
    // Names the pages of commands "chalot-run" and so on, those of `tokenizer` included.
    clap_mangen::generate_to(args::command(), &dir).with_context(named)?;
    settings.console.note(&format!("manual pages are in {}", dir.display()));
    Ok(())
}
