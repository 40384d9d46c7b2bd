//! Reading shards, with everything that can be checked checked.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Dtype, FORMAT, Index, Shard, ShardError, VERSION, hex};
use crate::Tokenizer;
use crate::error::quote;

/// The shards of an index.
#[derive(Clone, Debug)]
pub struct ShardReader {
    pub(super) path: PathBuf,
    pub(super) index: Index,
}

impl ShardReader {
    /// Reads an index and looks whether its shards have the sizes it says.
    ///
    /// # Errors
    /// [`ShardError::Io`], [`ShardError::Json`], [`ShardError::Entry`].
    pub fn open(index: &Path) -> Result<ShardReader, ShardError> {
        let bytes = fs::read(index).map_err(|error| ShardError::io(index, error))?;
        let file = index.display().to_string();
        let contents = serde_json::from_slice(&bytes).map_err(|source| ShardError::Json { file, source })?;
        let reader = ShardReader { path: index.into(), index: contents };
        reader.check()?;
        Ok(reader)
    }

    /// What the index says.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Whether the ids are of this vocabulary.
    ///
    /// # Errors
    /// [`ShardError::Entry`] if they are not.
    pub fn check_vocabulary(&self, tokenizer: &Tokenizer) -> Result<(), ShardError> {
        let fingerprint = tokenizer.fingerprint();
        if self.index.vocabulary == fingerprint {
            return Ok(());
        }
        Err(self.wrong(
            "vocabulary",
            quote(&self.index.vocabulary),
            format!("{fingerprint}, the vocabulary's"),
        ))
    }

    /// All ids of one shard, after a look at its checksum and at every id.
    ///
    /// # Errors
    /// [`ShardError::Io`], [`ShardError::Entry`].
    pub fn read(&self, shard: usize) -> Result<Vec<u32>, ShardError> {
        let Some(entry) = self.index.shards.get(shard) else {
            return Err(self.wrong(
                "shards",
                format!("{} of them", self.index.shards.len()),
                format!("number {shard}"),
            ));
        };
        let path = self.path_of(entry);
        let bytes = fs::read(&path).map_err(|error| ShardError::io(&path, error))?;
        let wrong = |entry: String, found: String, expected: String| ShardError::Entry {
            file: path.display().to_string(),
            entry,
            found,
            expected,
        };
        if bytes.len() as u64 != self.bytes_of(entry)? {
            return Err(wrong(
                "size".into(),
                format!("{} bytes", bytes.len()),
                format!("{} ids", entry.tokens),
            ));
        }
        let found = hex(&Sha256::digest(&bytes));
        if found != entry.sha256 {
            return Err(wrong("SHA-256".into(), found, quote(&entry.sha256)));
        }
        let ids: Vec<u32> = match self.index.dtype {
            Dtype::U16 => bytes.as_chunks().0.iter().map(|&id| u32::from(u16::from_le_bytes(id))).collect(),
            Dtype::U32 => bytes.as_chunks().0.iter().map(|&id| u32::from_le_bytes(id)).collect(),
        };
        match ids.iter().position(|&id| id as usize >= self.index.vocab_size) {
            Some(at) => Err(wrong(
                format!("id {at}"),
                ids[at].to_string(),
                format!("an id below {}", self.index.vocab_size),
            )),
            None => Ok(ids),
        }
    }

    fn path_of(&self, shard: &Shard) -> PathBuf {
        self.path.with_file_name(&shard.file)
    }

    fn bytes_of(&self, shard: &Shard) -> Result<u64, ShardError> {
        shard.tokens.checked_mul(self.index.dtype.bytes() as u64).ok_or_else(|| {
            self.wrong(&shard.file, format!("{} ids", shard.tokens), "a number of ids that a file can have")
        })
    }

    fn wrong(&self, entry: &str, found: impl Into<String>, expected: impl Into<String>) -> ShardError {
        let file = self.path.display().to_string();
        ShardError::Entry { file, entry: entry.into(), found: found.into(), expected: expected.into() }
    }

    fn check(&self) -> Result<(), ShardError> {
        let index = &self.index;
        if index.format != FORMAT {
            return Err(self.wrong("format", quote(&index.format), quote(FORMAT)));
        }
        if index.version != VERSION {
            return Err(self.wrong("version", index.version.to_string(), VERSION.to_string()));
        }
        if index.dtype == Dtype::U16 && index.vocab_size > 1 << 16 {
            return Err(self.wrong("dtype", "u16", format!("u32 for {} entries", index.vocab_size)));
        }
        if let Some(id) = index.end_of_text.filter(|id| *id as usize >= index.vocab_size) {
            return Err(self.wrong(
                "end_of_text",
                id.to_string(),
                format!("an id below {}", index.vocab_size),
            ));
        }
        let mut tokens = 0u64;
        for (at, shard) in index.shards.iter().enumerate() {
            let entry = |field: &str| format!("shards[{at}].{field}");
            // A name with a path in it would lead out of the folder.
            if Path::new(&shard.file).file_name() != Some(shard.file.as_ref()) {
                return Err(self.wrong(
                    &entry("file"),
                    quote(&shard.file),
                    "the name of a file in this folder",
                ));
            }
            let ascending = shard.documents.is_sorted_by(|a, b| a <= b);
            if !ascending || shard.documents.last().is_some_and(|&last| last > shard.tokens) {
                return Err(self.wrong(
                    &entry("documents"),
                    "places out of order",
                    format!("ascending, up to {}", shard.tokens),
                ));
            }
            let path = self.path_of(shard);
            let found = File::open(&path).and_then(|file| file.metadata());
            let found = found.map_err(|error| ShardError::io(&path, error))?.len();
            if found != self.bytes_of(shard)? {
                return Err(ShardError::Entry {
                    file: path.display().to_string(),
                    entry: "size".into(),
                    found: format!("{found} bytes"),
                    expected: format!("{} ids of {} bytes", shard.tokens, index.dtype.bytes()),
                });
            }
            tokens = tokens.saturating_add(shard.tokens);
        }
        if tokens != index.tokens {
            return Err(self.wrong(
                "tokens",
                index.tokens.to_string(),
                format!("{tokens}, the sum of all shards"),
            ));
        }
        Ok(())
    }
}
