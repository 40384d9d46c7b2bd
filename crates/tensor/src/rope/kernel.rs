//! The rotation of one row. Nothing here is fused or reduced, so plain loops, compiled for each ISA, have the
//! bits of the reference.
use super::RopeStyle;
use crate::math::lanes::{Kernel, Lanes};

pub(super) struct Rotate<'a> {
    pub style: RopeStyle,
    /// `[heads][head_dim]`.
    pub row: &'a mut [f32],
    pub head_dim: usize,
    /// `[dims / 2]`, as is `sin`.
    pub cos: &'a [f32],
    pub sin: &'a [f32],
}

impl Kernel for Rotate<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let pairs = self.cos.len();
        let turns = self.cos.iter().zip(self.sin);
        for head in self.row.chunks_exact_mut(self.head_dim) {
            match self.style {
                RopeStyle::Neox => {
                    let (a, b) = head[..2 * pairs].split_at_mut(pairs);
                    for ((a, b), (cos, sin)) in a.iter_mut().zip(b).zip(turns.clone()) {
                        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                    }
                }
                RopeStyle::Interleaved => {
                    for ([a, b], (cos, sin)) in head.as_chunks_mut().0.iter_mut().zip(turns.clone()) {
                        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                    }
                }
            }
        }
    }
}
