//! Every instruction set against the definition, byte by byte.

use super::*;

struct Classify<'a>(&'a [u8; WIDTH], &'a [u8; 128]);

impl ByteKernel for Classify<'_> {
    type Output = Classes;
    #[inline(always)]
    fn run<L: ByteLanes>(self, lanes: L) -> Classes {
        lanes.classify(self.0, self.1)
    }
}

struct Bits<'a>(&'a [u8; WIDTH]);

impl ByteKernel for Bits<'_> {
    type Output = [u64; 8];
    #[inline(always)]
    fn run<L: ByteLanes>(self, lanes: L) -> [u64; 8] {
        lanes.call_apart(BitsApart(self.0))
    }
}

struct BitsApart<'a>(&'a [u8; WIDTH]);

impl ByteKernel for BitsApart<'_> {
    type Output = [u64; 8];
    #[inline(always)]
    fn run<L: ByteLanes>(self, lanes: L) -> [u64; 8] {
        lanes.bits(self.0)
    }
}

struct Equal<'a>(&'a [u8; WIDTH], u8);

impl ByteKernel for Equal<'_> {
    type Output = u64;
    #[inline(always)]
    fn run<L: ByteLanes>(self, lanes: L) -> u64 {
        lanes.equal(self.0, self.1)
    }
}

struct Places(u64, u32);

impl ByteKernel for Places {
    type Output = Vec<u32>;
    #[inline(always)]
    fn run<L: ByteLanes>(self, lanes: L) -> Vec<u32> {
        let mut out = [0; WIDTH];
        lanes.places(self.0, self.1, &mut out);
        out[..self.0.count_ones() as usize].to_vec()
    }
}

/// Numbers without a pattern.
fn numbers(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state ^ (state >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

#[test]
fn classes_of_every_byte() {
    let mut next = numbers(1);
    let table: [u8; 128] = std::array::from_fn(|_| (next() >> 56) as u8);
    for round in 0..200u64 {
        let bytes: [u8; WIDTH] = match round {
            0..4 => std::array::from_fn(|at| (round * 64) as u8 + at as u8),
            _ => std::array::from_fn(|_| (next() >> 56) as u8),
        };
        let mut expected = Classes { class: [0; 8], high: 0 };
        for (at, &byte) in bytes.iter().enumerate() {
            match table.get(byte as usize) {
                Some(entry) => {
                    (0..8).for_each(|bit| expected.class[bit] |= u64::from(entry >> bit & 1) << at);
                }
                None => expected.high |= 1 << at,
            }
        }
        let bits = |bit: usize| (0..WIDTH).fold(0, |bits, at| bits | u64::from(bytes[at] >> bit & 1) << at);
        for isa in Isa::available() {
            assert_eq!(dispatch(isa, Bits(&bytes)), std::array::from_fn(bits), "{isa}");
            assert_eq!(dispatch(isa, Classify(&bytes, &table)), expected, "{isa}");
        }
    }
}

#[test]
fn equal_bytes() {
    let mut next = numbers(3);
    for round in 0..200 {
        // Of few kinds, so that some are equal.
        let bytes: [u8; WIDTH] = std::array::from_fn(|_| (next() >> 62) as u8 * 85);
        let byte = ((round % 4) as u8 * 85) ^ u8::from(round > 190);
        let expected = (0..WIDTH).fold(0, |bits, at| bits | u64::from(bytes[at] == byte) << at);
        for isa in Isa::available() {
            assert_eq!(dispatch(isa, Equal(&bytes, byte)), expected, "{isa}");
        }
    }
}

#[test]
fn places_of_bits() {
    let mut next = numbers(2);
    for round in 0..400 {
        let mask = match round {
            0 => 0,
            1 => u64::MAX,
            2..66 => 1 << (round - 2),
            66..200 => next() & next() & next(),
            _ => next() | next(),
        };
        let expected: Vec<u32> = (0..64).filter(|bit| mask >> bit & 1 == 1).map(|bit| 1000 + bit).collect();
        for isa in Isa::available() {
            assert_eq!(dispatch(isa, Places(mask, 1000)), expected, "{isa}");
        }
    }
}
