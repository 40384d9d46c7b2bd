//! The texts of a recipe: read, chosen, split into what is trained on and what is held out, made into documents.

use std::fs;
use std::path::{Path, PathBuf};

use chalot_tokenizer::input::{InputOptions, Texts};
use sha2::{Digest, Sha256};

use super::books::{Book, Books};
use super::{DataError, prose};
use crate::recipe::{Data, HeldOut, Prepare, TextSource};

/// A whole text: a book, an article.
#[derive(Clone, Debug)]
struct Text {
    /// What it is called in messages and in `[data.held_out]`.
    name: String,
    /// How often an epoch reads it.
    repeat: usize,
    text: String,
}

/// What is trained on and what is held out.
#[derive(Clone, Debug, Default)]
pub(super) struct Documents {
    /// One entry for each time that an epoch reads a document.
    pub(super) train: Vec<String>,
    pub(super) held_out: Vec<String>,
    /// Names of the held-out texts.
    pub(super) held_out_names: Vec<String>,
    /// Texts in all.
    pub(super) texts: usize,
}

/// Reads the texts. Lists of books are relative to `base`, texts to `folder`.
pub(super) fn documents(data: &Data, base: &Path, folder: &Path) -> Result<Documents, DataError> {
    let mut texts = Vec::new();
    for (at, source) in data.texts.iter().enumerate() {
        read(source, &format!("data.texts[{at}]"), base, folder, &mut texts)?;
    }
    let held_out = split(&data.held_out, &texts)?;
    let mut documents = Documents { texts: texts.len(), ..Documents::default() };
    for (text, held_out) in texts.into_iter().zip(held_out) {
        let parts = match data.prepare {
            Prepare::Nothing => vec![text.text],
            Prepare::Prose => prose::documents(&text.text),
        };
        if held_out {
            documents.held_out.extend(parts);
            documents.held_out_names.push(text.name);
        } else {
            for _ in 0..text.repeat {
                documents.train.extend(parts.iter().cloned());
            }
        }
    }
    for (key, documents) in [("data.texts", &documents.train), ("data.held_out", &documents.held_out)] {
        if documents.iter().all(String::is_empty) {
            return Err(DataError::Recipe {
                key: key.into(),
                found: format!("nothing is left for it of {} texts", held_out_of(&data.held_out)),
                mend: "give more texts, or hold out fewer".into(),
            });
        }
    }
    Ok(documents)
}

fn held_out_of(held_out: &HeldOut) -> String {
    match held_out {
        HeldOut { every: Some(every), .. } => format!("those split by `every = {every}`; too few"),
        HeldOut { hash: Some(hash), .. } => format!("those split by `hash = {hash}`; too few"),
        _ => "those named; no prose in the".into(),
    }
}

/// SHA-256 of everything that the files of a recipe hold.
pub(super) fn contents(data: &Data, base: &Path, folder: &Path) -> Result<String, DataError> {
    let mut hash = Sha256::new();
    for (at, source) in data.texts.iter().enumerate() {
        let lists = source.books.iter().map(|list| base.join(list));
        for file in files(source, &format!("data.texts[{at}]"), folder)?.into_iter().chain(lists) {
            let bytes = fs::read(&file).map_err(|error| DataError::io(&file, error))?;
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(&bytes);
        }
    }
    Ok(crate::hex(&hash.finalize()))
}

/// The files of a source: itself, or what lies in its folder, sorted.
fn files(source: &TextSource, key: &str, folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut found = Vec::new();
    for path in source.path.names() {
        found.append(&mut files_of(path, source, key, folder)?);
    }
    Ok(found)
}

fn files_of(path: &str, source: &TextSource, key: &str, folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let path = folder.join(path);
    if !path.is_dir() {
        return match path.is_file() {
            true => Ok(vec![path]),
            false => Err(DataError::Recipe {
                key: format!("{key}.path"),
                found: format!("there is no file or folder {}", path.display()),
                mend: match &source.source {
                    Some(origin) => {
                        format!("get it from {origin}, or name the folder it lies in with --texts")
                    }
                    None => "correct the path, or name the folder it lies in with --texts".into(),
                },
            }),
        };
    }
    let mut found = Vec::new();
    let mut folders = vec![path.clone()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).map_err(|error| DataError::io(&folder, error))?;
        for entry in entries {
            let path = entry.map_err(|error| DataError::io(&folder, error))?.path();
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if path.is_dir() && !hidden {
                folders.push(path);
            } else if is_text(&path) && !hidden {
                found.push(path);
            }
        }
    }
    found.sort();
    match found.is_empty() {
        false => Ok(found),
        true => Err(DataError::Recipe {
            key: format!("{key}.path"),
            found: format!("no text in the folder {}", path.display()),
            mend: "put .txt, .md, .jsonl or .parquet files there (also .gz, .zst, .xz)".into(),
        }),
    }
}

fn is_text(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let name = [".gz", ".zst", ".zstd", ".xz"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    [".txt", ".md", ".jsonl", ".ndjson", ".parquet"].iter().any(|end| name.ends_with(end))
}

/// Reads one source.
fn read(
    source: &TextSource,
    key: &str,
    base: &Path,
    folder: &Path,
    texts: &mut Vec<Text>,
) -> Result<(), DataError> {
    let options = InputOptions {
        field: source.field.clone(),
        separator: Some(source.separator.clone()).filter(|separator| !separator.is_empty()),
        ..InputOptions::default()
    };
    let mut found = Vec::new();
    for file in files(source, key, folder)? {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for (number, text) in Texts::new([&file], options.clone()).enumerate() {
            let text = text?;
            if !text.trim().is_empty() {
                found.push(Text { name: format!("{stem} {number}"), repeat: source.repeat, text });
            }
        }
    }
    let Some(list) = &source.books else {
        texts.append(&mut found);
        return Ok(());
    };
    let list = base.join(list);
    let books = Books::read(&list)?;
    let openings: Vec<String> = found.iter().map(|text| Book::opening_of(&text.text)).collect();
    for book in &books.books {
        let at = book.among(&openings);
        let Some(at) = at else {
            return Err(DataError::Recipe {
                key: format!("{key}.books"),
                found: format!("no text begins with {:?} ({})", book.opening, book.name),
                mend: format!("correct {}, or get the texts that it lists", list.display()),
            });
        };
        texts.push(Text { name: book.name.clone(), repeat: book.repeat, text: found[at].text.clone() });
    }
    Ok(())
}

/// Which texts are held out.
fn split(held_out: &HeldOut, texts: &[Text]) -> Result<Vec<bool>, DataError> {
    let every = held_out.every.map(|every| every.max(1));
    let hash = held_out.hash.map(|hash| hash.max(1));
    for name in &held_out.names {
        if !texts.iter().any(|text| text.name.contains(name)) {
            return Err(DataError::Recipe {
                key: "data.held_out.names".into(),
                found: format!("no text is called {name:?}"),
                mend: match texts.iter().map(|text| text.name.as_str()).take(3).collect::<Vec<_>>().join("; ")
                {
                    some if some.is_empty() => "there are no texts".into(),
                    some => format!("the texts are called {some}, ..."),
                },
            });
        }
    }
    let digest = |text: &str| {
        let digest = Sha256::digest(text.as_bytes());
        digest.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let chosen = texts.iter().enumerate().map(|(at, text)| {
        every.is_some_and(|every| (at + 1).is_multiple_of(every))
            || hash.is_some_and(|hash| digest(&text.text).is_multiple_of(hash as u64))
            || held_out.names.iter().any(|name| text.name.contains(name))
    });
    Ok(chosen.collect())
}
