//! The ids of recent short pre-tokens.
//!
//! Two slots make a set of one cache line, and nearly every key is found in the set that its hash names: a look-up touches
//! one line. A full set overflows into the next one. The table grows with what it holds up to [`MAX_SETS`] and is then
//! emptied when it is three quarters full: memory is bounded, and a long text's words are soon there again.

use chalot_simd::{AlignedVec, bytes};

use crate::hash;

/// The most bytes of a key.
const MAX_KEY: usize = 15;
/// The most ids of a slot.
pub(crate) const MAX_IDS: usize = 4;
/// Ids of a slot are below this; the bits above hold their number.
const ID_LIMIT: u32 = 1 << COUNT_SHIFT;
const COUNT_SHIFT: u32 = 28;
/// Sets of a new table, 32 KiB, so that a tokenizer for a few words costs little ...
const FIRST_SETS: usize = 1 << 9;
/// ... and of the one after it, 1 MiB; from there on it doubles.
const SECOND_SETS: usize = 1 << 14;
/// 32 MiB.
const MAX_SETS: usize = 1 << 19;

/// Up to 15 bytes and, in the last byte, how many; in its highest bit, what was encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    low: u64,
    high: u64,
}

/// What the bytes of a key are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// A pre-token.
    PreToken,
    /// A part of one, which never becomes an entry as a whole (`ignore_merges`).
    Segment,
}

/// The bytes of a key of so many bytes; of a longer one, none.
static MASKS: [[u64; 2]; MAX_KEY + 2] = {
    let mut masks = [[0; 2]; MAX_KEY + 2];
    let mut len = 1;
    while len <= MAX_KEY {
        let mask = u128::MAX >> (128 - 8 * len);
        masks[len] = [mask as u64, (mask >> 64) as u64];
        len += 1;
    }
    masks
};

impl Key {
    /// A key that no slot has.
    pub(crate) const NONE: Key = Key { low: 0, high: (MAX_KEY as u64 + 1) << 56 };

    /// The key of `text[start..end]`; `None` if it is too long.
    #[inline(always)]
    pub(crate) fn new(text: &[u8], start: usize, end: usize, of: Of) -> Option<Key> {
        let len = end - start;
        if len > MAX_KEY || len == 0 {
            return None;
        }
        let Key { low, high } = Key::or_none(text, start, end);
        let tag = if of == Of::Segment { 0x80 << 56 } else { 0 };
        Some(Key { low, high: high | tag })
    }

    /// The key of the pre-token `text[start..end]`, or one that no slot has if it is too long.
    #[inline(always)]
    pub(crate) fn or_none(text: &[u8], start: usize, end: usize) -> Key {
        match text.get(start..).and_then(|rest| rest.first_chunk()) {
            Some(bytes) => Key::of_first(bytes, end - start),
            None => {
                let mut bytes = [0; 16];
                let len = (end - start).min(bytes.len());
                bytes[..len].copy_from_slice(&text[start..start + len]);
                Key::of_first(&bytes, end - start)
            }
        }
    }

    /// [`or_none`](Self::or_none) of the first `len` of these bytes.
    #[inline(always)]
    pub(crate) fn of_first(bytes: &[u8; 16], len: usize) -> Key {
        let len = len.min(MAX_KEY + 1);
        let [low, high] = [0, 8].map(|at| u64::from_le_bytes(*bytes[at..].first_chunk().unwrap_or(&[0; 8])));
        let mask = &MASKS[len];
        Key { low: low & mask[0], high: high & mask[1] | (len as u64) << 56 }
    }

    /// Whether a slot may have this key.
    #[inline(always)]
    pub(crate) fn is_some(self) -> bool {
        self.high >> 56 != MAX_KEY as u64 + 1
    }

    /// The hash of the key.
    #[inline(always)]
    pub(crate) fn hash(self, seed: u64) -> u32 {
        hash::pair(seed, self.low, self.high) as u32
    }
}

/// The ids of a key, and how many.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ids([u64; 2]);

impl Ids {
    /// `None` if there are too many, or an id is too large.
    fn new(ids: &[u32]) -> Option<Ids> {
        if ids.len() > MAX_IDS || ids.iter().any(|&id| id >= ID_LIMIT) {
            return None;
        }
        let id = |at: usize| u64::from(ids.get(at).copied().unwrap_or(0));
        Some(Ids([id(0) | (ids.len() as u64) << COUNT_SHIFT | id(1) << 32, id(2) | id(3) << 32]))
    }

    #[inline(always)]
    pub(crate) fn count(self) -> usize {
        (self.0[0] as u32 >> COUNT_SHIFT) as usize
    }

    /// The ids, followed by zeros.
    #[inline(always)]
    pub(crate) fn padded(self) -> [u32; MAX_IDS] {
        let [low, high] = self.0;
        let low = low & !(0xF << COUNT_SHIFT);
        [low as u32, (low >> 32) as u32, high as u32, (high >> 32) as u32]
    }
}

/// Two slots, each a key and its ids. A key is never 0: there, a slot is free.
type Set = [u64; 8];

/// Where the slots of a set begin.
const SLOTS: [usize; 2] = [0, 4];

/// Whether the slot at `at` has this key.
#[inline(always)]
fn has(set: &Set, at: usize, key: Key) -> bool {
    (set[at] ^ key.low) | (set[at + 1] ^ key.high) == 0
}

#[inline(always)]
fn is_free(set: &Set, at: usize) -> bool {
    // The highest byte of a key is its length.
    set[at + 1] == 0
}

/// See the module.
pub(crate) struct Cache {
    sets: AlignedVec<Set>,
    used: usize,
    seed: u64,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cache({} of {} slots)", self.used, self.sets.len() * 2)
    }
}

impl Default for Cache {
    fn default() -> Cache {
        Cache { sets: AlignedVec::zeroed(FIRST_SETS), used: 0, seed: hash::seed() }
    }
}

/// What look-ups need of a cache, so that it stays in registers.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    sets: &'a [Set],
    mask: usize,
}

impl View<'_> {
    /// Fetches the set of a hash into the nearest cache.
    #[inline(always)]
    pub(crate) fn prefetch(self, hash: u32) {
        if let Some(set) = self.sets.get(hash as usize & self.mask) {
            bytes::prefetch(set);
        }
    }

    /// The ids of `key`, if they are in the set of its hash.
    #[inline(always)]
    pub(crate) fn get(self, key: Key, hash: u32) -> Option<Ids> {
        let set = self.sets.get(hash as usize & self.mask)?;
        // Which of the two it is cannot be predicted, so it is no branch. That their first bytes differ is so nearly always;
        // where it is not, `get_far` finds the key.
        let at = if set[4] == key.low { 4 } else { 0 };
        has(set, at, key).then_some(Ids([set[at + 2], set[at + 3]]))
    }
}

impl Cache {
    #[inline(always)]
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    #[inline(always)]
    pub(crate) fn view(&self) -> View<'_> {
        View { sets: &self.sets, mask: self.sets.len() - 1 }
    }

    /// The ids of `key`, if they are kept.
    #[inline(always)]
    pub(crate) fn get(&self, key: Key) -> Option<Ids> {
        let hash = key.hash(self.seed);
        self.view().get(key, hash).or_else(|| self.get_far(key, hash))
    }

    /// The ids of `key`, if they are kept, its first set being full.
    #[inline(never)]
    pub(crate) fn get_far(&self, key: Key, hash: u32) -> Option<Ids> {
        let mask = self.sets.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let set = &self.sets[at];
            for slot in SLOTS {
                if has(set, slot, key) {
                    return Some(Ids([set[slot + 2], set[slot + 3]]));
                }
            }
            if is_free(set, SLOTS[1]) {
                return None;
            }
            at = (at + 1) & mask;
        }
    }

    /// Keeps `ids`, if they are few. The key must not be there.
    pub(crate) fn put(&mut self, key: Key, ids: &[u32]) {
        let Some(ids) = Ids::new(ids) else { return };
        if self.used >= self.sets.len() {
            if self.sets.len() < MAX_SETS {
                self.grow();
            } else if self.used >= self.sets.len() / 2 * 3 {
                self.sets.fill([0; 8]);
                self.used = 0;
            }
        }
        self.insert(key, ids);
    }

    fn insert(&mut self, key: Key, ids: Ids) {
        let mask = self.sets.len() - 1;
        let mut at = key.hash(self.seed) as usize & mask;
        loop {
            let set = &mut self.sets[at];
            for slot in SLOTS {
                if is_free(set, slot) {
                    set[slot..slot + 4].copy_from_slice(&[key.low, key.high, ids.0[0], ids.0[1]]);
                    self.used += 1;
                    return;
                }
            }
            at = (at + 1) & mask;
        }
    }

    #[inline(never)]
    fn grow(&mut self) {
        let larger = AlignedVec::zeroed((self.sets.len() * 2).max(SECOND_SETS));
        let sets = std::mem::replace(&mut self.sets, larger);
        self.used = 0;
        for set in sets.iter() {
            for slot in SLOTS {
                if !is_free(set, slot) {
                    let key = Key { low: set[slot], high: set[slot + 1] };
                    self.insert(key, Ids([set[slot + 2], set[slot + 3]]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_do_not_depend_on_what_follows() {
        let (long, short) = (b"the words of a long text", b"the words");
        for end in 1..=short.len() {
            assert_eq!(Key::new(long, 0, end, Of::PreToken), Key::new(short, 0, end, Of::PreToken));
            assert_eq!(Key::new(long, 0, end, Of::PreToken), Some(Key::or_none(long, 0, end)));
            assert_ne!(Key::new(long, 0, end, Of::PreToken), Key::new(short, 0, end, Of::Segment));
        }
        assert_ne!(Key::new(b"\0\0", 0, 1, Of::PreToken), Key::new(b"\0\0", 0, 2, Of::PreToken));
        assert_eq!(Key::new(long, 0, 16, Of::PreToken), None);
        assert_eq!(Key::new(long, 3, 3, Of::PreToken), None);
        assert!(Key::or_none(long, 0, 15).is_some());
        assert!(!Key::or_none(long, 0, 16).is_some());
        assert_eq!(Key::or_none(long, 0, 16), Key::or_none(long, 1, 23));
        assert_eq!(Key::or_none(&long[..16], 0, 16), Key::or_none(&long[..17], 0, 17));
    }

    #[test]
    fn gives_what_was_put() {
        let mut cache = Cache::default();
        let text: Vec<u8> = (0..400_000u32).flat_map(|n| n.to_le_bytes()).collect();
        let key = |n: usize| Key::new(&text, n * 4, n * 4 + 4, Of::PreToken).unwrap();
        for n in 0..400_000 {
            assert!(cache.get(key(n)).is_none());
            cache.put(key(n), &[n as u32, 7][..1 + n % 2]);
        }
        for n in 0..400_000 {
            let ids = cache.get(key(n)).unwrap();
            assert_eq!((ids.padded()[0], ids.count()), (n as u32, 1 + n % 2));
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut cache = Cache::default();
        let limit = 2_000_000u32;
        for n in 0..limit {
            let key = Key::new(&n.to_le_bytes(), 0, 4, Of::PreToken).unwrap();
            cache.put(key, &[n]);
        }
        assert_eq!(cache.sets.len(), MAX_SETS);
        let last = Key::new(&(limit - 1).to_le_bytes(), 0, 4, Of::PreToken).unwrap();
        assert_eq!(cache.get(last).unwrap().padded()[0], limit - 1);
        assert!(cache.get(Key::new(&0u32.to_le_bytes(), 0, 4, Of::PreToken).unwrap()).is_none());
    }

    #[test]
    fn keeps_only_what_fits() {
        let mut cache = Cache::default();
        let key = Key::new(b"word", 0, 4, Of::PreToken).unwrap();
        cache.put(key, &[1, 2, 3, 4, 5]);
        assert!(cache.get(key).is_none());
        cache.put(key, &[ID_LIMIT]);
        assert!(cache.get(key).is_none());
        cache.put(key, &[1, 2, 3, ID_LIMIT - 1]);
        assert_eq!(cache.get(key).unwrap().padded(), [1, 2, 3, ID_LIMIT - 1]);
        assert_eq!(cache.get(key).unwrap().count(), 4);
    }
}
