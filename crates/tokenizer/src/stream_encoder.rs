//! Encoding as the text comes.

use std::io::{self, Read};

use crate::{Specials, Tokenizer};

/// Bytes that [`Tokenizer::encode_reader`] asks for at a time.
const READ: usize = 1 << 18;

/// Encodes a text that comes in pieces; the ids are those of the whole text, wherever it is cut.
///
/// Made by [`Tokenizer::encoder`]. What may still change with what follows is kept: of ordinary text a few words, at most the
/// longest stretch without a space between letters and without a line that begins with a letter or a number. Vocabularies
/// that have no hand-written scanner, or that change text before they cut it otherwise than by NFC, keep the whole text until
/// [`finish`](StreamEncoder::finish).
///
/// ```
/// # use chalot_tokenizer::{GgufVocab, Specials, Tokenizer};
/// # fn main() -> Result<(), chalot_tokenizer::TokenizerError> {
/// # let tokens = ["a", "b", "ab", "Ġ", "Ġa"].map(String::from).to_vec();
/// # let merges = ["a b", "Ġ a"].map(String::from).to_vec();
/// # let vocab = GgufVocab { model: "gpt2".into(), pre: Some("gpt-2".into()), tokens, merges, ..GgufVocab::default() };
/// # let tokenizer = Tokenizer::from_gguf("example.gguf", vocab)?;
/// let mut encoder = tokenizer.encoder(Specials::AsText);
/// let mut ids = Vec::new();
/// for piece in ["ab a", "b a", "b"] {
///     encoder.push(piece, &mut ids);
/// }
/// encoder.finish(&mut ids);
/// assert_eq!(ids, tokenizer.encode("ab ab ab", Specials::AsText));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct StreamEncoder {
    tokenizer: Tokenizer,
    specials: Specials,
    /// Text without ids.
    pending: Vec<u8>,
    /// Of it, the beginning that has no seam.
    searched: usize,
}

impl StreamEncoder {
    pub(crate) fn new(tokenizer: Tokenizer, specials: Specials) -> StreamEncoder {
        StreamEncoder { tokenizer, specials, pending: Vec::new(), searched: 0 }
    }

    /// Takes the next piece of the text and appends the ids that are now certain to `ids`.
    pub fn push(&mut self, piece: impl AsRef<[u8]>, ids: &mut Vec<u32>) {
        self.pending.extend_from_slice(piece.as_ref());
        let Some(seams) = self.tokenizer.seams(self.specials) else { return };
        match seams.last(&self.pending, self.searched) {
            Some(seam) => {
                self.tokenizer.encode_into(&self.pending[..seam], self.specials, ids);
                self.pending.drain(..seam);
                self.searched = 0;
            }
            None => self.searched = self.pending.len().saturating_sub(seams.ahead()),
        }
    }

    /// Ends the text: appends the rest of its ids. The encoder may then be used for another text.
    pub fn finish(&mut self, ids: &mut Vec<u32>) {
        self.tokenizer.encode_into(&self.pending, self.specials, ids);
        self.pending.clear();
        self.searched = 0;
    }

    /// The bytes that wait for what follows.
    pub fn pending(&self) -> &[u8] {
        &self.pending
    }
}

impl Tokenizer {
    /// Encodes a text that comes in pieces.
    pub fn encoder(&self, specials: Specials) -> StreamEncoder {
        StreamEncoder::new(self.clone(), specials)
    }

    /// Encodes all that `reader` gives, however long, and hands over the ids as they become certain.
    ///
    /// # Errors
    /// Those of `reader`; the ids of what was read before were handed over.
    pub fn encode_reader(
        &self,
        mut reader: impl Read,
        specials: Specials,
        mut each: impl FnMut(&[u32]),
    ) -> io::Result<()> {
        let mut encoder = self.encoder(specials);
        let mut buffer = vec![0; READ];
        let mut ids = Vec::new();
        loop {
            let read = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            encoder.push(&buffer[..read], &mut ids);
            each(&ids);
            ids.clear();
        }
        encoder.finish(&mut ids);
        each(&ids);
        Ok(())
    }
}
