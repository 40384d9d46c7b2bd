//! The ids of recent short pre-tokens.
//!
//! Two slots make a set of one cache line, so that a look-up touches one line. A new key takes the first slot and moves
//! what was there to the second: a frequent word survives one rare word of the same set.

use crate::hash;

/// The most bytes of a key.
const MAX_KEY: usize = 15;
/// The most ids of a slot.
pub(crate) const MAX_IDS: usize = 4;
/// Sets; a power of two. 4 MiB in all: a book of rare words is cheaper to find there than to merge.
const SETS: usize = 1 << 16;

/// Up to 15 bytes and, in the last byte, how many; in its highest bit, what was encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(u128);

/// What the bytes of a key are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// A pre-token.
    PreToken,
    /// A part of one, which never becomes an entry as a whole (`ignore_merges`).
    Segment,
}

impl Key {
    /// The key of `text[start..end]`; `None` if it is too long.
    ///
    /// The bytes after `end` let the key be loaded at once, where there are enough of them.
    #[inline(always)]
    pub(crate) fn new(text: &[u8], start: usize, end: usize, of: Of) -> Option<Key> {
        let len = end - start;
        if len > MAX_KEY || len == 0 {
            return None;
        }
        let bytes = match text.get(start..).and_then(|rest| rest.first_chunk::<16>()) {
            Some(chunk) => u128::from_le_bytes(*chunk) & (u128::MAX >> (128 - 8 * len)),
            None => {
                let mut bytes = [0; 16];
                bytes[..len].copy_from_slice(&text[start..end]);
                u128::from_le_bytes(bytes)
            }
        };
        let tag = len as u128 | if of == Of::Segment { 0x80 } else { 0 };
        Some(Key(bytes | tag << 120))
    }
}

/// Half a cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Slot {
    key: Key,
    /// Followed by [`NONE`] where there are fewer.
    pub(crate) ids: [u32; MAX_IDS],
}

/// No id.
const NONE: u32 = u32::MAX;

const FREE: Slot = Slot { key: Key(0), ids: [NONE; MAX_IDS] };

impl Slot {
    /// How many ids there are.
    #[inline(always)]
    pub(crate) fn count(&self) -> usize {
        self.ids.iter().map(|&id| usize::from(id != NONE)).sum()
    }
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Set([Slot; 2]);

/// See the module.
#[derive(Debug)]
pub(crate) struct Cache {
    sets: Box<[Set; SETS]>,
    seed: u64,
}

impl Default for Cache {
    fn default() -> Cache {
        let sets = vec![Set([FREE; 2]); SETS].into_boxed_slice();
        let Ok(sets) = sets.try_into() else { unreachable!("the vector has as many sets") };
        Cache { sets, seed: hash::seed() }
    }
}

impl Cache {
    /// The ids of `key`, if they are kept.
    #[inline(always)]
    pub(crate) fn get(&self, key: Key) -> Option<&Slot> {
        self.get_at(key, self.place(key))
    }

    /// The set of `key`.
    #[inline(always)]
    pub(crate) fn place(&self, key: Key) -> u32 {
        let (low, high) = (key.0 as u64, (key.0 >> 64) as u64);
        hash::pair(self.seed, low, high) as u32 & (SETS as u32 - 1)
    }

    /// Fetches a set into the nearest cache.
    #[inline(always)]
    pub(crate) fn touch(&self, place: u32) -> u32 {
        self.sets[place as usize & (SETS - 1)].0[0].ids[0]
    }

    /// [`get`](Self::get) of a key whose place is known.
    #[inline(always)]
    pub(crate) fn get_at(&self, key: Key, place: u32) -> Option<&Slot> {
        let Set(set) = &self.sets[place as usize & (SETS - 1)];
        // Which of the two it is cannot be predicted, so it is no branch.
        let slot = &set[usize::from(set[1].key == key)];
        (slot.key == key).then_some(slot)
    }

    /// Keeps `ids`, if they are few.
    pub(crate) fn put(&mut self, key: Key, ids: &[u32]) {
        if ids.len() > MAX_IDS {
            return;
        }
        let mut slot = Slot { key, ..FREE };
        slot.ids[..ids.len()].copy_from_slice(ids);
        let Set(set) = &mut self.sets[self.place(key) as usize];
        set[1] = set[0];
        set[0] = slot;
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
            assert_ne!(Key::new(long, 0, end, Of::PreToken), Key::new(short, 0, end, Of::Segment));
        }
        assert_ne!(Key::new(b"\0\0", 0, 1, Of::PreToken), Key::new(b"\0\0", 0, 2, Of::PreToken));
        assert_eq!(Key::new(long, 0, 16, Of::PreToken), None);
        assert_eq!(Key::new(long, 3, 3, Of::PreToken), None);
    }

    #[test]
    fn gives_what_was_put() {
        let mut cache = Cache::default();
        let text: Vec<u8> = (0..40_000u32).flat_map(|n| n.to_le_bytes()).collect();
        let key = |n: usize| Key::new(&text, n * 4, n * 4 + 4, Of::PreToken).unwrap();
        for n in 0..40_000 {
            assert!(cache.get(key(n)).is_none());
            cache.put(key(n), &[n as u32, 7][..1 + n % 2]);
        }
        let mut kept = 0;
        for n in 0..40_000 {
            let Some(slot) = cache.get(key(n)) else { continue };
            assert_eq!((slot.ids[0], slot.count()), (n as u32, 1 + n % 2));
            kept += 1;
        }
        assert!(kept > 20_000, "{kept}");
        let before = cache.get(key(0)).map(|slot| slot.ids);
        cache.put(key(0), &[1, 2, 3, 4, 5]);
        assert_eq!(cache.get(key(0)).map(|slot| slot.ids), before);
    }
}
