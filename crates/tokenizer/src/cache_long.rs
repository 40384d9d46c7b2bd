//! The ids of recent pre-tokens that have no place in the [`Cache`](crate::cache::Cache): more than 15 bytes or four ids.

use crate::hash;

/// Longer pre-tokens are not kept.
pub(crate) const MAX_BYTES: usize = 256;
/// Entries of a new table and of the largest; powers of two. A table that is half full grows fourfold; when the largest is, or
/// the texts take [`MAX_TEXT`] bytes, all are forgotten.
const FIRST_SLOTS: usize = 1 << 8;
const MAX_SLOTS: usize = 1 << 16;
const MAX_TEXT: usize = 1 << 21;

/// An entry; one without text is free.
#[derive(Clone, Copy, Default)]
struct Slot {
    hash: u32,
    text: u32,
    ids: u32,
    text_len: u16,
    ids_len: u16,
}

/// Where the search for a hash begins, in a table of any size.
fn place(hash: u32) -> usize {
    (hash ^ hash >> 16) as usize
}

/// See the module. Empty until something is put.
#[derive(Default)]
pub(crate) struct LongCache {
    slots: Vec<Slot>,
    used: usize,
    text: Vec<u8>,
    ids: Vec<u32>,
}

impl std::fmt::Debug for LongCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LongCache({} entries)", self.used)
    }
}

impl LongCache {
    /// The ids of `piece`, if they are kept, and its hash.
    pub(crate) fn get(&self, piece: &[u8]) -> (Option<&[u32]>, u64) {
        let hash = hash::bytes(hash::seed(), piece);
        (self.find(piece, hash), hash)
    }

    fn find(&self, piece: &[u8], hash: u64) -> Option<&[u32]> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = place(hash as u32);
        loop {
            let slot = self.slots.get(at & mask)?;
            if slot.text_len == 0 {
                return None;
            }
            let text = || self.text.get(slot.text as usize..)?.get(..slot.text_len as usize);
            if slot.hash == hash as u32 && text() == Some(piece) {
                return self.ids.get(slot.ids as usize..)?.get(..slot.ids_len as usize);
            }
            at += 1;
        }
    }

    /// Keeps the ids of a piece that is not there; `hash` is from [`get`](Self::get).
    pub(crate) fn put(&mut self, piece: &[u8], hash: u64, ids: &[u32]) {
        if piece.is_empty() || piece.len() > MAX_BYTES || ids.len() > 2 * MAX_BYTES {
            return;
        }
        if self.used >= MAX_SLOTS / 2 || self.text.len() > MAX_TEXT {
            self.slots.fill(Slot::default());
            self.text.clear();
            self.ids.clear();
            self.used = 0;
        } else if self.used >= self.slots.len() / 2 {
            let larger = vec![Slot::default(); (self.slots.len() * 4).max(FIRST_SLOTS)];
            for slot in std::mem::replace(&mut self.slots, larger) {
                if slot.text_len != 0 {
                    self.insert(slot);
                }
            }
        }
        self.insert(Slot {
            hash: hash as u32,
            text: self.text.len() as u32,
            ids: self.ids.len() as u32,
            text_len: piece.len() as u16,
            ids_len: ids.len() as u16,
        });
        self.text.extend_from_slice(piece);
        self.ids.extend_from_slice(ids);
        self.used += 1;
    }

    fn insert(&mut self, slot: Slot) {
        let mask = self.slots.len() - 1;
        let mut at = place(slot.hash);
        while self.slots[at & mask].text_len != 0 {
            at += 1;
        }
        self.slots[at & mask] = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_what_was_put_and_forgets_in_time() {
        let mut cache = LongCache::default();
        let piece = |n: u32| format!("a piece of text that is too long: {n}").into_bytes();
        for n in 0..100_000 {
            let (ids, hash) = cache.get(&piece(n));
            assert_eq!(ids, None);
            cache.put(&piece(n), hash, &vec![n; n as usize % 7]);
            assert_eq!(cache.get(&piece(n)).0, Some(&vec![n; n as usize % 7][..]));
            assert!(cache.used <= MAX_SLOTS / 2);
        }
        assert_eq!(cache.get(&piece(0)).0, None);
        let long = vec![b'x'; MAX_BYTES + 1];
        let (_, hash) = cache.get(&long);
        cache.put(&long, hash, &[1]);
        assert_eq!(cache.get(&long).0, None);
    }
}
