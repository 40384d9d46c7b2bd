//! Rules by which floats become codes and scales.
//!
//! Sources: ternary absmean, Ma et al. 2024, "The Era of 1-bit LLMs", section 2, eq. 1-3; 4 and 8 bits, the block
//! formats of ggml (Q8_0, Q4_0, Q4_1), here with the rounding of the f16 scale taken into account.
use half::f16;

/// The least scale of the absmean rule, so that a matrix of zeros has one.
const MIN_SCALE: f64 = 1e-5;

/// The scale of the absmean rule: the mean magnitude, at least 1e-5. Rows are summed in f64, then the rows' sums,
/// both in order.
pub(crate) fn absmean(row_sums: impl IntoIterator<Item = f64>, elements: usize) -> f32 {
    let sum: f64 = row_sums.into_iter().sum();
    (sum / elements as f64).max(MIN_SCALE) as f32
}

/// The sum of magnitudes, in f64 and in order.
pub(crate) fn sum_abs(x: &[f32]) -> f64 {
    x.iter().map(|x| f64::from(x.abs())).sum()
}

/// [`sum_abs`] of some rows of equal length, side by side: an addition waits for none but that of its own row.
pub(crate) fn sums_abs<const N: usize>(rows: [&[f32]; N]) -> [f64; N] {
    let mut sums = [0.0; N];
    for column in 0..rows.first().map_or(0, |row| row.len()) {
        for (sum, row) in sums.iter_mut().zip(&rows) {
            *sum += f64::from(row[column].abs());
        }
    }
    sums
}

/// The ternary code of `x`: `x / scale` rounded, halves to even, to -1, 0 or 1.
#[inline]
pub(crate) fn ternary_code(x: f32, scale: f32) -> i8 {
    // Halves round to even, which is 0; beyond them 1 is the nearest that there is. No call to round, and no branch.
    let quotient = x / scale;
    i8::from(quotient > 0.5) - i8::from(quotient < -0.5)
}

/// Codes -127..=127 and their f32 scale: the greatest magnitude becomes 127.
pub(crate) fn int8(x: &[f32], codes: &mut [i8]) -> f32 {
    let scale = max_abs(x) / 127.0;
    int8_codes(x, scale, codes);
    scale
}

/// As [`int8`] with an f16 scale.
pub(crate) fn int8_f16(x: &[f32], codes: &mut [i8]) -> f32 {
    let scale = to_f16(max_abs(x) / 127.0);
    int8_codes(x, scale, codes);
    scale
}

fn int8_codes(x: &[f32], scale: f32, codes: &mut [i8]) {
    for (code, &x) in codes.iter_mut().zip(x) {
        // Adding and taking 1.5 times 2^23 rounds to an integer, halves to even: no call to round.
        const INTEGERS: f32 = 12_582_912.0;
        let rounded = (x / scale + INTEGERS) - INTEGERS;
        *code = if scale == 0.0 { 0 } else { rounded.clamp(-127.0, 127.0) as i8 };
    }
}

/// Codes 0..=15 with `x = scale * (code - 8)`: the element of greatest magnitude becomes code 0.
pub(crate) fn int4(x: &[f32], codes: &mut [u8]) -> f32 {
    let extreme = x.iter().copied().fold(0.0_f32, |a, b| if b.abs() > a.abs() { b } else { a });
    let scale = to_f16(extreme / -8.0);
    for (code, &x) in codes.iter_mut().zip(x) {
        *code = if scale == 0.0 { 8 } else { ((x / scale).round_ties_even() + 8.0).clamp(0.0, 15.0) as u8 };
    }
    scale
}

/// Codes 0..=15 with `x = scale * code + min`; the scale and the minimum.
pub(crate) fn int4_min(x: &[f32], codes: &mut [u8]) -> (f32, f32) {
    let least = x.iter().copied().fold(f32::INFINITY, f32::min);
    let greatest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let min = to_f16(least);
    // Half of each, so that the range of two huge values of opposite signs stays finite.
    let scale = to_f16(2.0 * ((greatest / 2.0 - min / 2.0) / 15.0));
    for (code, &x) in codes.iter_mut().zip(x) {
        *code = if scale == 0.0 { 0 } else { ((x - min) / scale).round_ties_even().clamp(0.0, 15.0) as u8 };
    }
    (scale, min)
}

fn max_abs(x: &[f32]) -> f32 {
    x.iter().fold(0.0, |max, x| max.max(x.abs()))
}

/// The nearest f16; beyond its range the greatest one, not infinity.
fn to_f16(x: f32) -> f32 {
    f16::from_f32(x.clamp(-f16::MAX.to_f32(), f16::MAX.to_f32())).to_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ternary_halves_round_to_even() {
        let codes: Vec<i8> = [0.5, -0.5, 0.50001, -0.50001, 1.5, -1.5, 9.0, 0.0, -0.0]
            .iter()
            .map(|&x| ternary_code(x, 1.0))
            .collect();
        assert_eq!(codes, [0, 0, 1, -1, 1, -1, 1, 0, 0]);
        assert_eq!(ternary_code(0.25, 0.5), 0);
    }

    #[test]
    fn absmean_of_zeros_is_the_least_scale() {
        assert_eq!(absmean([0.0, 0.0], 10), 1e-5);
        assert_eq!(absmean([sum_abs(&[1.0, -2.0]), sum_abs(&[3.0])], 3), 2.0);
    }

    #[test]
    fn int4_keeps_the_extreme_exactly() {
        let mut codes = [0; 4];
        assert_eq!(int4(&[1.0, -8.0, 7.0, 0.4], &mut codes), 1.0);
        assert_eq!(codes, [9, 0, 15, 8]);
        assert_eq!(int4(&[8.0, -8.0, 0.0, -7.0], &mut codes), -1.0);
        assert_eq!(codes, [0, 15, 8, 15]);
        assert_eq!(int4(&[0.0; 4], &mut codes), -0.0);
        assert_eq!(codes, [8; 4]);
        assert_eq!(int4_min(&[1.0, 16.0, 2.0, 8.4], &mut codes), (1.0, 1.0));
        assert_eq!(codes, [0, 15, 1, 7]);
    }

    #[test]
    fn extremes_stay_finite() {
        let (mut codes, mut unsigned) = ([0; 2], [0; 2]);
        let x = [f32::MAX, f32::MIN];
        assert!(int8(&x, &mut codes).is_finite() && int8_f16(&x, &mut codes).is_finite());
        assert_eq!(codes, [127, -127]);
        assert!(int4(&x, &mut unsigned).is_finite());
        let (scale, min) = int4_min(&x, &mut unsigned);
        assert!(scale.is_finite() && min.is_finite());
        let tiny = [f32::MIN_POSITIVE, -1e-42];
        assert_eq!(int8_f16(&tiny, &mut codes), 0.0);
        assert_eq!(codes, [0, 0]);
    }
}
