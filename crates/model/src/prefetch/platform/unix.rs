//! Linux and macOS.
use std::fs::File;

/// `madvise` on mapped bytes that begin on a page.
fn advise(bytes: &[u8], advice: libc::c_int) -> bool {
    // SAFETY: the range is that of a live slice of a read-only file mapping (see the callers), so pages that the advice
    // takes away come back from the file with the same contents.
    unsafe { libc::madvise(bytes.as_ptr().cast_mut().cast(), bytes.len(), advice) == 0 }
}

pub(super) fn will_need(bytes: &[u8]) {
    advise(bytes, libc::MADV_WILLNEED);
}

/// Whether it was done: kernels before 5.14 cannot.
#[cfg(target_os = "linux")]
pub(super) fn populate(bytes: &[u8]) -> bool {
    advise(bytes, libc::MADV_POPULATE_READ)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn populate(_: &[u8]) -> bool {
    false
}

/// Lets whole pages of a mapped file go, which are its bytes from `offset` on.
pub(crate) fn release(bytes: &[u8], file: &File, offset: usize) {
    advise(bytes, libc::MADV_DONTNEED);
    drop_from_cache(file, offset, bytes.len());
}

/// Drops `len` bytes of a file (0: to its end) that no process has mapped from the file cache.
#[cfg(target_os = "linux")]
pub(crate) fn drop_from_cache(file: &File, offset: usize, len: usize) {
    use std::os::fd::AsRawFd;
    let (Ok(offset), Ok(len)) = (libc::off_t::try_from(offset), libc::off_t::try_from(len)) else { return };
    // SAFETY: no memory is involved; the descriptor is open.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, len, libc::POSIX_FADV_DONTNEED) };
}

/// There is no word for it.
#[cfg(not(target_os = "linux"))]
pub(crate) fn drop_from_cache(_: &File, _: usize, _: usize) {}

/// Bytes of this process in memory, where the system tells.
#[cfg(target_os = "linux")]
pub fn resident_bytes() -> Option<u64> {
    use std::io::Read;
    let mut text = [0; 128];
    let len = File::open("/proc/self/statm").and_then(|mut file| file.read(&mut text)).ok()?;
    let pages: u64 = std::str::from_utf8(&text[..len]).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * super::page_size() as u64)
}

/// Bytes of this process in memory, where the system tells.
#[cfg(not(target_os = "linux"))]
pub fn resident_bytes() -> Option<u64> {
    None
}

/// Page faults of this process so far that waited for a disk, where the system tells.
pub fn major_faults() -> Option<u64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the call fills the structure, which any bytes are valid for.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    u64::try_from(usage.ru_majflt).ok()
}
