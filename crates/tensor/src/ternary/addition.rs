//! Ternary products on float activations, by additions alone.
use super::{TernaryError, ensure_ternary, tokens};
use crate::{
    exec::Exec,
    matrix::{Matrix, TILE_ROWS},
    out::SharedOut,
};

/// The product of float activations and ternary weights without multiplications: `x` is `[m][cols]`, the result
/// `[m][rows]`.
///
/// For each output, columns ascending: a weight of 1 adds its activation, -1 subtracts it, 0 does nothing. The sum is
/// multiplied by the scale once; where scales are by group, the groups' sums are, and are added by fused
/// multiply-adds, groups ascending. This defines what a ternary layer means when activations are not quantized; the
/// integer products of [`matmul`](crate::matmul) are many times faster where there are instructions for them.
///
/// ```
/// use chalot_simd::Isa;
/// use chalot_tensor::{Exec, Packing, ternary::{matmul_f32, pack_ternary}};
///
/// let exec = Exec::new(Isa::best(), 1);
/// let w = pack_ternary(&exec, Packing::Trit2, 1, 4, &[1, 1, -1, 0], 0.5)?;
/// assert_eq!(matmul_f32(&exec, &[3.0, 2.0, 4.0, 100.0], &w)?, [0.5]); // (3 + 2 - 4) * 0.5
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// When the matrix is not ternary, or the length of `x` is no multiple of the columns.
pub fn matmul_f32(exec: &Exec, x: &[f32], w: &Matrix) -> Result<Vec<f32>, TernaryError> {
    ensure_ternary(w)?;
    let m = tokens("matmul_f32", x, w)?;
    let (rows, cols) = (w.rows(), w.cols());
    let mut y = vec![0.0; m * rows];
    let out = SharedOut::new(&mut y);
    exec.pool.run(rows.div_ceil(TILE_ROWS), &|tile| {
        let first = tile * TILE_ROWS;
        let count = TILE_ROWS.min(rows - first);
        // Rows across the lanes, as everywhere, so that the compiler can take several at once.
        let mut columns = vec![[Sign::default(); TILE_ROWS]; cols];
        for lane in 0..count {
            w.codes(first + lane, |_, start, codes| {
                for (column, &code) in columns[start..].iter_mut().zip(codes) {
                    column[lane] = Sign::of(code);
                }
            });
        }
        for (token, x) in x.chunks_exact(cols).enumerate() {
            let mut acc = [0.0; TILE_ROWS];
            let segments = columns.chunks(w.segment_cols()).zip(x.chunks(w.segment_cols()));
            for (segment, (columns, x)) in segments.enumerate() {
                let sums = add_columns(columns, x);
                for lane in 0..count {
                    acc[lane] = sums[lane].mul_add(w.scale(first + lane, segment), acc[lane]);
                }
            }
            // SAFETY: each tile of rows is one task.
            unsafe { out.part(token * rows + first, count) }.copy_from_slice(&acc[..count]);
        }
    });
    Ok(y)
}

/// What a weight does to an activation's bits: keep them, flip the sign, or clear them.
#[derive(Copy, Clone, Default)]
struct Sign {
    keep: u32,
    flip: u32,
}

impl Sign {
    /// Codes above 1, which only a damaged image has, count as 1.
    fn of(code: i16) -> Self {
        Self { keep: if code == 0 { 0 } else { u32::MAX }, flip: if code < 0 { 1 << 31 } else { 0 } }
    }
}

/// The sum of each row. (Adding a cleared activation, +0, changes no sum: none is ever -0.)
fn add_columns(columns: &[[Sign; TILE_ROWS]], x: &[f32]) -> [f32; TILE_ROWS] {
    let mut sums = [0.0; TILE_ROWS];
    for (column, x) in columns.iter().zip(x) {
        for (sum, sign) in sums.iter_mut().zip(column) {
            *sum += f32::from_bits((x.to_bits() ^ sign.flip) & sign.keep);
        }
    }
    sums
}
