//! Memory for many pieces that are used together.
use bytes::Bytes;

use crate::AlignedVec;

/// Bytes that are asked for at once: many huge pages, and little beside a model.
const SLAB: usize = 32 << 20;
/// Longer pieces have memory of their own: of that, small pages are few.
const LONGEST: usize = SLAB / 4;

/// Hands out pieces of large allocations, so that small matrices lie in huge pages, and those of a layer side by side.
///
/// An allocation is free again when all its pieces are.
///
/// ```
/// use chalot_simd::Arena;
///
/// let mut arena = Arena::default();
/// let (first, second) = (arena.take(100), arena.take(100));
/// assert_eq!(second.as_ptr().addr() - first.as_ptr().addr(), 128);
/// ```
#[derive(Debug, Default)]
pub struct Arena {
    rest: AlignedVec<u8>,
}

impl Arena {
    /// `len` zeros, at a multiple of [`AlignedVec::ALIGN`].
    pub fn take(&mut self, len: usize) -> AlignedVec<u8> {
        if len > LONGEST {
            return AlignedVec::zeroed(len);
        }
        let lines = len.next_multiple_of(AlignedVec::<u8>::ALIGN);
        if lines > self.rest.len() {
            self.rest = AlignedVec::zeroed(SLAB);
        }
        let mut piece = self.rest.split_to(lines);
        piece.resize_dirty(len);
        piece
    }

    /// The same bytes, copied here unless they are long.
    pub fn keep(&mut self, bytes: Bytes) -> Bytes {
        if bytes.len() > LONGEST {
            return bytes;
        }
        let mut piece = self.take(bytes.len());
        piece.copy_from_slice(&bytes);
        piece.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_zero_aligned_and_apart() {
        let mut arena = Arena::default();
        let mut pieces: Vec<_> = [0, 1, 64, 65, LONGEST, LONGEST, LONGEST, LONGEST, LONGEST + 1, 3]
            .map(|len| (len, arena.take(len)))
            .into();
        for (number, (len, piece)) in pieces.iter_mut().enumerate() {
            assert_eq!(piece.len(), *len);
            assert!(piece.iter().all(|&byte| byte == 0), "piece {number}");
            assert!(piece.is_empty() || piece.as_ptr().addr().is_multiple_of(64));
            piece.fill(number as u8);
        }
        drop(arena);
        for (number, (_, piece)) in pieces.iter().enumerate() {
            assert!(piece.iter().all(|&byte| byte == number as u8), "piece {number}");
        }
    }

    #[test]
    fn what_is_kept_is_equal_and_long_pieces_stay() {
        let mut arena = Arena::default();
        for len in [0, 5, 1000, LONGEST, LONGEST + 1] {
            let bytes = Bytes::from((0..len).map(|i| i as u8).collect::<Vec<_>>());
            let kept = arena.keep(bytes.clone());
            assert_eq!(kept, bytes);
            assert_eq!(kept.as_ptr() == bytes.as_ptr(), len > LONGEST || len == 0, "{len}");
        }
    }
}
