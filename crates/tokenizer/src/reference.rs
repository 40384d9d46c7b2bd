//! The definition of encoding, written to be obvious: what the fast encoder is tested against and measured by.

use std::collections::HashMap;

use crate::Tokenizer;
use crate::vocab::Writing;

/// Encodes a byte-level vocabulary's text by searching all pairs of neighbours for the one to merge next, again and again.
///
/// Pre-tokens are found one after the other and nothing is remembered. Made by [`Tokenizer::reference`].
#[derive(Clone, Debug)]
pub struct Reference {
    tokenizer: Tokenizer,
    bytes: Vec<u32>,
    /// What two ids become, and how early.
    merges: HashMap<(u32, u32), (u32, u32)>,
}

impl Tokenizer {
    /// The slow encoder of this vocabulary. `None` unless it is byte-level, has all bytes and cuts text by one of the known
    /// patterns alone; its ids are those of [`encode`](Self::encode) with special tokens as text, where the vocabulary does
    /// not normalize and no other added tokens occur.
    pub fn reference(&self) -> Option<Reference> {
        let bpe = self.bpe();
        self.scanner()?;
        if bpe.vocab.writing() != Writing::Bytes {
            return None;
        }
        let bytes = (0..=255u8).map(|byte| bpe.vocab.find(&[byte])).collect::<Option<Vec<u32>>>()?;
        let merges = bpe.merges.iter().map(|(left, right, merge)| ((left, right), (merge.rank, merge.id)));
        Some(Reference { tokenizer: self.clone(), bytes, merges: merges.collect() })
    }
}

impl Reference {
    /// The ids of `text`.
    pub fn encode(&self, text: impl AsRef<[u8]>) -> Vec<u32> {
        let mut ids = Vec::new();
        if let Some(scanner) = self.tokenizer.scanner() {
            scanner.run(text.as_ref(), |piece| self.merge(piece, &mut ids));
        }
        ids
    }

    fn merge(&self, piece: &[u8], ids: &mut Vec<u32>) {
        let bpe = self.tokenizer.bpe();
        if bpe.options.ignore_merges
            && let Some(id) = bpe.vocab.find(piece)
        {
            return ids.push(id);
        }
        let mut symbols: Vec<u32> = piece.iter().map(|&byte| self.bytes[usize::from(byte)]).collect();
        loop {
            let ranked = |at: usize| {
                self.merges.get(&(symbols[at], symbols[at + 1])).map(|&(rank, id)| (rank, at, id))
            };
            let Some((_, at, id)) = (0..symbols.len().saturating_sub(1)).filter_map(ranked).min() else {
                break;
            };
            symbols[at] = id;
            symbols.remove(at + 1);
        }
        ids.extend(symbols);
    }
}
