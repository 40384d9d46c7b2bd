//! Huge pages, where the system gives them on request.

/// The size of a huge page, and the alignment that one needs: 2 MiB on x86-64 and on ARM with 4 KiB pages.
pub(crate) const PAGE: usize = 2 << 20;

/// Asks for huge pages under `memory`, which starts at a multiple of [`PAGE`] and has not been touched. A wish: if it is
/// not granted, nothing is lost but speed.
#[cfg(target_os = "linux")]
pub(crate) fn ask_for(memory: &mut [u8]) {
    debug_assert!(memory.as_ptr().addr().is_multiple_of(PAGE));
    // Whole huge pages only: what lies behind belongs to others.
    let len = memory.len() / PAGE * PAGE;
    // SAFETY: the range is inside `memory`; the advice changes how it is backed, never its content.
    let _ = unsafe { libc::madvise(memory.as_mut_ptr().cast(), len, libc::MADV_HUGEPAGE) };
}

/// Other systems decide by themselves.
#[cfg(not(target_os = "linux"))]
pub(crate) fn ask_for(_: &mut [u8]) {}
