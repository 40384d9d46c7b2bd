//! Decoding as the ids come.

use crate::Tokenizer;

/// Turns ids into text one by one, never breaking a character.
///
/// Made by [`Tokenizer::stream`]. A token may end in the middle of a character: its bytes wait until the character is
/// complete. Bytes that cannot become a character any more are shown as U+FFFD, once for each maximal invalid stretch as
/// in [`String::from_utf8_lossy`]; [`token_bytes`](StreamDecoder::token_bytes) has them as they are.
///
/// The text is taken to go on after a prompt: a leading space stays.
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    skip_specials: bool,
    /// Bytes of the last id.
    token: Vec<u8>,
    /// An incomplete character.
    pending: Vec<u8>,
    /// What the last call returned.
    text: String,
}

impl StreamDecoder {
    pub(crate) fn new(tokenizer: Tokenizer) -> StreamDecoder {
        StreamDecoder {
            tokenizer,
            skip_specials: false,
            token: Vec::new(),
            pending: Vec::new(),
            text: String::new(),
        }
    }

    /// Special tokens give no text (by default they give their names).
    #[must_use]
    pub fn skip_specials(mut self, skip: bool) -> StreamDecoder {
        self.skip_specials = skip;
        self
    }

    /// Takes the next id and gives the text that is now complete; often one word, sometimes nothing.
    pub fn push(&mut self, id: u32) -> &str {
        self.text.clear();
        self.token.clear();
        if !(self.skip_specials && self.tokenizer.is_special(id)) {
            self.token.extend_from_slice(self.tokenizer.token_bytes(id).unwrap_or_default());
        }
        self.pending.extend_from_slice(&self.token);
        let mut incomplete = 0;
        let mut chunks = self.pending.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            self.text.push_str(chunk.valid());
            if chunks.peek().is_none() && may_complete(chunk.invalid()) {
                incomplete = chunk.invalid().len();
            } else if !chunk.invalid().is_empty() {
                self.text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.pending.drain(..self.pending.len() - incomplete);
        &self.text
    }

    /// Ends the text: an incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        self.token.clear();
        if !self.pending.is_empty() {
            self.text.push(char::REPLACEMENT_CHARACTER);
            self.pending.clear();
        }
        &self.text
    }

    /// The bytes of the last id pushed, whether or not they are UTF-8.
    pub fn token_bytes(&self) -> &[u8] {
        &self.token
    }

    /// The bytes of an incomplete character that wait for more.
    pub fn pending(&self) -> &[u8] {
        &self.pending
    }
}

/// Whether an invalid stretch at the end of a text is the beginning of a character.
///
/// [`slice::utf8_chunks`] gives maximal stretches: one that could not go on as a character is cut at its first byte
/// already, so only the number of bytes that the lead byte asks for remains to be compared.
fn may_complete(invalid: &[u8]) -> bool {
    let wanted = match invalid.first() {
        Some(0xC2..=0xDF) => 2,
        Some(0xE0..=0xEF) => 3,
        Some(0xF0..=0xF4) => 4,
        _ => return false,
    };
    invalid.len() < wanted
}
