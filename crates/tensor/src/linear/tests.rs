use bytes::Bytes;
use chalot_simd::Isa;
use half::f16;

use super::{
    outputs::Outputs,
    product::{Piece, Product},
    *,
};
use crate::{
    activations::Order,
    elementwise::{self, Activation},
    matrix::{Format, MatrixSpec, Packing, ScaleBy, TILE_ROWS},
    norm::{rms_norm, rms_norm_for},
    testing::{Random, bits, formats, random_matrix},
};

/// The product of `w` with `m` tokens.
fn product(exec: &Exec, w: &Matrix, x: &[f32]) -> Vec<f32> {
    let m = x.len() / w.cols();
    let mut input = Activations::new();
    input.set(m, w.cols()).copy_from_slice(x);
    let mut y = vec![f32::NAN; m * w.rows()];
    matmul(exec, w, &mut input, &mut y).unwrap();
    y
}

fn reference(w: &Matrix, x: &[f32]) -> Vec<f32> {
    product(&Exec::new(Isa::scalar(), 1), w, x)
}

/// Every vector instruction set of this machine, with one and with three threads.
fn executors() -> Vec<Exec> {
    let isas = Isa::available().into_iter().filter(|&isa| isa != Isa::scalar());
    isas.flat_map(|isa| [Exec::new(isa, 1), Exec::new(isa, 3)]).collect()
}

fn assert_equal(exec: &Exec, w: &Matrix, x: &[f32], expected: &[f32]) {
    let found = product(exec, w, x);
    if bits(&found) != bits(expected) {
        let at = (0..found.len()).find(|&i| found[i].to_bits() != expected[i].to_bits()).unwrap();
        let (token, row) = (at / w.rows(), at % w.rows());
        let m = x.len() / w.cols();
        panic!(
            "{} with {m} tokens on {exec:?}: token {token}, row {row}: {} is not {}",
            w.spec(),
            found[at],
            expected[at]
        );
    }
}

#[test]
fn every_kernel_equals_the_reference() {
    let executors = executors();
    let mut random = Random(1);
    for format in formats() {
        for _ in 0..24 {
            let (rows, cols) = (1 + random.below(70) as usize, 1 + random.below(300) as usize);
            let m = 1 + random.below(40) as usize;
            let w = random_matrix(&mut random, format, rows, cols);
            let x = random.floats(m * cols);
            let expected = reference(&w, &x);
            executors.iter().for_each(|exec| assert_equal(exec, &w, &x, &expected));
        }
    }
}

#[test]
fn every_number_of_tokens_up_to_several_runs_of_tiles() {
    let executors = executors();
    let mut random = Random(2);
    for format in formats() {
        let w = random_matrix(&mut random, format, 83, 345);
        let x = random.floats(300 * 345);
        let expected = reference(&w, &x);
        for m in (1..=31).chain([95, 96, 97, 200, 300]) {
            for exec in &executors {
                assert_equal(exec, &w, &x[..m * 345], &expected[..m * 83]);
            }
        }
    }
}

#[test]
fn long_rows() {
    let executors = executors();
    let mut random = Random(3);
    for format in formats() {
        let w = random_matrix(&mut random, format, 17, 32768);
        for m in [1, 3, 14] {
            let x = random.floats(m * 32768);
            let expected = reference(&w, &x);
            executors.iter().for_each(|exec| assert_equal(exec, &w, &x, &expected));
        }
    }
}

/// All weights and activations at their extremes: no 16-bit or 32-bit sum may overflow.
#[test]
fn extremes() {
    let executors = executors();
    let integers = formats().into_iter().filter(|format| format.scale_by().is_some());
    for format in integers {
        // The longest row that is allowed, too.
        for (cols, m, bytes) in [
            (300, 1, &[0x00, 0x80, 0xFF, 0xAA, 0x55][..]),
            (300, 13, &[0x00, 0x80, 0xFF, 0xAA, 0x55]),
            (32768, 1, &[0x00, 0xFF]),
            (MatrixSpec::MAX_INTEGER_COLS, 1, &[0x00, 0xFF]),
        ] {
            let spec = MatrixSpec { format, rows: 2, cols };
            for &byte in bytes {
                let mut image = vec![byte; spec.image_len().unwrap()];
                let ones = &mut image[spec.scales()];
                match format {
                    Format::Int4 { .. } | Format::Int8(ScaleBy::Group(_)) => {
                        ones.as_chunks_mut::<2>().0.fill(f16::ONE.to_le_bytes())
                    }
                    _ => ones.as_chunks_mut::<4>().0.fill(1.0_f32.to_le_bytes()),
                }
                let w = Matrix::from_image(spec, Bytes::from(image)).unwrap();
                // Quantized, all become 127, or -127, or -128 (the code of NaN).
                for value in [1.0, -1.0, f32::NAN] {
                    let x = vec![value; m * cols];
                    let expected = reference(&w, &x);
                    executors.iter().for_each(|exec| assert_equal(exec, &w, &x, &expected));
                }
            }
        }
    }
}

#[test]
fn special_activations() {
    let executors = executors();
    let mut random = Random(4);
    for format in formats() {
        let w = random_matrix(&mut random, format, 33, 200);
        let specials =
            [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 1e-42, f32::MAX, 1e-31, 1e-29, 1e-6];
        for special in specials {
            for m in [1, 2, 20] {
                // Now and then, or nothing else.
                for often in [1, 100] {
                    let x: Vec<f32> = (0..m * 200)
                        .map(|_| if random.below(often) == 0 { special } else { random.float() })
                        .collect();
                    let expected = reference(&w, &x);
                    for exec in &executors {
                        let found = product(exec, &w, &x);
                        for (found, expected) in found.iter().zip(&expected) {
                            // Which NaN it is depends on the instructions.
                            assert!(
                                found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan()
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn tokens_are_independent_of_their_batch() {
    let mut random = Random(5);
    for format in formats() {
        let w = random_matrix(&mut random, format, 50, 100);
        let x = random.floats(37 * 100);
        for isa in Isa::available() {
            let exec = Exec::new(isa, 2);
            let whole = product(&exec, &w, &x);
            for part in [1, 2, 5, 13, 30] {
                let parts: Vec<f32> = x.chunks(part * 100).flat_map(|x| product(&exec, &w, x)).collect();
                assert_eq!(bits(&parts), bits(&whole));
            }
        }
    }
}

/// The reference itself, against plain arithmetic on dequantized numbers.
#[test]
fn the_reference_is_a_product() {
    let mut random = Random(6);
    for format in formats() {
        let (rows, cols, m) = (19, 150, 3);
        let w = random_matrix(&mut random, format, rows, cols);
        let x = random.floats(m * cols);
        let weights = w.to_f32();
        let found = reference(&w, &x);
        for token in 0..m {
            for row in 0..rows {
                let products =
                    (0..cols).map(|k| f64::from(weights[row * cols + k]) * f64::from(x[token * cols + k]));
                let (sum, magnitude) = products.fold((0.0, 0.0), |(s, a), p| (s + p, a + p.abs()));
                // Activations are rounded to 1 part in 254 of the greatest one, at worst each of them.
                let weight_sum: f64 = (0..cols).map(|k| f64::from(weights[row * cols + k].abs())).sum();
                let tolerance =
                    if format.scale_by().is_some() { weight_sum / 254.0 } else { 0.0 } + 1e-6 * magnitude;
                let error = (f64::from(found[token * rows + row]) - sum).abs();
                assert!(error <= tolerance, "{format}: {error} > {tolerance}");
            }
        }
    }
}

/// The arithmetic of BitNet b1.58, by hand.
#[test]
fn bitnet_by_hand() {
    for isa in Isa::available() {
        let exec = Exec::new(isa, 1);
        for packing in [Packing::Trit2, Packing::Trit5] {
            let codes = [1, 0, -1, 1, -1, -1, 0, 1];
            let w = Matrix::from_ternary(&exec, packing, 2, 4, &codes, ScaleBy::Tensor, &[0.5]).unwrap();
            // s = 127 / 2; q = round(31.75, -127, 15.875, 0.5 -> even) = 32, -127, 16, 0.
            let y = product(&exec, &w, &[0.5, -2.0, 0.25, 0.5 / 63.5]);
            let factor = 1.0 / (127.0 / 2.0_f32);
            assert_eq!(y, [16.0 * (0.5 * factor), 95.0 * (0.5 * factor)]);
        }
    }
}

#[test]
fn activations_are_kept_and_renewed() {
    let exec = Exec::new(Isa::best(), 1);
    let mut random = Random(7);
    let two = random_matrix(&mut random, "trit2/tensor".parse().unwrap(), 20, 64);
    let four = random_matrix(&mut random, "int4/32".parse().unwrap(), 20, 64);
    let float = random_matrix(&mut random, "f32".parse().unwrap(), 20, 64);
    let mut input = Activations::new();
    for m in [3, 1, 14, 2] {
        let x = random.floats(m * 64);
        input.set(m, 64).copy_from_slice(&x);
        for w in [&two, &four, &float, &two, &four] {
            let mut y = vec![0.0; m * 20];
            matmul(&exec, w, &mut input, &mut y).unwrap();
            assert_eq!(bits(&y), bits(&reference(w, &x)));
        }
    }
}

/// How work is cut decides no bit, whatever is asked for.
#[test]
fn any_tiling_gives_the_same_bits() {
    let mut random = Random(11);
    for format in formats() {
        let w = random_matrix(&mut random, format, 150, 330);
        let x = random.floats(130 * 330);
        for m in [1, 11, 12, 13, 17, 24, 25, 64, 65, 130] {
            let x = &x[..m * 330];
            let expected = reference(&w, x);
            for (direct_tokens, panel_token_tiles, task_bytes) in
                [(12, 16, 1024), (16, 1, 2048), (24, 3, 12 << 10), (0, 0, 0), (1 << 20, 1 << 20, 1 << 30)]
            {
                let tiling = Tiling::new(direct_tokens, panel_token_tiles, task_bytes);
                for exec in executors() {
                    assert_equal(&exec.with_tiling(tiling), &w, x, &expected);
                }
            }
        }
    }
}

/// Else the test above would compare a thing with itself.
#[test]
fn tilings_cut_as_they_say() {
    let w = random_matrix(&mut Random(12), Format::Trit2(ScaleBy::Tensor), 1024, 512);
    let split = |m, tiling| {
        product::Split::of(
            &Exec::new(Isa::scalar(), 2).with_tiling(tiling),
            &w,
            (m, Order::Quads),
            product::work(&w, m),
        )
    };
    let default = Tiling::default();
    assert_eq!(split(1, default).count(), 5); // 128 KiB
    assert_eq!(split(1, Tiling::new(12, 16, 64 << 10)).count(), 2);
    assert_eq!(split(16, default).piece(0).tokens, Some((Order::Quads, 0..3)));
    assert_eq!(split(16, Tiling::new(16, 16, 24 << 10)).piece(0).tokens, None);
    assert_eq!(split(96, default).piece(0).tokens, Some((Order::Quads, 0..16)));
    assert_eq!(split(96, Tiling::new(12, 4, 24 << 10)).piece(0).tokens, Some((Order::Quads, 0..4)));
}

/// The integers of a task's tokens are a megabyte at most, and at most sixteen tiles of them: all that its stack has room for.
#[test]
fn lines_are_cut_by_their_bytes() {
    for (cols, token_tiles) in [(64, 16), (4096, 16), (4160, 13), (6912, 8), (40_000, 2)] {
        let w = random_matrix(&mut Random(12), Format::Trit2(ScaleBy::Tensor), 64, cols);
        let exec = Exec::new(Isa::scalar(), 2);
        let split = product::Split::of(&exec, &w, (1024, Order::Lines), product::work(&w, 1024));
        let most = (0..split.count())
            .filter_map(|piece| split.piece(piece).tokens)
            .map(|(_, tiles)| tiles.len())
            .max();
        assert_eq!(most, Some(token_tiles), "{cols} columns");
    }
}

/// A task must not touch rows of another's, which may have been written already.
#[test]
fn tasks_write_their_own_rows_only() {
    let mut random = Random(9);
    let (rows, cols) = (7 * TILE_ROWS - 5, 130);
    for isa in Isa::available() {
        let Some(vectors) = Vectors::of(isa) else { continue };
        let exec = Exec::new(isa, 1).with_tiling(Tiling::default());
        for format in ["f16", "trit2/tensor", "trit5/row", "int8/row", "trit2/64", "int4/32"] {
            let w = random_matrix(&mut random, format.parse().unwrap(), rows, cols);
            for m in [1, 5, 9, 26] {
                let x = random.floats(m * cols);
                let expected = reference(&w, &x);
                let mut input = Activations::new();
                input.set(m, cols).copy_from_slice(&x);
                let order = Order::of(&exec, m, [&w]);
                input.make_for(&exec, &w, order).unwrap();
                let tokens = (m > order.direct_tokens(&exec)).then(|| (order, 0..order.tiles(m).len()));
                for tiles in [0..1, 0..3, 1..2, 4..7, 4..5, 6..7, 3..3] {
                    if tokens.is_some() && tiles.start % PANEL_TILES != 0 {
                        continue; // no task begins there
                    }
                    let mut y = vec![f32::NAN; m * rows];
                    let piece = Piece { tiles: tiles.clone(), tokens: tokens.clone() };
                    Product::new(&w, &input, Outputs::all(&mut y, rows), order).run(vectors, piece);
                    for (at, y) in y.iter().enumerate() {
                        let is_own = tiles.contains(&(at % rows / TILE_ROWS));
                        let expected = if is_own { expected[at] } else { f32::NAN };
                        assert!(
                            y.to_bits() == expected.to_bits(),
                            "{isa}, {format}, {m} tokens, tiles {tiles:?}, output {at}"
                        );
                    }
                }
            }
        }
    }
}

/// A gate of floats and an up projection of integers share their pieces, also where integers alone would be cut otherwise.
#[test]
fn a_gated_pair_may_be_of_two_kinds() {
    let mut random = Random(31);
    let (rows, cols, m) = (70, 130, 40);
    let gate = random_matrix(&mut random, Format::F16, rows, cols);
    let up = random_matrix(&mut random, Format::Trit2(ScaleBy::Tensor), rows, cols);
    let x = random.floats(m * cols);
    for exec in executors() {
        let mut input = Activations::new();
        input.set(m, cols).copy_from_slice(&x);
        let [mut y, mut expected] = [(); 2].map(|()| vec![f32::NAN; m * rows]);
        for (gate, up) in [(&gate, &up), (&up, &gate)] {
            let factors = [gate, up].map(|w| Factor { w, bias: None, kept: None });
            project_gated(&exec, Activation::Silu, &mut input, factors.into(), &mut y).unwrap();
            let (left, right) = (reference(gate, &x), reference(up, &x));
            elementwise::gated(&exec, Activation::Silu, &left, &right, &mut expected).unwrap();
            assert!(bits(&y) == bits(&expected), "{exec:?}");
        }
    }
}

#[test]
fn wrong_shapes_are_errors() {
    let exec = Exec::new(Isa::best(), 1);
    let w = Matrix::from_f32(&exec, Format::F32, 3, 4, &[0.0; 12]).unwrap();
    let mut x = Activations::new();
    x.set(2, 5).fill(0.0);
    let error = matmul(&exec, &w, &mut x, &mut [0.0; 6]).unwrap_err();
    assert_eq!((error.expected, error.found), (4, 5));
    x.set(2, 4).fill(0.0);
    let error = matmul(&exec, &w, &mut x, &mut [0.0; 5]).unwrap_err();
    assert_eq!((error.expected, error.found), (6, 5));
    x.set(0, 4);
    matmul(&exec, &w, &mut x, &mut []).unwrap();
}

#[test]
fn repacked_weights_give_the_same_bits() {
    let exec = Exec::new(Isa::best(), 2);
    let mut random = Random(8);
    for by in ["tensor", "row", "64", "128", "256"] {
        let codes: Vec<i8> = (0..40 * 300).map(|_| random.below(3) as i8 - 1).collect();
        let format: Format = format!("trit2/{by}").parse().unwrap();
        let scale_by = format.scale_by().unwrap();
        let count = match scale_by {
            ScaleBy::Tensor => 1,
            ScaleBy::Row => 40,
            ScaleBy::Group(group) => 40 * 300_usize.div_ceil(group),
        };
        let scales = random.floats(count);
        let two = Matrix::from_ternary(&exec, Packing::Trit2, 40, 300, &codes, scale_by, &scales).unwrap();
        let five = two.repack(&exec, Packing::Trit5).unwrap();
        for m in [1, 7, 40] {
            let x = random.floats(m * 300);
            assert_eq!(bits(&product(&exec, &two, &x)), bits(&product(&exec, &five, &x)));
        }
    }
}

fn to<'a>(w: &'a Matrix, bias: Option<&'a [f32]>, y: &'a mut [f32]) -> Projection<'a> {
    Projection { w, bias, y }
}

fn factor<'a>(w: &'a Matrix, bias: Option<&'a [f32]>, kept: Option<&'a mut Vec<f32>>) -> Factor<'a> {
    Factor { w, bias, kept: kept.map(Vec::as_mut_slice) }
}

/// Each fused form gives the bits of its parts.
#[test]
fn fused_products_equal_their_parts() {
    let mut random = Random(10);
    let cols = 130;
    // Formats that ask for different forms of the input, side by side.
    let formats = ["trit2/tensor", "int4m/32", "f16", "trit5/64", "int8/row"].map(|f| f.parse().unwrap());
    for (round, m) in [1, 2, 7, 13, 40, 110].into_iter().enumerate() {
        let format = |i: usize| formats[(round + i) % formats.len()];
        let x = random.floats(m * cols);
        let [a, b, c] =
            [(90, 0), (90, 1), (35, 2)].map(|(rows, i)| random_matrix(&mut random, format(i), rows, cols));
        let bias = random.floats(90);
        let plain = |w: &Matrix, bias: Option<&[f32]>| {
            let mut y = reference(w, &x);
            if let Some(bias) = bias {
                y.chunks_exact_mut(bias.len())
                    .for_each(|y| y.iter_mut().zip(bias).for_each(|(y, b)| *y += b));
            }
            y
        };
        let (ya, yb, yc) = (plain(&a, Some(&bias)), plain(&b, None), plain(&c, None));
        for exec in Isa::available().into_iter().flat_map(|isa| [Exec::new(isa, 1), Exec::new(isa, 3)]) {
            let mut input = Activations::new();
            input.set(m, cols).copy_from_slice(&x);
            let [mut pa, mut pb, mut pc] = [90, 90, 35].map(|rows| vec![f32::NAN; m * rows]);
            let projections =
                [to(&a, Some(&bias[..]), &mut pa), to(&b, None, &mut pb), to(&c, None, &mut pc)];
            project(&exec, &mut input, projections).unwrap();
            for (found, expected) in [(&pa, &ya), (&pb, &yb), (&pc, &yc)] {
                assert!(bits(found) == bits(expected), "project, {m} tokens, {exec:?}");
            }

            let mut gated = vec![f32::NAN; m * 90];
            let mut expected = gated.clone();
            elementwise::gated(&exec, Activation::Silu, &ya, &yb, &mut expected).unwrap();
            let factors = (factor(&a, Some(&bias[..]), None), factor(&b, None, None));
            project_gated(&exec, Activation::Silu, &mut input, factors, &mut gated).unwrap();
            assert!(bits(&gated) == bits(&expected), "project_gated, {m} tokens, {exec:?}");
        }
    }
}

/// What is there and the product, in this order, rounded once: for every kernel, and rows that end within a tile.
#[test]
fn products_are_added_to_what_is_there() {
    let mut random = Random(13);
    let (rows, cols) = (89, 130);
    for format in formats() {
        for m in [1, 3, 5, 13, 40, 110] {
            let w = random_matrix(&mut random, format, rows, cols);
            let (x, there) = (random.floats(m * cols), random.floats(m * rows));
            let product = reference(&w, &x);
            let expected: Vec<f32> = there.iter().zip(&product).map(|(there, y)| there + y).collect();
            for exec in executors().into_iter().chain([Exec::new(Isa::scalar(), 1)]) {
                let mut input = Activations::new();
                input.set(m, cols).copy_from_slice(&x);
                let mut found = there.clone();
                project_onto(&exec, &mut input, &w, &mut found).unwrap();
                assert!(bits(&found) == bits(&expected), "{format}, {m} tokens, {exec:?}");
            }
        }
    }
}

/// Factors may be kept or not, one or both; more outputs than are made at once, and rows that end within a tile.
#[test]
fn factors_are_kept_where_somebody_wants_them() {
    let mut random = Random(12);
    let (rows, cols) = (329, 70);
    for (format, m) in
        [("trit2/tensor", 300), ("trit5/64", 5), ("int4m/32", 230), ("int8/row", 40), ("f16", 300)]
    {
        let format = format.parse().unwrap();
        let x = random.floats(m * cols);
        let [gate, up] = [(); 2].map(|()| random_matrix(&mut random, format, rows, cols));
        let bias = random.floats(rows);
        let with_bias = |mut y: Vec<f32>| {
            y.chunks_exact_mut(rows).for_each(|y| y.iter_mut().zip(&bias).for_each(|(y, b)| *y += b));
            y
        };
        let (ya, yb) = (reference(&gate, &x), with_bias(reference(&up, &x)));
        for exec in Isa::available().into_iter().flat_map(|isa| [Exec::new(isa, 1), Exec::new(isa, 3)]) {
            let mut expected = vec![f32::NAN; m * rows];
            elementwise::gated(&exec, Activation::Silu, &ya, &yb, &mut expected).unwrap();
            let mut input = Activations::new();
            input.set(m, cols).copy_from_slice(&x);
            for kept in [[true, true], [true, false], [false, true], [false, false]] {
                let [mut a, mut b, mut y] = [(); 3].map(|()| vec![f32::NAN; m * rows]);
                let factors = (
                    factor(&gate, None, kept[0].then_some(&mut a)),
                    factor(&up, Some(&bias), kept[1].then_some(&mut b)),
                );
                project_gated(&exec, Activation::Silu, &mut input, factors, &mut y).unwrap();
                assert!(bits(&y) == bits(&expected), "{format}, {m} tokens, {exec:?}");
                for (found, factor, kept) in [(a, &ya, kept[0]), (b, &yb, kept[1])] {
                    let expected = if kept { bits(factor) } else { bits(&vec![f32::NAN; m * rows]) };
                    assert!(bits(&found) == expected, "{format}, {m} tokens, {exec:?}");
                }
            }
        }
    }
}

/// The norm that makes the 8-bit form in the same pass gives the bits of the two operations.
#[test]
fn norms_for_products_equal_their_parts() {
    let mut random = Random(11);
    for format in formats() {
        for m in [1, 5, 33, 300] {
            let cols = 200;
            let w = random_matrix(&mut random, format, 20, cols);
            let (x, weight) = (random.floats(m * cols), random.floats(cols));
            for exec in Isa::available().into_iter().map(|isa| Exec::new(isa, 2)) {
                let (mut fused, mut parts) = (Activations::new(), Activations::new());
                // Of another shape first, so that memory is dirty.
                rms_norm_for(&exec, &x[..cols], &weight, 1e-6, &mut fused, &[&w]).unwrap();
                rms_norm_for(&exec, &x, &weight, 1e-6, &mut fused, &[&w]).unwrap();
                rms_norm(&exec, &x, &weight, 1e-6, parts.set(m, cols)).unwrap();
                let [mut y, mut expected] = [(); 2].map(|()| vec![f32::NAN; m * 20]);
                matmul(&exec, &w, &mut fused, &mut y).unwrap();
                matmul(&exec, &w, &mut parts, &mut expected).unwrap();
                assert_eq!(bits(&y), bits(&expected), "{format}, {m} tokens, {exec:?}");
            }
        }
    }
}

#[test]
fn fused_products_of_wrong_shapes_are_errors() {
    let exec = Exec::new(Isa::best(), 1);
    let matrix = |rows| Matrix::from_f32(&exec, Format::F32, rows, 4, &vec![0.0; rows * 4]).unwrap();
    let (three, two) = (matrix(3), matrix(2));
    let mut x = Activations::new();
    x.set(2, 4).fill(0.0);
    let (mut a, mut y) = ([0.0; 6], [0.0; 6]);
    let bias = [0.0; 2];
    let error = project(&exec, &mut x, [Projection { w: &three, bias: Some(&bias), y: &mut a }]).unwrap_err();
    assert_eq!((error.what, error.expected, error.found), ("bias", 3, 2));
    let mut gated = |gate, up, y: &mut [f32]| {
        project_gated(&exec, Activation::Relu2, &mut x, (gate, up), y).unwrap_err().what
    };
    let plain = |w| factor(w, None, None);
    assert_eq!(gated(plain(&three), plain(&two), &mut y), "up: rows");
    assert_eq!(gated(plain(&three), plain(&three), &mut y[..5]), "y");
    assert_eq!(gated(plain(&three), factor(&three, Some(&bias), None), &mut y), "bias");
    let mut kept = vec![0.0; 5];
    assert_eq!(gated(factor(&three, None, Some(&mut kept)), plain(&three), &mut y), "a factor that is kept");
}
