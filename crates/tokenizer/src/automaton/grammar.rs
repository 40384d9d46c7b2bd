//! What the automaton asks of a vocabulary: its entries in the order of their bytes, how each is merged, and which pairs of
//! entries can be neighbours.
//!
//! Two entries `u t` can be neighbours if merging their joined bytes gives them back: no merge crosses the boundary. Going by
//! time, that is by rank, `u` ends with a symbol `x` until the merge of which `x` is the right part, and `t` begins with a `y`
//! until the merge of which `y` is the left part. The boundary is crossed if and only if some such pair has a merge of a lower
//! rank than both of these; among equal ranks the leftmost merge is first, so one inside `u` goes before it and one inside
//! `t` after it. This holds where parts are always made by lower ranks than the whole, which [`Grammar::new`] checks.

use std::ops::Range;

use super::bits;
use crate::bpe::Bpe;
use crate::merges::Merge;
use crate::vocab::Writing;

/// No entry.
pub(super) const NONE: u32 = u32::MAX;

/// The last merge of an entry. Entries are known by their *places*: their numbers in the order of their bytes.
#[derive(Clone, Copy, Debug)]
struct Made {
    left: u32,
    right: u32,
    rank: u32,
}

/// A single byte is not made.
const BYTE: Made = Made { left: NONE, right: NONE, rank: NONE };

impl Made {
    /// Later merges have greater numbers; what was always there has 0.
    fn time(self) -> u64 {
        if self.left == NONE { 0 } else { u64::from(self.rank) + 1 }
    }
}

/// See the module. Only entries that merging makes of their own bytes are here: no others occur.
#[derive(Debug)]
pub(crate) struct Grammar {
    /// The id of each place.
    ids: Vec<u32>,
    bytes: Vec<u8>,
    /// Where the bytes of each place begin, and where the last ones end.
    starts: Vec<u32>,
    made: Vec<Made>,
    /// Of each place: the places of which it is the left part, latest merges first.
    wholes: Lists<u32>,
    /// Of each place: what it merges with, by places: the right part and the rank.
    partners: Lists<(u32, u32)>,
    /// The places of the entries that begin with each byte; the byte itself comes first.
    of_byte: Vec<Range<u32>>,
}

/// A list for each place, one behind the other.
#[derive(Debug)]
struct Lists<T> {
    starts: Vec<u32>,
    items: Vec<T>,
}

impl<T: Copy> Lists<T> {
    /// Keeps the order of the items of a list.
    fn new(count: usize, items: &[(u32, T)]) -> Lists<T> {
        let mut starts = vec![0u32; count + 1];
        items.iter().for_each(|(list, _)| starts[*list as usize + 1] += 1);
        (0..count).for_each(|list| starts[list + 1] += starts[list]);
        let mut next = starts.clone();
        let mut sorted: Vec<T> = items.iter().map(|(_, item)| *item).collect();
        for &(list, item) in items {
            let place = &mut next[list as usize];
            sorted[*place as usize] = item;
            *place += 1;
        }
        Lists { starts, items: sorted }
    }

    fn get(&self, list: u32) -> &[T] {
        &self.items[self.starts[list as usize] as usize..self.starts[list as usize + 1] as usize]
    }

    fn memory_bytes(&self) -> usize {
        self.starts.capacity() * size_of::<u32>() + self.items.capacity() * size_of::<T>()
    }
}

impl Grammar {
    /// `None` if the vocabulary is not byte-level with all bytes, if an entry is made by later merges than what it is a part
    /// of, if an entry is not its parts, or has more than 255 bytes.
    pub(crate) fn new(bpe: &Bpe) -> Option<Grammar> {
        let symbols = bpe.byte_entries().filter(|_| bpe.vocab.writing() == Writing::Bytes)?;
        let mut merges: Vec<(u32, u32, Merge)> = bpe.merges.iter().collect();
        merges.sort_unstable_by_key(|&(left, right, merge)| (merge.rank, left, right));
        let made = made(bpe, symbols, &merges)?;

        let mut ids: Vec<u32> =
            (0..bpe.vocab.len() as u32).filter(|&id| made[id as usize].is_some()).collect();
        let key = |id: u32| bpe.vocab.key(id).unwrap_or_default();
        ids.sort_unstable_by(|&a, &b| key(a).cmp(key(b)));
        if ids.windows(2).any(|two| key(two[0]) == key(two[1])) || ids.iter().any(|&id| key(id).len() > 255) {
            return None;
        }
        let mut places = vec![NONE; bpe.vocab.len()];
        ids.iter().zip(0..).for_each(|(&id, place)| places[id as usize] = place);
        let place = |id: u32| places[id as usize];
        let mut bytes = Vec::new();
        let mut starts = vec![0];
        for &id in &ids {
            bytes.extend_from_slice(key(id));
            starts.push(u32::try_from(bytes.len()).ok()?);
        }
        let made: Vec<Made> = ids
            .iter()
            .filter_map(|&id| made[id as usize])
            .map(|made| match made.left {
                NONE => BYTE,
                _ => Made { left: place(made.left), right: place(made.right), rank: made.rank },
            })
            .collect();
        let mut latest: Vec<u32> = (0..ids.len() as u32).filter(|&p| made[p as usize].left != NONE).collect();
        latest.sort_unstable_by_key(|&p| std::cmp::Reverse(made[p as usize].rank));
        let wholes: Vec<_> = latest.into_iter().map(|p| (made[p as usize].left, p)).collect();
        let mut partners: Vec<_> = merges
            .iter()
            .map(|&(left, right, merge)| (place(left), (place(right), merge.rank)))
            .filter(|&(left, (right, _))| left != NONE && right != NONE)
            .collect();
        partners.sort_unstable();
        let of_byte = (0..=255u8)
            .map(|byte| {
                let bound = |first: u32| ids.partition_point(|&id| u32::from(key(id)[0]) < first) as u32;
                bound(byte.into())..bound(u32::from(byte) + 1)
            })
            .collect();
        let (wholes, partners) = (Lists::new(ids.len(), &wholes), Lists::new(ids.len(), &partners));
        Some(Grammar { ids, bytes, starts, made, wholes, partners, of_byte })
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let places = self.ids.capacity() * (2 * size_of::<u32>() + size_of::<Made>());
        places + self.bytes.capacity() + self.wholes.memory_bytes() + self.partners.memory_bytes()
    }

    pub(super) fn id(&self, place: u32) -> u32 {
        self.ids[place as usize]
    }

    pub(super) fn len(&self, place: u32) -> u32 {
        self.starts[place as usize + 1] - self.starts[place as usize]
    }

    /// The places that begin with `byte`: first the byte alone.
    pub(super) fn of_byte(&self, byte: u8) -> Range<u32> {
        self.of_byte[usize::from(byte)].clone()
    }

    /// Of places whose entries are equal up to `depth` and longer: those that go on with `byte`.
    pub(super) fn going_on(&self, places: Range<u32>, depth: u32, byte: u8) -> Range<u32> {
        let next = |place: u32| self.bytes[(self.starts[place as usize] + depth) as usize];
        let bound = |less: &dyn Fn(u8) -> bool| {
            let (mut low, mut high) = (places.start, places.end);
            while low < high {
                let middle = low.midpoint(high);
                if less(next(middle)) { low = middle + 1 } else { high = middle }
            }
            low
        };
        bound(&|next| next < byte)..bound(&|next| next <= byte)
    }

    /// A bit for each of [`of_byte`](Self::of_byte): whether it can follow `before` (all can begin a text: `NONE`).
    pub(super) fn following(&self, before: u32, byte: u8, out: &mut Vec<u64>) {
        let places = self.of_byte(byte);
        bits::ones(out, (places.end - places.start) as usize);
        let (mut x, mut ends) = (before, u64::MAX);
        while x != NONE {
            let partners = self.partners.get(x);
            let from = partners.partition_point(|&(y, _)| y < places.start);
            for &(y, rank) in partners[from..].iter().take_while(|&&(y, _)| y < places.end) {
                if u64::from(rank) < ends {
                    bits::clear(out, (y - places.start) as usize);
                    let wholes = self.wholes.get(y);
                    let later = wholes.iter().take_while(|&&whole| self.made[whole as usize].rank >= rank);
                    later.for_each(|&whole| self.clear_beginning_with(whole, places.start, out));
                }
            }
            let made = self.made[x as usize];
            (x, ends) = (made.right, u64::from(made.rank));
        }
    }

    /// Clears an entry and all that are merged from it as their left part, or as the left part of that, ...
    fn clear_beginning_with(&self, place: u32, first: u32, out: &mut [u64]) {
        bits::clear(out, (place - first) as usize);
        for &whole in self.wholes.get(place) {
            self.clear_beginning_with(whole, first, out);
        }
    }
}

/// How each entry is made of its own bytes, by ids; see [`Grammar::new`].
fn made(bpe: &Bpe, bytes: &[u32; 256], merges: &[(u32, u32, Merge)]) -> Option<Vec<Option<Made>>> {
    let count = bpe.vocab.len();
    // The time of the last merge that makes an entry.
    let mut last = vec![0u64; count];
    for (_, _, merge) in merges {
        let last = last.get_mut(merge.id as usize)?;
        *last = (*last).max(u64::from(merge.rank) + 1);
    }
    let mut made: Vec<Option<Made>> = vec![None; count];
    for (&id, byte) in bytes.iter().zip(0..=255u8) {
        if bpe.vocab.key(id)? != [byte] {
            return None;
        }
        made[id as usize] = Some(BYTE);
    }
    for &(left, right, merge) in merges {
        let proper = last.get(left as usize)?.max(last.get(right as usize)?) <= &u64::from(merge.rank);
        let (key, parts) = (bpe.vocab.key(merge.id)?, [bpe.vocab.key(left)?, bpe.vocab.key(right)?]);
        if !proper || key.strip_prefix(parts[0]) != Some(parts[1]) {
            return None;
        }
        // Merging comes to this pair if nothing merges across its boundary before.
        if made[merge.id as usize].is_none() && apart(bpe, &made, left, right, u64::from(merge.rank)) {
            made[merge.id as usize] = Some(Made { left, right, rank: merge.rank });
        }
    }
    Some(made)
}

/// Whether nothing merges across the boundary between two entries by ranks below `ends`; false if one is never made.
fn apart(bpe: &Bpe, made: &[Option<Made>], left: u32, right: u32, ends: u64) -> bool {
    // Back in time from the whole entries to their bytes: whichever was made last is undone.
    let (mut x, mut y) = (left, right);
    // A merge of twice its rank below this would come first; odd: also one of an equal rank, being more to the left.
    let mut limit = 2 * ends;
    loop {
        let (Some(from), Some(to)) = (made[x as usize], made[y as usize]) else { return false };
        if bpe.merges.get(x, y).is_some_and(|merge| 2 * u64::from(merge.rank) < limit) {
            return false;
        }
        if from.time() > to.time() {
            (x, limit) = (from.right, 2 * u64::from(from.rank));
        } else if to.left != NONE {
            (y, limit) = (to.left, 2 * u64::from(to.rank) + 1);
        } else {
            return true;
        }
    }
}
