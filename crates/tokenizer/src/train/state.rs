//! The state of a run in a file: what has been counted, and the merges found so far.
//!
//! Layout: the magic bytes, the length of a JSON object (u32) and the object (options, what the texts are, how far they are
//! counted, how many words and merges follow), the words (length, bytes, count), the merges (two ids each), all numbers as
//! LEB128; last the SHA-256 of everything before. Words are sorted, so a state depends on nothing but what was counted.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{Alphabet, TrainError, TrainOptions, Trainer};

const MAGIC: &[u8] = b"chalot-bpe-1\n";
const DIGEST: usize = 32;

impl Trainer {
    /// Writes the state into a file, aside and then renamed, so that there is never half of one. `texts` says what is
    /// counted (file names, sizes, ...): [`resume`](Self::resume) wants to hear the same.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn save(&self, file: &Path, texts: &str) -> Result<(), TrainError> {
        let mut bytes = MAGIC.to_vec();
        let header = json!({
            "options": describe(&self.options),
            "texts": texts,
            "position": [self.position.texts, self.position.offset, self.position.bytes],
            "words": self.words.len(),
            "merges": self.merges.len(),
        })
        .to_string();
        bytes.extend_from_slice(&(header.len() as u32).to_le_bytes());
        bytes.extend_from_slice(header.as_bytes());
        self.words.sorted().each(|word, count| {
            put(&mut bytes, word.len() as u64);
            bytes.extend_from_slice(word);
            put(&mut bytes, count);
        });
        for &(left, right) in &self.merges {
            put(&mut bytes, u64::from(left));
            put(&mut bytes, u64::from(right));
        }
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        write_aside(file, &bytes)
            .map_err(|source| TrainError::Io { file: file.display().to_string(), source })
    }

    /// Goes on with a saved run. The number of threads may be another.
    ///
    /// # Errors
    /// [`TrainError::Io`] if the file cannot be read, [`TrainError::State`] if it is damaged or of a run with other
    /// options or texts.
    pub fn resume(file: &Path, options: TrainOptions, texts: &str) -> Result<Trainer, TrainError> {
        let bytes =
            fs::read(file).map_err(|source| TrainError::Io { file: file.display().to_string(), source })?;
        let damaged = |found: &str, expected: &str| TrainError::State {
            found: format!("{found} in {}", file.display()),
            expected: expected.into(),
        };
        let Some((contents, digest)) = bytes.split_last_chunk::<DIGEST>() else {
            return Err(damaged("too few bytes", "a whole state"));
        };
        let Some(rest) = contents.strip_prefix(MAGIC) else {
            return Err(damaged("another kind of file", "the state of a training run"));
        };
        if Sha256::digest(contents)[..] != digest[..] {
            return Err(damaged("bytes that do not fit their checksum", "an undamaged state"));
        }
        let mut rest = rest;
        let header = take_header(&mut rest).ok_or_else(|| damaged("no header", "one"))?;
        for (what, now) in [("options", describe(&options)), ("texts", Value::from(texts))] {
            if header[what] != now {
                return Err(TrainError::State {
                    found: format!("{what} {} in {}", header[what], file.display()),
                    expected: now.to_string(),
                });
            }
        }
        let number =
            |value: &Value| value.as_u64().ok_or_else(|| damaged("a damaged header", "numbers in it"));
        let mut trainer = Trainer::new(options)?;
        trainer.position.texts = number(&header["position"][0])?;
        trainer.position.offset = number(&header["position"][1])?;
        trainer.position.bytes = number(&header["position"][2])?;
        let cut = || damaged("too few bytes", "as many words and merges as the header says");
        for _ in 0..number(&header["words"])? {
            let len = take(&mut rest).ok_or_else(cut)?;
            let word = usize::try_from(len).ok().and_then(|len| rest.split_off(..len)).ok_or_else(cut)?;
            trainer.words.add(word, take(&mut rest).ok_or_else(cut)?);
        }
        for _ in 0..number(&header["merges"])? {
            let mut id = || take(&mut rest).and_then(|id| u32::try_from(id).ok()).ok_or_else(cut);
            trainer.merges.push((id()?, id()?));
        }
        Ok(trainer)
    }
}

fn take_header(rest: &mut &[u8]) -> Option<Value> {
    let (len, after) = rest.split_first_chunk()?;
    let (header, after) = after.split_at_checked(u32::from_le_bytes(*len) as usize)?;
    *rest = after;
    serde_json::from_slice(header).ok()
}

/// The options that the result depends on.
fn describe(options: &TrainOptions) -> Value {
    json!({
        "vocab_size": options.vocab_size,
        "min_frequency": options.min_frequency,
        "special_tokens": options.special_tokens,
        "all_bytes": options.alphabet == Alphabet::Bytes,
        "max_token_bytes": options.max_token_bytes,
        "pattern": options.pattern.regex(),
    })
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        number |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Writes beside the file, syncs, renames.
pub(crate) fn write_aside(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let aside = aside(file);
    let written = File::create(&aside).and_then(|mut out| {
        out.write_all(bytes)?;
        out.sync_all()
    });
    written.and_then(|()| fs::rename(&aside, file)).inspect_err(|_| {
        // What is left of the attempt is of no use; if it cannot be removed either, the error says enough.
        let _ = fs::remove_file(&aside);
    })
}

/// The name under which a file is written until it is whole.
pub(crate) fn aside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}
