//! The textbook's algorithm: count all pairs, merge the best everywhere, again and again.

use std::cmp::Reverse;
use std::collections::HashMap;

use super::TrainOptions;
use super::ids::{Ids, NONE};
use super::words::Sorted;

/// The merges; `ids` gets their entries.
pub(crate) fn merge(words: &Sorted, ids: &mut Ids, options: &TrainOptions) -> Vec<(u32, u32)> {
    let mut all: Vec<(Vec<u32>, u64)> = Vec::with_capacity(words.len());
    words.each(|word, count| {
        let symbols = word.iter().map(|&byte| ids.of_bytes()[usize::from(byte)]).filter(|&id| id != NONE);
        all.push((symbols.collect(), count));
    });
    let most = options.max_token_bytes.unwrap_or(usize::MAX);
    let mut merges = Vec::new();
    while ids.len() < options.vocab_size {
        let mut counts: HashMap<(u32, u32), u64> = HashMap::new();
        for (symbols, count) in &all {
            for pair in symbols.windows(2) {
                *counts.entry((pair[0], pair[1])).or_default() += count;
            }
        }
        let bytes = |id: u32| ids.bytes(id).map_or(0, <[u8]>::len);
        let fitting = counts.into_iter().filter(|(pair, _)| bytes(pair.0) + bytes(pair.1) <= most);
        let best = fitting.max_by_key(|(pair, count)| (*count, Reverse(*pair)));
        let Some(((left, right), count)) = best else { break };
        if count < options.min_frequency.max(1) {
            break;
        }
        merges.push((left, right));
        let id = ids.join(left, right);
        for (symbols, _) in &mut all {
            let mut at = 0;
            while at + 1 < symbols.len() {
                if (symbols[at], symbols[at + 1]) == (left, right) {
                    symbols[at] = id;
                    symbols.remove(at + 1);
                }
                at += 1;
            }
        }
    }
    merges
}
