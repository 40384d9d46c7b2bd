use chalot_simd::Isa;

use super::{reference, *};
use crate::testing::{Random, bits};

/// Lengths with and without whole vectors, and one that is split over the threads.
const LENGTHS: [usize; 7] = [0, 1, 15, 16, 33, 100, 40_003];
const ACTIVATIONS: [Activation; 4] =
    [Activation::Silu, Activation::GeluTanh, Activation::GeluErf, Activation::Relu2];

fn execs() -> impl Iterator<Item = Exec> {
    Isa::available().into_iter().flat_map(|isa| [1, 3].map(|threads| Exec::new(isa, threads)))
}

/// Numbers of all sizes that activations see, the largest included.
fn numbers(random: &mut Random, n: usize) -> Vec<f32> {
    (0..n).map(|i| random.float() * [0.1, 1.0, 10.0, 1e4, 1e38][i % 5]).collect()
}

#[test]
fn sums_and_scales() {
    let mut random = Random(1);
    for n in LENGTHS {
        let (x, y) = (numbers(&mut random, n), numbers(&mut random, n));
        for exec in execs() {
            let mut z = x.clone();
            add_assign(&exec, &mut z, &y).unwrap();
            assert_eq!(bits(&z), x.iter().zip(&y).map(|(x, y)| (x + y).to_bits()).collect::<Vec<_>>());
            scale_assign(&exec, &mut z, 0.37);
            assert_eq!(
                bits(&z),
                x.iter().zip(&y).map(|(x, y)| ((x + y) * 0.37).to_bits()).collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn bias() {
    let mut random = Random(2);
    for (m, n) in [(1, 1), (3, 17), (5, 64), (700, 77)] {
        let (x, b) = (random.floats(m * n), random.floats(n));
        for exec in execs() {
            let mut y = x.clone();
            add_bias(&exec, &mut y, &b).unwrap();
            let expected: Vec<u32> = x.iter().enumerate().map(|(i, x)| (x + b[i % n]).to_bits()).collect();
            assert_eq!(bits(&y), expected);
        }
    }
}

#[test]
fn activations() {
    let mut random = Random(3);
    for n in LENGTHS {
        let (gate, up) = (numbers(&mut random, n), random.floats(n));
        for act in ACTIVATIONS {
            let expected: Vec<f32> = gate.iter().map(|x| reference::activation(act, *x)).collect();
            let products: Vec<f32> = expected.iter().zip(&up).map(|(a, u)| a * u).collect();
            for exec in execs() {
                let mut y = gate.clone();
                activate(&exec, act, &mut y);
                assert!(bits(&y) == bits(&expected), "{act:?} {exec:?}");
                gated(&exec, act, &gate, &up, &mut y).unwrap();
                assert!(bits(&y) == bits(&products), "{act:?} {exec:?}");
            }
        }
    }
}

#[test]
fn soft_caps() {
    let mut random = Random(4);
    for n in LENGTHS {
        let x = numbers(&mut random, n);
        for cap in [1.0, 30.0, 50.0] {
            let expected: Vec<f32> = x.iter().map(|x| reference::soft_cap(*x, cap)).collect();
            assert!(expected.iter().all(|y| y.abs() <= cap));
            for exec in execs() {
                let mut y = x.clone();
                soft_cap(&exec, &mut y, cap);
                assert!(bits(&y) == bits(&expected), "{exec:?}");
            }
        }
    }
}

#[test]
fn relu2_keeps_nan() {
    let exec = Exec::new(Isa::best(), 1);
    let mut x = [f32::NAN, -3.0, -0.0, 3.0, f32::INFINITY];
    activate(&exec, Activation::Relu2, &mut x);
    assert!(x[0].is_nan());
    assert_eq!(x[1..], [0.0, 0.0, 9.0, f32::INFINITY]);
}

#[test]
fn wrong_shapes_are_errors() {
    let exec = Exec::new(Isa::best(), 1);
    assert_eq!(add_assign(&exec, &mut [0.0; 3], &[0.0; 2]).unwrap_err().what, "y");
    assert_eq!(add_bias(&exec, &mut [0.0; 3], &[0.0; 2]).unwrap_err().what, "x");
    assert_eq!(add_bias(&exec, &mut [0.0; 3], &[]).unwrap_err().what, "a row");
    assert_eq!(gated(&exec, Activation::Silu, &[0.0; 3], &[0.0; 2], &mut [0.0; 3]).unwrap_err().what, "up");
    assert_eq!(gated(&exec, Activation::Silu, &[0.0; 3], &[0.0; 3], &mut [0.0; 2]).unwrap_err().what, "y");
}
