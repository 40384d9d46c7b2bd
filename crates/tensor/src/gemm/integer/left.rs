//! The left factor, rounded to 16 bits.
use chalot_simd::AlignedVec;

use super::{DEPTH, PAIRS, TASK_ROWS, View};
use crate::exec::Exec;
use crate::math::lanes::{Kernel, LANES, Lanes, Pair, dispatch};

/// From one row of the left factor to the next where they lie one after the other, in pairs, and from one pair of columns to
/// the next where those do. Both are a few more than needed, lest all fall onto the same sets of the first cache.
pub(super) const ROW_STRIDE: usize = PAIRS + 4;
pub(super) const COLUMN_STRIDE: usize = TASK_ROWS + LANES;
/// A row of nothing greater is zero.
const LEAST: f32 = 1e-30;

/// Some rows of a left factor, rounded, in a block of columns.
#[derive(Default)]
pub(super) struct Left {
    /// Pairs of columns: `[row][ROW_STRIDE]` or `[pair][COLUMN_STRIDE]`, as the factor itself lies in memory.
    pub pairs: AlignedVec<Pair>,
    pub by_rows: bool,
    /// What a row's integers are to be multiplied by, and by what they were made.
    pub scales: Vec<[f32; LANES]>,
    inverse: Vec<[f32; LANES]>,
}

impl Left {
    /// Takes these rows, of the columns of `block`.
    pub fn round(&mut self, exec: &Exec, a: View<'_>, factors: &[f32], block: usize) {
        let panels = COLUMN_STRIDE / LANES;
        let cols = (a.cols - block * DEPTH).min(DEPTH);
        let factors = &factors[block * DEPTH..][..cols];
        let a = a.cols(block * DEPTH, cols);
        self.pairs.resize_dirty((TASK_ROWS * ROW_STRIDE).max(PAIRS * COLUMN_STRIDE));
        self.scales.resize(panels, [0.0; LANES]);
        self.inverse.resize(panels, [0.0; LANES]);
        self.by_rows = a.col_stride == 1;
        if self.by_rows {
            dispatch(exec.isa, RoundRows { a, factors, left: self });
        } else {
            dispatch(exec.isa, RoundColumns { a, factors, left: self });
        }
    }

    fn set_scale(&mut self, row: usize, max: f32, poison: f32) {
        let zero = max <= LEAST;
        self.scales.as_flattened_mut()[row] = if zero { 0.0 } else { max * (1.0 / 32767.0) } + poison;
        self.inverse.as_flattened_mut()[row] = if zero { 0.0 } else { 32767.0 / max };
    }
}

/// For a factor whose rows' numbers lie together.
struct RoundRows<'a> {
    a: View<'a>,
    factors: &'a [f32],
    left: &'a mut Left,
}

impl Kernel for RoundRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { a, factors, left } = self;
        let mut numbers = [0.0; DEPTH];
        for row in 0..a.rows {
            let from = &a.data[row * a.row_stride..][..a.cols];
            let (mut max, mut poison) = (l.splat(0.0), l.splat(0.0));
            let chunks = from.chunks(LANES).zip(factors.chunks(LANES));
            for ((x, f), y) in chunks.zip(numbers.as_chunks_mut::<LANES>().0) {
                let x = l.mul(l.load_or(x, 0.0), l.load_or(f, 0.0));
                max = l.max(l.abs(x), max);
                poison = l.fma(x, l.splat(0.0), poison);
                l.store(x, y);
            }
            left.set_scale(row, l.maximum(max), l.sum(poison));
            let inverse = l.splat(left.inverse.as_flattened()[row]);
            let to = &mut left.pairs[row * ROW_STRIDE..][..ROW_STRIDE];
            let to = bytemuck::cast_slice_mut::<Pair, i16>(to).as_chunks_mut::<LANES>().0;
            for (x, to) in numbers.as_chunks::<LANES>().0.iter().zip(to).take(a.cols.div_ceil(LANES)) {
                l.store_i16(l.mul(l.load(x), inverse), to);
            }
        }
    }
}

/// For a factor whose columns' numbers lie together, as `dW = dY^T X` has it.
struct RoundColumns<'a> {
    a: View<'a>,
    factors: &'a [f32],
    left: &'a mut Left,
}

impl Kernel for RoundColumns<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        let Self { a, factors, left } = self;
        let column = |col: usize| &a.data[col * a.col_stride..][..a.rows];
        // `inverse` holds the greatest meanwhile, `scales` what is not finite.
        const TOGETHER: usize = 4;
        let kept = left.inverse.chunks_mut(TOGETHER).zip(left.scales.chunks_mut(TOGETHER));
        for (index, (greatest, not_finite)) in kept.enumerate() {
            let (mut max, mut poison) = ([l.splat(0.0); TOGETHER], [l.splat(0.0); TOGETHER]);
            for (col, factor) in factors.iter().enumerate() {
                let factor = l.splat(*factor);
                let numbers = column(col).get(index * TOGETHER * LANES..).unwrap_or_default();
                let mut padded = [0.0; TOGETHER * LANES];
                let numbers = match numbers.first_chunk() {
                    Some(numbers) => numbers,
                    None => {
                        padded[..numbers.len()].copy_from_slice(numbers);
                        &padded
                    }
                };
                for (i, x) in numbers.as_chunks().0.iter().enumerate() {
                    let x = l.mul(l.load(x), factor);
                    max[i] = l.max(l.abs(x), max[i]);
                    poison[i] = l.fma(x, l.splat(0.0), poison[i]);
                }
            }
            for i in 0..greatest.len() {
                l.store(max[i], &mut greatest[i]);
                l.store(poison[i], &mut not_finite[i]);
            }
        }
        for row in 0..a.rows {
            let (max, poison) = (left.inverse.as_flattened()[row], left.scales.as_flattened()[row]);
            left.set_scale(row, max, poison);
        }
        let pairs = left.pairs.chunks_exact_mut(COLUMN_STRIDE);
        for (pair, to) in pairs.enumerate().take(factors.len().div_ceil(2)) {
            let (first, second) = (2 * pair, (2 * pair + 1).min(factors.len() - 1));
            // The last of an odd number goes with zeros.
            let rest = if second > first { factors[second] } else { 0.0 };
            let (factor, rest) = (l.splat(factors[first]), l.splat(rest));
            let from = column(first).chunks(LANES).zip(column(second).chunks(LANES));
            for (((first, second), inverse), to) in from.zip(&left.inverse).zip(to.as_chunks_mut::<LANES>().0)
            {
                let inverse = l.load(inverse);
                let first = l.mul(l.mul(l.load_or(first, 0.0), factor), inverse);
                let second = l.mul(l.mul(l.load_or(second, 0.0), rest), inverse);
                l.store_pairs(l.round_to_pairs(first, second), to);
            }
        }
    }
}
