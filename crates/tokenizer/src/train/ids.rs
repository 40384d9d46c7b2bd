//! The entries of a vocabulary in training: their ids and bytes.

use std::collections::HashMap;

use super::words::Sorted;
use super::{Alphabet, TrainOptions};
use crate::alphabet;

/// No id: the byte is no entry.
pub(crate) const NONE: u32 = u32::MAX;

/// Special tokens, then bytes in the order of their characters in the byte alphabet, then merges.
#[derive(Debug)]
pub(crate) struct Ids {
    /// The bytes of each entry; `None`: a special token that is no text in the byte alphabet.
    bytes: Vec<Option<Box<[u8]>>>,
    by_bytes: HashMap<Box<[u8]>, u32>,
    of_byte: [u32; 256],
}

impl Ids {
    /// The entries before the first merge.
    pub(crate) fn new(options: &TrainOptions, words: &Sorted) -> Ids {
        let mut seen = [options.alphabet == Alphabet::Bytes; 256];
        if options.alphabet == Alphabet::Seen {
            words.each(|word, _| word.iter().for_each(|&byte| seen[usize::from(byte)] = true));
        }
        let mut this = Ids { bytes: Vec::new(), by_bytes: HashMap::new(), of_byte: [NONE; 256] };
        for token in &options.special_tokens {
            match alphabet::to_bytes(token) {
                Some(bytes) => this.entry(&bytes),
                None => {
                    this.bytes.push(None);
                    this.bytes.len() as u32 - 1
                }
            };
        }
        let mut order: Vec<u8> = (0..=255).filter(|&byte| seen[usize::from(byte)]).collect();
        order.sort_unstable_by_key(|&byte| alphabet::char_of(byte));
        for byte in order {
            this.of_byte[usize::from(byte)] = this.entry(&[byte]);
        }
        this
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The ids of the bytes.
    pub(crate) fn of_bytes(&self) -> &[u32; 256] {
        &self.of_byte
    }

    /// The bytes of an entry, if it is text.
    pub(crate) fn bytes(&self, id: u32) -> Option<&[u8]> {
        self.bytes.get(id as usize)?.as_deref()
    }

    /// The entry that a merge makes: a new one, unless the same text is one already.
    pub(crate) fn join(&mut self, left: u32, right: u32) -> u32 {
        let text = |id: u32| self.bytes(id).unwrap_or_default();
        let joined = [text(left), text(right)].concat();
        self.entry(&joined)
    }

    /// The entry of a text.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<u32> {
        self.by_bytes.get(bytes).copied()
    }

    fn entry(&mut self, bytes: &[u8]) -> u32 {
        if let Some(&id) = self.by_bytes.get(bytes) {
            return id;
        }
        let id = self.bytes.len() as u32;
        self.bytes.push(Some(bytes.into()));
        self.by_bytes.insert(bytes.into(), id);
        id
    }
}
