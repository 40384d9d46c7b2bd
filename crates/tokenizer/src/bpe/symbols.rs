//! From bytes to the symbols that merges begin with, and back to what the vocabulary can write.

use super::{Bpe, NONE};
use crate::unicode;

impl Bpe {
    pub(super) fn byte_symbols(&self, bytes: &[u8], out: &mut Vec<u32>) {
        let mut unknown = false;
        for &byte in bytes {
            let symbol = self.bytes[byte as usize];
            match (symbol, self.options.unk) {
                (NONE, Some(unk)) if !(unknown && self.options.fuse_unk) => out.push(unk),
                (NONE, _) => {}
                (symbol, _) => out.push(symbol),
            }
            unknown = symbol == NONE;
        }
    }

    /// The symbol of one character.
    pub(super) fn symbol_of(&self, char_bytes: &[u8]) -> Option<u32> {
        if let Some(id) = self.vocab.find(char_bytes) {
            return Some(id);
        }
        if self.parts.is_empty() {
            return None;
        }
        let c = std::str::from_utf8(char_bytes).ok()?.chars().next()?;
        self.parts.get(&c).copied()
    }

    pub(super) fn char_symbols(&self, bytes: &[u8], out: &mut Vec<u32>) {
        // As in Hugging Face's `merge_word`: an unknown character is written when the next known one comes, and
        // bytes do not count as known.
        let mut pending: Option<u32> = None;
        let mut at = 0;
        while at < bytes.len() {
            let (_, len) = unicode::decode(&bytes[at..]);
            let c = &bytes[at..at + len];
            at += len;
            if let Some(symbol) = self.symbol_of(c) {
                out.extend(pending.take());
                out.push(symbol);
            } else if self.options.byte_fallback && c.iter().all(|&byte| self.bytes[byte as usize] != NONE) {
                out.extend(c.iter().map(|&byte| self.bytes[byte as usize]));
            } else if let Some(unk) = self.options.unk {
                if !self.options.fuse_unk {
                    out.extend(pending);
                }
                pending = Some(unk);
            }
        }
        out.extend(pending);
    }

    /// Replaces, from index `first` on, symbols past the vocabulary by the bytes of their characters or by `unk`.
    pub(super) fn spell_parts(&self, symbols: &mut Vec<u32>, first: usize) {
        let merged = symbols.split_off(first);
        for symbol in merged {
            let Some(&c) =
                (symbol as usize).checked_sub(self.vocab.len()).and_then(|part| self.part_chars.get(part))
            else {
                symbols.push(symbol);
                continue;
            };
            let mut buffer = [0; 4];
            let bytes = c.encode_utf8(&mut buffer).as_bytes();
            if bytes.iter().all(|&byte| self.bytes[byte as usize] != NONE) {
                symbols.extend(bytes.iter().map(|&byte| self.bytes[byte as usize]));
            } else {
                symbols.extend(self.options.unk);
            }
        }
    }
}
