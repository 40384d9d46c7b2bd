//! Long words that fall into pieces of one and two bytes, such as lines of digits: no merging, no cache.
use super::{Bpe, NONE, Sink};
use crate::cuts::Cuts;
use crate::merges::Merge;

/// Ids that go to the sink together.
const ROOM: usize = 32;

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
        let byte = |byte: u8| self.bytes[usize::from(byte)];
        let (mut at, mut filled) = (0, 0);
        while filled + 2 <= ROOM {
            match piece[at..] {
                [first, second, ref rest @ ..]
                    if rest.first().is_none_or(|&third| self.cut(second, third)) =>
                {
                    // Two at a time, whether they merge or not: which cannot be predicted.
                    let pair = self.pairs[usize::from(u16::from_le_bytes([first, second]))];
                    ids[filled] = pair.id;
                    ids[filled + 1] = byte(second);
                    filled += 1 + usize::from(pair.rank == NONE);
                    at += 2;
                }
                [first, second, ..] if !self.cut(first, second) => break,
                [first, ..] => {
                    ids[filled] = byte(first);
                    (at, filled) = (at + 1, filled + 1);
                }
                [] => break,
            }
        }
        (at, filled)
    }
}
