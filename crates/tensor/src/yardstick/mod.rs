//! The limits of this machine, measured: what a kernel's speed is a share of.
//!
//! Decoding reads every weight once, so its limit is [`read_bandwidth`]; a prompt multiplies every weight with every
//! token, so its limit is [`dot_peak`]. Measure them in the same run as the kernel, on the same threads, and in turn
//! with it: clocks, neighbours and thermal limits change by the minute.
use std::{hint::black_box, time::Instant};

use crate::{
    exec::Exec,
    linear::lanes::{Kernel, ProductLanes, Ternary, Vectors},
    matrix::BLOCK,
    out::SharedOut,
};

/// Bytes of a task of [`read_bandwidth`].
const READ_TASK: usize = 256 * 1024;
/// Independent sums: enough to hide the latency of a multiply-add, few enough for sixteen registers.
const SUMS: usize = 12;
/// Steps of a task of [`dot_peak`], each of [`SUMS`] multiply-adds.
const STEPS: usize = 20_000;

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
/// about `tasks` times 30 microseconds; `None` where there are no vector kernels.
pub fn dot_peak(exec: &Exec, tasks: usize) -> Option<f64> {
    let vectors = Vectors::of(exec.isa)?;
    let mut sums = vec![0; tasks];
    let out = SharedOut::new(&mut sums);
    let start = Instant::now();
    exec.pool.run(tasks, &|task| {
        // SAFETY: each task has its own sum.
        let sum = unsafe { &mut out.part(task, 1)[0] };
        vectors.run(Dots { seed: task as u8, sum });
    });
    let seconds = start.elapsed().as_secs_f64();
    black_box(sums);
    Some((tasks * STEPS * SUMS * BLOCK) as f64 / seconds)
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
                p.prefetch(blocks[i].as_ptr().wrapping_add(4096));
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
    sum: &'a mut i32,
}

impl Kernel for Dots<'_> {
    #[inline(always)]
    fn run<P: ProductLanes, const R: usize, const D: usize>(self, p: P) {
        // Twelve different products, new in each step as far as the compiler knows: without a 32-bit dot product it
        // would share what is equal, and take what stays the same out of the loop.
        let codes = [1, 2, 3].map(|i| [self.seed & i; BLOCK]);
        let codes = [p.load(&codes[0]), p.load(&codes[1]), p.load(&codes[2])];
        let mut dots = [p.begin::<Ternary>(p.splat(0)); SUMS];
        for step in 0..STEPS {
            let x = black_box([step as i8; 4]);
            for i in 0..SUMS {
                dots[i] = p.dot::<Ternary>(dots[i], codes[i % 3], [x[i / 3]; 4]);
            }
        }
        let mut sums = p.splat(0);
        for dots in dots {
            sums = p.add(sums, p.finish::<Ternary>(dots, p.splat(0)));
        }
        *self.sum = p.total(sums);
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
