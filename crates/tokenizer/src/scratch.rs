//! What encoding needs besides the vocabulary: buffers and a cache, kept from call to call.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::hash;
use crate::merges::Merge;

/// Buffers of one encoding thread, kept from call to call.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) symbols: Vec<u32>,
    pub(crate) pairs: Vec<Merge>,
    pub(crate) long: Long,
    pub(crate) cache: Cache,
}

impl Scratch {
    /// Gives back the memory that an unusually long pre-token took.
    pub(crate) fn shrink(&mut self) {
        if self.symbols.capacity() > 1 << 16 {
            self.symbols = Vec::new();
            self.long = Long::default();
        }
    }
}

/// Buffers for merging a long segment: a linked list over its symbols and a heap of (rank << 32 | position).
#[derive(Debug, Default)]
pub(crate) struct Long {
    pub(crate) next: Vec<u32>,
    pub(crate) previous: Vec<u32>,
    pub(crate) pairs: Vec<Merge>,
    pub(crate) heap: BinaryHeap<Reverse<u64>>,
}

/// The ids of recent short segments: direct-mapped, half a cache line a slot.
#[derive(Debug)]
pub(crate) struct Cache {
    slots: Vec<CacheSlot>,
    seed: u64,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(align(32))]
struct CacheSlot {
    /// Up to 15 bytes and, in the last byte, how many; 0 = free.
    key: u128,
    ids: [u32; 3],
    count: u32,
}

const CACHE_SLOTS: usize = 1 << 15;

impl Default for Cache {
    fn default() -> Cache {
        Cache { slots: Vec::new(), seed: hash::seed() }
    }
}

impl Cache {
    fn key(bytes: &[u8]) -> Option<u128> {
        let mut key = [0; 16];
        if bytes.is_empty() || bytes.len() > 15 {
            return None;
        }
        key[..bytes.len()].copy_from_slice(bytes);
        key[15] = bytes.len() as u8;
        Some(u128::from_le_bytes(key))
    }

    fn slot(&self, key: u128) -> usize {
        let hash = hash::word(
            self.seed,
            (key as u64).rotate_left(23) ^ ((key >> 64) as u64).wrapping_mul(0xA24B_AED4_963E_E407),
        );
        hash as usize & (CACHE_SLOTS - 1)
    }

    /// The ids of `bytes`, if they are kept.
    pub(crate) fn get(&self, bytes: &[u8]) -> Option<&[u32]> {
        let key = Cache::key(bytes)?;
        let slot = self.slots.get(self.slot(key))?;
        (slot.key == key).then(|| &slot.ids[..slot.count as usize])
    }

    /// Keeps the ids of `bytes`, if both are short.
    pub(crate) fn put(&mut self, bytes: &[u8], ids: &[u32]) {
        let Some(key) = Cache::key(bytes) else { return };
        if ids.len() > 3 {
            return;
        }
        if self.slots.is_empty() {
            self.slots = vec![CacheSlot::default(); CACHE_SLOTS];
        }
        let mut slot = CacheSlot { key, ids: [0; 3], count: ids.len() as u32 };
        slot.ids[..ids.len()].copy_from_slice(ids);
        let at = self.slot(key);
        self.slots[at] = slot;
    }
}
