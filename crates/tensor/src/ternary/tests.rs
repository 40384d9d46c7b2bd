use chalot_simd::Isa;

use super::*;
use crate::{
    matrix::{Format, ScaleBy},
    testing::{Random, bits, random_matrix},
};

fn exec() -> Exec {
    Exec::new(Isa::best(), 2)
}

#[test]
fn quantization_keeps_the_rule() {
    let mut random = Random(1);
    for len in [1, 2, 100, 4096] {
        let weights = random.floats(len);
        let (codes, scale) = quantize_f32_to_ternary(&weights);
        let mean = weights.iter().map(|w| f64::from(w.abs())).sum::<f64>() / len as f64;
        assert_eq!(scale, mean.max(1e-5) as f32);
        for (&code, w) in codes.iter().zip(&weights) {
            assert_eq!(f32::from(code), (w / scale).round_ties_even().clamp(-1.0, 1.0));
        }
        // The same as a matrix makes of them.
        let w = Matrix::from_f32(&exec(), Format::Trit2(ScaleBy::Tensor), 1, len, &weights).unwrap();
        let packed = pack_ternary(&exec(), Packing::Trit2, 1, len, &codes, scale).unwrap();
        assert_eq!(w.image(), packed.image());
    }
    assert_eq!(quantize_f32_to_ternary(&[]), (vec![], 1e-5));
    assert_eq!(quantize_f32_to_ternary(&[0.0; 3]), (vec![0; 3], 1e-5));
}

#[test]
fn packing_round_trips() {
    let mut random = Random(2);
    for (rows, cols) in [(1, 1), (16, 16), (17, 33), (40, 100)] {
        let codes: Vec<i8> = (0..rows * cols).map(|_| random.below(3) as i8 - 1).collect();
        for packing in [Packing::Trit2, Packing::Trit5] {
            let w = pack_ternary(&exec(), packing, rows, cols, &codes, 0.25).unwrap();
            assert_eq!(unpack_ternary(&w).unwrap(), codes);
        }
    }
}

/// Against sums written out, bit for bit.
#[test]
fn additions_alone() {
    let mut random = Random(3);
    for by in ["tensor", "row", "64", "128"] {
        for packing in ["trit2", "trit5"] {
            let (rows, cols, m) = (37, 150, 3);
            // Through a repacking, which has no codes but -1, 0 and 1.
            let w = random_matrix(&mut random, format!("{packing}/{by}").parse().unwrap(), rows, cols);
            let other = if packing == "trit2" { Packing::Trit5 } else { Packing::Trit2 };
            let w = w.repack(&exec(), other).unwrap();
            let x = random.floats(m * cols);
            let codes = unpack_ternary(&w).unwrap();
            let mut expected = Vec::new();
            for x in x.chunks(cols) {
                for (row, codes) in codes.chunks(cols).enumerate() {
                    let mut acc = 0.0_f32;
                    let group = w.format().group().unwrap_or(cols);
                    for (segment, (codes, x)) in codes.chunks(group).zip(x.chunks(group)).enumerate() {
                        let mut sum = 0.0;
                        for (code, x) in codes.iter().zip(x) {
                            match code {
                                1 => sum += x,
                                -1 => sum -= x,
                                _ => {}
                            }
                        }
                        acc = sum.mul_add(w.scale(row, segment), acc);
                    }
                    expected.push(acc);
                }
            }
            for threads in [1, 3] {
                let found = matmul_f32(&Exec::new(Isa::best(), threads), &x, &w).unwrap();
                assert_eq!(bits(&found), bits(&expected));
            }
        }
    }
}

#[test]
fn zero_weights_ignore_what_they_meet() {
    let w = pack_ternary(&exec(), Packing::Trit2, 1, 3, &[0, 1, 0], 1.0).unwrap();
    assert_eq!(matmul_f32(&exec(), &[f32::NAN, 2.0, f32::INFINITY], &w).unwrap(), [2.0]);
}

#[test]
fn both_products_agree_within_quantization() {
    let mut random = Random(4);
    let (rows, cols, m) = (33, 200, 5);
    let codes: Vec<i8> = (0..rows * cols).map(|_| random.below(3) as i8 - 1).collect();
    let w = pack_ternary(&exec(), Packing::Trit5, rows, cols, &codes, 0.5).unwrap();
    let x = random.floats(m * cols);
    let (y, z) = (matmul_ternary(&exec(), &x, &w).unwrap(), matmul_f32(&exec(), &x, &w).unwrap());
    // Each activation is off by at most half a step of 1/127, each weight counts 0.5 at most.
    assert!(y.iter().zip(&z).all(|(y, z)| (y - z).abs() < 0.5 * 200.0 / 254.0));
    assert!(y.iter().zip(&z).any(|(y, z)| y != z));
}

#[test]
fn wrong_arguments_are_errors() {
    let exec = exec();
    let float = Matrix::from_f32(&exec, Format::F32, 2, 3, &[0.0; 6]).unwrap();
    assert!(matches!(matmul_f32(&exec, &[0.0; 3], &float), Err(TernaryError::Matrix(_))));
    assert!(matches!(matmul_ternary(&exec, &[0.0; 3], &float), Err(TernaryError::Matrix(_))));
    assert!(unpack_ternary(&float).is_err());
    let w = pack_ternary(&exec, Packing::Trit2, 2, 3, &[0; 6], 1.0).unwrap();
    let error = matmul_f32(&exec, &[0.0; 4], &w).unwrap_err();
    assert_eq!(error.to_string(), "matmul_f32: x has 4 elements, expected 6");
    assert!(matmul_ternary(&exec, &[0.0; 4], &w).is_err());
    assert_eq!(matmul_f32(&exec, &[], &w).unwrap(), []);
    assert!(pack_ternary(&exec, Packing::Trit2, 2, 3, &[0; 5], 1.0).is_err());
    assert!(pack_ternary(&exec, Packing::Trit2, 1, 1, &[2], 1.0).is_err());
}
