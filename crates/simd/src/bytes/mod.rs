//! Sixty-four bytes at a time: which of them are of which class, as bit masks.
//!
//! A kernel is a [`ByteKernel`]: an algorithm generic over [`ByteLanes`], written once. [`dispatch`] runs it with the
//! instructions that an [`Isa`] stands for; whatever is inlined into its `run` is compiled for them, the ordinary code
//! in it (counting trailing zeros, say) included. So `run` and what it calls with lanes must be `#[inline(always)]`;
//! a part that is better out of line is an ordinary function.
//!
//! An implementor of [`ByteLanes`] is a token: to hold one proves that the CPU has its instructions, which is what lets
//! the operations be safe functions.
//!
//! ```
//! use chalot_simd::{Isa, bytes::{self, ByteKernel, ByteLanes}};
//!
//! struct Digits<'a>(&'a [u8; 64]);
//! impl ByteKernel for Digits<'_> {
//!     type Output = u64;
//!     #[inline(always)]
//!     fn run<L: ByteLanes>(self, lanes: L) -> u64 {
//!         let mut table = [0; 128];
//!         table[b'0' as usize..=b'9' as usize].fill(1);
//!         lanes.classify(self.0, &table).class[0]
//!     }
//! }
//! let mut text = [b'x'; 64];
//! text[5] = b'7';
//! assert!(Isa::available().into_iter().all(|isa| bytes::dispatch(isa, Digits(&text)) == 1 << 5));
//! ```

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod scalar;
#[cfg(test)]
mod tests;

use crate::Isa;
#[cfg(target_arch = "x86_64")]
use crate::IsaKind;

/// Bytes that are looked at together.
pub const WIDTH: usize = 64;

/// What [`ByteLanes::classify`] finds; bit i is byte i.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classes {
    /// The bytes below 0x80 whose entry in the table has bit b, for each b.
    pub class: [u64; 8],
    /// The bytes from 0x80 on.
    pub high: u64,
}

/// An algorithm written in [`ByteLanes`], with its arguments as fields.
pub trait ByteKernel {
    /// What it returns.
    type Output;
    /// Runs it; implementations are `#[inline(always)]`.
    fn run<L: ByteLanes>(self, lanes: L) -> Self::Output;
}

/// Operations on 64 bytes. All implementors give the same results.
pub trait ByteLanes: Copy {
    /// Looks up every byte below 0x80 in `table`, whose eight bits are eight classes.
    fn classify(self, bytes: &[u8; WIDTH], table: &[u8; 128]) -> Classes;

    /// The bytes that have bit b, for each b.
    fn bits(self, bytes: &[u8; WIDTH]) -> [u64; 8];

    /// The bytes that are `byte`.
    fn equal(self, bytes: &[u8; WIDTH], byte: u8) -> u64;

    /// Runs `kernel` with the same instructions in a function of its own, so that what it needs does not take the registers of
    /// the caller.
    fn call_apart<K: ByteKernel>(self, kernel: K) -> K::Output;

    /// `base` + the places of the set bits, ascending, at the beginning of `out`; what is behind them is undefined.
    fn places(self, mask: u64, base: u32, out: &mut [u32; WIDTH]);
}

/// Runs `kernel` with the instructions of `isa`.
pub fn dispatch<K: ByteKernel>(isa: Isa, kernel: K) -> K::Output {
    match isa.kind() {
        #[cfg(target_arch = "x86_64")]
        IsaKind::Avx512Vbmi | IsaKind::Amx => match avx512::Avx512::new(isa) {
            Some(lanes) => lanes.call(kernel),
            None => scalar::Scalar.call(kernel),
        },
        #[cfg(target_arch = "x86_64")]
        IsaKind::Avx2 | IsaKind::AvxVnni | IsaKind::Avx512 => match avx2::Avx2::new(isa) {
            Some(lanes) => lanes.call(kernel),
            None => scalar::Scalar.call(kernel),
        },
        _ => scalar::Scalar.call(kernel),
    }
}

/// Asks for the cache line of `place`, which will soon be read. A hint, without effect on results.
#[inline(always)]
pub fn prefetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program can see, and never faults; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>((&raw const *place).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
