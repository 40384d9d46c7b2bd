//! AMX: tiles of registers that a process has to ask its system for.
use std::sync::OnceLock;

/// Whether the CPU has tiles and their products of bytes, and the system lets this process use them.
pub(crate) fn granted() -> bool {
    static GRANTED: OnceLock<bool> = OnceLock::new();
    *GRANTED.get_or_init(|| cpu_has_it() && ask())
}

/// AMX-TILE and AMX-INT8, with tiles of 16 rows of 64 bytes (Intel SDM volume 2, CPUID, leaves 07h and 1Dh).
fn cpu_has_it() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};

    const BOTH: u32 = 1 << 24 | 1 << 25;
    if __cpuid(0).eax < 0x1d || __cpuid_count(7, 0).edx & BOTH != BOTH {
        return false;
    }
    let palette = __cpuid_count(0x1d, 1);
    let (tile_bytes, tiles) = (palette.eax >> 16, palette.ebx >> 16);
    let (row_bytes, rows) = (palette.ebx & 0xffff, palette.ecx & 0xffff);
    (tile_bytes, tiles, row_bytes, rows) == (1024, 8, 64, 16)
}

/// Linux keeps room for the tiles of a process only from the time when it asks (Documentation/arch/x86/xstate.rst).
#[cfg(target_os = "linux")]
fn ask() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: the call takes two numbers, and touches no memory of this process.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn ask() -> bool {
    false
}
