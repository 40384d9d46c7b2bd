use chalot_simd::Isa;

use super::{reference, *};
use crate::testing::{Random, bits};

#[test]
fn rows() {
    let mut random = Random(1);
    for (m, n) in [(1, 1), (3, 8), (2, 16), (5, 33), (1, 5000), (300, 67)] {
        for size in [0.0, 1.0, 30.0, 1e4] {
            let x: Vec<f32> = random.floats(m * n).iter().map(|x| x * size).collect();
            let expected: Vec<f32> = x.chunks_exact(n).flat_map(reference::softmax).collect();
            for (x, y) in x.chunks_exact(n).zip(expected.chunks_exact(n)) {
                let max = x.iter().copied().fold(f32::MIN, f32::max);
                let e = x.iter().map(|x| f64::from(x - max).exp());
                let sum: f64 = e.clone().sum();
                assert!(e.zip(y).all(|(e, y)| (e / sum - f64::from(*y)).abs() < 1e-6));
            }
            for isa in Isa::available() {
                for threads in [1, 3] {
                    let mut y = x.clone();
                    softmax_rows(&Exec::new(isa, threads), &mut y, n).unwrap();
                    assert!(bits(&y) == bits(&expected), "{m} x {n} on {}", isa.name());
                }
            }
        }
    }
}

#[test]
fn edges() {
    let exec = Exec::new(Isa::best(), 1);
    let inf = f32::INFINITY;
    let mut x = [1.0, -inf, 1.0, 3e38, -3e38, -3e38, inf, 0.0, 0.0, -inf, -inf, -inf, f32::NAN, 0.0, 0.0];
    softmax_rows(&exec, &mut x, 3).unwrap();
    assert_eq!(x[..6], [0.5, 0.0, 0.5, 1.0, 0.0, 0.0]);
    assert!(x[6..].chunks(3).all(|row| row.iter().any(|x| x.is_nan())));
    assert_eq!(softmax_rows(&exec, &mut x, 4).unwrap_err().what, "x");
    assert_eq!(softmax_rows(&exec, &mut x, 0).unwrap_err().what, "a row");
}
