use chalot_simd::Isa;
use half::f16;

use super::*;
use crate::testing::{Random, bits};

/// Every operation once.
struct Operations {
    a: [f32; LANES],
    b: [f32; LANES],
    c: [f32; LANES],
}

impl Kernel for Operations {
    type Output = Vec<f32>;
    #[inline(always)]
    fn run<L: Lanes>(self, l: L) -> Vec<f32> {
        let (a, b, c) = (l.load(&self.a), l.load(&self.b), l.load(&self.c));
        let n = l.round(l.mul(a, l.splat(200.0)));
        let power = l.max(l.splat(-252.0), l.min(n, l.splat(254.0)));
        let results = [
            l.splat(self.a[3]),
            l.add(a, b),
            l.sub(a, b),
            l.mul(a, b),
            l.div(a, b),
            l.fma(a, b, c),
            l.min(a, b),
            l.max(a, b),
            l.neg(a),
            l.abs(a),
            l.copysign(a, b),
            n,
            l.scale_by_power_of_two(l.splat(1.25), power),
            l.select(l.lt(a, b), a, c),
            l.load_or(&self.a[..5], 7.0),
        ];
        let mut all = vec![l.sum(a), l.maximum(a)];
        for v in results {
            let mut x = [0.0; LANES];
            l.store(v, &mut x);
            all.extend(x);
            let mut x = [9.0; 11];
            l.store_some(v, &mut x);
            all.extend(x);
            let mut x = [f16::ZERO; LANES];
            l.store_f16(v, &mut x);
            let mut wide = [0.0; LANES];
            l.store(l.load_f16(&x), &mut wide);
            all.extend(wide);
        }
        all
    }
}

#[test]
fn every_operation_is_the_same_on_every_isa() {
    let mut random = Random(5);
    let specials =
        [0.0, -0.0, f32::MAX, f32::MIN_POSITIVE / 8.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -1e-8];
    for round in 0..200 {
        let mut number = || match random.below(8) {
            0 if round > 50 => specials[random.below(8) as usize],
            1 => random.float() * 1e30,
            2 => (random.float() * 4.0).round() * 0.5,
            _ => random.float(),
        };
        let mut lanes = || std::array::from_fn(|_| number());
        let (a, b, c) = (lanes(), lanes(), lanes());
        let [expected, results @ ..] = &Isa::available()
            .into_iter()
            .map(|isa| {
                let mut results = dispatch(isa, Operations { a, b, c });
                results.iter_mut().filter(|x| x.is_nan()).for_each(|x| *x = f32::NAN);
                bits(&results)
            })
            .collect::<Vec<_>>()[..]
        else {
            panic!("there is always the scalar one")
        };
        for result in results {
            let differs = result.iter().zip(expected).position(|(x, y)| x != y);
            assert_eq!(differs, None);
        }
    }
}

/// Every half, widened, is what `half` says.
#[test]
fn every_half() {
    struct WidenAll([f16; LANES]);
    impl Kernel for WidenAll {
        type Output = [f32; LANES];
        #[inline(always)]
        fn run<L: Lanes>(self, l: L) -> [f32; LANES] {
            let mut x = [0.0; LANES];
            l.store(l.load_f16(&self.0), &mut x);
            x
        }
    }
    for first in (0..=u16::MAX).step_by(LANES) {
        let halves: [f16; LANES] = std::array::from_fn(|i| f16::from_bits(first + i as u16));
        for isa in Isa::available() {
            assert_eq!(
                bits(&dispatch(isa, WidenAll(halves))),
                bits(&halves.map(f16::to_f32)),
                "{}",
                isa.name()
            );
        }
    }
}

/// Products of pairs, with what they can overflow by, and the conversions around them.
#[test]
fn pairs_of_integers() {
    struct Pairs {
        a: [Pair; LANES],
        b: [Pair; LANES],
        bytes: [[i8; 2]; LANES],
        floats: [f32; LANES],
    }
    impl Kernel for Pairs {
        type Output = (Vec<Pair>, Vec<u32>, [i16; LANES], [Pair; LANES]);
        #[inline(always)]
        fn run<L: Lanes>(self, l: L) -> Self::Output {
            let (a, b, bytes) = (l.load_pairs(&self.a), l.load_pairs(&self.b), l.load_pairs_i8(&self.bytes));
            let sum = l.dot_pairs(a, b, l.zero_i32());
            let sums = [sum, l.dot_pairs(bytes, b, sum), l.dot_pairs(a, l.splat_pair(self.b[3]), sum)];
            let (mut pairs, mut floats) = (Vec::new(), Vec::new());
            for v in [a, b, bytes] {
                let mut x = [[0; 2]; LANES];
                l.store_pairs(v, &mut x);
                pairs.extend(x);
            }
            for sum in sums {
                let mut x = [0.0; LANES];
                l.store(l.to_f32(sum), &mut x);
                floats.extend(bits(&x));
            }
            let mut rounded = [0; LANES];
            l.store_i16(l.load(&self.floats), &mut rounded);
            let mut both = [[0; 2]; LANES];
            l.store_pairs(l.round_to_pairs(l.load(&self.floats), l.neg(l.load(&self.floats))), &mut both);
            (pairs, floats, rounded, both)
        }
    }
    let mut random = Random(11);
    for round in 0..100 {
        let mut number = || match random.below(6) {
            0 if round > 20 => i16::MIN,
            1 if round > 20 => i16::MAX,
            _ => random.next() as i16,
        };
        let mut pairs = || std::array::from_fn(|_| [number(), number()]);
        let (a, b) = (pairs(), pairs());
        let bytes = std::array::from_fn(|_| [random.next() as i8, random.next() as i8]);
        let floats = std::array::from_fn(|_| random.below(131_070) as f32 / 2.0 - 32_767.5);
        let dot = |a: Pair, b: Pair, c: i32| {
            let product = |i: usize| i32::from(a[i]) * i32::from(b[i]);
            c.wrapping_add(product(0)).wrapping_add(product(1))
        };
        let sums: [i32; LANES] = std::array::from_fn(|i| dot(a[i], b[i], 0));
        let wide = |i: usize| bytes[i].map(|x: i8| i16::from(x));
        let expected = (0..LANES)
            .map(|i| sums[i])
            .chain((0..LANES).map(|i| dot(wide(i), b[i], sums[i])))
            .chain((0..LANES).map(|i| dot(a[i], b[3], sums[i])))
            .map(|x| (x as f32).to_bits())
            .collect::<Vec<_>>();
        for isa in Isa::available() {
            let (pairs, found, rounded, both) = dispatch(isa, Pairs { a, b, bytes, floats });
            assert_eq!(pairs, [a, b, std::array::from_fn(wide)].concat(), "{isa}");
            assert_eq!(found, expected, "{isa}");
            let round = |x: f32| x.round_ties_even() as i16;
            assert_eq!(rounded, floats.map(round), "{isa}");
            assert_eq!(both, floats.map(|x| [round(x), round(-x)]), "{isa}");
        }
    }
}
