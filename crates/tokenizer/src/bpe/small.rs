//! Long words that fall into pieces of one and two bytes, such as lines of digits: no merging, no cache.
use super::{Bpe, NONE, Sink};

impl Bpe {
    /// Gives the ids of a beginning of `piece`, as far as cuts leave one or two bytes alone; how many bytes.
    pub(super) fn encode_small(&self, piece: &[u8], sink: &mut impl Sink) -> usize {
        let (Some(cuts), false) = (&self.cuts, self.byte_pairs.is_empty()) else { return 0 };
        let cut =
            |at: usize| at + 1 >= piece.len() || cuts.between(u32::from(piece[at]), u32::from(piece[at + 1]));
        let mut at = 0;
        let mut ids = [0; 64];
        let mut filled = 0;
        while at < piece.len() {
            let first = piece[at];
            if cut(at) {
                let again = piece.get(at + 1) == Some(&first);
                let alike = |bytes: &&[u8]| **bytes == [first; 16];
                let run = if again { piece[at..].chunks_exact(16).take_while(alike).count() * 16 } else { 0 };
                if run > 0 {
                    // All but the last one are before a byte of their own kind.
                    sink.push_all(&ids[..filled]);
                    filled = 0;
                    ids.fill(self.bytes[usize::from(first)]);
                    let (many, rest) = ((run - 1) / ids.len(), (run - 1) % ids.len());
                    (0..many).for_each(|_| sink.push_all(&ids));
                    sink.push_all(&ids[..rest]);
                    at += run - 1;
                    continue;
                }
                ids[filled] = self.bytes[usize::from(first)];
                (at, filled) = (at + 1, filled + 1);
            } else if cut(at + 1) {
                let second = piece[at + 1];
                let pair = self.byte_pairs[usize::from(first) << 8 | usize::from(second)];
                ids[filled] = if pair.rank == NONE { self.bytes[usize::from(first)] } else { pair.id };
                filled += 1;
                if pair.rank == NONE {
                    ids[filled] = self.bytes[usize::from(second)];
                    filled += 1;
                }
                at += 2;
            } else {
                break;
            }
            if filled + 2 > ids.len() {
                sink.push_all(&ids[..filled]);
                filled = 0;
            }
        }
        sink.push_all(&ids[..filled]);
        at
    }
}
