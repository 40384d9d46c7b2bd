//! Plain Rust: the definition.

use super::{ByteKernel, ByteLanes, Classes, WIDTH};

#[derive(Clone, Copy)]
pub(super) struct Scalar;

impl Scalar {
    #[inline(always)]
    pub(super) fn call<K: ByteKernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }
}

impl ByteLanes for Scalar {
    #[inline(always)]
    fn classify(self, bytes: &[u8; WIDTH], table: &[u8; 128]) -> Classes {
        let mut classes = Classes { class: [0; 8], high: 0 };
        for (group, eight) in bytes.as_chunks::<8>().0.iter().enumerate() {
            let found = eight.map(|byte| if byte < 0x80 { table[byte as usize & 127] } else { 0 });
            let found = u64::from_le_bytes(found);
            for (bit, class) in classes.class.iter_mut().enumerate() {
                *class |= gather(found >> bit) << (8 * group);
            }
            classes.high |= gather(u64::from_le_bytes(*eight) >> 7) << (8 * group);
        }
        classes
    }

    #[inline(always)]
    fn bits(self, bytes: &[u8; WIDTH]) -> [u64; 8] {
        let mut bits = [0; 8];
        for (group, eight) in bytes.as_chunks::<8>().0.iter().enumerate() {
            let eight = u64::from_le_bytes(*eight);
            for (bit, bits) in bits.iter_mut().enumerate() {
                *bits |= gather(eight >> bit) << (8 * group);
            }
        }
        bits
    }

    #[inline(always)]
    fn equal(self, bytes: &[u8; WIDTH], byte: u8) -> u64 {
        let groups = bytes.as_chunks::<8>().0.iter().enumerate();
        let equal = |eight: &[u8; 8]| gather(u64::from_le_bytes(eight.map(|other| u8::from(other == byte))));
        groups.fold(0, |bits, (group, eight)| bits | equal(eight) << (8 * group))
    }

    #[inline(never)]
    fn call_apart<K: ByteKernel>(self, kernel: K) -> K::Output {
        kernel.run(self)
    }

    #[inline(always)]
    fn places(self, mut mask: u64, base: u32, out: &mut [u32; WIDTH]) {
        for place in out {
            if mask == 0 {
                return;
            }
            *place = base + mask.trailing_zeros();
            mask &= mask - 1;
        }
    }
}

/// The lowest bit of each byte, together: the multiplication moves the bit of byte i to bit 56 + i.
#[inline(always)]
fn gather(bits: u64) -> u64 {
    (bits & 0x0101_0101_0101_0101).wrapping_mul(0x0102_0408_1020_4080) >> 56
}
