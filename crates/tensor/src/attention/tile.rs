//! The product that both halves of attention are made of: c += a · b, a few rows of c by a few vectors of
//! columns, all held in registers.
//!
//! For scores, a is the queries and b the transposed keys; for outputs, a is the probabilities and b the values.
//! Each element of c is one chain of fused multiply-adds, k ascending, whatever the shape of the register tile; of
//! integers it is an exact sum, and k counts pairs.
use std::ops::Range;

use bytemuck::Pod;
use half::f16;

use chalot_simd::prefetch;

use crate::math::lanes::{Kernel, LANES, Lanes, Pair};

/// A stored number, or pair of numbers, and how it is multiplied and summed.
pub(super) trait Element: Pod + Send + Sync {
    /// What it is multiplied with.
    type Factor: Pod + Sync;
    /// Sixteen factors, sixteen elements ready to be multiplied, sixteen sums.
    type Splat<L: Lanes>: Copy;
    type Wide<L: Lanes>: Copy;
    type Sum<L: Lanes>: Copy;

    fn splat<L: Lanes>(l: L, x: Self::Factor) -> Self::Splat<L>;
    fn load<L: Lanes>(l: L, x: &[Self; LANES]) -> Self::Wide<L>;
    /// The sum of no terms.
    fn zero<L: Lanes>(l: L) -> Self::Sum<L>;
    /// The sum that continues from `c · factor`; integers are added to it in the end.
    fn begin<L: Lanes>(l: L, c: &[f32; LANES], factor: f32) -> Self::Sum<L>;
    fn multiply_add<L: Lanes>(l: L, x: Self::Splat<L>, y: Self::Wide<L>, sum: Self::Sum<L>) -> Self::Sum<L>;
    /// A sum that began at zero.
    fn finish<L: Lanes>(l: L, sum: Self::Sum<L>) -> L::V;
    /// A sum that began at `c · factor`, or shall be added to it in units of `step`.
    fn finish_from<L: Lanes>(l: L, sum: Self::Sum<L>, c: &[f32; LANES], factor: f32, step: f32) -> L::V;
}

/// An [`Element`] that is one number, widened to `f32`.
pub(super) trait Number: Element<Factor = f32> {
    fn widen<L: Lanes>(l: L, x: &[Self; LANES]) -> L::V;
    fn store<L: Lanes>(l: L, v: L::V, x: &mut [Self; LANES]);
}

impl Number for f32 {
    #[inline(always)]
    fn widen<L: Lanes>(l: L, x: &[f32; LANES]) -> L::V {
        l.load(x)
    }
    #[inline(always)]
    fn store<L: Lanes>(l: L, v: L::V, x: &mut [f32; LANES]) {
        l.store(v, x);
    }
}

impl Number for f16 {
    #[inline(always)]
    fn widen<L: Lanes>(l: L, x: &[f16; LANES]) -> L::V {
        l.load_f16(x)
    }
    #[inline(always)]
    fn store<L: Lanes>(l: L, v: L::V, x: &mut [f16; LANES]) {
        l.store_f16(v, x);
    }
}

macro_rules! number_element {
    ($number:ty) => {
        impl Element for $number {
            type Factor = f32;
            type Splat<L: Lanes> = L::V;
            type Wide<L: Lanes> = L::V;
            type Sum<L: Lanes> = L::V;

            #[inline(always)]
            fn splat<L: Lanes>(l: L, x: f32) -> L::V {
                l.splat(x)
            }
            #[inline(always)]
            fn load<L: Lanes>(l: L, x: &[Self; LANES]) -> L::V {
                Self::widen(l, x)
            }
            #[inline(always)]
            fn zero<L: Lanes>(l: L) -> L::V {
                l.splat(0.0)
            }
            #[inline(always)]
            fn begin<L: Lanes>(l: L, c: &[f32; LANES], factor: f32) -> L::V {
                l.mul(l.load(c), l.splat(factor))
            }
            #[inline(always)]
            fn multiply_add<L: Lanes>(l: L, x: L::V, y: L::V, sum: L::V) -> L::V {
                l.fma(x, y, sum)
            }
            #[inline(always)]
            fn finish<L: Lanes>(_: L, sum: L::V) -> L::V {
                sum
            }
            #[inline(always)]
            fn finish_from<L: Lanes>(_: L, sum: L::V, _: &[f32; LANES], _: f32, _: f32) -> L::V {
                sum
            }
        }
    };
}
number_element!(f32);
number_element!(f16);

/// Pairs of integers. [`Element::Factor`]s and elements are such that no sum overflows.
macro_rules! pair_element {
    ($pair:ty, $load:ident) => {
        impl Element for $pair {
            type Factor = Pair;
            type Splat<L: Lanes> = L::P;
            type Wide<L: Lanes> = L::P;
            type Sum<L: Lanes> = L::I;

            #[inline(always)]
            fn splat<L: Lanes>(l: L, x: Pair) -> L::P {
                l.splat_pair(x)
            }
            #[inline(always)]
            fn load<L: Lanes>(l: L, x: &[Self; LANES]) -> L::P {
                l.$load(x)
            }
            #[inline(always)]
            fn zero<L: Lanes>(l: L) -> L::I {
                l.zero_i32()
            }
            #[inline(always)]
            fn begin<L: Lanes>(l: L, _: &[f32; LANES], _: f32) -> L::I {
                l.zero_i32()
            }
            #[inline(always)]
            fn multiply_add<L: Lanes>(l: L, x: L::P, y: L::P, sum: L::I) -> L::I {
                l.dot_pairs(x, y, sum)
            }
            #[inline(always)]
            fn finish<L: Lanes>(l: L, sum: L::I) -> L::V {
                l.to_f32(sum)
            }
            #[inline(always)]
            fn finish_from<L: Lanes>(l: L, sum: L::I, c: &[f32; LANES], factor: f32, step: f32) -> L::V {
                l.fma(l.to_f32(sum), l.splat(step), l.mul(l.load(c), l.splat(factor)))
            }
        }
    };
}
pair_element!([i8; 2], load_pairs_i8);
pair_element!(Pair, load_pairs);

/// Rows of the largest register tile: 6 rows x 4 vectors fill AVX-512's 32 registers (24 sums, 4 of b, one
/// broadcast), 6 rows x 1 vector AVX2's 16.
pub(super) const ROWS: usize = 6;

/// Rows of the next smaller one.
pub(super) const ROWS_OF_TOKEN: usize = 4;

/// What one fetch brings.
pub(super) type CacheLine = [u8; 64];

/// The lines to fetch during the part `done` of a work of `all`: evenly, because memory takes only so many requests
/// at a time.
#[inline(always)]
pub(super) fn share(lines: &[CacheLine], done: Range<usize>, all: usize) -> &[CacheLine] {
    match lines.len() {
        0 => lines,
        n => &lines[n * done.start / all..n * done.end / all],
    }
}

/// The lines to fetch in one of the three phases of a tile (scores, soft-max, outputs), which have `parts` 16ths of them.
#[inline(always)]
pub(super) fn phase(lines: &[CacheLine], parts: [usize; 3], phase: usize) -> &[CacheLine] {
    let before = match phase {
        0 => 0,
        1 => parts[0],
        _ => parts[0] + parts[1],
    };
    share(lines, before..before + parts[phase], 16)
}

/// What a sum starts from.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    /// Zero.
    Zero,
    /// The contents of row r of c times `factor[r]`; sums of integers count in units of `step[r]` (of floats, in
    /// ones, whatever `step` says).
    Scaled { factor: &'a [f32], step: &'a [f32] },
}

/// `c[r][cols] = start + sum over k of a[r][k] · b[k][cols]`, for `rows` rows.
pub(super) struct Product<'a, E: Element> {
    /// `[rows][a_stride]`.
    pub a: &'a [E::Factor],
    pub a_stride: usize,
    /// The terms of the sums.
    pub k: Range<usize>,
    /// `[k.end][b_stride]`, in vectors.
    pub b: &'a [[E; LANES]],
    pub b_stride: usize,
    /// Memory that will be read next, to be fetched meanwhile.
    pub next: &'a [CacheLine],
    /// `[rows][c_stride]`, in vectors.
    pub c: &'a mut [[f32; LANES]],
    pub c_stride: usize,
    /// The columns, in vectors, the same of b and c.
    pub cols: Range<usize>,
    pub rows: usize,
    pub start: Start<'a>,
}

/// Whether a register tile of `R` rows by `C` vectors leaves registers for a row of b. A constant, so that
/// tiles that do not fit are not even compiled.
struct Fits<L, const R: usize, const C: usize>(L);

impl<L: Lanes, const R: usize, const C: usize> Fits<L, R, C> {
    const YES: bool = (R + 1) * C <= L::REGISTERS;
}

impl<E: Element> Kernel for Product<'_, E> {
    type Output = ();
    /// Covers the rows and columns with register tiles.
    #[inline(always)]
    fn run<L: Lanes>(mut self, l: L) {
        let mut row = 0;
        while row < self.rows {
            let left = self.rows - row;
            row += if Fits::<L, ROWS, 1>::YES && left >= ROWS {
                self.columns::<L, ROWS>(l, row)
            } else if Fits::<L, 4, 1>::YES && left >= 4 {
                self.columns::<L, 4>(l, row)
            } else if Fits::<L, 2, 1>::YES && left >= 2 {
                self.columns::<L, 2>(l, row)
            } else {
                self.columns::<L, 1>(l, row)
            };
        }
    }
}

impl<E: Element> Product<'_, E> {
    #[inline(always)]
    fn columns<L: Lanes, const R: usize>(&mut self, l: L, row: usize) -> usize {
        let mut col = self.cols.start;
        while col < self.cols.end {
            let left = self.cols.end - col;
            col += if Fits::<L, R, 4>::YES && left >= 4 {
                self.tile::<L, R, 4>(l, row, col)
            } else if Fits::<L, R, 2>::YES && left >= 2 {
                self.tile::<L, R, 2>(l, row, col)
            } else {
                self.tile::<L, R, 1>(l, row, col)
            };
        }
        R
    }

    #[inline(always)]
    fn tile<L: Lanes, const R: usize, const C: usize>(&mut self, l: L, row: usize, col: usize) -> usize {
        let a = std::array::from_fn(|r| &self.a[(row + r) * self.a_stride..][self.k.clone()]);
        // A sum of no terms may begin past the end.
        let b = self.b.get(self.k.start * self.b_stride + col..).unwrap_or_default();
        let (all, before) =
            (self.rows * self.cols.len(), row * self.cols.len() + R * (col - self.cols.start));
        let next = share(self.next, before..before + R * C, all);
        let c = &mut self.c[row * self.c_stride + col..];
        let start = match self.start {
            Start::Zero => None,
            Start::Scaled { factor, step } => {
                factor[row..].first_chunk::<R>().zip(step[row..].first_chunk::<R>())
            }
        };
        l.call(Tile::<E, R, C> { a, b, b_stride: self.b_stride, next, c, c_stride: self.c_stride, start });
        C
    }
}

/// One register tile.
struct Tile<'a, E: Element, const R: usize, const C: usize> {
    /// As long as the sums.
    a: [&'a [E::Factor]; R],
    b: &'a [[E; LANES]],
    b_stride: usize,
    next: &'a [CacheLine],
    c: &'a mut [[f32; LANES]],
    c_stride: usize,
    /// The factors and steps of [`Start::Scaled`].
    start: Option<(&'a [f32; R], &'a [f32; R])>,
}

impl<E: Element, const R: usize, const C: usize> Kernel for Tile<'_, E, R, C> {
    type Output = ();
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "the rows and vectors of a tile go by index")]
    fn run<L: Lanes>(self, l: L) {
        let mut sums = [[E::zero(l); C]; R];
        if let Some((factor, _)) = self.start {
            for r in 0..R {
                let c = &self.c[r * self.c_stride..][..C];
                for v in 0..C {
                    sums[r][v] = E::begin(l, &c[v], factor[r]);
                }
            }
        }
        let terms = self.a[0].len();
        let mut a = self.a;
        for a in &mut a {
            *a = &a[..terms];
        }
        let lines = (self.next.len() + terms / 2) / terms.max(1);
        let mut next = self.next.iter();
        for k in 0..terms {
            let b = &self.b[k * self.b_stride..][..C];
            let mut columns = [E::load(l, &b[0]); C];
            for v in 1..C {
                columns[v] = E::load(l, &b[v]);
            }
            for line in next.by_ref().take(lines) {
                prefetch(line);
            }
            for r in 0..R {
                let x = E::splat(l, a[r][k]);
                for v in 0..C {
                    sums[r][v] = E::multiply_add(l, x, columns[v], sums[r][v]);
                }
            }
        }
        for line in next {
            prefetch(line);
        }
        if let Some((factor, step)) = self.start {
            for r in 0..R {
                let c = &mut self.c[r * self.c_stride..][..C];
                for v in 0..C {
                    l.store(E::finish_from(l, sums[r][v], &c[v], factor[r], step[r]), &mut c[v]);
                }
            }
        } else {
            for r in 0..R {
                let c = &mut self.c[r * self.c_stride..][..C];
                for v in 0..C {
                    l.store(E::finish(l, sums[r][v]), &mut c[v]);
                }
            }
        }
    }
}
