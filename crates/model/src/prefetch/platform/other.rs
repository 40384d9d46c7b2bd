//! Systems without such advice: pages are read when they are touched, and leave when the system likes.
use std::fs::File;

pub(super) fn will_need(_: &[u8]) {}

pub(super) fn populate(_: &[u8]) -> bool {
    false
}

pub(crate) fn release(_: &[u8], _: &File, _: usize) {}

/// Bytes of this process in memory, where the system tells.
pub fn resident_bytes() -> Option<u64> {
    None
}

/// Page faults of this process so far that waited for a disk, where the system tells.
pub fn major_faults() -> Option<u64> {
    None
}

/// There is no word for it.
pub(crate) fn drop_from_cache(_: &File, _: usize, _: usize) {}
