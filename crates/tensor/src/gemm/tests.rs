use chalot_simd::Isa;

use super::*;
use crate::testing::Random;

#[test]
fn products_of_all_orientations_and_thread_counts() {
    let mut random = Random(7);
    for (m, n, k) in [(1, 1, 1), (5, 33, 7), (300, 17, 40), (64, 64, 64), (270, 600, 30), (3, 2, 0)] {
        let (a, b, old) = (random.floats(m * k), random.floats(k * n), random.floats(m * n));
        let transposed = |x: &[f32], rows: usize, cols: usize| -> Vec<f32> {
            (0..rows * cols).map(|i| x[i % rows * cols + i / rows]).collect()
        };
        let (at, bt) = (transposed(&a, m, k), transposed(&b, k, n));
        let exact = |i: usize, j: usize| -> f64 {
            (0..k).map(|l| f64::from(a[i * k + l]) * f64::from(b[l * n + j])).sum()
        };
        for isa in Isa::available() {
            for into in [Write::Set, Write::Add] {
                let views = [
                    (View::new(&a, m, k, k).unwrap(), View::new(&b, k, n, n).unwrap()),
                    (View::new(&at, k, m, m).unwrap().t(), View::new(&bt, n, k, k).unwrap().t()),
                ];
                for (a, b) in views {
                    let run = |threads| {
                        let mut c = old.clone();
                        gemm_parallel(&Exec::new(isa, threads), into, a, b, &mut c).unwrap();
                        c
                    };
                    let c = run(1);
                    for (at, c) in c.iter().enumerate() {
                        let start = if into == Write::Add { f64::from(old[at]) } else { 0.0 };
                        let expected = start + exact(at / n, at % n);
                        assert!((f64::from(*c) - expected).abs() < 1e-5 * (k as f64 + 1.0), "{m} {n} {k}");
                    }
                    assert_eq!(c, run(3));
                }
            }
        }
    }
}

/// Of more than a block each way, with rows and columns left over.
#[test]
fn columns_that_are_pages_apart() {
    let (m, n, k, stride) = (203, 5, 530, 1024);
    let mut random = Random(8);
    let (a, b, old) = (random.floats(k * stride), random.floats(k * n), random.floats(m * n));
    let (left, right) = (View::new(&a, k, m, stride).unwrap().t(), View::new(&b, k, n, n).unwrap());
    for isa in Isa::available() {
        for into in [Write::Set, Write::Add] {
            let mut c = old.clone();
            gemm(&Exec::new(isa, 1), into, left, right, &mut c, n).unwrap();
            for (at, c) in c.iter().enumerate() {
                let start = if into == Write::Add { f64::from(old[at]) } else { 0.0 };
                let terms = (0..k).map(|l| f64::from(a[l * stride + at / n]) * f64::from(b[l * n + at % n]));
                assert!((f64::from(*c) - start - terms.sum::<f64>()).abs() < 1e-5 * k as f64, "{at}");
            }
        }
    }
}

#[test]
fn shapes_that_do_not_fit() {
    let exec = Exec::new(Isa::best(), 1);
    let x = [0.0; 12];
    let view = |rows, cols| View::new(&x, rows, cols, cols).unwrap();
    assert!(View::new(&x, 4, 4, 4).is_err());
    assert!(View::new(&x, 3, 4, 3).is_err());
    assert!(gemm(&exec, Write::Set, view(3, 4), view(3, 4), &mut [0.0; 16], 4).is_err());
    assert!(gemm(&exec, Write::Set, view(3, 4), view(4, 3), &mut [0.0; 8], 3).is_err());
    assert!(gemm_parallel(&exec, Write::Set, view(3, 4), view(4, 3), &mut [0.0; 8]).is_err());
    gemm(&exec, Write::Set, view(3, 4), view(4, 3), &mut [0.0; 9], 3).unwrap();
}
