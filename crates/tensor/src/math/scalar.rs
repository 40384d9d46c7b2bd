//! One number at a time: the definition of every step. `vector.rs` repeats these steps on lanes.

/// log2(e), to find the power of two.
pub(super) const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts: the first has nine bits, so that n · `LN_2_HIGH` is exact.
pub(super) const LN_2_HIGH: f32 = 355.0 / 512.0;
pub(super) const LN_2_LOW: f32 = -2.121_944_4e-4;
/// Below, e^x rounds to 0; above, to infinity. Clamping keeps the power of two representable.
pub(super) const EXP_MIN: f32 = -105.0;
pub(super) const EXP_MAX: f32 = 89.0;
/// (e^r - 1 - r) / r² on |r| <= ln 2 / 2, powers ascending; relative error of e^r 2^-28.
pub(super) const EXP: [f32; 5] = [4.999_999_4e-1, 1.666_652e-1, 4.166_840_8e-2, 8.368_921e-3, 1.381_417_4e-3];

/// Below this, [`tanh`] is a polynomial; above, `e^2x` no longer cancels.
pub(super) const TANH_SMALL: f32 = 0.625;
/// (tanh(x)/x - 1)/x² in powers of x², on |x| <= 0.625; relative error 2^-28.
pub(super) const TANH: [f32; 5] =
    [-3.333_328_4e-1, 1.333_149_1e-1, -5.374_35e-2, 2.065_059_2e-2, -5.717_050_3e-3];

/// Below this, [`erf`] is a polynomial; above, one minus an exponential.
pub(super) const ERF_SMALL: f32 = 0.875;
/// erf(x)/x - 1 in powers of x², on |x| <= 0.875; relative error 2^-27.
pub(super) const ERF: [f32; 6] =
    [1.283_791_5e-1, -3.761_255e-1, 1.128_245_5e-1, -2.679_146_3e-2, 5.032_181_3e-3, -6.203_255_6e-4];
/// Beyond this, erf rounds to 1.
pub(super) const ERF_MAX: f32 = 4.0;
/// -ln(erfc(x)) in powers of x, on 0.875 <= x <= 4; relative error of erf 2^-29.
pub(super) const ERFC_LN: [f32; 7] = [
    1.335_876_4e-4,
    1.127_936_1,
    6.367_373_5e-1,
    1.043_274e-1,
    -2.242_015_9e-2,
    3.092_275_7e-3,
    -2.009_943_4e-4,
];

/// sqrt(2/pi) and the cubic's coefficient of the tanh form of gelu (Hendrycks and Gimpel 2016, section 2),
/// both times two, because 0.5·(1 + tanh(u)) = sigmoid(2u).
pub(super) const GELU_LINEAR: f32 = 1.595_769;
pub(super) const GELU_CUBIC: f32 = 0.071_354_814;

/// `2^n` for `n` in -126..=127.
fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) << 23) as u32)
}

/// `p · 2^n` with one rounding, for `p` in 0.5..2 and `n` in -252..=254: the first product is exact.
pub(super) fn scale_by_power_of_two(p: f32, n: f32) -> f32 {
    let n = n as i32;
    let half = n >> 1;
    p * power_of_two(half) * power_of_two(n - half)
}

/// The smaller of two, the second when either is not a number (as x86's `minps`).
pub(super) fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// The larger of two, the second when either is not a number (as x86's `maxps`).
pub(super) fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Horner's rule, the last coefficient first, each step fused.
fn polynomial(coefficients: &[f32], x: f32) -> f32 {
    let mut steps = coefficients.iter().rev();
    let highest = *steps.next().unwrap_or(&0.0);
    steps.fold(highest, |p, &c| p.mul_add(x, c))
}

/// e^x.
pub fn exp(x: f32) -> f32 {
    // The constants come first so that a NaN passes through.
    let x = min(EXP_MAX, max(EXP_MIN, x));
    let n = (x * LOG2_E).round_ties_even();
    let r = n.mul_add(-LN_2_HIGH, x);
    let r = n.mul_add(-LN_2_LOW, r);
    let p = polynomial(&EXP, r);
    let p = p.mul_add(r, 1.0).mul_add(r, 1.0);
    scale_by_power_of_two(p, n)
}

/// 1 / (1 + e^-x).
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// x · sigmoid(x), computed as x / (1 + e^-x).
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// Hyperbolic tangent.
pub fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let z = x * x;
    let small = (polynomial(&TANH, z) * z).mul_add(a, a);
    let large = 1.0 - 2.0 / (exp(a + a) + 1.0);
    (if a < TANH_SMALL { small } else { large }).copysign(x)
}

/// The error function.
pub fn erf(x: f32) -> f32 {
    let a = x.abs();
    let small = polynomial(&ERF, x * x).mul_add(a, a);
    let b = min(ERF_MAX, a);
    let large = 1.0 - exp(-polynomial(&ERFC_LN, b));
    (if a < ERF_SMALL { small } else { large }).copysign(x)
}

/// x · 0.5 · (1 + tanh(√(2/π)·(x + 0.044715·x³))), computed as x · sigmoid of twice the argument, which does
/// not cancel for negative x.
pub fn gelu_tanh(x: f32) -> f32 {
    let u = (x * x).mul_add(GELU_CUBIC, GELU_LINEAR) * x;
    x / (1.0 + exp(-u))
}

/// x · 0.5 · (1 + erf(x/√2)).
pub fn gelu_erf(x: f32) -> f32 {
    let h = 0.5 * x;
    h.mul_add(erf(x * std::f32::consts::FRAC_1_SQRT_2), h)
}
