//! A head of fewer tokens for drafts.
//!
//! The target's head decides which tokens are right; a draft's head only has to find likely ones. Vocabularies are made by
//! merging what is frequent first, so their first tokens are the frequent ones, and the head's first rows are a head of
//! those ("frequency-ranked" drafts: Zhao et al., "FR-Spec", 2025).
use chalot_simd::AlignedVec;
use chalot_tensor::{Matrix, MatrixError, MatrixSpec, matrix::TILE_ROWS};

/// Heads of smaller vocabularies are drafted with whole.
const LARGE: usize = 32_768;
/// Of a large one, this part is drafted with.
const PART: usize = 4;

/// How many tokens drafts choose from, of a vocabulary of `vocab`.
pub(super) fn natural_size(vocab: usize) -> usize {
    if vocab < LARGE { vocab } else { (vocab / PART).next_multiple_of(TILE_ROWS) }
}

/// The first `tokens` rows of a head (made whole tiles); `None` where these are all.
///
/// # Errors
/// [`MatrixError`] when the head is not what its specification says.
pub(super) fn first_rows(head: &Matrix, tokens: usize) -> Result<Option<Matrix>, MatrixError> {
    let rows = tokens.max(1).next_multiple_of(TILE_ROWS);
    if rows >= head.rows() {
        return Ok(None);
    }
    let (from, to) = (head.spec(), MatrixSpec { rows, ..*head.spec() });
    let mut image = AlignedVec::<u8>::zeroed(to.image_len()?);
    // Tiles of rows follow each other in every part, so that the first rows are the first bytes.
    let parts = [(from.weights(), to.weights()), (from.scales(), to.scales()), (from.mins(), to.mins())];
    for (from, to) in parts {
        let len = to.len();
        image[to].copy_from_slice(&head.image()[from][..len]);
    }
    Matrix::from_image(to, image.into_bytes()).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic::random_matrix;

    #[test]
    fn the_rows_are_those_of_the_head() {
        for format in [
            "trit2/tensor",
            "trit2/64",
            "trit5/row",
            "int8/row",
            "int8/32",
            "int4/32",
            "int4m/32",
            "f32",
            "f16",
        ] {
            let spec = MatrixSpec { format: format.parse().unwrap(), rows: 101, cols: 72 };
            let head = random_matrix(spec, 5).unwrap();
            assert!(first_rows(&head, 97).unwrap().is_none(), "whole tiles of them are all");
            for (tokens, rows) in [(0, 16), (16, 16), (33, 48), (96, 96)] {
                let part = first_rows(&head, tokens).unwrap().expect("fewer than all");
                assert_eq!(part.rows(), rows, "{format}");
                assert_eq!(part.to_f32(), head.to_f32()[..rows * 72], "{format}");
            }
        }
    }
}
