//! What a run leaves to look at: `log.jsonl`, one object a line, and event files for TensorBoard.

mod events;
mod records;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub use events::EventFile;
pub use records::{ExpertLoad, HeldOut, Record, Start, Step};

/// The name of the log in a run's folder.
pub const FILE: &str = "log.jsonl";
/// The folder of the event files in a run's folder.
pub const EVENTS: &str = "tensorboard";

/// A log that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The system refuses.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// A line is no record.
    #[error("{file}: line {line}: {source}; remove the line")]
    Line {
        /// The log.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl LogError {
    fn io(path: &Path, source: io::Error) -> LogError {
        LogError::Io { file: path.display().to_string(), source }
    }
}

/// The log of a run that is under way.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    events: EventFile,
}

impl Log {
    /// Opens the log of the run in `folder`, which has done `step` steps: what an interrupted run wrote of later ones is
    /// removed. 0 begins a new one.
    ///
    /// # Errors
    /// [`LogError`].
    pub fn open(folder: &Path, step: u64) -> Result<Log, LogError> {
        let path = folder.join(FILE);
        let kept = match step {
            0 => String::new(),
            step => kept(&path, step)?,
        };
        let io = |error| LogError::io(&path, error);
        let aside = path.with_extension("part");
        fs::write(&aside, kept).and_then(|()| fs::rename(&aside, &path)).map_err(io)?;
        let file = File::options().append(true).open(&path).map_err(io)?;
        let events = folder.join(EVENTS);
        if step == 0 && events.exists() {
            fs::remove_dir_all(&events).map_err(|error| LogError::io(&events, error))?;
        }
        let events = EventFile::create(&events, step).map_err(|error| LogError::io(&events, error))?;
        Ok(Log { path, file, events })
    }

    /// Writes a record.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn write(&mut self, record: &Record) -> Result<(), LogError> {
        let mut line = serde_json::to_vec(record).map_err(|error| LogError::io(&self.path, error.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).map_err(|error| LogError::io(&self.path, error))?;
        self.events.record(record).map_err(|error| LogError::io(&self.path.with_file_name(EVENTS), error))
    }
}

/// The lines of a log that are not of later steps. The last one may be cut off.
fn kept(path: &Path, step: u64) -> Result<String, LogError> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        text => text.map_err(|error| LogError::io(path, error))?,
    };
    let lines = text.split_inclusive('\n').filter(|line| {
        line.ends_with('\n')
            && serde_json::from_str::<Record>(line)
                .is_ok_and(|record| record.step().is_none_or(|at| at <= step))
    });
    Ok(lines.collect())
}

/// The records of the run in `folder`; a line that was cut off at the end is left out.
///
/// # Errors
/// [`LogError`].
pub fn read(folder: &Path) -> Result<Vec<Record>, LogError> {
    let path = match folder.is_file() {
        true => folder.to_owned(),
        false => folder.join(FILE),
    };
    let text = fs::read_to_string(&path).map_err(|error| LogError::io(&path, error))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let records = whole.lines().enumerate().map(|(at, line)| {
        let file = path.display().to_string();
        serde_json::from_str(line).map_err(|source| LogError::Line { file, line: at + 1, source })
    });
    records.collect()
}

#[cfg(test)]
mod tests;
