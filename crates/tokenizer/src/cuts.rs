//! Where a long pre-token may be cut without changing its ids.
//!
//! A merge across a boundary makes a token in which the symbols on both sides of it are neighbours. So where the pair of
//! neighbours occurs in no token that merges can make, nothing ever merges across, and the two sides can be encoded one
//! after the other. Vocabularies without a pre-tokenizer (Llama 2, Gemma) thereby fall into words, which the cache knows,
//! and an endless pre-token of a byte-level vocabulary into short pieces, in linear time.

use crate::hash;

/// The pairs of bytes or characters that are neighbours inside some token.
#[derive(Debug)]
pub(crate) struct Cuts {
    /// A bit for each pair of symbols below 256, left + right * 256.
    small: Box<[u64; 1024]>,
    /// All other pairs: open addressing, `u64::MAX` = free.
    large: Vec<u64>,
    len: usize,
}

impl Default for Cuts {
    fn default() -> Cuts {
        Cuts { small: Box::new([0; 1024]), large: vec![u64::MAX; 16], len: 0 }
    }
}

impl Cuts {
    /// Some token has `left right` inside it.
    pub(crate) fn join(&mut self, left: u32, right: u32) {
        if left < 256 && right < 256 {
            let bit = left | right << 8;
            self.small[bit as usize / 64] |= 1 << (bit % 64);
            return;
        }
        if self.len * 2 >= self.large.len() {
            let larger = vec![u64::MAX; self.large.len() * 2];
            for pair in std::mem::replace(&mut self.large, larger) {
                if pair != u64::MAX {
                    let at = self.slot_of(pair);
                    self.large[at] = pair;
                }
            }
        }
        let pair = u64::from(left) << 32 | u64::from(right);
        let at = self.slot_of(pair);
        self.len += usize::from(self.large[at] == u64::MAX);
        self.large[at] = pair;
    }

    fn slot_of(&self, pair: u64) -> usize {
        let mask = self.large.len() - 1;
        let mut at = (hash::word(hash::seed(), pair) >> 20) as usize & mask;
        while self.large[at] != pair && self.large[at] != u64::MAX {
            at = (at + 1) & mask;
        }
        at
    }

    /// Whether no token has `left right` inside it.
    #[inline]
    pub(crate) fn between(&self, left: u32, right: u32) -> bool {
        if left < 256 && right < 256 {
            let bit = left | right << 8;
            return self.small[bit as usize / 64] >> (bit % 64) & 1 == 0;
        }
        self.large[self.slot_of(u64::from(left) << 32 | u64::from(right))] == u64::MAX
    }
}
