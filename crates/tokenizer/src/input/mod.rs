//! Texts from files, one after the other, in bounded memory: plain text, JSON lines and parquet; plain, gzip,
//! zstd and xz.
//!
//! ```no_run
//! use chalot_tokenizer::input::{InputOptions, Texts};
//!
//! # fn main() -> Result<(), chalot_tokenizer::input::InputError> {
//! for text in Texts::new(["books.txt.gz", "pages.jsonl"], InputOptions::default()) {
//!     println!("{} bytes", text?.len());
//! }
//! # Ok(())
//! # }
//! ```

mod error;
mod json_lines;
mod open;
#[cfg(feature = "parquet")]
mod parquet;
mod plain;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

pub use error::InputError;

use crate::pretokenize::{Pattern, PreTokenize};
use crate::spec::PreTokenizer;

/// How files are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputOptions {
    /// What the files are; by default their names tell: `.jsonl` and `.ndjson`, `.parquet`, anything else is plain text, all
    /// of these with or without `.gz`, `.zst` or `.xz` behind.
    pub kind: Option<Kind>,
    /// The field of JSON lines, or the column of a parquet file, that holds the text.
    pub field: String,
    /// What stands between two texts of a plain file, and belongs to neither; by default a file is one text.
    pub separator: Option<String>,
    /// Plain texts come in parts of about a megabyte, cut where no pre-token of a well-known pattern goes across: for
    /// training with such a [`Pattern`] ([`can_cut`](Self::can_cut)), in memory that does not grow with a text.
    pub cut: bool,
}

impl Default for InputOptions {
    fn default() -> InputOptions {
        InputOptions { kind: None, field: "text".into(), separator: None, cut: false }
    }
}

impl InputOptions {
    /// Whether texts may come in parts for this pattern.
    pub fn can_cut(pattern: &Pattern) -> bool {
        let spec = PreTokenizer::split_then_byte_level(&[pattern.regex()]);
        PreTokenize::new("pattern", Some(&spec)).is_ok_and(|pre_tokenize| pre_tokenize.scanner().is_some())
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Plain text.
    Plain,
    /// A JSON object a line.
    JsonLines,
    /// Apache Parquet.
    Parquet,
}

/// The kind that a file's name tells.
fn kind_of(path: &Path) -> Kind {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let name = [".gz", ".zst", ".zstd", ".xz"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("jsonl" | "ndjson") => Kind::JsonLines,
        Some("parquet") => Kind::Parquet,
        _ => Kind::Plain,
    }
}

/// The texts of one file.
type Opened = Box<dyn Iterator<Item = Result<String, InputError>> + Send>;

/// The texts of files, in their order; ends at the first error. `-` is the standard input.
pub struct Texts {
    files: VecDeque<PathBuf>,
    options: InputOptions,
    open: Option<Opened>,
}

impl Texts {
    /// The texts of `files`. Nothing is opened yet.
    pub fn new<P: Into<PathBuf>>(files: impl IntoIterator<Item = P>, options: InputOptions) -> Texts {
        Texts { files: files.into_iter().map(Into::into).collect(), options, open: None }
    }

    fn open(&self, path: &Path) -> Result<Opened, InputError> {
        match self.options.kind.unwrap_or_else(|| kind_of(path)) {
            Kind::Plain => Ok(Box::new(plain::Plain::new(open::open(path)?, &self.options))),
            Kind::JsonLines => {
                Ok(Box::new(json_lines::JsonLines::new(open::open(path)?, &self.options.field)))
            }
            #[cfg(feature = "parquet")]
            Kind::Parquet => Ok(Box::new(parquet::Parquet::open(path, &self.options.field)?)),
            #[cfg(not(feature = "parquet"))]
            Kind::Parquet => Err(InputError::Entry {
                file: path.display().to_string(),
                entry: "format".into(),
                found: "parquet, which this build does not read".into(),
                mend: "build with the feature `parquet`, or convert the file to JSON lines".into(),
            }),
        }
    }
}

impl Iterator for Texts {
    type Item = Result<String, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.open.is_none() {
                let path = self.files.pop_front()?;
                match self.open(&path) {
                    Ok(opened) => self.open = Some(opened),
                    Err(error) => {
                        self.files.clear();
                        return Some(Err(error));
                    }
                }
            }
            match self.open.as_mut().and_then(Iterator::next) {
                Some(Ok(text)) => return Some(Ok(text)),
                Some(Err(error)) => {
                    self.files.clear();
                    self.open = None;
                    return Some(Err(error));
                }
                None => self.open = None,
            }
        }
    }
}

impl std::fmt::Debug for Texts {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Texts")
            .field("files", &self.files)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
