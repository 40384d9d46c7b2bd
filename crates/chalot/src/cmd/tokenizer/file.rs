//! Vocabulary files.
use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::bail;
use chalot::{formats::gguf::Header, tokenizer::Tokenizer, vocab_to_metadata};

use crate::failure::Usage;

/// Whether a file may be written there, before the work begins.
pub fn check(out: &Path, force: bool) -> anyhow::Result<()> {
    let shown = out.display();
    match fs::metadata(out) {
        Ok(metadata) if metadata.is_dir() => bail!("{shown}: is a folder; name the file to write"),
        Ok(_) if !force => {
            bail!("{shown}: exists already; name another file, or overwrite it with --force")
        }
        _ => {}
    }
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        bail!("{shown}: there is no folder {}; make it first", folder.display());
    }
    Ok(())
}

/// The path with something behind its name.
pub fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// A kind of vocabulary file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Tiktoken,
    Gguf,
}

impl Format {
    /// By the name's ending.
    pub fn of(path: &Path) -> Result<Format, Usage> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => Ok(Format::Json),
            Some("tiktoken") => Ok(Format::Tiktoken),
            Some("gguf") => Ok(Format::Gguf),
            _ => Err(Usage(format!("{}: its name must end in .json, .tiktoken or .gguf", path.display()))),
        }
    }

    /// Writes beside the file, syncs and renames.
    pub fn write(self, path: &Path, tokenizer: &Tokenizer) -> anyhow::Result<()> {
        let aside = with_ending(path, ".part");
        let contents = match self {
            Format::Json => tokenizer.to_json().into_bytes(),
            Format::Tiktoken => tokenizer.to_tiktoken()?.into_bytes(),
            Format::Gguf => {
                let mut header = Header::new();
                for (key, value) in vocab_to_metadata(tokenizer.to_gguf()) {
                    header.set(key, value);
                }
                let mut file = Vec::new();
                header.write_to(&path.display().to_string(), &mut file)?.finish()?;
                file
            }
        };
        let written = fs::File::create(&aside).and_then(|mut file| {
            io::Write::write_all(&mut file, &contents)?;
            file.sync_all()
        });
        written
            .and_then(|()| fs::rename(&aside, path))
            .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
    }
}
