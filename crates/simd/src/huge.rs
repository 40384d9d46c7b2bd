//! Huge pages, where the system gives them on request.

/// The size of a huge page, and the alignment that one needs: 2 MiB on x86-64 and on ARM with 4 KiB pages.
pub(crate) const PAGE: usize = 2 << 20;

/// Asks for huge pages under the part of `memory` that whole ones fill; it should not have been touched. A wish: if it is not
/// granted, nothing is lost but speed.
pub fn ask_for_huge_pages<T>(memory: &mut [T]) {
    let before = memory.as_ptr().addr().wrapping_neg() % PAGE;
    let len = size_of_val(memory).saturating_sub(before) / PAGE * PAGE;
    if len > 0 {
        advise(memory, before, len);
    }
}

/// `len` bytes that begin `before` bytes behind the beginning of `memory`; both lie inside.
#[cfg(target_os = "linux")]
fn advise<T>(memory: &mut [T], before: usize, len: usize) {
    // SAFETY: the range is inside `memory`; the advice changes how it is backed, never its content.
    unsafe {
        let start = memory.as_mut_ptr().cast::<u8>().add(before);
        let _ = libc::madvise(start.cast(), len, libc::MADV_HUGEPAGE);
    }
}

/// Other systems decide by themselves.
#[cfg(not(target_os = "linux"))]
fn advise<T>(_: &mut [T], _: usize, _: usize) {}
