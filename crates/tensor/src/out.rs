//! One output slice, written by many tasks in disjoint parts.
use std::marker::PhantomData;

/// A `&mut [T]` that the tasks of one operation split among themselves.
///
/// Rows of a product are computed by different threads; their parts of the output are disjoint but
/// (for more than one token) interleaved, which `chunks_mut` cannot express.
#[derive(Clone, Copy)]
pub struct SharedOut<'a, T> {
    start: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: a SharedOut is a &mut [T] whose disjointness is promised by the callers of `part`.
unsafe impl<T: Send> Send for SharedOut<'_, T> {}
// SAFETY: as above; no method reads through a shared reference.
unsafe impl<T: Send> Sync for SharedOut<'_, T> {}

impl<'a, T> SharedOut<'a, T> {
    /// Takes the whole slice for the time of the operation.
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// Elements in the whole slice.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the slice is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the slice starts.
    pub(crate) fn pointer(&self) -> *mut T {
        self.start
    }

    /// The part `[start, start + len)`.
    ///
    /// # Panics
    /// If the part lies outside the slice.
    ///
    /// # Safety
    /// No two live parts may overlap: each task must ask only for elements that no other task asks for.
    #[allow(clippy::mut_from_ref)] // disjointness is the caller's promise
    pub unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "part {start}+{len} of {}", self.len);
        // SAFETY: inside the slice (checked above), disjoint from other parts (the caller's promise).
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}
