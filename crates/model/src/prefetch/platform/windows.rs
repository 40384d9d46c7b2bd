//! Windows.
use std::fs::File;

use windows_sys::Win32::System::{
    Memory::{PrefetchVirtualMemory, VirtualUnlock, WIN32_MEMORY_RANGE_ENTRY},
    ProcessStatus::{GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS},
    Threading::GetCurrentProcess,
};

pub(super) fn will_need(bytes: &[u8]) {
    let range = WIN32_MEMORY_RANGE_ENTRY {
        VirtualAddress: bytes.as_ptr().cast_mut().cast(),
        NumberOfBytes: bytes.len(),
    };
    // SAFETY: one entry, whose range is a live slice; the call changes no memory.
    unsafe { PrefetchVirtualMemory(GetCurrentProcess(), 1, &range, 0) };
}

/// There is no word for it: the caller touches the pages.
pub(super) fn populate(_: &[u8]) -> bool {
    false
}

/// Lets whole pages of a mapped file go: unlocking pages that are not locked takes them out of the working set (the call
/// says that they were not locked, which is no failure here). They stay in the system's cache as long as there is room.
pub(crate) fn release(bytes: &[u8], _: &File, _: usize) {
    // SAFETY: the range is a live slice of a file mapping; its contents come back from the file.
    unsafe { VirtualUnlock(bytes.as_ptr().cast_mut().cast(), bytes.len()) };
}

/// Bytes of this process in memory, where the system tells.
pub fn resident_bytes() -> Option<u64> {
    let size = size_of::<PROCESS_MEMORY_COUNTERS>() as u32;
    let mut counters = PROCESS_MEMORY_COUNTERS { cb: size, ..Default::default() };
    // SAFETY: the structure is as long as the call is told.
    let done = unsafe { GetProcessMemoryInfo(GetCurrentProcess(), &mut counters, size) };
    (done != 0).then_some(counters.WorkingSetSize as u64)
}

/// Page faults of this process that waited for a disk: Windows counts them together with all others.
pub fn major_faults() -> Option<u64> {
    None
}

/// There is no word for it.
pub(crate) fn drop_from_cache(_: &File, _: usize, _: usize) {}
