//! `chalot tokenizer`: a vocabulary from texts, ids for a text and back, with the same ids as the engine uses.
mod file;
mod shards;
mod train;

use std::io::{self, BufWriter, Write};

use chalot::tokenizer::{
    Specials, Tokenizer,
    input::{InputOptions, Kind},
};

use crate::{
    args::{self, FileKind, Reading, Text, TokenizerAction, Vocab},
    failure::Usage,
    settings::Settings,
    terminal_input::{read_stdin_bytes, stdin_is_fed},
};

/// Trains, encodes, decodes or counts.
pub fn tokenizer(args: args::Tokenizer, settings: &Settings) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    match args.action {
        TokenizerAction::Train(args) => return train::train(&args, settings),
        TokenizerAction::Export { vocab, out, force } => {
            let format = file::Format::of(&out)?;
            file::check(&out, force)?;
            return format.write(&out, &vocabulary(&vocab)?);
        }
        TokenizerAction::Encode(args) if args.shards.is_some() => return shards::write(&args, settings),
        TokenizerAction::Encode(args) => {
            let tokenizer = vocabulary(&args.text.vocab)?;
            let specials = specials(&args.text);
            let text = given(args.text.text)?;
            let lines: Vec<&[u8]> = match args.lines {
                true => text
                    .split_inclusive(|&byte| byte == b'\n')
                    .map(|line| line.strip_suffix(b"\n").unwrap_or(line))
                    .collect(),
                false => vec![&text],
            };
            let ids = lines.into_iter().map(|line| tokenizer.encode(line, specials));
            match (args.json, args.lines) {
                (false, _) => ids.into_iter().try_for_each(|ids| write_ids(&mut out, &ids))?,
                (true, true) => writeln!(out, "{}", serde_json::to_string(&ids.collect::<Vec<_>>())?)?,
                (true, false) => {
                    writeln!(out, "{}", serde_json::to_string(&ids.flatten().collect::<Vec<_>>())?)?
                }
            }
        }
        TokenizerAction::Count { text } => {
            let tokenizer = vocabulary(&text.vocab)?;
            let specials = specials(&text);
            writeln!(out, "{}", tokenizer.count(given(text.text)?, specials))?;
        }
        TokenizerAction::Decode { vocab, ids, lines } => {
            let tokenizer = vocabulary(&vocab)?;
            let from_stdin = ids.is_empty() || ids == ["-"];
            let text = given((!from_stdin).then(|| ids.join(" ")))?;
            let text = String::from_utf8_lossy(&text);
            if lines {
                for line in text.split_terminator('\n') {
                    out.write_all(&tokenizer.decode(&parse_ids(line, &tokenizer)?))?;
                    writeln!(out)?;
                }
            } else {
                out.write_all(&tokenizer.decode(&parse_ids(&text, &tokenizer)?))?;
            }
        }
    }
    Ok(out.flush()?)
}

fn vocabulary(vocab: &Vocab) -> Result<Tokenizer, chalot::Error> {
    match &vocab.vocab {
        Some(path) => chalot::read_tokenizer(path, None),
        None => chalot::builtin_tokenizer(),
    }
}

/// How files with texts are read.
fn input_options(reading: &Reading) -> InputOptions {
    InputOptions {
        kind: reading.format.map(|format| match format {
            FileKind::Text => Kind::Plain,
            FileKind::Jsonl => Kind::JsonLines,
            FileKind::Parquet => Kind::Parquet,
        }),
        field: reading.field.clone(),
        separator: Some(reading.separator.clone()).filter(|separator| !separator.is_empty()),
        cut: false,
    }
}

fn specials(text: &Text) -> Specials {
    if text.special { Specials::Parse } else { Specials::AsText }
}

/// What stands on the command line, or stdin. Bytes: a vocabulary has tokens for those that are no UTF-8, too.
fn given(text: Option<String>) -> anyhow::Result<Vec<u8>> {
    match text {
        Some(text) if text != "-" => Ok(text.into_bytes()),
        None if !stdin_is_fed() => {
            Err(Usage("nothing to work on: give it on the command line, or '-' to read stdin".into()).into())
        }
        _ => read_stdin_bytes(),
    }
}

fn write_ids(out: &mut impl Write, ids: &[u32]) -> io::Result<()> {
    for (index, id) in ids.iter().enumerate() {
        write!(out, "{}{id}", if index == 0 { "" } else { " " })?;
    }
    writeln!(out)
}

/// Ids separated by white space or commas, as other tools print them.
fn parse_ids(text: &str, tokenizer: &Tokenizer) -> Result<Vec<u32>, Usage> {
    let last = tokenizer.vocab_size().saturating_sub(1);
    text.split(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']'))
        .filter(|word| !word.is_empty())
        .map(|word| match word.parse::<u32>() {
            Ok(id) if id as usize <= last => Ok(id),
            Ok(id) => Err(Usage(format!("id {id} is not in the vocabulary, which ends at {last}"))),
            Err(_) => {
                Err(Usage(format!("'{word}' is no token id; ids are whole numbers, separated by spaces")))
            }
        })
        .collect()
}
