//! What prefetching asks of the operating system. All of it is advice: where a system has no word for it, nothing is done, and
//! the result is the same but slower.
//!
//! | | Linux | macOS | Windows | elsewhere |
//! |---|---|---|---|---|
//! | [`will_need`] | `madvise(WILLNEED)` | the same | `PrefetchVirtualMemory` | nothing |
//! | [`populate`] | `madvise(POPULATE_READ)`, or touching | touching | touching | touching |
//! | [`release`] | `madvise(DONTNEED)`, `posix_fadvise(DONTNEED)` | `madvise(DONTNEED)` | `VirtualUnlock` | nothing |
//! | [`resident_bytes`] | `/proc/self/statm` | unknown | `GetProcessMemoryInfo` | unknown |
//! | [`major_faults`] | `getrusage` | the same | unknown | unknown |
#[cfg(any(target_os = "linux", target_os = "macos"))]
#[path = "unix.rs"]
mod system;
#[cfg(windows)]
#[path = "windows.rs"]
mod system;
#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
#[path = "other.rs"]
mod system;

pub(crate) use self::system::{drop_from_cache, release};
pub use self::system::{major_faults, resident_bytes};

/// Bytes of one request to read ahead. Linux reads no more for one than a device's read-ahead window, 128 KiB unless
/// somebody changed it, and silently leaves out the rest.
const REQUEST: usize = 128 * 1024;

/// Bytes of a page of memory.
pub(crate) fn page_size() -> usize {
    page_size::get()
}

/// Asks the system to read `bytes` of a mapped file, which begin on a page; does not wait.
pub(crate) fn will_need(bytes: &[u8]) {
    bytes.chunks(REQUEST).for_each(system::will_need);
}

/// Waits until `bytes` of a mapped file, which begin on a page, are in memory and mapped.
pub(crate) fn populate(bytes: &[u8]) {
    if !system::populate(bytes) {
        touch(bytes);
    }
}

/// Reads a byte of each page.
fn touch(bytes: &[u8]) {
    for byte in bytes.iter().step_by(page_size()) {
        std::hint::black_box(*byte);
    }
}
