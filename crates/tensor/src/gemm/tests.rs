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

/// Both orientations, edges of every kind: near the exact product, the same bits everywhere.
#[test]
fn products_with_integers() {
    let mut random = Random(9);
    for (m, n, k) in
        [(1, 1, 1), (5, 33, 7), (300, 17, 40), (16, 48, 256), (37, 64, 601), (150, 5, 257), (3, 2, 0)]
    {
        let (a, old) = (random.floats(m * k), random.floats(m * n));
        let transposed: Vec<f32> = (0..m * k).map(|i| a[i % m * k + i / m]).collect();
        let integers: Vec<f32> = (0..k * n).map(|_| random.below(256) as f32 - 128.0).collect();
        let factors: Vec<f32> = (0..k).map(|_| random.float() / 128.0).collect();
        let term = |i: usize, j: usize, l: usize| {
            f64::from(a[i * k + l]) * f64::from(factors[l]) * f64::from(integers[l * n + j])
        };
        for into in [Write::Set, Write::Add] {
            let mut bits: Option<Vec<f32>> = None;
            for isa in Isa::available() {
                for threads in [1, 3] {
                    let exec = Exec::new(isa, threads);
                    let mut b = IntegerMatrix::default();
                    // In memory that held something else.
                    b.fill(&exec, k + 3, n, &|_, out| {
                        out.fill(77.0);
                        1.0
                    });
                    b.fill(&exec, k, n, &|row, out| {
                        out.copy_from_slice(&integers[row * n..][..n]);
                        factors[row]
                    });
                    for view in
                        [View::new(&a, m, k, k).unwrap(), View::new(&transposed, k, m, m).unwrap().t()]
                    {
                        let mut c = old.clone();
                        gemm_integer(&exec, into, view, &b, &mut c).unwrap();
                        let first = bits.get_or_insert_with(|| c.clone());
                        assert!(*first == c, "{isa} {threads} {m} {n} {k}");
                    }
                }
            }
            for (at, c) in bits.unwrap().iter().enumerate() {
                let start = if into == Write::Add { f64::from(old[at]) } else { 0.0 };
                let expected = start + (0..k).map(|l| term(at / n, at % n, l)).sum::<f64>();
                // Each term is off by at most half a step of its row's numbers, times 128.
                let bound = (k as f64).sqrt() * 4.0 / 65534.0 + 1e-6;
                assert!((f64::from(*c) - expected).abs() < bound, "{c} {expected}: {m} {n} {k}");
            }
        }
    }
}

#[test]
fn rows_of_zeros_and_of_what_is_not_finite() {
    let exec = Exec::new(Isa::best(), 1);
    let mut b = IntegerMatrix::default();
    b.fill(&exec, 3, 1, &|_, out| {
        out.fill(1.0);
        1.0
    });
    for (bad, transposed) in
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY].into_iter().flat_map(|x| [(x, false), (x, true)])
    {
        let rows = [0.0, 0.0, 0.0, 1.0, bad, 1.0, 1.0, 0.0, -0.5];
        let columns = std::array::from_fn::<f32, 9, _>(|i| rows[i % 3 * 3 + i / 3]);
        let a = if transposed {
            View::new(&columns, 3, 3, 3).unwrap().t()
        } else {
            View::new(&rows, 3, 3, 3).unwrap()
        };
        let mut c = [7.0; 3];
        gemm_integer(&exec, Write::Set, a, &b, &mut c).unwrap();
        assert!(c[0] == 0.0 && c[1].is_nan() && (c[2] - 0.5).abs() < 1e-4, "{c:?}");
    }
    assert!(
        gemm_integer(&exec, Write::Set, View::new(&[0.0; 4], 2, 2, 2).unwrap(), &b, &mut [0.0; 2]).is_err()
    );
}
