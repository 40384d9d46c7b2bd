use chalot_simd::Isa;

use super::{reference, *};
use crate::testing::{Random, bits};

const SHAPES: [(usize, usize); 8] =
    [(1, 1), (1, 15), (3, 16), (2, 17), (4, 100), (1, 2560), (2, 6912), (40, 577)];

fn execs() -> impl Iterator<Item = Exec> {
    Isa::available().into_iter().flat_map(|isa| [1, 3].map(|threads| Exec::new(isa, threads)))
}

fn near(x: &[f32], y: impl Iterator<Item = f64>) -> bool {
    x.iter().zip(y).all(|(x, y)| (f64::from(*x) - y).abs() <= 1e-5 * y.abs().max(1.0))
}

#[test]
fn rms() {
    let mut random = Random(1);
    for (m, n) in SHAPES {
        let (x, w) = (random.floats(m * n), random.floats(n));
        let expected: Vec<f32> = x.chunks_exact(n).flat_map(|x| reference::rms_norm(x, &w, 1e-5)).collect();
        for (x, y) in x.chunks_exact(n).zip(expected.chunks_exact(n)) {
            let square: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
            let rms = (square / n as f64 + 1e-5).sqrt();
            assert!(near(y, x.iter().zip(&w).map(|(x, w)| f64::from(*x) / rms * f64::from(*w))));
        }
        for exec in execs() {
            let mut y = vec![f32::NAN; m * n];
            rms_norm(&exec, &x, &w, 1e-5, &mut y).unwrap();
            assert!(bits(&y) == bits(&expected), "{m} x {n} {exec:?}");
            let mut y = x.clone();
            rms_norm_in_place(&exec, &mut y, &w, 1e-5).unwrap();
            assert!(bits(&y) == bits(&expected), "{m} x {n} {exec:?}");
        }
    }
}

#[test]
fn layer() {
    let mut random = Random(2);
    for (m, n) in SHAPES {
        let (mut x, w, b) = (random.floats(m * n), random.floats(n), random.floats(n));
        x.iter_mut().for_each(|x| *x += 3.0);
        for bias in [None, Some(&b[..])] {
            let rows = x.chunks_exact(n);
            let expected: Vec<f32> = rows.flat_map(|x| reference::layer_norm(x, &w, bias, 1e-5)).collect();
            for (x, y) in x.chunks_exact(n).zip(expected.chunks_exact(n)) {
                let mean = x.iter().map(|x| f64::from(*x)).sum::<f64>() / n as f64;
                let square: f64 = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum();
                let deviation = (square / n as f64 + 1e-5).sqrt();
                let exact = (0..n).map(|i| {
                    let normal = (f64::from(x[i]) - mean) / deviation;
                    normal * f64::from(w[i]) + bias.map_or(0.0, |b| f64::from(b[i]))
                });
                assert!(near(y, exact));
            }
            for exec in execs() {
                let mut y = vec![f32::NAN; m * n];
                layer_norm(&exec, &x, &w, bias, 1e-5, &mut y).unwrap();
                assert!(bits(&y) == bits(&expected), "{m} x {n} {exec:?}");
            }
        }
    }
}

/// Rows of equal numbers: of zeros, of the largest whose squares still fit.
#[test]
fn extremes() {
    let exec = Exec::new(Isa::best(), 1);
    for x in [0.0, 1e-30, 1e18] {
        let mut y = [f32::NAN; 40];
        rms_norm(&exec, &[x; 40], &[2.0; 40], 1e-6, &mut y).unwrap();
        assert!(y.iter().all(|y| y.is_finite()));
        layer_norm(&exec, &[x; 40], &[2.0; 40], Some(&[1.0; 40]), 1e-6, &mut y).unwrap();
        assert_eq!(y, [1.0; 40]);
    }
}

#[test]
fn wrong_shapes_are_errors() {
    let exec = Exec::new(Isa::best(), 1);
    let mut y = [0.0; 6];
    assert_eq!(rms_norm(&exec, &[0.0; 5], &[1.0; 3], 0.0, &mut y).unwrap_err().what, "x");
    assert_eq!(rms_norm(&exec, &[0.0; 6], &[], 0.0, &mut y).unwrap_err().what, "a row");
    assert_eq!(rms_norm(&exec, &[0.0; 3], &[1.0; 3], 0.0, &mut y).unwrap_err().what, "y");
    assert_eq!(rms_norm_in_place(&exec, &mut y, &[1.0; 4], 0.0).unwrap_err().what, "x");
    assert_eq!(
        layer_norm(&exec, &[0.0; 6], &[1.0; 3], Some(&[0.0; 2]), 0.0, &mut y).unwrap_err().what,
        "bias"
    );
}
