//! The machine's limit for `f32` arithmetic, measured: what the speed of attention is a share of.
use std::{hint::black_box, time::Instant};

use super::lanes::{Kernel, Lanes, dispatch};
use crate::{exec::Exec, out::SharedOut};

/// Steps of a task, each of as many multiply-adds as there are sums.
const STEPS: usize = 20_000;
/// Independent sums, enough to hide the latency of a multiply-add: with few registers, half as many.
const SUMS: usize = 12;

/// Fused multiply-adds of `f32` per second (a lane counts as one) that the threads of `exec` reach together in
/// registers, measured for about `tasks` times 50 microseconds. Measure it in the same run as the kernel, on the same
/// threads, in turn with it: clocks and neighbours change by the minute.
pub fn fma_peak(exec: &Exec, tasks: usize) -> f64 {
    let mut counts = vec![0.0; tasks];
    let out = SharedOut::new(&mut counts);
    let start = Instant::now();
    exec.pool.run(tasks, &|task| {
        // SAFETY: each task has its own count.
        let count = unsafe { &mut out.part(task, 1)[0] };
        *count = dispatch(exec.isa, Peak);
    });
    let seconds = start.elapsed().as_secs_f64();
    counts.iter().sum::<f64>() / seconds
}

struct Peak;

impl Kernel for Peak {
    type Output = f64;
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> f64 {
        if L::REGISTERS > SUMS { multiply_add::<L, SUMS>(l) } else { multiply_add::<L, { SUMS / 2 }>(l) }
    }
}

#[inline(always)]
fn multiply_add<L: Lanes, const N: usize>(l: L) -> f64 {
    let (a, b) = (l.splat(black_box(0.999)), l.splat(black_box(0.001)));
    let mut sums = [b; N];
    for _ in 0..STEPS {
        for sum in &mut sums {
            *sum = l.fma(*sum, a, b);
        }
    }
    for sum in sums {
        black_box(l.sum(sum));
    }
    (STEPS * N * super::lanes::LANES) as f64
}

#[cfg(test)]
mod tests {
    use chalot_simd::Isa;

    use super::*;

    #[test]
    fn measures_something() {
        for isa in Isa::available().into_iter().filter(|isa| *isa != Isa::scalar()) {
            assert!(fma_peak(&Exec::new(isa, 2), 2) > 1e6);
        }
    }
}
