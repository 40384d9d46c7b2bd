//! The ids of all matches of a scanner: the loop that ordinary text spends its time in.
//!
//! In three passes over some two hundred matches at a time, so that no pass waits for memory: where matches end (from 64
//! bytes of text at once), then their keys and the fetching of their sets, then the ids of the sets. In each pass the
//! turns of the loop do not wait for one another, and hardly a branch depends on the text.

use chalot_simd::Isa;
use chalot_simd::bytes::{self, ByteKernel, ByteLanes, WIDTH};

use crate::bpe::{Bpe, Sink};
use crate::cache::{Key, MAX_IDS, View};
use crate::pretokenize::{REACH, Scanner};
use crate::scratch::Scratch;

/// Matches that are looked up together, at least.
const BLOCK: usize = 128;
/// Room for those found with the last of them.
const ROOM: usize = BLOCK + WIDTH;
/// A match that ends farther from the beginning of its block is encoded alone.
const FAR: usize = 1 << 30;

/// See [`Bpe::encode_matches`].
struct EncodeMatches<'a, S> {
    bpe: &'a Bpe,
    scanner: Scanner,
    text: &'a [u8],
    scratch: &'a mut Scratch,
    sink: &'a mut S,
}

impl Bpe {
    /// Gives the ids of all matches of `scanner` to `sink`.
    pub(crate) fn encode_matches(
        &self,
        isa: Isa,
        scanner: Scanner,
        text: &[u8],
        scratch: &mut Scratch,
        sink: &mut impl Sink,
    ) {
        bytes::dispatch(isa, EncodeMatches { bpe: self, scanner, text, scratch, sink });
    }
}

impl<S: Sink> ByteKernel for EncodeMatches<'_, S> {
    type Output = ();

    #[inline(always)]
    fn run<L: ByteLanes>(self, lanes: L) {
        let EncodeMatches { bpe, scanner, text, scratch, sink } = self;
        let mut block = scratch.block.take().unwrap_or_default();
        let mut at = 0;
        while at < text.len() {
            let base = at;
            let count = block.find(lanes, scanner, text, &mut at);
            if count == 0 {
                let end = scanner.end_of_match(text, at);
                bpe.encode(text, at, end, scratch, sink);
                at = end;
                continue;
            }
            let text = &text[base..];
            block.look_up(text, count, scratch.cache.view(), scratch.cache.seed());
            block.emit(bpe, text, count, scratch, sink);
        }
        scratch.block = Some(block);
    }
}

/// Matches that are looked up together.
#[derive(Debug)]
pub(crate) struct Block {
    /// Where matches end, from the beginning of the block.
    ends: [u32; ROOM],
    keys: [Key; ROOM],
    hashes: [u32; ROOM],
    ids: [u32; ROOM * MAX_IDS],
}

impl Default for Block {
    fn default() -> Block {
        Block { ends: [0; ROOM], keys: [Key::NONE; ROOM], hashes: [0; ROOM], ids: [0; ROOM * MAX_IDS] }
    }
}

impl Block {
    /// Finds the next matches from `at` on, and leaves the end of the last one there; how many. None, if the next
    /// match is endless.
    #[inline(always)]
    fn find<L: ByteLanes>(&mut self, lanes: L, scanner: Scanner, text: &[u8], at: &mut usize) -> usize {
        let base = *at;
        let mut count = 0;
        while count < BLOCK && *at < text.len() && *at - base < FAR {
            let found = if text.len() - *at >= REACH { scanner.boundaries(lanes, text, *at) } else { 0 };
            if found != 0 {
                if let Some(room) = self.ends[count..].first_chunk_mut() {
                    lanes.places(found, (*at - base) as u32, room);
                }
                count += found.count_ones() as usize;
                *at += 63 - found.leading_zeros() as usize;
                continue;
            }
            let end = scanner.end_of_match(text, *at);
            if end - base > FAR {
                return count;
            }
            self.ends[count] = (end - base) as u32;
            count += 1;
            *at = end;
        }
        count
    }

    /// Makes the keys of the first `count` matches and fetches their sets. `text` begins with the block.
    ///
    /// Out of line, like [`ids`](Self::ids): alone, the loop has all registers for itself.
    #[inline(never)]
    fn look_up(&mut self, text: &[u8], count: usize, view: View<'_>, seed: u64) {
        let places = self.keys.iter_mut().zip(&mut self.hashes);
        let mut start = 0;
        for (&end, (key, hash)) in self.ends[..count].iter().zip(places) {
            let (from, len) = (start as usize, end.wrapping_sub(start) as usize);
            *key = match text.get(from..from + 16).and_then(|bytes| bytes.first_chunk()) {
                Some(bytes) => Key::of_first(bytes, len),
                None => Key::or_none(text, from, end as usize),
            };
            *hash = key.hash(seed);
            view.prefetch(*hash);
            start = end;
        }
    }

    /// Puts the ids of the matches from `at` on into `ids`, until one is not found in the first set of its hash. How
    /// many matches, and how many ids.
    #[inline(never)]
    fn ids(&mut self, at: usize, count: usize, view: View<'_>) -> (usize, usize) {
        let mut filled = 0u32;
        let looked_up = self.keys[at..count].iter().zip(&self.hashes[at..count]);
        for (done, (&key, &hash)) in looked_up.enumerate() {
            let room = self.ids.get_mut(filled as usize..filled as usize + MAX_IDS);
            let (Some(ids), Some(room)) = (view.get(key, hash), room) else { return (done, filled as usize) };
            // All of them, and on by their number: without a branch on it, which nobody can predict.
            room.copy_from_slice(&ids.padded());
            filled += ids.count() as u32;
        }
        (count - at, filled as usize)
    }

    /// Gives the ids of the first `count` matches to `sink`. `text` begins with the block.
    #[inline(always)]
    fn emit(&mut self, bpe: &Bpe, text: &[u8], count: usize, scratch: &mut Scratch, sink: &mut impl Sink) {
        let mut at = 0;
        while at < count {
            let (found, filled) = self.ids(at, count, scratch.cache.view());
            // Between long matches there are few, and a call for each costs.
            match self.ids.first_chunk::<MAX_IDS>() {
                Some(first) if filled <= MAX_IDS => sink.push_first(first, filled),
                _ => sink.push_all(&self.ids[..filled]),
            }
            at += found;
            if at < count {
                let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
                let end = self.ends[at] as usize;
                bpe.encode_rare(text, start, end, self.keys[at], self.hashes[at], scratch, sink);
                at += 1;
            }
        }
    }
}
