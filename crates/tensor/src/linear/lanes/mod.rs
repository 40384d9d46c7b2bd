//! What products need beyond the sixteen floats of [`Lanes`]: sixteen integer sums, and weights as bytes.
//!
//! One vector of weights is a *quad*: 16 rows x 4 columns of unsigned codes, 64 bytes. One multiply-add step takes
//! it against four activations of one token, the same four for all rows, and adds each row's four products to that
//! row's sum. That is one `vpdpbusd` on AVX-512, two on AVX-VNNI, four `sdot` on NEON where it has them, and a few
//! instructions elsewhere.
//!
//! As with [`Lanes`], an implementor is a token that proves its instructions exist, kernels are generic
//! ([`Kernel::run`], `#[inline(always)]`, no closures over vectors), and `call` compiles one for the instructions.
//!
//! Register tiles are arrays indexed in loops of constant length. They live in registers only if the compiler unrolls
//! every loop that touches them, so such loops stay short and simple; one with a branch or an unknown length moves the
//! whole tile to memory, at a third of the speed.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;

use chalot_simd::{Isa, IsaKind};
use half::bf16;

use crate::{
    math::lanes::Lanes,
    matrix::{BLOCK, TILE_ROWS},
};

/// Four activations of one token.
pub(crate) type Quad = [i8; 4];

/// Columns of a line: what a product of tiles takes of a token at a time.
pub(crate) const LINE: usize = 64;
/// Tokens of a tile of lines.
pub(crate) const LINE_TOKENS: usize = 16;

/// An algorithm written in [`ProductLanes`], with its arguments as fields.
pub(crate) trait Kernel {
    /// Runs it; implementations are `#[inline(always)]`.
    ///
    /// How many tiles of rows are taken at once, so that the register file is full: `R` where the only sums are those
    /// of six tokens (as many as there are at most, see [`crate::activations`]), `D` where each has a companion.
    fn run<P: ProductLanes, const R: usize, const D: usize>(self, lanes: P);
}

/// The range of unsigned codes: what tells how many products fit 16 bits where there is no 32-bit dot product.
pub(crate) trait Range {
    /// No code is greater.
    const MAX: u32;
}

/// Codes of ternary weights: 0, 1, 2; a damaged image may have 3.
pub(crate) struct Ternary;
/// Codes of four bits.
pub(crate) struct Nibble;
/// Codes of eight bits.
pub(crate) struct Byte;

impl Range for Ternary {
    const MAX: u32 = 3;
}
impl Range for Nibble {
    const MAX: u32 = 15;
}
impl Range for Byte {
    const MAX: u32 = 255;
}

/// A token for the instructions that products are made of.
pub(crate) trait ProductLanes: Copy + Send + Sync {
    /// The floats.
    type Floats: Lanes;
    /// One vector of weights: 64 bytes.
    type Codes: Copy;
    /// Sixteen i32, one a row. Additions wrap.
    type Sums: Copy;
    /// Sixteen sums on their way, as the multiply-add of these instructions makes them.
    type Dots: Copy;

    /// The floats' token.
    fn floats(self) -> Self::Floats;
    /// Runs `kernel` in a function compiled for these instructions.
    fn call<K: Kernel>(self, kernel: K);

    /// 64 bytes.
    fn load(self, bytes: &[u8; BLOCK]) -> Self::Codes;
    /// 64 bytes.
    fn store(self, codes: Self::Codes, bytes: &mut [u8; BLOCK]);
    /// The four quads of a block of `Trit2`.
    fn unpack_trit2(self, block: Self::Codes) -> [Self::Codes; 4];
    /// The five quads of a block of `Trit5`.
    fn unpack_trit5(self, block: Self::Codes) -> [Self::Codes; 5];
    /// Whether a step can take codes of `Trit2` where they lie in their bytes, multiplied by 1, 4, 16 or 64: that saves
    /// shifting every block, for one shift of the sum.
    const IN_PLACE: bool = false;
    /// With [`ProductLanes::IN_PLACE`]: the four quads of a block of `Trit2`, multiplied by 1, 4, 16 and 64.
    #[inline(always)]
    fn trit2_in_place(self, block: Self::Codes) -> [Self::Codes; 4] {
        self.unpack_trit2(block)
    }
    /// With [`ProductLanes::IN_PLACE`]: sums divided by 2^`BITS`, which divides them.
    #[inline(always)]
    fn shift_right<const BITS: u32>(self, sums: Self::Sums) -> Self::Sums {
        sums
    }
    /// The two quads of a block of `Int4`.
    fn unpack_int4(self, block: Self::Codes) -> [Self::Codes; 2];

    /// What a step takes from each code of range `R` before it multiplies: sums are of `(code - offset) * activation`.
    #[inline(always)]
    fn offset<R: Range>(self) -> i32 {
        0
    }
    /// How many steps on codes of range `R` may be added up before [`ProductLanes::finish`].
    fn steps<R: Range>(self) -> usize;
    /// Where steps begin that go on from `sums`.
    fn begin<R: Range>(self, sums: Self::Sums) -> Self::Dots;
    /// One step: to the sum of each row the products of its four codes (less the offset) with the four activations.
    fn dot<R: Range>(self, dots: Self::Dots, codes: Self::Codes, x: Quad) -> Self::Dots;
    /// What the steps made of `sums`, from which they began.
    fn finish<R: Range>(self, dots: Self::Dots, sums: Self::Sums) -> Self::Sums;

    /// All lanes `x`.
    fn splat(self, x: i32) -> Self::Sums;
    /// `a + b`
    fn add(self, a: Self::Sums, b: Self::Sums) -> Self::Sums;
    /// Sixteen i32.
    fn load_sums(self, x: &[i32; TILE_ROWS]) -> Self::Sums;
    /// Sixteen i32.
    fn store_sums(self, sums: Self::Sums, x: &mut [i32; TILE_ROWS]);
    /// The sum of the lanes.
    fn total(self, sums: Self::Sums) -> i32;
    /// To the nearest floats, halves to even.
    fn to_floats(self, sums: Self::Sums) -> <Self::Floats as Lanes>::V;
    /// To integers of -128..=127, from integral floats in that range.
    fn to_ints(self, x: <Self::Floats as Lanes>::V) -> Self::Sums;
    /// Lanes in -128..=127 as bytes.
    fn narrow(self, x: Self::Sums) -> [i8; TILE_ROWS];
    /// Sixteen bfloat16, widened (exact).
    fn load_bf16(self, x: &[bf16; TILE_ROWS]) -> <Self::Floats as Lanes>::V;
}

/// The first (0) or the second (1) digit of a number of two digits of base 3: a table for a shuffle of bytes.
#[cfg(target_arch = "x86_64")]
const fn digit_of_two(which: usize) -> [u8; 16] {
    let mut table = [0; 16];
    let mut number = 0;
    while number < 9 {
        table[number] = [number / 3, number % 3][which] as u8;
        number += 1;
    }
    table
}

/// The vector instructions of an [`Isa`].
#[derive(Copy, Clone)]
pub(crate) enum Vectors {
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2Products<false>),
    #[cfg(target_arch = "x86_64")]
    AvxVnni(avx2::Avx2Products<true>),
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512Products<false>),
    #[cfg(target_arch = "x86_64")]
    Avx512Vbmi(avx512::Avx512Products<true>),
    #[cfg(target_arch = "x86_64")]
    Amx(avx512::Avx512Products<true>, amx::Amx),
    #[cfg(target_arch = "aarch64")]
    Neon(neon::NeonProducts<false>),
    #[cfg(target_arch = "aarch64")]
    NeonDot(neon::NeonProducts<true>),
}

impl Vectors {
    /// `None` where products have no kernels but the reference.
    pub fn of(isa: Isa) -> Option<Vectors> {
        match isa.kind() {
            #[cfg(target_arch = "x86_64")]
            IsaKind::Avx2 => avx2::Avx2Products::new(isa).map(Vectors::Avx2),
            #[cfg(target_arch = "x86_64")]
            IsaKind::AvxVnni => avx2::Avx2Products::new(isa).map(Vectors::AvxVnni),
            #[cfg(target_arch = "x86_64")]
            IsaKind::Avx512 => avx512::Avx512Products::new(isa).map(Vectors::Avx512),
            #[cfg(target_arch = "x86_64")]
            IsaKind::Avx512Vbmi => avx512::Avx512Products::new(isa).map(Vectors::Avx512Vbmi),
            #[cfg(target_arch = "x86_64")]
            IsaKind::Amx => avx512::Avx512Products::new(isa)
                .zip(amx::Amx::new(isa))
                .map(|(lanes, amx)| Vectors::Amx(lanes, amx)),
            #[cfg(target_arch = "aarch64")]
            IsaKind::Neon => neon::NeonProducts::new(isa).map(Vectors::Neon),
            #[cfg(target_arch = "aarch64")]
            IsaKind::NeonDot => neon::NeonProducts::new(isa).map(Vectors::NeonDot),
            _ => None,
        }
    }

    /// Runs `kernel` with these instructions.
    pub fn run<K: Kernel>(self, kernel: K) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx2(lanes) => lanes.call(kernel),
            #[cfg(target_arch = "x86_64")]
            Vectors::AvxVnni(lanes) => lanes.call(kernel),
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx512(lanes) => lanes.call(kernel),
            #[cfg(target_arch = "x86_64")]
            Vectors::Avx512Vbmi(lanes) | Vectors::Amx(lanes, _) => lanes.call(kernel),
            #[cfg(target_arch = "aarch64")]
            Vectors::Neon(lanes) => lanes.call(kernel),
            #[cfg(target_arch = "aarch64")]
            Vectors::NeonDot(lanes) => lanes.call(kernel),
        }
    }
}
