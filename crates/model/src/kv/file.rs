//! A sequence's tokens, keys and values in a file.
//!
//! Numbers are little-endian; nothing is padded.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `CHALOTKV` |
//! | 4 | version, 2 |
//! | 4 | type of keys and values: 0 f32, 1 f16, 2 int8 |
//! | 16 | the model's [`Fingerprint`] |
//! | 3 x 8 | layers, key-value heads, width of a head |
//! | 8 | tokens |
//! | 8 | length of the note |
//! | 8 | bytes of a block |
//! | 4 each | the tokens |
//! | | the note: whatever the writer wants to find again |
//! | | layer by layer, the blocks of 64 tokens as they lie in memory, slots that no token uses zeroed |
//! | 16 | XXH3-128 of all before |
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;

use chalot_tensor::attention::{KvBlock, KvType};
use xxhash_rust::xxh3::Xxh3;

use super::{KvCache, KvError, KvPool, KvShape};
use crate::engine::EngineError;
use crate::fingerprint::Fingerprint;
use crate::sequence::{Sequence, SequenceOptions};
use crate::weights::Model;

const MAGIC: &[u8; 8] = b"CHALOTKV";
const VERSION: u32 = 2;
const TYPES: [KvType; 3] = [KvType::F32, KvType::F16, KvType::Int8];
const HEADER: usize = 80;
const CHECKSUM: usize = 16;
/// At once, in and out.
const BUFFER: usize = 1 << 20;

/// A file of keys and values that cannot be written, read or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KvFileError {
    /// The operating system refused.
    #[error("{file}: {source}")]
    Io {
        /// The path as the user named it.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// Another kind of file, or not all of one.
    #[error("{file}: {found}, expected {expected}; {mend}")]
    Damaged {
        /// The path as the user named it.
        file: String,
        /// What stands there.
        found: String,
        /// What should stand there.
        expected: String,
        /// What to do.
        mend: &'static str,
    },
    /// Made with other weights.
    #[error(
        "{file}: made with another model (fingerprint {found}, this model has {expected}); open it with that one, or \
         name another file"
    )]
    OtherModel {
        /// The path as the user named it.
        file: String,
        /// The fingerprint in the file.
        found: Fingerprint,
        /// The model's.
        expected: Fingerprint,
    },
    /// Keys and values of another type than was asked for.
    #[error("{file}: holds keys and values as {}, asked for is {}; ask for the file's type or name another file",
        .found.name(), .expected.name())]
    OtherType {
        /// The path as the user named it.
        file: String,
        /// The type in the file.
        found: KvType,
        /// The type asked for.
        expected: KvType,
    },
    /// More tokens than the sequence may hold.
    #[error("{file}: holds {tokens} tokens, {} more than the context of {context}; ask for a longer context",
        .tokens - .context)]
    TooLong {
        /// The path as the user named it.
        file: String,
        /// Tokens in the file.
        tokens: usize,
        /// Tokens that the sequence may hold.
        context: usize,
    },
    /// No memory for what the file holds.
    #[error("{file}: {source}")]
    Memory {
        /// The path as the user named it.
        file: String,
        /// What is missing.
        source: KvError,
    },
    /// The options asked for are impossible.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Sequence {
    /// Writes the tokens, their keys and values and a note to a file, from which [`Sequence::load`] makes the same sequence
    /// again: to a temporary file beside `path`, which is renamed when all is on the disk.
    ///
    /// `fingerprint` is that of the sequence's model.
    ///
    /// # Errors
    /// [`KvFileError::Io`].
    pub fn save(&self, fingerprint: &Fingerprint, note: &[u8], path: &Path) -> Result<(), KvFileError> {
        self.write_file(fingerprint, note, path).map_err(|source| io_error(path, source))
    }

    fn write_file(&self, fingerprint: &Fingerprint, note: &[u8], path: &Path) -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
        self.write_to(file.as_file(), fingerprint, note)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    }

    fn write_to(&self, file: &File, fingerprint: &Fingerprint, note: &[u8]) -> io::Result<()> {
        let mut out = Hashing { inner: BufWriter::with_capacity(BUFFER, file), hash: Xxh3::new() };
        let shape = self.kv.shape();
        out.put(MAGIC)?;
        out.put(&VERSION.to_le_bytes())?;
        let ty = TYPES.iter().position(|ty| *ty == shape.ty).unwrap_or(TYPES.len());
        out.put(&(ty as u32).to_le_bytes())?;
        out.put(&fingerprint.0)?;
        let sizes =
            [shape.layers, shape.kv_heads, shape.head_dim, self.len(), note.len(), shape.block_bytes()];
        for size in sizes {
            out.put(&(size as u64).to_le_bytes())?;
        }
        for token in self.tokens() {
            out.put(&token.to_le_bytes())?;
        }
        out.put(note)?;
        for layer in 0..shape.layers {
            let blocks = &self.kv.blocks(layer)[..self.len().div_ceil(KvBlock::TOKENS)];
            for (index, block) in blocks.iter().enumerate() {
                let used = self.len() - index * KvBlock::TOKENS;
                if used >= KvBlock::TOKENS {
                    out.block(block.as_ref())?;
                } else {
                    // The other slots may hold what was taken back.
                    let mut cleared = block.as_ref().clone();
                    cleared.clear(used);
                    out.block(&cleared)?;
                }
            }
        }
        let checksum = out.hash.digest128().to_le_bytes();
        out.inner.write_all(&checksum)?;
        out.inner.flush()
    }

    /// The sequence that a file of [`Sequence::save`] holds, in blocks of `pool`, and the note. Without a type in `options`
    /// it keeps the file's.
    ///
    /// Nothing of the file is believed before it is checked, and nothing is returned before the checksum is right.
    ///
    /// # Errors
    /// [`KvFileError`]: the file is none of these, damaged, of another model, does not fit the options or the pool's budget.
    pub fn load(
        path: &Path,
        model: &Model,
        fingerprint: &Fingerprint,
        options: SequenceOptions,
        pool: &KvPool,
    ) -> Result<(Self, Vec<u8>), KvFileError> {
        Reader::open(path)?.sequence(model, fingerprint, options, pool)
    }
}

fn io_error(path: &Path, source: io::Error) -> KvFileError {
    KvFileError::Io { file: path.display().to_string(), source }
}

/// Everything that goes through is hashed.
struct Hashing<T> {
    inner: T,
    hash: Xxh3,
}

impl<T: Write> Hashing<T> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.inner.write_all(bytes)
    }

    fn block(&mut self, block: &KvBlock) -> io::Result<()> {
        self.put(block.as_bytes())
    }
}

impl<T: Read> Hashing<T> {
    fn fill(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(bytes)?;
        self.hash.update(bytes);
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }
}

const COPY_AGAIN: &str = "the file is damaged or was cut off: delete it, or copy it again";

struct Reader<'a> {
    path: &'a Path,
    len: u64,
    input: Hashing<BufReader<File>>,
}

impl<'a> Reader<'a> {
    fn open(path: &'a Path) -> Result<Self, KvFileError> {
        let file = File::open(path).map_err(|source| io_error(path, source))?;
        let len = file.metadata().map_err(|source| io_error(path, source))?.len();
        let input = Hashing { inner: BufReader::with_capacity(BUFFER, file), hash: Xxh3::new() };
        Ok(Self { path, len, input })
    }

    fn damaged(&self, found: impl ToString, expected: impl ToString, mend: &'static str) -> KvFileError {
        let (found, expected) = (found.to_string(), expected.to_string());
        KvFileError::Damaged { file: self.path.display().to_string(), found, expected, mend }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), KvFileError> {
        self.input.fill(bytes).map_err(|source| io_error(self.path, source))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], KvFileError> {
        self.input.array().map_err(|source| io_error(self.path, source))
    }

    fn size(&mut self, what: &str, limit: u64) -> Result<usize, KvFileError> {
        let size = u64::from_le_bytes(self.array()?);
        usize::try_from(size).ok().filter(|_| size <= limit).ok_or_else(|| {
            self.damaged(
                format!("{size} {what}"),
                format!("at most {limit} in a file of {} bytes", self.len),
                COPY_AGAIN,
            )
        })
    }

    fn sequence(
        mut self,
        model: &Model,
        fingerprint: &Fingerprint,
        options: SequenceOptions,
        pool: &KvPool,
    ) -> Result<(Sequence, Vec<u8>), KvFileError> {
        let file = self.path.display().to_string();
        if self.len < (HEADER + CHECKSUM) as u64 {
            let expected = "a file of keys and values written by chalot";
            return Err(self.damaged(format!("{} bytes", self.len), expected, COPY_AGAIN));
        }
        if &self.array::<8>()? != MAGIC {
            let expected = "a file of keys and values written by chalot";
            return Err(self.damaged("something else", expected, "name another file"));
        }
        let version = u32::from_le_bytes(self.array()?);
        if version != VERSION {
            let mend = "it was written by another version of chalot: open it with that one, or delete it";
            return Err(self.damaged(format!("version {version}"), format!("version {VERSION}"), mend));
        }
        let code = u32::from_le_bytes(self.array()?);
        let Some(&ty) = TYPES.get(code as usize) else {
            return Err(self.damaged(format!("type {code}"), "0, 1 or 2", COPY_AGAIN));
        };
        let found = Fingerprint(self.array()?);
        if found != *fingerprint {
            return Err(KvFileError::OtherModel { file, found, expected: *fingerprint });
        }
        if let Some(expected) = options.kv.filter(|kv| *kv != ty) {
            return Err(KvFileError::OtherType { file, found: ty, expected });
        }
        let shape = KvShape::of(&model.config, ty);
        // What must equal the model's numbers needs no limit.
        let layers = self.size("layers", u64::MAX)?;
        let kv_heads = self.size("heads", u64::MAX)?;
        let head_dim = self.size("numbers a head", u64::MAX)?;
        let found = KvShape { layers, kv_heads, head_dim, ty };
        if found != shape {
            return Err(self.damaged(found, shape, COPY_AGAIN));
        }
        let tokens = self.size("tokens", self.len / 4)?;
        let note = self.size("bytes of note", self.len)?;
        let block_bytes = self.size("bytes of a block", u64::MAX)?;
        if block_bytes != shape.block_bytes() {
            let found = format!("blocks of {block_bytes} bytes");
            return Err(self.damaged(found, format!("{} bytes", shape.block_bytes()), COPY_AGAIN));
        }
        let blocks = tokens.div_ceil(KvBlock::TOKENS);
        let expected = [HEADER, CHECKSUM, 4 * tokens, note]
            .into_iter()
            .map(|part| part as u128)
            .chain([layers as u128 * blocks as u128 * block_bytes as u128])
            .sum::<u128>();
        if expected != u128::from(self.len) {
            return Err(self.damaged(format!("{} bytes", self.len), format!("{expected} bytes"), COPY_AGAIN));
        }

        // The sizes are those of the bytes that are there.
        let mut sequence = Sequence::in_pool(model, SequenceOptions { kv: Some(ty), ..options }, pool)?;
        let context = sequence.context();
        if tokens > context {
            return Err(KvFileError::TooLong { file, tokens, context });
        }
        let vocab = model.config.vocab_size;
        let mut ids = Vec::with_capacity(tokens);
        for index in 0..tokens {
            let token = u32::from_le_bytes(self.array()?);
            if token as usize >= vocab {
                let expected = format!("below {vocab}");
                return Err(self.damaged(format!("token {token} at {index}"), expected, COPY_AGAIN));
            }
            ids.push(token);
        }
        let mut said = vec![0; note];
        self.fill(&mut said)?;
        sequence.kv.reserve(0..layers, 0..tokens).map_err(|source| KvFileError::Memory { file, source })?;
        self.blocks(&mut sequence.kv, tokens)?;

        let hash = self.input.hash.digest128().to_le_bytes();
        if self.array::<CHECKSUM>()? != hash {
            return Err(self.damaged("another checksum than its content has", "the same", COPY_AGAIN));
        }
        sequence.commit(&ids);
        Ok((sequence, said))
    }

    fn blocks(&mut self, kv: &mut KvCache, tokens: usize) -> Result<(), KvFileError> {
        for layer in &mut kv.layers {
            for block in layer.blocks.iter_mut().filter_map(|block| block.unique()) {
                self.fill(block.as_bytes_mut())?;
            }
            layer.len = tokens;
        }
        Ok(())
    }
}
