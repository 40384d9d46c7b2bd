//! One large text on many threads.
//!
//! Fresh memory costs as much as encoding does, and copying a good part of it. So one thread goes through the text from its
//! beginning and writes ids to their place; the others take parts from the end, and what they have found is copied by all
//! threads when the places are known.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::thread;

use crate::bpe::Sink;
use crate::{Specials, Tokenizer};

/// A thread takes this much of a text at a time.
const PART: usize = 1 << 17;

/// So many parts are encoded before their ids are copied: the memory of the copies is used again for the next ones.
const ROUND: usize = 128;

/// Ids at their place, and those for which there was no room.
#[derive(Debug)]
struct Front<'a> {
    place: &'a mut [u32],
    filled: usize,
    more: Vec<u32>,
}

impl Sink for Front<'_> {
    fn push(&mut self, id: u32) {
        self.push_all(&[id]);
    }

    #[inline(always)]
    fn push_all(&mut self, ids: &[u32]) {
        match self.place.get_mut(self.filled..self.filled + ids.len()) {
            Some(place) if self.more.is_empty() => {
                place.copy_from_slice(ids);
                self.filled += ids.len();
            }
            _ => self.more.extend_from_slice(ids),
        }
    }
}

/// The ids of parts that one thread took from the end, with their numbers.
#[derive(Debug, Default)]
struct Back {
    ids: Vec<u32>,
    parts: Vec<(usize, Range<usize>)>,
}

impl Tokenizer {
    /// [`encode`](Self::encode) on up to `threads` threads: a large text is cut where that does not change its ids.
    ///
    /// Vocabularies for which no such places are known (see [`StreamEncoder`](crate::StreamEncoder)) use one thread.
    pub fn encode_parallel(&self, text: impl AsRef<[u8]>, specials: Specials, threads: usize) -> Vec<u32> {
        let text = text.as_ref();
        // Looking for places to cut takes longer than encoding what has none.
        let parts = if threads <= 1 { Vec::new() } else { self.parts(text, specials, PART) };
        let threads = threads.min(parts.len());
        if threads <= 1 {
            return self.encode(text, specials);
        }
        // Room for an id every two bytes is reserved but not touched.
        let mut ids = vec![0; text.len() / 2];
        chalot_simd::ask_for_huge_pages(&mut ids);
        self.encode_rounds(parts.chunks(ROUND), specials, threads, &mut ids);
        ids.shrink_to_fit();
        ids
    }

    /// Makes `ids` the ids of the parts of all rounds; what room it has is used.
    fn encode_rounds<'t>(
        &self,
        rounds: impl Iterator<Item = &'t [&'t [u8]]>,
        specials: Specials,
        threads: usize,
        ids: &mut Vec<u32>,
    ) {
        let mut filled = 0;
        let mut backs = Vec::new();
        backs.resize_with(threads.saturating_sub(1), Back::default);
        for round in rounds {
            filled = self.encode_round(round, specials, &mut backs, ids, filled);
        }
        ids.truncate(filled);
    }

    /// The text in parts of about `size` bytes that can be encoded one by one.
    fn parts<'t>(&self, text: &'t [u8], specials: Specials, size: usize) -> Vec<&'t [u8]> {
        let mut parts = Vec::new();
        let mut start = 0;
        if let Some(seams) = self.seams(specials) {
            while let Some(seam) = seams.first(text, start + size) {
                parts.push(&text[start..seam]);
                start = seam;
            }
        }
        parts.push(&text[start..]);
        parts
    }

    /// Puts the ids of `parts` into `ids` from `filled` on, whatever is there; where they end.
    fn encode_round(
        &self,
        parts: &[&[u8]],
        specials: Specials,
        backs: &mut [Back],
        ids: &mut Vec<u32>,
        filled: usize,
    ) -> usize {
        let left = Mutex::new(0..parts.len());
        let take = |from: fn(&mut Range<usize>) -> Option<usize>| {
            from(&mut left.lock().unwrap_or_else(PoisonError::into_inner))
        };
        let mut front = Front { place: &mut ids[filled..], filled: 0, more: Vec::new() };
        let help = |back: &mut Back| {
            back.ids.clear();
            back.parts.clear();
            while let Some(part) = take(Range::next_back) {
                let start = back.ids.len();
                self.encode_into(parts[part], specials, &mut back.ids);
                back.parts.push((part, start..back.ids.len()));
            }
        };
        thread::scope(|scope| {
            for back in &mut *backs {
                scope.spawn(|| help(back));
            }
            while let Some(part) = take(Range::next) {
                self.run(parts[part], specials, &mut front);
            }
        });
        let Front { filled: done, more, .. } = front;
        let filled = filled + done;
        let mut pieces: Vec<(usize, &[u32])> = Vec::new();
        for Back { ids, parts } in &*backs {
            pieces.extend(parts.iter().map(|(part, range)| (*part, &ids[range.clone()])));
        }
        pieces.sort_unstable_by_key(|(part, _)| *part);
        let total: usize = pieces.iter().map(|(_, ids)| ids.len()).sum();
        match ids.get_mut(filled..filled + total) {
            Some(place) if more.is_empty() => {
                copy(&pieces, place, backs.len() + 1);
                filled + total
            }
            _ => {
                ids.truncate(filled);
                ids.extend_from_slice(&more);
                pieces.iter().for_each(|(_, piece)| ids.extend_from_slice(piece));
                ids.len()
            }
        }
    }
}

/// Copies `pieces` to `place`, one after the other: each thread a stretch of its own, since two that touch the same fresh
/// huge page would both clear one.
fn copy(pieces: &[(usize, &[u32])], mut place: &mut [u32], threads: usize) {
    let share = place.len().div_ceil(threads).max(1);
    thread::scope(|scope| {
        let mut rest = pieces;
        while !rest.is_empty() {
            let (mut taken, mut len) = (0, 0);
            while taken < rest.len() && (len < share || taken == 0) {
                len += rest[taken].1.len();
                taken += 1;
            }
            let (now, later) = rest.split_at(taken);
            let (to, behind) = std::mem::take(&mut place).split_at_mut(len);
            (rest, place) = (later, behind);
            let work = move || {
                let mut to = to;
                for (_, piece) in now {
                    let (here, behind) = to.split_at_mut(piece.len());
                    here.copy_from_slice(piece);
                    to = behind;
                }
            };
            if later.is_empty() { work() } else { drop(scope.spawn(work)) }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GgufVocab;

    #[test]
    fn parts_rounds_and_room_change_nothing() {
        let mut vocab = GgufVocab { model: "gpt2".into(), pre: Some("gpt-2".into()), ..GgufVocab::default() };
        vocab.tokens = (0..=255u8).map(|byte| crate::alphabet::to_text(&[byte])).collect();
        vocab.tokens.extend(["Ġa", "ab", "Ġab"].map(String::from));
        vocab.merges.extend(["Ġ a", "a b", "Ġa b"].map(String::from));
        let tokenizer = Tokenizer::from_gguf("small", vocab).unwrap();
        let text: String = (0..2000usize).map(|n| ["ab ab", " a", " ba\n", " abba"][n * n % 7 % 4]).collect();
        let expected = tokenizer.encode(&text, Specials::AsText);
        for size in [50, 400, 1 << 14] {
            let parts = tokenizer.parts(text.as_bytes(), Specials::AsText, size);
            assert_eq!(parts.concat(), text.as_bytes());
            for (threads, round) in [(1, 3), (2, 7), (3, 1), (4, 1000)] {
                for room in [0, expected.len() / 3, expected.len() - 1, expected.len(), text.len()] {
                    let mut ids = vec![0; room];
                    tokenizer.encode_rounds(parts.chunks(round), Specials::AsText, threads, &mut ids);
                    assert_eq!(
                        ids, expected,
                        "size {size}, {threads} threads, rounds of {round}, room {room}"
                    );
                }
            }
        }
    }
}
