//! A seeded multiply-and-fold hash for the vocabulary's tables.
//!
//! The seed is random per process: a file cannot be made so that its entries collide.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

static SEED: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0u64) | 1);

/// The seed of this process.
pub(crate) fn seed() -> u64 {
    *SEED
}

/// 64 x 64 -> 128 bits, the halves xored: every input bit reaches every output bit.
#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Hash of one word.
#[inline(always)]
pub(crate) fn word(seed: u64, word: u64) -> u64 {
    fold(word ^ seed, 0x9E37_79B9_7F4A_7C15)
}

/// Hash of two words.
#[inline(always)]
pub(crate) fn pair(seed: u64, low: u64, high: u64) -> u64 {
    fold(low ^ seed, high ^ 0x9E37_79B9_7F4A_7C15 ^ seed.rotate_left(32))
}

/// Hash of a byte string.
#[inline]
pub(crate) fn bytes(seed: u64, bytes: &[u8]) -> u64 {
    let mut state = seed ^ bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for chunk in words {
        state = fold(state ^ u64::from_le_bytes(*chunk), 0x9E37_79B9_7F4A_7C15);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    fold(state ^ u64::from_le_bytes(last), 0xD6E8_FEB8_6659_FD93)
}

/// A map from texts, with this hash: readers look up hundreds of thousands of merges in one.
pub(crate) type TextMap<'a, V> = HashMap<&'a str, V, TextHash>;

/// Makes the hashers of a [`TextMap`].
#[derive(Clone, Default)]
pub(crate) struct TextHash;

impl BuildHasher for TextHash {
    type Hasher = TextHasher;

    fn build_hasher(&self) -> TextHasher {
        TextHasher(seed())
    }
}

pub(crate) struct TextHasher(u64);

impl Hasher for TextHasher {
    fn write(&mut self, text: &[u8]) {
        self.0 = bytes(self.0, text);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
