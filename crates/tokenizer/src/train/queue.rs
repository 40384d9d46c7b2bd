//! The pairs by their counts: a heap over those that may be next, and everything else unsorted.
//!
//! Counts only fall, and most pairs are never merged: they stay in the bucket of their count's power of two, which costs one
//! write, and become part of the heap when their turn comes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Higher counts first, then the lower pair, then the older entry.
type Entry = (u64, Reverse<u64>, Reverse<u32>);

/// What stands at the top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Top {
    pub(crate) count: u64,
    /// Both ids, the left one in the upper half.
    pub(crate) pair: u64,
    /// The caller's name for the entry.
    pub(crate) name: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue {
    heap: BinaryHeap<Entry>,
    /// By the logarithm of the count; those from `active` on are in the heap.
    buckets: Vec<Vec<Entry>>,
    active: usize,
}

impl Default for Queue {
    fn default() -> Queue {
        Queue { heap: BinaryHeap::new(), buckets: vec![Vec::new(); 64], active: 64 }
    }
}

impl Queue {
    /// Adds a pair; one with a count of 0 is none.
    pub(crate) fn push(&mut self, top: Top) {
        if top.count == 0 {
            return;
        }
        let entry = (top.count, Reverse(top.pair), Reverse(top.name));
        let bucket = top.count.ilog2() as usize;
        if bucket >= self.active {
            self.heap.push(entry);
        } else {
            self.buckets[bucket].push(entry);
        }
    }

    /// Takes the first.
    pub(crate) fn pop(&mut self) -> Option<Top> {
        self.fill();
        self.heap.pop().map(top_of)
    }

    /// The first.
    pub(crate) fn peek(&mut self) -> Option<Top> {
        self.fill();
        self.heap.peek().copied().map(top_of)
    }

    fn fill(&mut self) {
        while self.heap.is_empty() && self.active > 0 {
            self.active -= 1;
            self.heap = BinaryHeap::from(std::mem::take(&mut self.buckets[self.active]));
        }
    }
}

fn top_of((count, Reverse(pair), Reverse(name)): Entry) -> Top {
    Top { count, pair, name }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_a_sorted_list(steps in prop::collection::vec((0..300u64, 0..4u64, any::<bool>()), 0..200)) {
            let (mut queue, mut list) = (Queue::default(), Vec::new());
            for (name, (count, pair, pop)) in (0..).zip(steps) {
                queue.push(Top { count, pair, name });
                if count > 0 {
                    list.push((count, Reverse(pair), Reverse(name)));
                }
                list.sort();
                prop_assert_eq!(queue.peek(), list.last().copied().map(top_of));
                if pop {
                    prop_assert_eq!(queue.pop(), list.pop().map(top_of));
                }
            }
        }
    }
}
