//! A tokenizer as a `.tiktoken` file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::vocab::{Kind, Writing};
use crate::{Tokenizer, TokenizerError};

/// What errors call the file.
const NAME: &str = "a .tiktoken file";

impl Tokenizer {
    /// The tokenizer as lines of a token in base64 and its id. The pattern and the special tokens stand outside such a file:
    /// whoever reads it has to name them ([`from_tiktoken`](Self::from_tiktoken)).
    ///
    /// `tiktoken` merges any two neighbours that make an entry, and takes a pre-token that is an entry whole. With entries in
    /// the order in which training found them its ids are nearly always those of the list of merges; they differ where an
    /// entry can be put together in more than one way.
    ///
    /// # Errors
    /// [`TokenizerError::Unsupported`] for a vocabulary that is not byte-level or lacks a byte.
    pub fn to_tiktoken(&self) -> Result<String, TokenizerError> {
        let vocab = &self.bpe().vocab;
        let mends = "write tokenizer.json or GGUF instead";
        if vocab.writing() != Writing::Bytes {
            return Err(TokenizerError::unsupported(NAME, "vocabulary", "one that is not byte-level", mends));
        }
        if let Some(byte) = (0..=255u8).find(|&byte| vocab.find(&[byte]).is_none()) {
            let found = format!("one without byte 0x{byte:02X}");
            return Err(TokenizerError::unsupported(NAME, "vocabulary", found, mends));
        }
        let mut lines = String::new();
        for id in 0..vocab.len() as u32 {
            if vocab.kind(id) != Kind::Normal && !vocab.is_formed_added(id) {
                continue;
            }
            let Some(bytes) = vocab.key(id) else { continue };
            STANDARD.encode_string(bytes, &mut lines);
            lines.push_str(&format!(" {id}\n"));
        }
        Ok(lines)
    }
}
