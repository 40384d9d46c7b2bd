//! The functions of `scalar.rs`, step by step, on sixteen lanes.
use super::{
    lanes::Lanes,
    scalar::{
        ERF, ERF_MAX, ERF_SMALL, ERFC_LN, EXP, EXP_MAX, EXP_MIN, GELU_CUBIC, GELU_LINEAR, LN_2_HIGH,
        LN_2_LOW, LOG2_E, TANH, TANH_SMALL,
    },
};

#[inline(always)]
fn polynomial<L: Lanes, const N: usize>(l: L, coefficients: &[f32; N], x: L::V) -> L::V {
    let mut p = l.splat(coefficients[N - 1]);
    for i in (0..N - 1).rev() {
        p = l.fma(p, x, l.splat(coefficients[i]));
    }
    p
}

/// e^x.
#[inline(always)]
pub fn exp<L: Lanes>(l: L, x: L::V) -> L::V {
    let one = l.splat(1.0);
    let x = l.min(l.splat(EXP_MAX), l.max(l.splat(EXP_MIN), x));
    let n = l.round(l.mul(x, l.splat(LOG2_E)));
    let r = l.fma(n, l.splat(-LN_2_HIGH), x);
    let r = l.fma(n, l.splat(-LN_2_LOW), r);
    let p = polynomial(l, &EXP, r);
    let p = l.fma(l.fma(p, r, one), r, one);
    l.scale_by_power_of_two(p, n)
}

/// x · sigmoid(x).
#[inline(always)]
pub fn silu<L: Lanes>(l: L, x: L::V) -> L::V {
    l.div(x, l.add(l.splat(1.0), exp(l, l.neg(x))))
}

/// Hyperbolic tangent.
#[inline(always)]
pub fn tanh<L: Lanes>(l: L, x: L::V) -> L::V {
    let one = l.splat(1.0);
    let a = l.abs(x);
    let z = l.mul(x, x);
    let small = l.fma(l.mul(polynomial(l, &TANH, z), z), a, a);
    let large = l.sub(one, l.div(l.splat(2.0), l.add(exp(l, l.add(a, a)), one)));
    l.copysign(l.select(l.lt(a, l.splat(TANH_SMALL)), small, large), x)
}

/// The error function.
#[inline(always)]
pub fn erf<L: Lanes>(l: L, x: L::V) -> L::V {
    let a = l.abs(x);
    let small = l.fma(polynomial(l, &ERF, l.mul(x, x)), a, a);
    let b = l.min(l.splat(ERF_MAX), a);
    let large = l.sub(l.splat(1.0), exp(l, l.neg(polynomial(l, &ERFC_LN, b))));
    l.copysign(l.select(l.lt(a, l.splat(ERF_SMALL)), small, large), x)
}

/// The tanh form of gelu.
#[inline(always)]
pub fn gelu_tanh<L: Lanes>(l: L, x: L::V) -> L::V {
    let u = l.mul(l.fma(l.mul(x, x), l.splat(GELU_CUBIC), l.splat(GELU_LINEAR)), x);
    l.div(x, l.add(l.splat(1.0), exp(l, l.neg(u))))
}

/// The exact form of gelu.
#[inline(always)]
pub fn gelu_erf<L: Lanes>(l: L, x: L::V) -> L::V {
    let h = l.mul(l.splat(0.5), x);
    l.fma(h, erf(l, l.mul(x, l.splat(std::f32::consts::FRAC_1_SQRT_2))), h)
}
