//! Register tiles: sums of some rows and vectors of columns in a block of terms.
use super::left::{COLUMN_STRIDE, Left, ROW_STRIDE};
use super::{IntegerMatrix, Write};
use crate::math::lanes::{Kernel, LANES, Lanes, Pair};

/// Rows of the left factor in a register tile at most.
pub(super) const ROWS: usize = 8;

/// What a block of columns of the left factor adds to its rows of the output.
pub(super) struct Block<'a> {
    pub left: &'a Left,
    pub b: &'a IntegerMatrix,
    pub block: usize,
    pub into: Write,
    pub c: &'a mut [f32],
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
        for (v, column) in columns.iter_mut().enumerate().skip(1) {
            *column = b.panel(block, panel + v);
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
    #[expect(clippy::needless_range_loop, reason = "a tenth faster: the array stays in registers")]
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
    #[expect(clippy::manual_memcpy, reason = "as above")]
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
