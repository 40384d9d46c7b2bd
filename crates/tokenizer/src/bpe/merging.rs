//! The merges of one list of symbols, lowest rank first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Bpe, NONE};
use crate::merges::Merge;
use crate::scratch::Long;

/// Up to here the next merge is found by looking at all pairs; beyond, by a heap. Pre-tokens of text are a few bytes
/// long, where shifting a small array beats any other structure; the heap bounds the rest to O(n log n).
pub(super) const SHORT: usize = 48;

impl Bpe {
    /// Merges by looking at all pairs again and again: O(n²), for small n the fastest way.
    ///
    /// Nothing is moved: a bit for each symbol says whether it is still there.
    ///
    /// `bytes` are those of the symbols.
    pub(super) fn merge_short(&self, symbols: &mut Vec<u32>, bytes: &[u8]) {
        let n = symbols.len();
        if n < 2 {
            return;
        }
        let mut ids = [0; SHORT];
        // Of each symbol and the one after it.
        let mut pairs = [Merge { rank: NONE, id: NONE }; SHORT];
        ids[..n].copy_from_slice(symbols);
        match &self.byte_pairs {
            Some(byte_pairs) => {
                for (pair, two) in pairs.iter_mut().zip(bytes.windows(2)) {
                    *pair = byte_pairs[usize::from(u16::from_le_bytes([two[0], two[1]]))];
                }
            }
            None => {
                for (pair, two) in pairs.iter_mut().zip(symbols.windows(2)) {
                    *pair = self.pair(two[0], two[1]);
                }
            }
        }
        let mut live = (1u64 << n) - 1;
        loop {
            let mut best = 0;
            let mut rank = NONE;
            for (at, pair) in pairs[..n - 1].iter().enumerate() {
                if pair.rank < rank {
                    (best, rank) = (at, pair.rank);
                }
            }
            if rank == NONE {
                break;
            }
            let id = pairs[best].id;
            let behind = live & !((2u64 << best) - 1);
            let right = behind.trailing_zeros() as usize % SHORT.next_power_of_two();
            let after = behind & behind.wrapping_sub(1);
            let before = live & ((1u64 << best) - 1);
            live &= !(1u64 << right);
            ids[best] = id;
            pairs[right % SHORT].rank = NONE;
            pairs[best] = match after {
                0 => Merge { rank: NONE, id: NONE },
                _ => self.pair(id, ids[after.trailing_zeros() as usize % SHORT]),
            };
            if before != 0 {
                let left = before.ilog2() as usize % SHORT;
                pairs[left] = self.pair(ids[left], id);
            }
        }
        symbols.clear();
        while live != 0 {
            symbols.push(ids[live.trailing_zeros() as usize % SHORT]);
            live &= live - 1;
        }
    }

    /// Merges with a heap of (rank, position) over a linked list: O(n log n).
    ///
    /// A heap entry whose rank is no longer the rank at its position is stale and skipped; it needs no removal.
    pub(super) fn merge_long(&self, symbols: &mut Vec<u32>, long: &mut Long) {
        let n = symbols.len();
        let Long { next, previous, pairs, heap } = long;
        next.clear();
        next.extend(1..=n as u32);
        previous.clear();
        previous.extend((0..n as u32).map(|at| at.wrapping_sub(1)));
        pairs.clear();
        pairs.extend(symbols.windows(2).map(|pair| self.pair(pair[0], pair[1])));
        pairs.push(Merge { rank: NONE, id: NONE });
        let entry = |rank: u32, at: usize| Reverse(u64::from(rank) << 32 | at as u64);
        let mut entries = std::mem::take(heap).into_vec();
        entries.clear();
        entries.extend(
            pairs
                .iter()
                .enumerate()
                .filter(|(_, pair)| pair.rank != NONE)
                .map(|(at, pair)| entry(pair.rank, at)),
        );
        *heap = BinaryHeap::from(entries);

        while let Some(Reverse(top)) = heap.pop() {
            let (rank, at) = ((top >> 32) as u32, top as u32 as usize);
            if pairs[at].rank != rank {
                continue;
            }
            let right = next[at] as usize;
            symbols[at] = pairs[at].id;
            pairs[right].rank = NONE;
            let after = next[right] as usize;
            next[at] = after as u32;
            pairs[at] = Merge { rank: NONE, id: NONE };
            if after < n {
                previous[after] = at as u32;
                pairs[at] = self.pair(symbols[at], symbols[after]);
                if pairs[at].rank != NONE {
                    heap.push(entry(pairs[at].rank, at));
                }
            }
            let before = previous[at] as usize;
            if before < n {
                pairs[before] = self.pair(symbols[before], symbols[at]);
                if pairs[before].rank != NONE {
                    heap.push(entry(pairs[before].rank, before));
                }
            }
        }
        // The live symbols, moved to the front in place.
        let (mut at, mut kept) = (0, 0);
        while at < n {
            symbols[kept] = symbols[at];
            kept += 1;
            at = next[at] as usize;
        }
        symbols.truncate(kept);
    }
}
