//! What can be wrong with a checkpoint.

use std::path::Path;

/// A checkpoint that cannot be written or gone on from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The system refuses.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what was written.
    #[error("{file}: damaged: found {found}, expected {expected}; {}", mend(.previous.as_deref()))]
    Damaged {
        /// The file.
        file: String,
        /// What stands there.
        found: String,
        /// What should stand there.
        expected: String,
        /// The newest checkpoint before it that is whole.
        previous: Option<String>,
    },
    /// It is of another run.
    #[error(
        "{file}: {found}, but the recipe says {expected}; undo the change, or start a new run with another --out"
    )]
    Other {
        /// The checkpoint.
        file: String,
        /// What it was made with.
        found: String,
        /// What it should have been made with.
        expected: String,
    },
}

impl CheckpointError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> CheckpointError {
        CheckpointError::Io { file: path.display().to_string(), source }
    }

    pub(crate) fn damaged(path: &Path, found: String, expected: impl Into<String>) -> CheckpointError {
        let file = path.display().to_string();
        CheckpointError::Damaged { file, found, expected: expected.into(), previous: None }
    }
}

fn mend(previous: Option<&str>) -> String {
    match previous {
        Some(previous) => format!("the one before it is whole: --resume --checkpoint {previous}"),
        None => "restore it from a copy, or start again without --resume".into(),
    }
}
