//! AVX2: two registers of 32 bytes.

use std::arch::x86_64::*;

use super::{ByteKernel, ByteLanes, Classes, WIDTH};
use crate::{Isa, IsaKind};

/// Proves AVX2, BMI1, BMI2, LZCNT and POPCNT: only [`new`](Avx2::new) makes one.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn new(isa: Isa) -> Option<Avx2> {
        let wide = isa.kind().includes(IsaKind::Avx2);
        let bits = is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        (wide && bits).then_some(Avx2(()))
    }

    pub(super) fn call<K: ByteKernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` proves the features.
        unsafe { enter(self, kernel) }
    }
}

#[inline(never)]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn enter<K: ByteKernel>(lanes: Avx2, kernel: K) -> K::Output {
    kernel.run(lanes)
}

impl ByteLanes for Avx2 {
    #[inline(always)]
    fn classify(self, bytes: &[u8; WIDTH], table: &[u8; 128]) -> Classes {
        // SAFETY: `self` proves the features.
        unsafe { classify(bytes, table) }
    }

    #[inline(always)]
    fn bits(self, bytes: &[u8; WIDTH]) -> [u64; 8] {
        // SAFETY: `self` proves the features.
        unsafe { bits(halves(bytes)) }
    }

    #[inline(always)]
    fn equal(self, bytes: &[u8; WIDTH], byte: u8) -> u64 {
        // SAFETY: `self` proves the features.
        unsafe {
            let byte = _mm256_set1_epi8(byte as i8);
            highest(halves(bytes).map(|half| _mm256_cmpeq_epi8(half, byte)))
        }
    }

    #[inline(always)]
    fn call_apart<K: ByteKernel>(self, kernel: K) -> K::Output {
        self.call(kernel)
    }

    #[inline(always)]
    fn places(self, mask: u64, base: u32, out: &mut [u32; WIDTH]) {
        let mut rest = mask;
        // Eight at a time, whether there are so many or not: a branch for each would be mispredicted at the last.
        for eight in out.as_chunks_mut::<8>().0 {
            for place in eight {
                *place = base.wrapping_add(rest.trailing_zeros());
                rest &= rest.wrapping_sub(1);
            }
            if rest == 0 {
                return;
            }
        }
    }
}

/// Out of line: inlined, the compiler moves the caller's work on masks back into vectors, byte by byte.
#[inline(never)]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt")]
fn classify(bytes: &[u8; WIDTH], table: &[u8; 128]) -> Classes {
    let halves = halves(bytes);
    let mut found = [_mm256_setzero_si256(); 2];
    for (row, entries) in table.as_chunks::<16>().0.iter().enumerate() {
        // SAFETY: the load is of 16 bytes.
        let entries = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(entries.as_ptr().cast()) });
        for (found, half) in found.iter_mut().zip(halves) {
            // Bytes of this row of 16 become 0x70 + their low half; all others become 0x80 or more, which a shuffle
            // makes zero.
            let row = _mm256_xor_si256(half, _mm256_set1_epi8((row as i8) << 4));
            let index = _mm256_adds_epu8(row, _mm256_set1_epi8(0x70));
            *found = _mm256_or_si256(*found, _mm256_shuffle_epi8(entries, index));
        }
    }
    Classes { class: bits(found), high: highest(halves) }
}

#[target_feature(enable = "avx2")]
fn halves(bytes: &[u8; WIDTH]) -> [__m256i; 2] {
    // SAFETY: both loads lie in the 64 bytes.
    unsafe {
        let at = bytes.as_ptr();
        [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(32).cast())]
    }
}

/// The highest bit of each byte.
#[target_feature(enable = "avx2")]
fn highest(halves: [__m256i; 2]) -> u64 {
    let bits = halves.map(|half| u64::from(_mm256_movemask_epi8(half) as u32));
    bits[0] | bits[1] << 32
}

#[target_feature(enable = "avx2")]
fn bits(mut halves: [__m256i; 2]) -> [u64; 8] {
    let mut bits = [0; 8];
    for bit in (0..8).rev() {
        bits[bit] = highest(halves);
        halves = halves.map(|half| _mm256_add_epi8(half, half));
    }
    bits
}
