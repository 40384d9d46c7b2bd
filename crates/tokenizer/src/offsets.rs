//! Where in the text its tokens are.

use std::ops::Range;

use crate::unicode;
use crate::{Specials, Tokenizer};

impl Tokenizer {
    /// The ids of `text` and, for each, the bytes of the text that it stands for.
    ///
    /// White space that an added token swallows (`lstrip`, `rstrip`) belongs to none; the invisible space before a text takes
    /// no room. A character may be spread over several tokens: ranges need not begin where characters do.
    ///
    /// `None` if the tokens' bytes are not those of the text: where the vocabulary normalizes it (NFC composes an accent
    /// with its letter) or lacks a character.
    pub fn encode_with_offsets(
        &self,
        text: impl AsRef<[u8]>,
        specials: Specials,
    ) -> Option<Vec<(u32, Range<usize>)>> {
        let text = text.as_ref();
        let mut at = 0;
        let mut swallows = false;
        let mut offsets = Vec::new();
        for id in self.encode(text, specials) {
            let added = self.spec().added.iter().find(|token| token.id == id);
            let mut bytes = self.token_bytes(id)?;
            if !text[at..].starts_with(bytes) {
                if at == 0 && self.spec().strip_prefix && offsets.is_empty() {
                    bytes = bytes.strip_prefix(b" ")?;
                } else if swallows || added.is_some_and(|token| token.lstrip) {
                    at = unicode::space_after(text, at);
                }
                if !text[at..].starts_with(bytes) {
                    return None;
                }
            }
            offsets.push((id, at..at + bytes.len()));
            at += bytes.len();
            swallows = added.is_some_and(|token| token.rstrip);
        }
        if swallows {
            at = unicode::space_after(text, at);
        }
        (at == text.len()).then_some(offsets)
    }
}
