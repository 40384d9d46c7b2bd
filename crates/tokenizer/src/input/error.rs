//! What can be wrong with a file of texts.

use std::io;
use std::path::Path;

/// A file whose texts cannot be read. Every variant names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The file cannot be opened or read.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A compressed file is damaged.
    #[error("{file}: the {what} data is damaged: {found}; make or fetch the file again")]
    Archive {
        /// The file.
        file: String,
        /// `gzip`, `zstd`, `xz` or `parquet`.
        what: &'static str,
        /// What the decoder said.
        found: String,
    },
    /// One place of the file is not what it should be.
    #[error("{file}: {entry}: {found}; {mend}")]
    Entry {
        /// The file.
        file: String,
        /// Where: `line 12`, `column text`, ...
        entry: String,
        /// What stands there.
        found: String,
        /// What to do.
        mend: String,
    },
}

impl InputError {
    pub(super) fn io(path: &Path, source: io::Error) -> InputError {
        InputError::Io { file: path.display().to_string(), source }
    }

    /// Bytes of a line that are no UTF-8.
    pub(super) fn not_utf8(file: &str, line: u64) -> InputError {
        InputError::Entry {
            file: file.into(),
            entry: format!("line {line}"),
            found: "bytes that are not UTF-8".into(),
            mend: "convert the file to UTF-8 first (iconv does)".into(),
        }
    }
}
