//! Why a run ends early.

use crate::checkpoint::CheckpointError;
use crate::data::DataError;
use crate::error::TrainError;
use crate::log::LogError;
use crate::processes::ProcessError;
use crate::recipe::RecipeError;

/// A run that cannot begin, go on or end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The texts.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The other processes.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The loss is no number, or much higher than it was.
    #[error("step {step}: {what}; {mend}{}", last_good(.checkpoint.as_deref()))]
    Diverged {
        /// The step.
        step: u64,
        /// What happened.
        what: String,
        /// What to lower.
        mend: String,
        /// The last checkpoint before it.
        checkpoint: Option<String>,
    },
    /// There is a run already.
    #[error(
        "{folder}: holds a run of {step} steps already; add --resume to go on, --force to begin anew, or name another --out"
    )]
    Exists {
        /// Its folder.
        folder: String,
        /// Steps it has done.
        step: u64,
    },
    /// The network.
    #[error(transparent)]
    Train(Box<TrainError>),
    /// The model cannot be computed or written.
    #[error("{what}: {why}")]
    Model {
        /// What was attempted.
        what: String,
        /// What was said against it.
        why: String,
    },
}

impl RunError {
    /// [`RunError::Model`].
    pub fn model(what: impl Into<String>, why: impl std::fmt::Display) -> RunError {
        RunError::Model { what: what.into(), why: why.to_string() }
    }
}

fn last_good(checkpoint: Option<&str>) -> String {
    match checkpoint {
        Some(checkpoint) => format!(" and go on from the last good checkpoint, {checkpoint}, with --resume"),
        None => " and begin again (there is no checkpoint yet)".into(),
    }
}
