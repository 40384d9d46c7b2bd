//! Long words that fall into pieces of one and two bytes, such as lines of digits: no merging, no cache.
use super::{Bpe, NONE, Sink};
use crate::cuts::Cuts;
use crate::merges::Merge;

/// Ids that go to the sink together.
const ROOM: usize = 32;

/// Bytes that are looked at together: four pairs, whose cuts are one branch.
const TOGETHER: usize = 8;

/// What each pair of bytes becomes, alone, by first + second * 256; without a rank, where they stay apart, the entry of the first.
pub(super) type Pairs = [Merge; 1 << 16];

/// What pairs of bytes become, where they may be cut off, and what bytes become.
struct Small<'a> {
    pairs: &'a Pairs,
    cuts: &'a Cuts,
    bytes: &'a [u32; 256],
}

impl Bpe {
    /// [`Pairs`] of a byte-level vocabulary that has all bytes.
    pub(super) fn byte_pairs(&self) -> Option<Box<Pairs>> {
        let two = (0..=u16::MAX).map(|pair| pair.to_le_bytes().map(|byte| self.bytes[usize::from(byte)]));
        let pair =
            |[left, right]: [u32; 2]| self.merges.get(left, right).unwrap_or(Merge { rank: NONE, id: left });
        two.map(pair).collect::<Box<[_]>>().try_into().ok()
    }

    /// Gives the ids of a beginning of `piece`, as far as cuts leave one or two bytes alone; how many bytes.
    pub(super) fn encode_small(&self, piece: &[u8], sink: &mut impl Sink) -> usize {
        let (Some(cuts), Some(pairs)) = (&self.cuts, &self.byte_pairs) else { return 0 };
        let small = Small { pairs, cuts, bytes: &self.bytes };
        let mut ids = [0; ROOM];
        let mut at = 0;
        loop {
            let (done, filled) = small.fill(&piece[at..], &mut ids);
            sink.push_all(&ids[..filled]);
            at += done;
            match piece[at..] {
                [] => return at,
                [first, second, ..] if first == second && small.cut(first, first) => {
                    // All of a run but the last one are before a byte of their own kind.
                    let alike = |bytes: &&[u8; 16]| **bytes == [first; 16];
                    let run = piece[at..].as_chunks().0.iter().take_while(alike).count() * 16;
                    let many = run.saturating_sub(1);
                    ids.fill(self.bytes[usize::from(first)]);
                    (0..many / ROOM).for_each(|_| sink.push_all(&ids));
                    sink.push_all(&ids[..many % ROOM]);
                    at += many;
                }
                _ if done == 0 => return at,
                _ => {}
            }
        }
    }
}

impl Small<'_> {
    fn cut(&self, left: u8, right: u8) -> bool {
        self.cuts.between(u32::from(left), u32::from(right))
    }

    /// Puts the ids of a beginning of `piece` into `ids` until they are full; how many bytes and ids.
    #[inline(always)]
    fn fill(&self, piece: &[u8], ids: &mut [u32; ROOM]) -> (usize, usize) {
        let (mut at, mut filled) = (0, 0);
        while filled + TOGETHER <= ROOM
            && let Some(bytes) = piece[at..].first_chunk::<TOGETHER>()
        {
            let cut = |at: usize| self.cut(bytes[at], bytes[at + 1]);
            let end = piece.get(at + TOGETHER).is_none_or(|&after| self.cut(bytes[TOGETHER - 1], after));
            if !(cut(1) & cut(3) & cut(5) & end) {
                break;
            }
            bytes.as_chunks().0.iter().for_each(|&pair| filled += self.put(pair, &mut ids[filled..]));
            at += TOGETHER;
        }
        while filled + 2 <= ROOM {
            match piece[at..] {
                [first, second, ref rest @ ..]
                    if rest.first().is_none_or(|&third| self.cut(second, third)) =>
                {
                    filled += self.put([first, second], &mut ids[filled..]);
                    at += 2;
                }
                [first, second, ..] if !self.cut(first, second) => break,
                [first, ..] => {
                    ids[filled] = self.bytes[usize::from(first)];
                    (at, filled) = (at + 1, filled + 1);
                }
                [] => break,
            }
        }
        (at, filled)
    }

    /// Puts the one or two ids of a pair there, whether it merges or not: which cannot be predicted. How many.
    #[inline(always)]
    fn put(&self, [first, second]: [u8; 2], ids: &mut [u32]) -> usize {
        let pair = self.pairs[usize::from(u16::from_le_bytes([first, second]))];
        ids[0] = pair.id;
        ids[1] = self.bytes[usize::from(second)];
        1 + usize::from(pair.rank == NONE)
    }
}
