//! The different pre-tokens of a text and how often each occurs.
//!
//! Open addressing with the words of up to 15 bytes inline, two slots a cache line: a frequent word costs one look-up of a
//! line that is in the cache. Longer words lie in an arena behind their hash.

use crate::hash;

/// The most bytes of an inline word.
const MAX_INLINE: usize = 15;
/// In the last byte of a key: the word is long, and the key its hash.
const LONG: u64 = 0xFF << 56;
/// Words that are prepared together, so that their lines are fetched together.
const TOGETHER: usize = 32;

/// An inline word: its bytes and, in the last byte, its length. A long word: its hash and its place in the arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(32))]
struct Slot {
    low: u64,
    high: u64,
    /// 0: the slot is free.
    count: u64,
}

/// Bits of a word of `len` bytes in the upper half of a key, of which the lower 8 bytes are full.
const UPPER: [u64; 16] = {
    let mut masks = [0; 16];
    let mut len = 9;
    while len < 16 {
        masks[len] = u64::MAX >> (8 * (16 - len));
        len += 1;
    }
    masks
};

/// Bits of a word of `len` bytes in the lower half of a key.
const LOWER: [u64; 16] = {
    let mut masks = [u64::MAX; 16];
    let mut len = 0;
    while len < 8 {
        masks[len] = (1 << (8 * len)) - 1;
        len += 1;
    }
    masks
};

/// The key of `text[start..end]`, at most 15 bytes. What follows `end` lets it be loaded at once, where there is enough.
#[inline(always)]
fn inline_key(text: &[u8], start: usize, end: usize) -> (u64, u64) {
    let len = (end - start) & 15;
    let bytes = match text.get(start..).and_then(|rest| rest.first_chunk::<16>()) {
        Some(chunk) => *chunk,
        None => {
            let mut bytes = [0; 16];
            bytes[..len].copy_from_slice(&text[start..end]);
            bytes
        }
    };
    let bytes = u128::from_le_bytes(bytes);
    ((bytes as u64) & LOWER[len], ((bytes >> 64) as u64) & UPPER[len] | (len as u64) << 56)
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Words {
    slots: Vec<Slot>,
    used: usize,
    /// Long words, by their place: (start, length).
    spans: Vec<(u64, u64)>,
    arena: Vec<u8>,
    seed: u64,
}

impl Default for Words {
    fn default() -> Words {
        Words {
            slots: vec![Slot::default(); 1 << 12],
            used: 0,
            spans: Vec::new(),
            arena: Vec::new(),
            seed: hash::seed(),
        }
    }
}

/// Words found in a text, waiting to be counted together.
#[derive(Debug)]
pub(crate) struct Waiting {
    keys: [(u64, u64); TOGETHER],
    hashes: [u64; TOGETHER],
    len: usize,
}

impl Default for Waiting {
    fn default() -> Waiting {
        Waiting { keys: [(0, 0); TOGETHER], hashes: [0; TOGETHER], len: 0 }
    }
}

impl Words {
    /// How many different words there are.
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    /// Counts the word `text[start..end]`, once it and some more [`Waiting`] ones are together.
    #[inline(always)]
    pub(crate) fn count(&mut self, text: &[u8], start: usize, end: usize, waiting: &mut Waiting) {
        let len = end - start;
        if len > MAX_INLINE || len == 0 {
            if len > 0 {
                self.add(&text[start..end], 1);
            }
            return;
        }
        let key = inline_key(text, start, end);
        waiting.keys[waiting.len] = key;
        waiting.hashes[waiting.len] = hash::pair(self.seed, key.0, key.1);
        waiting.len += 1;
        if waiting.len == TOGETHER {
            self.flush(waiting);
        }
    }

    /// Counts the words that wait.
    #[inline(never)]
    pub(crate) fn flush(&mut self, waiting: &mut Waiting) {
        let len = std::mem::take(&mut waiting.len);
        self.make_room(len);
        let mask = self.slots.len() - 1;
        // The lines are asked for before the first is needed.
        let mut touched = 0;
        for &hash in &waiting.hashes[..len] {
            touched |= self.slots[hash as usize & mask].count;
        }
        std::hint::black_box(touched);
        for (&(low, high), &hash) in waiting.keys[..len].iter().zip(&waiting.hashes) {
            let mut at = hash as usize & mask;
            loop {
                let slot = &mut self.slots[at];
                if slot.low == low && slot.high == high {
                    slot.count += 1;
                    break;
                }
                if slot.count == 0 {
                    *slot = Slot { low, high, count: 1 };
                    self.used += 1;
                    break;
                }
                at = (at + 1) & mask;
            }
        }
    }

    /// Counts `word` as often as said.
    pub(crate) fn add(&mut self, word: &[u8], count: u64) {
        if word.is_empty() || count == 0 {
            return;
        }
        self.make_room(1);
        if word.len() <= MAX_INLINE {
            let key = inline_key(word, 0, word.len());
            self.add_key(key, hash::pair(self.seed, key.0, key.1), count);
        } else {
            self.add_long(word, hash::bytes(self.seed, word), count);
        }
    }

    fn add_key(&mut self, (low, high): (u64, u64), hash: u64, count: u64) {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = &mut self.slots[at];
            if slot.count == 0 {
                *slot = Slot { low, high, count };
                self.used += 1;
                return;
            }
            if slot.low == low && slot.high == high {
                slot.count += count;
                return;
            }
            at = (at + 1) & mask;
        }
    }

    fn add_long(&mut self, word: &[u8], hash: u64, count: u64) {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot.count == 0 {
                let place = self.spans.len() as u64;
                self.spans.push((self.arena.len() as u64, word.len() as u64));
                self.arena.extend_from_slice(word);
                self.slots[at] = Slot { low: hash, high: LONG | place, count };
                self.used += 1;
                return;
            }
            if slot.high >= LONG && slot.low == hash && self.long(slot) == word {
                self.slots[at].count += count;
                return;
            }
            at = (at + 1) & mask;
        }
    }

    fn long(&self, slot: Slot) -> &[u8] {
        let (start, len) = self.spans[(slot.high & !LONG) as usize];
        &self.arena[start as usize..][..len as usize]
    }

    /// Room for `more` new words: at most half of the slots are used.
    fn make_room(&mut self, more: usize) {
        if (self.used + more) * 2 <= self.slots.len() {
            return;
        }
        let wanted = ((self.used + more) * 2).next_power_of_two();
        let old = std::mem::replace(&mut self.slots, vec![Slot::default(); wanted]);
        let mask = wanted - 1;
        for slot in old.into_iter().filter(|slot| slot.count > 0) {
            let mut at = self.hash_of(slot) as usize & mask;
            while self.slots[at].count > 0 {
                at = (at + 1) & mask;
            }
            self.slots[at] = slot;
        }
    }

    fn hash_of(&self, slot: Slot) -> u64 {
        if slot.high >= LONG { slot.low } else { hash::pair(self.seed, slot.low, slot.high) }
    }

    /// Adds the counts of another table.
    pub(crate) fn absorb(&mut self, other: &Words) {
        for slot in other.slots.iter().filter(|slot| slot.count > 0) {
            self.make_room(1);
            if slot.high >= LONG {
                self.add_long(other.long(*slot), slot.low, slot.count);
            } else {
                self.add_key((slot.low, slot.high), self.hash_of(*slot), slot.count);
            }
        }
    }

    /// Every word and its count, in ascending order of the words.
    pub(crate) fn sorted(&self) -> Sorted<'_> {
        let mut order: Vec<Sortable> = Vec::with_capacity(self.used);
        for slot in self.slots.iter().filter(|slot| slot.count > 0) {
            let long = slot.high >= LONG;
            let prefix = match long {
                true => u128::from_be_bytes(self.long(*slot).first_chunk().copied().unwrap_or_default()),
                false => {
                    u128::from_be_bytes((u128::from(slot.low) | u128::from(slot.high) << 64).to_le_bytes())
                }
            };
            order.push(Sortable { prefix, place: if long { slot.high } else { 0 }, count: slot.count });
        }
        // The last of the 16 bytes is no text in one of the two cases.
        order.sort_unstable_by(|a, b| {
            let by_prefix = (a.prefix >> 8).cmp(&(b.prefix >> 8));
            by_prefix.then_with(|| self.bytes_of(a).as_slice().cmp(self.bytes_of(b).as_slice()))
        });
        Sorted { words: self, order }
    }

    fn bytes_of(&self, word: &Sortable) -> Bytes<'_> {
        if word.place >= LONG {
            return Bytes::Long(self.long(Slot { low: 0, high: word.place, count: 0 }));
        }
        let bytes = word.prefix.to_be_bytes();
        Bytes::Inline(bytes, bytes[15] as usize)
    }
}

#[derive(Clone, Copy, Debug)]
struct Sortable {
    prefix: u128,
    place: u64,
    count: u64,
}

enum Bytes<'a> {
    Inline([u8; 16], usize),
    Long(&'a [u8]),
}

impl Bytes<'_> {
    fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Inline(bytes, len) => &bytes[..*len],
            Bytes::Long(bytes) => bytes,
        }
    }
}

/// The words of a table in ascending order.
#[derive(Debug)]
pub(crate) struct Sorted<'a> {
    words: &'a Words,
    order: Vec<Sortable>,
}

impl Sorted<'_> {
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Bytes of all words together.
    pub(crate) fn bytes(&self) -> u64 {
        self.order.iter().map(|word| self.words.bytes_of(word).as_slice().len() as u64).sum()
    }

    /// Gives every word and its count.
    pub(crate) fn each(&self, mut each: impl FnMut(&[u8], u64)) {
        for word in &self.order {
            each(self.words.bytes_of(word).as_slice(), word.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn contents(words: &Words) -> Vec<(Vec<u8>, u64)> {
        let mut all = Vec::new();
        words.sorted().each(|word, count| all.push((word.to_vec(), count)));
        all
    }

    #[test]
    fn counts_words_of_every_length_and_sorts_them() {
        let mut text = Vec::new();
        let mut spans = Vec::new();
        let mut state = 1u32;
        for _ in 0..30_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (len, kind) = ((state >> 8) as usize % 20, state >> 24);
            let start = text.len();
            text.extend((0..len).map(|at| if at < 12 { b"\0a\x0f"[kind as usize % 3] } else { kind as u8 }));
            spans.push((start, text.len()));
        }
        let (mut left, mut right, mut waiting) = (Words::default(), Words::default(), Waiting::default());
        let mut expected = BTreeMap::new();
        for (at, &(start, end)) in spans.iter().enumerate() {
            if at == spans.len() / 2 {
                left.flush(&mut waiting);
            }
            let half = if at < spans.len() / 2 { &mut left } else { &mut right };
            half.count(&text, start, end, &mut waiting);
            if start < end {
                *expected.entry(text[start..end].to_vec()).or_insert(0u64) += 1;
            }
        }
        right.flush(&mut waiting);
        left.absorb(&right);
        assert_eq!(left.len(), expected.len());
        assert_eq!(contents(&left), expected.into_iter().collect::<Vec<_>>());
    }
}
