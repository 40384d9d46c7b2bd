//! What happens when a mapped file is truncated: the system cannot read the page that is touched, and says so by a signal.
//!
//! [`explain_truncated_files`] makes of that signal a message and an exit with code 1, on Linux and macOS. It is for programs:
//! a library should not take a signal by itself. Elsewhere nothing is done; Windows does not let a mapped file be truncated.
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Files mapped at a time that are known by address; of more, the message is the system's own.
const FILES: usize = 64;

/// First and one past the last address of each mapped file, 0 where there is none. A signal handler may read atomics.
static MAPPED: [[AtomicUsize; 2]; FILES] = [const { [const { AtomicUsize::new(0) }; 2] }; FILES];

/// Notes a mapping.
pub(crate) fn remember(addresses: Range<*const u8>) {
    let (start, end) = (addresses.start.addr(), addresses.end.addr());
    for entry in &MAPPED {
        if entry[0].compare_exchange(0, start, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            return entry[1].store(end, Ordering::Release);
        }
    }
}

/// Forgets a mapping that is about to end.
pub(crate) fn forget(addresses: Range<*const u8>) {
    let start = addresses.start.addr();
    for entry in MAPPED.iter().filter(|entry| entry[0].load(Ordering::Acquire) == start) {
        entry[1].store(0, Ordering::Release);
        entry[0].store(0, Ordering::Release);
    }
}

#[cfg(any(target_os = "linux", target_os = "macos"))]
fn is_mapped(address: usize) -> bool {
    MAPPED.iter().any(|entry| {
        let [start, end] = entry.each_ref().map(|address| address.load(Ordering::Acquire));
        start != 0 && (start..end).contains(&address)
    })
}

/// Lets the process end with a message and exit code 1, instead of the signal SIGBUS, when a model file that is mapped was
/// truncated (or its disk fails). The first call counts. Other causes of the signal keep their effect.
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub fn explain_truncated_files() {
    // SAFETY: the action is filled in; the handler below does only what a handler may.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_bus_error as extern "C" fn(_, _, _) as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
    }
}

/// As on Linux, where there is such a signal.
#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub fn explain_truncated_files() {}

#[cfg(any(target_os = "linux", target_os = "macos"))]
extern "C" fn on_bus_error(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    const MESSAGE: &str = "\nerror: a page of the model file could not be read: the file was truncated while it was in \
                           use, or the disk failed; convert or download it again, or load it with --no-mmap\n";
    // SAFETY: the system hands over a valid `siginfo_t`; write and _exit may be called from a handler.
    unsafe {
        // Not ours: returning repeats the fault, and the default action (SA_RESETHAND) takes it.
        if is_mapped((*info).si_addr() as usize) {
            libc::write(libc::STDERR_FILENO, MESSAGE.as_ptr().cast(), MESSAGE.len());
            libc::_exit(1);
        }
    }
}
