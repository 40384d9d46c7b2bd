//! The products of a way back through ternary layers: as floats, and by [`gemm_integer`], measured in turn.
//!
//!     cargo bench -p chalot-tensor --bench gemm [-- [THREADS] [FILTER]]
use std::time::Instant;

use chalot_simd::Isa;
use chalot_tensor::gemm::{IntegerMatrix, View, Write, gemm_integer, gemm_parallel};
use chalot_tensor::{Exec, yardstick};

const ROUNDS: usize = 21;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let threads = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(2);
    let filter = args.iter().find(|arg| arg.parse::<usize>().is_err()).map_or("", |arg| arg);
    let exec = Exec::new(Isa::best(), threads);
    println!(
        "{threads} threads, GMAC/s, medians of {ROUNDS}: floats, integers, and the making of the integer factor (us)"
    );
    // What multiplies what, and whether the left factor is transposed: rows, columns, terms.
    for (name, transposed, m, n, k) in [
        ("dX", false, 2048, 256, 1408),
        ("dX", false, 2048, 704, 256),
        ("dX", false, 512, 256, 4096),
        ("dW", true, 256, 704, 2048),
        ("dW", true, 1408, 256, 2048),
        ("dW", true, 256, 256, 2048),
        ("dE", true, 4096, 256, 512),
        ("dX of an expert", false, 340, 192, 512),
        ("dW of an expert", true, 512, 192, 340),
    ] {
        if !name.contains(filter) {
            continue;
        }
        let numbers =
            |n: usize| (0..n).map(|i| ((i * 7919 + i / 3) % 1999) as f32 - 999.0).collect::<Vec<_>>();
        let (a, b) = (numbers(m * k), numbers(k * n).iter().map(|x| (x % 128.0).trunc()).collect::<Vec<_>>());
        let view = if transposed { View::new(&a, k, m, m)?.t() } else { View::new(&a, m, k, k)? };
        let mut c = vec![0.0; m * n];
        let mut integers = IntegerMatrix::default();
        let mut times = [const { Vec::new() }; 3];
        let mut peaks = Vec::new();
        for _ in 0..ROUNDS {
            peaks.extend(yardstick::dot_peak(&exec, 8 * threads).map(|peak| 1e-9 * peak / 2.0));
            let started = Instant::now();
            gemm_parallel(&exec, Write::Set, view, View::new(&b, k, n, n)?, &mut c)?;
            times[0].push(started.elapsed().as_secs_f64());
            let started = Instant::now();
            integers.fill(&exec, k, n, &|row, to| {
                to.copy_from_slice(&b[row * n..][..n]);
                1.0
            });
            times[1].push(started.elapsed().as_secs_f64());
            let started = Instant::now();
            gemm_integer(&exec, Write::Set, view, &integers, &mut c)?;
            times[2].push(started.elapsed().as_secs_f64());
        }
        let [float, fill, integer] = times.map(|mut times| {
            times.sort_unstable_by(f64::total_cmp);
            times[ROUNDS / 2]
        });
        peaks.sort_unstable_by(f64::total_cmp);
        let rate = |seconds: f64| (m * n * k) as f64 * 1e-9 / seconds;
        let (float, integer, peak) = (rate(float), rate(integer), peaks.get(ROUNDS / 2).unwrap_or(&f64::NAN));
        println!(
            "{name:<16} {m:>5} x {n:>4} x {k:>4}  {float:>5.0}  {integer:>5.0} of {peak:>5.0}  {:>6.0}",
            fill * 1e6
        );
    }
    Ok(())
}
