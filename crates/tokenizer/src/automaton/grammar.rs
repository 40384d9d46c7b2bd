//! What the automaton asks of a vocabulary: its entries in the order of their bytes, how each is merged, and which pairs of
//! entries can be neighbours.
//!
//! Two entries `u t` can be neighbours if merging their joined bytes gives them back: no merge crosses the boundary. Until one
//! does, the merges of `u` and those of `t` happen as they do alone, whichever has the lower rank first, `u`'s among equals. So
//! going back in time from the two, `u` ends with a symbol `x` and `t` begins with a symbol `y`, until one of them was made and
//! its parts come to light. While `x` and `y` are there, their pair, if it merges, does so unless all merges of `u` and `t`
//! from then on, up to the one that takes `x` or `y`, have lower ranks.
//!
//! The *turn* of a merge is its rank + 1. Mostly it is later than those of the merges that made the parts, but not always: lists
//! that come from ranks (Llama 3, tiktoken) have all ways to cut an entry in two. A merge whose turn has passed when its
//! parts are there happens at once. So the *time* of a merge is the latest turn up to it, its own or that of a part; what happens at
//! one time in one place follows from one merge whose turn it is, each merge taking what the one before it made.

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
    /// See the module.
    turn: u32,
    time: u32,
}

/// A single byte is not made: it was always there.
const BYTE: Made = Made { left: NONE, right: NONE, turn: 0, time: 0 };

/// The turn of a merge. The greatest rank belongs to none.
fn turn(merge: Merge) -> u32 {
    merge.rank.saturating_add(1)
}

/// What takes a symbol beside the boundary away.
#[derive(Clone, Copy, Debug)]
enum Taken {
    /// The last symbol of the left entry.
    Left(Made),
    /// The first symbol of the right entry, whose new neighbour was made at this time.
    Right(Made, u32),
}

/// Whether a pair of symbols whose merge has this turn merges before one of the two is taken. They were made at the times `x`
/// and `y`, the earlier one is still there when the later one is made, and `taken` is what takes one of them away.
fn merges_before(turn: u32, x: u32, y: u32, taken: Taken) -> bool {
    // Whether the symbol that is made last is taken by the very next merge; else one comes between whose turn it is.
    match taken {
        Taken::Left(by) => turn < if x > y && by.time == x { by.turn } else { by.time },
        Taken::Right(by, other) => {
            turn <= if x <= y && by.time == y && other < y { by.turn } else { by.time }
        }
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
    /// Of each place: the places of which it is the left part, latest times first.
    wholes: Lists<u32>,
    /// Of each place: what it merges with, by places: the right part and the turn.
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
    /// `None` if the vocabulary is not byte-level with all bytes, if an entry is not its parts, or has more than 255 bytes.
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
                _ => Made { left: place(made.left), right: place(made.right), ..made },
            })
            .collect();
        let mut latest: Vec<u32> = (0..ids.len() as u32).filter(|&p| made[p as usize].left != NONE).collect();
        latest.sort_unstable_by_key(|&p| std::cmp::Reverse(made[p as usize].time));
        let wholes: Vec<_> = latest.into_iter().map(|p| (made[p as usize].left, p)).collect();
        let mut partners: Vec<_> = merges
            .iter()
            .map(|&(left, right, merge)| (place(left), (place(right), turn(merge))))
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
        let (mut x, mut taken) = (before, None);
        while x != NONE {
            let partners = self.partners.get(x);
            let from = partners.partition_point(|&(y, _)| y < places.start);
            for &(y, turn) in partners[from..].iter().take_while(|&&(y, _)| y < places.end) {
                self.clear_crossed((x, taken), y, turn, places.start, out);
            }
            let made = self.made[x as usize];
            (x, taken) = (made.right, Some(made));
        }
    }

    /// Clears what begins with `y` and cannot follow an entry that ends with `x`, until `left` takes it, because the two merge,
    /// at `turn`.
    fn clear_crossed(&self, (x, left): (u32, Option<Made>), y: u32, turn: u32, first: u32, out: &mut [u64]) {
        let made = |place: u32| self.made[place as usize];
        let times = (made(x).time, made(y).time);
        if self.crossed(turn, times, left, None) {
            bits::clear(out, (y - first) as usize);
        }
        // What takes `y` before that turn leaves nothing to merge.
        let later = self.wholes.get(y).iter().take_while(|&&whole| made(whole).time >= turn);
        for &whole in later.filter(|&&whole| self.crossed(turn, times, left, Some(made(whole)))) {
            self.clear_beginning_with(whole, first, out);
        }
    }

    /// Whether two symbols, made at these times, whose merge has this turn, merge before `left` takes the first or `right`
    /// the second.
    fn crossed(&self, turn: u32, (x, y): (u32, u32), left: Option<Made>, right: Option<Made>) -> bool {
        // Is the earlier one still there when the later one is made?
        let there = if x > y {
            right.is_none_or(|right| right.time >= x)
        } else {
            left.is_none_or(|left| left.time > y)
        };
        let taken = match (left, right) {
            (Some(left), right) if right.is_none_or(|right| left.time <= right.time) => Taken::Left(left),
            (_, Some(right)) => Taken::Right(right, self.made[right.right as usize].time),
            _ => return there,
        };
        there && merges_before(turn, x, y, taken)
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
    let mut made: Vec<Option<Made>> = vec![None; bpe.vocab.len()];
    for (&id, byte) in bytes.iter().zip(0..=255u8) {
        if bpe.vocab.key(id)? != [byte] {
            return None;
        }
        made[id as usize] = Some(BYTE);
    }
    for &(left, right, merge) in merges {
        let (key, parts) = (bpe.vocab.key(merge.id)?, [bpe.vocab.key(left)?, bpe.vocab.key(right)?]);
        if key.strip_prefix(parts[0]) != Some(parts[1]) {
            return None;
        }
    }
    // Lowest ranks first most parts are made before their wholes; the others are looked at again.
    let mut rest: Vec<&(u32, u32, Merge)> = merges.iter().collect();
    let mut before = usize::MAX;
    while rest.len() < before {
        before = rest.len();
        rest.retain(|&&(left, right, merge)| {
            if made[merge.id as usize].is_some() {
                return false;
            }
            let (Some(from), Some(to)) = (made[left as usize], made[right as usize]) else { return true };
            if apart(bpe, &made, left, right) {
                let turn = turn(merge);
                made[merge.id as usize] =
                    Some(Made { left, right, turn, time: turn.max(from.time).max(to.time) });
            }
            false
        });
    }
    Some(made)
}

/// Whether nothing merges across the boundary between two entries but they themselves; false if one is never made.
fn apart(bpe: &Bpe, made: &[Option<Made>], left: u32, right: u32) -> bool {
    let (mut x, mut y) = (left, right);
    let mut taken = None;
    loop {
        let (Some(from), Some(to)) = (made[x as usize], made[y as usize]) else { return false };
        if let Some(taken) = taken
            && bpe.merges.get(x, y).is_some_and(|merge| merges_before(turn(merge), from.time, to.time, taken))
        {
            return false;
        }
        // Back in time: whichever was made last is undone.
        if from.time > to.time {
            (x, taken) = (from.right, Some(Taken::Left(from)));
        } else if to.left != NONE {
            let other = made[to.right as usize].map_or(0, |other| other.time);
            (y, taken) = (to.left, Some(Taken::Right(to, other)));
        } else {
            return true;
        }
    }
}
