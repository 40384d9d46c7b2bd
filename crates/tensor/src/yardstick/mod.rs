//! The limits of this machine, measured: what a kernel's speed is a share of.
//!
//! Decoding reads every weight once, so its limit is [`read_bandwidth`]; a prompt multiplies every weight with every
//! token, so its limit is [`dot_peak`]. Measure them in the same run as the kernel, on the same threads, and in turn
//! with it: clocks, neighbours and thermal limits change by the minute.
use std::{hint::black_box, time::Instant};

use chalot_simd::prefetch;

use crate::{
    exec::Exec,
    linear::lanes::{Kernel, LINE_TOKENS, ProductLanes, Ternary, Vectors},
    matrix::BLOCK,
    out::SharedOut,
};

/// Bytes of a task of [`read_bandwidth`].
const READ_TASK: usize = 256 * 1024;
/// The quads of activations that [`dot_peak`] multiplies with as many vectors of weights as kernels do.
const QUADS: usize = 6;
/// Steps of a task of [`dot_peak`].
const STEPS: usize = 5_000;
/// The same of products of tiles.
#[cfg(target_arch = "x86_64")]
const TILE_STEPS: usize = 1_000;

/// Bytes per second that the threads of `exec` read together from `memory`, once through. The memory should be much
/// larger than the caches and have been written before (untouched pages are all one page of zeros).
pub fn read_bandwidth(exec: &Exec, memory: &[u8]) -> f64 {
    let mut sums = vec![0; memory.len().div_ceil(READ_TASK)];
    let out = SharedOut::new(&mut sums);
    let start = Instant::now();
    exec.pool.run(out.len(), &|task| {
        let bytes = &memory[task * READ_TASK..memory.len().min((task + 1) * READ_TASK)];
        // SAFETY: each task has its own sum.
        let sum = unsafe { &mut out.part(task, 1)[0] };
        match Vectors::of(exec.isa) {
            Some(vectors) => vectors.run(Read { blocks: bytes.as_chunks().0, sum }),
            None => *sum = bytes.iter().map(|&byte| i32::from(byte)).sum(),
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    black_box(sums);
    memory.len() as f64 / seconds
}

/// Multiply-adds of 8-bit integers per second that the threads of `exec` reach together in registers, measured for
/// some 15 microseconds times `tasks`; `None` where there are no vector kernels.
pub fn dot_peak(exec: &Exec, tasks: usize) -> Option<f64> {
    let vectors = Vectors::of(exec.isa)?;
    let mut results = vec![(0, 0); tasks];
    let out = SharedOut::new(&mut results);
    let start = Instant::now();
    exec.pool.run(tasks, &|task| {
        // SAFETY: each task has its own result.
        let result = unsafe { &mut out.part(task, 1)[0] };
        match vectors {
            #[cfg(target_arch = "x86_64")]
            Vectors::Amx(_, amx) => result.1 = amx.begin(LINE_TOKENS).repeat(TILE_STEPS),
            _ => vectors.run(Dots { seed: task as u8, result }),
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    Some(black_box(results).iter().map(|&(_, products)| products).sum::<usize>() as f64 / seconds)
}

struct Read<'a> {
    blocks: &'a [[u8; BLOCK]],
    sum: &'a mut i32,
}

impl Kernel for Read<'_> {
    #[inline(always)]
    fn run<P: ProductLanes, const R: usize, const D: usize>(self, p: P) {
        let mut dots = [p.begin::<Ternary>(p.splat(0)); 4];
        for blocks in self.blocks.as_chunks::<4>().0 {
            for i in 0..4 {
                prefetch(blocks[i].as_ptr().wrapping_add(4096));
                dots[i] = p.dot::<Ternary>(dots[i], p.load(&blocks[i]), [1; 4]);
            }
        }
        let mut sums = p.splat(0);
        for dots in dots {
            sums = p.add(sums, p.finish::<Ternary>(dots, p.splat(0)));
        }
        *self.sum = p.total(sums);
    }
}

struct Dots<'a> {
    seed: u8,
    /// A sum, and how many products were made.
    result: &'a mut (i32, usize),
}

impl Kernel for Dots<'_> {
    #[inline(always)]
    fn run<P: ProductLanes, const R: usize, const D: usize>(self, p: P) {
        // All products differ, and are new in each step as far as the compiler knows: without a 32-bit dot product it
        // would share what is equal, and take what stays the same out of the loop.
        let mut codes = [p.load(&[self.seed; BLOCK]); R];
        for (r, codes) in codes.iter_mut().enumerate() {
            *codes = p.load(&[self.seed & (1 << r); BLOCK]);
        }
        let mut dots = [[p.begin::<Ternary>(p.splat(0)); QUADS]; R];
        let mut x = [[1; 4], [2; 4], [3; 4], [4; 4], [5; 4], [6; 4]];
        for _ in 0..STEPS {
            let x = black_box(&mut x);
            for r in 0..R {
                for quad in 0..QUADS {
                    dots[r][quad] = p.dot::<Ternary>(dots[r][quad], codes[r], x[quad]);
                }
            }
        }
        let mut sums = p.splat(0);
        for dots in dots.into_iter().flatten() {
            sums = p.add(sums, p.finish::<Ternary>(dots, p.splat(0)));
        }
        *self.result = (p.total(sums), STEPS * R * QUADS * BLOCK);
    }
}

#[cfg(test)]
mod tests {
    use chalot_simd::Isa;

    use super::*;

    #[test]
    fn both_measure_something() {
        let memory = vec![1; 3 * READ_TASK + 7];
        for isa in Isa::available() {
            for threads in [1, 2] {
                let exec = Exec::new(isa, threads);
                assert!(read_bandwidth(&exec, &memory) > 0.0);
                assert_eq!(dot_peak(&exec, 2).is_some(), isa != Isa::scalar());
            }
        }
    }
}
