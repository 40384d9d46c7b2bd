use chalot_simd::Isa;

use super::{
    lanes::{Kernel, LANES, Lanes, dispatch},
    *,
};

#[derive(Clone, Copy, Debug)]
enum Function {
    Exp,
    Silu,
    Tanh,
    Erf,
    GeluTanh,
    GeluErf,
}

use Function::*;

const ALL: [Function; 6] = [Exp, Silu, Tanh, Erf, GeluTanh, GeluErf];

impl Function {
    fn one(self, x: f32) -> f32 {
        match self {
            Exp => exp(x),
            Silu => silu(x),
            Tanh => tanh(x),
            Erf => erf(x),
            GeluTanh => gelu_tanh(x),
            GeluErf => gelu_erf(x),
        }
    }

    fn exact(self, x: f64) -> f64 {
        match self {
            Exp => x.exp(),
            Silu => x / (1.0 + (-x).exp()),
            Tanh => x.tanh(),
            Erf => libm::erf(x),
            GeluTanh => {
                let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                x / (1.0 + (-2.0 * u).exp())
            }
            GeluErf => 0.5 * x * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2),
        }
    }
}

/// A function of every number, on lanes.
struct Apply<'a> {
    f: Function,
    x: &'a mut [[f32; LANES]],
}

impl Kernel for Apply<'_> {
    type Output = ();
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) {
        for x in self.x {
            let v = l.load(x);
            let y = match self.f {
                Exp => vector::exp(l, v),
                Silu => vector::silu(l, v),
                Tanh => vector::tanh(l, v),
                Erf => vector::erf(l, v),
                GeluTanh => vector::gelu_tanh(l, v),
                GeluErf => vector::gelu_erf(l, v),
            };
            l.store(y, x);
        }
    }
}

/// Bits, all NaN alike.
fn bits(x: f32) -> u32 {
    if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }
}

/// Every `stride`-th number there is, and the edges.
fn numbers(stride: usize) -> Vec<f32> {
    let mut x: Vec<f32> = (0..=u32::MAX).step_by(stride).map(f32::from_bits).collect();
    for edge in
        [0.0f32, 0.625, 0.875, 4.0, 88.722_83, 88.722_84, 88.722_85, 87.336_54, 103.97, 103.98, 104.5, 1e-40]
    {
        for edge in [edge, f32::from_bits(edge.to_bits() + 1), f32::from_bits(edge.to_bits().max(1) - 1)] {
            x.extend([edge, -edge]);
        }
    }
    x.extend([f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, f32::MIN_POSITIVE]);
    x.resize(x.len().next_multiple_of(LANES), 1.0);
    x
}

#[test]
fn lanes_have_the_bits_of_the_definition() {
    let x = numbers(30_011);
    for f in ALL {
        let expected: Vec<u32> = x.iter().map(|x| bits(f.one(*x))).collect();
        for isa in Isa::available() {
            let mut y = x.clone();
            dispatch(isa, Apply { f, x: y.as_chunks_mut().0 });
            for ((x, y), e) in x.iter().zip(&y).zip(&expected) {
                assert_eq!(bits(*y), *e, "{f:?}({x:e}) on {}", isa.name());
            }
        }
    }
}

/// The distance of `y` from `exact`, in units of the last place of `exact`.
fn ulps(y: f32, exact: f64) -> f64 {
    let near = (exact as f32).abs();
    if near > f32::MAX {
        return if y == exact as f32 { 0.0 } else { f64::INFINITY };
    }
    let ulp = f64::from(f32::from_bits(near.to_bits() + 1)) - f64::from(near);
    let ulp = if ulp.is_finite() { ulp } else { 2f64.powi(104) };
    (f64::from(y) - exact).abs() / ulp
}

/// The largest errors over every `stride`-th finite number: in ulps, and absolute relative to |x|.
fn errors(f: Function, stride: usize) -> (f64, f64) {
    let mut x = numbers(stride);
    x.retain(|x| x.is_finite());
    x.truncate(x.len() / LANES * LANES);
    let mut y = x.clone();
    dispatch(Isa::best(), Apply { f, x: y.as_chunks_mut().0 });
    x.iter().zip(&y).fold((0.0, 0.0), |(ulp, relative), (x, y)| {
        let exact = f.exact(f64::from(*x));
        let error = (f64::from(*y) - exact).abs() / f64::from(x.abs().max(f32::MIN_POSITIVE));
        let mut own = ulps(*y, exact);
        // Where the definition flushes to zero: no relative accuracy is promised.
        if *y == 0.0 && exact.abs() < 1.2e-36 && !matches!(f, Exp) {
            own = 0.0;
        }
        (f64::max(ulp, own), f64::max(relative, error))
    })
}

/// The table of the module's documentation: in ulps, or as a multiple of |x|.
fn check_errors(stride: usize) {
    for (f, bound) in [(Exp, 0.9), (Silu, 2.4), (Tanh, 1.4), (Erf, 1.3)] {
        let (ulp, _) = errors(f, stride);
        println!("{f:?}: {ulp:.3} ulp");
        assert!(ulp <= bound, "{f:?}: {ulp} ulp");
    }
    for (f, bound) in [(GeluTanh, 1.3e-7), (GeluErf, 9e-8)] {
        let (_, relative) = errors(f, stride);
        println!("{f:?}: {relative:.3e} |x|");
        assert!(relative <= bound, "{f:?}: {relative}");
    }
}

#[test]
fn errors_are_small() {
    check_errors(6007);
}

#[test]
#[ignore = "half a minute; run it after a change of a polynomial"]
fn errors_are_small_everywhere() {
    check_errors(61);
}

#[test]
fn sigmoid_is_near() {
    for x in numbers(50_021).into_iter().filter(|x| *x >= -88.0) {
        let exact = 1.0 / (1.0 + f64::from(-x).exp());
        assert!(ulps(sigmoid(x), exact) <= 2.4, "sigmoid({x})");
    }
    assert!(sigmoid(f32::NAN).is_nan());
}

#[test]
fn edges() {
    let inf = f32::INFINITY;
    for f in ALL {
        assert!(f.one(f32::NAN).is_nan(), "{f:?}");
        let expected = match f {
            Exp | Silu | GeluTanh | GeluErf => inf,
            Tanh | Erf => 1.0,
        };
        assert_eq!(f.one(inf), expected, "{f:?}");
    }
    assert_eq!([exp(-inf), exp(-104.0), exp(0.0), exp(-0.0), exp(88.8)], [0.0, 0.0, 1.0, 1.0, inf]);
    assert_eq!(exp(-103.0).to_bits(), 1, "underflow is gradual");
    assert_eq!([sigmoid(inf), sigmoid(-inf), tanh(-inf), erf(-inf)], [1.0, 0.0, -1.0, -1.0]);
    assert!(silu(-inf).is_nan() && gelu_tanh(-inf).is_nan() && gelu_erf(-inf).is_nan());
    assert_eq!(
        [silu(-1e30), gelu_tanh(-1e30), gelu_erf(-1e30)].map(bits),
        [bits(-0.0), bits(-0.0), bits(0.0)]
    );
    for f in [Tanh, Erf] {
        for x in numbers(50_021).into_iter().filter(|x| !x.is_nan()) {
            assert_eq!(bits(f.one(-x)), bits(-f.one(x)), "{f:?}({x})");
        }
    }
}
