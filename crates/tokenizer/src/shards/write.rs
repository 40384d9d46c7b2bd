//! Writing shards: each aside, synced, then renamed; the index last.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Dtype, FORMAT, Index, Shard, ShardError, VERSION, hex};
use crate::Tokenizer;
use crate::train::aside;

/// How shards are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardOptions {
    /// A shard ends after so many ids.
    pub shard_tokens: u64,
    /// This id is put behind each document.
    pub end_of_text: Option<u32>,
    /// Whether the index says where each document begins; without it millions of documents keep it small.
    pub offsets: bool,
}

impl Default for ShardOptions {
    /// 100 million ids a shard, offsets, no end-of-text id.
    fn default() -> ShardOptions {
        ShardOptions { shard_tokens: 100_000_000, end_of_text: None, offsets: true }
    }
}

/// Writes documents into shards: `train.json` is the index of `train-00000.bin`, `train-00001.bin`, ...
///
/// Until [`finish`](Self::finish) there is no index, so what an interrupted run leaves is not taken for the whole.
#[derive(Debug)]
pub struct ShardWriter {
    path: PathBuf,
    options: ShardOptions,
    index: Index,
    open: Option<Open>,
    buffer: Vec<u8>,
}

/// The shard that is being written.
#[derive(Debug)]
struct Open {
    path: PathBuf,
    out: BufWriter<File>,
    hash: Sha256,
    shard: Shard,
}

impl ShardWriter {
    /// Begins shards of ids of `tokenizer`, beside the index file that will be written in the end.
    ///
    /// # Errors
    /// [`ShardError::Id`] for an end-of-text id that the vocabulary does not have, [`ShardError::Io`] if an index of
    /// that name is there and cannot be removed.
    pub fn create(
        index: &Path,
        tokenizer: &Tokenizer,
        options: ShardOptions,
    ) -> Result<ShardWriter, ShardError> {
        let vocab_size = tokenizer.vocab_size();
        if let Some(id) = options.end_of_text.filter(|id| *id as usize >= vocab_size) {
            return Err(ShardError::Id { id, end: vocab_size });
        }
        match fs::remove_file(index) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(ShardError::io(index, error));
            }
            _ => {}
        }
        Ok(ShardWriter {
            path: index.into(),
            index: Index {
                format: FORMAT.into(),
                version: VERSION,
                dtype: Dtype::for_vocabulary(vocab_size),
                vocab_size,
                vocabulary: tokenizer.fingerprint(),
                end_of_text: options.end_of_text,
                tokens: 0,
                documents: 0,
                shards: Vec::new(),
            },
            options,
            open: None,
            buffer: Vec::new(),
        })
    }

    /// Adds a document.
    ///
    /// # Errors
    /// [`ShardError::Id`], [`ShardError::Io`].
    pub fn document(&mut self, ids: &[u32]) -> Result<(), ShardError> {
        if let Some(&id) = ids.iter().find(|id| **id as usize >= self.index.vocab_size) {
            return Err(ShardError::Id { id, end: self.index.vocab_size });
        }
        self.index.documents += 1;
        self.open_shard()?;
        if let Some(open) = self.open.as_mut().filter(|_| self.options.offsets) {
            open.shard.documents.push(open.shard.tokens);
        }
        self.ids(ids)?;
        if let Some(end) = self.options.end_of_text {
            self.ids(&[end])?;
        }
        Ok(())
    }

    /// Ids written so far.
    pub fn tokens(&self) -> u64 {
        self.index.tokens
    }

    /// Writes the index.
    ///
    /// # Errors
    /// [`ShardError::Io`].
    pub fn finish(mut self) -> Result<Index, ShardError> {
        self.close_shard()?;
        let mut text = serde_json::to_vec(&self.index)
            .map_err(|source| ShardError::Json { file: self.path.display().to_string(), source })?;
        text.push(b'\n');
        crate::train::write_aside(&self.path, &text).map_err(|error| ShardError::io(&self.path, error))?;
        Ok(self.index.clone())
    }

    fn ids(&mut self, mut ids: &[u32]) -> Result<(), ShardError> {
        while !ids.is_empty() {
            self.open_shard()?;
            let Some(open) = &mut self.open else { return Ok(()) };
            let room = self.options.shard_tokens.max(1) - open.shard.tokens;
            let taken = usize::try_from(room).unwrap_or(usize::MAX).min(ids.len()).min(1 << 16);
            self.buffer.clear();
            match self.index.dtype {
                Dtype::U16 => {
                    self.buffer.extend(ids[..taken].iter().flat_map(|&id| (id as u16).to_le_bytes()))
                }
                Dtype::U32 => self.buffer.extend(ids[..taken].iter().flat_map(|&id| id.to_le_bytes())),
            }
            open.hash.update(&self.buffer);
            open.out.write_all(&self.buffer).map_err(|error| ShardError::io(&open.path, error))?;
            open.shard.tokens += taken as u64;
            self.index.tokens += taken as u64;
            ids = &ids[taken..];
        }
        Ok(())
    }

    /// Makes sure that there is a shard with room.
    fn open_shard(&mut self) -> Result<(), ShardError> {
        if self.open.as_ref().is_some_and(|open| open.shard.tokens >= self.options.shard_tokens.max(1)) {
            self.close_shard()?;
        }
        if self.open.is_some() {
            return Ok(());
        }
        let stem = self.path.file_stem().unwrap_or_default().to_string_lossy();
        let file = format!("{stem}-{:05}.bin", self.index.shards.len());
        let path = self.path.with_file_name(&file);
        let out = File::create(aside(&path)).map_err(|error| ShardError::io(&path, error))?;
        let shard = Shard { file, ..Shard::default() };
        self.open =
            Some(Open { path, out: BufWriter::with_capacity(1 << 20, out), hash: Sha256::new(), shard });
        Ok(())
    }

    fn close_shard(&mut self) -> Result<(), ShardError> {
        let Some(Open { path, out, hash, mut shard }) = self.open.take() else { return Ok(()) };
        let synced =
            out.into_inner().map_err(std::io::IntoInnerError::into_error).and_then(|file| file.sync_all());
        let renamed = synced.and_then(|()| fs::rename(aside(&path), &path));
        renamed.map_err(|error| ShardError::io(&path, error))?;
        shard.sha256 = hex(&hash.finalize());
        self.index.shards.push(shard);
        Ok(())
    }
}

impl Drop for ShardWriter {
    /// Half a shard is of no use.
    fn drop(&mut self) {
        if let Some(open) = self.open.take() {
            // Nobody is left to hear that it cannot be removed.
            let _ = fs::remove_file(aside(&open.path));
        }
    }
}
