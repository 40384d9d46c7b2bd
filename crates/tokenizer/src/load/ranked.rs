//! Merges of vocabularies that list no merges: any two symbols whose joined text is an entry may merge, and the entry's
//! rank says when.

use std::collections::HashMap;

use crate::TokenizerError;
use crate::merges::{Merge, Merges};
use crate::vocab::{Kind, Vocab, Writing};

/// Longest entry that is taken apart, in bytes. Real ones stay below 300; the work grows with the square.
const MAX_TOKEN: usize = 1024;

/// All merges of `vocab`, where `rank` gives each entry's rank (none: it is never formed), and the characters that are
/// parts of entries without being entries: their symbols are `vocab.len()`, `vocab.len() + 1`, ...
pub(super) fn merges(
    file: &str,
    vocab: &Vocab,
    rank: impl Fn(u32) -> Option<u32>,
    name: impl Fn(u32) -> String,
) -> Result<(Merges, Vec<char>), TokenizerError> {
    let mut merges = Merges::with_capacity(vocab.len());
    let mut chars = Vec::new();
    let mut symbols: HashMap<char, u32> = HashMap::new();
    // Halves of a length that no entry has need not be looked up.
    let mut lengths = [false; MAX_TOKEN + 1];
    for id in 0..vocab.len() as u32 {
        let key = vocab.key(id).unwrap_or_default();
        if key.len() > MAX_TOKEN && rank(id).is_some() {
            return Err(TokenizerError::entry(
                file,
                name(id),
                format!("{} bytes", key.len()),
                format!("at most {MAX_TOKEN} bytes"),
            ));
        }
        lengths[key.len().min(MAX_TOKEN)] = true;
    }
    lengths[1..=4].fill(true);

    for id in 0..vocab.len() as u32 {
        let (Some(key), Some(rank)) = (vocab.key(id), rank(id)) else { continue };
        // Of two entries with the same text only one is found.
        if vocab.find(key) != Some(id) {
            continue;
        }
        for at in 1..key.len() {
            let (left, right) = key.split_at(at);
            if vocab.writing() == Writing::Text && right[0] & 0xC0 == 0x80 {
                continue;
            }
            if !(lengths[left.len()] && lengths[right.len()]) {
                continue;
            }
            let mut symbol = |part: &[u8]| {
                let formed = vocab.find(part).filter(|&id| vocab.kind(id) != Kind::Control);
                formed.or_else(|| {
                    if vocab.writing() == Writing::Bytes {
                        return None;
                    }
                    let mut letters = std::str::from_utf8(part).ok()?.chars();
                    let (letter, None) = (letters.next()?, letters.next()) else { return None };
                    Some(*symbols.entry(letter).or_insert_with(|| {
                        chars.push(letter);
                        (vocab.len() + chars.len() - 1) as u32
                    }))
                })
            };
            if let (Some(left), Some(right)) = (symbol(left), symbol(right)) {
                merges.insert(left, right, Merge { rank, id });
            }
        }
    }
    Ok((merges, chars))
}

/// Ranks from scores: the highest score first, equal scores equal ranks. NaN was refused before.
pub(super) fn ranks_of_scores(scores: &[f32]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..scores.len() as u32).collect();
    order.sort_by(|&a, &b| scores[b as usize].total_cmp(&scores[a as usize]));
    let mut ranks = vec![0; scores.len()];
    let mut rank = 0;
    for pair in order.windows(2) {
        // 0.0 and -0.0 are the same score.
        rank += u32::from(scores[pair[0] as usize] != scores[pair[1] as usize]);
        ranks[pair[1] as usize] = rank;
    }
    ranks
}
