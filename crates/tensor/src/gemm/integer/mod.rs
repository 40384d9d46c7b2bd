//! Products of a float matrix with one of integers, as the way back through layers of integer products has them: the right
//! factor are ternary weights, or activations as the product on the way forward saw them.
//!
//! The left factor, a gradient, is rounded to 16 bits: each of its rows, in each block of [`DEPTH`] columns, by a scale of its
//! own. With the factors f of b's rows (`b[k][n] = f[k] B[k][n]`):
//!
//! ```text
//! x = a[m][k] f[k]     s = max |x| / 32767     A = round(x / s)     c[m][n] += s (sum over the block of A[m][k] B[k][n])
//! ```
//!
//! That is an error of at most 2^-16 of the largest number of those that are added up, less than half of what bfloat16
//! loses of each number alone, and twice as fast as f32: a multiply-add of integer pairs does two products in each lane.
//! The sums are exact (256 x 32767 x 128 < 2^31), so the bits are those of every instruction set and any number of threads.
mod left;
mod tile;

use std::cell::RefCell;

use chalot_simd::AlignedVec;

use self::left::Left;
use self::tile::Block;
use super::{View, Write};
use crate::exec::{Exec, ShapeError};
use crate::math::lanes::{Kernel, LANES, Lanes, Pair, dispatch};
use crate::parts::Parts;

/// Terms of a sum between two scales: as many as 32 bits hold.
const DEPTH: usize = 256;
/// Pairs of rows in a panel of the right factor.
const PAIRS: usize = DEPTH / 2;
/// Rows of the left factor that a task takes at most, whole tiles: with a block's columns they stay in the caches.
const TASK_ROWS: usize = 64;
/// Integers of -128 to 127 with a factor for each row.
///
/// ```
/// use chalot_simd::Isa;
/// use chalot_tensor::Exec;
/// use chalot_tensor::gemm::{IntegerMatrix, View, Write, gemm_integer};
///
/// let exec = Exec::new(Isa::best(), 1);
/// let mut b = IntegerMatrix::default();
/// b.fill(&exec, 2, 2, &|row, out| {
///     out.copy_from_slice(if row == 0 { &[1.0, -1.0] } else { &[3.0, 0.0] });
///     0.5
/// });
/// let mut c = [0.0; 2];
/// gemm_integer(&exec, Write::Set, View::new(&[1.0, 1.0], 1, 2, 2)?, &b, &mut c)?;
/// assert!((c[0] - 2.0).abs() < 1e-4 && (c[1] + 0.5).abs() < 1e-4);
/// # Ok::<(), chalot_tensor::exec::ShapeError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct IntegerMatrix {
    rows: usize,
    cols: usize,
    /// By block of [`DEPTH`] rows, panel of [`LANES`] columns, pair of rows: the two of each column. Zero beyond the edges.
    pairs: AlignedVec<[Pair; LANES]>,
    factors: Vec<f32>,
}

impl IntegerMatrix {
    /// Becomes `[rows][cols]`, in the memory it has: `row(index, integers)` writes a row, integers as floats, and returns its
    /// factor. Blocks of rows are tasks.
    pub fn fill(
        &mut self,
        exec: &Exec,
        rows: usize,
        cols: usize,
        row: &(dyn Fn(usize, &mut [f32]) -> f32 + Sync),
    ) {
        let panels = cols.div_ceil(LANES);
        (self.rows, self.cols) = (rows, cols);
        self.factors.resize(rows, 0.0);
        self.pairs.resize_dirty(rows.div_ceil(DEPTH) * panels * PAIRS);
        if rows == 0 || cols == 0 {
            return;
        }
        let blocks = Parts::new(&mut self.pairs, panels * PAIRS);
        let factors = Parts::new(&mut self.factors, DEPTH);
        exec.pool.run(blocks.count(), &|block| {
            let (pairs, factors) = (blocks.take(block), factors.take(block));
            let mut two = vec![0.0; 2 * panels * LANES];
            let (first, second) = two.split_at_mut(panels * LANES);
            for (pair, factors) in factors.chunks_mut(2).enumerate() {
                let index = block * DEPTH + 2 * pair;
                factors[0] = row(index, &mut first[..cols]);
                match factors.get_mut(1) {
                    Some(factor) => *factor = row(index + 1, &mut second[..cols]),
                    None => second.fill(0.0),
                }
                dispatch(exec.isa, Interleave { first, second, pairs: &mut pairs[pair..] });
            }
        });
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The columns from `panel * LANES` on in a block of rows, a vector for each pair of rows.
    fn panel(&self, block: usize, panel: usize) -> &[[Pair; LANES]] {
        let at = (block * self.cols.div_ceil(LANES) + panel) * PAIRS;
        &self.pairs[at..at + (self.rows - block * DEPTH).min(DEPTH).div_ceil(2)]
    }
}

/// Two rows into the panels of their columns.
struct Interleave<'a> {
    first: &'a [f32],
    second: &'a [f32],
    /// The first panel's pair; the next panel's is [`PAIRS`] further.
    pairs: &'a mut [[Pair; LANES]],
}

impl Kernel for Interleave<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let (first, second) = (self.first.as_chunks::<LANES>().0, self.second.as_chunks::<LANES>().0);
        for ((first, second), pairs) in first.iter().zip(second).zip(self.pairs.chunks_mut(PAIRS)) {
            l.store_pairs(l.round_to_pairs(l.load(first), l.load(second)), &mut pairs[0]);
        }
    }
}

/// `c = a · b` or `c += a · b` on all threads, by the rule of [this module](self); `c` is `[a.rows][b.cols]` without gaps.
/// Numbers of `a` that are not finite make their row of `c` NaN.
///
/// # Errors
/// When the shapes do not fit.
pub fn gemm_integer(
    exec: &Exec,
    into: Write,
    a: View<'_>,
    b: &IntegerMatrix,
    c: &mut [f32],
) -> Result<(), ShapeError> {
    ShapeError::check("gemm", "the rows of b", a.cols, b.rows)?;
    ShapeError::check("gemm", "c", a.rows * b.cols, c.len())?;
    if c.is_empty() {
        return Ok(());
    }
    if a.cols == 0 {
        if into == Write::Set {
            c.fill(0.0);
        }
        return Ok(());
    }
    // At least two tasks, of whole tiles.
    let rows = a.rows.div_ceil(2).next_multiple_of(tile::ROWS).min(TASK_ROWS);
    let parts = Parts::new(c, rows * b.cols);
    exec.pool.run(parts.count(), &|task| {
        let c = parts.take(task);
        LEFT.with_borrow_mut(|left| {
            for block in 0..a.cols.div_ceil(DEPTH) {
                left.round(exec, a.rows(task * rows, c.len() / b.cols), &b.factors, block);
                let into = if block == 0 { into } else { Write::Add };
                dispatch(exec.isa, Block { left, b, block, into, c });
            }
        });
    });
    Ok(())
}

thread_local! {
    static LEFT: RefCell<Left> = RefCell::default();
}
