//! Memory asked for before it is needed.

/// Asks for the cache line that holds `address` to come to the second-level cache: what is asked for may be as large as the first.
/// Advice: the address need not exist.
#[inline(always)]
pub fn prefetch<T>(address: *const T) {
    fetch::<false>(address.cast());
}

/// As [`prefetch`], to the first-level cache: for what is read in a moment.
#[inline(always)]
pub fn prefetch_near<T>(address: *const T) {
    fetch::<true>(address.cast());
}

#[inline(always)]
fn fetch<const NEAR: bool>(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 CPU has the instruction, and a prefetch never faults.
        unsafe {
            if NEAR {
                _mm_prefetch::<_MM_HINT_T0>(address.cast());
            } else {
                _mm_prefetch::<_MM_HINT_T1>(address.cast());
            }
        }
    }
    #[cfg(target_arch = "aarch64")]
    {
        use std::arch::asm;
        let address = address.addr();
        // SAFETY: every AArch64 CPU has the instruction, and a prefetch never faults.
        unsafe {
            if NEAR {
                asm!("prfm pldl1keep, [{}]", in(reg) address, options(nomem, nostack, preserves_flags));
            } else {
                asm!("prfm pldl2keep, [{}]", in(reg) address, options(nomem, nostack, preserves_flags));
            }
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}
