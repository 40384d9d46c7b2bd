//! `chalot tokenizer`: ids for a text and back, with the same ids as the engine uses.
use std::io::{self, BufWriter, Write};

use chalot::tokenizer::{Specials, Tokenizer};

use crate::{
    args::{self, Text, TokenizerAction, Vocab},
    failure::Usage,
    terminal_input::{read_stdin_bytes, stdin_is_fed},
};

/// Encodes, decodes or counts.
pub fn tokenizer(args: args::Tokenizer) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    match args.action {
        TokenizerAction::Encode { text, lines } => {
            let tokenizer = vocabulary(&text.vocab)?;
            let specials = specials(&text);
            let text = given(text.text)?;
            if lines {
                for line in text.split_inclusive(|&byte| byte == b'\n') {
                    let line = line.strip_suffix(b"\n").unwrap_or(line);
                    write_ids(&mut out, &tokenizer.encode(line, specials))?;
                }
            } else {
                write_ids(&mut out, &tokenizer.encode(&text, specials))?;
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
