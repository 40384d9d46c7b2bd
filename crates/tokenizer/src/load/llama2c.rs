//! llama2.c's `tokenizer.bin`: little-endian i32 longest length, then for each token f32 score, i32 length, bytes.

use crate::{GgufVocab, Tokenizer, TokenizerError};

/// Reads the file from front to back.
struct Reader<'a> {
    file: &'a str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize, entry: impl Fn() -> String) -> Result<&'a [u8], TokenizerError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(TokenizerError::Truncated {
                file: self.file.into(),
                entry: entry(),
                needed: count as u64,
                available: self.rest.len() as u64,
            });
        };
        self.rest = rest;
        Ok(taken)
    }

    fn word(&mut self, entry: impl Fn() -> String) -> Result<[u8; 4], TokenizerError> {
        let mut word = [0; 4];
        word.copy_from_slice(self.take(4, entry)?);
        Ok(word)
    }
}

/// Ids that llama2.c's exporter gives to `<unk>`, `<s>` and `</s>`.
const SPECIALS: [(&str, i32); 3] = [("<unk>", 2), ("<s>", 3), ("</s>", 3)];
const BOS: u32 = 1;
const EOS: u32 = 2;

impl Tokenizer {
    /// Reads llama2.c's tokenizer file; `vocab_size` is the model's (the file does not say how many tokens it has).
    ///
    /// Ids are llama2.c's: an invisible space before the text, merges by score, bytes as ids 3 to 258. Its programs end a
    /// story at BOS, so BOS is one of the [`eog_tokens`](Tokenizer::eog_tokens).
    pub fn from_llama2c(file: &str, bytes: &[u8], vocab_size: usize) -> Result<Tokenizer, TokenizerError> {
        let mut reader = Reader { file, rest: bytes };
        reader.word(|| "longest token length".into())?;
        // A token takes at least eight bytes: no more can be there, whatever `vocab_size` says.
        let room = vocab_size.min(bytes.len() / 8);
        let mut vocab = GgufVocab {
            model: "llama".into(),
            tokens: Vec::with_capacity(room),
            scores: Vec::with_capacity(room),
            token_types: Vec::with_capacity(room),
            bos: Some(BOS),
            eos: Some(EOS),
            unk: Some(0),
            add_bos: Some(true),
            add_space_prefix: Some(true),
            eog: vec![BOS, EOS],
            ..GgufVocab::default()
        };
        for id in 0..vocab_size {
            let entry = |field: &str| format!("{field} of token {id}");
            vocab.scores.push(f32::from_le_bytes(reader.word(|| entry("score"))?));
            let length = i32::from_le_bytes(reader.word(|| entry("length"))?);
            let length = usize::try_from(length).map_err(|_| {
                TokenizerError::entry(file, entry("length"), length.to_string(), "a length of 0 or more")
            })?;
            let text = reader.take(length, || entry("text"))?;
            let text = std::str::from_utf8(text).map_err(|_| {
                let found = crate::error::quote(&String::from_utf8_lossy(text));
                TokenizerError::entry(file, entry("text"), found, "UTF-8")
            })?;
            let (text, kind) = match SPECIALS.get(id) {
                // The exporter writes them with newlines around, to be printed.
                Some((name, kind)) => ((*name).to_owned(), *kind),
                None if super::gguf::byte_of(text).is_some() => (text.to_owned(), 6),
                None => (text.replace(' ', crate::vocab::SPACE), 1),
            };
            vocab.tokens.push(text);
            vocab.token_types.push(kind);
        }
        if !reader.rest.is_empty() {
            return Err(TokenizerError::entry(
                file,
                "end of the file",
                format!("{} more bytes after {vocab_size} tokens", reader.rest.len()),
                "the tokenizer of this model, with as many tokens as its vocabulary",
            ));
        }
        Tokenizer::from_gguf(file, vocab)
    }
}
