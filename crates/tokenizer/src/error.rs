//! What can be wrong with a tokenizer file.

/// A tokenizer file that cannot be used. Every variant names the file as the caller named it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file is not JSON, or a field has the wrong type; the source gives line and column.
    #[error("{file}: not a usable tokenizer.json: {source}")]
    Json {
        /// The file, as the caller named it.
        file: String,
        /// Line, column and what was expected there.
        source: serde_json::Error,
    },
    /// One entry is damaged or contradicts another.
    #[error("{file}: {entry}: found {found}, expected {expected}")]
    Entry {
        /// The file, as the caller named it.
        file: String,
        /// Where: `model.merges[17]`, `tokenizer.ggml.scores`, `line 4`, ...
        entry: String,
        /// What stands there.
        found: String,
        /// What should stand there.
        expected: String,
    },
    /// The file is sound, but asks for something this crate does not do.
    #[error("{file}: {entry}: {found} is not supported; {supported}")]
    Unsupported {
        /// The file, as the caller named it.
        file: String,
        /// The field that asks for it.
        entry: String,
        /// What it asks for.
        found: String,
        /// What is supported, or what to do.
        supported: String,
    },
    /// A binary file ends before what it announces.
    #[error(
        "{file}: {entry}: needs {needed} bytes, but {available} are left; the file is cut off or of another kind"
    )]
    Truncated {
        /// The file, as the caller named it.
        file: String,
        /// What was being read.
        entry: String,
        /// Bytes it needs.
        needed: u64,
        /// Bytes that are left.
        available: u64,
    },
}

impl TokenizerError {
    /// A damaged entry.
    pub(crate) fn entry(
        file: &str,
        entry: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Entry { file: file.into(), entry: entry.into(), found: found.into(), expected: expected.into() }
    }

    /// A sound request that nobody here answers.
    pub(crate) fn unsupported(
        file: &str,
        entry: impl Into<String>,
        found: impl Into<String>,
        supported: impl Into<String>,
    ) -> Self {
        Self::Unsupported {
            file: file.into(),
            entry: entry.into(),
            found: found.into(),
            supported: supported.into(),
        }
    }
}

/// At most 40 characters of a token for a message: a hostile file must not fill the terminal.
pub(crate) fn quote(text: &str) -> String {
    let mut shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
    if text.chars().nth(40).is_some() {
        shown.push_str("...");
    }
    format!("\"{shown}\"")
}
