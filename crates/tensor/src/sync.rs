//! What the pool takes from the standard library, in one place: `tools/loom` compiles the same pool with a model checker's
//! versions in its stead.
pub(crate) use chalot_simd::prefetch;
pub(crate) use std::{
    hint, sync::Mutex, sync::atomic::AtomicBool, sync::atomic::AtomicU64, sync::atomic::AtomicUsize,
    sync::atomic::fence, thread,
};

/// Memory whose readers and writers agree among themselves.
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Calls `f` with a pointer to read by.
    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    /// Calls `f` with a pointer to write by.
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// How often to look before giving up; a model checker tries both outcomes of every look.
pub(crate) const fn spins(count: u32) -> u32 {
    count
}
