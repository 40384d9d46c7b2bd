use chalot_simd::Isa;

use super::{reference, *};
use crate::testing::{Random, bits};

const LLAMA3: RopeScaling =
    RopeScaling::Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, original_context: 8192 };

#[test]
fn every_isa_and_split_equals_the_reference() {
    let mut random = Random(1);
    for (heads, head_dim, dims) in [(1, 2, 2), (3, 20, 20), (2, 64, 64), (5, 128, 128), (2, 80, 32)] {
        let table = RopeTable::new(dims, 10_000.0, &RopeScaling::None, 3000).unwrap();
        for (m, first) in [(1, 0), (7, 1020), (300, 2100)] {
            let x = random.floats(m * heads * head_dim);
            for style in [RopeStyle::Neox, RopeStyle::Interleaved] {
                let expected: Vec<f32> = x
                    .chunks_exact(heads * head_dim)
                    .enumerate()
                    .flat_map(|(i, x)| reference::rope(&table, style, x, head_dim, first + i))
                    .collect();
                for isa in Isa::available() {
                    for threads in [1, 3] {
                        let exec = Exec::new(isa, threads);
                        let mut y = x.clone();
                        rope(&exec, &table, style, &mut y, heads, head_dim, first).unwrap();
                        assert!(bits(&y) == bits(&expected), "{style:?} {exec:?}");
                    }
                }
            }
        }
    }
}

/// Lengths are kept, and a score depends on the distance only.
#[test]
fn rotations() {
    let exec = Exec::new(Isa::best(), 1);
    let mut random = Random(2);
    let table = RopeTable::new(16, 500_000.0, &RopeScaling::None, 100).unwrap();
    let (q, k) = (random.floats(16), random.floats(16));
    let score = |a: usize, b: usize| -> f32 {
        let (mut q, mut k) = (q.clone(), k.clone());
        rope(&exec, &table, RopeStyle::Neox, &mut q, 1, 16, a).unwrap();
        rope(&exec, &table, RopeStyle::Neox, &mut k, 1, 16, b).unwrap();
        q.iter().zip(&k).map(|(q, k)| q * k).sum()
    };
    assert!((score(13, 10) - score(83, 80)).abs() < 1e-4);
    assert!((score(13, 10) - score(10, 13)).abs() > 1e-3);
}

#[test]
fn frequencies() {
    // As published for theta 10000 and 8 dims: 10000^(-i/4).
    let plain = RopeTable::new(8, 10_000.0, &RopeScaling::None, 1).unwrap();
    assert_eq!(plain.frequencies(), [1.0, 0.1, 0.01, 0.001]);
    let linear = RopeTable::new(8, 10_000.0, &RopeScaling::Linear { factor: 4.0 }, 1).unwrap();
    assert_eq!(linear.frequencies(), [0.25, 0.025, 0.0025, 0.000_25]);
    let factors = RopeScaling::Factors(vec![1.0, 2.0, 4.0, 8.0]);
    let factors = RopeTable::new(8, 10_000.0, &factors, 1).unwrap();
    assert_eq!(factors.frequencies(), [1.0, 0.05, 0.0025, 0.000_125]);

    // Llama 3.1 (128 dims, theta 500000): short waves kept, long ones divided by 8, blended between. The
    // blended frequency worked out by hand: pair 30 has f = 500000^(-60/128) = 0.0021311, wavelength 2948.3,
    // so smooth = (8192/2948.3 - 1)/3 = 0.59285 and f' = 0.40715 f/8 + 0.59285 f = 0.0013719.
    let plain = RopeTable::new(128, 500_000.0, &RopeScaling::None, 1).unwrap();
    let llama3 = RopeTable::new(128, 500_000.0, &LLAMA3, 1).unwrap();
    let (plain, llama3) = (plain.frequencies(), llama3.frequencies());
    assert_eq!(plain[..28], llama3[..28]);
    assert!((llama3[30] / 0.001_371_9 - 1.0).abs() < 1e-4, "{}", llama3[30]);
    assert!((36..64).all(|i| llama3[i] == plain[i] / 8.0));
}

#[test]
fn the_table() {
    let table = RopeTable::new(64, 10_000.0, &RopeScaling::None, 1 << 24).unwrap();
    for position in [0, 1, 1023, 1024, 100_000, (1 << 24) - 1] {
        let (cos, sin) = table.row(position);
        for ((f, c), s) in table.frequencies().iter().zip(cos).zip(sin) {
            let angle = f64::from(position as f32 * f);
            assert!((f64::from(*c) - angle.cos()).abs() < 1e-7 && (f64::from(*s) - angle.sin()).abs() < 1e-7);
        }
    }
}

#[test]
fn wrong_parameters_are_errors() {
    let new = |dims, theta, scaling: &RopeScaling, positions| RopeTable::new(dims, theta, scaling, positions);
    assert_eq!(new(7, 1e4, &RopeScaling::None, 9).unwrap_err(), RopeError::Dims(7));
    assert_eq!(new(0, 1e4, &RopeScaling::None, 9).unwrap_err(), RopeError::Dims(0));
    assert_eq!(new(8, 0.0, &RopeScaling::None, 9).unwrap_err(), RopeError::Theta(0.0));
    assert!(new(8, f64::NAN, &RopeScaling::None, 9).is_err());
    let positions = (1 << 24) + 1;
    assert_eq!(new(8, 1e4, &RopeScaling::None, positions).unwrap_err(), RopeError::Positions(positions));
    assert!(new(8, 1e4, &RopeScaling::Linear { factor: 0.0 }, 9).is_err());
    assert!(new(8, 1e4, &RopeScaling::Factors(vec![1.0; 3]), 9).is_err());
    assert!(new(8, 1e4, &RopeScaling::Factors(vec![1.0, 1.0, f32::NAN, 1.0]), 9).is_err());

    let exec = Exec::new(Isa::best(), 1);
    let table = new(8, 1e4, &RopeScaling::None, 9).unwrap();
    let mut x = [0.0; 24];
    let mut what = |heads, head_dim, first| {
        rope(&exec, &table, RopeStyle::Neox, &mut x, heads, head_dim, first).unwrap_err().what
    };
    assert_eq!(what(1, 16, 0), "x");
    assert_eq!(what(2, 4, 0), "a head");
    assert_eq!(what(1, 8, 7), "the table");
    assert_eq!(what(1, 8, usize::MAX), "the table");
}
