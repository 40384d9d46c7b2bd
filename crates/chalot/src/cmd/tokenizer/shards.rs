//! `chalot tokenizer encode --shards`: the ids of files, for training.
use std::{fs, path::PathBuf};

use anyhow::bail;
use chalot::tokenizer::{
    Tokenizer,
    input::Texts,
    shards::{ShardOptions, ShardWriter},
};

use super::{input_options, specials, vocabulary};
use crate::{
    args::Encode,
    cmd::{bytes, count},
    console::Unit,
    failure::Usage,
    settings::Settings,
    terminal_input::{catch_interrupts, interrupted, stdin_is_fed},
};

/// Texts of about so many bytes are encoded together, on all threads.
const TOGETHER: usize = 16 << 20;

/// Writes the shards.
pub fn write(args: &Encode, settings: &Settings) -> anyhow::Result<()> {
    let Some(index) = &args.shards else { return Ok(()) };
    let files: Vec<PathBuf> = match args.files.is_empty() {
        true if stdin_is_fed() => vec!["-".into()],
        true => return Err(Usage("nothing to encode: name --files, or feed stdin".into()).into()),
        false => args.files.clone(),
    };
    let tokenizer = vocabulary(&args.text.vocab)?;
    let options = ShardOptions {
        shard_tokens: args.shard_tokens as u64,
        end_of_text: end_of_text(args, &tokenizer)?,
        offsets: !args.no_offsets,
    };
    let total: u64 = files.iter().filter_map(|file| fs::metadata(file).ok()).map(|file| file.len()).sum();
    let mut texts = Texts::new(&files, input_options(&args.reading));
    let mut writer = ShardWriter::create(index, &tokenizer, options)?;
    catch_interrupts();
    let bar = settings.console.bar("encoding", Unit::Bytes);
    let mut done = 0;
    loop {
        let mut together = Vec::new();
        let mut size = 0;
        while size < TOGETHER {
            let Some(text) = texts.next().transpose()? else { break };
            size += text.len();
            together.push(text);
        }
        if together.is_empty() {
            break;
        }
        for ids in tokenizer.encode_batch(&together, specials(&args.text), settings.threads) {
            writer.document(&ids)?;
        }
        done += size as u64;
        bar.set(done, total.max(done), &format!("{} tokens", count(writer.tokens())));
        if interrupted() {
            bail!("interrupted; the shards are not whole: run the command again");
        }
    }
    drop(bar);
    let written = writer.finish()?;
    settings.console.note(&format!(
        "{}: {} documents, {} tokens of {} in {} shards",
        index.display(),
        written.documents,
        written.tokens,
        bytes(done),
        written.shards.len()
    ));
    Ok(())
}

/// The id behind each document.
fn end_of_text(args: &Encode, tokenizer: &Tokenizer) -> Result<Option<u32>, Usage> {
    match args.end.as_deref() {
        Some("") => Ok(None),
        Some(name) => match tokenizer.id_of(name) {
            Some(id) => Ok(Some(id)),
            None => Err(Usage(format!("--end {name}: the vocabulary has no such token"))),
        },
        None => {
            let known = ["<|endoftext|>", "<|end_of_text|>", "</s>"];
            let named = known.iter().find_map(|name| tokenizer.id_of(name));
            Ok(tokenizer.eos().or(named).or_else(|| tokenizer.eog_tokens().first().copied()))
        }
    }
}
