//! What can be wrong with a recipe.

/// A recipe that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no TOML, has a key that nothing knows, or a value of the wrong type.
    #[error("{file}: {found}")]
    Toml {
        /// The file.
        file: String,
        /// Line, key and what was expected there.
        found: String,
    },
    /// A value fits nothing.
    #[error("{file}: {key}: {found}; {mend}")]
    Key {
        /// The file.
        file: String,
        /// The key, with its table: `train.rows`.
        key: String,
        /// What stands there.
        found: String,
        /// What to do.
        mend: String,
    },
}

/// A TOML error in one line: where it is, and what is said of it.
pub(super) fn one_line(error: &toml::de::Error, text: &str) -> String {
    let line =
        error.span().map(|span| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1);
    let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
    let at = line.and_then(|line| text.lines().nth(line - 1)).map(str::trim);
    match (line, at.filter(|at| !at.is_empty() && at.len() < 80)) {
        (Some(line), Some(at)) => format!("line {line}: {at}: {message}"),
        (Some(line), None) => format!("line {line}: {message}"),
        (None, _) => message,
    }
}
