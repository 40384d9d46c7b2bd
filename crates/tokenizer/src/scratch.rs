//! What encoding needs besides the vocabulary: buffers and a cache, kept from call to call.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::automaton::Automaton;
use crate::cache::Cache;
use crate::cache_long::LongCache;
use crate::matches::Block;
use crate::merges::Merge;

/// Buffers of one encoding thread, kept from call to call.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) symbols: Vec<u32>,
    pub(crate) long: Long,
    pub(crate) automaton: Automaton,
    /// Between calls; taken by [`Bpe::encode_matches`](crate::bpe::Bpe::encode_matches).
    pub(crate) block: Option<Box<Block>>,
    pub(crate) cache: Cache,
    pub(crate) cache_long: LongCache,
    /// The ids of a pre-token that is encoded piece by piece.
    pub(crate) pieces: Vec<u32>,
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
