//! Four 128-bit registers a vector: the Advanced SIMD of AArch64, with or without its dot product.
use std::arch::{aarch64::*, asm};

use chalot_simd::{Isa, IsaKind};
use half::bf16;

use super::{Kernel, ProductLanes, Quad, Range};
use crate::{
    math::lanes::{Lanes, neon::Neon},
    matrix::{BLOCK, TILE_ROWS},
};

/// Rows 0..4, 4..8, 8..12 and 12..16.
type Codes = [uint8x16_t; 4];
/// Rows as [`Codes`].
type Sums = [int32x4_t; 4];

/// Proof that this CPU has Advanced SIMD, and if `DOT`, also its dot product.
#[derive(Clone, Copy)]
pub(crate) struct NeonProducts<const DOT: bool>(Neon);

impl<const DOT: bool> NeonProducts<DOT> {
    /// `None` when `isa` does not promise it.
    pub(crate) fn new(isa: Isa) -> Option<Self> {
        let promised = !DOT || isa.kind() == IsaKind::NeonDot;
        Neon::new(isa).filter(|_| promised).map(Self)
    }
}

/// # Safety
/// The CPU has Advanced SIMD.
#[target_feature(enable = "neon")]
unsafe fn call_neon<K: Kernel, P: ProductLanes>(lanes: P, kernel: K) {
    // 4 x 6 sums, 4 weights, an activation and 2 products: 31 of 32 registers.
    kernel.run::<_, 1, 1>(lanes)
}

/// # Safety
/// The CPU has Advanced SIMD and its dot product.
#[target_feature(enable = "neon,dotprod")]
unsafe fn call_dot<K: Kernel, P: ProductLanes>(lanes: P, kernel: K) {
    // 4 x 6 sums, 4 weights and an activation: 29 of 32 registers.
    kernel.run::<_, 1, 1>(lanes)
}

/// Whether codes of range `R` are taken minus 128, because as signed bytes some of them would be negative: there is no
/// product of unsigned with signed bytes in either set.
const fn offset<R: Range>() -> bool {
    R::MAX > i8::MAX as u32
}

/// To each sum the products of its four signed bytes.
///
/// # Safety
/// The CPU has the dot product of Advanced SIMD.
#[inline(always)]
unsafe fn sdot(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // The intrinsic (`vdotq_s32`) is not in stable Rust.
    // SAFETY: the instruction exists, by the caller's promise; it touches registers only.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// The products of the upper eight signed bytes.
///
/// # Safety
/// The CPU has Advanced SIMD.
#[inline(always)]
unsafe fn smull2(a: int8x16_t, b: int8x16_t) -> int16x8_t {
    let products;
    // The compiler turns the intrinsic (`vmull_high_s8`) into a move of the upper half and `smull`, and keeps the halves of
    // all codes for the next token: eight registers more than there are.
    // SAFETY: the instruction exists, by the caller's promise; it touches registers only.
    unsafe {
        asm!(
            "smull2 {products:v}.8h, {a:v}.16b, {b:v}.16b",
            products = lateout(vreg) products,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    products
}

impl<const DOT: bool> ProductLanes for NeonProducts<DOT> {
    type Floats = Neon;
    type Codes = Codes;
    type Sums = Sums;
    type Dots = Sums;

    #[inline(always)]
    fn floats(self) -> Neon {
        self.0
    }
    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) {
        if DOT {
            // SAFETY: the instructions exist (`self`).
            unsafe { call_dot(self, kernel) }
        } else {
            // SAFETY: the instructions exist (`self`).
            unsafe { call_neon(self, kernel) }
        }
    }

    #[inline(always)]
    fn load(self, bytes: &[u8; BLOCK]) -> Codes {
        let p = bytes.as_ptr();
        // SAFETY: the instructions exist (`self`); the four loads are the 64 bytes.
        unsafe { [vld1q_u8(p), vld1q_u8(p.add(16)), vld1q_u8(p.add(32)), vld1q_u8(p.add(48))] }
    }
    #[inline(always)]
    fn store(self, codes: Codes, bytes: &mut [u8; BLOCK]) {
        for (bytes, codes) in bytes.as_chunks_mut::<16>().0.iter_mut().zip(codes) {
            // SAFETY: the instructions exist (`self`); the store is the 16 bytes of the chunk.
            unsafe { vst1q_u8(bytes.as_mut_ptr(), codes) }
        }
    }
    #[inline(always)]
    fn unpack_trit2(self, block: Codes) -> [Codes; 4] {
        let mut quads = [block; 4];
        for i in 0..4 {
            // SAFETY: the instructions exist (`self`).
            unsafe {
                let mask = vdupq_n_u8(3);
                quads[0][i] = vandq_u8(block[i], mask);
                quads[1][i] = vandq_u8(vshrq_n_u8::<2>(block[i]), mask);
                quads[2][i] = vandq_u8(vshrq_n_u8::<4>(block[i]), mask);
                quads[3][i] = vshrq_n_u8::<6>(block[i]);
            }
        }
        quads
    }
    #[inline(always)]
    fn unpack_trit5(self, block: Codes) -> [Codes; 5] {
        // Three times a byte has sixteen bits: the upper eight are the leading digit, the lower eight what follows it.
        let mut quads = [block; 5];
        for i in 0..4 {
            // SAFETY: the instructions exist (`self`).
            unsafe {
                let three = vdupq_n_u8(3);
                let mut bytes = block[i];
                for quad in &mut quads {
                    let low = vreinterpretq_u8_u16(vmull_u8(vget_low_u8(bytes), vget_low_u8(three)));
                    let high = vreinterpretq_u8_u16(vmull_high_u8(bytes, three));
                    quad[i] = vuzp2q_u8(low, high);
                    bytes = vuzp1q_u8(low, high);
                }
            }
        }
        quads
    }
    #[inline(always)]
    fn unpack_int4(self, block: Codes) -> [Codes; 2] {
        let mut quads = [block; 2];
        for i in 0..4 {
            // SAFETY: the instructions exist (`self`).
            unsafe {
                quads[0][i] = vandq_u8(block[i], vdupq_n_u8(15));
                quads[1][i] = vshrq_n_u8::<4>(block[i]);
            }
        }
        quads
    }

    #[inline(always)]
    fn offset<R: Range>(self) -> i32 {
        if offset::<R>() { 128 } else { 0 }
    }
    #[inline(always)]
    fn steps<R: Range>(self) -> usize {
        usize::MAX
    }
    #[inline(always)]
    fn begin<R: Range>(self, sums: Sums) -> Sums {
        sums
    }
    #[inline(always)]
    fn dot<R: Range>(self, dots: Sums, codes: Codes, x: Quad) -> Sums {
        let mut out = dots;
        for i in 0..4 {
            // SAFETY: the instructions exist (`self`).
            unsafe {
                let x = i32::from_le_bytes([x[0] as u8, x[1] as u8, x[2] as u8, x[3] as u8]);
                let x = vreinterpretq_s8_s32(vdupq_n_s32(x));
                let codes = if offset::<R>() { veorq_u8(codes[i], vdupq_n_u8(128)) } else { codes[i] };
                let codes = vreinterpretq_s8_u8(codes);
                out[i] = if DOT {
                    sdot(dots[i], codes, x)
                } else {
                    // Each row's products, four times sixteen bits: of the first two rows, of the other two.
                    let low = vmull_s8(vget_low_s8(codes), vget_low_s8(x));
                    let high = smull2(codes, x);
                    if offset::<R>() {
                        // Two of them may not fit sixteen bits.
                        vaddq_s32(dots[i], vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)))
                    } else {
                        vpadalq_s16(dots[i], vpaddq_s16(low, high))
                    }
                };
            }
        }
        out
    }
    #[inline(always)]
    fn finish<R: Range>(self, dots: Sums, _: Sums) -> Sums {
        dots
    }

    #[inline(always)]
    fn splat(self, x: i32) -> Sums {
        // SAFETY: the instructions exist (`self`).
        unsafe { [vdupq_n_s32(x); 4] }
    }
    #[inline(always)]
    fn add(self, a: Sums, b: Sums) -> Sums {
        let mut out = a;
        for i in 0..4 {
            // SAFETY: the instructions exist (`self`).
            out[i] = unsafe { vaddq_s32(a[i], b[i]) };
        }
        out
    }
    #[inline(always)]
    fn load_sums(self, x: &[i32; TILE_ROWS]) -> Sums {
        let p = x.as_ptr();
        // SAFETY: the instructions exist (`self`); the four loads are the sixteen elements.
        unsafe { [vld1q_s32(p), vld1q_s32(p.add(4)), vld1q_s32(p.add(8)), vld1q_s32(p.add(12))] }
    }
    #[inline(always)]
    fn store_sums(self, sums: Sums, x: &mut [i32; TILE_ROWS]) {
        for (x, sums) in x.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
            // SAFETY: the instructions exist (`self`); the store is the four elements of the chunk.
            unsafe { vst1q_s32(x.as_mut_ptr(), sums) }
        }
    }
    #[inline(always)]
    fn total(self, sums: Sums) -> i32 {
        // SAFETY: the instructions exist (`self`).
        unsafe { vaddvq_s32(vaddq_s32(vaddq_s32(sums[0], sums[1]), vaddq_s32(sums[2], sums[3]))) }
    }
    #[inline(always)]
    fn to_floats(self, sums: Sums) -> [float32x4_t; 4] {
        let mut out = self.0.splat(0.0);
        for i in 0..4 {
            // SAFETY: the instructions exist (`self`).
            out[i] = unsafe { vcvtq_f32_s32(sums[i]) };
        }
        out
    }
    #[inline(always)]
    fn to_ints(self, x: [float32x4_t; 4]) -> Sums {
        let mut out = self.splat(0);
        for i in 0..4 {
            // SAFETY: the instructions exist (`self`).
            out[i] = unsafe { vcvtq_s32_f32(x[i]) };
        }
        out
    }
    #[inline(always)]
    fn narrow(self, x: Sums) -> [i8; TILE_ROWS] {
        let mut bytes = [0; TILE_ROWS];
        // SAFETY: the instructions exist (`self`); the store is the sixteen bytes.
        unsafe {
            let low = vcombine_s16(vmovn_s32(x[0]), vmovn_s32(x[1]));
            let high = vcombine_s16(vmovn_s32(x[2]), vmovn_s32(x[3]));
            vst1q_s8(bytes.as_mut_ptr(), vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
        }
        bytes
    }
    #[inline(always)]
    fn load_bf16(self, x: &[bf16; TILE_ROWS]) -> [float32x4_t; 4] {
        let mut out = self.0.splat(0.0);
        for (out, x) in out.iter_mut().zip(x.as_chunks::<4>().0) {
            // SAFETY: the instructions exist (`self`); the load is the four elements of the chunk.
            unsafe {
                let bits = vshll_n_u16::<16>(vld1_u16(x.as_ptr().cast()));
                *out = vreinterpretq_f32_u32(bits);
            }
        }
        out
    }
}
