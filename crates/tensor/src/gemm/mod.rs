//! Products of dense matrices, as the backward passes of training need them: of f32 with f32 here, of f32 with small integers
//! in `integer`.
//!
//! The arithmetic of f32 is a library's: `private-gemm-x86` where the CPU has AVX-512 or AVX2, `matrixmultiply` elsewhere (what was
//! measured: docs/LOG.md, "Training"). Unlike everything else in this crate its bits are those of one machine: another
//! instruction set may add in another order. On one machine they depend on the shapes alone: work is cut into pieces
//! of the output whose sizes the thread count does not enter.
#[cfg(target_arch = "x86_64")]
mod columns;
mod integer;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "x86_64")]
use chalot_simd::IsaKind;

pub use self::integer::{IntegerMatrix, gemm_integer};
use crate::exec::{Exec, ShapeError};
use crate::out::SharedOut;

/// A matrix in a slice: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> View<'a> {
    /// `[rows][cols]`, rows `stride` elements apart.
    ///
    /// # Errors
    /// When `data` ends before the last element, or rows overlap.
    pub fn new(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Result<Self, ShapeError> {
        check("a matrix", data.len(), rows, cols, stride)?;
        Ok(Self { data, rows, cols, row_stride: stride, col_stride: 1 })
    }

    /// The transposed matrix.
    pub fn t(self) -> Self {
        let Self { data, rows, cols, row_stride, col_stride } = self;
        Self { data, rows: cols, cols: rows, row_stride: col_stride, col_stride: row_stride }
    }

    /// Some rows.
    fn rows(self, first: usize, rows: usize) -> Self {
        Self { data: self.data.get(first * self.row_stride..).unwrap_or_default(), rows, ..self }
    }

    /// Some columns.
    fn cols(self, first: usize, cols: usize) -> Self {
        Self { data: self.data.get(first * self.col_stride..).unwrap_or_default(), cols, ..self }
    }
}

fn check(
    what: &'static str,
    len: usize,
    rows: usize,
    cols: usize,
    stride: usize,
) -> Result<usize, ShapeError> {
    if stride < cols {
        return Err(ShapeError { op: "gemm", what: "a row's stride", expected: cols, found: stride });
    }
    let needed =
        if rows == 0 || cols == 0 { 0 } else { (rows - 1).saturating_mul(stride).saturating_add(cols) };
    if len < needed {
        return Err(ShapeError { op: "gemm", what, expected: needed, found: len });
    }
    Ok(needed)
}

/// What becomes of the old content of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// It is overwritten.
    Set,
    /// The product is added to it.
    Add,
}

/// `c = a · b` or `c += a · b` on the calling thread; `c` is `[a.rows][b.cols]`, its rows `stride` elements apart.
///
/// # Errors
/// When the shapes do not fit.
pub fn gemm(
    exec: &Exec,
    into: Write,
    a: View<'_>,
    b: View<'_>,
    c: &mut [f32],
    stride: usize,
) -> Result<(), ShapeError> {
    ShapeError::check("gemm", "the rows of b", a.cols, b.rows)?;
    let needed = check("c", c.len(), a.rows, b.cols, stride)?;
    if needed > 0 {
        product(exec, into, a, b, &mut c[..needed], stride);
    }
    Ok(())
}

/// Rows and columns of a piece that is a task of its own, about.
const PIECE: (usize, usize) = (256, 512);

/// As [`gemm`] on all threads; `c` is `[a.rows][b.cols]` without gaps.
///
/// # Errors
/// When the shapes do not fit.
pub fn gemm_parallel(
    exec: &Exec,
    into: Write,
    a: View<'_>,
    b: View<'_>,
    c: &mut [f32],
) -> Result<(), ShapeError> {
    ShapeError::check("gemm", "the rows of b", a.cols, b.rows)?;
    let (rows, cols) = (a.rows, b.cols);
    ShapeError::check("gemm", "c", rows * cols, c.len())?;
    if c.is_empty() {
        return Ok(());
    }
    // An even number of pieces, all nearly as large: two threads end together.
    let mut row_parts = rows.div_ceil(PIECE.0);
    let mut col_parts = cols.div_ceil(PIECE.1);
    if row_parts * col_parts % 2 == 1 {
        if rows >= cols { row_parts += 1 } else { col_parts += 1 }
    }
    let part = |len: usize, index: usize, count: usize| {
        let at = |i: usize| if i == count { len } else { (len * i / count).next_multiple_of(16).min(len) };
        at(index)..at(index + 1)
    };
    let out = Pieces { c: SharedOut::new(c), cols };
    exec.pool.run(row_parts * col_parts, &|task| {
        let rows = part(rows, task / col_parts, row_parts);
        let cols = part(cols, task % col_parts, col_parts);
        if rows.is_empty() || cols.is_empty() {
            return;
        }
        let (a, b) = (a.rows(rows.start, rows.len()), b.cols(cols.start, cols.len()));
        out.product(exec, into, a, b, rows.start, cols.start);
    });
    Ok(())
}

/// An output whose rectangles are written by different tasks.
struct Pieces<'a> {
    c: SharedOut<'a, f32>,
    cols: usize,
}

impl Pieces<'_> {
    /// The rectangle at (row, col).
    fn product(&self, exec: &Exec, into: Write, a: View<'_>, b: View<'_>, row: usize, col: usize) {
        let start = row * self.cols + col;
        let needed = (a.rows - 1) * self.cols + b.cols;
        if b.cols == self.cols {
            // SAFETY: whole rows, which are this task's alone.
            let c = unsafe { self.c.part(start, needed) };
            return product(exec, into, a, b, c, self.cols);
        }
        assert!(start + needed <= self.c.len());
        // SAFETY: the rectangle lies inside the output (asserted), and no other task's rectangle touches it: only its own
        // elements are read and written, through the pointer, no slice over the gaps is made.
        unsafe { raw(exec, into, a, b, self.c.pointer().add(start), self.cols) }
    }
}

fn product(exec: &Exec, into: Write, a: View<'_>, b: View<'_>, c: &mut [f32], stride: usize) {
    // SAFETY: `c` was checked to hold the last element.
    unsafe { raw(exec, into, a, b, c.as_mut_ptr(), stride) }
}

/// # Safety
/// `c` may be written at `i * stride + j` for all i below `a.rows`, j below `b.cols`; `a` and `b` are as long as they say.
unsafe fn raw(exec: &Exec, into: Write, a: View<'_>, b: View<'_>, c: *mut f32, stride: usize) {
    if a.cols == 0 && b.rows == 0 {
        // A sum of no terms; the libraries want memory for their factors.
        for row in 0..if into == Write::Set { a.rows } else { 0 } {
            // SAFETY: the caller's promise.
            unsafe { c.add(row * stride).write_bytes(0, b.cols) };
        }
        return;
    }
    let last = |v: &View<'_>| (v.rows.max(1) - 1) * v.row_stride + (v.cols.max(1) - 1) * v.col_stride;
    assert!(a.cols == b.rows && last(&a) < a.data.len().max(1) && last(&b) < b.data.len().max(1));
    let signed = |x: usize| x as isize;
    let (m, k, n) = (a.rows, a.cols, b.cols);
    #[cfg(not(target_arch = "x86_64"))]
    let _ = exec; // the other library looks for itself
    #[cfg(target_arch = "x86_64")]
    {
        use private_gemm_x86::{Accum, DType, DstKind, IType, InstrSet};
        let instructions = match exec.isa.kind() {
            IsaKind::Avx512 | IsaKind::Avx512Vbmi | IsaKind::Amx => Some(InstrSet::Avx512),
            IsaKind::Avx2 | IsaKind::AvxVnni => Some(InstrSet::Avx256),
            _ => None,
        };
        if let Some(instructions) = instructions {
            if columns::are_apart(&a) {
                return columns::by_blocks(exec, into, a, b, |into, a, b, row| {
                    // SAFETY: rows of the output from `row` on, as many as `a` has.
                    unsafe { raw(exec, into, a, b, c.add(row * stride), stride) }
                });
            }
            let beta = match into {
                Write::Set => Accum::Replace,
                Write::Add => Accum::Add,
            };
            let (alpha, null) = (1.0f32, std::ptr::null());
            // SAFETY: pointers and strides describe memory that is there (the caller's promise, and asserted above); the
            // CPU has the instructions, for `isa` is the proof.
            return unsafe {
                private_gemm_x86::gemm(
                    DType::F32,
                    IType::U64,
                    instructions,
                    m,
                    n,
                    k,
                    c.cast(),
                    signed(stride),
                    1,
                    null,
                    null,
                    DstKind::Full,
                    beta,
                    a.data.as_ptr().cast(),
                    signed(a.row_stride),
                    signed(a.col_stride),
                    false,
                    null,
                    0,
                    b.data.as_ptr().cast(),
                    signed(b.row_stride),
                    signed(b.col_stride),
                    false,
                    (&raw const alpha).cast(),
                    1,
                )
            };
        }
    }

    let beta = match into {
        Write::Set => 0.0,
        Write::Add => 1.0,
    };
    // SAFETY: as above.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.data.as_ptr(),
            signed(a.row_stride),
            signed(a.col_stride),
            b.data.as_ptr(),
            signed(b.row_stride),
            signed(b.col_stride),
            beta,
            c,
            signed(stride),
            1,
        );
    }
}
