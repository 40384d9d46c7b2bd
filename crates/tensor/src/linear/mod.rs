//! Products of activations and weights.
//!
//! One algorithm serves every format and every instruction set: it is generic over the encoding of the weights
//! (`weights.rs`) and over vectors ([`lanes`]). There are two of it:
//!
//! - *direct*, for few tokens: weights stream from memory once, are unpacked in registers, and meet all tokens
//!   there. Its limit is the memory's bandwidth.
//! - *panel*, for many: a panel of weights is unpacked into the first-level cache and meets one register tile of
//!   tokens after the other. Its limit is the multiply-adds.
//!
//! Neither, nor how many threads share the rows, changes a bit of the result: integer sums are exact, and each float
//! sum is one chain in ascending order. `reference.rs` is the definition.
mod float;
mod integer;
pub(crate) mod lanes;
mod reference;
#[cfg(test)]
mod tests;
mod weights;

use std::{marker::PhantomData, ops::Range};

use half::{bf16, f16};

use self::{
    float::FloatProduct,
    integer::Integer,
    lanes::Vectors,
    weights::{Code, F16Scales, F32Scales, Float, Int4, Int8, Scales, Trit2, Trit5},
};
use crate::{
    activations::{Activations, token_tiles},
    exec::{Exec, ShapeError},
    matrix::{Coding, Format, Matrix, ScaleBy, TILE_ROWS},
    out::SharedOut,
};

/// Up to this many tokens weights are taken straight from their packed form. (More make token tiles of at least 4,
/// which is what panels have kernels for.)
const DIRECT_TOKENS: usize = 12;
/// Bytes of weights (times tokens over four) that are worth a task: a few microseconds.
const TASK_BYTES: usize = 24 * 1024;
/// Tasks per thread, at most, so that a slow thread holds nobody up.
const TASKS_PER_THREAD: usize = 8;
/// The row tiles of panel tasks start at multiples of this: a multiple of every register tile's.
const PANEL_TILES: usize = 4;

/// The product of tokens and weights: `y[m][rows] = x[m][cols] * w^T`.
///
/// Float weights: each output is one chain of fused multiply-adds, columns ascending. Integer weights: tokens are
/// quantized (see [`Activations`]), sums are exact integers, and `y = isum * (scale * factor)`; where scales are by
/// group, the groups' products are added by fused multiply-adds, groups ascending.
///
/// The result depends on the weights and on the token alone: the same bits for any `m`, thread count and instruction
/// set.
///
/// # Errors
/// When `x` has another number of features than `w` columns, or `y` not `m * rows` elements.
pub fn matmul(exec: &Exec, w: &Matrix, x: &mut Activations, y: &mut [f32]) -> Result<(), ShapeError> {
    ShapeError::check("matmul", "x: features of a token", w.cols(), x.k())?;
    ShapeError::check("matmul", "y", x.m().saturating_mul(w.rows()), y.len())?;
    if x.m() == 0 {
        return Ok(());
    }
    let Some(vectors) = Vectors::of(exec.isa) else {
        reference::matmul(exec, w, x.as_f32(), y);
        return Ok(());
    };
    match w.format() {
        Format::F32 => float::<f32>((exec, vectors), w, x, y),
        Format::F16 => float::<f16>((exec, vectors), w, x, y),
        Format::Bf16 => float::<bf16>((exec, vectors), w, x, y),
        Format::Trit2(_) => integer::<Trit2, _, 4>((exec, vectors), w, F32Scales::of(w), x, y),
        Format::Trit5(_) => integer::<Trit5, _, 5>((exec, vectors), w, F32Scales::of(w), x, y),
        Format::Int8(ScaleBy::Group(_)) => {
            integer::<Int8, _, 1>((exec, vectors), w, F16Scales::<false>::of(w), x, y)
        }
        Format::Int8(_) => integer::<Int8, _, 1>((exec, vectors), w, F32Scales::of(w), x, y),
        Format::Int4 { mins: false } => {
            integer::<Int4, _, 2>((exec, vectors), w, F16Scales::<false>::of(w), x, y)
        }
        Format::Int4 { mins: true } => {
            integer::<Int4, _, 2>((exec, vectors), w, F16Scales::<true>::of(w), x, y)
        }
    }
    Ok(())
}

fn integer<C: Code<Q>, S: Scales, const Q: usize>(
    (exec, vectors): (&Exec, Vectors),
    w: &Matrix,
    scales: S,
    x: &mut Activations,
    y: &mut [f32],
) {
    let m = x.m();
    let zero = Coding::zero_point(w.format());
    let x = x.quantized(exec, w);
    let product = Integer { w, scales, zero, x, m, y: SharedOut::new(y) };
    let code = PhantomData::<C>;
    if m <= DIRECT_TOKENS {
        direct_tasks(exec, w, m, &|tiles| {
            vectors.run(integer::DirectTask { product, tiles, code });
        });
    } else {
        panel_tasks(exec, w, m, integer::PANEL_TOKEN_TILES, &|tiles, token_tiles| {
            vectors.run(integer::PanelTask { product, tiles, token_tiles, code });
        });
    }
}

fn float<F: Float>((exec, vectors): (&Exec, Vectors), w: &Matrix, x: &mut Activations, y: &mut [f32]) {
    let m = x.m();
    let x = x.tiled(exec);
    let product = FloatProduct::<F> { w, x, m, y: SharedOut::new(y), float: PhantomData };
    if m <= DIRECT_TOKENS {
        direct_tasks(exec, w, m, &|tiles| {
            vectors.run(float::DirectTask { product, tiles });
        });
    } else {
        panel_tasks(exec, w, m, float::PANEL_TOKEN_TILES, &|tiles, token_tiles| {
            vectors.run(float::PanelTask { product, tiles, token_tiles });
        });
    }
}

/// How far ahead of their use weights are asked for, in bytes, where `step` bytes of tiles are read side by side.
///
/// A multiple of `step`, so that the same place of later tiles is meant: these tiles lie one after the other, and a
/// shorter reach would ask again for what the neighbour has just read. At least 16 KiB: memory answers after some 100
/// nanoseconds, in which a core reads a few thousand bytes. (Measured: docs/LOG.md, "Kernels".)
fn prefetch_distance(step: usize) -> usize {
    16384_usize.next_multiple_of(step)
}

/// On a cache line of its own: vectors of what a kernel keeps on the stack must not straddle two.
#[repr(align(64))]
struct Aligned<T>(T);

/// Writes the outputs of some tokens, from `first_token` on, for the first D of `tiles` (no tile beyond them: it may be
/// another task's), as far as there are rows.
#[inline(always)]
fn store_tiles<const D: usize>(
    y: &SharedOut<'_, f32>,
    (rows, tiles, first_token): (usize, Range<usize>, usize),
    outputs: &[[[f32; TILE_ROWS]; D]],
) {
    let row = tiles.start * TILE_ROWS;
    let len = (tiles.len().min(D) * TILE_ROWS).min(rows - row);
    for (t, outputs) in outputs.iter().enumerate() {
        // SAFETY: a task has its own tiles of rows and token tiles.
        let out = unsafe { y.part((first_token + t) * rows + row, len) };
        out.copy_from_slice(&outputs.as_flattened()[..len]);
    }
}

/// Part `index` of `count` nearly equal parts of `0..len`.
fn part(len: usize, index: usize, count: usize) -> Range<usize> {
    len * index / count..len * (index + 1) / count
}

/// Splits the tiles of rows.
fn direct_tasks(exec: &Exec, w: &Matrix, m: usize, f: &(dyn Fn(Range<usize>) + Sync)) {
    let work = w.bytes() / 4 * m.max(4);
    let tasks = (work / TASK_BYTES).clamp(1, exec.pool.threads() * TASKS_PER_THREAD).min(w.tiles());
    exec.pool.run(tasks, &|task| f(part(w.tiles(), task, tasks)));
}

/// Splits the tiles of rows and the token tiles, the latter in runs of at most `run`.
fn panel_tasks(
    exec: &Exec,
    w: &Matrix,
    m: usize,
    run: usize,
    f: &(dyn Fn(Range<usize>, Range<usize>) + Sync),
) {
    let (panels, token_tiles) = (w.tiles().div_ceil(PANEL_TILES), token_tiles(m).len());
    let runs = token_tiles.div_ceil(run);
    let row_tasks = (exec.pool.threads() * TASKS_PER_THREAD).div_ceil(runs).min(panels);
    exec.pool.run(runs * row_tasks, &|task| {
        let panels = part(panels, task % row_tasks, row_tasks);
        let tiles = panels.start * PANEL_TILES..w.tiles().min(panels.end * PANEL_TILES);
        f(tiles, part(token_tiles, task / row_tasks, runs));
    });
}
