use chalot_simd::Isa;
use proptest::prelude::*;

use super::*;
use crate::{
    exec::Exec,
    testing::{Random, formats, random_matrix},
};

fn exec(threads: usize) -> Exec {
    Exec::new(Isa::scalar(), threads)
}

fn granularities() -> impl Strategy<Value = ScaleBy> {
    prop_oneof![
        Just(ScaleBy::Tensor),
        Just(ScaleBy::Row),
        Just(ScaleBy::Group(64)),
        Just(ScaleBy::Group(128)),
        Just(ScaleBy::Group(256)),
    ]
}

fn segment_of(by: ScaleBy, row: usize, col: usize, cols: usize) -> usize {
    match by {
        ScaleBy::Tensor => 0,
        ScaleBy::Row => row,
        ScaleBy::Group(g) => row * cols.div_ceil(g) + col / g,
    }
}

fn scale_count(by: ScaleBy, rows: usize, cols: usize) -> usize {
    segment_of(by, rows - 1, cols - 1, cols) + 1
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ternary_survives_packing_and_repacking(
        rows in 1..40_usize, cols in 1..600_usize, by in granularities(), seed in 1..u64::MAX, threads in 1..4_usize,
    ) {
        let mut random = Random(seed);
        let codes: Vec<i8> = (0..rows * cols).map(|_| random.below(3) as i8 - 1).collect();
        let scales: Vec<f32> = (0..scale_count(by, rows, cols)).map(|_| random.float()).collect();
        let expected: Vec<f32> = (0..rows * cols)
            .map(|i| scales[segment_of(by, i / cols, i % cols, cols)] * f32::from(codes[i]))
            .collect();
        let exec = exec(threads);
        let two = Matrix::from_ternary(&exec, Packing::Trit2, rows, cols, &codes, by, &scales).unwrap();
        prop_assert_eq!(two.to_f32(), expected);
        let five = Matrix::from_ternary(&exec, Packing::Trit5, rows, cols, &codes, by, &scales).unwrap();
        prop_assert_eq!(five.to_f32(), two.to_f32());
        let repacked = two.repack(&exec, Packing::Trit5).unwrap();
        prop_assert_eq!(repacked.image(), five.image());
        let back = repacked.repack(&exec, Packing::Trit2).unwrap();
        prop_assert_eq!(back.image(), two.image());
    }

    #[test]
    fn integers_survive_packing(rows in 1..40_usize, cols in 1..200_usize, seed in 1..u64::MAX) {
        let mut random = Random(seed);
        let exec = exec(2);
        let groups = cols.div_ceil(32);
        // Exact in f16.
        let mut numbers = |n: usize| -> Vec<f32> { (0..n).map(|_| random.below(2000) as f32 / 64.0).collect() };
        let (by_row, by_group, mins) = (numbers(rows), numbers(rows * groups), numbers(rows * groups));
        let codes: Vec<i8> = (0..rows * cols).map(|_| random.next() as i8).collect();
        let nibbles: Vec<u8> = codes.iter().map(|&code| code as u8 & 15).collect();
        let expect = |f: &dyn Fn(usize, usize) -> f32| -> Vec<f32> {
            (0..rows * cols).map(|i| f(i, i / cols * groups + i % cols / 32)).collect()
        };

        let m = Matrix::from_int8(&exec, rows, cols, &codes, ScaleBy::Row, &by_row).unwrap();
        prop_assert_eq!(m.to_f32(), expect(&|i, _| by_row[i / cols] * f32::from(codes[i])));
        let m = Matrix::from_int8(&exec, rows, cols, &codes, ScaleBy::Group(32), &by_group).unwrap();
        prop_assert_eq!(m.to_f32(), expect(&|i, g| by_group[g] * f32::from(codes[i])));
        let m = Matrix::from_int4(&exec, rows, cols, &nibbles, &by_group, None).unwrap();
        prop_assert_eq!(m.to_f32(), expect(&|i, g| by_group[g] * (f32::from(nibbles[i]) - 8.0)));
        let m = Matrix::from_int4(&exec, rows, cols, &nibbles, &by_group, Some(&mins)).unwrap();
        prop_assert_eq!(m.to_f32(), expect(&|i, g| by_group[g] * f32::from(nibbles[i]) + mins[g]));
    }

    #[test]
    fn floats_survive_packing(rows in 1..40_usize, cols in 1..100_usize, seed in 1..u64::MAX) {
        let mut random = Random(seed);
        let exec = exec(2);
        let data: Vec<f32> = (0..rows * cols).map(|_| random.float()).collect();
        prop_assert_eq!(&Matrix::from_f32(&exec, Format::F32, rows, cols, &data).unwrap().to_f32(), &data);
        let halves: Vec<u16> = data.iter().map(|&x| f16::from_f32(x).to_bits()).collect();
        let m = Matrix::from_f16_bits(&exec, rows, cols, &halves).unwrap();
        prop_assert_eq!(m.to_f32(), halves.iter().map(|&h| f16::from_bits(h).to_f32()).collect::<Vec<_>>());
        prop_assert_eq!(m.image().clone(), Matrix::from_f32(&exec, Format::F16, rows, cols, &data).unwrap().image().clone());
        let brains: Vec<u16> = data.iter().map(|&x| bf16::from_f32(x).to_bits()).collect();
        let m = Matrix::from_bf16_bits(&exec, rows, cols, &brains).unwrap();
        prop_assert_eq!(m.to_f32(), brains.iter().map(|&h| bf16::from_bits(h).to_f32()).collect::<Vec<_>>());
        prop_assert_eq!(m.image().clone(), Matrix::from_f32(&exec, Format::Bf16, rows, cols, &data).unwrap().image().clone());
    }

    #[test]
    fn quantization_errs_by_at_most_a_step(rows in 1..20_usize, cols in 1..150_usize, seed in 1..u64::MAX) {
        let mut random = Random(seed);
        let exec = exec(2);
        let data: Vec<f32> = (0..rows * cols).map(|_| random.float()).collect();
        // Values span [-1, 1]. Half a step, a whole one where the positive end of int4 is clamped, and f16's rounding.
        for (format, step) in [("int8/row", 0.0040), ("int8/32", 0.0045), ("int4/32", 0.126), ("int4m/32", 0.068)] {
            let m = Matrix::from_f32(&exec, format.parse().unwrap(), rows, cols, &data).unwrap();
            for (x, y) in data.iter().zip(m.to_f32()) {
                prop_assert!((x - y).abs() <= step, "{}: {} became {}", format, x, y);
            }
        }
    }

    #[test]
    fn any_bytes_of_the_right_length_are_a_matrix(rows in 1..40_usize, cols in 1..300_usize, seed in 1..u64::MAX) {
        let mut random = Random(seed);
        for format in ["f32", "f16", "bf16", "int8/row", "int8/32", "int4/32", "int4m/32", "trit2/tensor", "trit2/64",
                       "trit5/row", "trit5/128"] {
            let spec = MatrixSpec { format: format.parse().unwrap(), rows, cols };
            let len = spec.image_len().unwrap();
            let bytes: Vec<u8> = (0..len + 1).map(|_| random.next() as u8).collect();
            let bytes = Bytes::from(bytes);
            for wrong in [0, 1, len - 1, len + 1] {
                let error = Matrix::from_image(spec, bytes.slice(..wrong)).unwrap_err();
                prop_assert_eq!(error, MatrixError::Length { what: "image", expected: len, found: wrong });
            }
            let m = Matrix::from_image(spec, bytes.slice(1..)).unwrap(); // misaligned, so copied
            prop_assert_eq!(m.image(), &bytes.slice(1..));
            prop_assert_eq!(m.to_f32().len(), rows * cols);
            if spec.format.packing().is_some() {
                m.repack(&exec(1), Packing::Trit2).unwrap();
                m.repack(&exec(1), Packing::Trit5).unwrap();
            }
        }
    }
}

#[test]
fn an_aligned_image_is_not_copied() {
    let m = Matrix::from_f32(&exec(1), Format::F32, 3, 3, &[1.0; 9]).unwrap();
    let again = Matrix::from_image(*m.spec(), m.image().clone()).unwrap();
    assert_eq!(again.image().as_ptr(), m.image().as_ptr());
}

#[test]
fn packing_is_the_same_for_any_number_of_threads() {
    let mut random = Random(7);
    let data: Vec<f32> = (0..333 * 257).map(|_| random.float()).collect();
    for format in ["trit2/tensor", "trit5/row", "trit2/64", "int8/row", "int4m/32", "bf16"] {
        let make =
            |threads| Matrix::from_f32(&exec(threads), format.parse().unwrap(), 333, 257, &data).unwrap();
        assert_eq!(make(1).image(), make(4).image());
    }
}

#[test]
fn absmean_quantization_by_hand() {
    // Mean magnitudes: row 0: 1, row 1: 0.4; tensor: 0.7.
    let data = [0.5, -1.5, 1.0, -1.0, 0.6, -0.2, 0.2, 0.6];
    let make =
        |format: &str| Matrix::from_f32(&exec(1), format.parse().unwrap(), 2, 4, &data).unwrap().to_f32();
    assert_eq!(make("trit2/row"), [0.0, -1.0, 1.0, -1.0, 0.4, -0.0, 0.0, 0.4]);
    assert_eq!(make("trit5/tensor"), [0.7, -0.7, 0.7, -0.7, 0.7, -0.0, 0.0, 0.7]);
}

#[test]
fn wrong_arguments_are_named() {
    let exec = exec(1);
    let text = |result: Result<Matrix, MatrixError>| result.unwrap_err().to_string();
    let ternary = |codes: &[i8], by, scales: &[f32]| {
        Matrix::from_ternary(&exec, Packing::Trit2, 2, 3, codes, by, scales)
    };
    assert_eq!(text(ternary(&[0; 5], ScaleBy::Row, &[1.0; 2])), "codes: found 5 elements, expected 6");
    assert_eq!(text(ternary(&[0; 6], ScaleBy::Row, &[1.0; 3])), "scales: found 3 elements, expected 2");
    assert_eq!(
        text(ternary(&[0, 0, 0, 1, -2, 7], ScaleBy::Tensor, &[1.0])),
        "row 1, column 1: code -2 is outside -1..=1"
    );
    assert_eq!(
        text(ternary(&[0; 6], ScaleBy::Group(32), &[1.0])),
        "trit2/32 does not exist; ternary formats have scales by `tensor`, `row`, `64`, `128` or `256`"
    );
    assert_eq!(
        text(Matrix::from_int4(&exec, 1, 2, &[3, 16], &[1.0], None)),
        "row 0, column 1: code 16 is outside 0..=15"
    );
    assert_eq!(
        text(Matrix::from_int4(&exec, 1, 2, &[3, 6], &[1.0], Some(&[]))),
        "minima: found 0 elements, expected 1"
    );
    assert_eq!(
        text(Matrix::from_f32(&exec, Format::Int8(ScaleBy::Row), 2, 1, &[1.0, f32::NAN])),
        "row 1, column 0: NaN cannot be quantized to int8/row"
    );
    assert_eq!(
        text(Matrix::from_int8(&exec, 1, 1, &[3], ScaleBy::Tensor, &[1.0])),
        "int8/tensor does not exist; int8 has scales by `row` or `32`"
    );
    let floats = Matrix::from_f32(&exec, Format::F16, 1, 1, &[1.0]).unwrap();
    assert_eq!(
        text(floats.repack(&exec, Packing::Trit2)),
        "only a ternary matrix can be repacked, this one is f16"
    );
    assert!(floats.row(1, &mut [0.0]).is_err());
    assert!(floats.row(0, &mut [0.0; 2]).is_err());
    assert!(matches!(
        Matrix::from_f32(&exec, Format::F32, usize::MAX, 2, &[]),
        Err(MatrixError::TooLarge { .. })
    ));
}

/// Rows in any order and more than once, enough of them for several threads; what is not there is said before anything is written.
#[test]
fn gathered_rows_are_rows() {
    let (rows, cols) = (50, 700);
    let mut random = Random(17);
    for format in formats() {
        let w = random_matrix(&mut random, format, rows, cols);
        let chosen: Vec<u32> = (0..70).map(|_| random.below(rows as u32)).collect();
        let mut expected = vec![f32::NAN; chosen.len() * cols];
        for (&row, out) in chosen.iter().zip(expected.chunks_exact_mut(cols)) {
            w.row(row as usize, out).unwrap();
        }
        for threads in [1, 3] {
            let exec = Exec::new(Isa::best(), threads);
            let mut found = vec![f32::NAN; chosen.len() * cols];
            w.gather(&exec, &chosen, &mut found).unwrap();
            assert_eq!(found, expected, "{format}");
            let mut out = vec![0.5; 2 * cols];
            let error = w.gather(&exec, &[3, rows as u32], &mut out).unwrap_err();
            assert_eq!((error.expected, error.found), (rows, rows));
            assert!(w.gather(&exec, &[3], &mut out).is_err() && out.iter().all(|&x| x == 0.5));
            w.gather(&exec, &[], &mut []).unwrap();
        }
    }
}
