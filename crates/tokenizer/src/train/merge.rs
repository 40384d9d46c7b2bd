//! The merges, found in time that grows with the places that change, not with the text.
//!
//! All words lie one after the other in one array with a slot for each byte: the id of a token stands in the slots of its
//! first and of its last byte, so that both neighbours of a token are found without links, by the lengths of the tokens.
//! A slot between the words holds how often the next word occurs.
//!
//! A pair is made once, by the merge that makes the later of its two tokens, together with the list of its places. Places
//! are never taken out of lists, and counts never brought down: a pair's count is a bound until the pair comes to the
//! top of the [`Queue`], where its places are looked at and the count is found anew. So a merge touches the places of its
//! pair and two sums for each neighbour, and no table of pairs is needed.

use std::collections::{HashMap, HashSet};

use super::TrainError;
use super::ids::{Ids, NONE};
use super::queue::{Queue, Top};
use super::words::Sorted;

/// In a slot: the next word's count follows; it is in the lower bits, or with [`LARGE`] at that place of a list.
const BETWEEN: u32 = 1 << 31;
const LARGE: u32 = 1 << 30;
/// A slot inside a token.
const INSIDE: u32 = BETWEEN - 1;
/// No more ids than this.
pub(crate) const MAX_IDS: usize = 1 << 30;

/// A pair, both ids in one number, and its places in ascending order: a range of the lists.
#[derive(Clone, Copy, Debug)]
struct Pair {
    pair: u64,
    start: u64,
    len: u32,
}

fn pair_of(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// What the merge at hand finds on one side, by the neighbour's id.
#[derive(Clone, Copy, Debug, Default)]
struct Side {
    count: u64,
    places: u32,
    /// Where the next place is written.
    next: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Merger {
    slots: Vec<u32>,
    /// For each block of slots, what holds for a word that begins before it.
    blocks: Vec<u32>,
    large: Vec<u64>,
    /// Bytes of each token; 0: it is no text.
    lens: Vec<u32>,
    max_bytes: u32,
    min_count: u64,
    lists: Vec<u32>,
    /// By the names that the queue knows them by.
    pairs: Vec<Pair>,
    queue: Queue,
    left: Vec<Side>,
    right: Vec<Side>,
    repeats: Repeats,
    scratch: Scratch,
}

/// What Hugging Face's counts come to where two different pairs make the same token.
///
/// It does not take a merged pair's count back. That shows if the pair occurs again, which takes that one of its tokens is
/// made again, of another pair: it then has the old count on top. Pairs of such a token that have not been merged yet get a
/// second list, and both lists count for either.
#[derive(Debug, Default)]
struct Repeats {
    /// The count that each merged pair was left with.
    merged: HashMap<u64, u64>,
    /// The names of pairs whose count is not that of their own list alone.
    shared: HashMap<u64, Vec<u32>>,
}

/// Buffers from merge to merge.
#[derive(Debug, Default)]
struct Scratch {
    /// Places of the pair at hand, with their words' counts.
    live: Vec<(u32, u32)>,
    /// A neighbour and the place of the new pair.
    lefts: Vec<(u32, u32)>,
    rights: Vec<(u32, u32)>,
    neighbours: Vec<u32>,
    /// The bounds of the new pairs' counts.
    counts: Vec<u64>,
}

/// Slots of a block; a power of two.
const BLOCK: usize = 32;

impl Merger {
    /// `ids` are the entries before the first merge. A merge makes no more than `max_bytes` of pairs that occur at least
    /// `min_count` times.
    ///
    /// # Errors
    /// [`TrainError::TooManyWords`].
    pub(crate) fn new(
        words: &Sorted,
        ids: &Ids,
        max_bytes: usize,
        min_count: u64,
    ) -> Result<Merger, TrainError> {
        let lens: Vec<u32> =
            (0..ids.len() as u32).map(|id| ids.bytes(id).map_or(0, <[u8]>::len) as u32).collect();
        let ids = ids.of_bytes();
        let needed = words.bytes() + words.len() as u64 + 1;
        if needed > u64::from(u32::MAX) {
            return Err(TrainError::TooManyWords { words: words.len() as u64, bytes: words.bytes() });
        }
        let mut slots = Vec::with_capacity(needed as usize);
        let mut large = Vec::new();
        let mut sums = vec![Side::default(); 1 << 16];
        words.each(|word, count| {
            for pair in word.windows(2) {
                let sum = &mut sums[usize::from(pair[0]) << 8 | usize::from(pair[1])];
                sum.count += count;
                sum.places += 1;
            }
            slots.push(match u32::try_from(count) {
                Ok(count) if count < LARGE => BETWEEN | count,
                _ => {
                    large.push(count);
                    BETWEEN | LARGE | (large.len() - 1) as u32
                }
            });
            slots.extend(word.iter().map(|&byte| ids[byte as usize]));
        });
        slots.push(BETWEEN);
        let mut blocks = Vec::with_capacity(slots.len() / BLOCK + 1);
        let mut last = BETWEEN;
        for block in slots.chunks(BLOCK) {
            blocks.push(last);
            last = block.iter().rev().copied().find(|slot| slot & BETWEEN != 0).unwrap_or(last);
        }
        let mut this = Merger {
            slots,
            blocks,
            large,
            left: vec![Side::default(); lens.len()],
            right: vec![Side::default(); lens.len()],
            lens,
            max_bytes: u32::try_from(max_bytes).unwrap_or(u32::MAX),
            min_count: min_count.max(1),
            lists: Vec::new(),
            pairs: Vec::new(),
            queue: Queue::default(),
            repeats: Repeats::default(),
            scratch: Scratch::default(),
        };
        if this.max_bytes >= 2 {
            this.first_pairs(ids, &sums);
        }
        Ok(this)
    }

    /// All pairs of single bytes.
    fn first_pairs(&mut self, ids: &[u32; 256], sums: &[Side]) {
        let mut byte_of = vec![0u8; self.lens.len()];
        for (byte, &id) in (0u8..=255).zip(ids).filter(|(_, id)| **id != NONE) {
            byte_of[id as usize] = byte;
        }
        let mut next: Vec<u64> = vec![u64::MAX; 1 << 16];
        let mut total = 0u64;
        for (at, sum) in sums.iter().enumerate().filter(|(_, sum)| sum.count >= self.min_count) {
            let pair = pair_of(ids[at >> 8], ids[at & 255]);
            let name = self.pairs.len() as u32;
            self.pairs.push(Pair { pair, start: total, len: sum.places });
            self.queue.push(Top { count: sum.count, pair, name });
            next[at] = total;
            total += u64::from(sum.places);
        }
        self.lists = vec![0; total as usize];
        let mut left: Option<usize> = None;
        for (place, &slot) in self.slots.iter().enumerate() {
            let right = (slot & BETWEEN == 0).then(|| usize::from(byte_of[slot as usize]));
            if let (Some(left), Some(right)) = (left, right) {
                let next = &mut next[left << 8 | right];
                if *next != u64::MAX {
                    self.lists[*next as usize] = place as u32 - 1;
                    *next += 1u64;
                }
            }
            left = right;
        }
    }

    /// The next pair to merge: the most frequent one, of equals the one with the lower ids. It is taken from the queue, and
    /// its places are kept for [`merge`](Self::merge).
    pub(crate) fn next(&mut self) -> Option<Top> {
        loop {
            let Top { count, pair, name } = self.queue.pop()?;
            let now = self.count_now(name);
            if now < self.min_count {
                continue;
            }
            let top = Top { count: now, pair, name };
            // Others' counts are bounds too: what is first by its true count among bounds is first.
            if now == count || self.queue.peek().is_none_or(|other| comes_before(top, other)) {
                return Some(top);
            }
            self.queue.push(top);
        }
    }

    /// The count of a pair as it is now; its places are in the scratch.
    fn count_now(&mut self, name: u32) -> u64 {
        let mut count = 0;
        if !self.repeats.shared.is_empty() {
            let pair = self.pairs[name as usize].pair;
            if let Some(names) = self.repeats.shared.get(&pair).cloned() {
                count += self.repeats.merged.get(&pair).copied().unwrap_or(0);
                for other in names.into_iter().filter(|&other| other != name) {
                    count += self.look_at_places(other);
                }
            }
        }
        count + self.look_at_places(name)
    }

    /// Finds where a pair still is; these places remain in its list. Gives how often that is.
    fn look_at_places(&mut self, name: u32) -> u64 {
        let Pair { pair, start, len } = self.pairs[name as usize];
        let (left, right) = ((pair >> 32) as u32, pair as u32);
        let len_of_left = self.lens[left as usize];
        let mut live = std::mem::take(&mut self.scratch.live);
        live.clear();
        let mut count = 0;
        for &place in &self.lists[start as usize..][..len as usize] {
            if self.slots[place as usize] == left && self.slots[(place + len_of_left) as usize] == right {
                let word = self.word_of(place);
                count += count_of(word, &self.large);
                live.push((place, word));
            }
        }
        if live.len() < len as usize {
            for (kept, &(place, _)) in self.lists[start as usize..].iter_mut().zip(&live) {
                *kept = place;
            }
            self.pairs[name as usize].len = live.len() as u32;
        }
        self.scratch.live = live;
        count
    }

    /// The slot before the word that the token at `place` is in.
    #[inline(always)]
    fn word_of(&self, place: u32) -> u32 {
        let block = place as usize / BLOCK;
        let mut at = place as usize;
        loop {
            let slot = self.slots[at - 1];
            if slot & BETWEEN != 0 {
                return slot;
            }
            at -= self.lens[slot as usize] as usize;
            if at <= block * BLOCK {
                // The token at `at` reaches over the block's beginning or begins there: so does the word.
                return self.blocks[block];
            }
        }
    }

    /// Makes `id` of the pair that [`next`](Self::next) gave; an id that is new follows all others.
    pub(crate) fn merge(&mut self, top: Top, id: u32) {
        let (left, right) = ((top.pair >> 32) as u32, top.pair as u32);
        let (len_of_left, len_of_right) = (self.lens[left as usize], self.lens[right as usize]);
        let len = len_of_left + len_of_right;
        let again = (id as usize) < self.lens.len();
        if !again {
            self.lens.push(len);
            self.left.push(Side::default());
            self.right.push(Side::default());
        }
        let mut left_over = top.count;
        let most = self.max_bytes.saturating_sub(len);
        let Scratch { live, lefts, rights, .. } = &mut self.scratch;
        let (slots, lens) = (&mut self.slots[..], &self.lens[..]);
        lefts.clear();
        rights.clear();
        for &(place, word) in live.iter() {
            let (first, second) = (place as usize, (place + len_of_left) as usize);
            // Where both are the same token, the place before may have taken this one.
            if slots[first] != left || slots[second] != right {
                continue;
            }
            let after = second + len_of_right as usize;
            slots[second] = INSIDE;
            slots[first] = id;
            slots[after - 1] = id;
            let count = count_of(word, &self.large);
            let before = slots[first - 1];
            if before & BETWEEN == 0 && lens[before as usize] <= most {
                let side = &mut self.left[before as usize];
                side.count += count;
                side.places += 1;
                lefts.push((before, place - lens[before as usize]));
            }
            let next = slots[after];
            if next == left && left == right {
                left_over = left_over.saturating_sub(count);
            }
            if next & BETWEEN == 0 && lens[next as usize] <= most {
                let side = &mut self.right[next as usize];
                side.count += count;
                side.places += 1;
                rights.push((next, place));
            }
        }
        let first_new = self.pairs.len();
        self.new_pairs(id, true);
        self.new_pairs(id, false);
        self.remember(top, left_over);
        if again {
            self.share(id, first_new);
        }
        for name in first_new..self.pairs.len() {
            let (pair, name) = (self.pairs[name].pair, name as u32);
            let count = match self.repeats.shared.contains_key(&pair) {
                true => self.count_now(name),
                false => self.scratch.counts[name as usize - first_new],
            };
            self.queue.push(Top { count, pair, name });
        }
        self.scratch.counts.clear();
    }

    /// Keeps what a merged pair's count is left at: the whole, but for what merging took from a run of one token.
    fn remember(&mut self, top: Top, left_over: u64) {
        let mut others = 0;
        if let Some(names) = self.repeats.shared.get(&top.pair).cloned() {
            for other in names.into_iter().filter(|&other| other != top.name) {
                others += self.look_at_places(other);
            }
        }
        self.repeats.merged.insert(top.pair, left_over.saturating_sub(others));
    }

    /// `id` was made before: finds which of its pairs from `first_new` on were there before.
    fn share(&mut self, id: u32, first_new: usize) {
        let has_id = |pair: u64| (pair >> 32) as u32 == id || pair as u32 == id;
        let new: HashSet<u64> = self.pairs[first_new..].iter().map(|pair| pair.pair).collect();
        let mut names: HashMap<u64, Vec<u32>> = HashMap::new();
        for (name, pair) in
            (0..).zip(&self.pairs).filter(|(_, pair)| has_id(pair.pair) && new.contains(&pair.pair))
        {
            names.entry(pair.pair).or_default().push(name);
        }
        names.retain(|pair, names| names.len() > 1 || self.repeats.merged.contains_key(pair));
        self.repeats.shared.extend(names);
    }

    /// Makes the pairs of `id` with its neighbours on one side.
    fn new_pairs(&mut self, id: u32, on_left: bool) {
        let (found, sides) = match on_left {
            true => (&self.scratch.lefts, &mut self.left),
            false => (&self.scratch.rights, &mut self.right),
        };
        self.scratch.neighbours.clear();
        let mut total = self.lists.len() as u64;
        for &(neighbour, _) in found {
            let side = &mut sides[neighbour as usize];
            if side.next != 0 {
                continue;
            }
            self.scratch.neighbours.push(neighbour);
            if side.count < self.min_count {
                side.next = u64::MAX;
                continue;
            }
            let (left, right) = if on_left { (neighbour, id) } else { (id, neighbour) };
            let pair = pair_of(left, right);
            self.pairs.push(Pair { pair, start: total, len: side.places });
            self.scratch.counts.push(side.count);
            // One more, so that 0 remains what has not been seen.
            side.next = total + 1;
            total += u64::from(side.places);
        }
        self.lists.resize(total as usize, 0);
        for &(neighbour, place) in found {
            let side = &mut sides[neighbour as usize];
            if side.next != u64::MAX {
                self.lists[side.next as usize - 1] = place;
                side.next += 1;
            }
        }
        for &neighbour in &self.scratch.neighbours {
            sides[neighbour as usize] = Side::default();
        }
    }
}

/// The count that a slot between words stands for.
#[inline(always)]
fn count_of(slot: u32, large: &[u64]) -> u64 {
    let low = slot & !BETWEEN;
    if low & LARGE == 0 { u64::from(low) } else { large[(low & !LARGE) as usize] }
}

fn comes_before(this: Top, other: Top) -> bool {
    (this.count, std::cmp::Reverse(this.pair)) > (other.count, std::cmp::Reverse(other.pair))
}
