//! Checkpoints: everything that a run goes on from.
//!
//! A checkpoint is a folder `step-00001200` of a few files and a `manifest.json` that holds the size and the SHA-256 of each.
//! It is written into a folder of another name: the files, each synced, the manifest last, then the folder itself; only then
//! it is renamed, and the folder above synced. So at any moment each folder that is called `step-...` is whole, whatever
//! happens to the process, the disk or the machine, and what an interrupted attempt leaves is recognised and removed.

mod error;
mod tensors;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use error::CheckpointError;
pub use tensors::{Tensor, read_tensors, write_tensors};

const MANIFEST: &str = "manifest.json";
const FORMAT: &str = "chalot-checkpoint";
const VERSION: u32 = 1;
const PREFIX: &str = "step-";
/// Folders of this name are attempts.
const ASIDE: &str = ".part-";

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    format: String,
    version: u32,
    step: u64,
    files: BTreeMap<String, Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    bytes: u64,
    sha256: String,
}

/// The checkpoints of a run.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

/// One checkpoint, whose files are what its manifest says.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Its folder.
    pub folder: PathBuf,
    /// Steps that were done.
    pub step: u64,
    files: BTreeMap<String, Vec<u8>>,
}

/// Writes one file of a checkpoint.
pub type Fill<'a> = dyn Fn(&mut dyn Write) -> io::Result<()> + 'a;

impl Checkpoints {
    /// Those in `folder`, of which the newest `keep` (at least 1) are kept.
    pub fn new(folder: &Path, keep: usize) -> Checkpoints {
        Checkpoints { folder: folder.into(), keep: keep.max(1) }
    }

    /// The folders of all checkpoints, newest first.
    ///
    /// # Errors
    /// [`CheckpointError::Io`]; a folder that is not there has none.
    pub fn list(&self) -> Result<Vec<(u64, PathBuf)>, CheckpointError> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| CheckpointError::io(&self.folder, error))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| CheckpointError::io(&self.folder, error))?.path();
            if let Some(step) = step_of(&path) {
                found.push((step, path));
            }
        }
        found.sort_by(|a, b| b.cmp(a));
        Ok(found)
    }

    /// The newest checkpoint; `None` if there is none.
    ///
    /// # Errors
    /// [`CheckpointError::Damaged`] names the file, and the checkpoint before it if that is whole.
    pub fn newest(&self) -> Result<Option<Checkpoint>, CheckpointError> {
        let all = self.list()?;
        let Some((_, newest)) = all.first() else { return Ok(None) };
        match Checkpoint::open(newest) {
            Ok(checkpoint) => Ok(Some(checkpoint)),
            Err(CheckpointError::Damaged { file, found, expected, .. }) => {
                let whole = all[1..].iter().find(|(_, path)| Checkpoint::open(path).is_ok());
                let previous = whole.map(|(_, path)| path.display().to_string());
                Err(CheckpointError::Damaged { file, found, expected, previous })
            }
            Err(error) => Err(error),
        }
    }

    /// Writes a checkpoint and removes those that are not kept any more. An older one of the same step is replaced.
    ///
    /// # Errors
    /// [`CheckpointError::Io`] if it cannot be written; those that were there are then as they were.
    pub fn write(&self, step: u64, files: &[(&str, &Fill)]) -> Result<PathBuf, CheckpointError> {
        fs::create_dir_all(&self.folder).map_err(|error| CheckpointError::io(&self.folder, error))?;
        self.clean()?;
        let aside = self.folder.join(format!("{ASIDE}{step:08}"));
        let written = self.write_aside(&aside, step, files);
        let path = self.folder.join(format!("{PREFIX}{step:08}"));
        let renamed = written.and_then(|()| self.put(&aside, &path));
        if let Err(error) = renamed {
            // What is left of the attempt only takes room; if it cannot be removed, the next attempt does it.
            let _ = fs::remove_dir_all(&aside);
            return Err(error);
        }
        for (_, old) in self.list()?.into_iter().skip(self.keep) {
            fs::remove_dir_all(&old).map_err(|error| CheckpointError::io(&old, error))?;
        }
        Ok(path)
    }

    /// Removes all of them.
    ///
    /// # Errors
    /// [`CheckpointError::Io`].
    pub fn remove(&self) -> Result<(), CheckpointError> {
        match fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(CheckpointError::io(&self.folder, error))
            }
            _ => Ok(()),
        }
    }

    fn write_aside(&self, aside: &Path, step: u64, files: &[(&str, &Fill)]) -> Result<(), CheckpointError> {
        fs::create_dir(aside).map_err(|error| CheckpointError::io(aside, error))?;
        let mut entries = BTreeMap::new();
        for (name, fill) in files {
            let path = aside.join(name);
            let entry = write_file(&path, fill).map_err(|error| CheckpointError::io(&path, error))?;
            entries.insert((*name).to_owned(), entry);
        }
        let manifest = Manifest { format: FORMAT.into(), version: VERSION, step, files: entries };
        let path = aside.join(MANIFEST);
        write_file(&path, &|out| Ok(serde_json::to_writer_pretty(out, &manifest)?))
            .and_then(|_| sync_folder(aside))
            .map_err(|error| CheckpointError::io(&path, error))
    }

    /// Gives what was written its name.
    fn put(&self, aside: &Path, path: &Path) -> Result<(), CheckpointError> {
        let io = |error| CheckpointError::io(path, error);
        if path.exists() {
            // Of a run that went on from an earlier one. Should the process end between the two lines, the earlier is there.
            let old = self.folder.join(format!("{ASIDE}old"));
            fs::rename(path, &old).map_err(io)?;
            fs::rename(aside, path).map_err(io)?;
            fs::remove_dir_all(&old).map_err(io)?;
        } else {
            fs::rename(aside, path).map_err(io)?;
        }
        sync_folder(&self.folder).map_err(io)
    }

    /// Removes what interrupted attempts left.
    fn clean(&self) -> Result<(), CheckpointError> {
        let io = |error| CheckpointError::io(&self.folder, error);
        for entry in fs::read_dir(&self.folder).map_err(io)? {
            let path = entry.map_err(io)?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(ASIDE)) {
                fs::remove_dir_all(&path).map_err(|error| CheckpointError::io(&path, error))?;
            }
        }
        Ok(())
    }
}

impl Checkpoint {
    /// Reads a checkpoint and compares its files with the manifest.
    ///
    /// # Errors
    /// [`CheckpointError::Damaged`] names the first file that is not what it was, [`CheckpointError::Io`] one that cannot be
    /// read.
    pub fn open(folder: &Path) -> Result<Checkpoint, CheckpointError> {
        let path = folder.join(MANIFEST);
        let bytes = read_file(&path)?;
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|error| CheckpointError::damaged(&path, error.to_string(), "a manifest"))?;
        if manifest.format != FORMAT || manifest.version != VERSION {
            let found = format!("{:?}, version {}", manifest.format, manifest.version);
            return Err(CheckpointError::damaged(&path, found, format!("{FORMAT:?}, version {VERSION}")));
        }
        if let Some(step) = step_of(folder).filter(|step| *step != manifest.step) {
            let found = format!("step {}", manifest.step);
            return Err(CheckpointError::damaged(&path, found, format!("{step}, as the folder says")));
        }
        let mut files = BTreeMap::new();
        for (name, entry) in manifest.files {
            if Path::new(&name).file_name() != Some(name.as_ref()) {
                return Err(CheckpointError::damaged(&path, format!("a file {name:?}"), "names of files"));
            }
            let path = folder.join(&name);
            let bytes = read_file(&path)?;
            if bytes.len() as u64 != entry.bytes {
                let found = format!("{} bytes", bytes.len());
                return Err(CheckpointError::damaged(&path, found, format!("{}", entry.bytes)));
            }
            let found = crate::hex(&Sha256::digest(&bytes));
            if found != entry.sha256 {
                return Err(CheckpointError::damaged(&path, format!("SHA-256 {found}"), entry.sha256));
            }
            files.insert(name, bytes);
        }
        Ok(Checkpoint { folder: folder.into(), step: manifest.step, files })
    }

    /// The bytes of one of its files.
    ///
    /// # Errors
    /// [`CheckpointError::Damaged`] if it has no such file.
    pub fn file(&self, name: &str) -> Result<&[u8], CheckpointError> {
        self.files.get(name).map(Vec::as_slice).ok_or_else(|| {
            CheckpointError::damaged(
                &self.folder.join(MANIFEST),
                "nothing".into(),
                format!("a file {name:?}"),
            )
        })
    }

    /// Where one of its files lies, for messages.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn step_of(folder: &Path) -> Option<u64> {
    folder.file_name()?.to_str()?.strip_prefix(PREFIX)?.parse().ok()
}

/// A file that should be there: that it is not is damage.
fn read_file(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => CheckpointError::damaged(path, "no such file".into(), "one"),
        _ => CheckpointError::io(path, error),
    })
}

/// Writes and syncs a new file.
fn write_file(path: &Path, fill: &Fill) -> io::Result<Entry> {
    let mut out = Hashed {
        out: BufWriter::with_capacity(1 << 20, File::create_new(path)?),
        hash: Sha256::new(),
        bytes: 0,
    };
    fill(&mut out)?;
    let file = out.out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(Entry { bytes: out.bytes, sha256: crate::hex(&out.hash.finalize()) })
}

/// Makes the names in a folder last, where the system lets a folder be opened.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

/// Hashes what goes through.
struct Hashed<W> {
    out: W,
    hash: Sha256,
    bytes: u64,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
