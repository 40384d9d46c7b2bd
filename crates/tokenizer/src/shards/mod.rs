//! Token ids in files, for training models: shards of plain numbers and an index that says what they are.
//!
//! A shard is nothing but little-endian ids: u16 where the vocabulary has at most 65,536 entries, else u32, so any program
//! can map it and read it. The index is JSON ([`Index`]): the width of the ids, the vocabulary they are of (its size and its
//! [fingerprint](crate::Tokenizer::fingerprint)), and for each shard its name, its number of ids, its SHA-256 and where its
//! documents begin. If the index names an end-of-text token, each document ends with it.
//!
//! ```
//! use chalot_tokenizer::shards::{ShardOptions, ShardReader, ShardWriter};
//! use chalot_tokenizer::{GgufVocab, Tokenizer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let vocab = GgufVocab { model: "gpt2".into(), pre: Some("gpt-2".into()), tokens: ["a", "b", "<|endoftext|>"].map(String::from).to_vec(), token_types: vec![1, 1, 3], ..GgufVocab::default() };
//! let tokenizer = Tokenizer::from_gguf("example.gguf", vocab)?;
//! let options = ShardOptions { end_of_text: tokenizer.id_of("<|endoftext|>"), ..ShardOptions::default() };
//! let index = folder.path().join("train.json");
//! let mut writer = ShardWriter::create(&index, &tokenizer, options)?;
//! writer.document(&[0, 1])?;
//! writer.document(&[1])?;
//! writer.finish()?;
//!
//! let reader = ShardReader::open(&index)?;
//! assert_eq!(reader.read(0)?, [0, 1, 2, 1, 2]);
//! assert_eq!(reader.index().shards[0].documents, [0, 3]);
//! # Ok(())
//! # }
//! ```

mod fingerprint;
mod read;
mod write;

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use read::ShardReader;
pub use write::{ShardOptions, ShardWriter};

/// The value of [`Index::format`].
pub const FORMAT: &str = "chalot-tokens";
/// The value of [`Index::version`].
pub const VERSION: u32 = 1;

/// What an index file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u32,
    /// The width of an id.
    pub dtype: Dtype,
    /// One past the highest id of the vocabulary.
    pub vocab_size: usize,
    /// [`Tokenizer::fingerprint`](crate::Tokenizer::fingerprint) of the vocabulary.
    pub vocabulary: String,
    /// The id that ends each document, if one does.
    pub end_of_text: Option<u32>,
    /// Ids in all shards.
    pub tokens: u64,
    /// Documents in all shards; one that goes across shards counts once.
    pub documents: u64,
    /// The shards, in order.
    pub shards: Vec<Shard>,
}

/// One shard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// Its name, in the index's folder.
    pub file: String,
    /// Ids.
    pub tokens: u64,
    /// SHA-256 of the file, in hexadecimal digits.
    pub sha256: String,
    /// Where documents begin, as numbers of ids, ascending; a document whose beginning is not here began in an earlier
    /// shard.
    pub documents: Vec<u64>,
}

/// The width of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// Two bytes, little-endian.
    U16,
    /// Four bytes, little-endian.
    U32,
}

impl Dtype {
    /// The narrower one that holds every id below `vocab_size`.
    pub fn for_vocabulary(vocab_size: usize) -> Dtype {
        if vocab_size <= 1 << 16 { Dtype::U16 } else { Dtype::U32 }
    }

    /// Bytes of an id.
    pub fn bytes(self) -> usize {
        match self {
            Dtype::U16 => 2,
            Dtype::U32 => 4,
        }
    }
}

/// Shards that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// The system refuses.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The index is not JSON, or a field has the wrong type.
    #[error("{file}: not a usable index of shards: {source}")]
    Json {
        /// The index.
        file: String,
        /// Line, column and what was expected there.
        source: serde_json::Error,
    },
    /// A file does not hold what it should.
    #[error("{file}: {entry}: found {found}, expected {expected}; write the shards again")]
    Entry {
        /// The file.
        file: String,
        /// Where.
        entry: String,
        /// What stands there.
        found: String,
        /// What should stand there.
        expected: String,
    },
    /// An id that the vocabulary does not have.
    #[error(
        "id {id} was to be written, but the vocabulary ends at {end}; encode with the vocabulary of the shards"
    )]
    Id {
        /// The id.
        id: u32,
        /// One past the last id.
        end: usize,
    },
}

impl ShardError {
    fn io(path: &Path, source: std::io::Error) -> ShardError {
        ShardError::Io { file: path.display().to_string(), source }
    }
}

/// Lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
