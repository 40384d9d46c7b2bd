//! A left factor whose columns lie together, as `dW = dY^T X` has it: laid out by rows before it is multiplied.
//!
//! The library reads four rows of it a step. With columns a stride of a few kilobytes apart each step is four numbers of another
//! line of memory, most of which fall onto the same few sets of the first cache: half the speed (docs/LOG.md, "Training").
use std::cell::RefCell;

use super::{View, Write};
use crate::exec::Exec;
use crate::math::lanes::{Kernel, Lanes, dispatch};

/// Rows and columns that are laid out at a time; the library cuts its sums at so many columns too.
const BLOCK: (usize, usize) = (128, 512);
/// From one row to the next, in numbers: more than a block, so that rows do not fall onto the same sets.
const STRIDE: usize = BLOCK.1 + 16;
/// Numbers of a page: columns so far apart fall onto the same sets of the first cache.
const PAGE: usize = 1024;
/// Numbers of a line of memory.
const LINE: usize = 16;

thread_local! {
    static LAID_OUT: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Whether it is worth it.
pub(super) fn are_apart(a: &View<'_>) -> bool {
    a.row_stride == 1 && a.col_stride > 0 && a.col_stride.is_multiple_of(PAGE)
}

/// `product(into, a, b, row)` for all blocks of `a`, which are to be added to the rows of the output from `row` on.
pub(super) fn by_blocks(
    exec: &Exec,
    into: Write,
    a: View<'_>,
    b: View<'_>,
    mut product: impl FnMut(Write, View<'_>, View<'_>, usize),
) {
    LAID_OUT.with_borrow_mut(|block| {
        block.resize(BLOCK.0 * STRIDE, 0.0);
        for row in (0..a.rows).step_by(BLOCK.0) {
            let rows = BLOCK.0.min(a.rows - row);
            for col in (0..a.cols).step_by(BLOCK.1) {
                let cols = BLOCK.1.min(a.cols - col);
                let from = &a.data[col * a.col_stride + row..];
                dispatch(exec.isa, LayOut { from, stride: a.col_stride, rows, cols, to: block });
                let a = View { data: &block[..], rows, cols, row_stride: STRIDE, col_stride: 1 };
                product(if col == 0 { into } else { Write::Add }, a, b.rows(col, cols), row);
            }
        }
    });
}

/// `to[row][col] = from[col][row]`, rows of `to` [`STRIDE`] and those of `from` `stride` apart.
struct LayOut<'a> {
    from: &'a [f32],
    stride: usize,
    rows: usize,
    cols: usize,
    to: &'a mut [f32],
}

impl Kernel for LayOut<'_> {
    type Output = ();
    /// Without lanes of its own: only so that the compiler may use the instructions there are.
    #[inline(always)]
    fn run<L: Lanes>(self, _: L) {
        let Self { from, stride, rows, cols, to } = self;
        // Whole lines are read, in the order of memory; squares of four become shuffles.
        let (whole_rows, whole_cols) = (rows / LINE * LINE, cols / 4 * 4);
        for col in (0..whole_cols).step_by(4) {
            for row in (0..whole_rows).step_by(LINE) {
                let lines: [_; 4] = std::array::from_fn(|i| &from[(col + i) * stride + row..][..LINE]);
                let lines = lines.map(|line| line.as_chunks::<4>().0);
                for j in 0..LINE / 4 {
                    for k in 0..4 {
                        let four: [f32; 4] = std::array::from_fn(|i| lines[i][j][k]);
                        to[(row + 4 * j + k) * STRIDE + col..][..4].copy_from_slice(&four);
                    }
                }
            }
        }
        for row in 0..rows {
            for col in if row < whole_rows { whole_cols } else { 0 }..cols {
                to[row * STRIDE + col] = from[col * stride + row];
            }
        }
    }
}
