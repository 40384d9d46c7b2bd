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
use std::cell::RefCell;

use chalot_simd::AlignedVec;

use super::{View, Write};
use crate::exec::{Exec, ShapeError};
use crate::math::lanes::{Kernel, LANES, Lanes, Pair, dispatch};
use crate::parts::Parts;

/// Terms of a sum between two scales: as many as 32 bits hold.
const DEPTH: usize = 256;
/// Pairs of rows in a panel of the right factor.
const PAIRS: usize = DEPTH / 2;
/// Rows of the left factor in a register tile at most.
const ROWS: usize = 8;
/// Rows of the left factor that a task takes at most, whole tiles: with a block's columns they stay in the caches.
const TASK_ROWS: usize = 8 * ROWS;
/// From one row of the left factor to the next where they lie one after the other, in pairs, and from one pair of columns to
/// the next where those do. Both are a few more than needed, lest all fall onto the same sets of the first cache.
const ROW_STRIDE: usize = PAIRS + 4;
const COLUMN_STRIDE: usize = TASK_ROWS + LANES;
/// A row of nothing greater is zero.
const LEAST: f32 = 1e-30;

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
    let rows = a.rows.div_ceil(2).next_multiple_of(ROWS).min(TASK_ROWS);
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

/// Some rows of a left factor, rounded, in a block of columns.
#[derive(Default)]
struct Left {
    /// Pairs of columns: `[row][ROW_STRIDE]` or `[pair][COLUMN_STRIDE]`, as the factor itself lies in memory.
    pairs: AlignedVec<Pair>,
    by_rows: bool,
    /// What a row's integers are to be multiplied by, and by what they were made.
    scales: Vec<[f32; LANES]>,
    inverse: Vec<[f32; LANES]>,
}

impl Left {
    fn round(&mut self, exec: &Exec, a: View<'_>, factors: &[f32], block: usize) {
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

/// What a block of columns of the left factor adds to its rows of the output.
struct Block<'a> {
    left: &'a Left,
    b: &'a IntegerMatrix,
    block: usize,
    into: Write,
    c: &'a mut [f32],
}

impl Kernel for Block<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        // 8 x 3 sums, 3 vectors of b and one of a; where vectors are several registers 2 x 2.
        if L::REGISTERS >= 32 { self.tiles::<L, ROWS, 3>(l) } else { self.tiles::<L, 2, 2>(l) }
    }
}

impl Block<'_> {
    #[inline(always)]
    fn tiles<L: Lanes, const R: usize, const C: usize>(mut self, l: L) {
        let panels = self.b.cols.div_ceil(LANES);
        let mut panel = 0;
        while panel < panels {
            // A tile of one vector waits for its own sums: better two of two than three and one.
            panel += match panels - panel {
                1 => self.rows::<L, R, 1>(l, panel),
                2 | 4 => self.rows::<L, R, 2>(l, panel),
                _ => self.rows::<L, R, C>(l, panel),
            };
        }
    }

    #[inline(always)]
    fn rows<L: Lanes, const R: usize, const C: usize>(&mut self, l: L, panel: usize) -> usize {
        let Self { left, b, block, into, .. } = *self;
        let mut columns = [b.panel(block, panel); C];
        for v in 1..C {
            columns[v] = b.panel(block, panel + v);
        }
        for (index, c) in self.c.chunks_mut(R * b.cols).enumerate() {
            let row = index * R;
            let to = To { scales: &left.scales.as_flattened()[row..], into, c, cols: b.cols, panel };
            if left.by_rows {
                let rows = left.pairs.as_chunks().0;
                let Some(rows) = rows.get(row..).and_then(|rows| rows.first_chunk::<R>()) else { continue };
                l.call(Tile::<_, R, C> { a: ByRows(rows), columns, to });
            } else {
                l.call(Tile::<_, R, C> { a: ByColumns(left.pairs.as_chunks().0, row), columns, to });
            }
        }
        C
    }
}

/// The rows of a register tile in the left factor.
trait TileRows<const R: usize>: Copy {
    /// The numbers of a pair of columns.
    fn pairs(&self, index: usize) -> [Pair; R];
}

#[derive(Clone, Copy)]
struct ByRows<'a, const R: usize>(&'a [[Pair; ROW_STRIDE]; R]);

impl<const R: usize> TileRows<R> for ByRows<'_, R> {
    #[inline(always)]
    fn pairs(&self, index: usize) -> [Pair; R] {
        let mut pairs = [[0; 2]; R];
        for r in 0..R {
            pairs[r] = self.0[r][index];
        }
        pairs
    }
}

/// All rows, and the first one.
#[derive(Clone, Copy)]
struct ByColumns<'a>(&'a [[Pair; COLUMN_STRIDE]], usize);

impl<const R: usize> TileRows<R> for ByColumns<'_> {
    #[inline(always)]
    fn pairs(&self, index: usize) -> [Pair; R] {
        let rows = &self.0[index][self.1..][..R];
        let mut pairs = [[0; 2]; R];
        for r in 0..R {
            pairs[r] = rows[r];
        }
        pairs
    }
}

/// Where a register tile goes.
struct To<'a> {
    scales: &'a [f32],
    into: Write,
    /// At most as many rows as the tile has.
    c: &'a mut [f32],
    cols: usize,
    panel: usize,
}

struct Tile<'a, A, const R: usize, const C: usize> {
    a: A,
    columns: [&'a [[Pair; LANES]]; C],
    to: To<'a>,
}

impl<A: TileRows<R>, const R: usize, const C: usize> Kernel for Tile<'_, A, R, C> {
    type Output = ();
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "the rows and vectors of a tile go by index")]
    fn run<L: Lanes>(self, l: L) {
        let Self { a, mut columns, to } = self;
        let terms = columns[0].len();
        for column in &mut columns {
            *column = &column[..terms];
        }
        let mut sums = [[l.zero_i32(); C]; R];
        for index in 0..terms {
            let a = a.pairs(index);
            let mut b = [l.load_pairs(&columns[0][index]); C];
            for v in 1..C {
                b[v] = l.load_pairs(&columns[v][index]);
            }
            for r in 0..R {
                let x = l.splat_pair(a[r]);
                for v in 0..C {
                    sums[r][v] = l.dot_pairs(x, b[v], sums[r][v]);
                }
            }
        }
        let To { scales, into, c, cols, panel } = to;
        let from = panel * LANES;
        if c.len() == R * cols && from + C * LANES <= cols {
            for r in 0..R {
                let scale = l.splat(scales[r]);
                let c = &mut c[r * cols + from..][..C * LANES];
                for v in 0..C {
                    let c = &mut c[v * LANES..][..LANES];
                    l.store_some(finish(l, l.to_f32(sums[r][v]), scale, into, c), c);
                }
            }
            return;
        }
        let mut edges = [[[0.0; LANES]; C]; R];
        for r in 0..R {
            for v in 0..C {
                l.store(l.to_f32(sums[r][v]), &mut edges[r][v]);
            }
        }
        for ((c, sums), scale) in c.chunks_mut(cols).zip(&edges).zip(scales) {
            for (c, sums) in c[from..].chunks_mut(LANES).zip(sums) {
                l.store_some(finish(l, l.load(sums), l.splat(*scale), into, c), c);
            }
        }
    }
}

/// What `c` becomes by sums of a row of this scale.
#[inline(always)]
fn finish<L: Lanes>(l: L, sums: L::V, scale: L::V, into: Write, c: &[f32]) -> L::V {
    match into {
        Write::Set => l.mul(sums, scale),
        Write::Add => l.fma(sums, scale, l.load_or(c, 0.0)),
    }
}
