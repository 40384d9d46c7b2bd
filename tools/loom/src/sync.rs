//! Loom's versions of what `crates/tensor/src/sync.rs` takes from the standard library.
pub(crate) use loom::{
    hint, sync::Mutex, sync::atomic::AtomicBool, sync::atomic::AtomicU64, sync::atomic::AtomicUsize,
    sync::atomic::fence, thread,
};
pub use loom::cell::UnsafeCell;

/// Nothing to see for a model checker.
pub(crate) fn prefetch<T>(_: *const T) {}

/// As many as there are workers: they spin.
pub(crate) fn cores() -> usize {
    usize::MAX
}

/// One look, then the other way: loom tries both outcomes of every look.
pub(crate) const fn spins(_: u32) -> u32 {
    1
}
