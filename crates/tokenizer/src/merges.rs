//! The merge table: which pairs of symbols become which, and how early.

use crate::hash;

/// What a pair becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Merge {
    /// Lower ranks merge first. Pairs may share a rank (SentencePiece's equal scores): then the leftmost goes first.
    pub(crate) rank: u32,
    /// The symbol that replaces the pair.
    pub(crate) id: u32,
}

/// Marks a free slot; no pair is (MAX, MAX), because symbols are below `u32::MAX`.
const FREE: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
struct Slot {
    pair: u64,
    merge: Merge,
}

/// Pairs to merges: open addressing, at most two thirds full, 16 bytes a slot, so that a look-up mostly touches one cache line.
#[derive(Debug)]
pub(crate) struct Merges {
    slots: Vec<Slot>,
    shift: u32,
    seed: u64,
    len: usize,
}

fn key(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

impl Merges {
    /// Room for `count` pairs.
    pub(crate) fn with_capacity(count: usize) -> Merges {
        let size = (count + count / 2 + 1).next_power_of_two().max(16);
        let free = Slot { pair: FREE, merge: Merge { rank: u32::MAX, id: u32::MAX } };
        Merges { slots: vec![free; size], shift: 64 - size.trailing_zeros(), seed: hash::seed(), len: 0 }
    }

    /// Adds a pair; a pair given twice keeps the later rank, as in Hugging Face's reader.
    pub(crate) fn insert(&mut self, left: u32, right: u32, merge: Merge) {
        if self.len * 3 >= self.slots.len() * 2 {
            self.grow();
        }
        let pair = key(left, right);
        let at = self.slot_of(pair);
        self.len += usize::from(self.slots[at].pair == FREE);
        self.slots[at] = Slot { pair, merge };
    }

    fn grow(&mut self) {
        let mut larger = Merges::with_capacity(self.slots.len());
        for slot in self.slots.iter().filter(|slot| slot.pair != FREE) {
            let at = larger.slot_of(slot.pair);
            larger.slots[at] = *slot;
        }
        larger.len = self.len;
        *self = larger;
    }

    #[inline(always)]
    fn slot_of(&self, pair: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = (hash::word(self.seed, pair) >> self.shift) as usize;
        while self.slots[at].pair != pair && self.slots[at].pair != FREE {
            at = (at + 1) & mask;
        }
        at
    }

    /// What `left right` becomes, if anything.
    #[inline(always)]
    pub(crate) fn get(&self, left: u32, right: u32) -> Option<Merge> {
        let slot = &self.slots[self.slot_of(key(left, right))];
        (slot.pair != FREE).then_some(slot.merge)
    }

    /// Pairs.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the table.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    /// Every pair, in no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, u32, Merge)> {
        let used = self.slots.iter().filter(|slot| slot.pair != FREE);
        used.map(|slot| ((slot.pair >> 32) as u32, slot.pair as u32, slot.merge))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_it_was_given() {
        let mut merges = Merges::with_capacity(0);
        for n in 0..1000u32 {
            merges.insert(n, n * 7, Merge { rank: n, id: n + 1 });
        }
        merges.insert(3, 21, Merge { rank: 5, id: 9 });
        assert_eq!(merges.len(), 1000);
        assert_eq!(merges.get(3, 21), Some(Merge { rank: 5, id: 9 }));
        assert_eq!(merges.get(999, 6993), Some(Merge { rank: 999, id: 1000 }));
        assert_eq!(merges.get(1, 8), None);
        assert_eq!(merges.iter().count(), 1000);
    }
}
