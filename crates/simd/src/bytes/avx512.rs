//! AVX-512 with VBMI and VBMI2: one register of 64 bytes.

use std::arch::x86_64::*;

use super::{ByteKernel, ByteLanes, Classes, WIDTH};
use crate::{Isa, IsaKind};

/// Proves [`IsaKind::Avx512Vbmi`], VBMI2, BMI1, BMI2, LZCNT and POPCNT: only [`new`](Avx512::new) makes one.
#[derive(Clone, Copy)]
pub(super) struct Avx512(());

impl Avx512 {
    /// `None` on a CPU that lacks one of the additional features; there is none known.
    pub(super) fn new(isa: Isa) -> Option<Avx512> {
        let more = is_x86_feature_detected!("avx512vbmi2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("bmi2")
            && is_x86_feature_detected!("lzcnt")
            && is_x86_feature_detected!("popcnt");
        (isa.kind().includes(IsaKind::Avx512Vbmi) && more).then_some(Avx512(()))
    }

    pub(super) fn call<K: ByteKernel>(self, kernel: K) -> K::Output {
        // SAFETY: `self` proves the features.
        unsafe { enter(self, kernel) }
    }
}

#[inline(never)]
#[target_feature(
    enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt"
)]
fn enter<K: ByteKernel>(lanes: Avx512, kernel: K) -> K::Output {
    kernel.run(lanes)
}

impl ByteLanes for Avx512 {
    #[inline(always)]
    fn classify(self, bytes: &[u8; WIDTH], table: &[u8; 128]) -> Classes {
        // SAFETY: `self` proves the features; each load is of 64 bytes that a reference names.
        unsafe {
            let bytes = _mm512_loadu_si512(bytes.as_ptr().cast());
            let low = _mm512_loadu_si512(table.as_ptr().cast());
            let high = _mm512_loadu_si512(table.as_ptr().add(64).cast());
            let non_ascii = _mm512_movepi8_mask(bytes);
            let found = _mm512_maskz_permutex2var_epi8(!non_ascii, low, bytes, high);
            Classes { class: bits(found), high: non_ascii }
        }
    }

    #[inline(always)]
    fn bits(self, bytes: &[u8; WIDTH]) -> [u64; 8] {
        // SAFETY: `self` proves the features; the load is of 64 bytes.
        unsafe { bits(_mm512_loadu_si512(bytes.as_ptr().cast())) }
    }

    #[inline(always)]
    fn equal(self, bytes: &[u8; WIDTH], byte: u8) -> u64 {
        // SAFETY: `self` proves the features; the load is of 64 bytes.
        unsafe {
            _mm512_cmpeq_epi8_mask(_mm512_loadu_si512(bytes.as_ptr().cast()), _mm512_set1_epi8(byte as i8))
        }
    }

    #[inline(always)]
    fn call_apart<K: ByteKernel>(self, kernel: K) -> K::Output {
        self.call(kernel)
    }

    #[inline(always)]
    fn places(self, mask: u64, base: u32, out: &mut [u32; WIDTH]) {
        // SAFETY: `self` proves the features; the stores fill 16 elements each of `out`, which has 64.
        unsafe {
            let order = _mm512_loadu_si512(ORDER.as_ptr().cast());
            let places = _mm512_maskz_compress_epi8(mask, order);
            let base = _mm512_set1_epi32(base as i32);
            let out = out.as_mut_ptr();
            let quarter = |places: __m128i| _mm512_add_epi32(_mm512_cvtepu8_epi32(places), base);
            _mm512_storeu_si512(out.cast(), quarter(_mm512_castsi512_si128(places)));
            _mm512_storeu_si512(out.add(16).cast(), quarter(_mm512_extracti32x4_epi32::<1>(places)));
            if mask.count_ones() > 32 {
                _mm512_storeu_si512(out.add(32).cast(), quarter(_mm512_extracti32x4_epi32::<2>(places)));
                _mm512_storeu_si512(out.add(48).cast(), quarter(_mm512_extracti32x4_epi32::<3>(places)));
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn bits(bytes: __m512i) -> [u64; 8] {
    let test = |bit: i8| _mm512_test_epi8_mask(bytes, _mm512_set1_epi8(bit));
    [test(1), test(2), test(4), test(8), test(16), test(32), test(64), test(-128)]
}

/// 0 to 63.
static ORDER: [u8; WIDTH] = {
    let mut order = [0; WIDTH];
    let mut at = 0;
    while at < WIDTH {
        order[at] = at as u8;
        at += 1;
    }
    order
};
