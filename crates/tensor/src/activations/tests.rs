use chalot_simd::Isa;

use super::*;
use crate::{
    matmul,
    matrix::MatrixSpec,
    testing::{Random, formats, random_matrix},
};

#[test]
fn tiles_are_equal_and_complete() {
    for m in 0..200 {
        let tiles: Vec<_> = token_tiles(m).collect();
        assert_eq!(tiles.len(), m.div_ceil(MAX_TOKENS));
        assert_eq!(tiles.iter().map(|tile| tile.len()).sum::<usize>(), m);
        let next = tiles.iter().skip(1).chain([&(m..m)]).map(|tile| tile.start).collect::<Vec<_>>();
        assert!(tiles.iter().zip(next).all(|(tile, next)| tile.end == next));
        let (min, max) = (tiles.iter().map(Range::len).min(), tiles.iter().map(Range::len).max());
        assert!(max.unwrap_or(0) <= MAX_TOKENS && max.unwrap_or(0) - min.unwrap_or(0) <= 1);
        assert!(m <= 12 || min.unwrap_or(0) >= 4, "panels have kernels for 4 to 6 tokens");
    }
}

/// Bit for bit, padding included.
#[test]
fn kernels_equal_the_reference() {
    let mut random = Random(1);
    for format in formats() {
        if format.scale_by().is_none() {
            continue;
        }
        for round in 0..30 {
            let (m, k) = (1 + random.below(20) as usize, 1 + random.below(700) as usize);
            let w = random_matrix(&mut random, format, 1, k);
            let mut made = Isa::available().into_iter().map(|isa| {
                let exec = Exec::new(isa, 1 + round % 2);
                let mut x = Activations::new();
                // Of another shape first, so that memory is dirty.
                x.set(3, k).fill(1.0);
                x.make_for(&exec, &w, Order::Quads).unwrap();
                let mut random = Random(round as u64 + 1);
                for x in x.set(m, k) {
                    *x = match random.below(50) {
                        0 => f32::NAN,
                        1 => 1e-33,
                        _ => random.float() * (1 << random.below(20)) as f32,
                    };
                }
                x.make_for(&exec, &w, Order::Quads).unwrap();
                x.quantized(&w, Order::Quads).clone()
            });
            let reference = made.next().unwrap();
            for form in made {
                assert_eq!(*form.quads, *reference.quads);
                assert_eq!(form.factors, reference.factors);
                assert_eq!(form.sums, reference.sums);
            }
        }
    }
}

/// Each token's columns where tiles look for them, zeros behind the last; what a form of other tokens left there is gone.
#[test]
#[cfg(target_arch = "x86_64")]
fn lines_hold_what_the_reference_says() {
    let Some(isa) = Isa::of(IsaKind::Amx) else {
        eprintln!("skipped: this machine has no AMX");
        return;
    };
    let mut random = Random(3);
    for format in formats().into_iter().filter(|format| format.scale_by().is_some()) {
        for (m, k) in [(1, 64), (16, 100), (17, 700), (50, 65), (33, 1)] {
            let (w, exec) = (random_matrix(&mut random, format, 1, k), Exec::new(isa, 1 + m % 2));
            let mut x = Activations::new();
            x.set(m + 20, k).fill(1.0);
            x.make_for(&exec, &w, Order::Lines).unwrap();
            x.set(m, k).copy_from_slice(&random.floats(m * k));
            x.make_for(&exec, &w, Order::Lines).unwrap();
            let form = x.quantized(&w, Order::Lines);
            let group = format.group().unwrap_or(k);
            for (token, row) in x.as_f32().chunks_exact(k).enumerate() {
                let (tile, t) = (form.lines(token / LINE_TOKENS), token % LINE_TOKENS);
                let found = tile.lines.token(t);
                let mut expected = vec![0; k.next_multiple_of(LINE)];
                for (segment, row) in row.chunks(group).enumerate() {
                    let q = &mut expected[segment * group..][..row.len()];
                    let (factor, sum) = reference::quantize_segment(format.group().is_none(), row, q);
                    let at = match m <= LINE_TOKENS {
                        true => t * k.div_ceil(group) + segment,
                        false => segment * LINE_TOKENS + t,
                    };
                    assert_eq!((tile.factors[at], tile.sums[at]), (factor, sum));
                }
                assert_eq!(found[..expected.len()], expected, "{format}, token {token} of {m}, {k} columns");
            }
        }
    }
}

#[test]
fn rounding_by_hand() {
    let mut q = [0; 6];
    // s = 1: halves go to even.
    let x = [127.0, 0.5, 1.5, -2.5, -126.5, f32::NAN];
    assert_eq!(reference::quantize_segment(true, &x, &mut q), (1.0, 127 + 2 - 2 - 126 - 128));
    assert_eq!(q, [127, 0, 2, -2, -126, -128]);
    // All but zero: the least maximum of a token, none of a group.
    assert_eq!(reference::quantize_segment(true, &[1e-6], &mut q[..1]), (1.0 / (127.0 / 1e-5), 13));
    assert_eq!(reference::quantize_segment(false, &[1e-6], &mut q[..1]), (1.0 / (127.0 / 1e-6), 127));
    assert_eq!(reference::quantize_segment(false, &[1e-31], &mut q[..1]), (0.0, 0));
    assert_eq!(reference::quantize_segment(false, &[0.0, -0.0], &mut q[..2]), (0.0, 0));
}

#[test]
fn one_form_serves_all_weights_by_token() {
    let exec = Exec::new(Isa::best(), 1);
    let mut random = Random(2);
    let mut x = Activations::new();
    x.set(2, 100).fill(0.5);
    for format in ["trit2/tensor", "trit5/row", "int8/row", "int8/32", "int4/32", "int4m/32", "trit2/64"] {
        let spec: MatrixSpec = format!("{format} 16x100").parse().unwrap();
        let w = random_matrix(&mut random, spec.format, 16, 100);
        x.make_for(&exec, &w, Order::Quads).unwrap();
    }
    assert_eq!(x.quantized.len(), 3); // by token, by 32, by 64
    x.set(1, 100).fill(0.25);
    for format in ["trit2/128", "int8/row"] {
        let w = random_matrix(&mut random, format.parse().unwrap(), 16, 100);
        x.make_for(&exec, &w, Order::Quads).unwrap();
    }
    assert_eq!(x.quantized.len(), 3); // memory is reused
}

/// Weights of one form leave no floats, and products with others are refused; weights of several forms, or of floats, have them all.
#[test]
fn what_was_filled_for_some_weights_is_for_these() {
    let mut random = Random(4);
    let [trit2, trit5, int8, groups, float] = ["trit2/tensor", "trit5/row", "int8/row", "int4/32", "f16"]
        .map(|format| random_matrix(&mut random, format.parse().unwrap(), 40, 100));
    for exec in Isa::available().into_iter().map(|isa| Exec::new(isa, 2)) {
        for m in [1, 5, 40] {
            let rows = random.floats(m * 100);
            let mut plain = Activations::new();
            plain.set(m, 100).copy_from_slice(&rows);
            let product = |x: &mut Activations, w: &Matrix| {
                let mut y = vec![f32::NAN; m * 40];
                matmul(&exec, w, x, &mut y).map(|()| y)
            };
            for (weights, keeps) in [
                (&[&trit2][..], false),
                (&[&trit2, &trit2, &trit2], false),
                (&[&groups, &groups], false),
                (&[&trit2, &groups], true),
                (&[&float, &float], true),
                (&[&int8, &float], true),
                (&[], true),
            ] {
                let mut x = Activations::new();
                x.fill(&exec, (m, 100), weights, &|token, row| {
                    row.copy_from_slice(&rows[token * 100..][..100])
                });
                let keeps = keeps || exec.isa.kind() == IsaKind::Scalar;
                assert_eq!(x.as_f32(), if keeps { &rows[..] } else { &[] }, "{exec:?}");
                for &w in weights {
                    assert_eq!(product(&mut x, w).unwrap(), product(&mut plain, w).unwrap(), "{exec:?}");
                }
                for w in [&trit5, &groups, &float] {
                    let is_other = !weights.iter().any(|known| {
                        known.format().group() == w.format().group() && known.format().scale_by().is_some()
                    }) || w.format().scale_by().is_none();
                    match product(&mut x, w) {
                        Ok(y) => assert_eq!(y, product(&mut plain, w).unwrap()),
                        Err(error) => {
                            assert!(is_other && !keeps, "{exec:?}");
                            assert_eq!((error.expected, error.found), (m * 100, 0));
                        }
                    }
                }
            }
        }
    }
}
